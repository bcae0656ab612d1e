//! The packet buffer and its readers, with numbered packets.

mod followers;
mod random_operations;
mod releases;
mod waits;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::*;
use asf::test_util::{HeaderBuilder, PacketBuilder, Payload};
use asf::{Header, Packet, Padding};
use wmhttp::packet::{Decoder, Packet as Framed};

const VIDEO: u8 = 2;

fn header(size: u32) -> Arc<Header> {
    Arc::new(Header::parse(HeaderBuilder::default().packet_size(size).build()).unwrap())
}

/// Packet number `n` with a send time of `n` × 100 ms, and a key frame if `key` is set.
fn packet(header: &Header, n: u32, key: bool) -> Packet {
    let payload = Payload::new(VIDEO, &n.to_le_bytes());
    let payload = if key { payload.key() } else { payload };
    let bytes = PacketBuilder::asfmux(header.packet_size(), vec![payload]).send_time(n * 100).build();
    let packet = Packet::parse([bytes, Bytes::new()], header, Padding::Keep);
    assert!(packet.is_parsed());
    assert_eq!(packet.starts_key_frame(), key);
    packet
}

/// Appends the packets `numbers`; every tenth starts a key frame.
fn append(buffer: &PacketBuffer, header: &Arc<Header>, numbers: std::ops::Range<u32>) {
    buffer.append(header, numbers.map(|n| packet(header, n, n % 10 == 0)));
}

/// The numbers of the packets in a batch, decoded from its bytes.
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

fn with_policy(policy: DropPolicy) -> ReaderOptions {
    ReaderOptions { policy: Some(policy), ..ReaderOptions::default() }
}

fn take_all(reader: &mut Reader) -> Vec<u32> {
    let mut all = Vec::new();
    while let Some(batch) = reader.take(u64::MAX) {
        all.extend(numbers(&batch));
    }
    all
}

/// Returns the number of packets taken and dropped.
fn counts(reader: &Reader) -> (u64, u64) {
    let progress = reader.progress();
    (progress.taken, progress.dropped)
}

fn unlimited() -> Arc<PacketBuffer> {
    PacketBuffer::new(Limits { time: Duration::ZERO, bytes: 0, packets: 0 })
}

fn limited_to(packets: usize) -> Arc<PacketBuffer> {
    PacketBuffer::new(Limits { time: Duration::ZERO, bytes: 0, packets })
}

#[test]
fn packets_are_unchanged_in_batches_of_any_size() {
    // Smaller than, equal to and larger than a block.
    for size in [64, 300, 3200, 9000, 16_379, 16_380, 16_384, 40_000] {
        let header = header(size);
        let buffer = unlimited();
        let mut whole = buffer.reader(StartPosition::Oldest, ReaderOptions::default());
        let mut single = buffer.reader(StartPosition::Oldest, ReaderOptions::default());
        let mut lazy = buffer.reader(StartPosition::Oldest, ReaderOptions::default());
        let framed = u64::from(size) + 4;
        for n in 0..40 {
            append(&buffer, &header, n * 3..n * 3 + 3);
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
    let buffer = unlimited();
    let mut first = buffer.reader(StartPosition::Oldest, ReaderOptions::default());
    let mut second = buffer.reader(StartPosition::Oldest, ReaderOptions::default());
    for (size, packets, blocks) in [(300, 0..50, 1), (16_000, 50..58, 2), (40_000, 58..60, 2), (65_500, 60..62, 2)] {
        append(&buffer, &header(size), packets);
        let (a, b) = (first.take(u64::MAX).unwrap(), second.take(u64::MAX).unwrap());
        assert_eq!(a.frames.len(), blocks, "packets of {size}");
        assert_eq!(a.frames[0].as_ptr(), b.frames[0].as_ptr(), "one copy for all");
    }
}

#[test]
fn a_batch_never_mixes_streams() {
    let (one, two) = (header(300), header(400));
    let buffer = unlimited();
    let mut reader = buffer.reader(StartPosition::Oldest, ReaderOptions::default());
    append(&buffer, &one, 0..3);
    append(&buffer, &two, 3..5);
    assert!(Arc::ptr_eq(&reader.peek().unwrap().header, &one));
    let batch = reader.take(u64::MAX).unwrap();
    assert!(Arc::ptr_eq(&batch.header, &one));
    assert_eq!(numbers(&batch), [0, 1, 2]);
    let next = reader.peek().unwrap();
    assert!(Arc::ptr_eq(&next.header, &two));
    assert_eq!(next.size, 404);
    assert_eq!(numbers(&reader.take(u64::MAX).unwrap()), [3, 4]);
    assert!(reader.peek().is_none());
}

/// After a peek at one stream, a reader does not take packets of another one for it.
#[test]
fn a_reader_overrun_after_a_peek_takes_nothing() {
    let (one, two) = (header(300), header(400));
    let buffer = limited_to(5);
    let mut reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Keyframe));
    append(&buffer, &one, 0..3);
    let seen = reader.peek().unwrap();
    assert!(Arc::ptr_eq(&seen.header, &one));
    append(&buffer, &two, 3..7);
    assert!(reader.take_if_header(&seen.header, u64::MAX).is_none());
    let next = reader.peek().unwrap();
    assert!(Arc::ptr_eq(&next.header, &two));
    let batch = reader.take_if_header(&next.header, u64::MAX).unwrap();
    assert_eq!((batch.skipped, numbers(&batch)), (3, vec![3, 4, 5, 6]));
}

