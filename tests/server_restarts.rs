//! A server that restarts repeatedly during a push.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use asf::Header;
use bytes::Bytes;
use test_support::media;
use test_support::peer::wms;
use test_support::pipeline::{Pushing, until};
use test_support::server::{accept_on, listen, listen_again};
use test_support::upstream::Upstream;
use wmhttp::packet::Packet;

const RESTARTS: u32 = 200;
const STEP: u32 = 4;
/// Number of packets per buffer.
const PER_BUFFER: u32 = 5;

/// How the server stops.
#[derive(Clone, Copy, Debug)]
enum End {
    /// RST, after it has read what was in transit, because data that its TCP stack had acknowledged and it had not read
    /// would be lost.
    Reset,
    /// FIN, possibly within a packet; it reads what arrives until the encoder has noticed.
    Fin,
    /// It closes an accepted connection without reading.
    Unheard,
    /// RST instead of the response to PushSetup.
    InSetup,
}

const ENDS: [End; 5] = [End::Fin, End::Reset, End::Unheard, End::Fin, End::InSetup];

/// Consecutive servers at the same address.
struct Servers {
    addr: SocketAddr,
    /// Time without a server.
    pause: Duration,
    header: Option<Header>,
    /// Numbers of the packets that any of them has read.
    got: BTreeSet<u32>,
    /// Number of duplicate packets.
    again: u32,
}

impl Servers {
    fn take(&mut self, packet: Packet) {
        match packet {
            Packet::Header(bytes) | Packet::StreamChange(bytes) => self.header = Some(Header::parse(bytes).unwrap()),
            Packet::Data(payload) => {
                let number = self.number(&payload);
                self.again += u32::from(!self.got.insert(number));
            }
            Packet::End(_) | Packet::Filler(_) => {}
        }
    }

    fn number(&self, payload: &Bytes) -> u32 {
        media::number(self.header.as_ref().unwrap(), payload, STEP)
    }

    /// Serves until it has received enough packets, then stops.
    fn live(&mut self, generation: u32, upstream: &Feed) {
        let end = ENDS[generation as usize % ENDS.len()];
        // Every second one has lost its sessions.
        let forgetful = generation.is_multiple_of(2) || matches!(end, End::InSetup);
        let listener = listen_again(self.addr);
        let accept = || accept_on(&listener);
        let mut connection = accept();
        loop {
            if matches!(end, End::Unheard) {
                return;
            }
            let Some(head) = connection.try_request() else {
                connection = accept();
                continue;
            };
            if head.is_setup() {
                if matches!(end, End::InSetup) {
                    return connection.reset();
                }
                if connection.try_answer(&wms(204, &format!("of-{generation}"))).is_ok() {
                    continue;
                }
            } else if !forgetful || head.push_id() == format!("of-{generation}") {
                break;
            }
            // The encoder may already have closed the connection.
            let _ = connection
                .try_answer("HTTP/1.1 412 No\r\nServer: Cougar/9.6\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            connection = accept();
        }
        let enough = 3 + generation % 29;
        let mut taken = 0;
        while taken < enough {
            let packet = connection.packet().expect("the pusher stays");
            taken += u32::from(matches!(packet, Packet::Data(_)));
            self.take(packet);
        }
        match end {
            End::Fin => connection.close_writing(),
            End::Reset => {
                upstream.hold(true);
                connection.set_timeout(Duration::from_millis(100));
            }
            End::Unheard | End::InSetup => {}
        }
        // The FIN is sent while data is in transit; before the RST there is none.
        while let Some(packet) = connection.packet() {
            self.take(packet);
        }
        if matches!(end, End::Reset) {
            connection.reset();
            upstream.hold(false);
        }
    }
}

/// The stream, pushed at the rate of its send times.
#[derive(Default)]
struct Feed {
    held: AtomicBool,
    pushed: AtomicU32,
    enough: AtomicBool,
}

impl Feed {
    fn run(&self, upstream: &Upstream) {
        for buffer in 0.. {
            while self.held.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
            if self.enough.load(Ordering::SeqCst) {
                break;
            }
            let mut bytes = if buffer == 0 { media::header().to_vec() } else { Vec::new() };
            for n in buffer * PER_BUFFER..(buffer + 1) * PER_BUFFER {
                bytes.extend_from_slice(&media::packet(n, STEP));
            }
            if upstream.push(bytes).0.is_err() {
                return;
            }
            self.pushed.store((buffer + 1) * PER_BUFFER, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(5));
        }
        upstream.end();
    }

