//! The `stats` property, and the contents of `asfpushsink-stats` messages.

use std::time::{Duration, Instant, SystemTime};

use gst::prelude::*;

use asfpush_client::publish::stats::{Stats, Timestamp};
use asfpush_client::publish::status::State;

/// Totals of the element.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) packets_received: u64,
    pub(super) bytes_received: u64,
    pub(super) padding_bytes_saved: u64,
    pub(super) headers: u64,
}

/// Builds `application/x-asfpushsink-stats`: the base class's fields, the totals, and a structure for each destination.
pub(super) fn structure(base: &gst::StructureRef, totals: &Totals, destinations: &[Stats]) -> gst::Structure {
    let mut stats = gst::Structure::new_empty("application/x-asfpushsink-stats");
    for (name, value) in base.iter() {
        stats.set_value(name.as_str(), value.clone());
    }
    let connected = destinations.iter().filter(|stats| stats.state == State::Streaming).count();
    stats.set("packets-received", totals.packets_received);
    stats.set("bytes-received", totals.bytes_received);
    stats.set("padding-bytes-saved", totals.padding_bytes_saved);
    stats.set("header-changes", totals.headers.saturating_sub(1));
    stats.set("packets-dropped", destinations.iter().map(|stats| stats.packets_dropped).sum::<u64>());
    stats.set("num-destinations", saturating_u32(destinations.len()));
    stats.set("num-connected", saturating_u32(connected));
    stats.set("destinations", gst::Array::new(destinations.iter().map(|stats| destination(stats).to_send_value())));
    stats
}

/// Converts a count for a property of type `guint`.
pub(super) fn saturating_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Converts to nanoseconds, GStreamer's unit of time.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Converts to nanoseconds since 1970, like multihandlesink.
fn wall_time(at: SystemTime) -> u64 {
    nanoseconds(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

/// Builds `application/x-asfpushsink-destination-stats`.
pub(super) fn destination(stats: &Stats) -> gst::Structure {
    let now = Instant::now();
    let in_state = stats.state_since.map(|since| now.saturating_duration_since(since));
    let timestamp = |timestamp: Option<Timestamp>| timestamp.map(|timestamp| wall_time(timestamp.wall));
    gst::Structure::builder("application/x-asfpushsink-destination-stats")
        .field("name", &stats.name)
        .field("location", &stats.location)
        .field_if_some("effective-location", stats.effective_location.as_ref())
        .field("state", stats.state.name())
        .field_if_some("state-duration", in_state.map(nanoseconds))
        .field_if_some("connect-time", timestamp(stats.connected_at))
        .field_if_some("disconnect-time", timestamp(stats.disconnected_at))
        .field_if_some("connect-duration", stats.connect_duration().map(nanoseconds))
        .field_if_some("last-activity-time", stats.last_activity.map(wall_time))
        .field("packets-received", stats.packets_received)
        .field("packets-sent", stats.packets_sent)
        .field("packets-uncertain", stats.packets_uncertain)
        .field("bytes-sent", stats.bytes_sent)
        .field("packets-dropped", stats.packets_dropped)
        .field("bytes-dropped", stats.bytes_dropped)
        .field("padding-bytes-saved", stats.padding_bytes_saved)
        .field("filler-bytes-sent", stats.filler_bytes_sent)
        .field("requests-sent", stats.requests_sent)
        .field("rollovers", stats.rollovers)
        .field("header-changes", stats.header_changes)
        .field("reconnects", stats.reconnects)
        .field("retry-count", stats.retry_count)
        .field_if_some("last-error", stats.last_error.as_ref().map(ToString::to_string))
        .field_if_some("last-http-status", stats.last_http_status.map(u32::from))
        .field("packets-queued", stats.packets_queued)
        .field("bytes-queued", stats.bytes_queued)
        .field("time-queued", nanoseconds(stats.time_queued))
        .field("congestion", stats.congestion)
        .field("bitrate-current", stats.bitrate.current(now))
        .field("bitrate-average", stats.bitrate_average())
        .field("bitrate-expected", stats.bitrate_expected)
        .field_if_some("idle-timeout", stats.idle_timeout.map(nanoseconds))
        .field_if_some("rtt", stats.rtt.map(nanoseconds))
        .field_if_some("unsent-bytes", stats.unsent_bytes)
        .field_if_some("server", stats.server.as_ref())
        .field_if_some("auth-scheme", stats.auth_scheme)
        .build()
}
