//! A long live push to four publishing points, whose servers stall, break connections, are killed and restart. Memory,
//! descriptors and threads stay constant, each packet arrives or is counted, and what arrives can be decoded.
//!
//! `SOAK_SECONDS` sets the duration, and `SOAK_SEED` the sequence of faults; `scripts/soak` keeps the measurements in
//! `SOAK_OUT` and draws them.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use asf::{Parser, Settings};
use bytes::Bytes;
use gst::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use test_support::decoded::recordings;
use test_support::faulty_server::FaultyServer;
use test_support::packet_counter::PacketCounter;
use test_support::pipeline::{Pushing, until};
use test_support::usage::Usage;

const SERVERS: usize = 4;
/// The process of this server keeps running, so that its memory usage can be evaluated.
const IMMORTAL: usize = 3;
/// About 2 Mbit/s.
const MEDIA: &str = "\
    videotestsrc is-live=true pattern=snow ! video/x-raw,width=208,height=160,framerate=25/1 ! videoconvert \
    ! avenc_wmv2 name=encoder bitrate=1900000 gop-size=25 ! identity single-segment=true ! queue ! mux. \
    audiotestsrc is-live=true samplesperbuffer=1764 ! audio/x-raw,rate=44100,channels=2 ! audioconvert \
    ! avenc_wmav2 bitrate=96000 ! queue ! mux. \
    asfmux name=mux streamable=true";
/// Bodies of about 4 and 12 seconds, so that there are many requests; and one that is longer than the push.
const PROPERTIES: &str = "\
    on-error=never retry-delay=200 retry-delay-max=2000 timeout=3000 stall-timeout=5000 eos-timeout=60000 \
    dest_1::content-length=1000000 dest_2::content-length=3000000 dest_3::content-length=1000000";
/// Time between measurements.
const LOOK: Duration = Duration::from_secs(1);
/// Permitted growth of a process: the packet buffer has up to 8 MiB, and is fuller while a destination lags.
const ROOM_KIB: u64 = 10 * 1024;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

// ---- measurements ----

/// One measurement.
struct Sample {
    own: Usage,
    /// Of the servers' processes that run.
    servers: Vec<Option<Usage>>,
    has_fault: bool,
}

/// The measurements, and the file to which they are written.
struct Samples {
    begun: Instant,
    all: Vec<Sample>,
    table: File,
    events: File,
}

impl Samples {
    fn into(folder: &Path) -> Self {
        let mut table = File::create(folder.join("soak.csv")).unwrap();
        let mut head = "seconds,rss_kib,descriptors,threads".to_owned();
        for n in 0..SERVERS {
            write!(head, ",sent_{n},dropped_{n},queued_{n},uncertain_{n},reconnects_{n}").unwrap();
            write!(head, ",server_rss_kib_{n},server_descriptors_{n},server_threads_{n}").unwrap();
        }
        writeln!(table, "{head}").unwrap();
        let mut events = File::create(folder.join("events.csv")).unwrap();
        writeln!(events, "seconds,server,event").unwrap();
        Self { begun: Instant::now(), all: Vec::new(), table, events }
    }

    fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    fn take(&mut self, pushing: &Pushing, servers: &[FaultyServer]) {
        let own = Usage::here();
        let of_servers: Vec<_> = servers
            .iter()
            .map(|server| server.program().map(test_support::server_process::PointProgram::usage))
            .collect();
        let mut line = format!("{:.1},{},{},{}", self.seconds(), own.resident, own.descriptors, own.threads);
        for (stats, usage) in pushing.all_stats().iter().zip(&of_servers) {
            let [received, sent, dropped, queued, uncertain, reconnects] = [
                "packets-received",
                "packets-sent",
                "packets-dropped",
                "packets-queued",
                "packets-uncertain",
                "reconnects",
            ]
            .map(|field| stats.get::<u64>(field).unwrap());
            assert_eq!(sent + dropped + queued, received, "{stats}");
            write!(line, ",{sent},{dropped},{queued},{uncertain},{reconnects}").unwrap();
            match usage {
                Some(usage) => write!(line, ",{},{},{}", usage.resident, usage.descriptors, usage.threads).unwrap(),
                None => line.push_str(",,,"),
            }
        }
        writeln!(self.table, "{line}").unwrap();
        let has_fault = servers.iter().any(FaultyServer::has_fault);
        self.all.push(Sample { own, servers: of_servers, has_fault });
    }

    fn event(&mut self, server: usize, what: &str) {
        writeln!(self.events, "{:.1},{server},{what}", self.seconds()).unwrap();
    }

