//! [MS-WMHTTP], the Windows Media HTTP Push Distribution Protocol, as values.
//!
//! No I/O, no clock, no lock: heads, packets and two state machines that are told
//! what happened and answer what to do. [`client::Session`] is the pusher's end,
//! [`server::ServerSession`] the publishing point's; they are tested against each
//! other in virtual time. The rule ids (`C-9`, `S-11`, …) in comments and tests
//! number the statements of the document.

pub mod auth;
mod body_size;
pub mod client;
pub mod failure;
pub mod headers;
pub mod hresult;
pub mod packet;
pub mod proxy;
mod redirect;
pub mod server;
pub mod via;

pub use hresult::Hresult;
