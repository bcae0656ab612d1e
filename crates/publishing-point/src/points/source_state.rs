//! The state of the source that a point pulls its stream from: its demand, its stage and its statistics.
//!
//! The task that pulls (module `source`) writes it. The status and the players, whose demand starts a pull, read it.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::time::sleep;

use wmhttp::pull::{Failure, Kind};
use wmhttp::via::Via;

/// Time that the origin needs to respond at least. A player does not wait for an attempt that begins later than this
/// before its time limit.
const MIN_ATTEMPT_TIME: Duration = Duration::from_secs(2);

/// The stage of the pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceStage {
    /// No client needs the stream (only on demand).
    Idle,
    /// The stream is being requested from the origin.
    Connecting,
    /// The stream arrives.
    Streaming,
    /// The last attempt failed, or the stream ended; the next attempt is scheduled.
    Waiting {
        /// The time of the next attempt.
        until: Instant,
    },
}

impl SourceStage {
    /// Returns the name of the stage in the status.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::Streaming => "streaming",
            Self::Waiting { .. } => "waiting",
        }
    }
}

/// The statistics of a point's source.
#[derive(Clone, Debug)]
pub(crate) struct SourceStats {
    pub(crate) stage: SourceStage,
    /// The time since which `stage` has applied.
    pub(crate) since: SystemTime,
    /// The current URL of the stream after redirects, without credentials.
    pub(crate) address: Option<String>,
    /// Total attempts.
    pub(crate) attempts: u64,
    /// Number of times that the stream began.
    pub(crate) connects: u64,
    /// Number of times that the origin ended the stream.
    pub(crate) ends: u64,
    /// Consecutive failed attempts.
    pub(crate) failures_in_a_row: u32,
    /// Total failures, by kind.
    pub(crate) failures: BTreeMap<&'static str, u64>,
    /// Data packets that arrived twice, around a lost connection.
    pub(crate) duplicates: u64,
    /// Players that currently wait for the stream.
    pub(crate) waiting: usize,
    /// The last failure, with its remedy.
    pub(crate) last_error: Option<String>,
}

/// Why a player gets no stream from a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceUnavailable {
    /// The origin has no stream now, or is not reachable.
    Failed {
        /// Time until the next attempt.
        retry_in: Duration,
    },
    /// No header arrived in time.
    TooSlow,
    /// The request has passed this point before.
    Loop,
}

/// The state of a source.
pub(crate) struct SourceState {
    /// The point's name in `Via`.
    via_pseudonym: String,
    inner: Mutex<Inner>,
    /// Notifies waiting tasks and players of changes.
    changed: watch::Sender<u64>,
}

struct Inner {
    stats: SourceStats,
    /// Clients that need the stream: players, and clients that wait to become one.
    demand_count: usize,
    /// When the last of them left; `None` if there never was one.
    last_needed: Option<Instant>,
    /// The path of the request that started the current pull.
    via: Via,
    /// Whether a task pulls.
    has_task: bool,
    /// Whether the point is closed, so that no task may start.
    closed: bool,
}

/// Keeps the stream needed until this is dropped.
pub(crate) struct SourceDemand(Arc<SourceState>);

impl SourceState {
    /// Returns the state of a source that is not pulled yet.
    pub(crate) fn new(via_pseudonym: String) -> Arc<Self> {
        let stats = SourceStats {
            stage: SourceStage::Idle,
            since: SystemTime::now(),
            address: None,
            attempts: 0,
            connects: 0,
            ends: 0,
            failures_in_a_row: 0,
            failures: Kind::ALL.into_iter().map(|kind| (kind.name(), 0)).collect(),
            duplicates: 0,
            waiting: 0,
            last_error: None,
        };
        let inner =
            Inner { stats, demand_count: 0, last_needed: None, via: Via::default(), has_task: false, closed: false };
        Arc::new(Self { via_pseudonym, inner: Mutex::new(inner), changed: watch::Sender::new(0) })
    }

    /// Returns the point's name in `Via`.
    pub(crate) fn via_pseudonym(&self) -> &str {
        &self.via_pseudonym
    }

    /// Returns the statistics.
    pub(crate) fn stats(&self) -> SourceStats {
        self.lock().stats.clone()
    }

