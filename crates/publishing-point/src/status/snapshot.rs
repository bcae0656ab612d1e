//! A snapshot of the server, for the status API, the metrics and the page.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::disk::Disk;
use super::paths::{POINTS, RECORDINGS};
use crate::admission::client_limits::FailedLogins;
use crate::events::whole_seconds;
use crate::points::activity::PlayerInfo;
use crate::points::client::shortened;
use crate::points::publishing_point::PublishingPoint;
use crate::points::registry::Registry;
use crate::points::source_state::SourceStage;
use crate::relay::RelayStats;
use crate::urls::Urls;
use asf::{Header, StreamKind};
use asfpush_client::packet_buffer::Progress;
use asfpush_client::publish::status::State as Stage;

/// Maximum number of players of a point in the list.
const MAX_PLAYERS: usize = 100;
/// Maximum number of recordings of a point in the list, which has the latest ones.
const MAX_RECORDINGS: usize = 20;
/// Characters that are percent-encoded in the path of a point's URL.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Maximum time without a packet before it is a problem. The slowest streams have a packet every few seconds.
const NO_DATA_TIME: Duration = Duration::from_secs(10);
/// Free disk space for less recording time than this is a problem.
const MIN_RECORDING_TIME: Duration = Duration::from_secs(3600);

/// Information for a snapshot that does not come from the points.
pub(super) struct Surroundings<'a> {
    /// Sizes of recordings, and free disk space.
    pub(super) disk: &'a Disk,
    /// The addresses of the server.
    pub(super) urls: &'a Urls,
}

/// When the server started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Started {
    pub(super) at: Instant,
    pub(super) time: SystemTime,
}

/// The server. Times are Unix times in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct ServerStatus {
    pub(super) product: &'static str,
    pub(super) version: &'static str,
    pub(super) now_ms: u64,
    pub(super) started_ms: u64,
    pub(super) uptime_ms: u64,
    /// Current push sessions.
    pub(super) sessions: usize,
    /// Current players.
    pub(super) players: u64,
    /// Attempts to accept a connection that have failed, such as for want of file descriptors.
    pub(super) accept_failures: u64,
    pub(super) failed_logins: FailedLoginsStatus,
    /// By name.
    pub(super) points: Vec<PointStatus>,
}

/// The failed logins at all points.
#[derive(Debug, Serialize)]
pub(super) struct FailedLoginsStatus {
    pub(super) count: u64,
    last: Option<FailedLoginStatus>,
}

/// The latest failed login.
#[derive(Debug, Serialize)]
struct FailedLoginStatus {
    time_ms: u64,
    address: String,
    /// The user name that the client sent.
    user: Option<String>,
    path: String,
}

impl FailedLoginsStatus {
    /// Converts the failed logins.
    fn of(logins: FailedLogins) -> Self {
        let last = logins.last.map(|last| FailedLoginStatus {
            time_ms: unix_ms(last.time),
            address: last.address.to_string(),
            user: last.user,
            path: last.path,
        });
        Self { count: logins.count, last }
    }
}

/// A current problem of a point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    kind: ProblemKind,
    text: String,
}

/// The kind of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum ProblemKind {
    /// The encoder or the source sends no data.
    NoData,
    /// The source cannot be pulled.
    Source,
    /// A server that the stream is relayed to cannot be reached, or refuses the stream.
    Forward,
    /// Recordings will soon fill the disk.
    Disk,
}

/// The URLs of a point.
#[derive(Debug, Serialize)]
pub(super) struct PointUrls {
    /// URLs for encoders; empty if the point pulls its stream.
    push: Vec<String>,
    /// URLs for players.
    play: Vec<String>,
}