#[test]
fn a_batch_is_empty_if_the_next_packet_does_not_fit() {
    let header = header(300);
    let buffer = unlimited();
    let mut reader = buffer.reader(StartPosition::Oldest, ReaderOptions::default());
    append(&buffer, &header, 0..2);
    assert!(reader.take(303).unwrap().is_empty());
    assert_eq!(numbers(&reader.take(304).unwrap()), [0]);
}

#[test]
fn limits_of_packets_bytes_and_time() {
    let header = header(300);
    for (limits, kept) in [
        (Limits { time: Duration::ZERO, bytes: 0, packets: 7 }, 7),
        (Limits { time: Duration::ZERO, bytes: 304 * 5, packets: 0 }, 5),
        (Limits { time: Duration::from_millis(900), bytes: 0, packets: 0 }, 10),
    ] {
        let buffer = PacketBuffer::new(limits);
        append(&buffer, &header, 0..100);
        let mut reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Oldest));
        assert_eq!(take_all(&mut reader), (100 - kept..100).collect::<Vec<_>>(), "{limits:?}");
    }
}

#[test]
fn readers_start_at_their_start_position() {
    let header = header(300);
    let buffer = unlimited();
    append(&buffer, &header, 0..25);
    let mut starts =
        [StartPosition::Oldest, StartPosition::LatestKeyframe, StartPosition::Live, StartPosition::NextKeyframe]
            .map(|start| buffer.reader(start, ReaderOptions::default()));
    append(&buffer, &header, 25..32);
    let firsts: Vec<u32> = starts.iter_mut().map(|reader| take_all(reader)[0]).collect();
    assert_eq!(firsts, [0, 20, 25, 30]);
}

#[test]
fn decoding_can_start_at_the_first_packet_of_a_stream() {
    let header = header(300);
    let buffer = unlimited();
    let mut reader = buffer.reader(StartPosition::LatestKeyframe, ReaderOptions::default());
    append(&buffer, &header, 3..5);
    assert_eq!(take_all(&mut reader), [3, 4]);
}

#[test]
fn an_overrun_reader_resumes_at_the_latest_key_frame_and_reports_the_gap() {
    let header = header(300);
    let buffer = limited_to(15);
    let mut reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Keyframe));
    append(&buffer, &header, 0..5);
    assert_eq!(take_all(&mut reader), [0, 1, 2, 3, 4]);
    append(&buffer, &header, 5..44);
    let batch = reader.take(u64::MAX).unwrap();
    assert_eq!(batch.skipped, 35);
    assert_eq!(numbers(&batch), [40, 41, 42, 43]);
    assert_eq!(counts(&reader), (9, 35));
    assert_eq!(reader.progress().dropped_bytes, 35 * 304);
}

