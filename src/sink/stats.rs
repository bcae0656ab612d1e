//! The `stats` property.

use gst::prelude::*;

use crate::publish::stats::Stats;
use crate::publish::status::State;

/// Counters of the element's own.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) packets_received: u64,
    pub(super) bytes_received: u64,
    pub(super) padding_bytes_saved: u64,
    pub(super) headers: u64,
}

/// `application/x-asfpushsink-stats`: the base class's fields, the totals, and a structure for each destination.
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
    stats.set("num-destinations", count(destinations.len()));
    stats.set("num-connected", count(connected));
    stats.set("destinations", gst::Array::new(destinations.iter().map(|stats| destination(stats).to_send_value())));
    stats
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

pub(super) fn destination(stats: &Stats) -> gst::Structure {
    let nanoseconds = |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let mut structure = gst::Structure::builder("application/x-asfpushsink-destination-stats")
        .field("name", &stats.name)
        .field("location", &stats.location)
        .field("state", stats.state.name())
        .field("packets-sent", stats.packets_sent)
        .field("bytes-sent", stats.bytes_sent)
        .field("packets-dropped", stats.packets_dropped)
        .field("bytes-dropped", stats.bytes_dropped)
        .field("filler-bytes-sent", stats.filler_bytes_sent)
        .field("requests-sent", stats.requests_sent)
        .field("rollovers", stats.rollovers)
        .field("header-changes", stats.header_changes)
        .field("reconnects", stats.reconnects)
        .field("retry-count", stats.retry_count)
        .field("packets-queued", stats.packets_queued)
        .field("bytes-queued", stats.bytes_queued)
        .field("time-queued", nanoseconds(stats.time_queued));
    if let Some(location) = &stats.effective_location {
        structure = structure.field("effective-location", location);
    }
    if let Some(at) = stats.connected_at {
        structure = structure.field("connect-duration", nanoseconds(at.elapsed()));
    }
    if let Some(error) = &stats.last_error {
        structure = structure.field("last-error", error.to_string());
    }
    if let Some(status) = stats.last_http_status {
        structure = structure.field("last-http-status", u32::from(status));
    }
    if let Some(server) = &stats.server {
        structure = structure.field("server", server);
    }
    if let Some(scheme) = stats.auth_scheme {
        structure = structure.field("auth-scheme", scheme);
    }
    if let Some(timeout) = stats.idle_timeout {
        structure = structure.field("idle-timeout", nanoseconds(timeout));
    }
    if let Some(rtt) = stats.rtt {
        structure = structure.field("rtt", nanoseconds(rtt));
    }
    if let Some(unsent) = stats.unsent_bytes {
        structure = structure.field("unsent-bytes", unsent);
    }
    structure.build()
}
