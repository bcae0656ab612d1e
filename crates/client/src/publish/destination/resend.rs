//! Decides what to send again after a body was interrupted.
//!
//! The peer's TCP stack acknowledges bytes that the server has not read yet, and the server itself confirms nothing
//! before the end of the body. Bytes that the TCP stack has not acknowledged are sent again. The whole body is sent
//! again if it is so short that it may have been rejected, or if the server has read none of it, because duplicates are
//! better than losses. For longer bodies, recent data counts as uncertain. The reader keeps the packets needed for this
//! (`acknowledgement`).

use std::time::{Duration, Instant};

use super::DestinationTask;
use crate::publish::body_layout::BodyLayout;
use crate::publish::lock;
use wmhttp::failure::Cause;

/// A body that is rejected within this time is sent again from the beginning.
const REFUSAL_RESEND_WINDOW: Duration = Duration::from_secs(2);
/// A body of which no more than this number of bytes was accepted before it stalled is also sent again from the
/// beginning: the TCP stack accepts as many for a process that reads nothing.
const STALL_RESEND_BYTES: u64 = 256 * 1024;
/// Number of acknowledged bytes that the server may not have read. A receive buffer grows only while the server reads:
/// servers that stopped after reading as fast as possible left up to 1.9 MB unread on Linux. The default limit of the
/// packet buffer is twice this number, so there is room to continue while these bytes are kept.
const MAX_UNREAD_BYTES: u64 = 4 * 1024 * 1024;

/// How a body ended.
pub(super) enum BodyEnd {
    /// With a response of this status.
    Answer(u16),
    /// The connection was lost.
    Loss(Cause),
}

/// The body of the current PushStart.
#[derive(Default)]
pub(super) struct Body {
    pub(super) layout: BodyLayout,
    /// Number of bytes at the end of the body that the peer had not acknowledged when it responded or the connection
    /// was lost.
    pub(super) undelivered: u64,
}

impl DestinationTask {
    /// Returns how many bytes at the end of the body to send again, if the peer's TCP stack has acknowledged all but
    /// `undelivered`.
    pub(super) fn bytes_to_resend(&self, how: &BodyEnd, undelivered: u64, now: Instant) -> u64 {
        let is_short = self.body.layout.age(now) <= REFUSAL_RESEND_WINDOW;
        let len = self.body.layout.len();
        match *how {
            BodyEnd::Answer(status) if status >= 300 && is_short => len,
            BodyEnd::Loss(cause) if self.peer_read_nothing(cause, undelivered, now) => len,
            // A reset can destroy the response of a rejection, but not after the end of the body.
            BodyEnd::Loss(Cause::Reset) if is_short => len.min(undelivered + MAX_UNREAD_BYTES),
            BodyEnd::Answer(_) | BodyEnd::Loss(_) => undelivered,
        }
    }

    /// Returns how many bytes at the end of the body must be kept, because they would be sent again if the connection
    /// were lost now. The peer's TCP stack has acknowledged all but `undelivered`.
    pub(super) fn bytes_to_keep(&self, undelivered: u64, now: Instant) -> u64 {
        let layout = &self.body.layout;
        // A server that is sent the body again from its beginning must get it. A blocking reader cannot keep that much:
        // it might hold the writer back before the server has shown that it reads.
        let may_start_again = !self.reader.may_block()
            && (layout.len().saturating_sub(undelivered) <= STALL_RESEND_BYTES || self.session.resume_is_unproven(now));
        let keeps_all = may_start_again || self.is_stuck(undelivered);
        kept_bytes(layout.len(), layout.age(now), undelivered, keeps_all)
    }

    /// Whether the peer currently accepts nothing, and has accepted so little that all of it may be in its socket
    /// buffers.
    fn is_stuck(&self, undelivered: u64) -> bool {
        self.flow.full_since.is_some() && self.body.layout.len().saturating_sub(undelivered) <= STALL_RESEND_BYTES
    }

    /// Returns whether the server has read nothing of the body, although its TCP stack has acknowledged all but
    /// `undelivered`.
    pub(super) fn peer_read_nothing(&self, cause: Cause, undelivered: u64, now: Instant) -> bool {
        let took_little = self.body.layout.len().saturating_sub(undelivered) <= STALL_RESEND_BYTES;
        // A stall timeout alone shows that the peer accepts nothing. Other losses need the full queue as evidence.
        let stuck = took_little && cause == Cause::Stalled
            || self.is_stuck(undelivered) && matches!(cause, Cause::Reset | Cause::Closed);
        stuck || self.session.resume_is_unproven(now)
    }

