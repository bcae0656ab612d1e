//! Authentication and TLS of the element.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod authentication;
#[cfg(feature = "tls")]
mod tls;
