//! Decides when to collect packets, so that many packets need only one wake-up and one write.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use crate::packet_buffer::Reader;

/// Maximum time for which packets are collected.
const BATCH_INTERVAL: Duration = Duration::from_millis(1);
/// The time that the packets of one batch should span in a stream of steady rate.
const BATCH_SPAN: Duration = Duration::from_micros(350);
/// A stream that brings as much within [`BATCH_SPAN`] is so fast that its batches fill the connection's queue anyway, so it
/// is collected for the whole [`BATCH_INTERVAL`].
const FLOOD_BYTES: u64 = 64 * 1024;
/// Number of bytes that end the wait early if the stream is faster than that.
const MAX_BATCH_BYTES: u64 = 1024 * 1024;
/// Number of batches that may be sent without waiting before packets are collected. The packets of one picture arrive
/// together, and none of them should wait for a timer.
const BURST_BATCHES: u32 = 32;

/// Counts batches against time. A stream with no more than one batch per interval, apart from bursts, has each packet
/// sent immediately.
#[derive(Debug)]
pub(super) struct WriteCoalescer {
    /// Number of batches that may be sent without waiting. One is added for each interval, up to [`BURST_BATCHES`].
    credit: u32,
    /// When packets were last taken.
    last: Option<Instant>,
    /// The average rate of the last batches in bytes per [`BATCH_SPAN`].
    span_bytes: u64,
}

/// Until when packets are collected, and how many bytes end this earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchWait {
    until: Instant,
    bytes: u64,
}

impl Default for WriteCoalescer {
    fn default() -> Self {
        Self { credit: BURST_BATCHES, last: None, span_bytes: 0 }
    }
}

impl WriteCoalescer {
    /// Records that packets of this many bytes were taken.
    pub(super) fn taken(&mut self, bytes: u64, now: Instant) {
        let passed = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let periods = u32::try_from(micros(passed) / micros(BATCH_INTERVAL)).unwrap_or(BURST_BATCHES);
        self.credit = self.credit.saturating_add(periods).min(BURST_BATCHES).saturating_sub(1);
        let latest = bytes.saturating_mul(micros(BATCH_SPAN)) / micros(passed).max(1);
        self.span_bytes = (self.span_bytes.saturating_mul(7).saturating_add(latest)) / 8;
        self.last = Some(now);
    }

    /// Returns when packets were last taken.
    pub(super) fn last(&self) -> Option<Instant> {
        self.last
    }

    /// Returns how arriving packets must be collected; `None` if they are sent immediately.
    pub(super) fn batch_wait(&self, now: Instant) -> Option<BatchWait> {
        let until = self.last.filter(|_| self.credit == 0)? + BATCH_INTERVAL;
        let bytes = if self.span_bytes < FLOOD_BYTES { self.span_bytes.max(1) } else { MAX_BATCH_BYTES };
        (now < until).then_some(BatchWait { until, bytes })
    }
}

/// Waits for a packet, or while packets are collected, for a large batch.
pub(super) async fn wait_for_batch(reader: &Reader, batch_wait: Option<BatchWait>) {
    if let Some(BatchWait { until, bytes }) = batch_wait {
        tokio::select! {
            // In this order, because setting a timer may need a system call.
            biased;
            () = reader.ready(bytes) => return,
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
        let until = |us| Some(BatchWait { until: at(us), bytes: MAX_BATCH_BYTES });
        let mut coalescer = WriteCoalescer::default();
        assert_eq!(coalescer.batch_wait(begun), None);
        for turn in 1..BURST_BATCHES {
            coalescer.taken(FLOOD_BYTES, at(20 * u64::from(turn)));
            assert_eq!(coalescer.batch_wait(at(700)), None, "turn {turn}");
        }
        coalescer.taken(FLOOD_BYTES, at(800));
        assert_eq!(coalescer.batch_wait(at(810)), until(1800), "a flood");
        assert_eq!(coalescer.batch_wait(at(1800)), None, "the wait is over");
        coalescer.taken(MAX_BATCH_BYTES, at(1810));
        assert_eq!(coalescer.batch_wait(at(1820)), until(2810), "the flood continues");
        // The next picture arrives 40 ms later.
        for turn in 1..BURST_BATCHES {
            coalescer.taken(FLOOD_BYTES, at(41_000 + 20 * u64::from(turn)));
            assert_eq!(coalescer.batch_wait(at(41_900)), None, "turn {turn}");
        }
    }

    #[test]
    fn one_batch_per_interval_is_never_delayed() {
        let begun = Instant::now();
        let mut coalescer = WriteCoalescer::default();
        for turn in 0..1000 {
            let now = begun + BATCH_INTERVAL * turn;
            assert_eq!(coalescer.batch_wait(now), None, "turn {turn}");
            coalescer.taken(3200, now);
        }
    }

    #[test]
    fn a_steady_stream_is_collected_for_less_than_the_interval() {
        let begun = Instant::now();
        let mut coalescer = WriteCoalescer::default();
        // 100 Mbit/s in packets of 3,200 bytes.
        let interval = Duration::from_micros(256);
        for turn in 1..1000 {
            coalescer.taken(3200, begun + interval * turn);
        }
        let batch_wait = coalescer.batch_wait(begun + interval * 999).unwrap();
        assert!((3200..6400).contains(&batch_wait.bytes), "{batch_wait:?}: the second packet ends the wait");
    }
}
