//! Runs the packet buffer's writer and readers in schedules that real time would not produce. The test compiles the
//! buffer's source with locks that switch threads wherever the schedule requires. A schedule in which all threads wait
//! is a failure too.
//!
//! `SCHEDULES` sets how many schedules of each kind are tried. A failing one is printed for `shuttle::replay`.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use asf::test_util::{HeaderBuilder, PacketBuilder, Payload};
use asfpush_client::packet_buffer::{
    DropPolicy, Interrupted, Limits, PacketBuffer, Reader, ReaderOptions, StartPosition,
};
use bytes::Bytes;
use shuttle::future::block_on;
use shuttle::thread;

const SIZE: u32 = 300;
const FRAMED: u64 = SIZE as u64 + 4;

fn header() -> Arc<asf::Header> {
    Arc::new(asf::Header::parse(HeaderBuilder::default().packet_size(SIZE).build()).unwrap())
}

/// Every third packet starts a key frame.
fn packet(header: &asf::Header, n: u32) -> asf::Packet {
    let payload = Payload::new(2, &n.to_le_bytes());
    let payload = if n.is_multiple_of(3) { payload.key() } else { payload };
    let bytes = PacketBuilder::asfmux(SIZE as usize, vec![payload]).send_time(n * 100).build();
    asf::Packet::parse([bytes, Bytes::new()], header, asf::Padding::Keep)
}

fn limited_to(packets: usize) -> Arc<PacketBuffer> {
    PacketBuffer::new(Limits { time: Duration::ZERO, bytes: 0, packets })
}

fn with_policy(policy: DropPolicy) -> ReaderOptions {
    ReaderOptions { policy: Some(policy), ..ReaderOptions::default() }
}

/// Appends `count` packets, waiting for room before each; then ends the stream.
fn write(buffer: &PacketBuffer, count: u32) -> Result<(), Interrupted> {
    let header = header();
    for n in 0..count {
        buffer.wait_for_room()?;
        buffer.append(&header, [packet(&header, n)]);
    }
    buffer.end();
    Ok(())
}

/// Takes packets up to the end, no more than `most` at a time; returns how many were taken and how many were missed.
fn read(reader: &mut Reader, most: u64) -> (u64, u64) {
    let mut missed = 0;
    while !reader.at_end() {
        block_on(reader.ready(1));
        if let Some(batch) = reader.take(most * FRAMED) {
            missed += batch.skipped;
        }
    }
    (reader.progress().taken, missed)
}

/// The writer waits for the slower of two readers, and neither misses a packet.
fn back_pressure() {
    let buffer = limited_to(2);
    let readers: Vec<_> = [1, 3]
        .map(|most| {
            let mut reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Block));
            reader.set_streaming(true);
            thread::spawn(move || read(&mut reader, most))
        })
        .into();
    write(&buffer, 6).unwrap();
    for reader in readers {
        assert_eq!(reader.join().unwrap(), (6, 0));
    }
}

/// A reader that is dropped, paused or disconnected never blocks the writer, whenever that happens.
fn an_inactive_reader_does_not_block_the_writer() {
    let buffer = limited_to(1);
    let goes = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Block));
    let parks = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Block));
    let mut breaks = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Block));
    for reader in [&goes, &parks, &breaks] {
        reader.set_streaming(true);
    }
    let others = [
        thread::spawn(move || drop(goes)),
        thread::spawn(move || parks.pause()),
        thread::spawn(move || {
            breaks.set_streaming(false);
            breaks.rewind(FRAMED);
            breaks.set_streaming(true);
            assert_eq!(read(&mut breaks, 2).0, 4);
        }),
    ];
    write(&buffer, 4).unwrap();
    for other in others {
        other.join().unwrap();
    }
}

/// A waiting writer is interrupted.
fn a_waiting_writer_is_interrupted() {
    let buffer = limited_to(1);
    let reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Block));
    reader.set_streaming(true);
    let writer = {
        let buffer = Arc::clone(&buffer);
        thread::spawn(move || write(&buffer, 4))
    };
    buffer.interrupt(true);
    assert_eq!(writer.join().unwrap(), Err(Interrupted));
    drop(reader);
}