/// A publishing point.
#[derive(Debug, Serialize)]
pub(super) struct PointStatus {
    pub(super) name: String,
    /// The path of its URL, percent-encoded.
    pub(super) path: String,
    pub(super) urls: PointUrls,
    pub(super) state: State,
    /// The current problems.
    pub(super) problems: Vec<Problem>,
    /// When the latest data packets arrived.
    pub(super) last_packet_ms: Option<u64>,
    /// The current stream.
    pub(super) stream: Option<StreamStatus>,
    pub(super) pusher: Option<PusherStatus>,
    pub(super) players: Players,
    pub(super) totals: Totals,
    /// The current bit rate from the encoder in bit/s: the average of the last 5 s.
    pub(super) bit_rate_in: u64,
    /// The current bit rate to all players in bit/s.
    pub(super) bit_rate_out: u64,
    pub(super) recordings: Recordings,
    /// The server that the stream is pulled from, if any.
    pub(super) source: Option<SourceStatus>,
    /// The servers that the stream is relayed to.
    pub(super) forwards: Vec<ForwardStatus>,
    /// The recent errors, the latest first.
    pub(super) errors: Vec<ErrorStatus>,
    pub(super) history: HistoryStatus,
}

/// A server that the stream is relayed to; the counters cover all streams of the point.
#[derive(Debug, Serialize)]
pub(super) struct ForwardStatus {
    /// URL without credentials.
    pub(super) location: String,
    /// The state, with the names of the element's destination states.
    pub(super) state: &'static str,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    /// The current bit rate in bit/s.
    pub(super) bit_rate: u64,
    /// Packets dropped because the server was too slow or unavailable.
    pub(super) packets_lost: u64,
    /// Those of `packets` that may not have arrived.
    pub(super) packets_uncertain: u64,
    /// Stream time that waits to be sent, in milliseconds.
    pub(super) lag_ms: u64,
    pub(super) reconnects: u64,
    /// Consecutive failed attempts.
    pub(super) failures: u32,
    /// The last failure, with its remedy.
    pub(super) last_error: Option<String>,
}

impl ForwardStatus {
    /// Returns the problem of a relay that does not stream, if any.
    fn problem(&self) -> Option<Problem> {
        let fails = self.failures > 0 || self.state == Stage::Failed.name();
        let cause = self.last_error.as_deref().filter(|_| fails)?;
        Some(Problem { kind: ProblemKind::Forward, text: format!("relay to {} failed: {cause}", self.location) })
    }

    /// Converts the statistics of a relay.
    fn of(forward: RelayStats) -> Self {
        Self {
            location: forward.location,
            state: forward.state.name(),
            packets: forward.packets,
            bytes: forward.bytes,
            bit_rate: forward.bitrate,
            packets_lost: forward.dropped,
            packets_uncertain: forward.uncertain,
            lag_ms: milliseconds(forward.behind),
            reconnects: forward.reconnects,
            failures: forward.failures,
            last_error: forward.last_error,
        }
    }
}

/// The server that a point pulls its stream from; the counters cover all attempts.
#[derive(Debug, Serialize)]
pub(super) struct SourceStatus {
    /// URL without credentials.
    pub(super) location: String,
    /// `idle`, `connecting`, `streaming` or `waiting`.
    pub(super) state: &'static str,
    pub(super) since_ms: u64,
    pub(super) on_demand: bool,
    /// The current URL of the stream after redirects.
    pub(super) address: Option<String>,
    pub(super) attempts: u64,
    /// Number of times that the stream began.
    pub(super) connects: u64,
    /// Number of times that the origin ended it.
    pub(super) ends: u64,
    /// Total failures, by kind.
    pub(super) failures: BTreeMap<&'static str, u64>,
    /// Consecutive failed attempts.
    pub(super) failures_in_a_row: u32,
    /// Data packets that arrived twice, around a lost connection.
    pub(super) duplicates: u64,
    /// Players that wait for the stream.
    pub(super) players_waiting: usize,
    /// Time until the next attempt, if one is scheduled.
    pub(super) retry_in_ms: Option<u64>,
    /// The last failure, with its remedy.
    pub(super) last_error: Option<String>,
}

