//! What the tests of the element share.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests; each uses a part"
)]

pub mod cable;
pub mod faults;
pub mod malformed;
pub mod media;
pub mod peer;
pub mod pipeline;
pub mod server;
pub mod upstream;
pub mod witness;
