//! The server over real sockets, and the server program.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod access;
mod addresses;
mod docs;
mod encoders;
mod fault_switches;
mod log;
mod operation;
mod pushes;
mod status;
