//! Reports a destination's state changes, dropped packets and statistics.

use std::time::{Duration, Instant};

use super::DestinationTask;
use crate::publish::lock;
use crate::publish::stats::Stats;
use crate::publish::status::{DestinationEvent, DropReason, State, StateChange, Status};
use wmhttp::Hresult;
use wmhttp::failure::Failure;

/// Minimum time between queries of the kernel's connection statistics.
const TELEMETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Minimum time between reports of dropped packets.
const DROPPED_INTERVAL: Duration = Duration::from_secs(1);

/// Dropped packets that are not reported yet, and when they are reported.
#[derive(Default)]
pub(super) struct Dropped {
    pub(super) packets: u64,
    pub(super) report_at: Option<Instant>,
}

/// What reports need.
pub(super) struct Reporting {
    pub(super) name: String,
    pub(super) location: String,
    /// Called when nothing more will happen without a command.
    at_rest: Box<dyn Fn() + Send>,
    pub(super) dropped: Dropped,
    /// When the kernel was last queried for the connection's statistics.
    telemetry_at: Option<Instant>,
}

impl Reporting {
    /// Reports about the destination of these statistics; `at_rest` is called when nothing more will happen without a
    /// command.
    pub(super) fn new(stats: &Stats, at_rest: Box<dyn Fn() + Send>) -> Self {
        Self {
            name: stats.name.clone(),
            location: stats.location.clone(),
            at_rest,
            dropped: Dropped::default(),
            telemetry_at: None,
        }
    }
}

impl DestinationTask {
    /// Reports that nothing more will happen without a command.
    pub(super) fn mark_at_rest(&self) {
        lock(&self.stats).at_rest = true;
        (self.reporting.at_rest)();
    }

    /// Sets and reports a state, with its step and result code.
    pub(super) fn change_state(
        &mut self,
        status: Status,
        new_state: State,
        hresult: Hresult,
        failure: Option<Failure>,
    ) {
        self.report(status, new_state, hresult, failure, None);
    }

    /// As [`DestinationTask::change_state`], with the delay before the next attempt.
    pub(super) fn report(
        &mut self,
        status: Status,
        new_state: State,
        hresult: Hresult,
        failure: Option<Failure>,
        retry_in: Option<Duration>,
    ) {
        let old_state = self.state;
        self.set_state(new_state);
        self.observer.report(DestinationEvent::StateChange(StateChange {
            destination: self.reporting.name.clone(),
            location: self.reporting.location.clone(),
            status,
            hresult,
            old_state,
            new_state,
            failure,
            attempt: self.retry.backoff.failures(),
            retry_in,
        }));
    }

    /// Records dropped packets. They are reported immediately, or together with later ones if the last report is
    /// recent.
    pub(super) fn record_dropped(&mut self, packets: u64) {
        if packets == 0 {
            return;
        }
        self.reporting.dropped.packets += packets;
        if self.reporting.dropped.report_at.is_none_or(|at| at <= Instant::now()) {
            self.report_dropped();
        }
    }

    /// Reports the dropped packets recorded so far.
    pub(super) fn report_dropped(&mut self) {
        self.reporting.dropped.packets += self.reader.take_dropped();
        let progress = self.reader.progress();
        self.send_dropped_report(DropReason::Lag, progress.taken, progress.dropped);
    }

    /// Called before sending stops: reports the dropped packets not reported yet, and those still queued, which will
    /// not be sent because of `reason`.
    pub(super) fn report_last_dropped(&mut self, reason: DropReason) {
        let progress = self.reader.progress();
        self.reporting.dropped.packets += self.reader.take_dropped();
        if self.reporting.dropped.packets > 0 {
            self.send_dropped_report(DropReason::Lag, progress.taken, progress.dropped);
        }
        self.reporting.dropped.packets = progress.lag.packets;
        if self.reporting.dropped.packets > 0 {
            self.send_dropped_report(reason, progress.taken, progress.dropped + progress.lag.packets);
        }
    }

    /// Reports the dropped packets, and starts the time until the next report.
    fn send_dropped_report(&mut self, reason: DropReason, sent: u64, dropped: u64) {
        self.reporting.dropped.report_at = Some(Instant::now() + DROPPED_INTERVAL);
        self.observer.report(DestinationEvent::Dropped {
            destination: self.reporting.name.clone(),
            reason,
            packets: std::mem::take(&mut self.reporting.dropped.packets),
            sent,
            dropped,
        });
    }

    /// Reports that upstream should send a key frame.
    pub(super) fn request_key_frame(&self) {
        self.observer.report(DestinationEvent::KeyFrameWanted { destination: self.reporting.name.clone() });
    }

    /// Reports a problem that does not stop the push, with its remedy.
    pub(super) fn notice(&self, text: String, remedy: &'static str) {
        self.observer.report(DestinationEvent::Notice { destination: self.reporting.name.clone(), text, remedy });
    }

    pub(super) fn set_state(&mut self, state: State) {
        self.state = state;
        lock(&self.stats).record_state(state);
    }

    /// Queries the kernel's connection statistics if the last query is old enough.
    pub(super) fn update_telemetry(&mut self) {
        let now = Instant::now();
        if self.reporting.telemetry_at.is_some_and(|at| now - at < TELEMETRY_INTERVAL) {
            return;
        }
        self.reporting.telemetry_at = Some(now);
        if let Some(telemetry) = self.client.telemetry() {
            let mut stats = lock(&self.stats);
            stats.rtt = Some(Duration::from_micros(telemetry.rtt.into()));
            stats.unsent_bytes = Some(telemetry.unsent);
        }
    }
}
