//! One player: a place in its point's log, as the body of the response to its Play.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};

use super::frames;
use super::publishing::PlayerCount;
use super::status::{Client, Player};
use crate::asf::Header;
use crate::log::{Batch, Cursor};
use crate::wmhttp::packet::FRAMING_LEN;

/// Framed bytes taken from the log at one time. At least one packet of any size, yet little: what is
/// taken is kept until the player has it.
const TURN: u64 = 128 * 1024;

/// The stream that one player gets.
pub(super) struct Play {
    /// Who plays. Before the cursor: its last look is at one that still reads.
    player: Option<Player>,
    cursor: Cursor,
    /// The header that the player decodes by.
    header: Arc<Header>,
    /// `$D`s so far.
    sent: u32,
    /// Bytes that go out next.
    pending: VecDeque<Bytes>,
    ended: bool,
    count: PlayerCount,
}

impl Play {
    /// Begins with `header`, which describes the first packets behind the cursor.
    pub(super) fn new(cursor: Cursor, header: Arc<Header>, count: PlayerCount) -> Self {
        let pending = VecDeque::from([frames::header(header.bytes())]);
        Self { player: None, cursor, header, sent: 0, pending, ended: false, count }
    }

    /// The status shall know who plays.
    pub(super) fn introduce(&mut self, client: Client) {
        self.player = Some(self.count.ledger().player(client, self.cursor.observer()));
    }

    /// The next bytes of the body; `None` at its end.
    pub(super) fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(bytes) = self.pending.pop_front() {
                if let Some(player) = &self.player {
                    player.sent(bytes.len());
                }
                return Poll::Ready(Some(bytes));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            // The wait keeps nothing but its waker, in the log: it can be begun anew each time.
            if pin!(self.cursor.ready(1)).poll(context).is_pending() {
                return Poll::Pending;
            }
            match self.cursor.take(TURN) {
                Some(batch) => self.add(batch),
                None if self.cursor.at_end() => self.end(),
                None => {}
            }
        }
    }

    fn add(&mut self, batch: Batch) {
        if batch.header.packet_size() > frames::MAX_PAYLOAD {
            // The pull protocol has no way to say so large a packet.
            self.end();
            return;
        }
        if !Arc::ptr_eq(&batch.header, &self.header) {
            self.pending.push_back(frames::stream_change());
            self.pending.push_back(frames::header(batch.header.bytes()));
            self.header = Arc::clone(&batch.header);
        }
        let mut heads = BytesMut::with_capacity(batch.sizes.len() * frames::HEAD_LEN);
        let mut media = VecDeque::from(batch.frames);
        for size in batch.sizes {
            let len = (size as usize).saturating_sub(FRAMING_LEN);
            skip(&mut media, FRAMING_LEN);
            frames::put_data_head(&mut heads, self.sent, len);
            self.pending.push_back(heads.split().freeze());
            take(&mut media, len, &mut self.pending);
            self.sent = self.sent.wrapping_add(1);
        }
    }

    fn end(&mut self) {
        self.pending.push_back(frames::end());
        self.ended = true;
    }
}

fn skip(media: &mut VecDeque<Bytes>, mut len: usize) {
    while let Some(front) = media.front_mut().filter(|_| len > 0) {
        let here = front.len().min(len);
        front.advance(here);
        len -= here;
        if front.is_empty() {
            media.pop_front();
        }
    }
}

/// Moves `len` bytes over, as slices of the shared blocks.
fn take(media: &mut VecDeque<Bytes>, mut len: usize, to: &mut VecDeque<Bytes>) {
    while let Some(front) = media.front_mut().filter(|_| len > 0) {
        let here = front.len().min(len);
        to.push_back(front.split_to(here));
        len -= here;
        if front.is_empty() {
            media.pop_front();
        }
    }
}
