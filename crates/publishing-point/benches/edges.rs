//! An origin, three edges that pull on demand, HAProxy with the shipped configuration, and thousands of players.
//!
//! ```text
//! cargo bench --package asf-publishing-point --bench edges -- [--players 3000] [--seconds 30] [--killed-players 1000]
//! ```
//!
//! First all players join in the same moment and play for a while; then fewer of them watch while an edge is killed, and
//! reconnect. Servers, HAProxy and players share the machine. docs/scaling.md has the figures.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a measurement that cannot continue ends")]

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use asf::test_util::{PacketBuilder, Payload};
use bytes::{Buf, Bytes, BytesMut};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use test_support::haproxy::HaProxy;
use test_support::player_load::{self, PACKET};
use test_support::server_process::PointProgram;
use test_support::usage::Usage;
use test_support::wire::{CONCERT, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use wmhttp::Hresult;
use wmhttp::packet::Packet;

/// bit/s of the stream.
const RATE: u32 = 300_000;
/// Time between two attempts of a player that was refused.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Time for the players to come back.
const RECOVERY: Duration = Duration::from_secs(20);
/// Time after the last player's first packet that is not measured.
const SETTLE: Duration = Duration::from_secs(2);

/// Measures players of three edges behind HAProxy
#[derive(Parser)]
struct Arguments {
    /// Players at one time
    #[arg(long, default_value_t = 3000)]
    players: u32,
    /// How long they are measured
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Players at the time when an edge is killed (0 = none is killed)
    #[arg(long, default_value_t = 1000)]
    killed_players: u32,
    /// Set by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a packet contains before the time at which it was sent and its number.
const MARK: &[u8; 8] = b"sent at ";

/// Returns the `n`th packet of a stream in which decoding can start at each packet, with the current time.
fn packet(n: u32, epoch: Instant) -> Bytes {
    let mut data = vec![1; PACKET - 60];
    data[..8].copy_from_slice(MARK);
    data[8..16].copy_from_slice(&u64::try_from(epoch.elapsed().as_micros()).unwrap().to_le_bytes());
    data[16..20].copy_from_slice(&n.to_le_bytes());
    let payloads = vec![Payload::new(1, &data).key()];
    PacketBuilder { size: 0, payloads, ..PacketBuilder::default() }.send_time(n * 38).build()
}

/// Returns when a packet was sent, in microseconds since the epoch, and its number.
fn stamp(packet: &[u8]) -> (u64, u32) {
    let at = packet[..80].windows(8).position(|window| window == MARK).unwrap() + MARK.len();
    let sent = u64::from_le_bytes(packet[at..at + 8].try_into().unwrap());
    (sent, u32::from_le_bytes(packet[at + 8..at + 12].try_into().unwrap()))
}

/// Returns the seconds of CPU that a process has used until now, in user mode and in the kernel.
fn processor_time(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name, which may contain anything, is in brackets.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11..13].iter().map(|field| field.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

/// What the players and the measurement share. Times are microseconds since the epoch.
struct Shared {
    epoch: Instant,
    haproxy: SocketAddr,
    /// Packets that were sent from then on are measured, until `until`.
    since: AtomicU64,
    until: AtomicU64,
    /// Players that have received a packet.
    joined: AtomicU64,
    /// A stream that ends now has ended for good.
    over: AtomicBool,
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap()
    }
}

/// What one player reports.
#[derive(Default)]
struct Report {
    /// From the start of the first connection to its first packet.
    joined_after: u64,
    /// Of each measured packet.
    delays: Vec<u64>,
    /// Packets that were missed within a connection.
    lost: u64,
    /// When connections ended, and when the first packet of the next one arrived.
    breaks: Vec<(u64, Option<u64>)>,
}

/// Plays as the `n`th player, from a separate address. It connects again at once when its stream breaks off, and once a second
/// while it is refused, as players do that repeat their URL.
async fn watch(n: u32, shared: Arc<Shared>) -> Report {
    let mut report = Report::default();
    let begun = shared.now();
    loop {
        let ended = play(n, &shared, &mut report, begun).await;
        if shared.over.load(Ordering::Relaxed) {
            return report;
        }
        match ended {
            Ok(true) => report.breaks.push((shared.now(), None)),
            Ok(false) | Err(_) => tokio::time::sleep(RETRY_AFTER).await,
        }
    }
}

async fn connect(n: u32, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let [_, _, high, low] = n.to_be_bytes();
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 10, high, low), 0)))?;
    socket.connect(to).await
}

