//! What an operator sees: the status page, the status API in JSON, metrics for Prometheus.
//!
//! ```text
//!  session, player ──▶ ledger of the point ──┐
//!  the clock ────────▶ its history ──────────┴▶ snapshot ──▶ JSON ──▶ page
//!                                                   └──────▶ metrics
//! ```

mod access;
mod answer;
mod board;
mod history;
mod ledger;
mod listener;
mod metrics;
mod page;
mod recordings;
mod snapshot;
mod troubles;

pub use access::StatusAccess;
pub(super) use answer::{answer, introduced, is_reserved};
pub(super) use board::{Board, sample};
pub(super) use ledger::{Client, Ledger, Player, Pusher};
pub(super) use listener::StatusListener;
