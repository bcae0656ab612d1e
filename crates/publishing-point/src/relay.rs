//! Pushes a point's stream on to other servers, by the engine that the element has.
//!
//! ```text
//!  session ──▶ point's log ──▶ player (a cursor each)
//!                  └─────────▶ publish (a cursor and a task for each server) ──▶ the point there
//! ```
//!
//! The servers read the log that the players read, the packets at their full size: taking the padding off for
//! them ([MS-WMHTTP] 2.2.3.5 says SHOULD) would need a second copy of the media. Their tasks run on the one
//! I/O thread that the engine has in a process, beside those of this server. A server that is slow, or
//! away, is lapped by the log as a player is, and holds nobody.
//!
//! Each stream of the point is a push of its own: it begins with the first header and ends with the stream,
//! by `$E`(0).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::relay::RelayConfig;
use crate::events::whole_milliseconds;
use crate::points::activity::PointActivity;
use asfpush_client::packet_buffer::PacketBuffer;
use asfpush_client::publish::stats::Stats;
use asfpush_client::publish::status::{DestinationEvent, State as Stage, Status};
use asfpush_client::publish::{Command, DestinationObserver, Publisher};
use asfpush_client::transport::runtime::{self, BlockingTask};
use wmhttp::auth::{CredentialRequest, Credentials};
use wmhttp::failure::Failure;
use wmhttp::via::Via;

/// How long the rest of a stream, and its end, may take to a server.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// What came of one forward so far, over all streams of the point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelayStats {
    /// The publishing point that the stream is pushed on to, without credentials.
    pub location: String,
    /// Where it stands; idle while there is no stream.
    pub state: Stage,
    /// Data packets handed to the connection.
    pub packets: u64,
    /// Bytes of the bodies of requests.
    pub bytes: u64,
    /// Bits a second, lately.
    pub bitrate: u64,
    /// Data packets that it missed: it was slow, or away, for too long.
    pub dropped: u64,
    /// Those of the packets handed over that may not have arrived, since a connection broke shortly after them.
    pub uncertain: u64,
    /// Data packets that wait for it now.
    pub queued: u64,
    /// Their stream time.
    pub behind: Duration,
    /// Pushes taken up again.
    pub reconnects: u64,
    /// Attempts in a row that have failed.
    pub failures: u32,
    /// The last failure: what happened, and what to do about it.
    pub last_error: Option<String>,
}

