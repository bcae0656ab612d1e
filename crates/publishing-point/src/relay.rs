//! Relays a point's stream to other servers, with the same push client as the element.
//!
//! ```text
//!  session ──▶ point's packet buffer ──▶ player (one reader each)
//!                        └──────▶ publish (one reader and one task per server) ──▶ the point there
//! ```
//!
//! The relays read from the same packet buffer as the players, and send packets at their full size: removing the
//! padding for them ([MS-WMHTTP] 2.2.3.5 says SHOULD) would need a second copy of the media. Their tasks run on the
//! single I/O thread that the push client has per process. A server that is slow or unavailable is overrun in the
//! buffer as a slow player is, and delays nobody.
//!
//! Each stream of the point is a separate push: it begins with the first header and ends with the stream, with `$E`(0).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::relay::RelayConfig;
use crate::events::whole_milliseconds;
use crate::points::activity::PointActivity;
use asfpush_client::packet_buffer::PacketBuffer;
use asfpush_client::publish::stats::Stats;
use asfpush_client::publish::status::{DestinationEvent, DropReason, State as Stage, Status};
use asfpush_client::publish::{Command, DestinationObserver, Publisher};
use asfpush_client::transport::runtime::{self, BlockingTask};
use wmhttp::Hresult;
use wmhttp::auth::{CredentialRequest, Credentials};
use wmhttp::failure::{Cause, Condition, Failure};
use wmhttp::via::Via;

/// Maximum time for a server to receive the rest of a stream and its end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The statistics of a relay, over all streams of the point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelayStats {
    /// The publishing point that the stream is relayed to, without credentials.
    pub location: String,
    /// The current state; idle while there is no stream.
    pub state: Stage,
    /// Data packets handed to the connection.
    pub packets: u64,
    /// Bytes of the request bodies.
    pub bytes: u64,
    /// The current bit rate in bit/s.
    pub bitrate: u64,
    /// Data packets dropped because the server was too slow or unavailable for too long.
    pub dropped: u64,
    /// Packets that were handed over but may not have arrived, because a connection was lost shortly afterwards.
    pub uncertain: u64,
    /// Data packets that wait to be sent.
    pub queued: u64,
    /// The stream time of the packets that wait.
    pub behind: Duration,
    /// Number of reconnects.
    pub reconnects: u64,
    /// Consecutive failed attempts.
    pub failures: u32,
    /// The last failure, with its remedy.
    pub last_error: Option<String>,
}

impl RelayStats {
    /// Adds the statistics of a stream. `ended` means that nothing more of it is sent.
    fn add(&mut self, stats: &Stats, ended: bool) {
        self.packets += stats.packets_sent;
        self.bytes += stats.bytes_sent;
        self.dropped += stats.packets_dropped;
        self.uncertain += stats.packets_uncertain;
        self.reconnects += stats.reconnects;
        if let Some(error) = &stats.last_error {
            self.last_error = Some(describe(error));
        }
        if ended {
            self.dropped += stats.packets_queued;
        } else {
            self.state = stats.state;
            self.bitrate = stats.bitrate.current(Instant::now());
            self.queued = stats.packets_queued;
            self.behind = stats.time_queued;
            self.failures = stats.retry_count;
        }
    }
}

/// The relays of a point.
pub(crate) struct Relays {
    shared: Arc<Shared>,
}

/// The data that the relays share with their waiting threads.
struct Shared {
    /// The name of the point.
    point: String,
    /// The point's name in Via, which is unique and cannot be guessed.
    via_pseudonym: String,
    /// The recent errors of the point, for the status.
    activity: Arc<PointActivity>,
    state: Mutex<State>,
}

/// The relays of a point and their streams.
struct State {
    /// The configured relays.
    configs: Vec<RelayConfig>,
    /// The path on which the stream has arrived here.
    via: Via,
    /// The current stream.
    stream: Option<Arc<Publisher>>,
    /// Streams that have ended but are not yet sent to all servers.
    ending: Vec<EndingStream>,
    /// The statistics of finished streams, by location.
    finished_stats: HashMap<String, RelayStats>,
}

/// A stream that has ended but is not yet sent to all servers.
struct EndingStream {
    publisher: Arc<Publisher>,
    /// Ends when everything is sent, or its time is over.
    wait: BlockingTask<()>,
}

