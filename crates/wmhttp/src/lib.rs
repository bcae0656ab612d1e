//! The Windows Media HTTP Push Distribution Protocol, [MS-WMHTTP], without I/O.
//!
//! The crate does no I/O, reads no clock and takes no lock. It contains the message headers, the packets and two state
//! machines: the caller reports events and carries out the actions that they return. [`client::Session`] implements the
//! encoder's side and [`server::ServerSession`] the publishing point's side; the tests run them against each other in
//! virtual time. The rule ids (`C-9`, `S-11`, …) in comments and tests number the statements of the document. [`pull`]
//! implements the player's side of the related protocol [MS-WMSP], which a publishing point uses to pull a stream from
//! another server.

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