/// Plays one connection to its end. Returns whether a packet has arrived.
async fn play(n: u32, shared: &Shared, report: &mut Report, begun: u64) -> io::Result<bool> {
    let mut stream = connect(n, shared.haproxy).await?;
    let request = "GET /concert HTTP/1.0\r\nHost: x\r\nUser-Agent: NSPlayer/9.0.0.2980\r\nPragma: xPlayStrm=1\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    let mut in_head = true;
    let mut last = None;
    loop {
        buffer.reserve(4 * PACKET);
        // What was received of a connection that is reset counts.
        if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
            return Ok(last.is_some());
        }
        if in_head {
            let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            if !buffer.starts_with(b"HTTP/1.0 200") && !buffer.starts_with(b"HTTP/1.1 200") {
                return Ok(false);
            }
            buffer.advance(end + 4);
            in_head = false;
        }
        // The framing of [MS-WMSP]: `$`, a letter, a length; a data packet has eight more bytes before it.
        while let Some(len) = buffer.get(2..4).map(|len| 4 + usize::from(u16::from_le_bytes([len[0], len[1]])))
            && buffer.len() >= len
        {
            let packet = buffer.split_to(len);
            if packet[1] != b'D' {
                continue;
            }
            let now = shared.now();
            let (sent, number) = stamp(&packet[12..]);
            match last {
                Some(last) => report.lost += u64::from(number - last - 1),
                None => match report.breaks.last_mut() {
                    Some((_, back)) => {
                        back.get_or_insert(now);
                    }
                    None => {
                        report.joined_after = now - begun;
                        shared.joined.fetch_add(1, Ordering::Relaxed);
                    }
                },
            }
            last = Some(number);
            if (shared.since.load(Ordering::Relaxed)..shared.until.load(Ordering::Relaxed)).contains(&sent) {
                report.delays.push(now - sent);
            }
        }
    }
}

/// The servers, and a thread that pushes to the origin.
struct Servers {
    origin: PointProgram,
    edges: Vec<PointProgram>,
    haproxy: HaProxy,
    shared: Arc<Shared>,
    push: thread::JoinHandle<u32>,
}

