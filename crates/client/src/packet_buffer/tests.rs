//! The log and its cursors, with packets that tell who they are.

mod waits;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use asf::test_util::{HeaderBuilder, PacketBuilder, Payload};
use asf::{Header, Packet, Padding};
use wmhttp::packet::{Decoder, Packet as Framed};

const VIDEO: u8 = 2;

fn header(size: u32) -> Arc<Header> {
    Arc::new(Header::parse(HeaderBuilder::default().packet_size(size).build()).unwrap())
}

/// The packet number `n`: sent at `n` × 100 ms, a key frame where `key`.
fn packet(header: &Header, n: u32, key: bool) -> Packet {
    let payload = Payload::new(VIDEO, &n.to_le_bytes());
    let payload = if key { payload.key() } else { payload };
    let bytes = PacketBuilder::asfmux(header.packet_size(), vec![payload]).send_time(n * 100).build();
    let packet = Packet::parse([bytes, Bytes::new()], header, Padding::Keep);
    assert!(packet.is_parsed());
    assert_eq!(packet.starts_key_frame(), key);
    packet
}

/// Appends the packets `numbers`; each tenth starts a key frame.
fn append(log: &PacketBuffer, header: &Arc<Header>, numbers: std::ops::Range<u32>) {
    log.append(header, numbers.map(|n| packet(header, n, n % 10 == 0)));
}

/// The numbers of the packets in a batch, read back from its bytes.
fn numbers(batch: &Batch) -> Vec<u32> {
    let mut decoder = Decoder::default();
    let all: Vec<u8> = batch.frames.iter().flatten().copied().collect();
    assert_eq!(all.len() as u64, batch.len());
    decoder.push(Bytes::from(all));
    let mut numbers = Vec::new();
    while let Some(framed) = decoder.next_packet().unwrap() {
        let Framed::Data(payload) = framed else { panic!("{framed:?}") };
        assert_eq!(payload.len(), batch.header.packet_size());
        let packet = Packet::parse([payload, Bytes::new()], &batch.header, Padding::Keep);
        numbers.push(packet.send_time() / 100);
    }
    assert!(decoder.is_aligned());
    assert_eq!(numbers.len(), batch.sizes.len());
    numbers
}

fn by(policy: DropPolicy) -> ReaderOptions {
    ReaderOptions { policy: Some(policy), ..ReaderOptions::default() }
}

fn take_all(cursor: &mut Reader) -> Vec<u32> {
    let mut all = Vec::new();
    while let Some(batch) = cursor.take(u64::MAX) {
        all.extend(numbers(&batch));
    }
    all
}

/// Packets taken and packets missed.
fn counts(cursor: &Reader) -> (u64, u64) {
    let progress = cursor.progress();
    (progress.taken, progress.dropped)
}

fn unlimited() -> Arc<PacketBuffer> {
    PacketBuffer::new(Limits { time: Duration::ZERO, bytes: 0, packets: 0 })
}

fn of_packets(packets: usize) -> Arc<PacketBuffer> {
    PacketBuffer::new(Limits { time: Duration::ZERO, bytes: 0, packets })
}

#[test]
fn what_goes_in_comes_out_in_any_portions() {
    // Below, at and above the size of a block.
    for size in [64, 300, 3200, 9000, 16_379, 16_380, 16_384, 40_000] {
        let header = header(size);
        let log = unlimited();
        let mut whole = log.cursor(StartPosition::Oldest, ReaderOptions::default());
        let mut single = log.cursor(StartPosition::Oldest, ReaderOptions::default());
        let mut lazy = log.cursor(StartPosition::Oldest, ReaderOptions::default());
        let framed = u64::from(size) + 4;
        for n in 0..40 {
            append(&log, &header, n * 3..n * 3 + 3);
            assert_eq!(take_all(&mut whole), [n * 3, n * 3 + 1, n * 3 + 2], "size {size}");
            for k in 0..3 {
                let batch = single.take(framed + framed / 2).unwrap();
                assert_eq!(numbers(&batch), [n * 3 + k], "size {size}");
            }
        }
        assert_eq!(take_all(&mut lazy), (0..120).collect::<Vec<_>>(), "size {size}");
    }
}