/// Packets after a reader's own end do not count towards its lag: it is not overrun by them, and does not block the
/// writer.
#[test]
fn packets_after_a_readers_end_are_not_lag() {
    let header = header(300);
    let time = |limit| Limits { time: Duration::from_millis(limit), bytes: 0, packets: 0 };
    for policy in [DropPolicy::Keyframe, DropPolicy::Block] {
        let buffer = PacketBuffer::new(time(100_000));
        let options = ReaderOptions { limits: Some(time(1000)), ..with_policy(policy) };
        let mut reader = buffer.reader(StartPosition::Oldest, options);
        append(&buffer, &header, 0..5);
        reader.monitor().end_at_head();
        append(&buffer, &header, 5..50);
        assert_eq!(reader.progress().lag.time, Duration::from_millis(400));
        assert!(!buffer.lock().is_writer_blocked(), "{policy:?}");
        assert_eq!(take_all(&mut reader), [0, 1, 2, 3, 4], "{policy:?}");
        assert_eq!(reader.progress().lag, Lag::default());
    }
}

#[test]
fn policies_of_an_overrun_reader() {
    let header = header(300);
    for (policy, first) in [(DropPolicy::Keyframe, 40), (DropPolicy::Disconnect, 40), (DropPolicy::Oldest, 34)] {
        let buffer = limited_to(10);
        let mut reader = buffer.reader(StartPosition::Oldest, ReaderOptions::default());
        buffer.set_policy(policy);
        append(&buffer, &header, 0..44);
        assert_eq!(take_all(&mut reader)[0], first, "{policy:?}");
    }
}

#[test]
fn an_overrun_reader_waits_for_a_key_frame_if_the_buffer_has_none() {
    let header = header(300);
    let buffer = limited_to(4);
    let mut reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Keyframe));
    append(&buffer, &header, 0..18);
    assert!(reader.take(u64::MAX).is_none());
    append(&buffer, &header, 18..22);
    assert_eq!(take_all(&mut reader), [20, 21]);
    assert_eq!(counts(&reader), (2, 20));
}

#[test]
fn rewinding_repeats_whole_packets() {
    let header = header(300);
    let buffer = limited_to(20);
    let mut reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Oldest));
    append(&buffer, &header, 0..10);
    take_all(&mut reader);
    for (bytes, again) in [(0, vec![]), (1, vec![9]), (304, vec![9]), (305, vec![8, 9]), (304 * 4, vec![6, 7, 8, 9])] {
        reader.rewind(bytes);
        assert_eq!(take_all(&mut reader), again, "{bytes}");
        assert_eq!(counts(&reader), (10, 0));
    }
}

/// For a peer that has no packets: the reader moves back to a key frame, or on to one if packets may be dropped.
/// Packets that were taken are taken again and not lost.
#[test]
fn moving_to_a_key_frame() {
    let header = header(300);
    for policy in [DropPolicy::Keyframe, DropPolicy::Block] {
        let buffer = unlimited();
        let mut reader = buffer.reader(StartPosition::Oldest, with_policy(policy));
        assert_eq!(reader.move_to_key_frame(), 0);
        append(&buffer, &header, 0..25);
        assert_eq!(numbers(&reader.take(304 * 13).unwrap()), (0..13).collect::<Vec<_>>());
        assert_eq!(reader.move_to_key_frame(), 304 * 3);
        assert_eq!((counts(&reader), reader.move_to_key_frame()), ((10, 0), 0), "it is already there");
        assert_eq!(take_all(&mut reader), (10..25).collect::<Vec<_>>());
        // All packets were taken, and none is available.
        assert_eq!(reader.move_to_key_frame(), 304 * 5);
        assert_eq!(take_all(&mut reader), (20..25).collect::<Vec<_>>());
        // The reader does not go back to packets of another stream.
        append(&buffer, &self::header(400), 31..33);
        assert_eq!(reader.move_to_key_frame(), 0);
        assert_eq!(take_all(&mut reader), [31, 32]);
        assert_eq!(reader.move_to_key_frame(), 404 * 2);
        assert_eq!(counts(&reader), (25, 0));
    }
    // The key frame is no longer in the buffer.
    for (policy, first, dropped) in
        [(DropPolicy::Keyframe, 20, 5), (DropPolicy::Oldest, 15, 0), (DropPolicy::Block, 15, 0)]
    {
        let buffer = limited_to(12);
        let mut reader = buffer.reader(StartPosition::Oldest, with_policy(policy));
        append(&buffer, &header, 0..12);
        reader.take(304 * 12).unwrap();
        append(&buffer, &header, 12..15);
        reader.take(304 * 3).unwrap();
        append(&buffer, &header, 15..23);
        assert_eq!(reader.move_to_key_frame(), 0);
        assert_eq!(take_all(&mut reader), (first..23).collect::<Vec<_>>(), "{policy:?}");
        assert_eq!(counts(&reader).1, dropped, "{policy:?}");
    }
    // There is no position to move to.
    let buffer = unlimited();
    let mut reader = buffer.reader(
        StartPosition::Live,
        ReaderOptions { resync: StartPosition::Live, ..with_policy(DropPolicy::Keyframe) },
    );
    append(&buffer, &header, 0..5);
    reader.take(304 * 3).unwrap();
    assert_eq!(reader.move_to_key_frame(), 0);
    assert_eq!(take_all(&mut reader), [3, 4]);
}