/// An overrun reader is notified, and a monitor sees every packet that it did not take counted as dropped.
fn an_overrun_reader_is_notified() {
    let buffer = limited_to(3);
    let mut reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Keyframe));
    let monitor = reader.monitor();
    let onlooker = thread::spawn(move || {
        for _ in 0..4 {
            let seen = monitor.progress();
            assert_eq!(seen.taken + seen.dropped + seen.lag.packets, seen.received);
        }
    });
    let reader = thread::spawn(move || {
        block_on(reader.wait_until_overrun());
        let (taken, told) = read(&mut reader, 2);
        let dropped = reader.progress().dropped;
        assert_eq!(taken + dropped, 10);
        // If the last dropped packets contain no key frame, no batch follows them.
        assert!(dropped >= 1 && told <= dropped, "{told} of {dropped}");
    });
    write(&buffer, 10).unwrap();
    reader.join().unwrap();
    onlooker.join().unwrap();
}

/// A reader with its own end position reaches it, with everything appended before.
fn a_readers_own_end_is_reached() {
    let buffer = limited_to(10);
    let mut reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Oldest));
    let monitor = reader.monitor();
    let reader = thread::spawn(move || read(&mut reader, 1).0);
    let header = header();
    buffer.append(&header, (0..3).map(|n| packet(&header, n)));
    let writer = {
        let buffer = Arc::clone(&buffer);
        thread::spawn(move || buffer.append(&header, (3..5).map(|n| packet(&header, n))))
    };
    monitor.end_at_head();
    let taken = reader.join().unwrap();
    assert!(taken == 3 || taken == 5, "{taken}");
    writer.join().unwrap();
}

/// The packets taken are those that were peeked at, even if the writer overruns the reader in between.
fn a_peek_stays_valid() {
    let buffer = limited_to(1);
    let mut reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Oldest));
    let reader = thread::spawn(move || {
        while !reader.at_end() {
            block_on(reader.ready(1));
            let Some(next) = reader.peek() else { continue };
            let Some(batch) = reader.take_if_header(&next.header, u64::MAX) else { continue };
            assert!(Arc::ptr_eq(&batch.header, &next.header), "packets of another stream");
        }
        let progress = reader.progress();
        assert_eq!(progress.taken + progress.dropped, 4);
    });
    for n in 0..4 {
        let header = header();
        buffer.append(&header, [packet(&header, n)]);
    }
    buffer.end();
    reader.join().unwrap();
}

/// A reader that waits for many packets receives them, or the end.
fn a_reader_waits_for_many_packets() {
    let buffer = limited_to(10);
    let mut reader = buffer.reader(StartPosition::Oldest, with_policy(DropPolicy::Oldest));
    let reader = thread::spawn(move || {
        block_on(reader.ready(3 * FRAMED));
        let first = reader.take(u64::MAX).unwrap().sizes.len() as u64;
        assert!(first >= 3, "{first}");
        block_on(reader.ready(100 * FRAMED));
        assert_eq!(read(&mut reader, 9).0, 5);
    });
    write(&buffer, 5).unwrap();
    reader.join().unwrap();
}

fn main() {
    let schedules = std::env::var("SCHEDULES").map_or(1500, |text| text.parse().unwrap());
    let tests: [(&str, fn()); 7] = [
        ("back_pressure", back_pressure),
        ("an_inactive_reader_does_not_block_the_writer", an_inactive_reader_does_not_block_the_writer),
        ("a_waiting_writer_is_interrupted", a_waiting_writer_is_interrupted),
        ("an_overrun_reader_is_notified", an_overrun_reader_is_notified),
        ("a_readers_own_end_is_reached", a_readers_own_end_is_reached),
        ("a_peek_stays_valid", a_peek_stays_valid),
        ("a_reader_waits_for_many_packets", a_reader_waits_for_many_packets),
    ];
    for (name, test) in tests {
        println!("{name}: {schedules} random schedules, and as many with few thread switches");
        shuttle::check_random(test, schedules);
        shuttle::check_pct(test, schedules, 3);
    }
    println!("test result: ok. {} passed", tests.len());
}
