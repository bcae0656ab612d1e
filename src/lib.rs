//! Pushes live Windows Media (ASF) from GStreamer to publishing points.
pub mod asf;
pub mod wmhttp;
