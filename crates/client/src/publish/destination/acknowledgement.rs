//! Acknowledgements of the peer's TCP stack release the packets that may have to be sent again, and complete the end of
//! a body.
//!
//! Three of six known servers neither respond to `$E`(0) nor close the connection. When all bytes are acknowledged,
//! they have arrived at the peer's TCP stack. Waiting longer would prove neither that the server has read them, nor
//! that a proxy has forwarded them. The kernel does not notify about acknowledgements, so the task polls it, but only
//! while something depends on the result.

use std::time::{Duration, Instant};

use super::DestinationTask;

/// Interval before the first poll; it doubles with each further one, …
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(1);
/// … up to this interval.
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Time to wait for a response after `$E` has arrived, in addition to two round trips. Servers that respond do so
/// immediately; with the others, each end of a session takes this time twice: once for the response, and once for the
/// peer's close.
const ANSWER_GRACE: Duration = Duration::from_millis(100);
/// The same behind a proxy: the round trip beyond it is unknown, and closing may discard what the proxy has not
/// forwarded.
const ANSWER_GRACE_OF_PROXY: Duration = Duration::from_millis(400);
/// On a congested network, round trips take seconds and say nothing about the server.
const MAX_ANSWER_GRACE: Duration = Duration::from_secs(2);

/// The schedule of the polls.
#[derive(Debug, Default)]
pub(super) struct AcknowledgementPoll {
    next: Option<(Instant, Duration)>,
}

impl AcknowledgementPoll {
    pub(super) fn at(&self) -> Option<Instant> {
        self.next.map(|(at, _)| at)
    }

    /// Schedules the first poll unless one is scheduled.
    fn start(&mut self, now: Instant) {
        self.next.get_or_insert((now + MIN_POLL_INTERVAL, MIN_POLL_INTERVAL));
    }

    /// Schedules the next poll: soon if the last one released packets.
    fn schedule_next(&mut self, advanced: bool, now: Instant) {
        let interval = match self.next {
            Some((_, interval)) if !advanced => (interval * 2).min(MAX_POLL_INTERVAL),
            Some(_) | None => MIN_POLL_INTERVAL,
        };
        self.next = Some((now + interval, interval));
    }

    fn stop(&mut self) {
        self.next = None;
    }
}

/// What depends on the peer's acknowledgements.
#[derive(Debug, Default)]
pub(super) struct Acknowledgement {
    /// When to query the kernel next.
    pub(super) poll: AcknowledgementPoll,
    /// The reader keeps packets only because acknowledgements are missing.
    pub(super) needed: bool,
}

impl DestinationTask {
    /// Starts polling if something depends on acknowledgements, otherwise stops it.
    pub(super) fn watch_acknowledgement(&mut self) {
        if self.session.awaits_acknowledgement() || self.acknowledgement.needed {
            self.acknowledgement.poll.start(Instant::now());
        } else {
            self.acknowledgement.poll.stop();
        }
    }

    /// Polls the kernel once, and acts on what has arrived.
    pub(super) fn check_acknowledged(&mut self, now: Instant) {
        let mut advanced = false;
        if self.acknowledgement.needed {
            advanced = self.acknowledge_packets(now);
        }
        // If the kernel does not report it, the response or its timeout decides.
        if self.session.awaits_acknowledgement() && self.client.is_acknowledged() == Some(true) {
            self.session.handle_acknowledged(self.answer_grace(), now);
        }
        self.acknowledgement.poll.schedule_next(advanced, now);
    }

    /// Releases the packets that have arrived; returns whether there were any.
    fn acknowledge_packets(&mut self, now: Instant) -> bool {
        let kept = self.bytes_to_keep(self.client.undelivered(), now);
        let acknowledged = self.reader.acknowledge(self.body.layout.data_in_last(kept));
        self.acknowledgement.needed = acknowledged.more_needed;
        acknowledged.advanced
    }

    /// After the end of the body: reads what the peer still sends, and shuts down the connection gracefully.
    pub(super) fn close_gracefully(&mut self) {
        let by = self.session.close_by().unwrap_or_else(Instant::now);
        self.body.undelivered = self.client.unsent_bytes();
        self.client.close_gracefully(self.answer_grace(), by.into());
    }

    /// How long to wait for a response after the peer's TCP stack has acknowledged everything.
    fn answer_grace(&self) -> Duration {
        let rtt =
            self.client.telemetry().map_or(Duration::ZERO, |telemetry| Duration::from_micros(telemetry.rtt.into()));
        let base = if self.session.uses_proxy() { ANSWER_GRACE_OF_PROXY } else { ANSWER_GRACE };
        (base + 2 * rtt).min(MAX_ANSWER_GRACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_polled_soon_and_then_rarely() {
        let now = Instant::now();
        let mut poll = AcknowledgementPoll::default();
        assert_eq!(poll.at(), None);
        poll.start(now);
        poll.start(now + MAX_POLL_INTERVAL);
        assert_eq!(poll.at(), Some(now + MIN_POLL_INTERVAL), "once started it continues");
        let mut waits = Vec::new();
        for _ in 0..8 {
            poll.schedule_next(false, now);
            waits.push((poll.at().unwrap_or(now) - now).as_millis());
        }
        assert_eq!(waits, [2, 4, 8, 16, 20, 20, 20, 20]);
        poll.schedule_next(true, now);
        assert_eq!(poll.at(), Some(now + MIN_POLL_INTERVAL), "it continues");
    }
}