impl SourceStatus {
    /// Returns the problem of a source that does not stream, if any.
    fn problem(&self) -> Option<Problem> {
        let cause = self.last_error.as_deref().filter(|_| self.failures_in_a_row > 0)?;
        Some(Problem { kind: ProblemKind::Source, text: format!("source failed: {cause}") })
    }

    /// Returns the status of the point's source; `None` if it has none.
    fn of(point: &PublishingPoint) -> Option<Self> {
        let config = point.config().source.clone()?;
        let stats = point.source().stats();
        let retry_in = match stats.stage {
            SourceStage::Waiting { until } => Some(milliseconds(until.saturating_duration_since(Instant::now()))),
            SourceStage::Idle | SourceStage::Connecting | SourceStage::Streaming => None,
        };
        Some(Self {
            location: config.target(point.name()).into(),
            state: stats.stage.name(),
            since_ms: unix_ms(stats.since),
            on_demand: config.on_demand.is_some(),
            address: stats.address,
            attempts: stats.attempts,
            connects: stats.connects,
            ends: stats.ends,
            failures: stats.failures,
            failures_in_a_row: stats.failures_in_a_row,
            duplicates: stats.duplicates,
            players_waiting: stats.waiting,
            retry_in_ms: retry_in,
            last_error: stats.last_error,
        })
    }
}

/// The state of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// No push session.
    Idle,
    /// A PushStart is in progress.
    Pushed,
    /// The stream is pulled from another server, and data arrives.
    Pulled,
    /// There is a stream, but its encoder or origin is disconnected or has not sent its next request yet.
    Waiting,
}

/// The properties of the stream in its header.
#[derive(Debug, Serialize)]
pub(super) struct StreamStatus {
    title: Option<String>,
    author: Option<String>,
    /// Bytes of every data packet.
    packet_size: usize,
    /// Maximum bit rate of all streams in bit/s; `None` if the muxer did not set it.
    bit_rate: Option<u32>,
    /// How long a player buffers, in milliseconds.
    preroll_ms: u64,
    streams: Vec<StreamInfo>,
}

/// A stream of the header.
#[derive(Debug, Serialize)]
struct StreamInfo {
    number: u8,
    kind: &'static str,
    codec: Option<String>,
    bit_rate: Option<u32>,
    width: Option<u32>,
    height: Option<u32>,
    frame_rate: Option<f64>,
    sample_rate: Option<u32>,
    channels: Option<u16>,
}

/// The encoder; the counters are those of its session.
#[derive(Debug, Serialize)]
pub(super) struct PusherStatus {
    address: String,
    /// The authenticated user, if any.
    user: Option<String>,
    user_agent: Option<String>,
    since_ms: u64,
    /// Since when the session waits for its next request; `None` during a PushStart.
    pub(super) waiting_since_ms: Option<u64>,
    /// When the session ends if no request arrives.
    session_ends_ms: Option<u64>,
    packets: u64,
    bytes: u64,
    /// Connections lost during a PushStart.
    breaks: u64,
    /// PushStarts that continued after a lost connection.
    resumes: u64,
}

/// The players of a point.
#[derive(Debug, Serialize)]
pub(super) struct Players {
    pub(super) count: u64,
    /// In the order in which they joined. If there are too many, those with the most losses.
    listed: Vec<PlayerStatus>,
}

/// A player.
#[derive(Debug, Serialize)]
struct PlayerStatus {
    address: String,
    /// The authenticated user, if any.
    user: Option<String>,
    user_agent: Option<String>,
    since_ms: u64,
    /// Bytes handed to its connection.
    bytes: u64,
    /// Those of `bytes` that the player's kernel has acknowledged, if known.
    bytes_acknowledged: Option<u64>,
    packets_lost: u64,
    /// How far the player is behind the encoder, in milliseconds.
    lag_ms: u64,
}

