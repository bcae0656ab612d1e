//! What is told before it breaks the push: a server that takes nothing, an upstream that sends nothing.

use std::time::{Duration, Instant};

use super::DestinationTask;
use crate::publish::lock;

/// How often something is told at most: a server may have an Idle-Timeout that each packet's pause exceeds.
const MIN_WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// What was told already.
#[derive(Default)]
pub(super) struct EarlyWarnings {
    /// Since data flowed last.
    told: bool,
    told_at: Option<Instant>,
}

impl EarlyWarnings {
    /// What threatens now is another matter than before.
    pub(super) fn data_flows(&mut self) {
        self.told = false;
    }

    fn handle_session_event(&mut self) {
        *self = Self { told: true, told_at: Some(Instant::now()) };
    }

    /// When what is due at `at` may be told.
    fn not_before(&self, at: Instant) -> Instant {
        self.told_at.map_or(at, |told| at.max(told + MIN_WARNING_INTERVAL))
    }
}

/// What threatens the push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Threat {
    /// The server has taken nothing for half of `stall_timeout`.
    Stall,
    /// There was nothing to send for three quarters of the server's Idle-Timeout (S-2).
    Idle,
}

impl DestinationTask {
    /// What threatens the push, and when it is to be told: once until data flows again.
    pub(super) fn early_warning(&self) -> Option<(Instant, Threat)> {
        if self.early_warnings.told || !self.session.is_streaming() || !self.session.wants_data() {
            return None;
        }
        if self.wants_room.is_some() {
            let stall_timeout = lock(&self.settings).transport.stall_timeout;
            return self
                .full_since
                .filter(|_| !stall_timeout.is_zero())
                .map(|full| (self.early_warnings.not_before(full + stall_timeout / 2), Threat::Stall));
        }
        let idle_timeout = self.session.peer().idle_timeout?;
        Some((self.early_warnings.not_before(self.coalescer.last()? + idle_timeout * 3 / 4), Threat::Idle))
    }

    pub(super) fn report_early_warning(&mut self) {
        let Some((_, threat)) = self.early_warning() else { return };
        self.early_warnings.handle_session_event();
        match threat {
            Threat::Stall => self.notice(
                "the server has stopped taking data".to_owned(),
                "check that the network carries the stream's bit rate; the push reconnects after stall-timeout",
            ),
            Threat::Idle => self.notice(
                "upstream has sent no packet for so long that the server will soon end the session".to_owned(),
                "keep data flowing: send silence or a still picture",
            ),
        }
    }
}