/// Packets that a connection did not deliver are counted exactly, even if they are no longer in the buffer.
#[test]
fn rewinding_beyond_the_buffer_counts_the_loss() {
    let header = header(300);
    let buffer = limited_to(20);
    let mut reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Oldest));
    append(&buffer, &header, 0..50);
    take_all(&mut reader);
    assert_eq!(counts(&reader), (20, 30));
    append(&buffer, &header, 50..65);
    take_all(&mut reader);
    assert_eq!(counts(&reader), (35, 30));
    reader.rewind(304 * 22 + 1);
    assert_eq!((counts(&reader), reader.progress().lag.packets), ((12, 33), 20));
    let batch = reader.take(u64::MAX).unwrap();
    assert_eq!((batch.skipped, numbers(&batch)[0]), (3, 45));
    assert_eq!(counts(&reader), (32, 33));
    assert_eq!(reader.progress().dropped_bytes, 33 * 304);
}

/// After a gap, the lost packets are those sent before it, not those that were skipped.
#[test]
fn rewinding_beyond_a_gap_extends_it() {
    let header = header(300);
    let buffer = limited_to(20);
    let mut reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Keyframe));
    append(&buffer, &header, 0..5);
    take_all(&mut reader);
    append(&buffer, &header, 5..44);
    assert_eq!(take_all(&mut reader), [40, 41, 42, 43]);
    assert_eq!(counts(&reader), (9, 35));
    assert_eq!(reader.packets_in_last(304 * 5), 5);
    reader.rewind(304 * 5 + 1);
    assert_eq!(counts(&reader), (3, 37), "3 and 4 were lost before the jump");
    assert_eq!(reader.progress().dropped_bytes, 37 * 304);
    let batch = reader.take(u64::MAX).unwrap();
    assert_eq!((batch.skipped, numbers(&batch)), (2, vec![40, 41, 42, 43]));
    reader.rewind(304 * 6);
    assert_eq!((take_all(&mut reader), counts(&reader)), (vec![40, 41, 42, 43], (5, 39)));
    assert_eq!(reader.packets_in_last(u64::MAX), 5);
}

fn keeping_unacknowledged() -> ReaderOptions {
    ReaderOptions { keeps_unacknowledged: true, ..with_policy(DropPolicy::Block) }
}

