//! The element in pipelines, against scripted servers and the real publishing point.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod concurrent_elements;
mod live_control;
mod pipelines;
mod regressions;
mod sessions;
mod sockets;
mod states;
mod statistics;
mod upstream;
mod waits;
