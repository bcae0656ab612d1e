//! What a point knows of the source that it pulls its stream from: who needs it, where it stands, what came of it.
//!
//! The task that pulls (`source`) writes here; players, who may have it begin, and the status read.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::time::sleep;

use wmhttp::pull::{Failure, Kind};
use wmhttp::via::Via;

/// Where the pull stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceStage {
    /// Nobody needs the stream (only on demand).
    Idle,
    /// The origin is asked for the stream.
    Connecting,
    /// The stream arrives.
    Streaming,
    /// The last attempt failed, or the stream ended; the next attempt comes then.
    Waiting {
        /// When the next attempt is due.
        until: Instant,
    },
}

impl SourceStage {
    /// Its name in the status.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::Streaming => "streaming",
            Self::Waiting { .. } => "waiting",
        }
    }
}

/// What came of a point's source.
#[derive(Clone, Debug)]
pub(crate) struct SourceStats {
    pub(crate) stage: SourceStage,
    /// Since when.
    pub(crate) since: SystemTime,
    /// Where the stream comes from, by redirects, without credentials.
    pub(crate) address: Option<String>,
    /// Attempts ever.
    pub(crate) attempts: u64,
    /// Times that the stream began.
    pub(crate) connects: u64,
    /// Times that the origin ended its stream.
    pub(crate) ends: u64,
    /// Attempts in a row that have failed.
    pub(crate) failures_in_a_row: u32,
    /// Failures ever, by kind.
    pub(crate) failures: BTreeMap<&'static str, u64>,
    /// Data packets that arrived twice, around a lost connection.
    pub(crate) duplicates: u64,
    /// Players that wait for the stream now.
    pub(crate) waiting: usize,
    /// The last failure, with its remedy.
    pub(crate) last_error: Option<String>,
}

/// Why a player gets no stream from a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceUnavailable {
    /// The origin has no stream now, or is not reached; the next attempt comes after this time.
    Failed {
        /// Until the next attempt.
        retry_in: Duration,
    },
    /// No header arrived in time.
    TooSlow,
    /// The request has come through this point before.
    Loop,
}

/// See the module's text.
pub(crate) struct SourceState {
    /// The point's name in `Via`.
    via_pseudonym: String,
    inner: Mutex<Inner>,
    /// Told of each change that somebody may wait for.
    changed: watch::Sender<u64>,
}

struct Inner {
    stats: SourceStats,
    /// Those who need the stream: players, and those who wait to become one.
    needed_by: usize,
    /// When the last of them went.
    left: Option<Instant>,
    /// Which way the request came that made it begin.
    via: Via,
    /// A task pulls.
    running: bool,
    closed: bool,
}

/// Somebody who needs the stream, as long as this lives.
pub(crate) struct SourceDemand(Arc<SourceState>);

