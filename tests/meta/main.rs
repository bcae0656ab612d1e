//! Compares the project's pages, tables and snapshots with its sources.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod docs;
mod min_gstreamer_symbols;
mod plain_words;
mod rules;
mod threats;
