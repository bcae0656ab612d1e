//! Chooses the Content-Length of a PushStart through a proxy (C-7).

use std::time::{Duration, Instant};

/// The Content-Length of a PushStart if nothing requires another (C-7).
pub const DEFAULT_CONTENT_LENGTH: u64 = 2_147_483_647;

/// The duration of the stream that a body through a proxy should carry (C-7).
const TARGET_BODY_TIME: Duration = Duration::from_secs(60);
/// Size of the first body in bytes if the ASF header has no bit rate. It is small because a proxy may hold a body back
/// until it is complete, and because the stream's actual rate is known only at the end of a body. It is large enough
/// that a body at 10 Mbit/s is not full immediately.
const FIRST_BODY_BYTES: u64 = 256 * 1024;
/// Maximum growth factor from one body to the next. Data that was buffered before the connection was established is
/// sent faster than the stream's rate, so it must not be used to measure the rate.
const MAX_GROWTH_FACTOR: u64 = 8;

/// Computes the size of the next body from the rate at which earlier bodies were filled.
#[derive(Debug, Default)]
pub(super) struct BodySizeEstimator {
    /// The current body: its size and start time.
    body: Option<(u64, Instant)>,
    /// The size computed from the previous body.
    measured: Option<u64>,
}

impl BodySizeEstimator {
    /// Returns the size of the next body in bytes. `max_bitrate` is the ASF header's rate in bit/s, or 0 if it has
    /// none.
    pub(super) fn next(&self, max_bitrate: u32) -> u64 {
        let by_header = || match max_bitrate {
            0 => FIRST_BODY_BYTES,
            bits => u64::from(bits) / 8 * TARGET_BODY_TIME.as_secs(),
        };
        self.measured.unwrap_or_else(by_header).min(DEFAULT_CONTENT_LENGTH)
    }

    /// Records the start of a body.
    pub(super) fn begin(&mut self, content_length: u64, now: Instant) {
        self.body = Some((content_length, now));
    }

    /// Records that the current body is full and contained `data` bytes of data.
    pub(super) fn measure(&mut self, data: u64, now: Instant) {
        let Some((size, began)) = self.body.take() else { return };
        // A body that is full at once would divide by zero.
        let millis = now.saturating_duration_since(began).as_millis().max(1);
        let target = u128::from(data) * TARGET_BODY_TIME.as_millis() / millis;
        let target = u64::try_from(target).unwrap_or(u64::MAX).min(size.saturating_mul(MAX_GROWTH_FACTOR));
        // A body without data does not measure the rate.
        if data > 0 {
            self.measured = Some(target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The durations in seconds of consecutive bodies of a stream with `rate` byte/s, each filled at that rate.
    fn seconds(rate: u64, backlog: Duration, max_bitrate: u32, count: usize) -> Vec<u64> {
        let mut now = Instant::now();
        let mut size = BodySizeEstimator::default();
        let mut owed = backlog.as_secs() * rate;
        let lengths = (0..count).map(|_| {
            let length = size.next(max_bitrate);
            size.begin(length, now);
            // The backlog is sent immediately.
            let at_once = owed.min(length);
            owed -= at_once;
            let time = Duration::from_secs_f64((length - at_once) as f64 / rate as f64);
            now += time;
            size.measure(length, now);
            time.as_secs()
        });
        lengths.collect()
    }

    /// C-7: a body lasts about 60 s once the stream's rate is known.
    #[test]
    fn c7_a_body_lasts_about_a_minute() {
        for rate in [4_000, 16_000, 125_000, 1_250_000, 6_000_000] {
            let seconds = seconds(rate, Duration::ZERO, 0, 6);
            assert!(seconds[0] <= 66, "{rate}: {seconds:?}");
            assert!((58..=61).contains(&seconds[5]), "{rate}: {seconds:?}");
        }
        assert_eq!(seconds(125_000, Duration::ZERO, 1_000_000, 1), [60], "the header's rate");
    }

    /// C-7: a backlog sent in a burst must not result in bodies that last for hours.
    #[test]
    fn c7_a_backlog_does_not_count() {
        let seconds = seconds(125_000, Duration::from_secs(10), 0, 6);
        assert!(seconds.iter().all(|seconds| *seconds < 150), "{seconds:?}");
        assert!((58..=61).contains(&seconds[5]), "{seconds:?}");
    }

    #[test]
    fn never_larger_than_the_maximum() {
        let mut size = BodySizeEstimator::default();
        let now = Instant::now();
        for _ in 0..20 {
            size.begin(size.next(0), now);
            size.measure(u64::from(u32::MAX), now);
        }
        assert_eq!(size.next(0), DEFAULT_CONTENT_LENGTH);
        assert_eq!(size.next(1), DEFAULT_CONTENT_LENGTH, "the measured size takes precedence");
    }
}
