//! Measures the recent bit rate.

use std::time::{Duration, Instant};

/// The time over which the rate is averaged.
const AVERAGING_WINDOW: Duration = Duration::from_secs(2);

/// Counts the bytes of the last `AVERAGING_WINDOW` with only two counters.
#[derive(Clone, Debug, Default)]
pub struct Bitrate {
    /// Start of the current window.
    since: Option<Instant>,
    /// Bytes in the current window, and in the previous one.
    bytes: u64,
    before: u64,
}

impl Bitrate {
    /// Records that `bytes` were sent.
    pub fn add(&mut self, bytes: u64, now: Instant) {
        match self.since {
            Some(since) if now.saturating_duration_since(since) < AVERAGING_WINDOW => {}
            Some(since) => {
                // After a pause of more than a window, nothing of the old one is within the averaging time.
                let next_to = now.saturating_duration_since(since) < AVERAGING_WINDOW * 2;
                self.before = if next_to { self.bytes } else { 0 };
                self.bytes = 0;
                self.since = Some(if next_to { since + AVERAGING_WINDOW } else { now });
            }
            None => self.since = Some(now),
        }
        self.bytes += bytes;
    }

    /// Returns the current rate in bit/s.
    pub fn current(&self, now: Instant) -> u64 {
        let mut moved = self.clone();
        moved.add(0, now);
        let Some(since) = moved.since else { return 0 };
        // The fraction of the previous window that is still within the averaging time.
        let part = 1.0 - now.saturating_duration_since(since).as_secs_f64() / AVERAGING_WINDOW.as_secs_f64();
        let bytes = moved.bytes as f64 + moved.before as f64 * part;
        (bytes * 8.0 / AVERAGING_WINDOW.as_secs_f64()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_a_steady_flow_and_after_its_end() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut rate = Bitrate::default();
        assert_eq!(rate.current(at(0)), 0);
        for n in 0..=100 {
            rate.add(5_000, at(n * 100));
        }
        for ms in [10_000, 10_050] {
            let bits = rate.current(at(ms));
            assert!((360_000..=440_000).contains(&bits), "{bits} at {ms}");
        }
        let halved = rate.current(at(11_500));
        assert!((80_000..250_000).contains(&halved), "{halved}");
        assert_eq!(rate.current(at(20_000)), 0);
    }
}
