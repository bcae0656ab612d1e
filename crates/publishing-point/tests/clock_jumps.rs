//! Clocks that wrap, clocks that are set, and clocks that continue while a process is stopped.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use asf::test_util::{PacketBuilder, Payload};
use asf::{Header, Packet as AsfPacket, Padding, Parser, Settings};
use asf_publishing_point::{Config, PointConfig, Server};
use bytes::Bytes;
use nix::sys::signal::Signal;
use tempfile::TempDir;
use test_support::decoded::{assert_same_frames, ffmpeg_file, recordings};
use test_support::media;
use test_support::packet_counter::PacketCounter;
use test_support::peer::{Peer, wms};
use test_support::pipeline::{Pushing, end, plugin_folder, push_bytes, until};
use test_support::program::Program;
use test_support::puller::Puller;
use test_support::server_process::PointProgram;
use wmhttp::packet::Packet;
use wmhttp::server::Policy;

const STEP: u32 = 40;
/// The minimum Idle-Timeout of a server (S-2).
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns how much longer than that a process is stopped: `STAND_STILL_SECONDS`.
fn stand_still() -> Duration {
    let seconds = std::env::var("STAND_STILL_SECONDS").map_or(1, |text| text.parse().unwrap());
    Duration::from_secs(seconds)
}

// ---- send times ----

/// Returns packet `n` of a stream whose send times wrap at packet 25.
fn wrapping_packet(n: u32) -> Bytes {
    let send_time = (u32::MAX - 24 * STEP).wrapping_add(n * STEP);
    let mut data = vec![0xA5; media::SIZE as usize - 100];
    data[..4].copy_from_slice(&n.to_le_bytes());
    let payload = Payload::new(2, &data);
    let payload = if n.is_multiple_of(10) { payload.key() } else { payload };
    PacketBuilder::asfmux(media::SIZE as usize, vec![payload]).send_time(send_time).build()
}

fn wrapping_stream(packets: u32) -> Vec<u8> {
    [media::header()].into_iter().chain((0..packets).map(wrapping_packet)).flatten().collect()
}

fn send_time(packet: Bytes) -> u32 {
    let header = Header::parse(media::header()).unwrap();
    AsfPacket::parse([packet, Bytes::new()], &header, Padding::Keep).send_time()
}

/// The element's pacing across the wrap: it neither waits for 49 days nor rushes.
#[test]
fn pacing_continues_across_a_wrap_of_send_times() {
    const PACKETS: u32 = 60;
    let peer = Peer::new();
    let (pushing, source) = Pushing::with_feed_source(&format!("location={}", peer.location()));
    pushing.play();
    push_bytes(&source, wrapping_stream(PACKETS));
    end(&source);
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    connection.packet();
    let mut arrivals = Vec::new();
    while let Some(Packet::Data(data)) = connection.packet() {
        arrivals.push((Instant::now(), send_time(data)));
    }
    connection.answer(&wms(204, "one"));
    pushing.wait_for_eos();
    let expected: Vec<u32> = (0..PACKETS).map(|n| (u32::MAX - 24 * STEP).wrapping_add(n * STEP)).collect();
    assert_eq!(arrivals.iter().map(|(_, time)| *time).collect::<Vec<_>>(), expected);
    // If the first packet is late, the following ones are early.
    let took = arrivals[PACKETS as usize - 1].0 - arrivals[20].0;
    assert!(took > Duration::from_millis(u64::from((PACKETS - 21) * STEP) / 2), "{took:?}");
}

/// The server's recording, its time limit and its players across the wrap.
#[test]
fn a_server_continues_across_a_wrap_of_send_times() {
    const PACKETS: u32 = 60;
    let directory = TempDir::new().unwrap();
    let point = PointConfig { record: Some(directory.path().to_owned()), ..PointConfig::default() };
    let server = Server::spawn(Config::with_points(["concert"], &point)).unwrap();
    let (pushing, source) = Pushing::with_feed_source(&format!("sync=false location=http://{}/concert", server.addr()));
    pushing.play();
    push_bytes(&source, wrapping_stream(10));
    until("the stream", || server.stats("concert").unwrap().packets == 10);
    let player = Puller::of(server.addr(), "concert");
    until("the player", || server.stats("concert").unwrap().players == 1);
    (10..PACKETS).for_each(|n| push_bytes(&source, wrapping_packet(n)));
    end(&source);
    pushing.wait_for_eos();
    let pulled: Vec<u32> = player.end().packets.into_iter().map(send_time).collect();
    let pushed: Vec<u32> = (0..PACKETS).map(|n| send_time(wrapping_packet(n))).collect();
    assert!(pulled.len() >= PACKETS as usize - 10 && pushed.ends_with(&pulled), "{pulled:?}");
    server.stop();
    let [file] = &recordings(directory.path())[..] else { panic!("one recording") };
    let mut parser = Parser::new(Settings { padding: Padding::Keep, live_header: false, remove_encoder_offset: false });
    parser.push(fs::read(file).unwrap().into());
    let recorded: Vec<u32> =
        std::iter::from_fn(|| parser.next_packet().unwrap()).map(|unit| unit.packet.send_time()).collect();
    assert_eq!(recorded, pushed);
    // The send duration in the finished file is that of the stream.
    assert_eq!(seconds(file), f64::from(PACKETS - 1) * 0.04);
}

