//! Limits of the size and number of recording files.

use std::time::Duration;

use bytesize::ByteSize;

/// Limits of the size and number of recording files. `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordLimits {
    /// Maximum bytes of a file. At the limit, the recording continues in another file, starting with the next key
    /// frame.
    pub max_size: Option<ByteSize>,
    /// Maximum stream time of a file, with the same effect.
    pub max_time: Option<Duration>,
    /// Maximum number of files of a point. When a new file begins, the oldest are deleted; the new one always stays.
    pub keep: Option<usize>,
    /// Maximum bytes of all files of a point. When a new file begins, the oldest are deleted until a file of `max_size`
    /// fits in.
    pub max_total: Option<ByteSize>,
}

impl RecordLimits {
    /// Returns whether a file of this many bytes and this much stream time (in milliseconds) is full. If no packet
    /// starts a key frame, a file is full at one and a half times the limit.
    pub(super) fn is_full(&self, bytes: u64, time_ms: u64, key_frame: bool) -> bool {
        let reached = |value: u64, limit: u64| value >= if key_frame { limit } else { limit.saturating_add(limit / 2) };
        self.max_size.is_some_and(|limit| reached(bytes, limit.as_u64()))
            || self.max_time.is_some_and(|limit| reached(time_ms, u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)))
    }
}