impl Servers {
    fn start(players: u32) -> Self {
        let origin = PointProgram::configured(&[], "[point.concert]\n");
        let config = format!(
            "max-players = {players}\n[bounds]\nuncounted = ['127.0.0.1']\n\
             [point.concert]\nsource = '{}'\nsource-on-demand = true\n",
            origin.url("concert")
        );
        let edges = [(); 3].map(|()| PointProgram::configured(&[], &config));
        let haproxy = HaProxy::new(edges.each_ref().map(|edge| edge.address), 2 * players as usize);
        let shared = Arc::new(Shared {
            epoch: Instant::now(),
            haproxy: haproxy.address(),
            since: AtomicU64::new(u64::MAX),
            until: AtomicU64::new(u64::MAX),
            joined: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let push = thread::spawn({
            let (address, shared) = (origin.address, Arc::clone(&shared));
            move || push(address, &shared)
        });
        // The edges' health checks must have passed.
        thread::sleep(Duration::from_secs(3));
        Self { origin, edges: edges.into(), haproxy, shared, push }
    }

    fn players(&self, count: u32, runtime: &Runtime) -> Vec<JoinHandle<Report>> {
        let players = (0..count).map(|n| runtime.spawn(watch(n, Arc::clone(&self.shared)))).collect();
        while self.shared.joined.load(Ordering::Relaxed) < u64::from(count) {
            thread::sleep(Duration::from_millis(10));
        }
        players
    }

    /// Returns the processes with their names.
    fn processes(&self) -> Vec<(String, u32)> {
        let edges = self.edges.iter().enumerate().map(|(n, edge)| (format!("edge {}", n + 1), edge.pid()));
        let mut processes = vec![("origin".to_owned(), self.origin.pid())];
        processes.extend(edges);
        processes.push(("HAProxy".to_owned(), self.haproxy.pid()));
        processes.push(("players and encoder".to_owned(), std::process::id()));
        processes
    }

    /// Ends the stream. Returns the players' reports.
    fn end(self, players: Vec<JoinHandle<Report>>, runtime: &Runtime) -> Vec<Report> {
        self.shared.over.store(true, Ordering::Relaxed);
        self.push.join().unwrap();
        players.into_iter().map(|player| runtime.block_on(player).unwrap()).collect()
    }
}

/// Pushes until the stream is over. Returns the number of packets.
fn push(origin: SocketAddr, shared: &Shared) -> u32 {
    let (mut wire, id) = Wire::set_up(origin, CONCERT);
    wire.start(CONCERT.id(&id), [Packet::Header(player_load::header())]);
    let begun = Instant::now();
    for n in 0.. {
        if shared.over.load(Ordering::Relaxed) {
            wire.packet(Packet::End(Hresult::OK));
            // Whatever the answer: the end was sent.
            let _ = wire.rest();
            return n;
        }
        let due = Duration::from_secs_f64(f64::from(n) * PACKET as f64 * 8.0 / f64::from(RATE));
        thread::sleep(due.saturating_sub(begun.elapsed()));
        wire.packet(Packet::Data(packet(n, shared.epoch)));
    }
    0
}

/// Describes the median, the 99th percentile and the maximum of microseconds, in milliseconds.
fn percentiles(mut values: Vec<u64>) -> String {
    values.sort_unstable();
    let Some(last) = values.len().checked_sub(1) else { return "none".to_owned() };
    let at = |part: f64| values[(last as f64 * part).round() as usize] as f64 / 1e3;
    format!("p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", at(0.5), at(0.99), at(1.0))
}

/// Measures players that all join at once, and then play.
fn steady(count: u32, seconds: u64, runtime: &Runtime) {
    let servers = Servers::start(count);
    let processes = servers.processes();
    let used = || -> Vec<f64> { processes.iter().map(|(_, process)| processor_time(*process)).collect() };
    let (began, before_join) = (Instant::now(), used());
    let players = servers.players(count, runtime);
    let (join_time, after_join) = (began.elapsed(), used());
    thread::sleep(SETTLE);
    let (began, before) = (Instant::now(), used());
    servers.shared.since.store(servers.shared.now(), Ordering::Relaxed);
    thread::sleep(Duration::from_secs(seconds));
    servers.shared.until.store(servers.shared.now(), Ordering::Relaxed);
    let (elapsed, after) = (began.elapsed().as_secs_f64(), used());
    let memory: Vec<u64> = processes.iter().map(|(_, process)| Usage::of(*process).resident).collect();
    thread::sleep(SETTLE);
    let reports = servers.end(players, runtime);

    println!("{count} players of {RATE} bit/s join at once, and play for {seconds} s");
    println!(
        "all have a packet after {:.1} s; a player's first packet: {}",
        join_time.as_secs_f64(),
        percentiles(reports.iter().map(|report| report.joined_after).collect())
    );
    let packets = elapsed * f64::from(RATE) / 8.0 / PACKET as f64 * f64::from(count);
    println!("{:<20} {:>8} {:>14} {:>14} {:>9}", "", "CPU %", "µs a packet", "ms a join", "RSS MiB");
    for (n, (name, _)) in processes.iter().enumerate() {
        let cpu = after[n] - before[n];
        // Edges serve a third of the packets each.
        let share = if name.starts_with("edge") { packets / 3.0 } else { packets };
        let joins = if name.starts_with("edge") { f64::from(count) / 3.0 } else { f64::from(count) };
        println!(
            "{name:<20} {:>8.1} {:>14.1} {:>14.2} {:>9.1}",
            100.0 * cpu / elapsed,
            1e6 * cpu / share,
            1e3 * (after_join[n] - before_join[n]) / joins,
            memory[n] as f64 / 1024.0
        );
    }
    let received: usize = reports.iter().map(|report| report.delays.len()).sum();
    let lost: u64 = reports.iter().map(|report| report.lost).sum();
    let broken: usize = reports.iter().map(|report| report.breaks.len()).sum();
    println!(
        "delay: {}; {received} packets received, {lost} lost, {broken} connections broken\n",
        percentiles(reports.into_iter().flat_map(|report| report.delays).collect())
    );
}

/// Measures how players come back whose edge is killed.
fn killed(count: u32, runtime: &Runtime) {
    let mut servers = Servers::start(count);
    let players = servers.players(count, runtime);
    thread::sleep(SETTLE);
    let killed_at = servers.shared.now();
    servers.shared.since.store(killed_at, Ordering::Relaxed);
    // Dropping it kills it.
    drop(servers.edges.remove(0));
    thread::sleep(RECOVERY);
    servers.shared.until.store(servers.shared.now(), Ordering::Relaxed);
    let reports = servers.end(players, runtime);

    let broken: Vec<_> = reports.iter().filter(|report| !report.breaks.is_empty()).collect();
    let back: Vec<u64> =
        broken.iter().filter_map(|report| report.breaks.last()?.1).map(|back| back - killed_at).collect();
    let twice = broken.iter().filter(|report| report.breaks.len() > 1).count();
    println!("an edge is killed while {count} players watch");
    println!(
        "{} lose their connection, {twice} of them more than once; {} are back after: {}",
        broken.len(),
        back.len(),
        percentiles(back.clone())
    );
    let others = reports.iter().filter(|report| report.breaks.is_empty());
    let lost: u64 = others.clone().map(|report| report.lost).sum();
    println!(
        "the other {} players: {lost} packets lost, delay {}\n",
        others.clone().count(),
        percentiles(others.flat_map(|report| report.delays.iter().copied()).collect())
    );
}

fn main() {
    let Arguments { players, seconds, killed_players, bench } = Arguments::parse();
    if !bench {
        // So cargo starts it, as a test of all targets.
        return println!("cargo bench starts this program; see its first lines for how");
    }
    // Each player is a descriptor here and two of HAProxy's, which inherits the limit.
    let (_, maximum) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, maximum, maximum).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if players > 0 {
        steady(players, seconds, &runtime);
    }
    if killed_players > 0 {
        killed(killed_players, &runtime);
    }
}
