//! What has not arrived, or may not have, when a body breaks.
//!
//! The peer's system acknowledges bytes that the server has not read, and there is no word of the server's own
//! before the body's end. What the system has not acknowledged is taken again. So is all of a body that was so
//! short that it may have been refused, or that nobody has read: better twice than never. Of the rest, recent data
//! counts as uncertain. A blocking reader keeps the packets for this (`acknowledgement`).

use std::time::{Duration, Instant};

use super::DestinationTask;
use crate::publish::body_layout::BodyMap;
use crate::publish::lock;
use wmhttp::failure::Cause;

/// A body that is refused within this time comes again from its beginning, …
const REFUSAL_RESEND_WINDOW: Duration = Duration::from_secs(2);
/// … and so does one of which no more than this was taken before it stalled: a system takes as much for a process
/// that reads nothing.
const STALL_RESEND_BYTES: u64 = 256 * 1024;

/// How a body came to its end.
pub(super) enum BodyEnd {
    /// By an answer of this status.
    Answer(u16),
    /// The connection was lost.
    Loss(Cause),
}

impl DestinationTask {
    /// How many bytes at the end of the body to take again, where the peer's system has acknowledged all but
    /// `undelivered`.
    pub(super) fn bytes_to_resend(&self, how: &BodyEnd, undelivered: u64, now: Instant) -> u64 {
        let is_short = self.body.age(now) <= REFUSAL_RESEND_WINDOW;
        let all = match *how {
            BodyEnd::Answer(status) => status >= 300 && is_short,
            // A reset can destroy the answer that a refusal would be. After the end it is none.
            BodyEnd::Loss(cause) => {
                self.peer_read_nothing(cause, undelivered, now) || (cause == Cause::Reset && is_short)
            }
        };
        if all { self.body.len() } else { undelivered }
    }

    /// Whether all of the body would be taken again if the connection were lost now, though the peer's system has
    /// acknowledged all but `undelivered`: it is so short that this could be a refusal, or the server does not seem to
    /// read it.
    pub(super) fn may_be_unread(&self, undelivered: u64, now: Instant) -> bool {
        self.body.age(now) <= REFUSAL_RESEND_WINDOW || self.is_stuck(undelivered)
    }

    /// Whether the peer takes nothing now, and has taken so little that all of it may be in its system's buffers.
    fn is_stuck(&self, undelivered: u64) -> bool {
        self.full_since.is_some() && self.body.len().saturating_sub(undelivered) <= STALL_RESEND_BYTES
    }

    /// Whether nobody has read any of the body, though the peer's system has acknowledged all but `undelivered`.
    pub(super) fn peer_read_nothing(&self, cause: Cause, undelivered: u64, now: Instant) -> bool {
        let took_little = self.body.len().saturating_sub(undelivered) <= STALL_RESEND_BYTES;
        let stuck = took_little && cause == Cause::Stalled
            || self.is_stuck(undelivered) && matches!(cause, Cause::Reset | Cause::Closed);
        stuck || self.session.resume_is_unproven(now)
    }

    /// The body is over without an answer to the whole of it: what has not arrived, and the last `rewind` bytes of
    /// data in any case, is taken again, and what may not have is counted.
    pub(super) fn on_body_interrupted(&mut self, rewind: u64) {
        let fresh = self.body.data_in_last(self.body.fresh(Instant::now()));
        let lost = self.rewind_for_resend(rewind);
        let uncertain = self.reader.packets_in_last(fresh.saturating_sub(lost));
        lock(&self.stats).packets_uncertain += uncertain;
    }

    /// The body is over. What has not arrived of it, and the last `rewind` bytes of data in any case, is taken again;
    /// how many bytes that is.
    pub(super) fn rewind_for_resend(&mut self, rewind: u64) -> u64 {
        let undelivered = std::mem::take(&mut self.undelivered);
        let lost = self.body.data_in_last(undelivered).max(rewind);
        self.rewind(lost);
        self.forget_body();
        lost
    }

    /// The body is over: nothing waits for room in it, and whatever is not sent again is considered delivered.
    pub(super) fn forget_body(&mut self) {
        self.body = BodyMap::default();
        self.undelivered = 0;
        self.has_room();
        self.acknowledgement_needed = false;
        let _ = self.reader.acknowledge(0);
    }

    /// Closes the connection without `$E`. What has left this process may still arrive; the rest is taken again.
    pub(super) fn break_off(&mut self, now: Instant) {
        self.undelivered = self.client.waiting();
        self.session.disconnect(now);
        self.session.not_delivered(self.undelivered);
        self.client.close();
        self.on_body_interrupted(0);
        self.begins_anew = true;
    }

    /// A new session has nothing of the one before: its first packets are those from the newest key frame on, which
    /// the server before has had already, so that no packet is lost and the first picture is whole.
    pub(super) fn begin_at_key_frame(&mut self) {
        let again = self.reader.move_to_key_frame();
        let mut stats = lock(&self.stats);
        stats.bytes_sent = stats.bytes_sent.saturating_sub(again);
    }

    /// The last `bytes` of data have not reached the server: they are taken again.
    pub(super) fn rewind(&mut self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.reader.rewind(bytes);
        let mut stats = lock(&self.stats);
        stats.bytes_sent = stats.bytes_sent.saturating_sub(bytes);
    }
}
