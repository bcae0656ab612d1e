//! The publishing point's end of the protocol as a state machine ([MS-WMHTTP] 3.2).
//!
//! A [`Reception`] is one push session, told what happened and asked by
//! [`Reception::poll`] what to do; like the client's `Session` it does no I/O and
//! has no clock.
