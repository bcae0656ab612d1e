//! The body of a PushStart: a queue that ends exactly at its Content-Length.
//!
//! The HTTP library would buffer hundreds of kilobytes that a stalled connection does not accept, and each destination
//! would keep them in addition to the packet buffer's limits. The queue therefore passes on the next frame only when
//! the library has written most of the previous ones.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Capacity of a queue in bytes when the connection begins, and whenever it is slow.
const MIN_CAPACITY_BYTES: usize = 64 * 1024;
/// Maximum capacity of a queue in bytes. More did not lower the processor time.
const MAX_CAPACITY_BYTES: usize = 256 * 1024;
/// A connection is fast if the library writes each frame within this time. With the maximum capacity, that is
/// 256 MB/s.
const FAST_WRITE_TIME: Duration = Duration::from_millis(1);

/// The request was aborted.
#[derive(Debug, thiserror::Error)]
#[error("the push was ended")]
pub(super) struct Aborted;

/// The queue, shared by the destination, which appends to it, and the HTTP library, which reads it.
pub(super) struct Queue {
    state: Mutex<State>,
}

struct State {
    /// Maximum number of bytes in `frames`. Also the number of bytes that the library has not written yet above which
    /// it receives no further frame. A longer frame is passed on alone.
    capacity: usize,
    /// Whether the capacity has delayed a frame since it was last changed.
    was_full: bool,
    /// Frames that the library has not received yet.
    frames: VecDeque<Bytes>,
    /// Bytes in `frames`.
    queued: usize,
    /// Bytes of frames that the library has received and not written.
    in_flight: usize,
    /// Bytes appended since the beginning.
    pushed: u64,
    /// Bytes of the Content-Length that the library has not received yet.
    remaining: u64,
    aborted: bool,
    /// The library has dropped the body, and has closed its side of the connection before.
    released: bool,
    /// Wakes the library when it may receive a frame, or the body is aborted.
    reader_waker: Option<Waker>,
    /// Wakes the destination when no more than this many bytes are queued.
    room_waker: Option<(Waker, usize)>,
    /// Wakes the task that waits for `released`.
    release_waker: Option<Waker>,
}

impl State {
    /// Whether the library may receive the next frame, if there is one.
    fn has_in_flight_budget(&self) -> bool {
        let next = self.frames.front().map_or(0, Bytes::len);
        self.in_flight == 0 || self.in_flight + next <= self.capacity
    }

    /// Adapts the capacity to a connection that took `time` to take a frame.
    fn adapt(&mut self, time: Duration) {
        if time > FAST_WRITE_TIME {
            self.capacity = MIN_CAPACITY_BYTES;
        } else if self.was_full {
            self.capacity = (2 * self.capacity).min(MAX_CAPACITY_BYTES);
        } else {
            return;
        }
        self.was_full = false;
    }
}

