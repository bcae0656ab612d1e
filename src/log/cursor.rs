//! A reader's place in the log.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::{Batch, DropPolicy, Log, Reader, Start, State};
use crate::asf;

/// How far a cursor is behind the head of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Packets not taken yet, those included that the log no longer keeps.
    pub packets: u64,
    /// Framed bytes not taken yet, of those kept.
    pub bytes: u64,
    /// Stream time from the first of them to the newest.
    pub time: Duration,
}

/// The packet that a cursor would take next.
#[derive(Clone, Debug)]
pub struct Next {
    /// The header that describes it.
    pub header: Arc<asf::Header>,
    /// Framed bytes.
    pub size: usize,
}

/// What [`Cursor::rewind`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewound {
    /// Packets that will be taken again.
    pub again: u64,
    /// Packets that the log no longer keeps; they count as dropped.
    pub lost: u64,
}

/// A reader of the log.
pub struct Cursor {
    place: Arc<Place>,
}

/// Sees how far a cursor has come, from any thread, also after the cursor is gone.
#[derive(Clone)]
pub struct Observer {
    place: Arc<Place>,
}

/// A reader's slot; it is free again once the cursor and its observers are gone.
struct Place {
    log: Arc<Log>,
    slot: usize,
}

/// What a cursor has taken, missed and left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Packets taken.
    pub taken: u64,
    /// Packets missed.
    pub dropped: u64,
    /// Framed bytes of those missed packets that were still kept.
    pub dropped_bytes: u64,
    /// What waits.
    pub lag: Lag,
}

impl Cursor {
    pub(super) fn new(log: Arc<Log>, start: Start, policy: Option<DropPolicy>) -> Self {
        let mut state = log.lock();
        let head = state.ring.head();
        let (next, seeks_key_frame) = match start {
            Start::NewestKeyFrame => state.ring.newest_key_frame().map_or((head, true), |key| (key, false)),
            Start::NextKeyFrame => (head, true),
            Start::Head => (head, false),
            Start::Oldest => (state.ring.tail(), false),
        };
        let reader = Reader {
            next,
            seeks_key_frame,
            policy,
            streaming: false,
            gone: false,
            taken: 0,
            dropped: 0,
            dropped_bytes: 0,
            dropped_told: 0,
            waker: None,
            wake_at: 0,
        };
        let slot = match state.readers.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                state.readers.push(None);
                state.readers.len() - 1
            }
        };
        if let Some(place) = state.readers.get_mut(slot) {
            *place = Some(reader);
        }
        drop(state);
        Self { place: Arc::new(Place { log, slot }) }
    }

    /// See [`Observer`].
    pub fn observer(&self) -> Observer {
        Observer { place: Arc::clone(&self.place) }
    }

    /// Waits until there is a packet to take and at least `min_bytes` of them, or the log has ended.
    ///
    /// A caller that batches gives a `min_bytes` above 0 together with a time-out of its own.
    pub async fn ready(&self, min_bytes: u64) {
        poll_fn(|context| {
            self.with(|state, slot| {
                let ended = state.ended;
                let Some(next) = state.settle(slot) else { return Poll::Ready(()) };
                let waiting = state.ring.bytes_after(next);
                if ended || (state.ring.head() > next && waiting >= min_bytes) {
                    return Poll::Ready(());
                }
                if let Some(reader) = state.reader(slot) {
                    reader.wake_at = min_bytes;
                    match &mut reader.waker {
                        Some(waker) => waker.clone_from(context.waker()),
                        None => reader.waker = Some(context.waker().clone()),
                    }
                }
                Poll::Pending
            })
        })
        .await;
    }

    /// What would be taken next; `None` where nothing waits.
    pub fn peek(&self) -> Option<Next> {
        self.with(|state, slot| {
            let next = state.settle(slot)?;
            let (header, size) = state.ring.peek(next)?;
            Some(Next { header: Arc::clone(header), size })
        })
    }

    /// Takes whole packets of one stream, `max_bytes` at most; `None` where nothing waits.
    ///
    /// The batch is empty where the next packet alone exceeds `max_bytes`.
    pub fn take(&mut self, max_bytes: u64) -> Option<Batch> {
        let (batch, writer_waits) = self.with(|state, slot| {
            let next = state.settle(slot)?;
            let mut batch = state.ring.take(next, max_bytes)?;
            let count = batch.sizes.len() as u64;
            let reader = state.reader(slot)?;
            batch.skipped = reader.dropped - std::mem::replace(&mut reader.dropped_told, reader.dropped);
            reader.next += count;
            reader.taken += count;
            Some((batch, state.writer_waits))
        })?;
        if writer_waits {
            self.place.log.room.notify_all();
        }
        Some(batch)
    }

    /// Whether everything was taken and the log has ended.
    pub fn at_end(&self) -> bool {
        self.with(|state, slot| {
            let next = state.settle(slot);
            state.ended && next.is_none_or(|next| next >= state.ring.head())
        })
    }

    /// Goes back over the last `bytes` taken, to the beginning of the packet that holds the first of them.
    pub fn rewind(&mut self, bytes: u64) -> Rewound {
        self.with(|state, slot| {
            let Some(next) = state.reader(slot).map(|reader| reader.next) else { return Rewound::default() };
            let position = state.ring.position(next).saturating_sub(bytes);
            let (to, lost) = match state.ring.sequence_at(position) {
                Some(sequence) => (sequence.min(next), 0),
                // How many packets the missing bytes were is no longer known: at least one.
                None => (state.ring.tail().min(next), u64::from(bytes > 0)),
            };
            let Some(reader) = state.reader(slot) else { return Rewound::default() };
            let again = next - to;
            reader.next = to;
            reader.taken = reader.taken.saturating_sub(again + lost);
            reader.dropped += lost;
            reader.dropped_told += lost;
            Rewound { again, lost }
        })
    }

    /// Tells whether the far end takes packets now: a blocking cursor holds the writer back only then,
    /// or where no other streams.
    pub fn set_streaming(&self, streaming: bool) {
        self.with(|state, slot| {
            if let Some(reader) = state.reader(slot) {
                reader.streaming = streaming;
            }
            if state.writer_waits {
                self.place.log.room.notify_all();
            }
        });
    }

    /// Changes what happens when the cursor lags beyond the limits; `None` follows the log.
    pub fn set_policy(&self, policy: Option<DropPolicy>) {
        self.with(|state, slot| {
            if let Some(reader) = state.reader(slot) {
                reader.policy = policy;
            }
        });
        self.place.log.tell_writer();
    }

    /// What was taken, missed and left, since the cursor was made.
    pub fn progress(&self) -> Progress {
        self.place.progress()
    }

    fn with<R>(&self, f: impl FnOnce(&mut State, usize) -> R) -> R {
        self.place.with(f)
    }
}

