//! The output of the server: players, recordings, relays.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod key_frames;
mod players;
mod players_log;
mod players_many;
mod players_sessions;
mod players_web;
mod recordings;
mod relay;