#[test]
fn packets_share_blocks() {
    let log = unlimited();
    let mut first = log.cursor(StartPosition::Oldest, ReaderOptions::default());
    let mut second = log.cursor(StartPosition::Oldest, ReaderOptions::default());
    for (size, packets, blocks) in [(300, 0..50, 1), (16_000, 50..58, 2), (40_000, 58..60, 2), (65_500, 60..62, 2)] {
        append(&log, &header(size), packets);
        let (a, b) = (first.take(u64::MAX).unwrap(), second.take(u64::MAX).unwrap());
        assert_eq!(a.frames.len(), blocks, "packets of {size}");
        assert_eq!(a.frames[0].as_ptr(), b.frames[0].as_ptr(), "one copy for all");
    }
}

#[test]
fn a_batch_never_mixes_streams() {
    let (one, two) = (header(300), header(400));
    let log = unlimited();
    let mut cursor = log.cursor(StartPosition::Oldest, ReaderOptions::default());
    append(&log, &one, 0..3);
    append(&log, &two, 3..5);
    assert!(Arc::ptr_eq(&cursor.peek().unwrap().header, &one));
    let batch = cursor.take(u64::MAX).unwrap();
    assert!(Arc::ptr_eq(&batch.header, &one));
    assert_eq!(numbers(&batch), [0, 1, 2]);
    let next = cursor.peek().unwrap();
    assert!(Arc::ptr_eq(&next.header, &two));
    assert_eq!(next.size, 404);
    assert_eq!(numbers(&cursor.take(u64::MAX).unwrap()), [3, 4]);
    assert!(cursor.peek().is_none());
}

/// Who has looked at one stream does not take packets of another under it.
#[test]
fn a_cursor_that_is_lapped_after_a_look_takes_nothing() {
    let (one, two) = (header(300), header(400));
    let log = of_packets(5);
    let mut cursor = log.cursor(StartPosition::Oldest, by(DropPolicy::Keyframe));
    append(&log, &one, 0..3);
    let seen = cursor.peek().unwrap();
    assert!(Arc::ptr_eq(&seen.header, &one));
    append(&log, &two, 3..7);
    assert!(cursor.take_of(&seen.header, u64::MAX).is_none());
    let next = cursor.peek().unwrap();
    assert!(Arc::ptr_eq(&next.header, &two));
    let batch = cursor.take_of(&next.header, u64::MAX).unwrap();
    assert_eq!((batch.skipped, numbers(&batch)), (3, vec![3, 4, 5, 6]));
}

#[test]
fn a_batch_is_empty_where_the_next_packet_does_not_fit() {
    let header = header(300);
    let log = unlimited();
    let mut cursor = log.cursor(StartPosition::Oldest, ReaderOptions::default());
    append(&log, &header, 0..2);
    assert!(cursor.take(303).unwrap().is_empty());
    assert_eq!(numbers(&cursor.take(304).unwrap()), [0]);
}

#[test]
fn limits_of_packets_bytes_and_time() {
    let header = header(300);
    for (limits, kept) in [
        (Limits { time: Duration::ZERO, bytes: 0, packets: 7 }, 7),
        (Limits { time: Duration::ZERO, bytes: 304 * 5, packets: 0 }, 5),
        (Limits { time: Duration::from_millis(900), bytes: 0, packets: 0 }, 10),
    ] {
        let log = PacketBuffer::new(limits);
        append(&log, &header, 0..100);
        let mut cursor = log.cursor(StartPosition::Oldest, by(DropPolicy::Oldest));
        assert_eq!(take_all(&mut cursor), (100 - kept..100).collect::<Vec<_>>(), "{limits:?}");
    }
}

