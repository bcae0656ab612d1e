//! Whole pushes: what arrives, what is lost, and what servers in the field and faults do to it.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod fan_out;
// Its cables are laid by iproute2.
#[cfg(feature = "interop")]
mod faults;
mod packet_loss;
mod resume;
mod rollover;
mod server_compat;