impl Relays {
    /// Creates the relays of the point `point`, whose name in Via is `via_pseudonym`. Failures are recorded in
    /// `activity`.
    pub(crate) fn new(
        point: &str,
        via_pseudonym: String,
        configs: Vec<RelayConfig>,
        activity: Arc<PointActivity>,
    ) -> Self {
        let state =
            State { configs, via: Via::default(), stream: None, ending: Vec::new(), finished_stats: HashMap::new() };
        let shared = Shared { point: point.to_owned(), via_pseudonym, activity, state: Mutex::new(state) };
        Self { shared: Arc::new(shared) }
    }

    /// Returns the point's name in Via.
    pub(crate) fn via_pseudonym(&self) -> &str {
        &self.shared.via_pseudonym
    }

    /// Starts relaying a stream from `buffer`.
    pub(crate) fn begin(&self, buffer: &Arc<PacketBuffer>) {
        let mut state = self.shared.lock();
        let publisher = Arc::new(Publisher::with_buffer(Arc::clone(buffer)));
        for forward in &state.configs {
            self.shared.add(&publisher, forward, &state.via);
        }
        if let Some(before) = state.stream.replace(publisher) {
            self.shared.drain(&mut state, before);
        }
    }

    /// Ends the stream: the servers receive its remaining packets and `$E`(0).
    pub(crate) fn end(&self) {
        let mut state = self.shared.lock();
        if let Some(stream) = state.stream.take() {
            self.shared.drain(&mut state, stream);
        }
    }

    /// Waits until the ended streams are sent to all servers, or until their time is over.
    pub(crate) async fn wait_until_sent(&self) {
        let ending = std::mem::take(&mut self.shared.lock().ending);
        for EndingStream { wait, .. } in ending {
            // Fails only if the task panicked.
            let _ = wait.await;
        }
    }

    /// Sets the path on which the stream arrives. If it has changed, the relays start new sessions, because only the
    /// Via header of a PushSetup can reveal a loop. A new session replaces the old one, and players there see no end of
    /// the stream.
    pub(crate) fn set_via(&self, via: &Via) {
        let mut state = self.shared.lock();
        if state.via == *via {
            return;
        }
        state.via = via.clone();
        let Some(stream) = state.stream.clone() else { return };
        let State { configs, finished_stats, .. } = &mut *state;
        for forward in configs {
            let location = self.shared.location(forward);
            if let Some(stats) = stream.remove(&location, None) {
                finished_stats.entry(location).or_default().add(&stats, true);
            }
            self.shared.add(&stream, forward, via);
        }
    }

    /// Returns the path on which the stream arrives.
    pub(crate) fn via(&self) -> Via {
        self.shared.lock().via.clone()
    }

    /// Replaces the configured relays: new relays start now, and removed ones end after the packets that wait for them.
    /// Changed settings apply to the next connection, which is made without waiting for a retry delay.
    pub(crate) fn set(&self, configs: Vec<RelayConfig>) {
        let mut state = self.shared.lock();
        let before = std::mem::replace(&mut state.configs, configs);
        let location = |forward: &RelayConfig| self.shared.location(forward);
        let State { configs, via, stream, finished_stats, .. } = &mut *state;
        for removed in
            before.iter().map(location).filter(|removed| !configs.iter().any(|kept| location(kept) == *removed))
        {
            if let Some(stream) = stream {
                stream.remove(&removed, Some(DRAIN_TIMEOUT));
            }
            finished_stats.remove(&removed);
        }
        let Some(stream) = stream else { return };
        for forward in configs {
            let name = location(forward);
            match before.iter().find(|before| location(before) == name) {
                None => self.shared.add(stream, forward, via),
                Some(before) if before == forward => {}
                Some(_) => {
                    let settings = self.shared.settings(forward, via);
                    stream.update(|of, now| {
                        if of == name {
                            now.clone_from(&settings);
                        }
                    });
                    stream.command(Some(&name), Command::Reconnect);
                }
            }
        }
    }

    /// Returns the statistics of each relay.
    pub(crate) fn stats(&self) -> Vec<RelayStats> {
        let state = self.shared.lock();
        let ending: Vec<Stats> = state.ending.iter().flat_map(|ending| ending.publisher.stats()).collect();
        let current = state.stream.as_ref().map(|stream| stream.stats()).unwrap_or_default();
        let stats_of = |forward: &RelayConfig| {
            let location = self.shared.location(forward);
            let mut all = state.finished_stats.get(&location).cloned().unwrap_or_default();
            for stats in ending.iter().chain(&current).filter(|stats| stats.name == location) {
                all.add(stats, false);
            }
            RelayStats { location, ..all }
        };
        state.configs.iter().map(stats_of).collect()
    }
}