#[test]
fn where_cursors_start() {
    let header = header(300);
    let log = unlimited();
    append(&log, &header, 0..25);
    let mut starts = [StartPosition::Oldest, StartPosition::LatestKeyframe, StartPosition::Live, StartPosition::NextKeyframe]
        .map(|start| log.cursor(start, ReaderOptions::default()));
    append(&log, &header, 25..32);
    let firsts: Vec<u32> = starts.iter_mut().map(|cursor| take_all(cursor)[0]).collect();
    assert_eq!(firsts, [0, 20, 25, 30]);
}

#[test]
fn the_first_packet_of_a_stream_is_a_start() {
    let header = header(300);
    let log = unlimited();
    let mut cursor = log.cursor(StartPosition::LatestKeyframe, ReaderOptions::default());
    append(&log, &header, 3..5);
    assert_eq!(take_all(&mut cursor), [3, 4]);
}

#[test]
fn a_lapped_cursor_goes_on_at_the_newest_key_frame_and_knows_its_gap() {
    let header = header(300);
    let log = of_packets(15);
    let mut cursor = log.cursor(StartPosition::Oldest, by(DropPolicy::Keyframe));
    append(&log, &header, 0..5);
    assert_eq!(take_all(&mut cursor), [0, 1, 2, 3, 4]);
    append(&log, &header, 5..44);
    let batch = cursor.take(u64::MAX).unwrap();
    assert_eq!(batch.skipped, 35);
    assert_eq!(numbers(&batch), [40, 41, 42, 43]);
    assert_eq!(counts(&cursor), (9, 35));
    assert_eq!(cursor.progress().dropped_bytes, 35 * 304);
}

/// What comes after the end that a cursor has is no lag of its own: neither is it lapped by it, nor is the writer held.
#[test]
fn a_cursor_with_an_end_lags_no_further() {
    let header = header(300);
    let time = |limit| Limits { time: Duration::from_millis(limit), bytes: 0, packets: 0 };
    for policy in [DropPolicy::Keyframe, DropPolicy::Block] {
        let log = PacketBuffer::new(time(100_000));
        let terms = ReaderOptions { limits: Some(time(1000)), ..by(policy) };
        let mut cursor = log.cursor(StartPosition::Oldest, terms);
        append(&log, &header, 0..5);
        cursor.observer().end_here();
        append(&log, &header, 5..50);
        assert_eq!(cursor.progress().lag.time, Duration::from_millis(400));
        assert!(!log.lock().is_held_back(), "{policy:?}");
        assert_eq!(take_all(&mut cursor), [0, 1, 2, 3, 4], "{policy:?}");
        assert_eq!(cursor.progress().lag, Lag::default());
    }
}

#[test]
fn policies_of_a_lapped_cursor() {
    let header = header(300);
    for (policy, first) in [(DropPolicy::Keyframe, 40), (DropPolicy::Disconnect, 40), (DropPolicy::Oldest, 34)] {
        let log = of_packets(10);
        let mut cursor = log.cursor(StartPosition::Oldest, ReaderOptions::default());
        log.set_policy(policy);
        append(&log, &header, 0..44);
        assert_eq!(take_all(&mut cursor)[0], first, "{policy:?}");
    }
}

#[test]
fn a_lapped_cursor_waits_for_a_key_frame_where_none_is_kept() {
    let header = header(300);
    let log = of_packets(4);
    let mut cursor = log.cursor(StartPosition::Oldest, by(DropPolicy::Keyframe));
    append(&log, &header, 0..18);
    assert!(cursor.take(u64::MAX).is_none());
    append(&log, &header, 18..22);
    assert_eq!(take_all(&mut cursor), [20, 21]);
    assert_eq!(counts(&cursor), (2, 20));
}

