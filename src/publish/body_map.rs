//! Where the body under way has other bytes than data packets.

use std::time::{Duration, Instant};

/// Control packets of a body whose places are remembered.
const CONTROL_KEPT: usize = 64;

/// Tells how much of a body's tail is data, which the log can give once more; control packets the session makes
/// anew.
#[derive(Default)]
pub(super) struct BodyMap {
    since: Option<Instant>,
    len: u64,
    /// Offset and length of control packets.
    control: Vec<(u64, u64)>,
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

    /// Data packets of so many framed bytes were appended.
    pub(super) fn data(&mut self, len: u64) {
        self.len += len;
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
        body.data(100);
        body.control(20);
        body.data(50);
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
            body.data(100);
        }
        assert_eq!(body.control.len(), CONTROL_KEPT);
        assert_eq!(body.data_in_last(240), 200);
    }
}
