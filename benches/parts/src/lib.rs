//! The pure parts on the way of a packet, each as something that can be done to one stream over and over.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement that fails, fails"
)]

pub mod media;
pub mod parts;