impl Shared {
    /// Returns the URL that identifies a relay.
    fn location(&self, forward: &RelayConfig) -> String {
        forward.target(&self.point).into()
    }

    /// Returns the publisher settings of a relay.
    fn settings(&self, forward: &RelayConfig, via: &Via) -> asfpush_client::publish::Settings {
        forward.settings(&self.point, via.with_hop(&self.via_pseudonym))
    }

    /// Adds a relay to the publisher of a stream.
    fn add(&self, publisher: &Publisher, forward: &RelayConfig, via: &Via) {
        let location = self.location(forward);
        let (point, activity) = (self.point.clone(), Arc::clone(&self.activity));
        let logger = Arc::new(RelayLogger { point, to: location.clone(), activity });
        if let Err(error) = publisher.add(&location, self.settings(forward, via), logger) {
            tracing::error!(point = self.point, to = location, %error, "cannot relay the stream: the I/O thread cannot be started");
        }
    }

    /// Lets the publisher of an ended stream finish while the next stream begins.
    fn drain(self: &Arc<Self>, state: &mut State, publisher: Arc<Publisher>) {
        let until = Instant::now() + DRAIN_TIMEOUT;
        let (shared, stream) = (Arc::clone(self), Arc::clone(&publisher));
        let wait = runtime::spawn_blocking(move || {
            // No other thread interrupts this publisher.
            let _ = stream.wait_until_ended(until);
            shared.merge_stats(&stream);
        });
        match wait {
            Ok(wait) => state.ending.push(EndingStream { publisher, wait }),
            Err(error) => {
                tracing::error!(point = self.point, %error, "cannot start a thread that waits for the end of the relayed stream")
            }
        }
    }

