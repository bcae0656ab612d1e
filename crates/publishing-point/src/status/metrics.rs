//! The metrics: a snapshot in the text format of Prometheus.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::snapshot::{ForwardStatus, PointStatus, ServerStatus, SourceStatus, State};

pub(super) use prometheus_text::CONTENT_TYPE;

/// Formats the metrics of a server.
///
/// # Errors
/// Those of the encoder; writing to a `String` adds none.
pub(super) fn text(status: ServerStatus) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Metrics(status)));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

/// The snapshot that is encoded.
#[derive(Debug)]
struct Metrics(ServerStatus);

/// A metric of each point: name without `_total`, help, unit, value.
type Row = (&'static str, &'static str, Option<Unit>, fn(&PointStatus) -> u64);

/// Current values of each point.
const GAUGES: &[Row] = &[
    ("asf_point_pushed", "1 if an encoder is pushing, otherwise 0", None, |point| {
        u64::from(point.state == State::Pushed)
    }),
    (
        "asf_point_sessions_open",
        "Current push sessions, including one that waits for a disconnected encoder",
        None,
        |point| u64::from(point.state != State::Idle),
    ),
    ("asf_point_players_connected", "Players that are connected now", None, |point| point.players.count),
    ("asf_point_problems", "Number of current problems of the point", None, |point| point.problems.len() as u64),
];

/// The same, of the points that have it, and with a fraction.
type TimeRow = (&'static str, &'static str, Unit, fn(&ServerStatus, &PointStatus) -> Option<f64>);

/// Current values that not every point has.
const OPTIONAL_GAUGES: &[TimeRow] = &[
    (
        "asf_point_waiting",
        "Time for which the push session has been waiting for its encoder",
        Unit::Seconds,
        |status, point| {
            let since = point.pusher.as_ref()?.waiting_since_ms;
            Some(since.map_or(0.0, |since| status.now_ms.saturating_sub(since) as f64 / 1000.0))
        },
    ),
    ("asf_point_last_packet_timestamp", "Unix time of the latest data packet", Unit::Seconds, |_, point| {
        Some(point.last_packet_ms? as f64 / 1000.0)
    }),
    ("asf_point_recording_free", "Free disk space for the point's recordings", Unit::Bytes, |_, point| {
        Some(point.recordings.free_bytes? as f64)
    }),
];

/// Totals of each point since it was created.
const COUNTERS: &[Row] = &[
    ("asf_point_sessions", "Push sessions opened", None, |point| point.totals.sessions),
    ("asf_point_headers", "Stream headers received", None, |point| point.totals.headers),
    ("asf_point_packets_received", "Data packets received", None, |point| point.totals.packets),
    ("asf_point_received", "Bytes of the data packets received", Some(Unit::Bytes), |point| point.totals.bytes),
    ("asf_point_breaks", "Connections of encoders that were lost in mid-stream", None, |point| point.totals.breaks),
    ("asf_point_resumes", "Push sessions that an encoder continued after a lost connection", None, |point| {
        point.totals.resumes
    }),
    ("asf_point_players", "Players that have joined", None, |point| point.totals.players),
    ("asf_point_sent", "Bytes sent to players", Some(Unit::Bytes), |point| point.totals.bytes_sent),
    ("asf_point_packets_lost", "Data packets that were skipped for players that were too slow", None, |point| {
        point.totals.packets_lost
    }),
];

/// A metric of each relay of a point.
type ForwardRow = (&'static str, &'static str, Option<Unit>, fn(&ForwardStatus) -> u64);

/// Current values of each relay.
const FORWARD_GAUGES: &[ForwardRow] = &[
    (
        "asf_forward_streaming",
        "1 if data flows to the server that the point forwards to, otherwise 0",
        None,
        |forward| u64::from(forward.state == "streaming"),
    ),
    ("asf_forward_failures_in_a_row", "Consecutive failed attempts to forward", None, |forward| {
        u64::from(forward.failures)
    }),
];

/// Totals of each relay.
const FORWARD_COUNTERS: &[ForwardRow] = &[
    ("asf_forward_packets_sent", "Data packets forwarded", None, |forward| forward.packets),
    ("asf_forward_sent", "Bytes forwarded", Some(Unit::Bytes), |forward| forward.bytes),
    (
        "asf_forward_packets_lost",
        "Data packets that were not forwarded because the other server was too slow or disconnected",
        None,
        |forward| forward.packets_lost,
    ),
    (
        "asf_forward_packets_uncertain",
        "Data packets forwarded shortly before a connection was lost, which may not have arrived",
        None,
        |forward| forward.packets_uncertain,
    ),
    ("asf_forward_reconnects", "Reconnects to the other server", None, |forward| forward.reconnects),
];

