//! The publishing points: their table, their live streams, and what is recorded of their activity.

pub(crate) mod activity;
pub(crate) mod bitrate_history;
pub(crate) mod client;
pub(crate) mod health;
pub(crate) mod names;
pub(crate) mod publishing_point;
pub(crate) mod push_session;
pub(crate) mod recent_errors;
pub(crate) mod registry;
pub(crate) mod source_state;
pub(crate) mod timeline;