impl SourceState {
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
        let inner = Inner { stats, needed_by: 0, left: None, via: Via::default(), running: false, closed: false };
        Arc::new(Self { via_pseudonym, inner: Mutex::new(inner), changed: watch::Sender::new(0) })
    }

    /// The point's name in `Via`.
    pub(crate) fn via_pseudonym(&self) -> &str {
        &self.via_pseudonym
    }

    /// What came of it so far.
    pub(crate) fn stats(&self) -> SourceStats {
        self.lock().stats.clone()
    }

    /// Tells of changes: each is a number that was not there before.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Something that a waiting task or player looks at is another.
    pub(crate) fn notify(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Somebody needs the stream from now on.
    pub(crate) fn demand(self: &Arc<Self>) -> SourceDemand {
        let mut inner = self.lock();
        inner.needed_by += 1;
        let first = inner.needed_by == 1;
        drop(inner);
        if first {
            self.notify();
        }
        SourceDemand(Arc::clone(self))
    }

    /// Whether somebody needs the stream, or has within the time `linger` before `now`. Otherwise when that changes by
    /// time alone.
    pub(crate) fn is_needed(&self, linger: Duration, now: Instant) -> Needed {
        let inner = self.lock();
        if inner.needed_by > 0 {
            return Needed::Yes;
        }
        match inner.left.and_then(|left| left.checked_add(linger)).filter(|until| now < *until) {
            Some(until) => Needed::Until(until),
            None => Needed::No,
        }
    }

    /// Waits for the stream that `is_there` looks for, up to `patience`. `via` is the way that the player's request has
    /// come.
    ///
    /// # Errors
    /// Why it is not there.
    pub(crate) async fn wait(
        self: &Arc<Self>,
        via: &Via,
        patience: Duration,
        is_there: impl Fn() -> bool,
    ) -> Result<SourceDemand, SourceUnavailable> {
        if via.leads_through(&self.via_pseudonym) {
            return Err(SourceUnavailable::Loop);
        }
        let mut changes = self.changes();
        changes.mark_unchanged();
        // Before the demand, which begins the next attempt: that takes the way along, and its failure is this player's.
        let _waiting = Waiting::new(self, via);
        let attempts = self.stats().attempts;
        let demand = self.demand();
        if is_there() {
            return Ok(demand);
        }
        let until = Instant::now() + patience;
        let mut timeout = pin!(sleep(patience));
        loop {
            let stats = self.stats();
            if let SourceStage::Waiting { until: retry } = stats.stage {
                let now = Instant::now();
                // A failure since this player came, or the next attempt comes too late for it.
                if stats.attempts > attempts || retry > until {
                    return Err(SourceUnavailable::Failed { retry_in: retry.saturating_duration_since(now) });
                }
            }
            tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) if is_there() => return Ok(demand),
                    Ok(()) => {}
                    Err(_) => return Err(SourceUnavailable::TooSlow),
                },
                () = timeout.as_mut() => return Err(SourceUnavailable::TooSlow),
            }
        }
    }

    /// Which way the request came that makes the source begin now.
    pub(crate) fn via(&self) -> Via {
        self.lock().via.clone()
    }

    /// An attempt begins.
    pub(crate) fn set_connecting(&self) {
        self.update(|inner| {
            inner.stats.attempts += 1;
            inner.stats.set_stage(SourceStage::Connecting);
        });
    }

    /// Nobody needs the stream.
    pub(crate) fn set_idle(&self) {
        self.update(|inner| {
            inner.stats.address = None;
            inner.stats.set_stage(SourceStage::Idle);
        });
    }

    /// A request goes to this address.
    pub(crate) fn set_address(&self, address: String) {
        self.lock().stats.address = Some(address);
    }

    /// The header is there.
    pub(crate) fn set_streaming(&self) {
        self.update(|inner| {
            if inner.stats.stage != SourceStage::Streaming {
                inner.stats.connects += 1;
                inner.stats.failures_in_a_row = 0;
                inner.stats.set_stage(SourceStage::Streaming);
            }
        });
    }

    /// The origin has ended the stream; the next attempt comes at `until`.
    pub(crate) fn set_ended(&self, until: Instant) {
        self.update(|inner| {
            inner.stats.ends += 1;
            inner.stats.set_stage(SourceStage::Waiting { until });
        });
    }

    /// An attempt failed; the next comes at `until`.
    pub(crate) fn set_failed(&self, failure: &Failure, failures_in_a_row: u32, until: Instant) {
        self.update(|inner| {
            let stats = &mut inner.stats;
            *stats.failures.entry(failure.kind.name()).or_default() += 1;
            stats.failures_in_a_row = failures_in_a_row;
            stats.last_error = Some(failure.to_string());
            stats.set_stage(SourceStage::Waiting { until });
        });
    }

    /// Data packets arrived that had arrived before.
    pub(crate) fn add_duplicates(&self, count: u64) {
        self.lock().stats.duplicates += count;
    }

    /// A task may begin to pull; `false` if one does already, or the point is closed.
    pub(crate) fn begin_task(&self) -> bool {
        let mut inner = self.lock();
        !inner.closed && !std::mem::replace(&mut inner.running, true)
    }

    /// The task has ended.
    pub(crate) fn end_task(&self) {
        self.update(|inner| {
            inner.running = false;
            inner.stats.address = None;
            inner.stats.set_stage(SourceStage::Idle);
        });
    }

    /// Nothing is pulled from now on.
    pub(crate) fn close(&self) {
        self.update(|inner| inner.closed = true);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn update(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.lock());
        self.notify();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Plain data, consistent after every statement.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a stream is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needed {
    Yes,
    /// Nobody needs it, and until then somebody may come back.
    Until(Instant),
    No,
}

impl SourceStats {
    fn set_stage(&mut self, stage: SourceStage) {
        self.stage = stage;
        self.since = SystemTime::now();
    }
}

impl Drop for SourceDemand {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.needed_by -= 1;
        if inner.needed_by > 0 {
            return;
        }
        inner.left = Some(Instant::now());
        drop(inner);
        self.0.notify();
    }
}

/// A player that waits for the stream.
struct Waiting<'a>(&'a SourceState);

impl<'a> Waiting<'a> {
    fn new(state: &'a SourceState, via: &Via) -> Self {
        let mut inner = state.lock();
        if inner.stats.waiting == 0 {
            inner.via = via.clone();
        }
        inner.stats.waiting += 1;
        Self(state)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().stats.waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use http::header::{HeaderMap, VIA};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn failure() -> Failure {
        Failure::malformed("no stream".to_owned())
    }

    #[test]
    fn it_is_needed_while_somebody_is_there_and_a_little_longer() {
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
    async fn a_player_waits_for_the_header_and_not_for_ever() {
        let state = SourceState::new("me".to_owned());
        let there = Arc::new(AtomicBool::new(false));
        let wait = |state: &Arc<SourceState>| {
            let (state, there) = (Arc::clone(state), Arc::clone(&there));
            tokio::spawn(async move { state.wait(&Via::default(), PATIENCE, || there.load(Ordering::Relaxed)).await })
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

    /// What failed before a player came is not its failure, unless nothing is tried in time for it.
    #[tokio::test(start_paused = true)]
    async fn a_failure_ends_the_wait_at_once() {
        let state = SourceState::new("me".to_owned());
        let soon = Instant::now() + Duration::from_secs(2);
        state.set_failed(&failure(), 1, soon);
        let waiting = tokio::spawn({
            let state = Arc::clone(&state);
            async move { state.wait(&Via::default(), PATIENCE, || false).await.err() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        state.set_connecting();
        state.set_failed(&failure(), 2, Instant::now() + Duration::from_secs(60));
        assert!(matches!(waiting.await.unwrap(), Some(SourceUnavailable::Failed { .. })));
        let late = state.wait(&Via::default(), PATIENCE, || false).await.err();
        assert!(matches!(late, Some(SourceUnavailable::Failed { retry_in }) if retry_in > PATIENCE));
        assert_eq!(state.stats().failures["malformed"], 2);
    }

    #[tokio::test]
    async fn a_request_that_has_come_through_the_point_is_a_loop() {
        let state = SourceState::new("me".to_owned());
        let via = Via::from_headers(&HeaderMap::from_iter([(VIA, "1.1 other, 1.1 me".parse().unwrap())]));
        assert_eq!(state.wait(&via, PATIENCE, || true).await.err(), Some(SourceUnavailable::Loop));
    }
}