    /// Adds the statistics of a stream that is completely sent to those of the finished streams.
    fn merge_stats(&self, stream: &Arc<Publisher>) {
        let mut state = self.lock();
        state.ending.retain(|ending| !Arc::ptr_eq(&ending.publisher, stream));
        let configs: Vec<String> = state.configs.iter().map(|forward| self.location(forward)).collect();
        for stats in stream.stats().iter().filter(|stats| configs.contains(&stats.name)) {
            state.finished_stats.entry(stats.name.clone()).or_default().add(stats, true);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The data is consistent after every statement, so a poisoned lock can still be used.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Describes a failure in the terms of this server: its log must name the other one, and the failure's own remedy names
/// properties of the element.
fn describe(failure: &Failure) -> String {
    let text = failure.text.replacen("the server", "the other server", 1);
    format!("{text}; {} ({})", remedy(failure), failure.hresult)
}

fn remedy(failure: &Failure) -> &'static str {
    match failure.condition {
        Condition::Status(_) if failure.hresult == Hresult::INVALID_PUSH_TEMPLATE => {
            "check that `template-url` of `forward` is a publishing point on the other server, and that this server may use it"
        }
        Condition::Status(_) if failure.hresult == Hresult::ERROR_FROM_PROXY => "check the proxy's log and limits",
        Condition::Status(300..=399) => "set the URL of `forward` to the one that the other server redirects to",
        Condition::Status(400) => "check the URL of `forward`, and the other server's log",
        Condition::Status(401) => {
            "set `user` and `password-file` of `forward` to a user who may push to the other server; Basic is used only \
             over https"
        }
        Condition::Status(404) => {
            "check the URL of `forward`; create the publishing point at the other server, or set `template-url` of `forward`"
        }
        Condition::Status(407) | Condition::Lost(Cause::ProxyDenied) => {
            "set user and password in the proxy's URL in the environment (`http_proxy`, `https_proxy`)"
        }
        Condition::Status(_) | Condition::Displaced => failure.remedy,
        Condition::Incompatible => "check host and port in the URL of `forward`",
        Condition::NoAnswer => "check that the other server is running and not overloaded",
        Condition::InvalidProxy => "correct or remove the proxy in the environment (`http_proxy`, `https_proxy`)",
        Condition::Lost(cause) => remedy_of_cause(cause),
    }
}

fn remedy_of_cause(cause: Cause) -> &'static str {
    match cause {
        Cause::NameNotFound | Cause::NameTimeout => "check the host in the URL of `forward`, and DNS",
        Cause::Refused | Cause::Unreachable | Cause::ConnectTimeout | Cause::LocalAddress => {
            "check host and port in the URL of `forward`, that the other server is running, and the network"
        }
        Cause::ProxyNameNotFound
        | Cause::ProxyNameTimeout
        | Cause::ProxyRefused
        | Cause::ProxyConnectTimeout
        | Cause::ProxyDenied
        | Cause::ProxyNoTunnel => "check the proxy in the environment (`http_proxy`, `https_proxy`)",
        Cause::Stalled => "check that the network carries the stream's bit rate",
        Cause::Reset | Cause::Closed | Cause::Other => "check the network and the other server's log",
        Cause::Stale => "no action needed; the relay connects again",
        Cause::NotHttp => "check host and port in the URL of `forward`: the port does not belong to an HTTP server",
        Cause::Untrusted => {
            "check the host in the URL of `forward`, or add the issuing authority to the system's trusted certificates"
        }
        Cause::Tls => "check that the port in the URL of `forward` is for https",
        Cause::Resources => {
            "raise the limits of file descriptors and threads (ulimit -n, ulimit -u), or forward to fewer servers"
        }
    }
}

/// Logs the events of a relay, and records failures for the status.
struct RelayLogger {
    point: String,
    to: String,
    activity: Arc<PointActivity>,
}

impl DestinationObserver for RelayLogger {
    fn report(&self, report: DestinationEvent) {
        let Self { point, to, activity } = self;
        match report {
            DestinationEvent::StateChange(step) => match (step.status, step.failure) {
                (Status::Started, _) => tracing::info!(point, to, "relay started"),
                (Status::ReconnectStart, Some(failure)) => {
                    let retry_in = step.retry_in.map(|time| whole_milliseconds(time).to_string());
                    let failure = describe(&failure);
                    tracing::warn!(point, to, error = failure, retry_in, "relay connection failed");
                    activity.record_error(&format!("relay to {to} failed: {failure}"));
                }
                (Status::Error, Some(failure)) => {
                    let failure = describe(&failure);
                    tracing::error!(point, to, error = failure, "relay failed permanently");
                    activity.record_error(&format!("relay to {to} failed permanently: {failure}"));
                }
                (Status::Stopped, _) => tracing::info!(point, to, "relay ended"),
                (status, _) => tracing::debug!(point, to, ?status, "relay status"),
            },
            DestinationEvent::Notice { text, remedy, .. } => tracing::warn!(point, to, remedy, "relay: {text}"),
            DestinationEvent::Dropped { reason, packets, .. } => {
                let why = match reason {
                    DropReason::Lag => "the other server was disconnected, refused the push, or was too slow",
                    DropReason::Ended => "the push to the other server ended before they were sent",
                    DropReason::Failed => "the relay failed permanently",
                };
                tracing::warn!(point, to, packets, "packets not relayed: {why}");
                activity.record_error(&format!("packets not relayed to {to}: {why}"));
            }
            // The server cannot request a key frame from the encoder.
            DestinationEvent::KeyFrameWanted { .. } => {}
        }
    }

    fn has_retry_handler(&self) -> bool {
        false
    }

    fn should_retry(&self, _: &Failure) -> bool {
        true
    }

    fn credentials(&self, _: &CredentialRequest) -> Option<Credentials> {
        None
    }
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderMap, HeaderValue, SERVER};

    use super::*;

    /// The remedies of a relay name keys of the configuration and no property of the element.
    #[test]
    fn remedies_name_no_property_of_the_element() {
        let squid = HeaderMap::from_iter([(SERVER, HeaderValue::from_static("squid/5.7"))]);
        let statuses = (300..=599).flat_map(|status| {
            [
                Failure::from_status(status, &HeaderMap::new(), false, false),
                Failure::from_status(status, &HeaderMap::new(), true, false),
                Failure::from_status(status, &squid, false, false),
                Failure::from_status(status, &squid, false, true),
            ]
        });
        let others = [
            Failure::incompatible(None),
            Failure::no_answer(Duration::from_secs(15)),
            Failure::displaced(200),
            Failure::bad_proxy("socks5"),
        ];
        let all: Vec<Failure> =
            statuses.chain(others).chain(Cause::ALL.map(|cause| Failure::lost(cause, ""))).collect();
        // The element's own remedies name its properties.
        assert!(all.iter().any(|failure| failure.remedy.contains("location")));
        for failure in &all {
            let remedy = remedy(failure);
            for property in [
                "location",
                "-timeout",
                "user-id",
                "proxy-id",
                "auth-methods",
                "tls-",
                "bind-",
                "strict-",
                "set proxy",
                "raise timeout",
            ] {
                assert!(!remedy.contains(property), "{}: {remedy}", failure.text);
            }
        }
    }
}
