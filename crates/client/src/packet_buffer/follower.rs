//! Readers that follow another reader: their packets are taken together, under one lock.
//!
//! A thousand readers that wait at the end of the buffer need the same packets at the same time. If each of them is
//! woken and takes its own batch, these wake-ups, locks and lists cost as much as a third of sending the packets.

use std::sync::Arc;

use super::reader::Slot;
use super::ring::Batch;
use super::{DropPolicy, Reader, ReaderMonitor, ReaderState, State};

/// A handle to a reader, with which the owner of another reader takes packets for it; see [`Reader::lead`].
pub struct Follower {
    slot: Arc<Slot>,
    /// The index of the slot, stored here because most accesses need nothing else of it.
    index: usize,
}

impl Reader {
    /// Returns a handle with which the owner of another reader can take packets for this one.
    pub fn follower(&self) -> Follower {
        Follower { slot: Arc::clone(&self.slot), index: self.slot.index }
    }

    /// Makes another reader of the same buffer follow this one: from now on, its packets are taken by
    /// [`Reader::take_with`], and [`Reader::ready`] of its owner waits only for its end. Returns `false`, and changes
    /// nothing, if it is at another position, or its next packet needs its owner's attention: if packets before it were
    /// dropped, or a key frame is awaited.
    ///
    /// A reader stops following when it gets an end of its own, when packets are dropped, or when it is released.
    pub fn lead(&self, follower: &Follower) -> bool {
        if !Arc::ptr_eq(&self.slot.buffer, &follower.slot.buffer) {
            return false;
        }
        self.with(|state, lead| {
            let Some(next) = state.reader(lead).map(|lead| lead.next) else { return false };
            let policy = state.policy;
            let Some(reader) = state.reader(follower.index) else { return false };
            let follows = reader.needs_nothing_at(next, policy);
            if follows {
                reader.follows = Some(lead);
            }
            follows
        })
    }

    /// Like [`Reader::take_if_header`], for the `followers` too. `taken` receives for each of them whether it took the
    /// same packets; if not, it no longer follows.
    pub fn take_with<'a>(
        &mut self,
        header: &Arc<asf::Header>,
        followers: impl IntoIterator<Item = &'a Follower>,
        max_bytes: u64,
        taken: &mut Vec<bool>,
    ) -> Option<Batch> {
        taken.clear();
        let from = self.with(|state, lead| state.reader(lead).map(|reader| reader.next));
        let batch = self.take_if_header(header, max_bytes)?;
        let (packets, bytes) = (batch.sizes.len() as u64, batch.len());
        self.with(|state, lead| {
            // The reader itself may have been moved past packets that it could not take.
            let from = state.reader(lead).map(|reader| reader.next - packets).filter(|next| Some(*next) == from);
            let policy = state.policy;
            taken.extend(followers.into_iter().map(|follower| {
                let Some(reader) = state.reader(follower.index) else { return false };
                let follows =
                    reader.follows == Some(lead) && from.is_some_and(|from| reader.needs_nothing_at(from, policy));
                if follows {
                    reader.advance(packets, bytes, batch.padding_saved);
                    reader.acknowledged = reader.next;
                    reader.resend_from = reader.next;
                } else if reader.follows == Some(lead) {
                    reader.follows = None;
                }
                follows
            }));
        });
        Some(batch)
    }
}

impl Follower {
    /// Ends the following: the owner of the reader takes its packets again.
    pub fn release(&self) {
        release(&self.slot);
    }
}

impl ReaderMonitor {
    /// Ends the following, if the reader follows another, and wakes the owner if it waits for packets or the end.
    pub fn release(&self) {
        release(&self.slot);
    }
}

fn release(slot: &Slot) {
    let waker = slot.with(|state: &mut State, index| {
        let reader = state.reader(index)?;
        reader.follows = None;
        reader.waker.take()
    });
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl ReaderState {
    /// Returns whether the packet `next` is the next one of this reader, nothing but the packet has to be reported to
    /// its owner, and the writer does not wait for the reader.
    fn needs_nothing_at(&self, next: u64, default: DropPolicy) -> bool {
        self.next == next
            && self.policy(default) != DropPolicy::Block
            && self.starts_at != Some(next)
            && self.end.is_none()
            && self.dropped == self.dropped_reported
            && !(self.seeks_key_frame || self.resync_due || self.idle)
    }
}
