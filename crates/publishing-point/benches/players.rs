//! A thousand players of one point, and beside it as many clients of nginx that pull the same bytes as a file.
//!
//! `cargo bench --bench players -- --players 1000 --seconds 20` prints a table. Server and clients share the machine.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a measurement that cannot continue ends")]

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use test_support::daemon::{Daemon, folder, program};
use test_support::player_load::{self, PACKET, Received, listen};
use test_support::wire::{CONCERT, Wire};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use wmhttp::Hresult;
use wmhttp::packet::Packet;

/// bit/s of the stream.
const RATE: u32 = 300_000;

/// Measures many players of one point beside nginx
#[derive(Parser)]
struct Arguments {
    /// Players at one time
    #[arg(long, default_value_t = 1000)]
    players: usize,
    /// How long the stream lasts
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Says cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// The server's process, ended with this one's work.
struct Server {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start(players: usize) -> Self {
        let folder = folder();
        let config = folder.path().join("server.toml");
        fs::write(&config, format!("listen = '127.0.0.1:0'\nmax-players = {players}\n[point.concert]\n")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_asf-publishing-point"))
            .arg("--config")
            .arg(&config)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit('/').next().unwrap().parse().unwrap();
        Self { child, address, _folder: folder }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process has used by now: seconds of CPU, and the most memory, in MiB.
fn used(process: u32) -> (f64, f64) {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().map(|at| fields[*at].parse::<f64>().unwrap()).sum();
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    (ticks / 100.0, peak.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0)
}

/// Lets clients begin; gives when all of them have.
fn gather(
    runtime: &Runtime,
    clients: usize,
    address: SocketAddr,
    target: &'static str,
    epoch: Option<Instant>,
) -> Vec<JoinHandle<Received>> {
    let (begun, begins) = channel();
    let clients: Vec<_> = (0..clients)
        .map(|_| {
            let begun = begun.clone();
            runtime.spawn(listen(address, target, epoch, move || begun.send(()).unwrap()))
        })
        .collect();
    begins.iter().take(clients.len()).for_each(drop);
    clients
}

fn report(name: &str, process: u32, before: f64, began: Instant, received: &[Received]) {
    let (cpu, memory) = used(process);
    let elapsed = began.elapsed().as_secs_f64();
    let distinct: HashSet<_> = received.iter().map(|got| got.hash).collect();
    let delay = received.iter().map(|got| got.largest_delay).max().unwrap_or_default();
    let bytes: u64 = received.iter().map(|got| got.bytes).sum();
    println!(
        "{name:<22} {:>7} {:>9.1} {:>8.2} {:>7.1} {:>9.1} {:>10.1} {:>9}",
        received.len(),
        bytes as f64 / 1e6,
        cpu - before,
        100.0 * (cpu - before) / elapsed,
        memory,
        delay.as_secs_f64() * 1e3,
        if distinct.len() == 1 { "equal" } else { "DIFFERENT" }
    );
    assert_eq!(distinct.len(), 1, "not all have received the same");
}

fn main() {
    let Arguments { players, seconds, .. } = Arguments::parse();
    let (_, maximum) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, maximum, maximum).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let wait = |clients: Vec<JoinHandle<Received>>| -> Vec<Received> {
        clients.into_iter().map(|client| runtime.block_on(client).unwrap()).collect()
    };
    println!("{RATE} bit/s for {seconds} s");
    println!(
        "{:<22} {:>7} {:>9} {:>8} {:>7} {:>9} {:>10} {:>9}",
        "", "clients", "MB", "CPU s", "CPU %", "RSS MiB", "delay ms", "bytes"
    );

    let mut bytes = player_load::header().to_vec();
    for (name, target) in [("point, plain ASF", "/concert?format=asf"), ("nginx, a file", "/stream.asf")] {
        if name.starts_with("point") {
            let server = Server::start(players);
            let mut pusher = Wire::to(server.address);
            let id = pusher.setup(CONCERT, "").push_id();
            pusher.start(CONCERT.id(&id), []);
            pusher.packet(Packet::Header(player_load::header()));
            // Players are refused until the header has arrived.
            thread::sleep(Duration::from_secs(1));
            let epoch = Instant::now();
            let clients = gather(&runtime, players, server.address, target, Some(epoch));
            let (before, _) = used(server.child.id());
            let began = Instant::now();
            for n in 0..seconds * RATE / 8 / PACKET as u32 {
                let due = Duration::from_secs_f64(f64::from(n) * PACKET as f64 * 8.0 / f64::from(RATE));
                thread::sleep(due.saturating_sub(began.elapsed()));
                let packet = player_load::packet(n, epoch);
                pusher.packet(Packet::Data(packet.clone()));
                asf::restore(&packet, PACKET, &mut bytes).unwrap();
            }
            pusher.packet(Packet::End(Hresult::OK));
            let received = wait(clients);
            report(name, server.child.id(), before, began, &received);
        } else {
            let folder = folder();
            fs::write(folder.path().join("stream.asf"), &bytes).unwrap();
            let path = folder.path().display().to_string();
            let nginx = Daemon::start(&folder.path().join("said"), |address| {
                let configuration = format!(
                    "daemon off; master_process off; pid {path}/pid; error_log {path}/errors error;\n\
                     worker_rlimit_nofile {}; events {{ worker_connections {}; }}\n\
                     http {{ access_log off; client_body_temp_path {path}/b; proxy_temp_path {path}/p; fastcgi_temp_path {path}/f;\n\
                     uwsgi_temp_path {path}/u; scgi_temp_path {path}/s; sendfile on; tcp_nopush off;\n\
                     server {{ listen {address} backlog=4096; root {path}; limit_rate {}; }} }}\n",
                    2 * players + 100,
                    2 * players + 100,
                    RATE / 8
                );
                fs::write(folder.path().join("nginx.conf"), configuration).unwrap();
                [
                    program("nginx"),
                    "-e".to_owned(),
                    format!("{path}/errors"),
                    "-c".to_owned(),
                    format!("{path}/nginx.conf"),
                ]
                .into()
            });
            let process = fs::read_to_string(folder.path().join("pid")).unwrap().trim().parse().unwrap();
            let (before, _) = used(process);
            let began = Instant::now();
            let clients = gather(&runtime, players, nginx.address, target, None);
            let received = wait(clients);
            report(name, process, before, began, &received);
        }
    }
}
