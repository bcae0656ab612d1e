//! What the tests of the element share.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests; each uses a part"
)]

pub mod acceptor;
pub mod apache;
pub mod audience;
pub mod authority;
pub mod cable;
pub mod census;
pub mod challenger;
pub mod concert;
pub mod curl;
pub mod daemon;
pub mod decoded;
pub mod encoder;
pub mod faults;
pub mod kerberos;
pub mod leaks;
pub mod live;
pub mod malformed;
pub mod media;
pub mod nginx;
pub mod peer;
pub mod pipeline;
pub mod point_program;
pub mod program;
pub mod proxy;
pub mod puller;
pub mod server;
pub mod show;
pub mod terminal;
pub mod troubled;
pub mod upstream;
pub mod usage;
pub mod vlc;
pub mod wire;
pub mod witness;
