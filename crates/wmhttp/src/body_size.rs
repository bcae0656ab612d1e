//! How long a PushStart's body is made where a proxy is in the way (C-7).

use std::time::{Duration, Instant};

/// The Content-Length of a PushStart where nothing asks for another (C-7).
pub const DEFAULT_CONTENT_LENGTH: u64 = 2_147_483_647;

/// How much of the stream a body carries.
const TARGET_BODY_TIME: Duration = Duration::from_secs(60);
/// The first body, bytes, where the header names no bit rate. Small, since a proxy may hold a body back
/// until it is whole, and since nothing but a body's end tells the stream's real rate; large enough that at
/// 10 Mbit/s it is not over at once.
const FIRST_BODY_BYTES: u64 = 256 * 1024;
/// A body grows by this factor at most: what has gathered before a connection stood goes out faster than
/// the stream comes, and tells nothing of its rate.
const MAX_GROWTH_FACTOR: u64 = 8;

/// Finds the size from the rate at which the bodies before were filled.
#[derive(Debug, Default)]
pub(super) struct BodySizeEstimator {
    /// The body under way: its size, and when it began.
    body: Option<(u64, Instant)>,
    /// What the body before says of the next.
    measured: Option<u64>,
}

impl BodySizeEstimator {
    /// The size of the next body, bytes; `max_bitrate` is the header's, bits a second, 0 where it says nothing.
    pub(super) fn next(&self, max_bitrate: u32) -> u64 {
        let by_header = || match max_bitrate {
            0 => FIRST_BODY_BYTES,
            bits => u64::from(bits) / 8 * TARGET_BODY_TIME.as_secs(),
        };
        self.measured.unwrap_or_else(by_header).min(DEFAULT_CONTENT_LENGTH)
    }

    /// A body begins.
    pub(super) fn begin(&mut self, content_length: u64, now: Instant) {
        self.body = Some((content_length, now));
    }

    /// The body under way is full; it held so many bytes of data.
    pub(super) fn measure(&mut self, data: u64, now: Instant) {
        let Some((size, began)) = self.body.take() else { return };
        let millis = now.saturating_duration_since(began).as_millis().max(1);
        let target = u128::from(data) * TARGET_BODY_TIME.as_millis() / millis;
        let target = u64::try_from(target).unwrap_or(u64::MAX).min(size.saturating_mul(MAX_GROWTH_FACTOR));
        // A body of which data had no part tells nothing.
        if data > 0 {
            self.measured = Some(target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bodies of a stream of `rate` bytes a second, each filled at that rate: their lengths in seconds.
    fn seconds(rate: u64, backlog: Duration, max_bitrate: u32, count: usize) -> Vec<u64> {
        let mut now = Instant::now();
        let mut size = BodySizeEstimator::default();
        let mut owed = backlog.as_secs() * rate;
        let lengths = (0..count).map(|_| {
            let length = size.next(max_bitrate);
            size.begin(length, now);
            // What has gathered goes out at once.
            let at_once = owed.min(length);
            owed -= at_once;
            let time = Duration::from_secs_f64((length - at_once) as f64 / rate as f64);
            now += time;
            size.measure(length, now);
            time.as_secs()
        });
        lengths.collect()
    }

    /// C-7: about 60 s of the stream, once its rate is known.
    #[test]
    fn c7_bodies_come_to_a_minute() {
        for rate in [4_000, 16_000, 125_000, 1_250_000, 6_000_000] {
            let seconds = seconds(rate, Duration::ZERO, 0, 6);
            assert!(seconds[0] <= 66, "{rate}: {seconds:?}");
            assert!((58..=61).contains(&seconds[5]), "{rate}: {seconds:?}");
        }
        assert_eq!(seconds(125_000, Duration::ZERO, 1_000_000, 1), [60], "the header's rate");
    }

    /// C-7: a backlog that goes out in a burst does not make bodies of hours.
    #[test]
    fn c7_a_backlog_does_not_count() {
        let seconds = seconds(125_000, Duration::from_secs(10), 0, 6);
        assert!(seconds.iter().all(|seconds| *seconds < 150), "{seconds:?}");
        assert!((58..=61).contains(&seconds[5]), "{seconds:?}");
    }

    #[test]
    fn never_beyond_the_largest() {
        let mut size = BodySizeEstimator::default();
        let now = Instant::now();
        for _ in 0..20 {
            size.begin(size.next(0), now);
            size.measure(u64::from(u32::MAX), now);
        }
        assert_eq!(size.next(0), DEFAULT_CONTENT_LENGTH);
        assert_eq!(size.next(1), DEFAULT_CONTENT_LENGTH, "what was measured counts more");
    }
}
