//! The element and the server with programs of other projects: `cargo test --features interop --test interop`.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod docs_commands;
mod edges_haproxy;
mod encoder_offset;
mod end_to_end;
mod examples;
mod header_changes;
mod live_sources;
mod players_programs;
mod proxies;
mod proxy_apache;
#[cfg(feature = "tls")]
mod proxy_nginx;
mod relay_programs;
mod snapshots;
mod source_vlc;
mod status_page;
