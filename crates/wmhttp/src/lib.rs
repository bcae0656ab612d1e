//! [MS-WMHTTP], the Windows Media HTTP Push Distribution Protocol, as values.
//!
//! No I/O, no clock, no lock: heads, packets and two state machines that are told
//! what happened and answer what to do. [`client::Session`] is the pusher's end,
//! [`server::ServerSession`] the publishing point's; they are tested against each
//! other in virtual time. The rule ids (`C-9`, `S-11`, …) in comments and tests
//! number the statements of the document. [`pull`] is the player's end of the sister protocol [MS-WMSP], by which
//! a publishing point fetches a stream from another server.

pub mod auth;
mod body_size;
pub mod client;
pub mod failure;
mod frame_buffer;
pub mod headers;
pub mod hresult;
pub mod packet;
pub mod proxy;
pub mod pull;
mod redirect;
pub mod server;
pub mod via;

pub use hresult::Hresult;
