//! How fast a pusher may send.
//!
//! What is beyond the rate is held back by TCP, not refused: a pusher that takes a broken push up again sends
//! what has gathered faster than the stream for a while, and would come back at once, with more. A stream that
//! is too fast for good fills its own encoder's queue, whose policy then decides what is left out; the server
//! takes no more of it than it was told to bear, and the log says so.

use std::time::{Duration, Instant};

use crate::admission::token_bucket::{Rate, TokenBucket};

/// Stream time that may come at once.
const BURST_TIME: Duration = Duration::from_secs(5);
/// Bytes that may come at once in any case: the largest packets of the protocol, and what is read ahead.
const LEAST_BURST: f64 = 256.0 * 1024.0;

/// The pace of one PushStart.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    bucket: Option<TokenBucket>,
    told: bool,
}

impl RateLimiter {
    pub(crate) fn new() -> Self {
        Self { bucket: None, told: false }
    }

    /// How long to wait after these bytes until more are read, by the point's bits a second; 0 is no limit.
    pub(crate) fn wait(&mut self, bytes: usize, bits: u64, point: &str, now: Instant) -> Duration {
        if bits == 0 {
            return Duration::ZERO;
        }
        #[expect(clippy::cast_precision_loss, reason = "no bit rate needs 53 bits")]
        let (per_second, bytes) = (bits as f64 / 8.0, bytes as f64);
        let rate = Rate { burst: (per_second * BURST_TIME.as_secs_f64()).max(LEAST_BURST), per_second };
        let wait = self.bucket.get_or_insert_with(|| TokenBucket::full(rate, now)).owe(bytes, rate, now);
        if !wait.is_zero() && !self.told {
            self.told = true;
            tracing::warn!(point, bits, "push slowed down: it exceeds the point's max-bitrate");
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_rate_waits() {
        let (mut pace, start) = (RateLimiter::new(), Instant::now());
        let mut now = start;
        // 10 MB at 1 Mbit/s: 5 s worth at once, 75 s the rest.
        for _ in 0..1000 {
            now += pace.wait(10_000, 1_000_000, "concert", now);
        }
        assert_eq!((now - start).as_secs(), 75);
        assert!(pace.told);
    }

    #[test]
    fn no_rate_is_no_limit_and_a_slower_stream_never_waits() {
        let (mut pace, mut now) = (RateLimiter::new(), Instant::now());
        assert_eq!(pace.wait(1 << 40, 0, "concert", now), Duration::ZERO);
        for _ in 0..1000 {
            now += Duration::from_millis(100);
            assert_eq!(pace.wait(12_000, 1_000_000, "concert", now), Duration::ZERO);
        }
        assert!(!pace.told);
    }
}
