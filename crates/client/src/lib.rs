//! Pushes one ASF stream to many publishing points, over one HTTP connection per destination.
//!
//! ```text
//!  publish: a task for each destination ──▶ transport: reqwest ──▶ the server
//!     ▲ reads                 └ wmhttp::client::Session
//!  packet_buffer ◀── append ── the caller's thread
//! ```
//!
//! * [`packet_buffer`]: one bounded, framed copy of the stream, with a reader for each destination.
//! * [`transport`]: the HTTP client, restricted to what the protocol needs; also used to pull a stream.
//! * [`publish`]: a task for each destination, retry delays and statistics.
//!
//! This crate depends neither on GStreamer nor on the server. The protocol itself is in `wmhttp`, without I/O.

pub mod packet_buffer;
pub mod publish;
mod sync;
pub mod transport;