/// Returns the send duration of a finished file, in seconds.
fn seconds(file: &Path) -> f64 {
    let bytes = fs::read(file).unwrap();
    let properties = bytes.windows(4).position(|guid| guid == [0xa1, 0xdc, 0xab, 0x8c]).unwrap();
    let send_duration = u64::from_le_bytes(bytes[properties + 72..properties + 80].try_into().unwrap());
    send_duration as f64 / 1e7
}

// ---- a clock that is set ----

/// A wall clock for programs, which is set by writing a file. The monotonic clock is not changed.
struct WallClock {
    directory: TempDir,
}

impl WallClock {
    fn new() -> Self {
        let clock = Self { directory: TempDir::new().unwrap() };
        clock.set("+0d");
        clock
    }

    /// Sets the clock relative to the true time, such as `-3d`.
    fn set(&self, offset: &str) {
        // The rename is atomic, so a reader never sees a partial file.
        let next = self.directory.path().join("next");
        fs::write(&next, offset).unwrap();
        fs::rename(next, self.file()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("offset")
    }

    /// Returns the environment variables that make a program use this clock.
    fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", library().display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }

    /// Returns the year of this clock.
    fn year(&self) -> String {
        let output = Command::new("date").arg("+%Y").envs(self.variables()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

/// Returns Debian's libfaketime.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|library| library.exists());
    found.expect("libfaketime: scripts/install-deps test")
}

/// Creates a file with ffmpeg, four seconds long.
fn source(directory: &TempDir) -> PathBuf {
    let file = directory.path().join("source.wmv");
    ffmpeg_file(&file, 25);
    file
}

/// Starts gst-launch-1.0 to push a file in real time and print its statistics.
fn launch(file: &Path, url: &str, variables: &[(&'static str, String)]) -> Program {
    let plugin = plugin_folder();
    let variables: String = variables.iter().map(|(name, value)| format!("{name}={value} ")).collect();
    Program::shell(&format!(
        "exec env GST_PLUGIN_PATH={plugin} GST_REGISTRY={plugin}/registry-of-clocks.bin {variables} \
         gst-launch-1.0 -m filesrc location={} ! asfpushsink location={url} eos-timeout=30000 \
         stats-update-interval=100",
        file.display(),
        plugin = plugin.display()
    ))
}

/// Sets the clock decades back and forth during a push; packets continue to arrive.
fn leap(clock: &WallClock, packets: impl Fn() -> u64) {
    let this_year = clock.year();
    for offset in ["+3650d", "-3650d", "-1h", "+1d", "+0d"] {
        let before = packets();
        clock.set(offset);
        if offset.contains("3650") {
            assert_ne!(clock.year(), this_year, "the program does not use the clock");
        }
        until("more packets", || packets() >= before + 5);
    }
}

#[test]
fn the_encoders_wall_clock_is_set() {
    let directory = TempDir::new().unwrap();
    let file = source(&directory);
    let into = directory.path().join("recordings");
    let point = PointConfig { record: Some(into.clone()), ..PointConfig::default() };
    let server = Server::spawn(Config::with_points(["concert"], &point)).unwrap();
    let clock = WallClock::new();
    let pusher = launch(&file, &format!("http://{}/concert", server.addr()), &clock.variables());
    leap(&clock, || server.stats("concert").unwrap().packets);
    pusher.output();
    let stats = server.stats("concert").unwrap();
    assert_eq!((stats.sessions, stats.headers), (1, 1));
    server.stop();
    assert_same_frames(&file, &recordings(&into)[0], 0);
}

#[test]
fn the_servers_wall_clock_is_set() {
    let directory = TempDir::new().unwrap();
    let file = source(&directory);
    let into = directory.path().join("recordings");
    let clock = WallClock::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_asf-publishing-point"));
    command.args(["--point", "concert", "--record"]).arg(&into).envs(clock.variables());
    let point = PointProgram::spawn(&mut command, TempDir::new().unwrap());
    let pushing =
        Pushing::launch(&format!("filesrc location={}", file.display()), &format!("location={}", point.url("concert")));
    pushing.play();
    leap(&clock, || pushing.count(0, "packets-sent"));
    pushing.wait_for_eos();
    let count = |field| pushing.count(0, field);
    assert_eq!((count("reconnects"), count("packets-dropped"), count("packets-uncertain")), (0, 0, 0));
    point.is_well();
    point.stop();
    assert_same_frames(&file, &recordings(&into)[0], 0);
}

// ---- a process that stands still ----

/// Returns the highest value of a counter that gst-launch has printed.
fn value_of(output: &[String], counter: &str) -> u64 {
    let name = format!("{counter}\\=\\(guint64\\)");
    let values = output.iter().flat_map(|line| line.split(&name).skip(1));
    values.map(|text| text.split('\\').next().unwrap().parse().unwrap()).max().unwrap()
}

/// Returns the packets in files.
fn packets(list: PathBuf, files: &[PathBuf]) -> HashSet<u64> {
    let mut packet_counter = PacketCounter::in_file(list);
    files.iter().for_each(|file| packet_counter.count_file(file));
    packet_counter.into_set()
}

/// S-2, C-15: an encoder that is stopped for longer than the server keeps its session continues with a new session, and
/// counts the lost packets.
#[test]
fn s2_c15_an_encoder_is_stopped() {
    let directory = TempDir::new().unwrap();
    let file = source(&directory);
    let into = directory.path().join("recordings");
    let point = PointConfig { record: Some(into.clone()), ..PointConfig::default() };
    let config = Config::with_points(["concert"], &point);
    let policy = Policy { idle_timeout: IDLE_TIMEOUT, ..Policy::default() };
    let server = Server::spawn(Config { policy, ..config }).unwrap();
    let pusher = launch(&file, &format!("http://{}/concert", server.addr()), &[]);
    let stats = || server.stats("concert").unwrap();
    until("the stream", || stats().packets > 10);
    pusher.signal(Signal::SIGSTOP);
    until("the server ends the session", || !stats().pushing);
    thread::sleep(stand_still());
    pusher.signal(Signal::SIGCONT);
    let output = pusher.output();
    let stats = stats();
    assert_eq!((stats.sessions, stats.headers), (2, 2), "{}", output.join("\n"));
    server.stop();
    let pushed = packets(directory.path().join("pushed"), &[file]);
    let came = packets(directory.path().join("came"), &recordings(&into));
    // The recording resumes with a key frame: from the packet in which it begins, earlier data is left out.
    assert!(came.difference(&pushed).count() <= 1);
    let missing = pushed.difference(&came).count() as u64;
    let [uncertain, dropped] = ["packets-uncertain", "packets-dropped"].map(|counter| value_of(&output, counter));
    println!("{missing} of {} are missing, {uncertain} uncertain, {dropped} dropped", pushed.len());
    assert!(missing <= uncertain + dropped + 1, "{}", output.join("\n"));
    assert!(came.len() * 2 > pushed.len(), "{missing} are missing");
}

/// While a server is stopped, the encoder loses no packets that it can keep.
#[test]
fn a_server_is_stopped() {
    let directory = TempDir::new().unwrap();
    let file = source(&directory);
    let into = directory.path().join("recordings");
    let point = PointProgram::start(&["--point", "concert", "--record", into.to_str().unwrap()]);
    let source = format!("filesrc location={}", file.display());
    let pushing = Pushing::launch(&source, &format!("location={} stall-timeout=60000", point.url("concert")));
    pushing.play();
    until("the stream", || pushing.count(0, "packets-sent") > 10);
    point.signal(Signal::SIGSTOP);
    // The kernel buffers the rest of the file, or it waits.
    thread::sleep(Duration::from_secs(5));
    point.signal(Signal::SIGCONT);
    pushing.wait_for_eos();
    let count = |field| pushing.count(0, field);
    assert_eq!((count("reconnects"), count("packets-dropped"), count("packets-uncertain")), (0, 0, 0));
    point.stop();
    assert_same_frames(&file, &recordings(&into)[0], 0);
}
