//! A token bucket, which allows a burst and then a steady rate.

use std::time::{Duration, Instant};

/// The size of a bucket, and how fast it fills.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate {
    /// Maximum tokens.
    pub(crate) burst: f64,
    /// Tokens per second.
    pub(crate) per_second: f64,
}

/// A bucket, initially full. The rate is passed to each call instead of stored, so that a reload of the configuration
/// applies to existing buckets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenBucket {
    /// Tokens at `updated_at`; negative while credit is outstanding.
    tokens: f64,
    updated_at: Instant,
}

impl TokenBucket {
    /// Creates a full bucket.
    pub(crate) fn full(rate: Rate, now: Instant) -> Self {
        Self { tokens: rate.burst, updated_at: now }
    }

    /// Takes this many tokens if they are available; otherwise takes nothing and returns `false`.
    pub(crate) fn take(&mut self, tokens: f64, rate: Rate, now: Instant) -> bool {
        self.fill(rate, now);
        let enough = self.tokens >= tokens;
        if enough {
            self.tokens -= tokens;
        }
        enough
    }

    /// Takes this many tokens on credit; returns the time until the credit is paid back.
    pub(crate) fn take_on_credit(&mut self, tokens: f64, rate: Rate, now: Instant) -> Duration {
        self.fill(rate, now);
        self.tokens -= tokens;
        Self::time_to_earn(-self.tokens, rate)
    }

    /// Returns the time until this many tokens are available.
    pub(crate) fn time_until(&mut self, tokens: f64, rate: Rate, now: Instant) -> Duration {
        self.fill(rate, now);
        Self::time_to_earn(tokens - self.tokens, rate)
    }

    /// Adds the tokens earned since the last call, up to the burst.
    fn fill(&mut self, rate: Rate, now: Instant) {
        let earned = now.saturating_duration_since(self.updated_at).as_secs_f64() * rate.per_second;
        self.tokens = (self.tokens + earned).min(rate.burst);
        // Callers on several threads may pass times that are slightly out of order.
        self.updated_at = self.updated_at.max(now);
    }

    /// Returns the time in which this many tokens are earned.
    fn time_to_earn(tokens: f64, rate: Rate) -> Duration {
        if tokens <= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(tokens / rate.per_second).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3.0, per_second: 2.0 };

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(RATE, start);
        let mut taken = 0;
        for tenth in 0..=100 {
            taken += u32::from(bucket.take(1.0, RATE, start + Duration::from_millis(100 * tenth)));
        }
        // Three at once, and two per second for ten seconds.
        assert_eq!(taken, 23);
        assert!(bucket.time_until(1.0, RATE, start + Duration::from_secs(10)) > Duration::ZERO);
        assert_eq!(bucket.time_until(3.0, RATE, start + Duration::from_secs(90)), Duration::ZERO);
        // Time that goes backwards adds no tokens.
        assert!(bucket.take(3.0, RATE, start + Duration::from_secs(90)));
        assert!(!bucket.take(1.0, RATE, start));
        assert!(!bucket.take(1.0, RATE, start + Duration::from_secs(90)));
    }

    #[test]
    fn credit_is_paid_back_in_time() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(RATE, start);
        assert_eq!(bucket.take_on_credit(3.0, RATE, start), Duration::ZERO);
        assert_eq!(bucket.take_on_credit(4.0, RATE, start), Duration::from_secs(2));
        assert_eq!(bucket.take_on_credit(0.0, RATE, start + Duration::from_secs(1)), Duration::from_secs(1));
    }
}
