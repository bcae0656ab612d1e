//! Waits for packets or for room, and what ends them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;

/// Counts its wake-ups.
#[derive(Default)]
pub(super) struct Count(pub(super) AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn waiting_readers_are_woken_when_enough_is_available() {
    let header = header(300);
    let buffer = unlimited();
    let reader = buffer.reader(StartPosition::Oldest, ReaderOptions::default());
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let mut many = pin!(reader.ready(3 * 304));
    assert!(many.as_mut().poll(&mut context).is_pending());
    append(&buffer, &header, 0..2);
    assert_eq!(count.0.load(Ordering::SeqCst), 0, "not for two of three");
    append(&buffer, &header, 2..3);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    append(&buffer, &header, 3..9);
    assert_eq!(count.0.load(Ordering::SeqCst), 1, "once");
    assert!(many.as_mut().poll(&mut context).is_ready());
}

#[test]
fn a_reader_waits_for_no_more_than_half_of_the_limits() {
    let header = header(300);
    let buffer = limited_to(8);
    let reader = buffer.reader(StartPosition::Oldest, ReaderOptions::default());
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let mut many = pin!(reader.ready(u64::MAX));
    append(&buffer, &header, 0..3);
    assert!(many.as_mut().poll(&mut context).is_pending());
    append(&buffer, &header, 3..4);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(many.as_mut().poll(&mut context).is_ready());
}

#[test]
fn the_end_wakes_readers_and_follows_the_last_packet() {
    let header = header(300);
    let buffer = unlimited();
    let mut reader = buffer.reader(StartPosition::Oldest, ReaderOptions::default());
    append(&buffer, &header, 0..1);
    buffer.end();
    assert!(!reader.at_end());
    let waker = Waker::noop();
    let many = pin!(reader.ready(100 * 304)).poll(&mut Context::from_waker(waker));
    assert!(many.is_ready(), "no further packets will be appended");
    take_all(&mut reader);
    assert!(reader.at_end());
    assert!(pin!(reader.ready(1)).poll(&mut Context::from_waker(waker)).is_ready());
}

#[test]
fn a_reader_does_not_wait_beyond_its_end() {
    let header = header(300);
    let buffer = unlimited();
    let readers = [
        buffer.reader(StartPosition::Oldest, ReaderOptions::default()),
        buffer.reader(StartPosition::Oldest, ReaderOptions::default()),
    ];
    append(&buffer, &header, 0..1);
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let [mut one, mut other] = readers.each_ref().map(|reader| Box::pin(reader.ready(1000)));
    assert!(one.as_mut().poll(&mut context).is_pending() && other.as_mut().poll(&mut context).is_pending());
    readers[0].monitor().end_at_head();
    assert_eq!(count.0.load(Ordering::SeqCst), 1, "its own end");
    assert!(one.as_mut().poll(&mut context).is_ready() && other.as_mut().poll(&mut context).is_pending());
    buffer.end();
    assert_eq!(count.0.load(Ordering::SeqCst), 2, "the buffer's");
    assert!(other.as_mut().poll(&mut context).is_ready());
}

#[test]
fn a_blocking_reader_blocks_the_writer_and_loses_nothing() {
    let header = header(300);
    let buffer = limited_to(10);
    let mut reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Block));
    reader.set_streaming(true);
    let writer = std::thread::spawn({
        let buffer = Arc::clone(&buffer);
        move || {
            for n in 0..1000 {
                buffer.wait_for_room().unwrap();
                append(&buffer, &header, n..n + 1);
            }
            buffer.end();
        }
    });
    let mut got = Vec::new();
    let mut most = 0;
    while !reader.at_end() {
        most = most.max(reader.progress().lag.packets);
        if let Some(batch) = reader.take(5 * 304) {
            got.extend(numbers(&batch));
        }
        std::thread::yield_now();
    }
    writer.join().unwrap();
    assert_eq!(got, (0..1000).collect::<Vec<_>>());
    assert!(most <= 11, "{most}");
}

#[test]
fn a_waiting_writer_is_woken_when_there_is_room_for_many() {
    let header = header(300);
    let buffer = limited_to(8);
    let mut reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Block));
    reader.set_streaming(true);
    append(&buffer, &header, 0..9);
    let writer = std::thread::spawn({
        let buffer = Arc::clone(&buffer);
        move || buffer.wait_for_room()
    });
    while !buffer.lock().writer_waits {
        std::thread::yield_now();
    }
    for left in [8, 7] {
        reader.take(304).unwrap();
        assert!(!buffer.lock().should_notify_writer(), "{left} of 8");
    }
    reader.take(304).unwrap();
    writer.join().unwrap().unwrap();
}

