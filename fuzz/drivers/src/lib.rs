//! Fuzz drivers for each layer: they take arbitrary bytes and check invariants.
//!
//! Shared by the targets of `cargo fuzz` and by `tests/fuzz.rs`, which does not need a nightly compiler.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

pub mod asf;
pub mod heads;
pub mod http;
pub mod packets;
pub mod pull;
pub mod reception;
pub mod session;
pub mod source;

/// The driver of a layer, with some initial inputs.
pub struct Driver {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All drivers that do not need a socket.
pub const DRIVERS: &[Driver] = &[
    Driver { name: "asf", run: asf::run, seeds: asf::seeds },
    Driver { name: "packets", run: packets::run, seeds: packets::seeds },
    Driver { name: "heads", run: heads::run, seeds: heads::seeds },
    Driver { name: "reception", run: reception::run, seeds: reception::seeds },
    Driver { name: "session", run: session::run, seeds: session::seeds },
    Driver { name: "pull", run: pull::run, seeds: pull::seeds },
];
