//! Pushes one ASF stream to many publishing points, each over one HTTP connection at a time.
//!
//! ```text
//!  publish: a task for each destination ──▶ transport: reqwest ──▶ the server
//!     ▲ reads                 └ wmhttp::client::Session
//!  packet_buffer ◀── append ── the caller's thread
//! ```
//!
//! * [`packet_buffer`]: one bounded copy of the stream, framed once, with a reader for each destination.
//! * [`transport`]: the HTTP client, restricted to what the protocol needs; also for a stream that is fetched.
//! * [`publish`]: a task for each destination, back-off, statistics.
//!
//! This crate knows neither GStreamer nor the server. The protocol itself is in `wmhttp`, as values.

pub mod packet_buffer;
pub mod publish;
mod sync;
pub mod transport;