#[test]
fn rewinding_repeats_whole_packets() {
    let header = header(300);
    let log = of_packets(20);
    let mut cursor = log.cursor(StartPosition::Oldest, by(DropPolicy::Oldest));
    append(&log, &header, 0..10);
    take_all(&mut cursor);
    for (bytes, again) in [(0, vec![]), (1, vec![9]), (304, vec![9]), (305, vec![8, 9]), (304 * 4, vec![6, 7, 8, 9])] {
        cursor.rewind(bytes);
        assert_eq!(take_all(&mut cursor), again, "{bytes}");
        assert_eq!(counts(&cursor), (10, 0));
    }
}

/// What a connection did not deliver is counted to the packet, also where the log has let it go.
#[test]
fn rewinding_beyond_what_is_kept_counts_what_is_lost() {
    let header = header(300);
    let log = of_packets(20);
    let mut cursor = log.cursor(StartPosition::Oldest, by(DropPolicy::Oldest));
    append(&log, &header, 0..50);
    take_all(&mut cursor);
    assert_eq!(counts(&cursor), (20, 30));
    append(&log, &header, 50..65);
    take_all(&mut cursor);
    assert_eq!(counts(&cursor), (35, 30));
    cursor.rewind(304 * 22 + 1);
    assert_eq!((counts(&cursor), cursor.progress().lag.packets), ((12, 30), 23));
    let batch = cursor.take(u64::MAX).unwrap();
    assert_eq!((batch.skipped, numbers(&batch)[0]), (3, 45));
    assert_eq!(counts(&cursor), (32, 33));
    assert_eq!(cursor.progress().dropped_bytes, 33 * 304);
}

/// After a jump the lost packets are those that were sent before it, not those that it left out.
#[test]
fn rewinding_over_a_gap_leaves_it_a_gap() {
    let header = header(300);
    let log = of_packets(20);
    let mut cursor = log.cursor(StartPosition::Oldest, by(DropPolicy::Keyframe));
    append(&log, &header, 0..5);
    take_all(&mut cursor);
    append(&log, &header, 5..44);
    assert_eq!(take_all(&mut cursor), [40, 41, 42, 43]);
    assert_eq!(counts(&cursor), (9, 35));
    assert_eq!(cursor.packets_in_last(304 * 5), 5);
    cursor.rewind(304 * 5 + 1);
    assert_eq!(counts(&cursor), (3, 37), "3 and 4 were lost before the jump");
    assert_eq!(cursor.progress().dropped_bytes, 37 * 304);
    let batch = cursor.take(u64::MAX).unwrap();
    assert_eq!((batch.skipped, numbers(&batch)), (2, vec![40, 41, 42, 43]));
    cursor.rewind(304 * 6);
    assert_eq!((take_all(&mut cursor), counts(&cursor)), (vec![40, 41, 42, 43], (5, 39)));
    assert_eq!(cursor.packets_in_last(u64::MAX), 5);
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Append(u32),
    Take(u64),
    /// The far end has not got so many of the last bytes.
    Lose(u64),
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Each packet arrives once, in order, or is counted as dropped, whatever is lost when.
    #[test]
    fn what_does_not_arrive_is_counted(
        policy in prop_oneof![Just(DropPolicy::Keyframe), Just(DropPolicy::Oldest)],
        deeds in prop::collection::vec(prop_oneof![
            (1_u32..40).prop_map(Deed::Append),
            (0_u64..6000).prop_map(Deed::Take),
            (0_u64..6000).prop_map(Deed::Lose),
        ], 1..80),
    ) {
        let headers = [header(300), header(400)];
        let log = of_packets(12);
        let mut cursor = log.cursor(StartPosition::Oldest, by(policy));
        let (mut appended, mut arrived) = (0, Vec::<(u32, u32)>::new());
        for (step, deed) in deeds.into_iter().chain([Deed::Take(u64::MAX); 12]).enumerate() {
            match deed {
                Deed::Append(count) => {
                    append(&log, &headers[step % 2], appended..appended + count);
                    appended += count;
                }
                Deed::Take(bytes) => {
                    if let Some(batch) = cursor.take(bytes) {
                        arrived.extend(numbers(&batch).into_iter().zip(batch.sizes.iter().copied()));
                    }
                }
                Deed::Lose(bytes) => {
                    let (before, mut left) = (arrived.len(), bytes);
                    while left > 0 && let Some((_, size)) = arrived.pop() {
                        left = left.saturating_sub(size.into());
                    }
                    prop_assert_eq!(cursor.packets_in_last(bytes), (before - arrived.len()) as u64);
                    cursor.rewind(bytes);
                }
            }
        }
        let arrived: Vec<u32> = arrived.into_iter().map(|(number, _)| number).collect();
        prop_assert!(arrived.is_sorted_by(|one, next| one < next), "{:?}", arrived);
        let Progress { taken, dropped, lag, .. } = cursor.progress();
        prop_assert_eq!((taken, dropped + lag.packets), (arrived.len() as u64, u64::from(appended) - taken));
    }
}

