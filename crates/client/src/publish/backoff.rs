//! Computes retry delays.

use std::time::Duration;

/// Growth factor of the delay from one failure to the next.
const FACTOR: f64 = 1.5;
/// Random fraction added to each delay, so that many encoders do not reconnect simultaneously.
const JITTER: f64 = 0.2;

/// The retry policy of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether to retry at all.
    pub reconnect: bool,
    /// Maximum number of consecutive retries; `None` means unlimited.
    pub retries: Option<u32>,
    /// Delay after the first failure.
    pub delay: Duration,
    /// Maximum delay.
    pub delay_max: Duration,
    /// Delay after a failure that retrying alone cannot fix, for a caller that waits until somebody has fixed it;
    /// `None` gives up.
    pub after_refusal: Option<Duration>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            reconnect: true,
            retries: None,
            delay: Duration::from_millis(1000),
            delay_max: Duration::from_millis(30_000),
            after_refusal: None,
        }
    }
}

/// Counts consecutive failures.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Returns the number of failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Records a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Records a failure that retrying alone cannot fix. Returns the delay before the next attempt, or `None` to give
    /// up.
    pub fn refused(&mut self, policy: &Policy) -> Option<Duration> {
        let delay = policy.after_refusal.filter(|_| policy.reconnect)?;
        self.failures = self.failures.saturating_add(1);
        Some(delay)
    }

    /// Records a failure. Returns the delay before the next attempt, or `None` to give up. `had_streamed` makes the
    /// first retry immediate, `asked` is the server's Retry-After, and `random` is uniform in 0..1.
    pub fn fail(
        &mut self,
        policy: &Policy,
        had_streamed: bool,
        asked: Option<Duration>,
        random: f64,
    ) -> Option<Duration> {
        let earlier = self.failures;
        self.failures = earlier.saturating_add(1);
        if !policy.reconnect || policy.retries.is_some_and(|retries| earlier >= retries) {
            return None;
        }
        let delay = if earlier == 0 && had_streamed {
            Duration::ZERO
        } else {
            // The immediate retry after a loss does not count, so that the second one waits for the initial delay. The
            // exponent is limited because the result is bounded by `delay_max` long before.
            let steps = i32::try_from(earlier.saturating_sub(u32::from(had_streamed))).unwrap_or(i32::MAX);
            let grown = policy.delay.as_secs_f64() * FACTOR.powi(steps.min(100));
            let bounded = grown.min(policy.delay_max.as_secs_f64());
            Duration::from_secs_f64(bounded * (1.0 + JITTER * (2.0 * random - 1.0)))
        };
        // The server's Retry-After can only prolong the delay: it does not know how often this client has failed.
        Some(asked.map_or(delay, |asked| delay.max(asked)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: f64 = 0.5;

    fn delays(policy: &Policy, had_streamed: bool, count: usize) -> Vec<Option<u128>> {
        let mut backoff = Backoff::default();
        (0..count).map(|_| backoff.fail(policy, had_streamed, None, MIDDLE).map(|delay| delay.as_millis())).collect()
    }

    #[test]
    fn the_delay_grows_up_to_its_limit() {
        let policy = Policy { delay_max: Duration::from_millis(2000), ..Policy::default() };
        assert_eq!(delays(&policy, false, 4), [Some(1000), Some(1500), Some(2000), Some(2000)]);
    }

    #[test]
    fn the_first_retry_of_a_stream_is_immediate() {
        assert_eq!(delays(&Policy::default(), true, 3), [Some(0), Some(1000), Some(1500)]);
    }

    #[test]
    fn gives_up_after_the_retries() {
        let policy = Policy { retries: Some(2), ..Policy::default() };
        assert_eq!(delays(&policy, false, 3).last(), Some(&None));
        assert_eq!(delays(&Policy { retries: Some(0), ..policy }, false, 1), [None]);
        assert_eq!(delays(&Policy { reconnect: false, ..policy }, false, 1), [None]);
    }

    #[test]
    fn jitter_is_up_to_a_fifth_and_retry_after_is_the_minimum() {
        let policy = Policy::default();
        for (random, expected) in [(0.0, 800), (1.0, 1200)] {
            assert_eq!(Backoff::default().fail(&policy, false, None, random).unwrap().as_millis(), expected);
        }
        let asked = Some(Duration::from_secs(9));
        assert_eq!(Backoff::default().fail(&policy, true, asked, MIDDLE), asked);
    }

    /// A rejection is not a network failure: it does not begin with a short delay, and does not shorten the next one.
    #[test]
    fn rejections_have_a_separate_delay() {
        let policy = Policy { after_refusal: Some(Duration::from_secs(300)), ..Policy::default() };
        let mut backoff = Backoff::default();
        assert_eq!(backoff.refused(&policy), policy.after_refusal);
        assert_eq!(backoff.fail(&policy, false, None, MIDDLE), Some(Duration::from_millis(1500)));
        assert_eq!((backoff.refused(&Policy::default()), backoff.failures()), (None, 2));
        assert_eq!(Backoff::default().refused(&Policy { reconnect: false, ..policy }), None);
    }

    #[test]
    fn never_overflows() {
        let mut backoff = Backoff { failures: u32::MAX - 1 };
        assert_eq!(backoff.fail(&Policy::default(), false, None, MIDDLE), Some(Duration::from_secs(30)));
        assert_eq!(backoff.failures(), u32::MAX);
    }
}
