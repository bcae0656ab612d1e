//! On which requests a fault is due.

use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// On which of the requests with its moment a fault is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    /// On every request.
    #[default]
    Each,
    /// On the first request only.
    Once,
    /// On every request whose number, starting with 1, is divisible by this.
    Every(u64),
    /// On a random percentage of the requests. The same seed selects the same requests.
    Chance {
        /// The percentage, 0 to 100.
        percent: u32,
        /// The seed of the random sequence.
        seed: u64,
    },
}

/// Counts the requests with a fault's moment.
#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    /// Counts a request; returns whether the fault is due on it.
    pub(super) fn is_due(&self, turns: Schedule) -> bool {
        let number = self.0.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        match turns {
            Schedule::Each => true,
            Schedule::Once => number == 1,
            Schedule::Every(step) => number.is_multiple_of(step),
            Schedule::Chance { percent, seed } => {
                // Each number has its own generator, so that concurrent requests do not change the result.
                let lot = StdRng::seed_from_u64(seed.rotate_left(32) ^ number).random_range(0..100);
                lot < percent
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(turns: Schedule) -> Vec<u64> {
        let counter = Counter::default();
        (1..=1000).filter(|_| counter.is_due(turns)).collect()
    }

    #[test]
    fn turns_select_requests() {
        assert_eq!(due(Schedule::Each).len(), 1000);
        assert_eq!(due(Schedule::Once), [1]);
        assert_eq!(due(Schedule::Every(400)), [400, 800]);
    }

    #[test]
    fn the_same_seed_selects_the_same_requests() {
        let chance = |percent, seed| due(Schedule::Chance { percent, seed });
        assert_eq!(chance(20, 7), chance(20, 7));
        assert_ne!(chance(20, 7), chance(20, 8));
        assert!((150..250).contains(&chance(20, 7).len()), "{}", chance(20, 7).len());
        assert_eq!((chance(0, 1).len(), chance(100, 1).len()), (0, 1000));
    }
}
