//! Recordings read by ffmpeg, MPlayer and VLC.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use asf::{Padding, Parser, Settings};
use test_support::decoded;
use test_support::program::Program;
use test_support::vlc::Vlc;

use super::*;

impl Stream {
    /// Reads the contents of an ASF file.
    fn of_file(file: &Path, padding: Padding) -> Self {
        let mut parser = Parser::new(Settings { padding, live_header: true, remove_encoder_offset: false });
        parser.push(fs::read(file).unwrap().into());
        let mut packets = Vec::new();
        while let Some(unit) = parser.next_packet().unwrap() {
            packets.push(unit.packet.slices().concat().into());
        }
        parser.finish().unwrap();
        Self { header: parser.header().unwrap().bytes().clone(), packets }
    }

    /// Creates ten seconds of moving pictures with sound with ffmpeg; one key frame per second.
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
}
/// Returns checksums of the compressed video and audio frames from ffmpeg's demuxer.
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

/// Joins the packets of the files under the header of the growing first file.
fn joined(files: &[PathBuf], into: &Path) {
    let first = fs::read(&files[0]).unwrap();
    let header = Header::parse(Bytes::copy_from_slice(&first[..head_len(&first)])).unwrap().to_live();
    let packets = files.iter().flat_map(|file| packets(file));
    let all: Vec<u8> = [header.bytes().clone()].into_iter().chain(packets).flatten().collect();
    fs::write(into, all).unwrap();
}

/// A stream of ffmpeg in files of two seconds: ffmpeg decodes each file alone, all frames are present, and the joined
/// files equal the source. VLC and MPlayer play a file from the middle.
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

    // A frame whose packets are in two files is in neither: up to one frame per cut in each stream.
    let expected = compressed(&source);
    let parts: Vec<[Vec<String>; 2]> = files.iter().map(|file| compressed(file)).collect();
    for (stream, expected) in expected.iter().enumerate() {
        let all: Vec<&String> = parts.iter().flat_map(|part| &part[stream]).collect();
        assert!(all.len() + files.len() > expected.len(), "{} of {}", all.len(), expected.len());
        let mut rest = expected.iter();
        assert!(all.iter().all(|frame| rest.any(|other| other == *frame)), "frames are in order and unique");
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

/// Checks that VLC shows pictures of the file.
fn assert_vlc_plays(file: &Path) {
    // The user that VLC runs as must be able to read it.
    fs::set_permissions(file.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
    Vlc::playing(file.to_str().unwrap()).shows(5);
}

/// Decodes video with ffmpeg from a time on; returns the time of the first frame, and the frames.
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

/// Returns the video key frames from ffprobe: the presentation time in milliseconds, and the file position of their
/// packet.
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

/// Players can seek in a finished file by its index, which does not point beyond the file.
#[test]
fn a_finished_file_is_seekable() {
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
    // The index has one entry per second of the presentation time with preroll: the last key frame before it, as
    // ffprobe finds them.
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
        assert!((first - wanted).abs() < 0.2, "{first} instead of {wanted}");
        assert_eq!(frames[..], all[all.len() - frames.len()..]);
    }
}

/// A stream is pushed step by step, and players read the growing file.
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
            // This player waits at the end of the file until it has frames that are not written yet.
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

/// A file of a killed server plays up to its end, and the next start does not overwrite it.
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
    // Dropping the program kills it with SIGKILL.
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
