//! Records where the current body contains control packets, and which of its bytes are recent.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Number of control packets per body whose positions are kept.
const MAX_CONTROL_PACKETS: usize = 64;
/// A server that reads the body has read bytes sent longer ago than this, …
const UNREAD_WINDOW: Duration = Duration::from_secs(2);
/// … except for up to this number of bytes at the end, which may be in the buffers of its TCP stack and HTTP library, …
const MIN_UNREAD_BYTES: u64 = 256 * 1024;
/// … but never more than this number, however fast they are sent.
const MAX_UNREAD_BYTES: u64 = 8 * 1024 * 1024;
/// Time between recorded body lengths.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

/// Computes how much of the end of a body is data, which can be taken from the packet buffer again; the session creates
/// control packets again itself.
#[derive(Default)]
pub(super) struct BodyLayout {
    /// When the body began; `None` without a body.
    since: Option<Instant>,
    /// Bytes of the body so far.
    len: u64,
    /// Offset and length of each control packet.
    control: Vec<(u64, u64)>,
    /// Points in time and the body's length then. The first is at least [`UNREAD_WINDOW`] old, or the start of the
    /// body.
    lengths: VecDeque<(Instant, u64)>,
}

impl BodyLayout {
    /// Creates the map of a body that begins now.
    pub(super) fn new(now: Instant) -> Self {
        Self { since: Some(now), ..Self::default() }
    }

    /// Returns the time since the body began.
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::MAX, |since| now.saturating_duration_since(since))
    }

    /// Returns the current length of the body in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Records that data packets of `len` framed bytes were appended.
    pub(super) fn append_data(&mut self, len: u64, now: Instant) {
        let age = |at: &(Instant, u64)| now.saturating_duration_since(at.0);
        if self.lengths.back().is_none_or(|last| age(last) >= SAMPLE_INTERVAL) {
            self.lengths.push_back((now, self.len));
        }
        // The last sample that is old enough is kept, because `possibly_unread` needs one at the start of the window.
        while self.lengths.get(1).is_some_and(|second| age(second) >= UNREAD_WINDOW) {
            self.lengths.pop_front();
        }
        self.len += len;
    }

    /// Returns the number of bytes at the end of the body that the server may not have read although its TCP stack has
    /// acknowledged them. Only a response at the end of the body would confirm them.
    pub(super) fn possibly_unread(&self, now: Instant) -> u64 {
        let age = |at: &(Instant, u64)| now.saturating_duration_since(at.0);
        let old = self.lengths.iter().rev().find(|at| age(at) >= UNREAD_WINDOW);
        let since = self.len - old.map_or(0, |(_, len)| *len);
        since.clamp(MIN_UNREAD_BYTES, MAX_UNREAD_BYTES).min(self.len)
    }

    /// Records that a control packet of `len` framed bytes was appended.
    pub(super) fn append_control(&mut self, len: u64) {
        // Older ones have arrived long ago. The list must stay bounded even if the body never ends.
        if self.control.len() == MAX_CONTROL_PACKETS {
            self.control.remove(0);
        }
        self.control.push((self.len, len));
        self.len += len;
    }

    /// Returns the number of data packet bytes among the last `bytes` of the body.
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
        let mut body = BodyLayout::default();
        body.append_control(10);
        let now = Instant::now();
        body.append_data(100, now);
        body.append_control(20);
        body.append_data(50, now);
        for (last, data) in
            [(0, 0), (50, 50), (60, 50), (70, 50), (80, 60), (170, 150), (175, 150), (180, 150), (999, 150)]
        {
            assert_eq!(body.data_in_last(last), data, "{last}");
        }
    }

    #[test]
    fn an_endless_body_keeps_few_control_packets() {
        let mut body = BodyLayout::default();
        for _ in 0..1000 {
            body.append_control(20);
            body.append_data(100, Instant::now());
        }
        assert_eq!(body.control.len(), MAX_CONTROL_PACKETS);
        assert_eq!(body.data_in_last(240), 200);
    }

    #[test]
    fn the_recent_end_of_a_body() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut body = BodyLayout::new(begun);
        assert_eq!(body.possibly_unread(begun), 0);
        for ms in (0..10_000).step_by(10) {
            body.append_data(1000, at(ms));
            assert!(body.lengths.len() <= 22, "{}", body.lengths.len());
        }
        assert_eq!(body.possibly_unread(at(9_990)), MIN_UNREAD_BYTES, "100 kB/s");
        for ms in (10_000..20_000).step_by(10) {
            body.append_data(10_000, at(ms));
        }
        let unread = body.possibly_unread(at(20_000));
        assert!((2_000_000..2_150_000).contains(&unread), "{unread} at 1 MB/s");
        let unread = body.possibly_unread(at(21_000));
        assert!((1_000_000..1_150_000).contains(&unread), "{unread} after a second of silence");
        assert_eq!(body.possibly_unread(at(30_000)), MIN_UNREAD_BYTES);
        for ms in (30_000..40_000).step_by(10) {
            body.append_data(1_000_000, at(ms));
        }
        assert_eq!(body.possibly_unread(at(40_000)), MAX_UNREAD_BYTES, "100 MB/s");
    }
}
