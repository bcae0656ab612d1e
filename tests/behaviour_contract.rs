//! The behavior contract in terms of resources: time in the chain function, memory, and threads.
//!
//! Only one test runs at a time, because they measure the whole process.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use gst::prelude::*;
use peak_alloc::PeakAlloc;
use test_support::media;
use test_support::peer::{Peer, TEST_TIMEOUT, wms};
use test_support::pipeline::{Pushing, until};
use test_support::recording_server::RecordingServer;
use test_support::server::{Server, listen};
use test_support::upstream::Upstream;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const STEP: u32 = 4;
const MIB: usize = 1024 * 1024;

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Accepts a push and `bytes` of its body, then stops reading. It keeps no data itself, because the heap is measured.
fn stalling(bytes: usize) -> Server {
    Server::start(listen(16, Some(16 * 1024)), move |connection, _| {
        let mut stream = connection.into_tcp();
        for answer in [Some(wms(204, "one")), None] {
            if read_head(&mut stream).is_none() {
                return;
            }
            stream.write_all(answer.unwrap_or_default().as_bytes()).unwrap();
        }
        let mut left = bytes;
        let mut chunk = [0; 4096];
        while left > 0 {
            let wanted = left.min(chunk.len());
            match stream.read(&mut chunk[..wanted]) {
                Ok(read) if read > 0 => left -= read,
                Ok(_) | Err(_) => return,
            }
        }
        thread::sleep(TEST_TIMEOUT);
    })
}

fn read_head(stream: &mut TcpStream) -> Option<()> {
    let mut last = [0; 4];
    while &last != b"\r\n\r\n" {
        last.rotate_left(1);
        stream.read_exact(&mut last[3..]).ok()?;
    }
    Some(())
}

/// `count` packets starting with number `first`, preceded by the header if `first` is 0.
fn buffer(first: u32, count: u32) -> Vec<u8> {
    let mut bytes = if first == 0 { media::header().to_vec() } else { Vec::new() };
    for n in first..first + count {
        bytes.extend_from_slice(&media::packet(n, STEP));
    }
    bytes
}

fn locations<'a>(servers: impl IntoIterator<Item = &'a Server>) -> String {
    servers.into_iter().map(Server::location).collect::<Vec<_>>().join(",")
}

/// Durations of the chain function with one packet per call, sorted.
fn times_of_calls(location: &str) -> Vec<Duration> {
    let pushing = Pushing::bare(&format!("location={location} max-size-buffers=200 timeout=600000 eos-timeout=1"));
    let upstream = Upstream::live(&pushing.sink);
    pushing.play();
    let calls = || {
        (0..5000).map(|n| {
            let (flow, took) = upstream.push(buffer(n, 1));
            flow.unwrap();
            // Like a fast live stream, so that the I/O thread works meanwhile.
            if n % 10 == 0 {
                thread::sleep(Duration::from_micros(500));
            }
            took
        })
    };
    // The first call waits for the preroll.
    let mut times: Vec<Duration> = watched(&pushing, || calls().skip(1).collect());
    times.sort();
    times
}

/// Runs `work`, which calls the chain function. If that waits, the wait is ended and the test fails.
fn watched<T: Send>(pushing: &Pushing, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let working = scope.spawn(work);
        let deadline = Instant::now() + TEST_TIMEOUT;
        while !working.is_finished() {
            if Instant::now() > deadline {
                pushing.stop();
                panic!("the chain function waits");
            }
            thread::sleep(Duration::from_millis(5));
        }
        working.join().unwrap()
    })
}

/// Contract 3: the chain function takes as long with a stalled or absent server as with a working one.
#[test]
fn contract_3_the_chain_function_never_waits() {
    let _alone = alone();
    let good = RecordingServer::new(STEP);
    let stalled = stalling(100_000);
    let refusing = Server::start(listen(16, None), |_, _| {});
    refusing.listening().refuse();
    let percentile = |times: &[Duration], per_mille: usize| times[times.len() * per_mille / 1000];
    let mut usual = None;
    for (what, server) in [("good", &good.server), ("stalled", &stalled), ("refusing", &refusing)] {
        let times = times_of_calls(&server.location());
        let [median, most] = [500, 990].map(|per_mille| percentile(&times, per_mille));
        println!(
            "{what}: median {median:?}, 99 % {most:?}, 99.9 % {:?}, longest {:?}",
            percentile(&times, 999),
            times.last()
        );
        let usual = *usual.get_or_insert(most);
        assert!(most < usual * 10 + Duration::from_millis(1), "{what}: {most:?}, {usual:?} with a working server");
    }
}

/// Contract 3: a chain function blocked by `drop-policy=block` is interrupted by a flush, and works again after it.
#[test]
fn contract_3_back_pressure_can_be_interrupted() {
    let _alone = alone();
    let silent = Peer::new();
    let pushing =
        Pushing::bare(&format!("location={} max-size-buffers=10 drop-policy=block timeout=600000", silent.location()));
    let upstream = Upstream::live(&pushing.sink);
    pushing.play();
    thread::scope(|scope| {
        for _ in 0..2 {
            let held = scope.spawn(|| (0..).map(|n| upstream.push(buffer(n, 1)).0).find_map(Result::err));
            until("the buffer fills", || {
                pushing.destination_stats().get::<u64>("packets-queued").unwrap_or(0) >= 10 && !held.is_finished()
            });
            thread::sleep(Duration::from_millis(50));
            assert!(!held.is_finished(), "held back");
            upstream.event(gst::event::FlushStart::new());
            assert_eq!(held.join().unwrap(), Some(gst::FlowError::Flushing));
            upstream.event(gst::event::FlushStop::new(true));
            upstream.event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
        }
    });
}

