//! Recordings: rotation, files that players can read at any time, and deletion of old files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use asf::Header;
use asf::test_util::{PacketBuilder, Payload};
use asf_publishing_point::{BlockingServer, Config, PointConfig, RecordLimits, Server};
use bytes::{Bytes, BytesMut};
use bytesize::ByteSize;
use proptest::prelude::*;
use tempfile::TempDir;
use test_support::decoded::recordings;
use test_support::media;
use test_support::pipeline::until;
use test_support::server_process::PointProgram;
use test_support::wire::{CONCERT, Wire};
use wmhttp::packet::Packet;

#[cfg(feature = "interop")]
mod interop;

const SIZE: usize = media::SIZE as usize;

fn server(directory: &Path, record_limits: RecordLimits) -> BlockingServer {
    let point = PointConfig { record: Some(directory.to_owned()), record_limits, ..PointConfig::default() };
    Server::spawn(Config::with_points(["concert"], &point)).unwrap()
}

/// A reload starts recordings, moves them and ends them, each at the next header.
#[test]
fn a_reload_changes_the_directory() {
    let directory = TempDir::new().unwrap();
    let config = |name: Option<&str>| {
        let record = name.map(|name| directory.path().join(name));
        Config::with_points(["concert"], &PointConfig { record, ..PointConfig::default() })
    };
    let recorded = |name: &str| -> Vec<usize> {
        let files = Some(directory.path().join(name)).filter(|path| path.exists()).map(|path| recordings(&path));
        files.unwrap_or_default().iter().map(|file| packets(file).len()).collect()
    };
    let stream = Stream::numbered(20, 40, |n| n.is_multiple_of(10));
    let server = Server::spawn(config(None)).unwrap();
    let mut pushed = 0;
    // Pushes the stream, and reloads another configuration in the middle of it.
    let mut push = |next: Option<&str>| {
        let (mut wire, id) = Wire::set_up(server.addr(), CONCERT);
        let mut body = stream.body();
        wire.start(CONCERT.id(&id), body.by_ref().take(11));
        until("half of it", || server.stats("concert").unwrap().packets == pushed + 10);
        server.reload(config(next)).unwrap();
        wire.packets(body);
        wire.end();
        pushed += 20;
    };
    push(Some("one"));
    assert!(recorded("one").is_empty());
    push(Some("other"));
    assert_eq!((recorded("one"), recorded("other")), (vec![20], vec![]));
    push(None);
    assert_eq!((recorded("one"), recorded("other")), (vec![20], vec![20]));
    push(Some("one"));
    assert_eq!((recorded("one"), recorded("other")), (vec![20], vec![20]));
    push(Some("one"));
    // The same header in the same directory would have continued the same file.
    assert_eq!((recorded("one"), recorded("other")), (vec![20, 20], vec![20]));
    assert_eq!(server.stats("concert").unwrap().recordings.len(), 3);
}

/// A stream: its header, and its packets at their full size.
struct Stream {
    header: Bytes,
    packets: Vec<Bytes>,
}

impl Stream {
    /// Returns a stream with key frames at the numbers for which `is_key` holds, with `step` ms between packets.
    fn numbered(count: u32, step: u32, is_key: impl Fn(u32) -> bool) -> Self {
        let packet = |n: u32| {
            let mut data = vec![0xA5; SIZE - 100];
            data[..4].copy_from_slice(&n.to_le_bytes());
            let payload = Payload::new(2, &data);
            let payload = if is_key(n) { payload.key() } else { payload };
            PacketBuilder::windows(SIZE, payload).send_time(n * step).build()
        };
        Self { header: media::header(), packets: (0..count).map(packet).collect() }
    }

    /// Returns the body of a PushStart, without an end.
    fn body(&self) -> impl Iterator<Item = Packet> {
        let data = self.packets.iter().cloned().map(Packet::Data);
        [Packet::Header(self.header.clone())].into_iter().chain(data)
    }

    /// Pushes the whole stream to a server, with its end.
    fn push(&self, server: &BlockingServer) {
        let (mut wire, id) = Wire::set_up(server.addr(), CONCERT);
        wire.start(CONCERT.id(&id), self.body());
        wire.end();
    }
}