/// The totals of the point since it was created.
#[derive(Debug, Serialize)]
pub(super) struct Totals {
    pub(super) sessions: u64,
    pub(super) headers: u64,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) breaks: u64,
    pub(super) resumes: u64,
    pub(super) players: u64,
    pub(super) bytes_sent: u64,
    /// Packets that players missed because they were too slow.
    pub(super) packets_lost: u64,
}

/// The recordings of a point.
#[derive(Debug, Serialize)]
pub(super) struct Recordings {
    /// Bytes that the server can still write to the directory of recordings; `None` if nothing is recorded, or it is
    /// not known.
    pub(super) free_bytes: Option<u64>,
    count: usize,
    /// The latest recordings, oldest first.
    listed: Vec<RecordingStatus>,
}

/// A recording.
#[derive(Debug, Serialize)]
struct RecordingStatus {
    /// The file name, without the folder.
    name: String,
    /// The path of its URL.
    path: String,
    /// The size; `None` while it is not known.
    bytes: Option<u64>,
}

/// A recent error of a point.
#[derive(Debug, Serialize)]
pub(super) struct ErrorStatus {
    text: String,
    count: u64,
    first_ms: u64,
    last_ms: u64,
}

/// Bit rates, one per second, the latest last.
#[derive(Debug, Serialize)]
pub(super) struct HistoryStatus {
    /// When the latest was measured.
    end_ms: Option<u64>,
    step_ms: u64,
    #[serde(rename = "in")]
    input: Vec<u64>,
    #[serde(rename = "out")]
    output: Vec<u64>,
}

impl ServerStatus {
    /// Returns the current state, with `seconds` of each point's history.
    pub(super) fn of(
        registry: &Registry,
        started: Started,
        logins: FailedLogins,
        surroundings: &Surroundings<'_>,
        seconds: usize,
    ) -> Self {
        let mut points: Vec<_> =
            registry.points().iter().map(|point| PointStatus::of(point, surroundings, seconds)).collect();
        points.sort_by(|one, other| one.name.cmp(&other.name));
        Self {
            product: "asf-publishing-point",
            version: env!("CARGO_PKG_VERSION"),
            now_ms: unix_ms(SystemTime::now()),
            started_ms: unix_ms(started.time),
            uptime_ms: milliseconds(started.at.elapsed()),
            sessions: registry.sessions(),
            players: points.iter().map(|point| point.players.count).sum(),
            accept_failures: registry.accept_failures(),
            failed_logins: FailedLoginsStatus::of(logins),
            points,
        }
    }
}