    /// Ends a body without a response to the whole of it. What has not arrived, and at least the last `rewind` bytes of
    /// data, is sent again; data that may not have arrived is counted.
    pub(super) fn on_body_interrupted(&mut self, rewind: u64) {
        let unread = self.body.layout.data_in_last(self.body.layout.possibly_unread(Instant::now()));
        let lost = self.rewind_for_resend(rewind);
        let uncertain = self.reader.packets_in_last(unread.saturating_sub(lost));
        lock(&self.stats).packets_uncertain += uncertain;
    }

    /// Ends a body. What has not arrived, and at least the last `rewind` bytes of data, is sent again. Returns the
    /// number of these bytes.
    pub(super) fn rewind_for_resend(&mut self, rewind: u64) -> u64 {
        let undelivered = std::mem::take(&mut self.body.undelivered);
        let lost = self.body.layout.data_in_last(undelivered).max(rewind);
        self.rewind(lost);
        self.discard_body();
        lost
    }

    /// Ends a body without sending anything again: whatever was sent is considered delivered.
    pub(super) fn discard_body(&mut self) {
        self.body.layout = BodyLayout::default();
        self.body.undelivered = 0;
        self.clear_full_queue();
        self.acknowledgement.needed = false;
        let _ = self.reader.acknowledge(0);
    }

    /// Closes the connection without `$E`. Data that has left this process may still arrive; the rest is sent again.
    pub(super) fn disconnect(&mut self, now: Instant) {
        self.body.undelivered = self.client.unsent_bytes();
        self.session.disconnect(now);
        self.session.not_delivered(self.body.undelivered);
        self.client.close();
        self.on_body_interrupted(0);
        self.progress.restarts_at_key_frame = true;
    }

    /// Starts a new session at the most recent key frame, although the previous server already has the packets from
    /// there on. No packet is lost, and the first picture is complete.
    pub(super) fn move_to_key_frame(&mut self) {
        let again = self.reader.move_to_key_frame();
        let mut stats = lock(&self.stats);
        stats.bytes_sent = stats.bytes_sent.saturating_sub(again);
    }

    /// Takes the last `bytes` of data again, because they have not reached the server.
    pub(super) fn rewind(&mut self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.reader.rewind(bytes);
        let mut stats = lock(&self.stats);
        stats.bytes_sent = stats.bytes_sent.saturating_sub(bytes);
    }
}

/// Returns how many bytes at the end of a body of `len` bytes must be kept, which began `age` ago and of which the peer's
/// TCP stack has not acknowledged the last `undelivered`; all of them if `keeps_all`.
fn kept_bytes(len: u64, age: Duration, undelivered: u64, keeps_all: bool) -> u64 {
    if keeps_all {
        return len;
    }
    // The body may still be rejected. Keeping all of it would stop a fast upstream until the time is over. A server that
    // has read data accepts the body as far as is known, so only what it may not have read is kept.
    let unread = if age <= REFUSAL_RESEND_WINDOW { MAX_UNREAD_BYTES } else { 0 };
    len.min(undelivered + unread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet_buffer::Limits;

    #[test]
    fn a_young_body_keeps_what_the_server_may_not_have_read() {
        let (young, old) = (REFUSAL_RESEND_WINDOW, REFUSAL_RESEND_WINDOW + Duration::from_millis(1));
        let (short, long) = (MAX_UNREAD_BYTES / 2, 100 * MAX_UNREAD_BYTES);
        for (len, age, undelivered, keeps_all, kept) in [
            (short, young, 1000, false, short),
            (long, young, 1000, false, 1000 + MAX_UNREAD_BYTES),
            (long, old, 1000, false, 1000),
            (short, old, 0, false, 0),
            (short, old, 0, true, short),
            (short, young, 0, true, short),
        ] {
            let result = kept_bytes(len, age, undelivered, keeps_all);
            assert_eq!(result, kept, "{len} bytes, {age:?}, {undelivered} not acknowledged, all: {keeps_all}");
        }
    }

    /// Otherwise a push that is faster than real time would stop during the first seconds of each request.
    #[test]
    fn the_default_limit_leaves_room_beside_the_kept_bytes() {
        assert!(2 * MAX_UNREAD_BYTES <= Limits::default().bytes as u64);
    }
}
