//! When packets are left to gather: one wake-up and one write for many of them, where many come.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use crate::packet_buffer::Reader;

/// How long packets are left to gather.
const BATCH_INTERVAL: Duration = Duration::from_millis(1);
/// Bytes that are enough before that.
const MAX_BATCH_BYTES: u64 = 1024 * 1024;
/// Turns that a stream is ahead of one a period before its packets gather: the packets of a picture come all at
/// once, and none of them shall wait for a timer.
const BURST_BATCHES: u32 = 8;

/// Counts turns against time. A stream that takes no more than one turn a period, but for bursts, has each packet
/// sent at once.
#[derive(Debug)]
pub(super) struct WriteCoalescer {
    credit: u32,
    last: Option<Instant>,
}

impl Default for WriteCoalescer {
    fn default() -> Self {
        Self { credit: BURST_BATCHES, last: None }
    }
}

impl WriteCoalescer {
    /// Packets were taken.
    pub(super) fn taken(&mut self, now: Instant) {
        let passed = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let periods = u32::try_from(passed.as_micros() / BATCH_INTERVAL.as_micros()).unwrap_or(BURST_BATCHES);
        self.credit = self.credit.saturating_add(periods).min(BURST_BATCHES).saturating_sub(1);
        self.last = Some(now);
    }

    /// When packets were last taken.
    pub(super) fn last(&self) -> Option<Instant> {
        self.last
    }

    /// Until when those that come now are left to gather, where they are.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        let until = self.last.filter(|_| self.credit == 0)? + BATCH_INTERVAL;
        (now < until).then_some(until)
    }
}

/// Waits for packets; until `gather_until` only for many of them.
pub(super) async fn wait_for_batch(reader: &Reader, gather_until: Option<Instant>) {
    if let Some(until) = gather_until {
        tokio::select! {
            // In this order: to set a timer may take a system call.
            biased;
            () = reader.ready(MAX_BATCH_BYTES) => return,
            () = sleep_until(until.into()) => {}
        }
    }
    reader.ready(1).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_are_sent_at_once_and_floods_gather() {
        let begun = Instant::now();
        let at = |us| begun + Duration::from_micros(us);
        let mut coalescer = WriteCoalescer::default();
        assert_eq!(coalescer.until(begun), None);
        for turn in 1..BURST_BATCHES {
            coalescer.taken(at(20 * u64::from(turn)));
            assert_eq!(coalescer.until(at(200)), None, "turn {turn}");
        }
        coalescer.taken(at(300));
        assert_eq!(coalescer.until(at(310)), Some(at(1300)), "a flood");
        assert_eq!(coalescer.until(at(1300)), None, "it has gathered");
        coalescer.taken(at(1310));
        assert_eq!(coalescer.until(at(1320)), Some(at(2310)), "the flood goes on");
        // 40 ms later, the next picture.
        for turn in 1..BURST_BATCHES {
            coalescer.taken(at(41_000 + u64::from(turn)));
            assert_eq!(coalescer.until(at(41_100)), None, "turn {turn}");
        }
    }

    #[test]
    fn a_turn_a_period_never_gathers() {
        let begun = Instant::now();
        let mut coalescer = WriteCoalescer::default();
        for turn in 0..1000 {
            let now = begun + BATCH_INTERVAL * turn;
            assert_eq!(coalescer.until(now), None, "turn {turn}");
            coalescer.taken(now);
        }
    }
}
