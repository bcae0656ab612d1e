//! Points that pull their stream from another server, and servers behind a load balancer.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod bad_days;
mod draining;
mod on_demand;
mod origin;
mod pulls;
mod support;
