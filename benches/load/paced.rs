//! A live push: the latency of a packet from `render` to the peer, and how often threads wake up.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::upstream::Upstream;
use bench_parts::media::Media;

const PACKET: usize = 3200;
/// Excluded from the measurement, while the connection is established and its window grows.
const WARM_UP: Duration = Duration::from_secs(1);
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\nServer: Cougar/9.6\r\nSet-Cookie: push-id=1\r\n\
    Pragma: no-cache, timeout=60000\r\nContent-Length: 0\r\n\r\n";

/// Pushes `burst` packets at a time, and prints one line: `p50 p99 max` of the latency in microseconds, and for all threads
/// except the peer's, wake-ups a second and the processor time in percent.
pub fn run(element: &str, mbit: f64, burst: u32, seconds: u64) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let is_push = element == "asfpushsink";
    let sink = match is_push {
        true => format!("asfpushsink location=http://127.0.0.1:{port}/p sync=false"),
        false => format!("{element} host=127.0.0.1 port={port} sync=false"),
    };
    let (arrivals, arrived) = mpsc::channel();
    let peer = thread::Builder::new().name("peer".to_owned()).spawn(move || {
        let stream = listener.accept().unwrap().0;
        for (number, at) in Arrivals::of(stream, is_push) {
            arrivals.send((number, at)).unwrap();
        }
    });

    let media = Media { packet_size: PACKET, padded: false, step: 1 };
    // The installed plugin.
    gst::init().unwrap();
    let upstream = Upstream::to(&sink, true);
    let pushed = |bytes: Vec<u8>| upstream.push(gst::Buffer::from_mut_slice(bytes));
    pushed([&media.header()[..], &media.packet(0)].concat());
    if is_push {
        upstream.wait_until_connected();
    }

    let interval = Duration::from_secs_f64(f64::from(burst) * PACKET as f64 * 8.0 / (mbit * 1e6));
    let begun = Instant::now();
    let (mut rendered, mut next, mut before) = (vec![begun], 1, None);
    while begun.elapsed() < WARM_UP + Duration::from_secs(seconds) {
        let buffers: Vec<_> = (next..next + burst).map(|n| media.packet(n).to_vec()).collect();
        let due = begun + interval * (next / burst);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if begun.elapsed() >= WARM_UP {
            before.get_or_insert_with(|| (Instant::now(), next, Work::so_far()));
        }
        for buffer in buffers {
            rendered.push(Instant::now());
            pushed(buffer);
        }
        next += burst;
    }
    let (since, first, before) = before.unwrap();
    let (work, seconds) = (Work::so_far(), since.elapsed().as_secs_f64());
    let wakes = (work.wakes - before.wakes) as f64 / seconds;
    let percent = (work.cpu - before.cpu).as_secs_f64() / seconds * 100.0;
    thread::sleep(Duration::from_millis(200));
    drop(upstream);
    peer.unwrap().join().unwrap();

    let arrived: Vec<_> = arrived.iter().filter(|(n, _)| *n >= first).collect();
    assert!(arrived.len() as u32 >= next - first - burst, "{} of {} arrived", arrived.len(), next - first);
    let mut times: Vec<_> = arrived.iter().map(|(n, at)| *at - rendered[*n as usize]).collect();
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_micros();
    println!("{} {} {} {wakes:.1} {percent:.2}", at(0.5), at(0.99), at(1.0));
}

/// What all threads except the peer's have done.
struct Work {
    /// Voluntary context switches: a thread that has waited is woken up.
    wakes: u64,
    /// Processor time.
    cpu: Duration,
}

impl Work {
    fn so_far() -> Self {
        let mut work = Self { wakes: 0, cpu: Duration::ZERO };
        for task in fs::read_dir("/proc/self/task").unwrap() {
            let task = task.unwrap().path();
            let read = |name| fs::read_to_string(task.join(name)).unwrap_or_default();
            let status = read("status");
            if status.starts_with("Name:\tpeer\n") {
                continue;
            }
            let switches = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:\t"));
            work.wakes += switches.map_or(0, |count| count.parse().unwrap());
            // Its first number is the time on a processor in nanoseconds, which is finer than the clock ticks of `stat`.
            let running = read("schedstat").split(' ').next().and_then(|time| time.parse().ok());
            work.cpu += Duration::from_nanos(running.unwrap_or_default());
        }
        work
    }
}

/// The numbers of the packets that have arrived completely, and when.
struct Arrivals {
    stream: TcpStream,
    framed: bool,
    bytes: Vec<u8>,
    from: usize,
    read_at: Instant,
    /// The header of the stream has not arrived yet.
    before_header: bool,
}

impl Arrivals {
    fn of(mut stream: TcpStream, framed: bool) -> Self {
        for _ in 0..if framed { 2 } else { 0 } {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            // The server responds to PushSetup, but does not respond to PushStart before its end.
            if String::from_utf8_lossy(&head).contains("pushsetup") {
                stream.write_all(ANSWER).unwrap();
            }
        }
        Self { stream, framed, bytes: Vec::new(), from: 0, read_at: Instant::now(), before_header: true }
    }

    /// Returns the next complete part of the stream, if it has arrived.
    fn piece(&mut self) -> Option<&[u8]> {
        let there = &self.bytes[self.from..];
        let len = match self.framed {
            true => 4 + usize::from(u16::from_le_bytes(there.get(2..4)?.try_into().unwrap())),
            false if self.before_header => Media { packet_size: PACKET, padded: false, step: 1 }.header().len(),
            false => PACKET,
        };
        if self.bytes.len() < self.from + len {
            return None;
        }
        let from = self.from;
        self.from += len;
        Some(&self.bytes[from..from + len])
    }
}

impl Iterator for Arrivals {
    type Item = (u32, Instant);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (framed, was_header) = (self.framed, self.before_header);
            if let Some(piece) = self.piece() {
                let number = u32::from_le_bytes(*piece.last_chunk().unwrap());
                let is_data = if framed { piece[1] == b'D' } else { !was_header };
                self.before_header = false;
                if is_data {
                    return Some((number, self.read_at));
                }
                continue;
            }
            self.bytes.drain(..std::mem::take(&mut self.from));
            let mut chunk = [0; 64 * 1024];
            let read = match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            };
            self.read_at = Instant::now();
            self.bytes.extend_from_slice(&chunk[..read]);
        }
    }
}