    /// Returns a receiver of changes: each change sends a new number.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Notifies waiting tasks and players of a change.
    pub(crate) fn notify(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Registers a client that needs the stream.
    pub(crate) fn demand(self: &Arc<Self>) -> SourceDemand {
        let mut inner = self.lock();
        inner.demand_count += 1;
        let first = inner.demand_count == 1;
        drop(inner);
        if first {
            self.notify();
        }
        SourceDemand(Arc::clone(self))
    }

    /// Returns whether a client needs the stream now or has needed it within the time `linger` before `now`. Otherwise
    /// returns when that changes by time alone.
    pub(crate) fn is_needed(&self, linger: Duration, now: Instant) -> Needed {
        let inner = self.lock();
        if inner.demand_count > 0 {
            return Needed::Yes;
        }
        match inner.last_needed.and_then(|last_needed| last_needed.checked_add(linger)).filter(|until| now < *until) {
            Some(until) => Needed::Until(until),
            None => Needed::No,
        }
    }

    /// Waits up to `time_limit` for the stream that `has_stream` checks for. `via` is the path of the player's request.
    ///
    /// # Errors
    /// Why there is no stream.
    pub(crate) async fn wait(
        self: &Arc<Self>,
        via: &Via,
        time_limit: Duration,
        has_stream: impl Fn() -> bool,
    ) -> Result<SourceDemand, SourceUnavailable> {
        if via.contains(&self.via_pseudonym) {
            return Err(SourceUnavailable::Loop);
        }
        let mut changes = self.changes();
        changes.mark_unchanged();
        // This must precede the demand, which starts the next attempt: the attempt uses the path, and its failure
        // concerns this player.
        let _waiting = WaitingPlayer::new(self, via);
        let attempts = self.stats().attempts;
        let demand = self.demand();
        if has_stream() {
            return Ok(demand);
        }
        let until = Instant::now() + time_limit;
        let mut timeout = pin!(sleep(time_limit));
        loop {
            let stats = self.stats();
            if let SourceStage::Waiting { until: retry } = stats.stage {
                let now = Instant::now();
                // There was a failure since this player arrived, or the next attempt is too late for it.
                if stats.attempts > attempts || retry + MIN_ATTEMPT_TIME > until {
                    return Err(SourceUnavailable::Failed { retry_in: retry.saturating_duration_since(now) });
                }
            }
            tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) if has_stream() => return Ok(demand),
                    Ok(()) => {}
                    Err(_) => return Err(SourceUnavailable::TooSlow),
                },
                () = timeout.as_mut() => return Err(SourceUnavailable::TooSlow),
            }
        }
    }

    /// Returns the path of the request that starts a pull now.
    pub(crate) fn via(&self) -> Via {
        self.lock().via.clone()
    }

    /// Records that an attempt begins.
    pub(crate) fn set_connecting(&self) {
        self.update(|inner| {
            inner.stats.attempts += 1;
            inner.stats.set_stage(SourceStage::Connecting);
        });
    }

    /// Records that no client needs the stream.
    pub(crate) fn set_idle(&self) {
        self.update(|inner| {
            inner.stats.address = None;
            inner.stats.set_stage(SourceStage::Idle);
        });
    }

    /// Sets the URL of the current request.
    pub(crate) fn set_address(&self, address: String) {
        self.lock().stats.address = Some(address);
    }

    /// Records that the header has arrived.
    pub(crate) fn set_streaming(&self) {
        self.update(|inner| {
            if inner.stats.stage != SourceStage::Streaming {
                inner.stats.connects += 1;
                inner.stats.failures_in_a_row = 0;
                inner.stats.set_stage(SourceStage::Streaming);
            }
        });
    }

    /// Records that the origin has ended the stream; the next attempt is at `until`.
    pub(crate) fn set_ended(&self, until: Instant) {
        self.update(|inner| {
            inner.stats.ends += 1;
            inner.stats.set_stage(SourceStage::Waiting { until });
        });
    }

    /// Records that an attempt failed; the next attempt is at `until`.
    pub(crate) fn set_failed(&self, failure: &Failure, failures_in_a_row: u32, until: Instant) {
        self.update(|inner| {
            let stats = &mut inner.stats;
            *stats.failures.entry(failure.kind.name()).or_default() += 1;
            stats.failures_in_a_row = failures_in_a_row;
            stats.last_error = Some(failure.to_string());
            stats.set_stage(SourceStage::Waiting { until });
        });
    }

    /// Counts data packets that have arrived before.
    pub(crate) fn add_duplicates(&self, count: u64) {
        self.lock().stats.duplicates += count;
    }

    /// Records that a task starts to pull. Returns `false` if one does already, or if the point is closed.
    pub(crate) fn begin_task(&self) -> bool {
        let mut inner = self.lock();
        !inner.closed && !std::mem::replace(&mut inner.has_task, true)
    }

    /// Records that the task has ended.
    pub(crate) fn end_task(&self) {
        self.update(|inner| {
            inner.has_task = false;
            inner.stats.address = None;
            inner.stats.set_stage(SourceStage::Idle);
        });
    }

    /// Ends the pull. No task starts again at this point.
    pub(crate) fn close(&self) {
        self.update(|inner| inner.closed = true);
    }

    /// Returns whether the pull has ended because the point is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Changes the state and notifies those who wait, after the lock is released.
    fn update(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.lock());
        self.notify();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // The data is consistent after every statement, so a poisoned lock can still be used.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a stream is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needed {
    /// A client needs it.
    Yes,
    /// It is not needed, but is kept until this time in case a client returns.
    Until(Instant),
    /// It is not needed.
    No,
}