/// Returns the heap size after background tasks have freed what was used before.
fn usage_at_rest() -> usize {
    let mut usage = HEAP.current_usage();
    until("rest", || {
        thread::sleep(Duration::from_millis(200));
        std::mem::replace(&mut usage, HEAP.current_usage()) == usage
    });
    usage
}

/// Returns the maximum growth of the heap while `count` destinations stall, each at another position of the stream.
fn growth(count: usize, limit: usize) -> usize {
    const TURN: u32 = 400;
    let servers: Vec<Server> = (0..count).map(|n| stalling(200_000 + n * TURN as usize * 900)).collect();
    let before = usage_at_rest();
    let pushing = Pushing::bare(&format!(
        "locations=\"{}\" drop-policy=keyframe max-size-time=0 max-size-bytes={limit} stall-timeout=0 eos-timeout=1",
        locations(&servers)
    ));
    let upstream = Upstream::live(&pushing.sink);
    pushing.play();
    upstream.push(buffer(0, 1)).0.unwrap();
    until("all stream", || {
        pushing.all_stats().iter().all(|stats| stats.get::<String>("state").unwrap() == "streaming")
    });
    HEAP.reset_peak_usage();
    let packets = 6000 + TURN * u32::try_from(count).unwrap();
    for n in (1..packets).step_by(10) {
        upstream.push(buffer(n, 10)).0.unwrap();
        // Destinations that do not stall yet can keep up.
        thread::sleep(Duration::from_millis(2));
    }
    for stats in pushing.all_stats() {
        assert!(stats.get::<u64>("bytes-queued").unwrap() as usize > limit - MIB / 4, "it does not stall: {stats}");
    }
    HEAP.peak_usage() - before
}

/// Contract 5: the stream is kept once, within the limits, whatever the number of destinations and wherever each of
/// them stalls. Only the connection is separate for each destination: the HTTP client and the data in transit.
#[test]
fn contract_5_memory_is_bounded_by_the_limits() {
    const OWN: usize = 256 * 1024;
    let _alone = alone();
    let limit = 4 * MIB;
    // Initializations that happen only once.
    growth(1, limit);
    let [one, four, sixteen] = [1, 4, 16].map(|count| {
        let growth = growth(count, limit);
        println!("{count} stalled destinations: {} KiB beyond the limit", growth.saturating_sub(limit) / 1024);
        growth
    });
    assert!(one < limit + MIB, "{one}");
    assert!(four < one + 3 * OWN && sixteen < one + 15 * OWN, "{one}, {four} with 4, {sixteen} with 16");
}

/// Contract 5: without limits, the memory of a live push does not grow while the server reads: what it has read is
/// released once it can no longer refuse the request.
#[test]
fn contract_5_a_live_push_keeps_what_the_server_may_need() {
    let _alone = alone();
    let reading = stalling(usize::MAX);
    let before = usage_at_rest();
    let pushing =
        Pushing::bare(&format!("location={} max-size-time=0 max-size-bytes=0 eos-timeout=1", reading.location()));
    let upstream = Upstream::live(&pushing.sink);
    pushing.play();
    // More than the 4 MiB that are kept of a young request.
    let many = 6 * u32::try_from(MIB).unwrap() / media::SIZE;
    upstream.push(buffer(0, many)).0.unwrap();
    let mut numbers = (many..).step_by(20);
    until("what the server has read is released", || {
        upstream.push(buffer(numbers.next().unwrap(), 20)).0.unwrap();
        HEAP.current_usage().saturating_sub(before) < 2 * MIB
    });
    let stats = pushing.destination_stats();
    assert_eq!(stats.get::<u64>("packets-dropped").unwrap(), 0, "{stats}");
}

fn threads(named: &str) -> usize {
    let names = fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with(named)).count()
}

/// Contract 9: one I/O thread, whatever the number of destinations and elements; the element has no other thread.
#[test]
fn contract_9_one_io_thread() {
    let _alone = alone();
    let mut running = Vec::new();
    let mut others = None;
    for count in [1, 16, 64, 16] {
        let servers: Vec<RecordingServer> = (0..count).map(|_| RecordingServer::new(STEP)).collect();
        let pushing = Pushing::bare(&format!(
            "locations=\"{}\" eos-timeout=1",
            locations(servers.iter().map(|recording_server| &recording_server.server))
        ));
        let upstream = Upstream::live(&pushing.sink);
        pushing.play();
        upstream.push(buffer(0, 10)).0.unwrap();
        until("all stream", || pushing.sink.property::<u32>("num-connected") == count);
        assert_eq!(threads("asfpush"), 1, "{count} destinations, {} elements before", running.len());
        running.push((pushing, upstream, servers));
        // Each server has an accepting thread and a serving thread.
        let servers: usize = running.iter().map(|(.., servers)| 2 * servers.len()).sum();
        let rest = threads("") - servers;
        assert_eq!(*others.get_or_insert(rest), rest, "{count} destinations, {} elements", running.len());
    }
}