/// Packets that a blocking reader has taken are kept until the peer acknowledges them, and block the writer.
#[test]
fn unacknowledged_packets_are_kept() {
    let header = header(300);
    let buffer = limited_to(10);
    let mut reader = buffer.reader(StartPosition::Oldest, keeping_unacknowledged());
    reader.set_streaming(true);
    append(&buffer, &header, 0..4);
    assert!(!reader.take(u64::MAX).unwrap().needs_acknowledgement, "4 of 10");
    append(&buffer, &header, 4..6);
    assert!(reader.take(304).unwrap().needs_acknowledgement, "6 of 10");
    append(&buffer, &header, 6..11);
    take_all(&mut reader);
    assert!(buffer.lock().is_writer_blocked(), "all is taken, and none acknowledged");
    assert_eq!(reader.progress().lag, Lag::default(), "nothing is queued");
    assert_eq!(reader.progress().congestion, 1.0);
    let nothing = Acknowledged { advanced: false, more_needed: true };
    assert_eq!(reader.acknowledge(11 * 304 - 303), nothing, "the first packet is not complete");
    assert_eq!(reader.acknowledge(7 * 304 + 1), Acknowledged { advanced: true, more_needed: true });
    assert_eq!(reader.acknowledge(11 * 304), nothing, "an older acknowledgement has no effect");
    assert!(!buffer.lock().is_writer_blocked());
    append(&buffer, &header, 11..14);
    assert_eq!(buffer.lock().ring.tail(), 3, "kept from the packet that has partly arrived");
    reader.rewind(8 * 304);
    assert_eq!(take_all(&mut reader), (3..14).collect::<Vec<_>>());
    assert_eq!(reader.acknowledge(304), Acknowledged { advanced: true, more_needed: false });
    append(&buffer, &header, 14..23);
    assert_eq!(buffer.lock().ring.tail(), 13);
    assert_eq!(reader.progress().dropped, 0);
}

/// Packets that were taken count only towards the limit of bytes, so a file that is pushed faster than it plays is not held
/// back because many seconds of it are on the way. If it is pushed in real time, acknowledgements keep it within all limits.
#[test]
fn taken_packets_hold_the_writer_back_by_their_bytes() {
    let header = header(300);
    let second = Duration::from_secs(1);
    for limits in [
        Limits { time: second, bytes: 50 * 304, packets: 0 },
        Limits { time: Duration::ZERO, bytes: 50 * 304, packets: 11 },
    ] {
        let buffer = PacketBuffer::new(limits);
        let mut reader = buffer.reader(StartPosition::Oldest, keeping_unacknowledged());
        reader.set_streaming(true);
        append(&buffer, &header, 0..12);
        assert!(buffer.lock().is_writer_blocked(), "{limits:?}: 1.1 s and 12 packets are not taken");
        let batch = reader.take(u64::MAX).unwrap();
        assert!(batch.needs_acknowledgement, "{limits:?}");
        assert!(!buffer.lock().is_writer_blocked(), "{limits:?}: all are taken");
        append(&buffer, &header, 12..22);
        take_all(&mut reader);
        append(&buffer, &header, 22..32);
        take_all(&mut reader);
        assert!(!buffer.lock().is_writer_blocked(), "{limits:?}: 32 of 50");
        assert_eq!(buffer.lock().ring.tail(), 0, "{limits:?}: all are kept");
        for from in [32, 42] {
            append(&buffer, &header, from..from + 10);
            take_all(&mut reader);
        }
        assert!(buffer.lock().is_writer_blocked(), "{limits:?}: 52 of 50");
        let _ = reader.acknowledge(10 * 304);
        append(&buffer, &header, 52..53);
        assert_eq!(buffer.lock().ring.kept().0, 11, "{limits:?}");
    }
}

/// With any other policy no packets are kept, even if the reader's options request it.
#[test]
fn only_blocking_readers_keep_packets() {
    let header = header(300);
    for options in [
        with_policy(DropPolicy::Block),
        ReaderOptions { policy: Some(DropPolicy::Keyframe), ..keeping_unacknowledged() },
    ] {
        let buffer = limited_to(10);
        let mut reader = buffer.reader(StartPosition::Oldest, options);
        reader.set_streaming(true);
        append(&buffer, &header, 0..11);
        take_all(&mut reader);
        assert!(!buffer.lock().is_writer_blocked(), "{options:?}");
        append(&buffer, &header, 11..12);
        assert!(!reader.take(u64::MAX).unwrap().needs_acknowledgement);
        assert_eq!(buffer.lock().ring.tail(), 2);
        // A changed option applies from then on.
        reader.set_options(keeping_unacknowledged());
        append(&buffer, &header, 12..20);
        take_all(&mut reader);
        assert!(!buffer.lock().is_writer_blocked(), "{options:?}");
        append(&buffer, &header, 20..23);
        assert!(buffer.lock().is_writer_blocked(), "{options:?}");
    }
}