impl PointStatus {
    /// Returns the current state of the point, with `seconds` of its history.
    pub(super) fn of(point: &Arc<PublishingPoint>, surroundings: &Surroundings<'_>, seconds: usize) -> Self {
        let now = SystemTime::now();
        let stats = point.stats();
        let activity = point.activity();
        let pusher = activity.current_pusher();
        let source = SourceStatus::of(point);
        let state = match (&pusher, &source) {
            (Some(_), _) if stats.pushing => State::Pushed,
            (Some(_), _) => State::Waiting,
            (None, Some(source)) if source.state == SourceStage::Streaming.name() => State::Pulled,
            (None, Some(_)) if point.header().is_some() => State::Waiting,
            (None, _) => State::Idle,
        };
        let (current, delivered) = activity.players();
        let count = current.len() as u64;
        let rates = activity.history().now();
        let path = utf8_percent_encode(point.name().trim_start_matches('/'), PATH).to_string();
        let config = point.config();
        let free = config.record.as_ref().and_then(|directory| surroundings.disk.free.get(directory)).copied();
        let forwards: Vec<_> = stats.relays.iter().cloned().map(ForwardStatus::of).collect();
        let mut problems = Vec::new();
        problems.extend(no_data_problem(point, state));
        problems.extend(source.as_ref().and_then(SourceStatus::problem));
        // Without a stream there is nothing to forward.
        problems.extend(forwards.iter().filter(|_| state != State::Idle).filter_map(ForwardStatus::problem));
        problems.extend(free.and_then(|free| disk_problem(free, rates.input)));
        let wait = pusher.as_ref().and_then(|pusher| pusher.waiting());
        Self {
            urls: PointUrls {
                push: if source.is_some() { Vec::new() } else { surroundings.urls.push(point.name()) },
                play: surroundings.urls.play(point.name()),
            },
            problems,
            last_packet_ms: point.since_packet().map(|since| unix_ms(now.checked_sub(since).unwrap_or(UNIX_EPOCH))),
            name: point.name().to_owned(),
            state,
            stream: point.header().map(|header| StreamStatus::of(&header)),
            pusher: pusher.map(|pusher| PusherStatus {
                address: pusher.client.address.to_string(),
                user: pusher.client.user.clone(),
                user_agent: pusher.client.agent.clone(),
                since_ms: unix_ms(pusher.since),
                waiting_since_ms: wait.map(|wait| unix_ms(wait.since)),
                session_ends_ms: wait.map(|wait| unix_ms(wait.until)),
                packets: stats.packets.saturating_sub(pusher.before.0),
                bytes: stats.bytes.saturating_sub(pusher.before.1),
                breaks: pusher.breaks.load(Ordering::Relaxed),
                resumes: pusher.resumes.load(Ordering::Relaxed),
            }),
            players: Players { count, listed: listed(&current) },
            totals: Totals {
                sessions: stats.sessions,
                headers: stats.headers,
                packets: stats.packets,
                bytes: stats.bytes,
                breaks: activity.breaks(),
                resumes: activity.resumes(),
                players: stats.players,
                bytes_sent: delivered.bytes,
                packets_lost: delivered.lost,
            },
            bit_rate_in: rates.input,
            bit_rate_out: rates.output,
            recordings: Recordings::of(&stats.recordings, &path, surroundings.disk, free),
            path: format!("/{path}"),
            source,
            forwards,
            errors: activity
                .recent_errors()
                .latest()
                .map(|error| ErrorStatus {
                    text: error.text.clone(),
                    count: error.count,
                    first_ms: unix_ms(error.first),
                    last_ms: unix_ms(error.last),
                })
                .collect(),
            history: HistoryStatus::of(point, seconds),
        }
    }
}

/// Returns the players for the list. If there are too many, those with the most losses.
fn listed(current: &[(Arc<PlayerInfo>, Progress)]) -> Vec<PlayerStatus> {
    let mut players: Vec<_> = current
        .iter()
        .map(|(player, progress)| (player, player.lost.load(Ordering::Relaxed), milliseconds(progress.lag.time)))
        .enumerate()
        .collect();
    if players.len() > MAX_PLAYERS {
        players.sort_by_key(|(_, (_, lost, lag))| std::cmp::Reverse((*lost, *lag)));
        players.truncate(MAX_PLAYERS);
        // Back in the order in which they joined.
        players.sort_by_key(|(index, _)| *index);
    }
    players.into_iter().map(|(_, (player, lost, lag))| PlayerStatus::of(player, lost, lag)).collect()
}

/// Returns the problem of a stream without data, if any.
fn no_data_problem(point: &PublishingPoint, state: State) -> Option<Problem> {
    let sender = match state {
        State::Pushed => "encoder",
        State::Pulled => "origin",
        State::Idle | State::Waiting => return None,
    };
    // The time since the start of the push counts too, so that an encoder that has just started is not a problem.
    let quiet = point.since_packet().into_iter().chain(point.since_push_began()).min()?;
    let text = || format!("no data from the {sender} for {}. Check the {sender} and the network", whole_seconds(quiet));
    (quiet >= NO_DATA_TIME).then(|| Problem { kind: ProblemKind::NoData, text: text() })
}