    /// The first fifth is the warm-up. The second half of the rest must use no more than the first half.
    fn assert_flat(&self) {
        let usages = |pick: fn(&Sample) -> Option<Usage>| self.all.iter().filter_map(pick).collect::<Vec<_>>();
        for (name, usages) in
            [("own", usages(|look| Some(look.own))), ("server", usages(|look| look.servers[IMMORTAL]))]
        {
            let usages = &usages[usages.len() / 5..];
            let (first, second) = usages.split_at(usages.len() / 2);
            let medians = |value: fn(&Usage) -> u64| [median(first, value), median(second, value)];
            let resident = medians(|usage| usage.resident);
            let descriptors = medians(|usage| usage.descriptors);
            let threads = medians(|usage| usage.threads);
            println!("{name}: RSS {resident:?} KiB, descriptors {descriptors:?}, threads {threads:?}");
            assert!(resident[1] <= resident[0] + ROOM_KIB, "{name}: {resident:?} KiB");
            assert!(descriptors[1] <= descriptors[0] + 8, "{name}: {descriptors:?} descriptors");
            assert!(threads[1] <= threads[0] + 4, "{name}: {threads:?} threads");
        }
        let has_fault = self.all.iter().filter(|look| look.has_fault).count();
        assert!(has_fault * 10 > self.all.len(), "{has_fault} of {} measurements were during a fault", self.all.len());
    }
}

fn median(usages: &[Usage], value: fn(&Usage) -> u64) -> u64 {
    let mut values: Vec<u64> = usages.iter().map(value).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

// ---- arrived packets ----

/// The contents of a server's recordings; complete recordings are read and deleted during the push.
struct Received {
    folder: PathBuf,
    packet_counter: PacketCounter,
    /// Number of compressed pictures, and of those decoded from them.
    pictures: [u64; 2],
}

impl Received {
    fn of(server: &FaultyServer, lists: &Path) -> Self {
        let folder = server.recordings().clone();
        let list = lists.join(folder.file_name().unwrap()).with_extension("packets");
        Self { folder, packet_counter: PacketCounter::in_file(list), pictures: [0; 2] }
    }

    /// Reads all but the `newest` recordings.
    fn read(&mut self, newest: usize) {
        let files = if self.folder.exists() { recordings(&self.folder) } else { Vec::new() };
        for file in files.iter().rev().skip(newest) {
            self.packet_counter.count_file(file);
            for (sum, count) in self.pictures.iter_mut().zip(pictures(file)) {
                *sum += count;
            }
            fs::remove_file(file).unwrap();
        }
    }
}

/// Returns the number of compressed pictures in a file, and of those that ffmpeg decodes.
fn pictures(file: &Path) -> [u64; 2] {
    let output = Command::new("ffprobe")
        .args(["-loglevel", "fatal", "-select_streams", "v", "-count_packets", "-count_frames"])
        .args(["-show_entries", "stream=nb_read_packets,nb_read_frames", "-of", "default=noprint_wrappers=1"])
        .arg(file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}: {output:?}", file.display());
    let text = String::from_utf8(output.stdout).unwrap();
    ["nb_read_packets=", "nb_read_frames="].map(|field| {
        let value = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_else(|| panic!("{text}"));
        // A file that ends before its first picture has none.
        value.parse().unwrap_or(0)
    })
}

/// Counts the packets that reach the element, and the encoded pictures.
fn count_pushed(pushing: &Pushing, list: PathBuf) -> (Arc<Mutex<PacketCounter>>, Arc<AtomicU64>) {
    let packet_counter = Arc::new(Mutex::new(PacketCounter::in_file(list)));
    let counted = Arc::clone(&packet_counter);
    let parser = Mutex::new(Parser::new(Settings::default()));
    pushing.sink.static_pad("sink").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let bytes = info.buffer().unwrap().map_readable().unwrap();
        let mut parser = parser.lock().unwrap();
        parser.push(Bytes::copy_from_slice(&bytes));
        counted.lock().unwrap().count(&mut parser);
        gst::PadProbeReturn::Ok
    });
    let encoded = Arc::new(AtomicU64::new(0));
    let pictures = Arc::clone(&encoded);
    let encoder = pushing.pipeline.by_name("encoder").unwrap();
    encoder.static_pad("src").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        pictures.fetch_add(1, Ordering::SeqCst);
        gst::PadProbeReturn::Ok
    });
    (packet_counter, encoded)
}

// ---- the push ----

