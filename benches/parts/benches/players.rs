//! Many players of one stream: the resources that a server uses for them, and the delay of packets. `benches/run
//! server` runs it.
//!
//! ```text
//! players asf|asf-file PACKET KBIT SERVER   pushes ASF; players get it framed ([MS-WMSP]), or as an endless file
//! players icecast PACKET KBIT SERVER        sends to Icecast, or to another server that accepts PUT
//! players file KBIT SERVER                  sends nothing: players load /stream
//! players relay                             a server that only forwards what it reads; prints its address
//! ```
//!
//! SERVER is `ADDRESS PROCESS COUNT SECONDS`: the server's address and process, the number of players, and the duration
//! of the measurement. The output is one line: bytes received, CPU seconds, seconds, bytes of memory per player, and
//! the median, the 99th percentile and the maximum of the delay in microseconds.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a measurement that fails, fails")]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use asf::test_util::{HeaderBuilder, VIDEO_MEDIA};
use bench_parts::media::Media;
use memchr::memmem::Finder;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use wmhttp::packet::Packet;

/// Precedes the time at which a packet was sent; the two are the last bytes of the packet.
const MARK: &[u8; 8] = b"sent at ";
const STAMP: usize = MARK.len() + 8;
/// Time from the arrival of the first bytes at the last player to the start of the measurement.
const WARM_UP: Duration = Duration::from_secs(2);
/// Maximum time for players to join.
const TEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Players connect one at a time, because a burst would measure the listen queue.
const BETWEEN_JOINS: Duration = Duration::from_micros(500);

fn main() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["relay"] => relay(),
        ["file", kbit, address, process, count, seconds] => {
            measure(None, &Plan::new("0", kbit, address, process, count, seconds), "GET /stream HTTP/1.0");
        }
        [kind, packet, kbit, address, process, count, seconds] => {
            let plan = Plan::new(packet, kbit, address, process, count, seconds);
            let request = match kind {
                "asf" => "GET /concert HTTP/1.0\r\nUser-Agent: NSPlayer/10.0.0.3802\r\nPragma: xPlayStrm=1",
                "asf-file" => "GET /concert?format=asf HTTP/1.0",
                _ => "GET /concert HTTP/1.0",
            };
            let source = if kind == "icecast" { Source::put(&plan) } else { Source::push(&plan) };
            measure(Some(source), &plan, request);
        }
        // Without arguments, cargo runs this program as a test of all targets.
        _ => println!("benches/run starts this program; see its first lines for how"),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text} is not a number"))
}

/// The parameters of a measurement.
struct Plan {
    packet: usize,
    bytes_per_second: f64,
    address: SocketAddr,
    process: u32,
    count: usize,
    time: Duration,
}

impl Plan {
    fn new(packet: &str, kbit: &str, address: &str, process: &str, count: &str, seconds: &str) -> Self {
        Self {
            packet: number(packet),
            bytes_per_second: number::<f64>(kbit) * 125.0,
            address: number(address),
            process: number(process),
            count: number(count),
            time: Duration::from_secs(number(seconds)),
        }
    }
}

/// The sender of the stream.
struct Source {
    stream: TcpStream,
    packet: Box<dyn Fn(u32) -> Vec<u8> + Send>,
    interval: Duration,
}

impl Source {
    /// Starts an encoder that pushes ASF.
    fn push(plan: &Plan) -> Self {
        let mut stream = TcpStream::connect(plan.address).unwrap();
        let head = |kind, id: &str, length| {
            format!(
                "POST /concert HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-wms-push{kind}\r\n\
                 User-Agent: WMEncoder/12.0.0.0\r\nContent-Length: {length}\r\nCookie: push-id={id}\r\n\r\n"
            )
        };
        stream.write_all(head("setup", "0", 0).as_bytes()).unwrap();
        let answer = read_head(&mut stream);
        let id =
            answer.split("push-id=").nth(1).unwrap_or_else(|| panic!("{answer}")).split(['\r', ';']).next().unwrap();
        stream.write_all(head("start", id, i32::MAX).as_bytes()).unwrap();
        let media = Media { packet_size: plan.packet, padded: false, step: step(plan) };
        // The server inspects the first 256 packets for streams that the header describes, so all of them are sent.
        let header = HeaderBuilder { streams: vec![(2, VIDEO_MEDIA)], ..HeaderBuilder::default() };
        let header = header.packet_size(u32::try_from(plan.packet).unwrap()).build();
        stream.write_all(&Packet::Header(header).to_bytes().unwrap()).unwrap();
        let packet = move |n| {
            let mut packet = media.packet(n).to_vec();
            let end = packet.len() - STAMP;
            packet.truncate(end);
            packet.extend([0; STAMP]);
            Packet::Data(packet.into()).to_bytes().unwrap().to_vec()
        };
        Self { stream, packet: Box::new(packet), interval: interval(plan) }
    }

