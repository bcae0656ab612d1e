//! Packets that nobody needs leave the buffer before its limits are reached.

use super::*;

/// Framed size in bytes of a packet in these tests.
const FRAMED: u64 = 3004;
/// Number of packets in a group of pictures; see [`append`].
const GROUP: u64 = 10;
/// Number of packets appended between two removals.
const STEP: u64 = RELEASE_BYTES.div_ceil(FRAMED);

fn large() -> Arc<Header> {
    header(3000)
}

/// Appends the packets `numbers` one by one, as a live source does, and calls `after` for each of them.
fn append_each(buffer: &PacketBuffer, numbers: std::ops::Range<u32>, mut after: impl FnMut()) {
    let header = large();
    for number in numbers {
        append(buffer, &header, number..number + 1);
        after();
    }
}

fn kept(buffer: &PacketBuffer) -> u64 {
    buffer.lock().ring.kept().0 as u64
}

#[test]
fn a_group_of_pictures_is_kept_for_readers_that_come_later() {
    for with_reader in [false, true] {
        let buffer = unlimited();
        let mut reader = with_reader.then(|| buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Keyframe)));
        append_each(&buffer, 0..1000, || {
            reader.as_mut().map(take_all);
            assert!(kept(&buffer) <= GROUP + STEP, "{}", kept(&buffer));
            let late = buffer.reader(StartPosition::LatestKeyframe, ReaderOptions::default());
            assert!(!late.waits_for_key_frame());
        });
        let dropped = reader.map_or(0, |reader| reader.progress().dropped);
        assert_eq!(dropped, 0);
    }
}

#[test]
fn a_reader_that_lags_keeps_its_packets_and_the_key_frame_before_them() {
    let buffer = unlimited();
    let mut quick = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Keyframe));
    let mut slow = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Keyframe));
    append_each(&buffer, 0..45, || drop(take_all(&mut quick)));
    assert_eq!(numbers(&slow.take(33 * FRAMED).unwrap()).last(), Some(&32));
    append_each(&buffer, 45..400, || drop(take_all(&mut quick)));
    assert_eq!(buffer.lock().ring.tail(), 30);
    assert_eq!(slow.move_to_key_frame(), 3 * FRAMED, "its peer lost the stream");
    assert_eq!(take_all(&mut slow), (30..400).collect::<Vec<_>>());
    append_each(&buffer, 400..800, || drop((take_all(&mut quick), take_all(&mut slow))));
    assert!(kept(&buffer) <= GROUP + STEP, "{}", kept(&buffer));
    slow.pause();
    append_each(&buffer, 800..1000, || drop(take_all(&mut quick)));
    assert!(kept(&buffer) <= GROUP + STEP, "a paused reader needs nothing: {}", kept(&buffer));
}

#[test]
fn packets_are_kept_until_they_have_arrived() {
    for policy in [DropPolicy::Keyframe, DropPolicy::Oldest, DropPolicy::Disconnect] {
        let buffer = unlimited();
        let options = ReaderOptions { policy: Some(policy), ..keeping_unacknowledged() };
        let mut reader = buffer.reader(StartPosition::Oldest, options);
        let first_needed = u32::try_from(ACKNOWLEDGE_BYTES.div_ceil(FRAMED)).unwrap();
        append_each(&buffer, 0..first_needed - 1, || {
            assert!(!reader.take(u64::MAX).unwrap().needs_acknowledgement, "{policy:?}");
        });
        append_each(&buffer, first_needed - 1..200, || {
            assert!(reader.take(u64::MAX).unwrap().needs_acknowledgement, "{policy:?}");
        });
        assert_eq!(kept(&buffer), 200, "{policy:?}");
        reader.rewind(190 * FRAMED);
        assert_eq!(take_all(&mut reader), (10..200).collect::<Vec<_>>(), "{policy:?}");
        let arrived = Acknowledged { advanced: true, more_needed: false };
        assert_eq!(reader.acknowledge(50 * FRAMED), arrived, "{policy:?}");
        append_each(&buffer, 200..400, || drop(take_all(&mut reader)));
        assert_eq!(buffer.lock().ring.tail(), 150, "{policy:?}");
        reader.rewind(250 * FRAMED);
        assert_eq!(take_all(&mut reader), (150..400).collect::<Vec<_>>(), "{policy:?}");
        assert_eq!(reader.progress().dropped, 0, "{policy:?}");
    }
}

/// The limits hold even if nothing arrives.
#[test]
fn unacknowledged_packets_are_dropped_beyond_the_limits() {
    let buffer = limited_to(40);
    let options = ReaderOptions { policy: Some(DropPolicy::Keyframe), ..keeping_unacknowledged() };
    let mut reader = buffer.reader(StartPosition::Oldest, options);
    append_each(&buffer, 0..200, || drop(take_all(&mut reader)));
    assert_eq!(kept(&buffer), 40);
    reader.rewind(u64::MAX);
    let lost = reader.progress();
    assert_eq!((lost.dropped, lost.lag.packets), (160, 40));
}

/// A blocking reader whose peer lost the stream takes packets again that were acknowledged.
#[test]
fn packets_that_are_taken_again_from_a_key_frame_are_kept() {
    let header = header(300);
    let buffer = limited_to(10);
    let mut reader = buffer.reader(StartPosition::Oldest, keeping_unacknowledged());
    reader.set_streaming(true);
    append(&buffer, &header, 0..9);
    take_all(&mut reader);
    assert!(reader.acknowledge(0).advanced);
    assert_eq!(reader.move_to_key_frame(), 9 * 304);
    append(&buffer, &header, 9..11);
    assert!(buffer.lock().is_writer_blocked(), "11 of 10");
    append(&buffer, &header, 11..12);
    assert_eq!(take_all(&mut reader), (0..12).collect::<Vec<_>>());
    assert_eq!(reader.progress().dropped, 0);
}
