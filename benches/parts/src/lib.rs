//! The parts of a packet's path that do no I/O, each as an operation that can be repeated on one stream.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement that fails, fails"
)]

pub mod media;
pub mod parts;