    /// Starts a source for Icecast, which sends plain bytes.
    fn put(plan: &Plan) -> Self {
        let mut stream = TcpStream::connect(plan.address).unwrap();
        // The credentials source:hackme in base64.
        stream
            .write_all(
                b"PUT /concert HTTP/1.1\r\nHost: x\r\nAuthorization: Basic c291cmNlOmhhY2ttZQ==\r\n\
                  Content-Type: audio/mpeg\r\n\r\n",
            )
            .unwrap();
        let answer = read_head(&mut stream);
        assert!(answer.contains(" 200 ") || answer.contains(" 100 "), "{answer}");
        let len = plan.packet;
        Self { stream, packet: Box::new(move |_| vec![0; len]), interval: interval(plan) }
    }

    /// Sends packets at the rate of the stream until `ended`.
    fn send(mut self, epoch: Instant, ended: &AtomicBool) {
        let begun = Instant::now();
        for n in 0.. {
            let mut packet = (self.packet)(n);
            thread::sleep((begun + self.interval * n).saturating_duration_since(Instant::now()));
            if ended.load(Ordering::Relaxed) {
                return;
            }
            let at = packet.len() - STAMP;
            packet[at..][..MARK.len()].copy_from_slice(MARK);
            let now = u64::try_from(epoch.elapsed().as_micros()).unwrap();
            packet[at + MARK.len()..].copy_from_slice(&now.to_le_bytes());
            self.stream.write_all(&packet).unwrap();
        }
    }
}

fn interval(plan: &Plan) -> Duration {
    Duration::from_secs_f64(plan.packet as f64 / plan.bytes_per_second)
}

fn step(plan: &Plan) -> u32 {
    u32::try_from(interval(plan).as_millis()).unwrap()
}

/// Reads the head of a response and nothing after it.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}

/// One player.
struct Player {
    stream: TcpStream,
    bytes: u64,
    /// The end of what it has received, because a timestamp may be split.
    carry: Vec<u8>,
}

/// All players, read by one thread into one buffer.
struct Players {
    epoll: Epoll,
    players: Vec<Player>,
    epoch: Instant,
    buffer: Vec<u8>,
    /// Microseconds from sending to arrival, for packets sent since `since`.
    delays: Vec<u64>,
    since: u64,
    finder: Finder<'static>,
}

impl Players {
    fn new(epoch: Instant) -> Self {
        Self {
            epoll: Epoll::new(EpollCreateFlags::empty()).unwrap(),
            players: Vec::new(),
            epoch,
            buffer: vec![0; 256 * 1024],
            delays: Vec::new(),
            since: u64::MAX,
            finder: Finder::new(MARK),
        }
    }