#[test]
fn rewinding_beyond_all_known_packets_is_harmless() {
    let header = header(300);
    let buffer = limited_to(20);
    let mut reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Oldest));
    append(&buffer, &header, 0..10);
    take_all(&mut reader);
    reader.rewind(u64::MAX);
    assert_eq!((counts(&reader), reader.progress().lag.packets), ((0, 0), 10));
}

#[test]
fn each_reader_has_its_own_limits() {
    let header = header(300);
    let buffer = limited_to(10);
    let few = Limits { time: Duration::ZERO, bytes: 0, packets: 4 };
    let many = Limits { packets: 30, ..few };
    let own = |limits, policy| ReaderOptions { limits: Some(limits), policy: Some(policy), ..ReaderOptions::default() };
    let mut tight = buffer.reader(StartPosition::Oldest, own(few, DropPolicy::Oldest));
    let mut plain = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Oldest));
    let mut loose = buffer.reader(StartPosition::Oldest, own(many, DropPolicy::Oldest));
    append(&buffer, &header, 0..50);
    let firsts = [&mut tight, &mut plain, &mut loose].map(|reader| take_all(reader)[0]);
    assert_eq!(firsts, [46, 40, 20]);
    drop(loose);
    append(&buffer, &header, 50..52);
    assert_eq!(buffer.lock().ring.tail(), 42, "no reader needs more than 10 now");
}

/// The reader does not resume at the most recent key frame if that is beyond the limits.
#[test]
fn a_key_frame_beyond_the_limits_is_not_used() {
    let header = header(300);
    let buffer = limited_to(100);
    let few = Limits { time: Duration::ZERO, bytes: 0, packets: 4 };
    let mut reader =
        buffer.reader(StartPosition::Oldest, ReaderOptions { limits: Some(few), ..with_policy(DropPolicy::Keyframe) });
    append(&buffer, &header, 0..18);
    assert!(reader.take(u64::MAX).is_none());
    append(&buffer, &header, 18..22);
    assert_eq!(take_all(&mut reader), [20, 21]);
    assert_eq!(counts(&reader), (2, 20));
}

#[test]
fn overrun_readers_resume_where_their_options_say() {
    let header = header(300);
    for (resync, first) in
        [(StartPosition::LatestKeyframe, 40), (StartPosition::Live, 44), (StartPosition::NextKeyframe, 50)]
    {
        let buffer = limited_to(10);
        let mut reader =
            buffer.reader(StartPosition::Oldest, ReaderOptions { resync, ..with_policy(DropPolicy::Keyframe) });
        append(&buffer, &header, 0..44);
        let mut got = take_all(&mut reader);
        append(&buffer, &header, 44..52);
        got.extend(take_all(&mut reader));
        assert_eq!(got[0], first, "{resync:?}");
        let progress = reader.progress();
        assert_eq!(progress.taken + progress.dropped, progress.received, "{resync:?}");
    }
}

#[test]
fn a_reader_may_end_before_the_buffer() {
    let header = header(300);
    let buffer = unlimited();
    let mut reader = buffer.reader(StartPosition::Oldest, ReaderOptions::default());
    append(&buffer, &header, 0..8);
    reader.monitor().end_at_head();
    append(&buffer, &header, 8..12);
    assert!(!reader.at_end());
    assert_eq!(take_all(&mut reader), (0..8).collect::<Vec<_>>());
    assert!(reader.at_end() && reader.peek().is_none());
    assert_eq!(reader.progress().received, 8);
    assert!(pin!(reader.ready(1)).poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

#[test]
fn the_padding_saved_is_that_of_the_packets_taken() {
    let header = header(300);
    let buffer = limited_to(6);
    let mut reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Oldest));
    let stripped = |n: u32| {
        let bytes = PacketBuilder::asfmux(300, vec![Payload::new(VIDEO, &n.to_le_bytes())]).build();
        Packet::parse([bytes, Bytes::new()], &header, Padding::Explicit)
    };
    let saved = u64::from(stripped(0).padding_removed());
    assert!(saved > 200);
    buffer.append(&header, (0..4).map(stripped));
    while reader.take(100).is_some_and(|batch| !batch.is_empty()) {}
    assert_eq!(reader.progress().padding_saved, 4 * saved);
    buffer.append(&header, (0..10).map(stripped));
    while reader.take(100).is_some_and(|batch| !batch.is_empty()) {}
    assert_eq!(reader.progress().padding_saved, 10 * saved, "4 were missed");
}