/// Causes faults until the time is over.
fn endure(
    pushing: &Pushing,
    servers: &mut [FaultyServer],
    arrived: &mut [Received],
    looks: &mut Samples,
    (time, seed): (Duration, u64),
) {
    let mut random = StdRng::seed_from_u64(seed);
    let begun = Instant::now();
    let (mut look_at, mut trouble_at) = (begun, begun + Duration::from_secs(3));
    while begun.elapsed() < time {
        let now = Instant::now();
        servers.iter_mut().for_each(|server| server.pass(now));
        if now >= trouble_at {
            trouble_at = now + Duration::from_millis(random.random_range(500..5000));
            let well: Vec<usize> = (0..SERVERS).filter(|n| servers[*n].is_well(now)).collect();
            if !well.is_empty() {
                let n = well[random.random_range(0..well.len())];
                let what = servers[n].start_fault(&mut random, now);
                looks.event(n, &what);
            }
        }
        if now >= look_at {
            look_at = now + LOOK;
            looks.take(pushing, servers);
            // Messages must be removed, because they would accumulate in memory.
            for message in pushing.messages() {
                assert!(!matches!(message.view(), gst::MessageView::Error(_)), "{message:?}");
            }
            arrived.iter_mut().for_each(|arrived| arrived.read(1));
        }
        thread::sleep(Duration::from_millis(20));
    }
    servers.iter_mut().for_each(FaultyServer::end_fault);
    // Where bodies were read slowly, sending the backlog takes time.
    for n in 0..SERVERS {
        until("all stream again", || pushing.state_of(n) == "streaming");
    }
    looks.take(pushing, servers);
}

#[test]
fn four_publishing_points_in_trouble() {
    let (time, seed) = (Duration::from_secs(number("SOAK_SECONDS", 40)), number("SOAK_SEED", 1));
    println!("seed {seed}, {time:?}");
    let directory = TempDir::new().unwrap();
    let out = std::env::var_os("SOAK_OUT").map_or_else(|| directory.path().to_owned(), PathBuf::from);
    let mut servers: Vec<FaultyServer> = (0..SERVERS)
        .map(|n| FaultyServer::start(directory.path().join(format!("server-{n}")), n != IMMORTAL))
        .collect();
    let mut arrived: Vec<Received> = servers.iter().map(|server| Received::of(server, directory.path())).collect();
    let locations: Vec<String> = servers.iter().map(FaultyServer::url).collect();
    let mut looks = Samples::into(&out);

    let pushing = Pushing::launch(MEDIA, &format!("locations=\"{}\" {PROPERTIES}", locations.join(",")));
    let (pushed, encoded) = count_pushed(&pushing, directory.path().join("pushed"));
    pushing.play();
    endure(&pushing, &mut servers, &mut arrived, &mut looks, (time, seed));
    pushing.pipeline.send_event(gst::event::Eos::new());
    pushing.wait_for_eos();
    let stats = pushing.all_stats();
    pushing.stop();
    servers.iter_mut().for_each(FaultyServer::end);
    arrived.iter_mut().for_each(|arrived| arrived.read(0));

    let encoded = encoded.load(Ordering::SeqCst);
    let stats: Vec<_> = stats.iter().map(|stats| move |field: &str| stats.get::<u64>(field).unwrap()).collect();
    // The pipeline and its probes must be dropped before the last reference is unwrapped.
    drop(pushing);
    let pushed = Arc::into_inner(pushed).unwrap().into_inner().unwrap();
    let packets = pushed.packets();
    let pushed = pushed.into_set();
    println!("{packets} packets, {encoded} pictures");
    assert_eq!(pushed.len() as u64, packets, "all are different");
    for (n, (count, arrived)) in stats.iter().zip(arrived).enumerate() {
        let ([compressed, decoded], read) = (arrived.pictures, arrived.packet_counter.packets());
        let came = arrived.packet_counter.into_set();
        let missing = pushed.difference(&came).count() as u64;
        let [sent, dropped, queued, uncertain] =
            ["packets-sent", "packets-dropped", "packets-queued", "packets-uncertain"].map(count);
        println!(
            "{n}: {sent} sent, {dropped} dropped, {queued} queued, {uncertain} uncertain; {} came, {} of them again, \
             {missing} did not; {decoded} of {compressed} pictures decoded, {} connections, {} bodies",
            came.len(),
            read - came.len() as u64,
            count("reconnects"),
            count("rollovers"),
        );
        // Where a recording begins or resumes, the data of a picture before its key frame is removed from the packet.
        let cut = came.difference(&pushed).count() as u64;
        assert!(cut <= count("reconnects") + 1, "{n}: {cut} packets arrived that were not pushed");
        assert_eq!(sent + dropped + queued, packets, "{n}");
        assert_eq!(queued, 0, "{n}");
        assert!(
            missing <= dropped + uncertain + cut,
            "{n}: {missing} are missing, {dropped} dropped, {uncertain} uncertain, {cut} cut"
        );
        // In a short push, a single outage is a large part.
        assert!(missing * 4 < packets * 3, "{n}: {missing} of {packets} are missing");
        assert!(decoded * 100 >= compressed * 95, "{n}: {decoded} of {compressed} pictures");
        let whole = encoded * came.len() as u64 / packets;
        assert!(decoded * 100 >= whole * 90, "{n}: {decoded} pictures in {} packets, {whole} expected", came.len());
    }
    looks.assert_flat();
}
