//! The recent errors of a point.

use std::collections::VecDeque;
use std::time::SystemTime;

/// Maximum number of errors that are kept.
const MAX_RECENT_ERRORS: usize = 20;

/// The recent errors. A repeated error only increases its count, so that it does not displace the others.
#[derive(Default)]
pub(crate) struct RecentErrors(VecDeque<RecentError>);

/// An error, with its count and its first and last time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecentError {
    pub(crate) text: String,
    pub(crate) count: u64,
    pub(crate) first: SystemTime,
    pub(crate) last: SystemTime,
}

impl RecentErrors {
    /// Adds an error, or counts it again and moves it to the front.
    pub(crate) fn add(&mut self, text: String, now: SystemTime) {
        let known = self.0.iter().position(|error| error.text == text).and_then(|at| self.0.remove(at));
        let (count, first) = known.map_or((1, now), |known| (known.count + 1, known.first));
        self.0.push_front(RecentError { text, count, first, last: now });
        self.0.truncate(MAX_RECENT_ERRORS);
    }

    /// Returns the errors, the latest first.
    pub(crate) fn latest(&self) -> impl Iterator<Item = &RecentError> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn errors_are_bounded_and_repetitions_counted() {
        let at = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let mut recent_errors = RecentErrors::default();
        for second in 0..100 {
            recent_errors.add(format!("number {second}"), at(second));
            recent_errors.add("busy".to_owned(), at(second));
        }
        let latest: Vec<_> = recent_errors.latest().collect();
        assert_eq!(latest.len(), MAX_RECENT_ERRORS);
        assert_eq!(*latest[0], RecentError { text: "busy".to_owned(), count: 100, first: at(0), last: at(99) });
        assert_eq!(latest[1].text, "number 99");
    }
}
