//! Who waits, for packets or for room, and what ends that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;

/// Counts its wake-ups.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn waiting_cursors_are_woken_once_enough_is_there() {
    let header = header(300);
    let log = unlimited();
    let cursor = log.cursor(StartPosition::Oldest, ReaderOptions::default());
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let mut many = pin!(cursor.ready(3 * 304));
    assert!(many.as_mut().poll(&mut context).is_pending());
    append(&log, &header, 0..2);
    assert_eq!(count.0.load(Ordering::SeqCst), 0, "not for two of three");
    append(&log, &header, 2..3);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    append(&log, &header, 3..9);
    assert_eq!(count.0.load(Ordering::SeqCst), 1, "once");
    assert!(many.as_mut().poll(&mut context).is_ready());
}

#[test]
fn nobody_waits_for_more_than_half_of_the_limits() {
    let header = header(300);
    let log = of_packets(8);
    let cursor = log.cursor(StartPosition::Oldest, ReaderOptions::default());
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let mut many = pin!(cursor.ready(u64::MAX));
    append(&log, &header, 0..3);
    assert!(many.as_mut().poll(&mut context).is_pending());
    append(&log, &header, 3..4);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(many.as_mut().poll(&mut context).is_ready());
}

#[test]
fn the_end_wakes_and_comes_after_the_last_packet() {
    let header = header(300);
    let log = unlimited();
    let mut cursor = log.cursor(StartPosition::Oldest, ReaderOptions::default());
    append(&log, &header, 0..1);
    log.end();
    assert!(!cursor.at_end());
    let waker = Waker::noop();
    let many = pin!(cursor.ready(100 * 304)).poll(&mut Context::from_waker(waker));
    assert!(many.is_ready(), "more than there is will not come");
    take_all(&mut cursor);
    assert!(cursor.at_end());
    assert!(pin!(cursor.ready(1)).poll(&mut Context::from_waker(waker)).is_ready());
}

#[test]
fn nobody_waits_for_more_than_will_come() {
    let header = header(300);
    let log = unlimited();
    let cursors = [log.cursor(StartPosition::Oldest, ReaderOptions::default()), log.cursor(StartPosition::Oldest, ReaderOptions::default())];
    append(&log, &header, 0..1);
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let [mut one, mut other] = cursors.each_ref().map(|cursor| Box::pin(cursor.ready(1000)));
    assert!(one.as_mut().poll(&mut context).is_pending() && other.as_mut().poll(&mut context).is_pending());
    cursors[0].observer().end_here();
    assert_eq!(count.0.load(Ordering::SeqCst), 1, "its own end");
    assert!(one.as_mut().poll(&mut context).is_ready() && other.as_mut().poll(&mut context).is_pending());
    log.end();
    assert_eq!(count.0.load(Ordering::SeqCst), 2, "the log's");
    assert!(other.as_mut().poll(&mut context).is_ready());
}

#[test]
fn a_blocking_cursor_holds_the_writer_and_loses_nothing() {
    let header = header(300);
    let log = of_packets(10);
    let mut cursor = log.cursor(StartPosition::Oldest, by(DropPolicy::Block));
    cursor.set_streaming(true);
    let writer = std::thread::spawn({
        let log = Arc::clone(&log);
        move || {
            for n in 0..1000 {
                log.wait_for_room().unwrap();
                append(&log, &header, n..n + 1);
            }
            log.end();
        }
    });
    let mut got = Vec::new();
    let mut most = 0;
    while !cursor.at_end() {
        most = most.max(cursor.progress().lag.packets);
        if let Some(batch) = cursor.take(5 * 304) {
            got.extend(numbers(&batch));
        }
        std::thread::yield_now();
    }
    writer.join().unwrap();
    assert_eq!(got, (0..1000).collect::<Vec<_>>());
    assert!(most <= 11, "{most}");
}

#[test]
fn the_writer_that_waits_is_woken_once_there_is_room_for_many() {
    let header = header(300);
    let log = of_packets(8);
    let mut cursor = log.cursor(StartPosition::Oldest, by(DropPolicy::Block));
    cursor.set_streaming(true);
    append(&log, &header, 0..9);
    let writer = std::thread::spawn({
        let log = Arc::clone(&log);
        move || log.wait_for_room()
    });
    while !log.lock().writer_waits {
        std::thread::yield_now();
    }
    for left in [8, 7] {
        cursor.take(304).unwrap();
        assert!(!log.lock().shall_tell_writer(), "{left} of 8");
    }
    cursor.take(304).unwrap();
    writer.join().unwrap().unwrap();
}

/// Whether the writer would have to wait now.
fn held_back(log: &PacketBuffer) -> bool {
    log.lock().is_held_back()
}

#[test]
fn only_destinations_that_stream_hold_back_unless_none_does() {
    let header = header(300);
    let log = of_packets(5);
    let down = log.cursor(StartPosition::Oldest, by(DropPolicy::Block));
    let mut up = log.cursor(StartPosition::Oldest, by(DropPolicy::Block));
    append(&log, &header, 0..6);
    assert!(held_back(&log), "none streams, both are full");
    up.set_streaming(true);
    take_all(&mut up);
    assert!(!held_back(&log), "the one that is down does not count");
    append(&log, &header, 6..12);
    assert!(held_back(&log), "the slowest that streams counts");
    up.set_streaming(false);
    take_all(&mut up);
    assert!(!held_back(&log), "none streams: the first with room ends the wait");
    drop(up);
    assert!(held_back(&log), "the other one is full");
    drop(down);
    assert!(!held_back(&log), "nobody is left to wait for");
}

#[test]
fn a_wait_for_room_can_be_interrupted() {
    let header = header(300);
    let log = of_packets(1);
    let cursor = log.cursor(StartPosition::Oldest, by(DropPolicy::Block));
    cursor.set_streaming(true);
    append(&log, &header, 0..5);
    let waiting = std::thread::spawn({
        let log = Arc::clone(&log);
        move || log.wait_for_room()
    });
    while !log.lock().writer_waits {
        std::thread::yield_now();
    }
    log.interrupt(true);
    assert_eq!(waiting.join().unwrap(), Err(Interrupted));
    log.interrupt(false);
    log.set_policy(DropPolicy::Block);
    cursor.set_terms(by(DropPolicy::Keyframe));
    assert_eq!(log.wait_for_room(), Ok(()));
}

#[test]
fn whoever_waits_to_be_lapped_is_woken() {
    let header = header(300);
    let log = of_packets(5);
    let cursor = log.cursor(StartPosition::Oldest, by(DropPolicy::Disconnect));
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let mut lapped = pin!(cursor.lapped());
    append(&log, &header, 0..5);
    assert!(lapped.as_mut().poll(&mut context).is_pending());
    assert_eq!(cursor.progress().congestion, 1.0);
    append(&log, &header, 5..6);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(lapped.as_mut().poll(&mut context).is_ready());
}

#[test]
fn a_parked_cursor_holds_nobody_up_and_goes_on_at_a_key_frame() {
    let header = header(300);
    let log = of_packets(15);
    let mut cursor = log.cursor(StartPosition::Oldest, by(DropPolicy::Block));
    cursor.set_streaming(true);
    append(&log, &header, 0..5);
    take_all(&mut cursor);
    cursor.park();
    append(&log, &header, 5..33);
    assert!(!held_back(&log));
    assert_eq!((counts(&cursor), cursor.progress().lag.packets), ((5, 28), 0));
    cursor.go_on();
    assert_eq!(take_all(&mut cursor), [30, 31, 32]);
    assert_eq!(counts(&cursor), (8, 25));
}
