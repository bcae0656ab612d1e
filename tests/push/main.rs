//! Whole pushes: what arrives and what is lost, with known behavior and faults of servers.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod fan_out;
// The test uses iproute2 to create network links.
#[cfg(feature = "interop")]
mod faults;
mod packet_loss;
mod resume;
mod rollover;
mod server_compat;
