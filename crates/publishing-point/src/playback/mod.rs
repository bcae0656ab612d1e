//! Playback: requests of players, their streams, framing and sessions ([MS-WMSP]).

pub(crate) mod asx;
pub(crate) mod framing;
pub(crate) mod groups;
pub(crate) mod handlers;
pub(crate) mod on_demand;
pub(crate) mod player_log;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod sessions;
pub(crate) mod stream;
pub(crate) mod stream_selection;