impl RelayStats {
    /// Adds what a stream has brought; `ended` is one of which nothing more goes out.
    fn add(&mut self, stats: &Stats, ended: bool) {
        self.packets += stats.packets_sent;
        self.bytes += stats.bytes_sent;
        self.dropped += stats.packets_dropped;
        self.uncertain += stats.packets_uncertain;
        self.reconnects += stats.reconnects;
        if let Some(error) = &stats.last_error {
            self.last_error = Some(error.to_string());
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

/// The servers that one point pushes on to.
pub(crate) struct Relays {
    shared: Arc<Shared>,
}

struct Shared {
    /// The point's name.
    point: String,
    /// The point's name in Via, which nobody else has and nobody can guess.
    via_pseudonym: String,
    /// The point's errors, for the status.
    ledger: Arc<PointActivity>,
    state: Mutex<State>,
}

struct State {
    wanted: Vec<RelayConfig>,
    /// Which way the stream has come here.
    via: Via,
    /// The stream there is.
    stream: Option<Arc<Publisher>>,
    /// Streams that are over, but not through everywhere.
    ending: Vec<Ending>,
    /// What earlier streams have brought, by location.
    past: HashMap<String, RelayStats>,
}

struct Ending {
    publisher: Arc<Publisher>,
    through: BlockingTask<()>,
}

impl Relays {
    /// Of the point `point`, which is called `via_pseudonym` where it pushes on to. What goes wrong is an error in `ledger`.
    pub(crate) fn new(
        point: &str,
        via_pseudonym: String,
        wanted: Vec<RelayConfig>,
        ledger: Arc<PointActivity>,
    ) -> Self {
        let state = State { wanted, via: Via::default(), stream: None, ending: Vec::new(), past: HashMap::new() };
        let shared = Shared { point: point.to_owned(), via_pseudonym, ledger, state: Mutex::new(state) };
        Self { shared: Arc::new(shared) }
    }

    /// The point's name in Via.
    pub(crate) fn via_pseudonym(&self) -> &str {
        &self.shared.via_pseudonym
    }

    /// A stream begins, in `buffer`.
    pub(crate) fn begin(&self, buffer: &Arc<PacketBuffer>) {
        let mut state = self.shared.lock();
        let publisher = Arc::new(Publisher::with_buffer(Arc::clone(buffer)));
        for forward in &state.wanted {
            self.shared.add(&publisher, forward, &state.via);
        }
        if let Some(before) = state.stream.replace(publisher) {
            self.shared.drain(&mut state, before);
        }
    }

    /// The stream's log has ended: its rest goes out, and `$E`(0).
    pub(crate) fn end(&self) {
        let mut state = self.shared.lock();
        if let Some(stream) = state.stream.take() {
            self.shared.drain(&mut state, stream);
        }
    }

    /// Waits until the streams that have ended are through, or their time is over.
    pub(crate) async fn through(&self) {
        let ending = std::mem::take(&mut self.shared.lock().ending);
        for Ending { through, .. } in ending {
            // Fails only where it panicked.
            let _ = through.await;
        }
    }

    /// The stream's pusher has come this way. Servers that know another way are told by a session anew, as only
    /// that can show a circle; it takes the place of the old one, and players there see no end.
    pub(crate) fn set_connection(&self, via: &Via) {
        let mut state = self.shared.lock();
        if state.via == *via {
            return;
        }
        state.via = via.clone();
        let Some(stream) = state.stream.clone() else { return };
        let State { wanted, past, .. } = &mut *state;
        for forward in wanted {
            let location = self.shared.location(forward);
            if let Some(stats) = stream.remove(&location, None) {
                past.entry(location).or_default().add(&stats, true);
            }
            self.shared.add(&stream, forward, via);
        }
    }

    /// Which way the stream has come.
    pub(crate) fn via(&self) -> Via {
        self.shared.lock().via.clone()
    }

    /// Takes other forwards: what is new begins now, what is gone ends with what waits for it, what has
    /// changed counts from the next connection on, and waits no longer for that.
    pub(crate) fn set(&self, wanted: Vec<RelayConfig>) {
        let mut state = self.shared.lock();
        let before = std::mem::replace(&mut state.wanted, wanted);
        let location = |forward: &RelayConfig| self.shared.location(forward);
        let State { wanted, via, stream, past, .. } = &mut *state;
        for gone in before.iter().map(location).filter(|gone| !wanted.iter().any(|kept| location(kept) == *gone)) {
            if let Some(stream) = stream {
                stream.remove(&gone, Some(DRAIN_TIMEOUT));
            }
            past.remove(&gone);
        }
        let Some(stream) = stream else { return };
        for forward in wanted {
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

    /// What each has done so far.
    pub(crate) fn stats(&self) -> Vec<RelayStats> {
        let state = self.shared.lock();
        let ending: Vec<Stats> = state.ending.iter().flat_map(|ending| ending.publisher.stats()).collect();
        let current = state.stream.as_ref().map(|stream| stream.stats()).unwrap_or_default();
        let of_each = |forward: &RelayConfig| {
            let location = self.shared.location(forward);
            let mut all = state.past.get(&location).cloned().unwrap_or_default();
            for stats in ending.iter().chain(&current).filter(|stats| stats.name == location) {
                all.add(stats, false);
            }
            RelayStats { location, ..all }
        };
        state.wanted.iter().map(of_each).collect()
    }
}

impl Shared {
    fn location(&self, forward: &RelayConfig) -> String {
        forward.target(&self.point).into()
    }

    fn settings(&self, forward: &RelayConfig, via: &Via) -> asfpush_client::publish::Settings {
        forward.settings(&self.point, via.through(&self.via_pseudonym))
    }

    fn add(&self, publisher: &Publisher, forward: &RelayConfig, via: &Via) {
        let location = self.location(forward);
        let (point, ledger) = (self.point.clone(), Arc::clone(&self.ledger));
        let logger = Arc::new(RelayLogger { point, to: location.clone(), ledger });
        if let Err(error) = publisher.add(&location, self.settings(forward, via), logger) {
            tracing::error!(point = self.point, to = location, %error, "cannot relay the stream: no I/O thread");
        }
    }

    /// Lets a stream that has ended go out, beside what comes after it.
    fn drain(self: &Arc<Self>, state: &mut State, publisher: Arc<Publisher>) {
        let until = Instant::now() + DRAIN_TIMEOUT;
        let (shared, stream) = (Arc::clone(self), Arc::clone(&publisher));
        let through = runtime::spawn_blocking(move || {
            // Nobody interrupts this publisher.
            let _ = stream.wait_until_ended(until);
            shared.merge_stats(&stream);
        });
        match through {
            Ok(through) => state.ending.push(Ending { publisher, through }),
            Err(error) => {
                tracing::error!(point = self.point, %error, "cannot start a thread that waits for the end of the relayed stream")
            }
        }
    }

    /// Keeps the counters of a stream that is through.
    fn merge_stats(&self, stream: &Arc<Publisher>) {
        let mut state = self.lock();
        state.ending.retain(|ending| !Arc::ptr_eq(&ending.publisher, stream));
        let wanted: Vec<String> = state.wanted.iter().map(|forward| self.location(forward)).collect();
        for stats in stream.stats().iter().filter(|stats| wanted.contains(&stats.name)) {
            state.past.entry(stats.name.clone()).or_default().add(stats, true);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain data, consistent after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what becomes of a forward into the log, and what goes wrong into the status too.
struct RelayLogger {
    point: String,
    to: String,
    ledger: Arc<PointActivity>,
}

impl DestinationObserver for RelayLogger {
    fn report(&self, report: DestinationEvent) {
        let Self { point, to, ledger } = self;
        match report {
            DestinationEvent::StateChange(step) => match (step.status, step.failure) {
                (Status::Started, _) => tracing::info!(point, to, "relay started"),
                (Status::ReconnectStart, Some(failure)) => {
                    let retry_in = step.retry_in.map(|time| whole_milliseconds(time).to_string());
                    tracing::warn!(point, to, error = %failure, retry_in, "relay connection failed");
                    ledger.trouble(&format!("relay to {to} failed: {failure}"));
                }
                (Status::Error, Some(failure)) => {
                    tracing::error!(point, to, error = %failure, "relay failed for good");
                    ledger.trouble(&format!("relay to {to} failed for good: {failure}"));
                }
                (Status::Stopped, _) => tracing::info!(point, to, "relay ended"),
                (status, _) => tracing::debug!(point, to, ?status, "relay status"),
            },
            DestinationEvent::Notice { text, remedy, .. } => tracing::warn!(point, to, remedy, "relay: {text}"),
            DestinationEvent::Dropped { packets, .. } => {
                tracing::warn!(point, to, packets, "packets not relayed: the other server is disconnected or too slow");
                ledger.trouble(&format!("packets not relayed to {to}: the other server is disconnected or too slow"));
            }
            // The encoder cannot be asked from here.
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
