//! What the far end's system has acknowledged: it need not be kept any more for a reader that blocks, and the end of a
//! body is over by that.
//!
//! Three of six servers in the field neither answer `$E`(0) nor close. When all bytes are acknowledged they have arrived at
//! the far end's system, and waiting proves no more: neither that the server has read them, nor, behind a proxy,
//! that they have come further than to that. The kernel tells nobody of it, so it is asked, but only while something
//! waits for it.

use std::time::{Duration, Instant};

use super::DestinationTask;

/// How soon the kernel is asked for the first time; then each time twice as late, …
const FIRST_POLL: Duration = Duration::from_millis(1);
/// … but so soon at least.
const SLOWEST_POLL: Duration = Duration::from_millis(20);
/// How long an answer is waited for once `$E` has arrived, beside two round trips: a server that answers does so at
/// once, and for those that do not, each end of a session takes this time twice.
const ANSWER_GRACE: Duration = Duration::from_millis(100);
/// The same where a proxy has it: the round trip behind it is unknown, and its close would be the end of what it
/// has not passed on.
const ANSWER_GRACE_OF_PROXY: Duration = Duration::from_millis(400);
/// Round trips on a network that is choked take seconds, and tell nothing of the server.
const LONGEST_GRACE: Duration = Duration::from_secs(2);

/// When the kernel is asked.
#[derive(Debug, Default)]
pub(super) struct AcknowledgementPoll {
    next: Option<(Instant, Duration)>,
}

impl AcknowledgementPoll {
    pub(super) fn at(&self) -> Option<Instant> {
        self.next.map(|(at, _)| at)
    }

    /// Asks soon, where it is not waited for that already.
    fn start(&mut self, now: Instant) {
        self.next.get_or_insert((now + FIRST_POLL, FIRST_POLL));
    }

    /// It was asked, and is to be asked again: soon, where that has brought something.
    fn again(&mut self, advanced: bool, now: Instant) {
        let interval = match self.next {
            Some((_, interval)) if !advanced => (interval * 2).min(SLOWEST_POLL),
            Some(_) | None => FIRST_POLL,
        };
        self.next = Some((now + interval, interval));
    }

    fn stop(&mut self) {
        self.next = None;
    }
}

impl DestinationTask {
    /// Asks the kernel from now on, where its answer is waited for.
    pub(super) fn watch_acknowledgement(&mut self) {
        if self.session.awaits_acknowledgement() || self.acknowledgement_needed {
            self.acknowledgement.start(Instant::now());
        } else {
            self.acknowledgement.stop();
        }
    }

    pub(super) fn check_acknowledged(&mut self, now: Instant) {
        let mut advanced = false;
        if self.acknowledgement_needed {
            advanced = self.acknowledge_packets(now);
        }
        // Where the kernel does not tell, the answer, or the time for it, decides.
        if self.session.awaits_acknowledgement() && self.client.is_acknowledged() == Some(true) {
            self.session.handle_acknowledged(self.answer_grace(), now);
        }
        self.acknowledgement.again(advanced, now);
    }

    /// Lets go of the packets that have arrived; true where some have.
    fn acknowledge_packets(&mut self, now: Instant) -> bool {
        let undelivered = self.client.undelivered();
        if self.may_be_unread(undelivered, now) {
            return false;
        }
        let acknowledged = self.reader.acknowledge(self.body.data_in_last(undelivered));
        self.acknowledgement_needed = acknowledged.more_needed;
        acknowledged.advanced
    }

    /// The body is at its end: what the far end has still to say is heard, and the connection closed in order.
    pub(super) fn close_gracefully(&mut self) {
        let by = self.session.close_by().unwrap_or_else(Instant::now);
        self.undelivered = self.client.waiting();
        self.client.close_gracefully(self.answer_grace(), by.into());
    }

    fn answer_grace(&self) -> Duration {
        let rtt = self.client.telemetry().map_or(Duration::ZERO, |told| Duration::from_micros(told.rtt.into()));
        let least = if self.session.uses_proxy() { ANSWER_GRACE_OF_PROXY } else { ANSWER_GRACE };
        (least + 2 * rtt).min(LONGEST_GRACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_asked_soon_and_then_rarely() {
        let now = Instant::now();
        let mut poll = AcknowledgementPoll::default();
        assert_eq!(poll.at(), None);
        poll.start(now);
        poll.start(now + SLOWEST_POLL);
        assert_eq!(poll.at(), Some(now + FIRST_POLL), "once started it goes on");
        let mut waits = Vec::new();
        for _ in 0..8 {
            poll.again(false, now);
            waits.push((poll.at().unwrap_or(now) - now).as_millis());
        }
        assert_eq!(waits, [2, 4, 8, 16, 20, 20, 20, 20]);
        poll.again(true, now);
        assert_eq!(poll.at(), Some(now + FIRST_POLL), "it goes on");
    }
}