/// Returns the size of the headers of a file, in bytes.
fn head_len(file: &[u8]) -> usize {
    usize::try_from(number(file, 16)).unwrap() + 50
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Returns the packets of a complete file, and checks that the counts and sizes in its header are right.
fn packets(file: &Path) -> Vec<Bytes> {
    let bytes = Bytes::from(fs::read(file).unwrap());
    let head = head_len(&bytes);
    let header = Header::parse(bytes.slice(..head)).unwrap();
    assert!(!header.is_broadcast());
    let properties = bytes.windows(4).position(|guid| guid == [0xa1, 0xdc, 0xab, 0x8c]).unwrap();
    assert_eq!(number(&bytes, properties + 40), bytes.len() as u64, "file size");
    let data = usize::try_from(number(&bytes, head - 50 + 16)).unwrap() - 50;
    let count = data / header.packet_size();
    assert_eq!(data % header.packet_size(), 0);
    assert_eq!(number(&bytes, properties + 56), count as u64, "packets by the File Properties");
    assert_eq!(number(&bytes, head - 50 + 40), count as u64, "packets by the Data Object");
    let index = &bytes[head + data..];
    assert!(index.is_empty() || number(index, 16) == index.len() as u64, "one Simple Index Object");
    (0..count).map(|n| bytes.slice(head + n * header.packet_size()..head + (n + 1) * header.packet_size())).collect()
}

/// Returns whether a packet of [`Stream::numbered`] is a key frame, by its stream number.
fn is_key(packet: &Bytes) -> bool {
    packet.iter().skip(3).take(30).any(|byte| *byte == 0x82)
}

// ---- rotation ----

#[test]
fn files_change_at_key_frames() {
    let stream = Stream::numbered(95, 40, |n| n % 10 == 0);
    let head = stream.header.len() as u64;
    // The limits are 25 packets, midway between two key frames: 1000 ms of the send time are 25 packets.
    for limits in [
        RecordLimits { max_size: Some(ByteSize(head + 25 * SIZE as u64)), ..RecordLimits::default() },
        RecordLimits { max_time: Some(Duration::from_secs(1)), ..RecordLimits::default() },
    ] {
        let directory = TempDir::new().unwrap();
        let server = server(directory.path(), limits);
        stream.push(&server);
        let files = recordings(directory.path());
        assert_eq!(server.stats("concert").unwrap().recordings, files);
        server.stop();
        let counts: Vec<usize> = files.iter().map(|file| packets(file).len()).collect();
        assert_eq!(counts, [30, 30, 30, 5], "{limits:?}");
        let all: Vec<Bytes> = files.iter().flat_map(|file| packets(file)).collect();
        assert!(all == stream.packets);
    }
}

/// A file also ends if no key frame arrives.
#[test]
fn files_change_without_key_frames() {
    let stream = Stream::numbered(100, 40, |n| n == 0);
    let directory = TempDir::new().unwrap();
    let limits = RecordLimits { max_time: Some(Duration::from_secs(1)), ..RecordLimits::default() };
    let server = server(directory.path(), limits);
    stream.push(&server);
    server.stop();
    let counts: Vec<usize> = recordings(directory.path()).iter().map(|file| packets(file).len()).collect();
    assert_eq!(counts, [39, 39, 22]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// For any stream and any limits, all packets are recorded once and in order, each file is complete, and each file
    /// but the first starts with a key frame, unless none arrived in time.
    #[test]
    fn no_packet_is_lost_between_files(
        count in 1_u32..150,
        keys in prop::collection::btree_set(0_u32..150, 0..40),
        size in prop::option::of(1_u64..40_000),
        time in prop::option::of(1_u64..3000),
    ) {
        let stream = Stream::numbered(count, 40, |n| keys.contains(&n));
        let directory = TempDir::new().unwrap();
        let limits = RecordLimits {
            max_size: size.map(ByteSize),
            max_time: time.map(Duration::from_millis),
            ..RecordLimits::default()
        };
        let server = server(directory.path(), limits);
        stream.push(&server);
        server.stop();
        let files: Vec<Vec<Bytes>> = recordings(directory.path()).iter().map(|file| packets(file)).collect();
        prop_assert!(files.concat() == stream.packets);
        let head = stream.header.len() as u64;
        for (file, next) in files.iter().zip(files.iter().skip(1)) {
            let bytes = head + file.len() as u64 * SIZE as u64;
            let ms = (file.len() as u64 - 1) * 40;
            let factor = if is_key(&next[0]) { 2 } else { 3 };
            let reached = |value: u64, limit: Option<u64>| limit.is_some_and(|limit| value * 2 + 1 >= limit * factor);
            prop_assert!(reached(bytes, size) || reached(ms, time), "{} packets, then key: {}", file.len(), factor == 2);
        }
    }
}

// ---- durations ----

/// Returns the send duration in the File Properties, in milliseconds.
fn send_duration(file: &Path) -> u64 {
    let bytes = fs::read(file).unwrap();
    let properties = bytes.windows(4).position(|guid| guid == [0xa1, 0xdc, 0xab, 0x8c]).unwrap();
    number(&bytes, properties + 72) / 10_000
}

/// Send times that step back change neither the duration of a file nor its rotation.
#[test]
fn a_step_back_of_the_send_time_adds_no_duration() {
    // 0, 80, 40, 120, 80, 160 and so on up to 4040. The duration of each packet in the fixture is 0 ms.
    let times: Vec<u32> = (0..100).flat_map(|n| [n * 40, n * 40 + 80]).collect();
    let packet = |time: &u32| {
        let payload = Payload::new(2, &[0xA5; SIZE - 100]);
        let payload = if *time == 0 { payload.key() } else { payload };
        PacketBuilder::windows(SIZE, payload).send_time(*time).build()
    };
    let stream = Stream { header: media::header(), packets: times.iter().map(packet).collect() };
    let directory = TempDir::new().unwrap();
    let limits = RecordLimits { max_time: Some(Duration::from_secs(4)), ..RecordLimits::default() };
    let server = server(directory.path(), limits);
    stream.push(&server);
    server.stop();
    let files = recordings(directory.path());
    assert_eq!(files.len(), 1, "the stream is shorter than one and a half times the limit");
    assert_eq!(packets(&files[0]).len(), 200);
    assert_eq!(send_duration(&files[0]), 4040);
}

/// A session that continues the file of the previous one starts with a key frame; audio is not left out.
#[test]
fn a_resumed_recording_continues_with_a_key_frame() {
    let whole = Stream::numbered(20, 40, |n| n.is_multiple_of(10));
    let (video, sound) = (Payload::new(2, &[7; 50]), Payload::new(1, &[8; 50]));
    let mixed = |payloads: Vec<Payload>| PacketBuilder::asfmux(SIZE, payloads).send_time(200).build();
    let directory = TempDir::new().unwrap();
    let server = server(directory.path(), RecordLimits::default());
    whole.push(&server);
    let resumed = Stream {
        header: whole.header.clone(),
        packets: [
            whole.packets[5].clone(),
            mixed(vec![video.clone().at(50), sound.clone(), video.clone()]),
            mixed(vec![video.clone(), video.clone().key(), video.clone()]),
            whole.packets[9].clone(),
        ]
        .into(),
    };
    resumed.push(&server);
    server.stop();
    let [file] = &recordings(directory.path())[..] else { panic!("one file") };
    let recorded = packets(file);
    assert!(recorded.starts_with(&whole.packets));
    let [with_sound, with_key_frame, last] = &recorded[20..] else { panic!("{}", recorded.len()) };
    assert_eq!(payloads(with_sound), [(1, false)]);
    assert_eq!(payloads(with_key_frame), [(2, true), (2, false)]);
    assert!(*last == whole.packets[9]);
    // 760 ms of the first session, and from 200 ms to 360 ms of the second.
    assert_eq!(send_duration(file), 760 + 160);
}

/// Returns the stream of each payload of a packet, and whether it is part of a key frame.
fn payloads(packet: &[u8]) -> Vec<(u8, bool)> {
    let mut found = Vec::new();
    asf::select(packet, &mut BytesMut::new(), |payload| {
        found.push((payload.stream, payload.key));
        true
    });
    found
}

// ---- players ----

/// A session with the same header continues after the packets of the previous one, whose index is removed.
#[test]
fn a_finished_file_is_continued() {
    let stream = Stream::numbered(60, 40, |n| n % 10 == 0);
    let directory = TempDir::new().unwrap();
    let server = server(directory.path(), RecordLimits::default());
    for pushes in 1..=3 {
        stream.push(&server);
        let [file] = &recordings(directory.path())[..] else { panic!("one file") };
        let all: Vec<Bytes> = (0..pushes).flat_map(|_| stream.packets.iter().cloned()).collect();
        assert!(packets(file) == all);
        let bytes = fs::read(file).unwrap();
        let index = &bytes[stream.header.len() + 60 * SIZE * pushes..];
        assert_eq!(index[..4], [0x90, 0x08, 0x00, 0x33], "a Simple Index Object");
    }
}

/// A file that was moved away after its stream is not continued: the next stream has a new file.
#[test]
fn a_file_that_was_moved_away_is_not_changed() {
    let stream = Stream::numbered(60, 40, |n| n % 10 == 0);
    let directory = TempDir::new().unwrap();
    let into = directory.path().join("recordings");
    let server = server(&into, RecordLimits::default());
    stream.push(&server);
    let [file] = &recordings(&into)[..] else { panic!("one file") };
    let archived = directory.path().join("archived.asf");
    fs::rename(file, &archived).unwrap();
    let before = fs::read(&archived).unwrap();
    stream.push(&server);
    assert!(fs::read(&archived).unwrap() == before);
    let [file] = &recordings(&into)[..] else { panic!("another file") };
    assert!(packets(file) == stream.packets);
    // Another file with the same name is not continued either.
    fs::rename(file, &archived).unwrap();
    fs::write(file, "somebody's").unwrap();
    stream.push(&server);
    assert_eq!(fs::read(file).unwrap(), b"somebody's");
    assert_eq!(recordings(&into).len(), 2);
}

// ---- reading at any time ----

// ---- deletion ----

#[test]
fn the_oldest_files_are_deleted() {
    let stream = Stream::numbered(200, 40, |n| n % 10 == 0);
    let directory = TempDir::new().unwrap();
    let others = ["notes.txt", "concert-hall-20200101T000000Z-0001.asf", "concert.asf"];
    for name in others {
        fs::write(directory.path().join(name), name).unwrap();
    }
    let limits = RecordLimits { max_time: Some(Duration::from_millis(400)), keep: Some(3), ..RecordLimits::default() };
    let server = server(directory.path(), limits);
    stream.push(&server);
    let recordings = server.stats("concert").unwrap().recordings;
    server.stop();
    assert_eq!(recordings.len(), 3);
    let all: Vec<Bytes> = recordings.iter().flat_map(|file| packets(file)).collect();
    assert!(stream.packets.ends_with(&all));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3 + others.len());
}

/// If the folder is missing, the log does not suggest freeing disk space.
#[test]
fn a_missing_folder_is_reported() {
    let directory = TempDir::new().unwrap();
    let into = directory.path().join("gone");
    let point = PointProgram::start(&["--point", "concert", "--record", into.to_str().unwrap()]);
    fs::remove_dir(&into).unwrap();
    let stream = Stream::numbered(10, 40, |n| n % 10 == 0);
    let (mut wire, id) = Wire::set_up(point.address, CONCERT);
    wire.start(CONCERT.id(&id), stream.body().take(2));
    let failed_output =
        || point.log().lines().find(|line| line.contains("recording ended because of an error")).map(str::to_owned);
    until("the error", || failed_output().is_some());
    let failed_output = failed_output().unwrap();
    assert!(
        failed_output.contains("the server may write to it") && !failed_output.contains("disk space"),
        "{failed_output}"
    );
}

/// A full disk ends the recording and not the push; when there is space again, another file begins.
#[test]
fn recording_recovers_from_a_full_disk() {
    let directory = TempDir::new().unwrap();
    let into = directory.path().join("small");
    fs::create_dir(&into).unwrap();
    // A separate file system that only the server sees.
    let mut command = Command::new("unshare");
    let mount = format!("mount -t tmpfs -o size=200k none {} && exec \"$@\"", into.display());
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &mount, "sh"]);
    command.args([env!("CARGO_BIN_EXE_asf-publishing-point"), "--point", "concert", "--record"]).arg(&into);
    let point = PointProgram::spawn(&mut command, TempDir::new().unwrap());
    let seen = PathBuf::from(format!("/proc/{}/root{}", point.pid(), into.display()));
    let stream = Stream::numbered(3000, 40, |n| n % 10 == 0);
    let (mut wire, id) = Wire::set_up(point.address, CONCERT);
    let mut body = stream.body();
    wire.start(CONCERT.id(&id), body.by_ref().take(1));
    for packet in body.by_ref().take(400) {
        wire.packets([packet]);
    }
    let failed_output =
        || point.log().lines().find(|line| line.contains("recording ended because of an error")).map(str::to_owned);
    until("the error", || failed_output().is_some());
    let failed_output = failed_output().unwrap();
    assert!(failed_output.contains("No space left") && failed_output.contains("record-keep"), "{failed_output}");
    let files = recordings(&seen);
    assert_eq!(files.len(), 1);
    // The file is complete up to the error.
    let first = packets(&files[0]);
    assert!(first.len() > 100 && stream.packets.starts_with(&first), "{}", first.len());
    let mut sent = 400;
    // Failed attempts leave no files: they would accumulate, and count as recordings to keep.
    until("the next error", || {
        let more: Vec<Packet> = body.by_ref().take(10).collect();
        sent += more.len();
        assert!(!more.is_empty());
        wire.packets(more);
        std::thread::sleep(Duration::from_millis(60));
        point.log().lines().filter(|line| line.contains("recording ended because of an error")).count() > 1
    });
    assert_eq!(recordings(&seen), files);
    fs::remove_file(&files[0]).unwrap();
    // The push has continued. Later a key frame starts a recording again.
    until("another file", || {
        let more: Vec<Packet> = body.by_ref().take(10).collect();
        sent += more.len();
        assert!(!more.is_empty());
        wire.packets(more);
        std::thread::sleep(Duration::from_millis(60));
        !recordings(&seen).is_empty()
    });
    wire.end();
    let second = packets(&recordings(&seen)[0]);
    assert!(is_key(&second[0]), "the file starts with a key frame");
    assert!(stream.packets[..sent].ends_with(&second));
}