#[test]
fn counts_always_add_up() {
    let header = header(300);
    let buffer = limited_to(12);
    let mut reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Keyframe));
    let mut appended = 0;
    for step in 0..200_u32 {
        let more = step * 7 % 23;
        append(&buffer, &header, appended..appended + more);
        appended += more;
        if step % 3 == 0 {
            reader.take(u64::from(step % 11) * 304);
        }
        if step % 17 == 0 {
            reader.rewind(u64::from(step % 5) * 300);
        }
        let Progress { received, taken, dropped, lag, .. } = reader.progress();
        assert_eq!(received, u64::from(appended), "step {step}");
        assert_eq!(taken + dropped + lag.packets, received, "step {step}");
    }
}

/// At any moment every queued packet can be taken, and every other one counts as dropped, even for a disconnected
/// reader and for one with tighter limits than the buffer.
#[test]
fn packets_beyond_the_limits_are_dropped_immediately() {
    let header = header(300);
    let few = Limits { time: Duration::ZERO, bytes: 0, packets: 4 };
    for (policy, limits, queued) in [
        (DropPolicy::Keyframe, None, 10),
        (DropPolicy::Oldest, None, 10),
        (DropPolicy::Disconnect, None, 10),
        (DropPolicy::Block, None, 10),
        (DropPolicy::Keyframe, Some(few), 4),
        (DropPolicy::Oldest, Some(few), 4),
        (DropPolicy::Disconnect, Some(few), 4),
    ] {
        let buffer = limited_to(10);
        let mut reader = buffer.reader(StartPosition::Oldest, ReaderOptions { limits, ..with_policy(policy) });
        // A streaming reader with room lets the writer continue.
        let mut streams = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Block));
        streams.set_streaming(true);
        let mut dropped = 0;
        for n in 0..35 {
            assert!(!buffer.lock().is_writer_blocked());
            append(&buffer, &header, n..n + 1);
            take_all(&mut streams);
            let now = reader.progress();
            assert!(now.lag.packets <= queued && now.lag.bytes <= queued * 304, "{policy:?}: {now:?}");
            assert_eq!(now.dropped + now.lag.packets, u64::from(n) + 1, "{policy:?}");
            assert!(now.dropped >= dropped);
            dropped = now.dropped;
        }
        assert_eq!(reader.take_dropped(), 35 - queued, "{policy:?}");
        assert_eq!(reader.take_dropped(), 0);
        // It resumes where its policy requires, not at the start of the buffer.
        let first = take_all(&mut reader).first().copied();
        match policy {
            DropPolicy::Oldest => assert_eq!(first, Some(35 - u32::try_from(queued).unwrap())),
            DropPolicy::Keyframe | DropPolicy::Disconnect | DropPolicy::Block => {
                assert_eq!(first, if queued == 10 { Some(30) } else { None }, "{policy:?}");
            }
        }
    }
}

#[test]
fn monitors_do_not_change_the_reader() {
    let header = header(300);
    let buffer = limited_to(25);
    let mut reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Keyframe));
    let monitor = reader.monitor();
    append(&buffer, &header, 0..48);
    assert_eq!(
        (monitor.progress().dropped, monitor.progress().lag.packets),
        (23, 25),
        "packets in the buffer are queued"
    );
    append(&buffer, &header, 48..55);
    assert_eq!(take_all(&mut reader), [50, 51, 52, 53, 54], "the most recent key frame at that time");
    assert_eq!(monitor.progress().dropped, 50);
    drop(reader);
    append(&buffer, &header, 55..60);
    let progress = monitor.progress();
    assert_eq!((progress.taken, progress.dropped, progress.lag.packets), (5, 55, 0));
}

