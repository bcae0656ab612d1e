//! Warnings before a push fails: the server accepts no data, or upstream sends none.

use std::time::{Duration, Instant};

use super::DestinationTask;

/// Minimum time between warnings. Every packet interval may exceed a server's Idle-Timeout.
const MIN_WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// Which warnings were already reported.
#[derive(Default)]
pub(super) struct EarlyWarnings {
    /// A warning was reported since data last flowed.
    is_reported: bool,
    reported_at: Option<Instant>,
}

impl EarlyWarnings {
    /// Records that data flows, so that the next threat is reported again.
    pub(super) fn data_flows(&mut self) {
        self.is_reported = false;
    }

    /// Records that a warning was reported.
    fn mark_reported(&mut self) {
        *self = Self { is_reported: true, reported_at: Some(Instant::now()) };
    }

    /// Returns the earliest time for the warning that is due at `at`.
    fn not_before(&self, at: Instant) -> Instant {
        self.reported_at.map_or(at, |reported| at.max(reported + MIN_WARNING_INTERVAL))
    }
}

/// A threat to the push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Threat {
    /// The server has accepted nothing for half of `stall_timeout`.
    Stall,
    /// Upstream has sent nothing for three quarters of the server's Idle-Timeout (S-2).
    Idle,
}

impl DestinationTask {
    /// Returns the current threat and when to report it; each is reported once until data flows again.
    pub(super) fn early_warning(&self) -> Option<(Instant, Threat)> {
        if self.early_warnings.is_reported || !self.session.is_streaming() || !self.session.wants_data() {
            return None;
        }
        if self.flow.wants_room.is_some() {
            let stall_timeout = self.control.borrow().settings.transport.stall_timeout;
            return self
                .flow
                .full_since
                .filter(|_| !stall_timeout.is_zero())
                .map(|full| (self.early_warnings.not_before(full + stall_timeout / 2), Threat::Stall));
        }
        let idle_timeout = self.session.peer().idle_timeout?;
        Some((self.early_warnings.not_before(self.flow.coalescer.last()? + idle_timeout * 3 / 4), Threat::Idle))
    }

    /// Reports the current threat.
    pub(super) fn report_early_warning(&mut self) {
        let Some((_, threat)) = self.early_warning() else { return };
        self.early_warnings.mark_reported();
        match threat {
            Threat::Stall => self.notice(
                "the server has accepted no data for half of stall-timeout".to_owned(),
                "check that the network carries the stream's bit rate; the push reconnects when stall-timeout has passed",
            ),
            Threat::Idle => self.notice(
                "upstream has sent no data for three quarters of the server's idle timeout, after which the server ends \
                 the session"
                    .to_owned(),
                "check the source; while it has nothing to send, let it produce silence or a still picture",
            ),
        }
    }
}
