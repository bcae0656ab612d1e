//! Decides when to collect packets, so that many packets need only one wake-up and one write.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use crate::packet_buffer::Reader;

/// Maximum time for which packets are collected.
const BATCH_INTERVAL: Duration = Duration::from_millis(1);
/// Number of bytes that end the wait early.
const MAX_BATCH_BYTES: u64 = 1024 * 1024;
/// Number of batches that may be sent without waiting before packets are collected. The packets of one picture arrive
/// together, and none of them should wait for a timer.
const BURST_BATCHES: u32 = 8;

/// Counts batches against time. A stream with no more than one batch per interval, apart from bursts, has each packet
/// sent immediately.
#[derive(Debug)]
pub(super) struct WriteCoalescer {
    /// Number of batches that may be sent without waiting. One is added for each interval, up to [`BURST_BATCHES`].
    credit: u32,
    /// When packets were last taken.
    last: Option<Instant>,
}

impl Default for WriteCoalescer {
    fn default() -> Self {
        Self { credit: BURST_BATCHES, last: None }
    }
}

impl WriteCoalescer {
    /// Records that packets were taken.
    pub(super) fn taken(&mut self, now: Instant) {
        let passed = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let periods = u32::try_from(passed.as_micros() / BATCH_INTERVAL.as_micros()).unwrap_or(BURST_BATCHES);
        self.credit = self.credit.saturating_add(periods).min(BURST_BATCHES).saturating_sub(1);
        self.last = Some(now);
    }

    /// Returns when packets were last taken.
    pub(super) fn last(&self) -> Option<Instant> {
        self.last
    }

    /// Returns until when arriving packets must be collected; `None` if they are sent immediately.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        let until = self.last.filter(|_| self.credit == 0)? + BATCH_INTERVAL;
        (now < until).then_some(until)
    }
}

/// Waits for a packet. Until `gather_until`, it waits for a large batch instead.
pub(super) async fn wait_for_batch(reader: &Reader, collect_until: Option<Instant>) {
    if let Some(until) = collect_until {
        tokio::select! {
            // In this order, because setting a timer may need a system call.
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
    fn bursts_are_sent_immediately_and_floods_are_batched() {
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
        assert_eq!(coalescer.until(at(1300)), None, "the wait is over");
        coalescer.taken(at(1310));
        assert_eq!(coalescer.until(at(1320)), Some(at(2310)), "the flood continues");
        // The next picture arrives 40 ms later.
        for turn in 1..BURST_BATCHES {
            coalescer.taken(at(41_000 + u64::from(turn)));
            assert_eq!(coalescer.until(at(41_100)), None, "turn {turn}");
        }
    }

    #[test]
    fn one_batch_per_interval_is_never_delayed() {
        let begun = Instant::now();
        let mut coalescer = WriteCoalescer::default();
        for turn in 0..1000 {
            let now = begun + BATCH_INTERVAL * turn;
            assert_eq!(coalescer.until(now), None, "turn {turn}");
            coalescer.taken(now);
        }
    }
}