/// An acknowledgement wakes the writer like taking packets.
#[test]
fn a_waiting_writer_is_woken_by_acknowledgements() {
    let header = header(300);
    let buffer = limited_to(8);
    let mut reader = buffer.reader(StartPosition::Oldest, keeping_unacknowledged());
    reader.set_streaming(true);
    append(&buffer, &header, 0..9);
    take_all(&mut reader);
    let writer = std::thread::spawn({
        let buffer = Arc::clone(&buffer);
        move || buffer.wait_for_room()
    });
    while !buffer.lock().writer_waits {
        std::thread::yield_now();
    }
    for outstanding in [8, 7] {
        assert!(reader.acknowledge(outstanding * 304).advanced);
        assert!(!buffer.lock().should_notify_writer(), "{outstanding} of 8");
    }
    reader.acknowledge(6 * 304);
    writer.join().unwrap().unwrap();
}

/// A reader that takes no packets is still notified of dropped ones.
#[test]
fn an_inactive_reader_is_woken_by_dropped_packets() {
    let header = header(300);
    let buffer = limited_to(5);
    let reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Keyframe));
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let mut dropped = pin!(reader.wait_until_dropped());
    assert!(dropped.as_mut().poll(&mut context).is_pending());
    append(&buffer, &header, 0..5);
    assert_eq!(count.0.load(Ordering::SeqCst), 0);
    append(&buffer, &header, 5..8);
    append(&buffer, &header, 8..9);
    assert_eq!(count.0.load(Ordering::SeqCst), 1, "once");
    assert!(dropped.as_mut().poll(&mut context).is_ready());
    assert_eq!(reader.take_dropped(), 4);
    assert!(pin!(reader.wait_until_dropped()).poll(&mut context).is_pending());
}

/// Whether the writer would have to wait now.
fn held_back(buffer: &PacketBuffer) -> bool {
    buffer.lock().is_writer_blocked()
}

#[test]
fn only_streaming_readers_block_unless_none_streams() {
    let header = header(300);
    let buffer = limited_to(5);
    let down = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Block));
    let mut up = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Block));
    append(&buffer, &header, 0..6);
    assert!(held_back(&buffer), "none streams, both are full");
    up.set_streaming(true);
    take_all(&mut up);
    assert!(!held_back(&buffer), "the disconnected reader does not count");
    append(&buffer, &header, 6..12);
    assert!(held_back(&buffer), "the slowest streaming reader decides");
    up.set_streaming(false);
    take_all(&mut up);
    assert!(!held_back(&buffer), "none streams: the first with room ends the wait");
    drop(up);
    assert!(held_back(&buffer), "the other one is full");
    drop(down);
    assert!(!held_back(&buffer), "no reader is left to wait for");
}

#[test]
fn a_wait_for_room_can_be_interrupted() {
    let header = header(300);
    let buffer = limited_to(1);
    let reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Block));
    reader.set_streaming(true);
    append(&buffer, &header, 0..5);
    let waiting = std::thread::spawn({
        let buffer = Arc::clone(&buffer);
        move || buffer.wait_for_room()
    });
    while !buffer.lock().writer_waits {
        std::thread::yield_now();
    }
    buffer.interrupt(true);
    assert_eq!(waiting.join().unwrap(), Err(Interrupted));
    buffer.interrupt(false);
    buffer.set_policy(DropPolicy::Block);
    reader.set_options(with_policy(DropPolicy::Keyframe));
    assert_eq!(buffer.wait_for_room(), Ok(()));
}

#[test]
fn a_reader_waiting_for_an_overrun_is_woken() {
    let header = header(300);
    let buffer = limited_to(5);
    let reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Disconnect));
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let mut wait_until_overrun = pin!(reader.wait_until_overrun());
    append(&buffer, &header, 0..5);
    assert!(wait_until_overrun.as_mut().poll(&mut context).is_pending());
    assert_eq!(reader.progress().congestion, 1.0);
    append(&buffer, &header, 5..6);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(wait_until_overrun.as_mut().poll(&mut context).is_ready());
}

#[test]
fn a_paused_reader_does_not_block_and_resumes_at_a_key_frame() {
    let header = header(300);
    let buffer = limited_to(15);
    let mut reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Block));
    reader.set_streaming(true);
    append(&buffer, &header, 0..5);
    take_all(&mut reader);
    reader.pause();
    append(&buffer, &header, 5..33);
    assert!(!held_back(&buffer));
    assert_eq!((counts(&reader), reader.progress().lag.packets), ((5, 28), 0));
    reader.resume();
    assert_eq!(take_all(&mut reader), [30, 31, 32]);
    assert_eq!(counts(&reader), (8, 25));
}
