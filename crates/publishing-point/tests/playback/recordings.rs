//! Recordings: files that rotate, that players can read at any moment, and that make room for each other.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use asf::test_util::{PacketBuilder, Payload};
use asf::{Header, Padding, Parser, Settings};
use asf_publishing_point::{BlockingServer, Config, PointConfig, RecordLimits, Server};
use bytes::{Bytes, BytesMut};
use bytesize::ByteSize;
use proptest::prelude::*;
use tempfile::TempDir;
use test_support::decoded::{self, recordings};
use test_support::media;
use test_support::pipeline::until;
use test_support::program::Program;
use test_support::server_process::PointProgram;
use test_support::vlc::Vlc;
use test_support::wire::{CONCERT, Wire};
use wmhttp::packet::Packet;

const SIZE: usize = media::SIZE as usize;

fn server(directory: &Path, record_limits: RecordLimits) -> BlockingServer {
    let point = PointConfig { record: Some(directory.to_owned()), record_limits, ..PointConfig::default() };
    Server::spawn(Config::with_points(["concert"], &point)).unwrap()
}

/// A reload begins recordings, moves them and ends them, each from the next header on.
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
    // Pushes the stream, and has the server read another configuration in its middle.
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
    // The same header in the same directory would have been the same file.
    assert_eq!((recorded("one"), recorded("other")), (vec![20, 20], vec![20]));
    assert_eq!(server.stats("concert").unwrap().recordings.len(), 3);
}

/// A stream: its header, and its packets at their full size.
struct Stream {
    header: Bytes,
    packets: Vec<Bytes>,
}

impl Stream {
    /// With a key frame at those numbers, `step` ms apart.
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

    /// What is in an ASF file.
    fn of_file(file: &Path, padding: Padding) -> Self {
        let mut parser = Parser::new(Settings { padding, live_header: true });
        parser.push(fs::read(file).unwrap().into());
        let mut packets = Vec::new();
        while let Some(unit) = parser.next_packet().unwrap() {
            packets.push(unit.packet.slices().concat().into());
        }
        parser.finish().unwrap();
        Self { header: parser.header().unwrap().bytes().clone(), packets }
    }

    /// Ten seconds of moving pictures with sound, by ffmpeg; a key frame each second.
    fn ten_seconds(directory: &Path) -> (PathBuf, Self) {
        let file = directory.join("source.wmv");
        let made = Command::new("ffmpeg")
            .args(["-v", "error", "-f", "lavfi", "-i", "testsrc=duration=10:size=176x144:rate=15"])
            .args(["-f", "lavfi", "-i", "sine=duration=10"])
            .args(["-c:v", "wmv2", "-g", "15", "-b:v", "300k", "-c:a", "wmav2", "-f", "asf"])
            .arg(&file)
            .status()
            .unwrap();
        assert!(made.success());
        let stream = Self::of_file(&file, Padding::Explicit);
        (file, stream)
    }

    /// As the body of a PushStart, without an end.
    fn body(&self) -> impl Iterator<Item = Packet> {
        let data = self.packets.iter().cloned().map(Packet::Data);
        [Packet::Header(self.header.clone())].into_iter().chain(data)
    }

    /// Pushes all of it to a server, with its end.
    fn push(&self, server: &BlockingServer) {
        let (mut wire, id) = Wire::set_up(server.addr(), CONCERT);
        wire.start(CONCERT.id(&id), self.body());
        wire.end();
    }
}