    fn hold(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
    }
}

/// Ends the feeding thread when a test ends, whatever the result.
struct EndOnDrop<'a>(&'a Feed, &'a Pushing);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.enough.store(true, Ordering::SeqCst);
        self.0.hold(false);
        if thread::panicking() {
            self.1.stop();
        }
    }
}

fn entries(folder: &str) -> usize {
    fs::read_dir(folder).unwrap().count()
}

/// Returns the number of descriptors and threads of the process.
fn possessions() -> (usize, usize) {
    (entries("/proc/self/fd"), entries("/proc/self/task"))
}

/// Restarts the server repeatedly; returns what arrived, how many packets there were, and the destination's statistics.
fn restart_repeatedly(properties: &str, pause: Duration) -> (Servers, u32, gst::Structure) {
    let addr = listen(16, None).local_addr().unwrap();
    let pushing = Pushing::bare(&format!("location=http://{addr}/concert eos-timeout=60000 {properties}"));
    let upstream = Upstream::live(&pushing.sink);
    let feed = Feed::default();
    let mut servers = Servers { addr, pause, header: None, got: BTreeSet::new(), again: 0 };
    pushing.play();
    thread::scope(|scope| {
        let _over = EndOnDrop(&feed, &pushing);
        scope.spawn(|| feed.run(&upstream));
        let mut settled = None;
        for generation in 0..RESTARTS {
            servers.live(generation, &feed);
            thread::sleep(servers.pause);
            if generation == RESTARTS / 10 {
                settled = Some(possessions());
            }
        }
        let (descriptors, threads) = settled.unwrap();
        let (descriptors_now, threads_now) = possessions();
        println!("descriptors {descriptors}, {descriptors_now}; threads {threads}, {threads_now}");
        // A connection may be closing at either time.
        assert!(descriptors_now <= descriptors + 5, "{descriptors_now} after {descriptors}");
        assert!(threads_now <= threads + 1, "{threads_now} after {threads}");

        let listener = listen_again(servers.addr);
        feed.enough.store(true, Ordering::SeqCst);
        'last: loop {
            let mut last = accept_on(&listener);
            while let Some(head) = last.try_request() {
                let mut ended = false;
                if !head.is_setup() {
                    for packet in last.until_the_end() {
                        ended |= matches!(packet, Packet::End(_));
                        servers.take(packet);
                    }
                }
                if last.try_answer(&wms(204, "last")).is_ok() && ended {
                    break 'last;
                }
            }
        }
    });
    pushing.wait_for_eos();
    let stats = pushing.destination_stats();
    until("the end", || pushing.destination_stats().get::<String>("state").unwrap() == "closed");
    (servers, feed.pushed.into_inner(), stats)
}

/// C-15: undelivered data is sent again; if nothing is dropped, each packet arrives at least once. If the server is
/// down longer than the packet buffer covers, the packets that did not arrive are counted as dropped.
#[test]
fn c15_a_server_restarts_two_hundred_times() {
    for (properties, pause, may_drop) in [
        ("retry-delay=10 retry-delay-max=20 max-size-time=0 max-size-bytes=0", Duration::ZERO, false),
        ("retry-delay=10 retry-delay-max=20 max-size-buffers=20", Duration::from_millis(30), true),
    ] {
        let (servers, pushed, stats) = restart_repeatedly(properties, pause);
        let count = |name: &str| stats.get::<u64>(name).unwrap();
        let missing: Vec<u32> = (0..pushed).filter(|n| !servers.got.contains(n)).collect();
        let (sent, dropped) = (count("packets-sent"), count("packets-dropped"));
        println!("{pushed} packets: {} arrived, {} of them again; {stats}", servers.got.len(), servers.again);
        assert_eq!(sent + dropped, u64::from(pushed));
        assert_eq!(dropped > 0, may_drop);
        assert!(missing.len() as u64 <= dropped, "{missing:?} did not arrive");
        assert!(stats.get::<u64>("reconnects").unwrap() > 100, "{stats}");
    }
}
