//! How long recorded files get, and how many of them stay.

use std::time::Duration;

use bytesize::ByteSize;

/// How long recorded files get, and how many of them stay. What is `None` has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordLimits {
    /// A file that has so many bytes goes on in another one, from the next key frame on.
    pub max_size: Option<ByteSize>,
    /// So does one that has so much of the stream's time.
    pub max_time: Option<Duration>,
    /// Files of a point: the oldest goes when another one begins. At least the one being written stays.
    pub keep: Option<usize>,
    /// Bytes of a point's files: when another one begins the oldest go, until its `max_size` fits in beside the rest.
    pub max_total: Option<ByteSize>,
}

impl RecordLimits {
    /// Whether a file with so many bytes, and milliseconds of the stream, goes on in another one. Where no
    /// packet begins a key frame it does so half as much later, at any.
    pub(super) fn is_full(&self, bytes: u64, time_ms: u64, key_frame: bool) -> bool {
        let reached = |value: u64, limit: u64| value >= if key_frame { limit } else { limit.saturating_add(limit / 2) };
        self.max_size.is_some_and(|limit| reached(bytes, limit.as_u64()))
            || self.max_time.is_some_and(|limit| reached(time_ms, u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)))
    }
}
