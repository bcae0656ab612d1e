//! The publishing points: their registry, their live streams, and what is recorded of their activity.

pub(crate) mod activity;
pub(crate) mod bitrate_history;
pub(crate) mod publishing_point;
pub(crate) mod recent_errors;
pub(crate) mod registry;
