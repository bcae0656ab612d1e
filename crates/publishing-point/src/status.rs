//! The status for operators: the status page, the status API in JSON, and metrics for Prometheus.
//!
//! ```text
//!  session, player ──▶ point's activity ─────┐
//!  sampler ──────────▶ its history ──────────┴▶ snapshot ──▶ JSON ──▶ page
//!                                                   └──────▶ metrics
//! ```

pub(crate) mod access;
mod disk;
pub(crate) mod listener;
mod metrics;
mod page;
mod paths;
mod recordings;
mod response;
pub(crate) mod routes;
pub(crate) mod sampler;
mod snapshot;