    fn join(&mut self, address: SocketAddr, request: &str) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(format!("{request}\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        stream.set_nonblocking(true).unwrap();
        self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, self.players.len() as u64)).unwrap();
        self.players.push(Player { stream, bytes: 0, carry: Vec::new() });
    }

    /// Reads what arrives during `time`.
    fn read_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        let mut events = vec![EpollEvent::empty(); 1024];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let timeout = u16::try_from(left.as_millis() + 1).unwrap();
            let ready = self.epoll.wait(&mut events, timeout).unwrap();
            for event in &events[..ready] {
                self.read(usize::try_from(event.data()).unwrap());
            }
        }
    }

    fn read(&mut self, number: usize) {
        let Self { players, buffer, .. } = self;
        let player = &mut players[number];
        let kept = player.carry.len();
        buffer[..kept].copy_from_slice(&player.carry);
        let len = match player.stream.read(&mut buffer[kept..]) {
            Ok(0) => panic!("the server has ended the stream of player {number} after {} bytes", player.bytes),
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("player {number}: {error}"),
        };
        let now = u64::try_from(self.epoch.elapsed().as_micros()).unwrap();
        if player.bytes == 0 {
            let head = String::from_utf8_lossy(&buffer[..len.min(200)]);
            assert!(head.starts_with("HTTP/1.") && head[8..].starts_with(" 200"), "{head}");
        }
        player.bytes += len as u64;
        let bytes = &buffer[..kept + len];
        let mut looked_at = 0;
        for at in self.finder.find_iter(bytes) {
            let Some(stamp) = bytes.get(at + MARK.len()..at + STAMP) else { break };
            let sent = u64::from_le_bytes(stamp.try_into().unwrap());
            looked_at = at + STAMP;
            if sent >= self.since {
                self.delays.push(now.saturating_sub(sent));
            }
        }
        let rest = &bytes[looked_at..];
        player.carry.clear();
        player.carry.extend_from_slice(&rest[rest.len().saturating_sub(STAMP - 1)..]);
    }

    fn received(&self) -> Vec<u64> {
        self.players.iter().map(|player| player.bytes).collect()
    }
}

fn measure(source: Option<Source>, plan: &Plan, request: &str) {
    let epoch = Instant::now();
    let ended = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&ended);
    let sending = source.map(|source| thread::spawn(move || source.send(epoch, &seen)));
    // The server must know the source before the first player sends its request.
    thread::sleep(Duration::from_millis(500));
    let before = resident(plan.process);
    let mut players = Players::new(epoch);
    for _ in 0..plan.count {
        players.join(plan.address, request);
        players.read_for(BETWEEN_JOINS);
    }
    let joined = Instant::now();
    while players.received().contains(&0) {
        assert!(joined.elapsed() < TEST_TIMEOUT, "not all players receive data");
        players.read_for(Duration::from_millis(100));
    }
    players.read_for(WARM_UP);
    let at_first = players.received();
    let (cpu, begun) = (processor_time(plan.process), Instant::now());
    players.since = u64::try_from(epoch.elapsed().as_micros()).unwrap();
    players.read_for(plan.time);
    let cpu = processor_time(plan.process) - cpu;
    let seconds = begun.elapsed().as_secs_f64();
    let memory = (resident(plan.process) as f64 - before as f64) / plan.count as f64;
    let received: Vec<u64> = players.received().iter().zip(at_first).map(|(now, first)| now - first).collect();
    // A server that skips players would seem cheap. nginx sends the data of one second at once.
    let due = plan.bytes_per_second * seconds;
    let least = *received.iter().min().unwrap();
    assert!(least as f64 > 0.9 * due - plan.bytes_per_second, "a player received {least} bytes instead of {due:.0}");
    ended.store(true, Ordering::Relaxed);
    sending.map(thread::JoinHandle::join).transpose().unwrap();
    let mut delays = players.delays;
    delays.sort_unstable();
    let at = |part: f64| delays.get(((delays.len().max(1) - 1) as f64 * part) as usize).copied().unwrap_or_default();
    let bytes: u64 = received.iter().sum();
    println!("{bytes} {cpu} {seconds} {memory} {} {} {}", at(0.5), at(0.99), at(1.0));
}

/// Returns the processor time (user and system) in seconds.
fn processor_time(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11..13].iter().map(|field| number::<f64>(field)).sum::<f64>() / 100.0
}

/// Returns the resident memory in bytes.
fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    number::<u64>(line.trim().trim_end_matches(" kB")) * 1024
}

/// Uses as few system calls as possible: one read of what the source has sent, and one write per player.
fn relay() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    let players = Arc::new(Mutex::new(Vec::new()));
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let head = read_head(&mut stream);
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
        stream.set_nodelay(true).unwrap();
        if !head.starts_with("PUT") {
            stream.set_nonblocking(true).unwrap();
            players.lock().unwrap().push(stream);
            continue;
        }
        let players = Arc::clone(&players);
        thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(len @ 1..) = stream.read(&mut buffer) {
                let mut players = players.lock().unwrap();
                // A player that has disconnected or does not read is removed.
                players.retain_mut(|player| player.write(&buffer[..len]).is_ok_and(|written| written == len));
            }
        });
    }
}