/// A metric of each source of a point.
type SourceRow = (&'static str, &'static str, Option<Unit>, fn(&SourceStatus) -> u64);

/// Current values of each source.
const SOURCE_GAUGES: &[SourceRow] = &[
    ("asf_source_streaming", "1 if the stream arrives from the origin, otherwise 0", None, |source| {
        u64::from(source.state == "streaming")
    }),
    ("asf_source_failures_in_a_row", "Consecutive failed attempts to pull", None, |source| {
        u64::from(source.failures_in_a_row)
    }),
    ("asf_source_players_waiting", "Players that are waiting for the pulled stream to begin", None, |source| {
        source.players_waiting as u64
    }),
];

/// Totals of each source.
const SOURCE_COUNTERS: &[SourceRow] = &[
    ("asf_source_attempts", "Attempts to pull the stream", None, |source| source.attempts),
    ("asf_source_connects", "Number of times that the pulled stream began", None, |source| source.connects),
    ("asf_source_ends", "Number of times that the origin ended the pulled stream", None, |source| source.ends),
    ("asf_source_duplicates", "Data packets that the origin sent again after a lost connection", None, |source| {
        source.duplicates
    }),
];

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Self(status) = self;
        let version = [("version", status.version)];
        encoder
            .encode_descriptor("asf_server_build", "The server's version", None, MetricType::Info)?
            .encode_info(&version)?;
        let uptime = ConstGauge::new(status.uptime_ms as f64 / 1000.0);
        uptime.encode(encoder.encode_descriptor(
            "asf_server_uptime",
            "Time for which the server has been running",
            Some(&Unit::Seconds),
            uptime.metric_type(),
        )?)?;
        let failures = ConstCounter::new(status.accept_failures);
        failures.encode(encoder.encode_descriptor(
            "asf_server_accept_failures",
            "Failed attempts to accept a connection, for example because the process had no free file descriptor",
            None,
            failures.metric_type(),
        )?)?;
        let failed_logins = ConstCounter::new(status.failed_logins.count);
        let help = "Failed logins";
        failed_logins.encode(encoder.encode_descriptor(
            "asf_server_failed_logins",
            help,
            None,
            failed_logins.metric_type(),
        )?)?;
        for (name, help, unit, value) in OPTIONAL_GAUGES {
            let mut family = encoder.encode_descriptor(name, help, Some(unit), MetricType::Gauge)?;
            for point in &status.points {
                let label = [("point", point.name.as_str())];
                if let Some(value) = value(status, point) {
                    ConstGauge::new(value).encode(family.encode_family(&label)?)?;
                }
            }
        }
        for (name, help, unit, value) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            for point in &status.points {
                let label = [("point", point.name.as_str())];
                let value = i64::try_from(value(point)).unwrap_or(i64::MAX);
                ConstGauge::new(value).encode(family.encode_family(&label)?)?;
            }
        }
        for (name, help, unit, value) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
            for point in &status.points {
                let label = [("point", point.name.as_str())];
                ConstCounter::new(value(point)).encode(family.encode_family(&label)?)?;
            }
        }
        let sources = || {
            let all = status.points.iter();
            all.filter_map(|point| Some((point.name.as_str(), point.source.as_ref()?)))
        };
        for (name, help, unit, value) in SOURCE_GAUGES {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            for (point, source) in sources() {
                let labels = [("point", point), ("location", source.location.as_str())];
                let value = i64::try_from(value(source)).unwrap_or(i64::MAX);
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        for (name, help, unit, value) in SOURCE_COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
            for (point, source) in sources() {
                let labels = [("point", point), ("location", source.location.as_str())];
                ConstCounter::new(value(source)).encode(family.encode_family(&labels)?)?;
            }
        }
        let mut failures = encoder.encode_descriptor(
            "asf_source_failures",
            "Failed attempts to pull, by kind of failure",
            None,
            MetricType::Counter,
        )?;
        for (point, source) in sources() {
            for (kind, count) in &source.failures {
                let labels = [("point", point), ("location", source.location.as_str()), ("kind", kind)];
                ConstCounter::new(*count).encode(failures.encode_family(&labels)?)?;
            }
        }
        let relays = || {
            let all = status.points.iter();
            all.flat_map(|point| point.forwards.iter().map(move |forward| (point.name.as_str(), forward)))
        };
        for (name, help, unit, value) in FORWARD_GAUGES {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            for (point, forward) in relays() {
                let labels = [("point", point), ("location", forward.location.as_str())];
                let value = i64::try_from(value(forward)).unwrap_or(i64::MAX);
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        for (name, help, unit, value) in FORWARD_COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
            for (point, forward) in relays() {
                let labels = [("point", point), ("location", forward.location.as_str())];
                ConstCounter::new(value(forward)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