impl SourceStats {
    /// Sets the stage and the time since which it applies.
    fn set_stage(&mut self, stage: SourceStage) {
        self.stage = stage;
        self.since = SystemTime::now();
    }
}

impl Drop for SourceDemand {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.demand_count -= 1;
        if inner.demand_count > 0 {
            return;
        }
        inner.last_needed = Some(Instant::now());
        drop(inner);
        self.0.notify();
    }
}

/// Counts a player that waits for the stream.
struct WaitingPlayer<'a>(&'a SourceState);

impl<'a> WaitingPlayer<'a> {
    /// Counts the player. The path of its request is used for the pull if no other player waits.
    fn new(state: &'a SourceState, via: &Via) -> Self {
        let mut inner = state.lock();
        if inner.stats.waiting == 0 {
            inner.via = via.clone();
        }
        inner.stats.waiting += 1;
        Self(state)
    }
}

impl Drop for WaitingPlayer<'_> {
    fn drop(&mut self) {
        self.0.lock().stats.waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use http::header::{HeaderMap, VIA};

    use super::*;

    const MAX_WAIT: Duration = Duration::from_secs(10);

    fn failure() -> Failure {
        Failure::malformed("no stream".to_owned())
    }

    #[test]
    fn a_stream_is_needed_while_it_has_players_and_a_little_longer() {
        let state = SourceState::new("me".to_owned());
        let linger = Duration::from_secs(5);
        assert_eq!(state.is_needed(linger, Instant::now()), Needed::No);
        let (one, other) = (state.demand(), state.demand());
        drop(one);
        assert_eq!(state.is_needed(linger, Instant::now()), Needed::Yes);
        drop(other);
        let Needed::Until(until) = state.is_needed(linger, Instant::now()) else { panic!() };
        assert_eq!(state.is_needed(linger, until), Needed::No);
        assert_eq!(state.is_needed(Duration::ZERO, Instant::now()), Needed::No);
    }

    #[tokio::test(start_paused = true)]
    async fn a_player_waits_for_the_header_with_a_timeout() {
        let state = SourceState::new("me".to_owned());
        let there = Arc::new(AtomicBool::new(false));
        let wait = |state: &Arc<SourceState>| {
            let (state, there) = (Arc::clone(state), Arc::clone(&there));
            tokio::spawn(async move { state.wait(&Via::default(), MAX_WAIT, || there.load(Ordering::Relaxed)).await })
        };
        assert_eq!(wait(&state).await.unwrap().err(), Some(SourceUnavailable::TooSlow));
        let waiting = wait(&state);
        tokio::task::yield_now().await;
        assert_eq!(state.stats().waiting, 1);
        there.store(true, Ordering::Relaxed);
        state.set_streaming();
        assert!(waiting.await.unwrap().is_ok());
        assert_eq!(state.stats().waiting, 0);
    }

    /// An earlier failure does not concern a player, unless the next attempt is too late for it.
    #[tokio::test(start_paused = true)]
    async fn a_failure_ends_the_wait_at_once() {
        let state = SourceState::new("me".to_owned());
        let soon = Instant::now() + Duration::from_secs(2);
        state.set_failed(&failure(), 1, soon);
        let waiting = tokio::spawn({
            let state = Arc::clone(&state);
            async move { state.wait(&Via::default(), MAX_WAIT, || false).await.err() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        state.set_connecting();
        state.set_failed(&failure(), 2, Instant::now() + Duration::from_secs(60));
        assert!(matches!(waiting.await.unwrap(), Some(SourceUnavailable::Failed { .. })));
        for delay in [Duration::from_secs(60), MAX_WAIT - Duration::from_secs(1)] {
            state.set_failed(&failure(), 3, Instant::now() + delay);
            let waiting = tokio::spawn({
                let state = Arc::clone(&state);
                async move { state.wait(&Via::default(), MAX_WAIT, || false).await.err() }
            });
            tokio::task::yield_now().await;
            assert!(waiting.is_finished(), "{delay:?}");
            assert!(matches!(waiting.await.unwrap(), Some(SourceUnavailable::Failed { .. })), "{delay:?}");
        }
        assert_eq!(state.stats().failures["malformed"], 4);
    }

    #[tokio::test]
    async fn a_request_that_has_passed_the_point_is_a_loop() {
        let state = SourceState::new("me".to_owned());
        let via = Via::from_headers(&HeaderMap::from_iter([(VIA, "1.1 other, 1.1 me".parse().unwrap())]));
        assert_eq!(state.wait(&via, MAX_WAIT, || true).await.err(), Some(SourceUnavailable::Loop));
    }
}
