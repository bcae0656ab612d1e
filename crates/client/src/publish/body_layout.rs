//! Where the body under way has other bytes than data packets, and which of its bytes are fresh.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Control packets of a body whose places are remembered.
const CONTROL_KEPT: usize = 64;
/// A server that reads has read what went longer ago than this, …
const UNREAD_WINDOW: Duration = Duration::from_secs(2);
/// … unless it is among the last so many bytes, which its system and its HTTP library take for it, …
const FRESH_LEAST: u64 = 256 * 1024;
/// … and no more than these, however fast they come.
const MAX_UNREAD_BYTES: u64 = 8 * 1024 * 1024;
/// How far apart the body's lengths are noted.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

/// Tells how much of a body's tail is data, which the buffer can give once more; control packets the session makes
/// anew.
#[derive(Default)]
pub(super) struct BodyMap {
    since: Option<Instant>,
    len: u64,
    /// Offset and length of control packets.
    control: Vec<(u64, u64)>,
    /// Moments, and how long the body was then; the first is [`UNREAD_WINDOW`] old or the body's first.
    lengths: VecDeque<(Instant, u64)>,
}

impl BodyMap {
    /// A body that begins now.
    pub(super) fn begun(now: Instant) -> Self {
        Self { since: Some(now), ..Self::default() }
    }

    /// How long ago the body began.
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::MAX, |since| now.saturating_duration_since(since))
    }

    /// Bytes of the whole body so far.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Data packets of so many framed bytes are appended.
    pub(super) fn data(&mut self, len: u64, now: Instant) {
        let age = |at: &(Instant, u64)| now.saturating_duration_since(at.0);
        if self.lengths.back().is_none_or(|last| age(last) >= SAMPLE_INTERVAL) {
            self.lengths.push_back((now, self.len));
        }
        while self.lengths.get(1).is_some_and(|second| age(second) >= UNREAD_WINDOW) {
            self.lengths.pop_front();
        }
        self.len += len;
    }

    /// Bytes at the end of the body that the server may not have read, though its system has acknowledged them. Only
    /// an answer at the body's end would tell.
    pub(super) fn fresh(&self, now: Instant) -> u64 {
        let age = |at: &(Instant, u64)| now.saturating_duration_since(at.0);
        let old = self.lengths.iter().rev().find(|at| age(at) >= UNREAD_WINDOW);
        let since = self.len - old.map_or(0, |(_, len)| *len);
        since.clamp(FRESH_LEAST, MAX_UNREAD_BYTES).min(self.len)
    }

    /// A control packet of so many framed bytes was appended.
    pub(super) fn control(&mut self, len: u64) {
        // Older ones have long arrived: a body without end must not keep them all.
        if self.control.len() == CONTROL_KEPT {
            self.control.remove(0);
        }
        self.control.push((self.len, len));
        self.len += len;
    }

    /// Bytes of data packets among the last `bytes` of the body.
    pub(super) fn data_in_last(&self, bytes: u64) -> u64 {
        let bytes = bytes.min(self.len);
        let from = self.len - bytes;
        let overlap = |(start, len): &(u64, u64)| (start + len).saturating_sub(*start.max(&from));
        bytes - self.control.iter().map(overlap).sum::<u64>().min(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_bytes_at_the_end_of_a_body() {
        let mut body = BodyMap::default();
        body.control(10);
        let now = Instant::now();
        body.data(100, now);
        body.control(20);
        body.data(50, now);
        for (last, data) in
            [(0, 0), (50, 50), (60, 50), (70, 50), (80, 60), (170, 150), (175, 150), (180, 150), (999, 150)]
        {
            assert_eq!(body.data_in_last(last), data, "{last}");
        }
    }

    #[test]
    fn a_body_without_end_keeps_few_control_packets() {
        let mut body = BodyMap::default();
        for _ in 0..1000 {
            body.control(20);
            body.data(100, Instant::now());
        }
        assert_eq!(body.control.len(), CONTROL_KEPT);
        assert_eq!(body.data_in_last(240), 200);
    }

    #[test]
    fn the_fresh_end_of_a_body() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut body = BodyMap::begun(begun);
        assert_eq!(body.fresh(begun), 0);
        for ms in (0..10_000).step_by(10) {
            body.data(1000, at(ms));
            assert!(body.lengths.len() <= 22, "{}", body.lengths.len());
        }
        assert_eq!(body.fresh(at(9_990)), FRESH_LEAST, "100 kB/s");
        for ms in (10_000..20_000).step_by(10) {
            body.data(10_000, at(ms));
        }
        let fresh = body.fresh(at(20_000));
        assert!((2_000_000..2_150_000).contains(&fresh), "{fresh} at 1 MB/s");
        let fresh = body.fresh(at(21_000));
        assert!((1_000_000..1_150_000).contains(&fresh), "{fresh} after a second of silence");
        assert_eq!(body.fresh(at(30_000)), FRESH_LEAST);
        for ms in (30_000..40_000).step_by(10) {
            body.data(1_000_000, at(ms));
        }
        assert_eq!(body.fresh(at(40_000)), MAX_UNREAD_BYTES, "100 MB/s");
    }
}
