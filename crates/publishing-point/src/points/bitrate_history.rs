//! The bit rates of a point in the last minutes, one value per second.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

/// Seconds of history.
pub(crate) const HISTORY_SECONDS: usize = 300;
/// Seconds over which the current rate is averaged, so that a single key frame does not change it.
const AVERAGING_SECONDS: usize = 5;

/// The bit rates of the last [`HISTORY_SECONDS`].
#[derive(Default)]
pub(crate) struct History {
    /// The latest rates are last.
    rates: VecDeque<Rates>,
    /// The previous sample, from which the next rate is computed.
    last: Option<Sample>,
}

/// Incoming and outgoing bit rates in bit/s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rates {
    pub(crate) input: u64,
    pub(crate) output: u64,
}

/// A point's counters at one time.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    pub(crate) time: SystemTime,
    /// Total bytes received.
    pub(crate) input: u64,
    /// Total bytes sent to players.
    pub(crate) output: u64,
}

impl History {
    /// Adds a sample, once a second. Seconds without a sample get the average rate.
    pub(crate) fn add(&mut self, sample: Sample) {
        let Some(last) = self.last.replace(sample) else { return };
        let elapsed = sample.at.saturating_duration_since(last.at).max(Duration::from_millis(1));
        let rate = |now: u64, before: u64| {
            // Bits per millisecond times 1000 are bits per second: 8 bits per byte, times 1000.
            let bits = u128::from(now.saturating_sub(before)) * 8000;
            u64::try_from(bits / elapsed.as_millis().max(1)).unwrap_or(u64::MAX)
        };
        let rates = Rates { input: rate(sample.input, last.input), output: rate(sample.output, last.output) };
        let seconds =
            // Rounded to whole seconds, because the timer may be a little early or late.
            usize::try_from((elapsed.as_millis() + 500) / 1000).unwrap_or(HISTORY_SECONDS).clamp(1, HISTORY_SECONDS);
        self.rates.extend(std::iter::repeat_n(rates, seconds));
        let surplus = self.rates.len().saturating_sub(HISTORY_SECONDS);
        self.rates.drain(..surplus);
    }

    /// Returns the rates of the last seconds, the latest last, and the time of the latest.
    pub(crate) fn latest(&self, seconds: usize) -> (Option<SystemTime>, impl Iterator<Item = Rates>) {
        let from = self.rates.len().saturating_sub(seconds);
        (self.last.map(|sample| sample.time), self.rates.range(from..).copied())
    }

    /// Returns the current rate.
    pub(crate) fn now(&self) -> Rates {
        let (_, latest) = self.latest(AVERAGING_SECONDS);
        let (mut count, mut sum) = (0, Rates::default());
        for rates in latest {
            count += 1;
            sum.input += rates.input;
            sum.output += rates.output;
        }
        Rates { input: sum.input.checked_div(count).unwrap_or(0), output: sum.output.checked_div(count).unwrap_or(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct SampleClock(Instant, u64);

    impl SampleClock {
        fn sample(&mut self, after_ms: u64, input: u64) -> Sample {
            self.1 += after_ms;
            let at = self.0 + Duration::from_millis(self.1);
            Sample { at, time: SystemTime::UNIX_EPOCH + Duration::from_millis(self.1), input, output: 2 * input }
        }
    }

    fn inputs(history: &History, seconds: usize) -> Vec<u64> {
        history.latest(seconds).1.map(|rates| rates.input).collect()
    }

    #[test]
    fn one_value_per_second_in_bits() {
        let mut clock = SampleClock(Instant::now(), 0);
        let mut history = History::default();
        history.add(clock.sample(0, 1000));
        assert_eq!(inputs(&history, 10), [] as [u64; 0]);
        history.add(clock.sample(1000, 2000));
        history.add(clock.sample(500, 2000));
        history.add(clock.sample(1000, 3000));
        assert_eq!(inputs(&history, 10), [8000, 0, 8000]);
        assert_eq!(inputs(&history, 2), [0, 8000]);
        assert_eq!(history.now(), Rates { input: 5333, output: 10_666 });
        let (end, _) = history.latest(1);
        assert_eq!(end, Some(SystemTime::UNIX_EPOCH + Duration::from_millis(2500)));
    }

    #[test]
    fn missing_seconds_are_filled_and_the_history_is_bounded() {
        let mut clock = SampleClock(Instant::now(), 0);
        let mut history = History::default();
        history.add(clock.sample(0, 0));
        history.add(clock.sample(3100, 3100));
        assert_eq!(inputs(&history, 10), [8000; 3]);
        for _ in 0..2 * HISTORY_SECONDS {
            history.add(clock.sample(1000, 3100));
        }
        assert_eq!(inputs(&history, usize::MAX), [0; HISTORY_SECONDS]);
        history.add(clock.sample(10_000_000, 3100));
        assert_eq!(inputs(&history, usize::MAX).len(), HISTORY_SECONDS);
        assert_eq!(history.now(), Rates::default());
    }
}
