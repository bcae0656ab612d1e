//! Pushes live Windows Media (ASF) from GStreamer to publishing points.
pub mod asf;
pub mod log;
pub mod transport;
pub mod wmhttp;
