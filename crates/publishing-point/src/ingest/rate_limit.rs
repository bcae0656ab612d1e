//! Limits the bit rate of a push.
//!
//! TCP flow control delays what exceeds the rate; it is not refused. An encoder that resumes a push sends its queued
//! packets faster than the stream for a while, and would only come back with more if it were refused. If a stream
//! permanently exceeds the rate, the queue of its own encoder fills, and the encoder's policy decides what to drop. The
//! server accepts no more than its limit, and logs this.

use std::time::{Duration, Instant};

use crate::admission::token_bucket::{Rate, TokenBucket};

/// Stream time that may arrive at once.
const BURST_TIME: Duration = Duration::from_secs(5);
/// Bytes that may always arrive at once: the largest packet of the protocol (64 KiB), and what the server reads ahead.
/// Otherwise a low limit would delay every packet.
const MIN_BURST: f64 = 256.0 * 1024.0;

/// The rate limiter of one PushStart.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    /// `None` before the first bytes under a limit.
    bucket: Option<TokenBucket>,
    /// Whether the delay was logged, which happens once per PushStart.
    is_logged: bool,
}

impl RateLimiter {
    /// Returns a limiter that has seen no bytes.
    pub(crate) fn new() -> Self {
        Self { bucket: None, is_logged: false }
    }

    /// Returns how long to wait after these bytes before reading more. `bits` is the limit of the point in bit/s; 0
    /// means no limit.
    pub(crate) fn wait(&mut self, bytes: usize, bits: u64, point: &str, now: Instant) -> Duration {
        if bits == 0 {
            return Duration::ZERO;
        }
        #[expect(clippy::cast_precision_loss, reason = "no bit rate needs 53 bits")]
        let (per_second, bytes) = (bits as f64 / 8.0, bytes as f64);
        let rate = Rate { burst: (per_second * BURST_TIME.as_secs_f64()).max(MIN_BURST), per_second };
        let wait = self.bucket.get_or_insert_with(|| TokenBucket::full(rate, now)).take_on_credit(bytes, rate, now);
        if !wait.is_zero() && !self.is_logged {
            self.is_logged = true;
            tracing::warn!(point, bits, "push slowed down: its bit rate exceeds the point's `max-bitrate`");
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_beyond_the_rate_waits() {
        let (mut pace, start) = (RateLimiter::new(), Instant::now());
        let mut now = start;
        // 10 MB at 1 Mbit/s: 5 s of it at once, and the rest in 75 s.
        for _ in 0..1000 {
            now += pace.wait(10_000, 1_000_000, "concert", now);
        }
        assert_eq!((now - start).as_secs(), 75);
        assert!(pace.is_logged);
    }

    #[test]
    fn rate_0_is_no_limit_and_a_slower_stream_never_waits() {
        let (mut pace, mut now) = (RateLimiter::new(), Instant::now());
        assert_eq!(pace.wait(1 << 40, 0, "concert", now), Duration::ZERO);
        for _ in 0..1000 {
            now += Duration::from_millis(100);
            assert_eq!(pace.wait(12_000, 1_000_000, "concert", now), Duration::ZERO);
        }
        assert!(!pace.is_logged);
    }
}
