//! The log's writer and readers in orders that no clock would bring about: its own source, on locks that switch threads
//! wherever the schedule of a test wants. A schedule in which all threads wait is a failure too.
//!
//! `SCHEDULES` says how many of each are tried; the one that fails is told, for `shuttle::replay`.
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

/// Each third starts a key frame.
fn packet(header: &asf::Header, n: u32) -> asf::Packet {
    let payload = Payload::new(2, &n.to_le_bytes());
    let payload = if n.is_multiple_of(3) { payload.key() } else { payload };
    let bytes = PacketBuilder::asfmux(SIZE as usize, vec![payload]).send_time(n * 100).build();
    asf::Packet::parse([bytes, Bytes::new()], header, asf::Padding::Keep)
}

fn of_packets(packets: usize) -> Arc<PacketBuffer> {
    PacketBuffer::new(Limits { time: Duration::ZERO, bytes: 0, packets })
}

fn by(policy: DropPolicy) -> ReaderOptions {
    ReaderOptions { policy: Some(policy), ..ReaderOptions::default() }
}

/// Appends so many packets, waiting for room before each; then the end.
fn write(buffer: &PacketBuffer, count: u32) -> Result<(), Interrupted> {
    let header = header();
    for n in 0..count {
        buffer.wait_for_room()?;
        buffer.append(&header, [packet(&header, n)]);
    }
    buffer.end();
    Ok(())
}

/// Takes packets to the end, no more than `most` at a time; how many it took and missed.
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

/// The writer waits for the slower of two, and neither misses a packet.
fn back_pressure() {
    let buffer = of_packets(2);
    let readers: Vec<_> = [1, 3]
        .map(|most| {
            let mut reader = buffer.reader(StartPosition::Oldest, by(DropPolicy::Block));
            reader.set_streaming(true);
            thread::spawn(move || read(&mut reader, most))
        })
        .into();
    write(&buffer, 6).unwrap();
    for reader in readers {
        assert_eq!(reader.join().unwrap(), (6, 0));
    }
}

/// One that goes, parks or is down holds nobody up, whenever that is.
fn nobody_is_waited_for_in_vain() {
    let buffer = of_packets(1);
    let goes = buffer.reader(StartPosition::Oldest, by(DropPolicy::Block));
    let parks = buffer.reader(StartPosition::Oldest, by(DropPolicy::Block));
    let mut breaks = buffer.reader(StartPosition::Oldest, by(DropPolicy::Block));
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

/// A writer that waits is interrupted.
fn an_interruption_is_heard() {
    let buffer = of_packets(1);
    let reader = buffer.reader(StartPosition::Oldest, by(DropPolicy::Block));
    reader.set_streaming(true);
    let writer = {
        let buffer = Arc::clone(&buffer);
        thread::spawn(move || write(&buffer, 4))
    };
    buffer.interrupt(true);
    assert_eq!(writer.join().unwrap(), Err(Interrupted));
    drop(reader);
}

/// An overrun reader learns of it, and every packet it did not take is counted, for any observer.
fn an_overrun_reader_is_told() {
    let buffer = of_packets(3);
    let mut reader = buffer.reader(StartPosition::Oldest, by(DropPolicy::Keyframe));
    let observer = reader.monitor();
    let onlooker = thread::spawn(move || {
        for _ in 0..4 {
            let seen = observer.progress();
            assert_eq!(seen.taken + seen.dropped + seen.lag.packets, seen.received);
        }
    });
    let reader = thread::spawn(move || {
        block_on(reader.wait_until_overrun());
        let (taken, told) = read(&mut reader, 2);
        let dropped = reader.progress().dropped;
        assert_eq!(taken + dropped, 10);
        // No batch follows the last ones missed, where no key frame does.
        assert!(dropped >= 1 && told <= dropped, "{told} of {dropped}");
    });
    write(&buffer, 10).unwrap();
    reader.join().unwrap();
    onlooker.join().unwrap();
}

/// A reader with an end of its own comes to it, with what was appended before.
fn an_end_of_its_own_is_reached() {
    let buffer = of_packets(10);
    let mut reader = buffer.reader(StartPosition::Oldest, by(DropPolicy::Oldest));
    let observer = reader.monitor();
    let reader = thread::spawn(move || read(&mut reader, 1).0);
    let header = header();
    buffer.append(&header, (0..3).map(|n| packet(&header, n)));
    let writer = {
        let buffer = Arc::clone(&buffer);
        thread::spawn(move || buffer.append(&header, (3..5).map(|n| packet(&header, n))))
    };
    observer.end_here();
    let taken = reader.join().unwrap();
    assert!(taken == 3 || taken == 5, "{taken}");
    writer.join().unwrap();
}

/// What was looked at is what is taken, though the writer laps the reader in between.
fn a_look_holds() {
    let buffer = of_packets(1);
    let mut reader = buffer.reader(StartPosition::Oldest, by(DropPolicy::Oldest));
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

/// Those that wait for many packets get them, or the end.
fn many_are_waited_for() {
    let buffer = of_packets(10);
    let mut reader = buffer.reader(StartPosition::Oldest, by(DropPolicy::Oldest));
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
        ("nobody_is_waited_for_in_vain", nobody_is_waited_for_in_vain),
        ("an_interruption_is_heard", an_interruption_is_heard),
        ("an_overrun_reader_is_told", an_overrun_reader_is_told),
        ("an_end_of_its_own_is_reached", an_end_of_its_own_is_reached),
        ("a_look_holds", a_look_holds),
        ("many_are_waited_for", many_are_waited_for),
    ];
    for (name, test) in tests {
        println!("{name}: {schedules} schedules at random, and as many with few switches");
        shuttle::check_random(test, schedules);
        shuttle::check_pct(test, schedules, 3);
    }
    println!("test result: ok. {} passed", tests.len());
}
