//! Shared code of the tests of several crates. It is never published.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_errors_doc,
    clippy::new_without_default,
    reason = "tests"
)]

#[cfg(feature = "element")]
pub mod acceptor;
#[cfg(feature = "element")]
pub mod apache;
#[cfg(feature = "element")]
pub mod auth_server;
#[cfg(feature = "element")]
pub mod authority;
#[cfg(feature = "element")]
pub mod browser;
#[cfg(feature = "element")]
pub mod curl;
#[cfg(feature = "element")]
pub mod daemon;
#[cfg(feature = "element")]
pub mod decoded;
#[cfg(feature = "element")]
pub mod encoder;
#[cfg(feature = "element")]
pub mod faults;
#[cfg(feature = "element")]
pub mod faulty_server;
#[cfg(feature = "element")]
pub mod feed_source;
#[cfg(feature = "element")]
pub mod haproxy;
#[cfg(feature = "element")]
pub mod kerberos;
#[cfg(feature = "element")]
pub mod leaks;
#[cfg(feature = "element")]
pub mod live_media;
pub mod malformed_asf;
#[cfg(feature = "element")]
pub mod media;
#[cfg(feature = "element")]
pub mod netns_link;
#[cfg(feature = "element")]
pub mod nginx;
#[cfg(feature = "element")]
pub mod packet_counter;
pub mod pages;
#[cfg(feature = "element")]
pub mod peer;
#[cfg(feature = "element")]
pub mod pipeline;
#[cfg(feature = "element")]
pub mod player_load;
#[cfg(feature = "element")]
pub mod program;
#[cfg(feature = "element")]
pub mod proxy;
#[cfg(feature = "element")]
pub mod puller;
#[cfg(feature = "element")]
pub mod recording_server;
#[cfg(feature = "element")]
pub mod server;
#[cfg(feature = "element")]
pub mod server_fixture;
#[cfg(feature = "element")]
pub mod server_process;
pub mod sources;
#[cfg(feature = "element")]
pub mod terminal;
#[cfg(feature = "element")]
pub mod upstream;
#[cfg(feature = "element")]
pub mod usage;
#[cfg(feature = "element")]
pub mod vlc;
#[cfg(feature = "element")]
pub mod watched_push;
#[cfg(feature = "element")]
pub mod web;
#[cfg(feature = "element")]
pub mod wire;

use std::path::{Path, PathBuf};

/// Returns the project's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Returns the path of the server's program, which cargo has built into the folder above that of the running test.
pub fn server_program() -> PathBuf {
    let program = std::env::current_exe().unwrap().parent().unwrap().with_file_name("asf-publishing-point");
    assert!(
        program.exists(),
        "{} is missing: cargo build -p asf-publishing-point -F fault-injection",
        program.display()
    );
    program
}