/// Returns the problem of a disk with this many free bytes, for a stream of this bit rate.
fn disk_problem(free: u64, bit_rate: u64) -> Option<Problem> {
    let hour = u128::from(bit_rate) / 8 * u128::from(MIN_RECORDING_TIME.as_secs());
    let text = "the disk has space for less than an hour of recording. Free disk space, or set record-keep or record-max-total";
    // A stream without data has a rate of 0, but a full disk is a problem for the next stream too.
    (free == 0 || u128::from(free) < hour).then(|| Problem { kind: ProblemKind::Disk, text: text.to_owned() })
}

impl StreamStatus {
    /// Describes the stream with this header.
    fn of(header: &Header) -> Self {
        let described = header.describe();
        let text = |text: Option<String>| text.map(|text| shortened(&text));
        let streams = described.streams.into_iter().map(|stream| StreamInfo {
            number: stream.number,
            kind: match stream.kind {
                StreamKind::Audio => "audio",
                StreamKind::Video => "video",
                StreamKind::Command => "command",
                StreamKind::Other => "other",
            },
            codec: text(stream.codec),
            bit_rate: stream.bit_rate,
            width: stream.size.map(|(width, _)| width),
            height: stream.size.map(|(_, height)| height),
            frame_rate: stream.frame_rate,
            sample_rate: stream.sample_rate,
            channels: stream.channels,
        });
        Self {
            title: text(described.title),
            author: text(described.author),
            packet_size: header.packet_size(),
            bit_rate: Some(header.max_bitrate()).filter(|rate| *rate > 0),
            preroll_ms: header.preroll_ms(),
            streams: streams.collect(),
        }
    }
}

impl PlayerStatus {
    /// Returns the status of a player.
    fn of(player: &PlayerInfo, packets_lost: u64, lag_ms: u64) -> Self {
        Self {
            address: player.client.address.to_string(),
            user: player.client.user.clone(),
            user_agent: player.client.agent.clone(),
            since_ms: unix_ms(player.since),
            bytes_acknowledged: player.acknowledged(),
            bytes: player.sent.load(Ordering::Relaxed),
            packets_lost,
            lag_ms,
        }
    }
}

impl Recordings {
    /// Returns the recordings of the point whose URL has the path `point`.
    fn of(files: &[std::path::PathBuf], point: &str, disk: &Disk, free_bytes: Option<u64>) -> Self {
        let latest = files.get(files.len().saturating_sub(MAX_RECORDINGS)..).unwrap_or_default();
        let listed = latest.iter().filter_map(|file| {
            let name = file.file_name()?.to_string_lossy().into_owned();
            let path = format!("{POINTS}{point}{RECORDINGS}{name}");
            Some(RecordingStatus { name, path, bytes: disk.sizes.get(file).copied() })
        });
        Self { free_bytes, count: files.len(), listed: listed.collect() }
    }
}

impl HistoryStatus {
    /// Returns the last `seconds` of history.
    fn of(point: &PublishingPoint, seconds: usize) -> Self {
        let history = point.activity().history();
        let (end, rates) = history.latest(seconds);
        let (input, output) = rates.map(|rates| (rates.input, rates.output)).unzip();
        Self { end_ms: end.map(unix_ms), step_ms: 1000, input, output }
    }
}

/// Returns the Unix time in milliseconds; 0 for a time before 1970.
fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, milliseconds)
}

/// Returns whole milliseconds.
fn milliseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_full_within_an_hour_is_a_problem() {
        // 1 Mbit/s is 450 MB per hour.
        assert_eq!(disk_problem(450_000_000, 1_000_000), None);
        assert_eq!(disk_problem(449_999_999, 1_000_000).unwrap().kind, ProblemKind::Disk);
        assert_eq!(disk_problem(1, 0), None, "nothing is being recorded");
        assert!(disk_problem(0, 0).is_some());
        assert!(disk_problem(u64::MAX, u64::MAX).is_some());
    }
}