#[test]
fn a_rewind_further_than_anything_known_stays_sound() {
    let header = header(300);
    let log = of_packets(20);
    let mut cursor = log.cursor(StartPosition::Oldest, by(DropPolicy::Oldest));
    append(&log, &header, 0..10);
    take_all(&mut cursor);
    cursor.rewind(u64::MAX);
    assert_eq!((counts(&cursor), cursor.progress().lag.packets), ((0, 0), 10));
}

#[test]
fn each_cursor_has_its_own_limits() {
    let header = header(300);
    let log = of_packets(10);
    let few = Limits { time: Duration::ZERO, bytes: 0, packets: 4 };
    let many = Limits { packets: 30, ..few };
    let own = |limits, policy| ReaderOptions { limits: Some(limits), policy: Some(policy), ..ReaderOptions::default() };
    let mut tight = log.cursor(StartPosition::Oldest, own(few, DropPolicy::Oldest));
    let mut plain = log.cursor(StartPosition::Oldest, by(DropPolicy::Oldest));
    let mut loose = log.cursor(StartPosition::Oldest, own(many, DropPolicy::Oldest));
    append(&log, &header, 0..50);
    let firsts = [&mut tight, &mut plain, &mut loose].map(|cursor| take_all(cursor)[0]);
    assert_eq!(firsts, [46, 40, 20]);
    drop(loose);
    append(&log, &header, 50..52);
    assert_eq!(log.lock().ring.tail(), 42, "nobody needs more than 10 now");
}

/// The newest key frame is no place to go on where it lies beyond the limits itself.
#[test]
fn a_key_frame_beyond_the_limits_is_not_gone_back_to() {
    let header = header(300);
    let log = of_packets(100);
    let few = Limits { time: Duration::ZERO, bytes: 0, packets: 4 };
    let mut cursor = log.cursor(StartPosition::Oldest, ReaderOptions { limits: Some(few), ..by(DropPolicy::Keyframe) });
    append(&log, &header, 0..18);
    assert!(cursor.take(u64::MAX).is_none());
    append(&log, &header, 18..22);
    assert_eq!(take_all(&mut cursor), [20, 21]);
    assert_eq!(counts(&cursor), (2, 20));
}

#[test]
fn where_lapped_cursors_go_on() {
    let header = header(300);
    for (resync, first) in [(StartPosition::LatestKeyframe, 40), (StartPosition::Live, 44), (StartPosition::NextKeyframe, 50)] {
        let log = of_packets(10);
        let mut cursor = log.cursor(StartPosition::Oldest, ReaderOptions { resync, ..by(DropPolicy::Keyframe) });
        append(&log, &header, 0..44);
        let mut got = take_all(&mut cursor);
        append(&log, &header, 44..52);
        got.extend(take_all(&mut cursor));
        assert_eq!(got[0], first, "{resync:?}");
        let progress = cursor.progress();
        assert_eq!(progress.taken + progress.dropped, progress.received, "{resync:?}");
    }
}