impl Drop for Cursor {
    /// An observer may still look, but nobody waits for what will not be taken.
    fn drop(&mut self) {
        self.with(|state, slot| {
            if let Some(reader) = state.reader(slot) {
                reader.gone = true;
                reader.streaming = false;
                reader.policy = Some(DropPolicy::Keyframe);
                reader.waker = None;
            }
        });
        self.place.log.tell_writer();
    }
}

impl Observer {
    /// What the cursor has taken, missed and left.
    pub fn progress(&self) -> Progress {
        self.place.progress()
    }
}

impl Place {
    fn with<R>(&self, f: impl FnOnce(&mut State, usize) -> R) -> R {
        f(&mut self.log.lock(), self.slot)
    }

    /// Only looks: where a lapped cursor goes on is decided when it takes, not when somebody asks.
    fn progress(&self) -> Progress {
        self.with(|state, slot| {
            let Some(reader) = state.readers.get(slot).and_then(Option::as_ref) else { return Progress::default() };
            let lag = state.ring.lag(reader.next);
            let (taken, dropped, dropped_bytes) = (reader.taken, reader.dropped, reader.dropped_bytes);
            if reader.gone {
                let dropped = dropped + lag.packets;
                return Progress { taken, dropped, dropped_bytes: dropped_bytes + lag.bytes, lag: Lag::default() };
            }
            Progress { taken, dropped, dropped_bytes, lag }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.with(|state, slot| {
            if let Some(place) = state.readers.get_mut(slot) {
                *place = None;
            }
        });
    }
}

impl State {
    fn reader(&mut self, slot: usize) -> Option<&mut Reader> {
        self.readers.get_mut(slot)?.as_mut()
    }

    /// Where the cursor stands, once it has been moved past what it cannot have:
    /// packets that are gone, and those before the key frame it waits for.
    fn settle(&mut self, slot: usize) -> Option<u64> {
        let (head, tail) = (self.ring.head(), self.ring.tail());
        let newest = self.ring.newest_key_frame();
        let Self { ring, readers, policy, .. } = self;
        let reader = readers.get_mut(slot)?.as_mut()?;
        let policy = reader.policy.unwrap_or(*policy);
        let before = reader.next;
        let position = ring.position(before);
        if reader.next < tail {
            match (policy, newest) {
                (DropPolicy::Oldest, _) => reader.next = tail,
                (DropPolicy::Keyframe | DropPolicy::Block | DropPolicy::Disconnect, Some(key)) => reader.next = key,
                (DropPolicy::Keyframe | DropPolicy::Block | DropPolicy::Disconnect, None) => {
                    reader.next = head;
                    reader.seeks_key_frame = true;
                }
            }
        }
        if reader.seeks_key_frame {
            match ring.key_frame_from(reader.next) {
                Some(key) => {
                    reader.next = key;
                    reader.seeks_key_frame = false;
                }
                None => reader.next = head,
            }
        }
        reader.dropped += reader.next - before;
        reader.dropped_bytes += ring.position(reader.next) - position;
        Some(reader.next)
    }
}
