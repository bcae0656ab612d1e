//! The pure layers, from the plugin's own sources.
#![allow(missing_docs, dead_code, unexpected_cfgs, reason = "the plugin's own build is where these are seen to")]

#[path = "../../src/asf/mod.rs"]
pub mod asf;
#[path = "../../src/log/mod.rs"]
pub mod log;
#[path = "../../src/wmhttp/mod.rs"]
pub mod wmhttp;

/// The log's locks.
mod sync {
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
}