#[test]
fn a_cursor_may_end_before_the_log() {
    let header = header(300);
    let log = unlimited();
    let mut cursor = log.cursor(StartPosition::Oldest, ReaderOptions::default());
    append(&log, &header, 0..8);
    cursor.observer().end_here();
    append(&log, &header, 8..12);
    assert!(!cursor.at_end());
    assert_eq!(take_all(&mut cursor), (0..8).collect::<Vec<_>>());
    assert!(cursor.at_end() && cursor.peek().is_none());
    assert_eq!(cursor.progress().received, 8);
    assert!(pin!(cursor.ready(1)).poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

#[test]
fn the_padding_saved_is_that_of_the_packets_taken() {
    let header = header(300);
    let log = of_packets(6);
    let mut cursor = log.cursor(StartPosition::Oldest, by(DropPolicy::Oldest));
    let stripped = |n: u32| {
        let bytes = PacketBuilder::asfmux(300, vec![Payload::new(VIDEO, &n.to_le_bytes())]).build();
        Packet::parse([bytes, Bytes::new()], &header, Padding::Explicit)
    };
    let saved = u64::from(stripped(0).padding_removed());
    assert!(saved > 200);
    log.append(&header, (0..4).map(stripped));
    while cursor.take(100).is_some_and(|batch| !batch.is_empty()) {}
    assert_eq!(cursor.progress().padding_saved, 4 * saved);
    log.append(&header, (0..10).map(stripped));
    while cursor.take(100).is_some_and(|batch| !batch.is_empty()) {}
    assert_eq!(cursor.progress().padding_saved, 10 * saved, "4 were missed");
}

#[test]
fn counts_add_up_whatever_happens() {
    let header = header(300);
    let log = of_packets(12);
    let mut cursor = log.cursor(StartPosition::Oldest, by(DropPolicy::Keyframe));
    let mut appended = 0;
    for step in 0..200_u32 {
        let more = step * 7 % 23;
        append(&log, &header, appended..appended + more);
        appended += more;
        if step % 3 == 0 {
            cursor.take(u64::from(step % 11) * 304);
        }
        if step % 17 == 0 {
            cursor.rewind(u64::from(step % 5) * 300);
        }
        let Progress { received, taken, dropped, lag, .. } = cursor.progress();
        assert_eq!(received, u64::from(appended), "step {step}");
        assert_eq!(taken + dropped + lag.packets, received, "step {step}");
    }
}

#[test]
fn observers_only_look() {
    let header = header(300);
    let log = of_packets(25);
    let mut cursor = log.cursor(StartPosition::Oldest, by(DropPolicy::Keyframe));
    let observer = cursor.observer();
    append(&log, &header, 0..48);
    assert_eq!(observer.progress().lag.packets, 48);
    append(&log, &header, 48..55);
    assert_eq!(take_all(&mut cursor), [50, 51, 52, 53, 54], "the newest key frame when it took");
    assert_eq!(observer.progress().dropped, 50);
    drop(cursor);
    append(&log, &header, 55..60);
    let progress = observer.progress();
    assert_eq!((progress.taken, progress.dropped, progress.lag.packets), (5, 55, 0));
}

#[test]
fn memory_follows_the_limits() {
    let header = header(1000);
    let log = PacketBuffer::new(Limits { time: Duration::ZERO, bytes: 100_000, packets: 0 });
    for n in 0..10_000 {
        append(&log, &header, n..n + 1);
    }
    let state = log.lock();
    let (packets, bytes) = state.ring.kept();
    assert!(packets <= 100_000 / 1004 + 1, "{packets}");
    assert!(bytes <= 100_000 + 2 * 64 * 1024, "{bytes}");
}