#[test]
fn memory_is_bounded_by_the_limits() {
    let header = header(1000);
    let buffer = PacketBuffer::new(Limits { time: Duration::ZERO, bytes: 100_000, packets: 0 });
    for n in 0..10_000 {
        append(&buffer, &header, n..n + 1);
    }
    let state = buffer.lock();
    let (packets, bytes) = state.ring.kept();
    assert!(packets <= 100_000 / 1004 + 1, "{packets}");
    assert!(bytes <= 100_000 + 2 * 64 * 1024, "{bytes}");
}

/// The batch marks the packet at which a reader started or resumed because of a key frame, even if it is taken again.
#[test]
fn a_batch_marks_the_start_of_its_reader() {
    let buffer = limited_to(15);
    let header = header(200);
    append(&buffer, &header, 0..15);
    let mut latest = buffer.reader(StartPosition::LatestKeyframe, with_policy(DropPolicy::Keyframe));
    let mut live = buffer.reader(StartPosition::Live, with_policy(DropPolicy::Keyframe));
    let starts = |reader: &mut Reader| reader.take(u64::MAX).map(|batch| (numbers(&batch)[0], batch.starts));
    assert_eq!(starts(&mut latest), Some((10, true)));
    latest.rewind(u64::MAX);
    assert_eq!(starts(&mut latest), Some((10, true)));
    append(&buffer, &header, 15..20);
    assert_eq!(starts(&mut latest), Some((15, false)));
    assert_eq!(starts(&mut live), Some((15, false)));
    append(&buffer, &header, 20..45);
    assert_eq!(starts(&mut latest), Some((40, true)), "after a gap");
    append(&buffer, &header, 45..46);
    assert_eq!(starts(&mut latest), Some((45, false)));
}

#[test]
fn data_before_the_key_frame_is_removed_from_the_first_packet() {
    let header = header(400);
    let payloads = vec![
        Payload::new(VIDEO, &[1; 20]).at(40),
        Payload::new(1, &[2; 20]),
        Payload::new(VIDEO, &[3; 20]),
        Payload::new(VIDEO, &[4; 20]).key(),
        Payload::new(VIDEO, &[5; 20]),
    ];
    let bytes = PacketBuilder::asfmux(400, payloads).build();
    let first = Packet::parse([bytes, Bytes::new()], &header, Padding::Keep);
    let buffer = unlimited();
    buffer.append(&header, [packet(&header, 0, true), packet(&header, 1, false), first, packet(&header, 2, false)]);
    let mut late = buffer.reader(StartPosition::LatestKeyframe, ReaderOptions::default());
    let mut batch = late.take(u64::MAX).unwrap();
    let before = (batch.sizes.clone(), batch.frames.concat());
    batch.trim_start();
    let after = (batch.sizes.clone(), batch.frames.concat());
    assert_eq!((&before.0, before.1.len()), (&after.0, after.1.len()), "the sizes stay");
    assert_eq!(numbers(&batch), [0, 2]);
    let size = batch.sizes[0] as usize;
    assert_eq!(before.1[size..], after.1[size..], "only the first packet is changed");
    let has = |n: u8| after.1.windows(20).any(|window| window == [n; 20]);
    assert_eq!([1, 2, 3, 4, 5].map(has), [false, true, false, true, true]);
    // Nothing precedes the first packet of a stream, so it stays complete, although no key frame starts in it.
    let buffer = unlimited();
    buffer.append(&header, [packet(&header, 1, false)]);
    let mut early = buffer.reader(StartPosition::LatestKeyframe, ReaderOptions::default());
    let mut batch = early.take(u64::MAX).unwrap();
    let before = batch.frames.concat();
    batch.trim_start();
    assert_eq!(batch.frames.concat(), before);
}