impl Queue {
    pub(super) fn new(content_length: u64) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                capacity: MIN_CAPACITY_BYTES,
                was_full: false,
                frames: VecDeque::new(),
                queued: 0,
                in_flight: 0,
                pushed: 0,
                remaining: content_length,
                aborted: false,
                released: false,
                reader_waker: None,
                room_waker: None,
                release_waker: None,
            }),
        })
    }

    pub(super) fn push(&self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.queued += bytes.len();
        state.pushed += bytes.len() as u64;
        state.frames.push_back(bytes);
        let reader_waker = state.reader_waker.take();
        drop(state);
        wake(reader_waker);
    }

    /// Makes the library receive an error instead of further bytes, so that it closes the connection.
    pub(super) fn abort(&self) {
        let mut state = self.lock();
        state.aborted = true;
        let reader_waker = state.reader_waker.take();
        drop(state);
        wake(reader_waker);
    }

    pub(super) fn queued(&self) -> usize {
        self.lock().queued
    }

    /// Returns the number of bytes that have certainly not left this process; TLS may buffer some more.
    pub(super) fn unwritten(&self) -> usize {
        let state = self.lock();
        state.queued + state.in_flight
    }

    /// Waits until the library has dropped the body; it has then closed its side of the connection.
    pub(super) async fn released(&self) {
        poll_fn(|context| {
            let mut state = self.lock();
            if state.released {
                return Poll::Ready(());
            }
            state.release_waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Returns the number of bytes appended since the beginning.
    pub(super) fn pushed(&self) -> u64 {
        self.lock().pushed
    }

    /// Returns whether the library has received the whole Content-Length.
    pub(super) fn is_complete(&self) -> bool {
        self.lock().remaining == 0
    }

    /// Returns the maximum number of bytes that should be queued now.
    pub(super) fn capacity(&self) -> usize {
        self.lock().capacity
    }

    /// Returns how many more bytes should be queued now.
    pub(super) fn free(&self) -> usize {
        let state = self.lock();
        state.capacity.saturating_sub(state.queued)
    }

    /// Waits until `wanted` bytes are free, or the queue is empty, and at least half of it is free, so that each wake-up
    /// handles many packets.
    pub(super) async fn room(&self, wanted: usize) {
        poll_fn(|context| {
            let mut state = self.lock();
            let limit = state.capacity.saturating_sub(wanted).min(state.capacity / 2);
            if state.queued <= limit {
                return Poll::Ready(());
            }
            state.was_full = true;
            state.room_waker = Some((context.waker().clone(), limit));
            Poll::Pending
        })
        .await;
    }

    /// Records that the library has written or discarded a frame that it received at `received_at`.
    fn release(&self, len: usize, received_at: Instant) {
        let time = received_at.elapsed();
        let mut state = self.lock();
        state.in_flight -= len;
        state.adapt(time);
        let reader_waker = if state.has_in_flight_budget() { state.reader_waker.take() } else { None };
        drop(state);
        wake(reader_waker);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A frame that the library has received and not dropped yet.
struct InFlightFrame {
    frame: Bytes,
    received_at: Instant,
    queue: Arc<Queue>,
}

impl AsRef<[u8]> for InFlightFrame {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

impl Drop for InFlightFrame {
    fn drop(&mut self) {
        self.queue.release(self.frame.len(), self.received_at);
    }
}

/// The body from which the HTTP library reads.
pub(super) struct PushBody {
    queue: Arc<Queue>,
}

impl PushBody {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self { queue }
    }
}

impl Drop for PushBody {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.released = true;
        let release_waker = state.release_waker.take();
        drop(state);
        wake(release_waker);
    }
}

impl Body for PushBody {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let mut state = self.queue.lock();
        if state.aborted {
            return Poll::Ready(Some(Err(Aborted)));
        }
        // The body ends only at its Content-Length; an empty queue before that means to wait.
        if state.remaining == 0 {
            return Poll::Ready(None);
        }
        let next = if state.has_in_flight_budget() { state.frames.pop_front() } else { None };
        let Some(frame) = next else {
            state.was_full |= !state.frames.is_empty();
            state.reader_waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        state.queued -= frame.len();
        state.in_flight += frame.len();
        state.remaining = state.remaining.saturating_sub(frame.len() as u64);
        let queued = state.queued;
        let room_waker = state.room_waker.take_if(|(_, limit)| queued <= *limit);
        drop(state);
        wake(room_waker.map(|(waker, _)| waker));
        // The library drops the bytes when the kernel has them, which makes room for the next frame.
        let frame =
            Bytes::from_owner(InFlightFrame { frame, received_at: Instant::now(), queue: Arc::clone(&self.queue) });
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.queue.is_complete()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.queue.lock().remaining)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn waits_for(queue: &Queue, wanted: usize) -> bool {
        pin!(queue.room(wanted)).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    fn frame(len: usize) -> Bytes {
        Bytes::from(vec![0; len])
    }

    #[test]
    fn a_full_queue_grows_on_a_fast_connection_only() {
        let queue = Queue::new(u64::MAX);
        queue.lock().adapt(FAST_WRITE_TIME);
        assert_eq!(queue.free(), MIN_CAPACITY_BYTES, "nothing had to wait");
        queue.push(frame(MIN_CAPACITY_BYTES));
        assert_eq!(queue.free(), 0);
        for capacity in [2 * MIN_CAPACITY_BYTES, MAX_CAPACITY_BYTES, MAX_CAPACITY_BYTES] {
            assert!(waits_for(&queue, queue.capacity()));
            queue.lock().adapt(FAST_WRITE_TIME);
            assert_eq!(queue.capacity(), capacity);
        }
        assert!(!waits_for(&queue, MAX_CAPACITY_BYTES - MIN_CAPACITY_BYTES));
        assert!(waits_for(&queue, MAX_CAPACITY_BYTES));
        queue.lock().adapt(FAST_WRITE_TIME + Duration::from_nanos(1));
        assert_eq!((queue.capacity(), queue.free()), (MIN_CAPACITY_BYTES, 0), "a slow connection");
        queue.lock().adapt(FAST_WRITE_TIME);
        assert_eq!(queue.capacity(), MIN_CAPACITY_BYTES, "nothing had to wait since");
    }

    #[test]
    fn the_library_receives_no_more_than_the_capacity() {
        const PART: usize = MIN_CAPACITY_BYTES / 2;
        let queue = Queue::new(u64::MAX);
        let mut body = PushBody::new(Arc::clone(&queue));
        let mut next = || Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
        for _ in 0..3 {
            queue.push(frame(PART));
        }
        let (first, second) = (next(), next());
        assert!(first.is_ready() && second.is_ready());
        assert!(!queue.lock().was_full);
        assert!(next().is_pending());
        assert!(queue.lock().was_full, "a frame has to wait");
        assert_eq!((queue.queued(), queue.unwritten()), (PART, 3 * PART));
        drop(first);
        assert!(next().is_ready());
        drop(second);
        assert_eq!(queue.unwritten(), 0, "the third frame was dropped at once");
        queue.push(frame(2 * MAX_CAPACITY_BYTES));
        assert!(next().is_ready(), "a long frame is passed on alone");
    }
}
