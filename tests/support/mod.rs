//! What the tests of the element share.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests; each uses a part"
)]

pub mod decoded;
pub mod malformed;
pub mod media;
pub mod peer;
pub mod pipeline;
pub mod program;
pub mod terminal;