/// Bytes of what stands before the packets of a file.
fn head_len(file: &[u8]) -> usize {
    usize::try_from(number(file, 16)).unwrap() + 50
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The packets of a file that is whole: its header tells their count and size, and the file's.
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

/// Whether a packet of [`Stream::numbered`] is a key frame, by its stream number.
fn is_key(packet: &Bytes) -> bool {
    packet.iter().skip(3).take(30).any(|byte| *byte == 0x82)
}

// ---- rotation ----

#[test]
fn files_change_at_key_frames() {
    let stream = Stream::numbered(95, 40, |n| n % 10 == 0);
    let head = stream.header.len() as u64;
    // 25 packets are reached in the middle between two key frames; 1000 ms of the send time are 25 packets.
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

/// Where no key frame comes, a file ends all the same.
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

    /// Whatever the stream and the limits: all packets are there, once and in their order, each file is whole,
    /// and each but the first begins at a key frame unless none came in time.
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

// ---- what a file tells ----

/// The send duration in milliseconds, by the File Properties.
fn send_duration(file: &Path) -> u64 {
    let bytes = fs::read(file).unwrap();
    let properties = bytes.windows(4).position(|guid| guid == [0xa1, 0xdc, 0xab, 0x8c]).unwrap();
    number(&bytes, properties + 72) / 10_000
}

/// Send times that step back make a file no longer, and no earlier to change.
#[test]
fn a_step_back_of_the_send_time_adds_nothing() {
    // 0, 80, 40, 120, 80, 160 and so on to 4040; each packet lasts as long as the fixture says: 0 ms.
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
    assert_eq!(files.len(), 1, "all of it is shorter than half as much again");
    assert_eq!(packets(&files[0]).len(), 200);
    assert_eq!(send_duration(&files[0]), 4040);
}

/// A session that goes on in the file of the one before does so with a key frame; sound is not left out.
#[test]
fn a_resumed_recording_goes_on_with_a_key_frame() {
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
    // 760 ms of the first, and of the other from 200 ms on to 360 ms.
    assert_eq!(send_duration(file), 760 + 160);
}

/// Of each payload of a packet the stream, and whether it is of a key frame.
fn payloads(packet: &[u8]) -> Vec<(u8, bool)> {
    let mut found = Vec::new();
    asf::select(packet, &mut BytesMut::new(), |payload| {
        found.push((payload.stream, payload.key));
        true
    });
    found
}

// ---- players ----

/// Compressed frames by ffmpeg's demuxer, of video and of audio, as checksums.
fn compressed(file: &Path) -> [Vec<String>; 2] {
    ["0:v", "0:a"].map(|stream| {
        let output = Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-i"])
            .arg(file)
            .args(["-map", stream, "-c", "copy", "-f", "framemd5", "-"])
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
    })
}

/// The files' packets after each other under the first one's header, as that grew.
fn joined(files: &[PathBuf], into: &Path) {
    let first = fs::read(&files[0]).unwrap();
    let header = Header::parse(Bytes::copy_from_slice(&first[..head_len(&first)])).unwrap().to_live();
    let packets = files.iter().flat_map(|file| packets(file));
    let all: Vec<u8> = [header.bytes().clone()].into_iter().chain(packets).flatten().collect();
    fs::write(into, all).unwrap();
}

/// A stream of ffmpeg's, cut each two seconds: ffmpeg decodes each file alone, all frames are there, and the files
/// together are the source. VLC and MPlayer play a file out of the middle.
#[test]
fn each_file_plays_alone() {
    let directory = TempDir::new().unwrap();
    let (source, stream) = Stream::ten_seconds(directory.path());
    let into = directory.path().join("recordings");
    let limits = RecordLimits { max_time: Some(Duration::from_millis(1900)), ..RecordLimits::default() };
    let server = server(&into, limits);
    stream.push(&server);
    server.stop();
    let files = recordings(&into);
    assert!((4..=5).contains(&files.len()), "{files:?}");

    let whole = directory.path().join("joined.asf");
    joined(&files, &whole);
    assert_eq!(decoded::frames(&whole), decoded::frames(&source));

    // A frame whose packets went into two files is in neither; of each stream one for each cut at most.
    let expected = compressed(&source);
    let parts: Vec<[Vec<String>; 2]> = files.iter().map(|file| compressed(file)).collect();
    for (stream, expected) in expected.iter().enumerate() {
        let all: Vec<&String> = parts.iter().flat_map(|part| &part[stream]).collect();
        assert!(all.len() + files.len() > expected.len(), "{} of {}", all.len(), expected.len());
        let mut rest = expected.iter();
        assert!(all.iter().all(|frame| rest.any(|other| other == *frame)), "in order, and none twice");
    }
    for file in &files {
        let [video, audio] = decoded::frames(file);
        assert!(video.len() >= 28 && audio.len() > 30, "{}: {} {}", file.display(), video.len(), audio.len());
        assert_mplayer_plays(file);
    }
    assert_vlc_plays(&files[2]);
}

fn assert_mplayer_plays(file: &Path) {
    let output = Command::new("timeout")
        .args(["60", "mplayer", "-vo", "null", "-ao", "null", "-benchmark", "-nolirc", "-noconsolecontrols"])
        .args(["-frames", "25"])
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &*String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(" 25/ 25 ") && !text.to_lowercase().contains("error"), "{text}");
}

/// VLC shows pictures of it.
fn assert_vlc_plays(file: &Path) {
    // Whoever VLC runs as is to find it.
    fs::set_permissions(file.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
    Vlc::playing(file.to_str().unwrap()).shows(5);
}

/// Frames of video that ffmpeg decodes from a time on, and the time of the first.
fn frames_from(file: &Path, seconds: &str) -> (f64, Vec<String>) {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-copyts", "-ss", seconds, "-i"])
        .arg(file)
        .args(["-map", "0:v", "-f", "framemd5", "-"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Vec<&str>> =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(',').collect()).collect();
    let first: f64 = lines[0][2].trim().parse().unwrap();
    (first / 15.0, lines.iter().map(|line| line[5].to_owned()).collect())
}

/// Key frames of the video by ffprobe: presentation time in milliseconds, and where in the file their packet is.
fn key_frames(file: &Path) -> Vec<(u64, usize)> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v", "-show_entries", "packet=pts_time,pos,flags", "-of", "csv=p=0"])
        .arg(file)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let keys = lines.filter(|fields| fields[2].starts_with('K'));
    keys.map(|fields| ((fields[0].parse::<f64>().unwrap() * 1000.0).round() as u64, fields[1].parse().unwrap()))
        .collect()
}

/// The index of a finished file leads players to where they want to be, and to nothing that is not there.
#[test]
fn a_finished_file_can_be_sought_in() {
    let directory = TempDir::new().unwrap();
    let (source, stream) = Stream::ten_seconds(directory.path());
    let into = directory.path().join("recordings");
    let server = server(&into, RecordLimits::default());
    stream.push(&server);
    server.stop();
    let [file] = &recordings(&into)[..] else { panic!("one file") };
    let count = packets(file).len();
    let bytes = fs::read(file).unwrap();
    let index = &bytes[head_len(&bytes) + count * (packets(file)[0].len())..];
    assert_eq!(index[..4], [0x90, 0x08, 0x00, 0x33], "a Simple Index Object");
    let entries: Vec<u32> =
        index[56..].chunks(6).map(|entry| u32::from_le_bytes(entry[..4].try_into().unwrap())).collect();
    // One entry a second, of presentation times with the preroll: the key frame before it, as ffprobe finds them.
    let head = head_len(&bytes);
    let preroll = Header::parse(Bytes::copy_from_slice(&bytes[..head])).unwrap().preroll_ms();
    let packet_at = |pos: usize| u32::try_from((pos - head) / packets(file)[0].len()).unwrap();
    let keys: Vec<(u64, u32)> = key_frames(file).into_iter().map(|(ms, pos)| (ms + preroll, packet_at(pos))).collect();
    assert_eq!(keys.len(), 10);
    let before = |ms: u64| keys.iter().rev().find(|(time, _)| *time <= ms).unwrap_or(&keys[0]).1;
    let expected: Vec<u32> = (0..entries.len() as u64).map(|second| before(second * 1000)).collect();
    assert_eq!(entries, expected);
    assert_eq!(entries.iter().collect::<BTreeSet<_>>().len(), 10);

    let [all, _] = decoded::frames(&source);
    for seconds in ["2.5", "7.2"] {
        let (first, frames) = frames_from(file, seconds);
        let wanted: f64 = seconds.parse().unwrap();
        assert!((first - wanted).abs() < 0.2, "{first} where {wanted} was wanted");
        assert_eq!(frames[..], all[all.len() - frames.len()..]);
    }
}

/// A session with the same header goes on where the one before ended, the index of that out of the way.
#[test]
fn a_file_that_was_finished_goes_on() {
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

/// A file that is moved away after its stream is nobody's any more: the next stream has one of its own.
#[test]
fn a_file_that_was_moved_away_stays_as_it_is() {
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
    // One that is there by the same name is not the same.
    fs::rename(file, &archived).unwrap();
    fs::write(file, "somebody's").unwrap();
    stream.push(&server);
    assert_eq!(fs::read(file).unwrap(), b"somebody's");
    assert_eq!(recordings(&into).len(), 2);
}

// ---- any moment ----

/// A stream that is pushed step by step.
#[test]
fn a_growing_file_plays() {
    let directory = TempDir::new().unwrap();
    let (source, stream) = Stream::ten_seconds(directory.path());
    let [all, _] = decoded::frames(&source);
    let into = directory.path().join("recordings");
    let server = server(&into, RecordLimits::default());
    let (mut wire, id) = Wire::set_up(server.addr(), CONCERT);
    let parts: Vec<Packet> = stream.body().collect();
    wire.start(CONCERT.id(&id), []);
    let mut follower: Option<Program> = None;
    let mut before = 0;
    for (part, packets) in parts.chunks(parts.len().div_ceil(5)).enumerate() {
        wire.packets(packets.iter().cloned());
        let sent = stream.header.len() + (part + 1) * parts.len().div_ceil(5) * 3200;
        let sent = sent.min(stream.header.len() + stream.packets.len() * 3200 + 3200) - 3200;
        until("the file", || {
            let files = if into.exists() { recordings(&into) } else { Vec::new() };
            files.first().is_some_and(|file| fs::metadata(file).unwrap().len() == sent as u64)
        });
        let file = &recordings(&into)[0];
        let [frames, _] = decoded::frames(file);
        assert!(frames.len() > before && frames[..] == all[..frames.len()], "{} frames after {before}", frames.len());
        before = frames.len();
        if part == 1 {
            // One that waits for more where the file ends, until it has what is not there yet.
            let line = format!(
                "ffmpeg -nostdin -v error -follow 1 -i file:{} -map 0:v -frames:v 120 -f framemd5 -",
                file.display()
            );
            follower = Some(Program::shell(&line));
        }
    }
    assert_eq!(before, all.len());
    let read = follower.unwrap().output();
    let read: Vec<&str> =
        read.iter().filter(|line| line.starts_with("0,")).map(|line| line.rsplit(',').next().unwrap()).collect();
    assert_eq!(read[..], all[..120]);
    wire.end();
    assert_eq!(packets(&recordings(&into)[0]).len(), stream.packets.len());
}

/// A file that a dead server left plays as far as it came, on the next start nothing is written over it.
#[test]
fn a_file_survives_a_kill() {
    let directory = TempDir::new().unwrap();
    let (source, stream) = Stream::ten_seconds(directory.path());
    let into = directory.path().join("recordings");
    let arguments = ["--point", "concert", "--record", into.to_str().unwrap()];
    let point = PointProgram::start(&arguments);
    let (mut wire, id) = Wire::set_up(point.address, CONCERT);
    wire.start(CONCERT.id(&id), stream.body());
    let size = (stream.header.len() + stream.packets.len() * 3200) as u64;
    until("the file", || {
        into.exists() && recordings(&into).first().is_some_and(|file| fs::metadata(file).unwrap().len() == size)
    });
    // By SIGKILL.
    drop(point);
    let [file] = &recordings(&into)[..] else { panic!("one file") };
    assert_eq!(decoded::frames(file), decoded::frames(&source));
    assert_mplayer_plays(file);
    assert_vlc_plays(file);
    let bytes = fs::read(file).unwrap();

    let again = PointProgram::start(&arguments);
    let (mut wire, id) = Wire::set_up(again.address, CONCERT);
    wire.start(CONCERT.id(&id), stream.body());
    wire.end();
    assert_eq!(recordings(&into).len(), 2);
    assert_eq!(fs::read(file).unwrap(), bytes);
}

// ---- room ----

#[test]
fn the_oldest_files_go() {
    let stream = Stream::numbered(200, 40, |n| n % 10 == 0);
    let directory = TempDir::new().unwrap();
    let others = ["notes.txt", "concert-hall-20200101T000000Z-0001.asf", "concert.asf"];
    for name in others {
        fs::write(directory.path().join(name), name).unwrap();
    }
    let limits = RecordLimits { max_time: Some(Duration::from_millis(400)), keep: Some(3), ..RecordLimits::default() };
    let server = server(directory.path(), limits);
    stream.push(&server);
    let told = server.stats("concert").unwrap().recordings;
    server.stop();
    assert_eq!(told.len(), 3);
    let all: Vec<Bytes> = told.iter().flat_map(|file| packets(file)).collect();
    assert!(stream.packets.ends_with(&all));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3 + others.len());
}

/// Where the folder is the matter, the log does not ask for room.
#[test]
fn a_folder_that_is_gone_is_told() {
    let directory = TempDir::new().unwrap();
    let into = directory.path().join("gone");
    let point = PointProgram::start(&["--point", "concert", "--record", into.to_str().unwrap()]);
    fs::remove_dir(&into).unwrap();
    let stream = Stream::numbered(10, 40, |n| n % 10 == 0);
    let (mut wire, id) = Wire::set_up(point.address, CONCERT);
    wire.start(CONCERT.id(&id), stream.body().take(2));
    let complaint = || point.log().lines().find(|line| line.contains("the recording ends")).map(str::to_owned);
    until("the complaint", || complaint().is_some());
    let complaint = complaint().unwrap();
    assert!(complaint.contains("the server may write to it") && !complaint.contains("room"), "{complaint}");
}

/// A disk without room ends the recording and not the push; with room again another file begins.
#[test]
fn a_full_disk_is_got_over() {
    let directory = TempDir::new().unwrap();
    let into = directory.path().join("small");
    fs::create_dir(&into).unwrap();
    // A disk of its own, seen by the server only.
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
    let complaint = || point.log().lines().find(|line| line.contains("the recording ends")).map(str::to_owned);
    until("the complaint", || complaint().is_some());
    let complaint = complaint().unwrap();
    assert!(complaint.contains("No space left") && complaint.contains("record-keep"), "{complaint}");
    let files = recordings(&seen);
    assert_eq!(files.len(), 1);
    // As far as it came it is whole.
    let first = packets(&files[0]);
    assert!(first.len() > 100 && stream.packets.starts_with(&first), "{}", first.len());
    let mut sent = 400;
    // What is tried in vain leaves no file behind: they would be ever more, and count as recordings to be kept.
    until("the next complaint", || {
        let more: Vec<Packet> = body.by_ref().take(10).collect();
        sent += more.len();
        assert!(!more.is_empty());
        wire.packets(more);
        std::thread::sleep(Duration::from_millis(60));
        point.log().lines().filter(|line| line.contains("the recording ends")).count() > 1
    });
    assert_eq!(recordings(&seen), files);
    fs::remove_file(&files[0]).unwrap();
    // The push has gone on all the time; sooner or later a key frame is recorded again.
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
    assert!(is_key(&second[0]), "it begins at a key frame");
    assert!(stream.packets[..sent].ends_with(&second));
}
