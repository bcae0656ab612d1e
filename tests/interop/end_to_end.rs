//! From a source through the element and the publishing point to decoded frames.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use asf::{Padding, Parser, Settings};
use asf_publishing_point::{BlockingServer, Config, PointConfig, Server};
use bytes::Bytes;
use gst::prelude::*;
use tempfile::TempDir;
use test_support::decoded::{assert_same_frames, ffmpeg_file, frames, pictures, recordings};
use test_support::media;
use test_support::peer::{Peer, wms};
use test_support::pipeline::{Pushing, ges_launch, gst_launch, init, until};

const FRAMES: usize = 100;

fn server(directory: &Path, listen: Option<SocketAddr>) -> BlockingServer {
    let point = PointConfig { record: Some(directory.to_owned()), ..PointConfig::default() };
    let config = Config::with_points(["concert"], &point);
    Server::spawn(Config { listen: listen.unwrap_or(config.listen), ..config }).unwrap()
}

/// Encoded video and audio, linked to the muxer `mux`.
fn encoders(live: bool) -> String {
    format!(
        "videotestsrc is-live={live} num-buffers={FRAMES} ! video/x-raw,width=160,height=120,framerate=25/1 ! avenc_wmv2 bitrate=300000 \
         ! identity single-segment=true ! queue ! mux. \
         audiotestsrc is-live={live} num-buffers=172 ! audio/x-raw,rate=44100,channels=2 ! avenc_wmav2 ! queue ! mux."
    )
}

/// Runs a pipeline until EOS.
fn run(description: &str) {
    init();
    let pipeline = gst::parse::launch(description).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(120), &wanted);
    let message = message.expect("the pipeline ends");
    assert!(matches!(message.view(), gst::MessageView::Eos(_)), "{message:?}");
    pipeline.set_state(gst::State::Null).unwrap();
}

/// Returns the send times of the packets in a file, in order.
fn send_times(file: &Path) -> Vec<u32> {
    let mut parser = Parser::new(Settings { padding: Padding::Keep, live_header: true, remove_encoder_offset: false });
    parser.push(Bytes::from(fs::read(file).unwrap()));
    std::iter::from_fn(|| parser.next_packet().unwrap()).map(|unit| unit.packet.send_time()).collect()
}

/// Pushes with `pipeline`, in which `PUSH` is the element, and returns the only recording.
fn recorded(pipeline: &str, directory: &TempDir) -> PathBuf {
    let server = server(directory.path(), None);
    let push = format!("asfpushsink location=http://{}/concert sync=false", server.addr());
    run(&pipeline.replace("PUSH", &push));
    server.stop();
    let mut files = recordings(directory.path());
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[test]
fn asfmux() {
    let directory = TempDir::new().unwrap();
    let source = directory.path().join("source.file");
    let pipeline = format!(
        "asfmux name=mux streamable=true ! tee name=t ! queue ! PUSH t. ! queue ! filesink location={} {}",
        source.display(),
        encoders(false)
    );
    let recording = recorded(&pipeline, &directory);
    assert_same_frames(&source, &recording, 2);
    assert_eq!(frames(&recording)[0].len(), FRAMES);
}

#[test]
fn avmux_asf() {
    let directory = TempDir::new().unwrap();
    let source = directory.path().join("source.file");
    let pipeline = format!(
        "avmux_asf name=mux ! tee name=t ! queue ! PUSH t. ! queue ! filesink location={} {}",
        source.display(),
        encoders(false)
    );
    let recording = recorded(&pipeline, &directory);
    assert_same_frames(&source, &recording, 0);
}

#[test]
fn a_file_by_filesrc() {
    let directory = TempDir::new().unwrap();
    let source = directory.path().join("source.wmv");
    ffmpeg_file(&source, 25);
    let recording = recorded(&format!("filesrc location={} ! PUSH", source.display()), &directory);
    assert_same_frames(&source, &recording, 0);
}

#[test]
fn a_pipe_by_fdsrc() {
    let directory = TempDir::new().unwrap();
    let source = directory.path().join("source.wmv");
    ffmpeg_file(&source, 25);
    let server = server(directory.path(), None);
    // With `-f asf pipe:`, the output is not seekable: there are no sizes, and an index and `$E` at the end.
    let mut ffmpeg = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-i", source.to_str().unwrap(), "-c", "copy", "-f", "asf", "pipe:1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pushed = gst_launch()
        .args(["fdsrc", "!", "asfpushsink", "sync=false"])
        .arg(format!("location=http://{}/concert", server.addr()))
        .stdin(ffmpeg.stdout.take().unwrap())
        .status()
        .unwrap();
    assert!(pushed.success() && ffmpeg.wait().unwrap().success());
    server.stop();
    let files = recordings(directory.path());
    assert_same_frames(&source, &files[0], 0);
}

/// Two consecutive files are recorded separately and completely.
#[test]
fn c12_two_files_in_one_push() {
    let directory = TempDir::new().unwrap();
    let sources = [directory.path().join("first.wmv"), directory.path().join("second.wmv")];
    ffmpeg_file(&sources[0], 25);
    ffmpeg_file(&sources[1], 10);
    let server = server(directory.path(), None);
    let [first, second] = &sources;
    run(&format!(
        "concat name=c ! asfpushsink sync=false location=http://{}/concert filesrc location={} ! c. filesrc location={} ! c.",
        server.addr(),
        first.display(),
        second.display()
    ));
    server.stop();
    let files = recordings(directory.path());
    assert_eq!(files.len(), 2);
    for (source, recording) in sources.iter().zip(&files) {
        assert_same_frames(source, recording, 0);
    }
}

/// Returns whether this is the number of all generated pictures. The videorate of GStreamer 1.28 repeats the last one.
fn are_all(arrived: usize, made: usize) -> bool {
    arrived == made || arrived == made + 1
}

/// Pipelines built by GStreamer's own bins, with the element inside or created from its URI: each picture arrives.
#[test]
fn bins_that_put_pipelines_together() {
    // Encoding bins accept no muxer for caps that are less specific than the muxer's.
    const ASF: &str = "video/x-ms-asf,parsed=true:video/x-wmv,wmvversion=2:audio/x-wma,wmaversion=2";
    let directory = TempDir::new().unwrap();
    let source = directory.path().join("source.wmv");
    ffmpeg_file(&source, 25);
    let source = format!("file://{}", source.display());
    let encoder = "videoconvert ! avenc_wmv2 ! identity single-segment=true ! asfmux streamable=true ! queue ! PUSH";
    for pipeline in [
        format!(
            "encodebin name=e profile={ASF} ! PUSH videotestsrc num-buffers={FRAMES} ! e.video_0 audiotestsrc num-buffers=170 ! e.audio_0"
        ),
        format!("uritranscodebin source-uri={source} dest-uri=wmpush+LOCATION profile={ASF}"),
        format!("playbin uri={source} audio-sink=fakesink video-sink=\"{encoder}\""),
        format!("uridecodebin uri={source} caps=video/x-raw ! {encoder}"),
        format!("urisourcebin uri={source} ! PUSH"),
        // Another branch that writes the same pictures to files.
        format!(
            "videotestsrc num-buffers={FRAMES} ! video/x-raw,framerate=25/1 ! avenc_wmv2 gop-size=10 ! tee name=copies \
             ! queue ! identity single-segment=true ! asfmux streamable=true ! PUSH copies. ! queue ! splitmuxsink muxer=asfmux \
             max-size-time=1000000000 location={}/cut%02d.asf",
            directory.path().display()
        ),
    ] {
        let recorded_in = TempDir::new().unwrap();
        let server = server(recorded_in.path(), None);
        let location = format!("http://{}/concert", server.addr());
        run(&pipeline
            .replace("PUSH", &format!("asfpushsink location={location} sync=false"))
            .replace("LOCATION", &location));
        server.stop();
        let files = recordings(recorded_in.path());
        let arrived: usize = files.iter().map(|file| pictures(file)).sum();
        assert!(are_all(arrived, FRAMES), "{arrived}: {pipeline}: {files:?}");
    }
    assert!(recordings(directory.path()).len() > 2, "the neighbour");
}

/// Each fragment is a separate push, complete like a file.
#[test]
fn fragments_of_a_splitting_bin() {
    let directory = TempDir::new().unwrap();
    let server = server(directory.path(), None);
    run(&format!(
        "videotestsrc num-buffers={FRAMES} ! video/x-raw,framerate=25/1 ! avenc_wmv2 gop-size=10 ! splitmuxsink muxer=asfmux \
         sink=asfpushsink max-size-time=1000000000 location=http://{}/concert",
        server.addr()
    ));
    server.stop();
    let files = recordings(directory.path());
    let counts: Vec<usize> = files.iter().map(|file| pictures(file)).collect();
    assert!(counts.len() > 2 && counts.iter().sum::<usize>() == FRAMES, "{counts:?}");
}

/// The program of GStreamer Editing Services renders a timeline to a publishing point.
#[test]
fn a_timeline_of_the_editing_services() {
    let directory = TempDir::new().unwrap();
    // If the file had audio, the audio would be required too.
    let source = directory.path().join("source.mp4");
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=duration=4:size=160x120:rate=30"])
        .args(["-c:v", "mpeg4"])
        .arg(&source)
        .status();
    assert!(made.unwrap().success());
    let server = server(directory.path(), None);
    let rendered = ges_launch()
        .args(["+clip", source.to_str().unwrap(), "inpoint=1.0", "duration=2.0"])
        .args(["--track-types=video", "--format=video/x-ms-asf,parsed=true:video/x-wmv,wmvversion=2"])
        .args(["-o", &format!("wmpush+http://{}/concert", server.addr())])
        .output()
        .unwrap();
    assert!(rendered.status.success(), "{rendered:?}");
    server.stop();
    let files = recordings(directory.path());
    let [recording] = &files[..] else { panic!("{files:?}") };
    // Two seconds with 30 pictures per second, the rate of the timeline.
    let arrived = pictures(recording);
    assert!(are_all(arrived, 60), "{arrived}");
}

/// The server crashes during a push and is restarted: the pipeline continues, and no packet is missing.
#[test]
fn c15_a_crash_of_the_server() {
    let directory = TempDir::new().unwrap();
    let source = directory.path().join("source.file");
    let first = server(directory.path(), None);
    let address = first.addr();
    let pushing = Pushing::launch(
        &format!(
            "asfmux name=mux streamable=true packet-size=1500 ! tee name=t ! queue ! filesink location={} {} t. ! queue",
            source.display(),
            encoders(true)
        ),
        &format!("location=http://{address}/concert retry-delay=50 max-size-time=0"),
    );
    pushing.play();
    until("the push flows", || first.stats("concert").unwrap().packets > 10);
    first.kill();
    pushing.wait_for_status("reconnect-start");
    assert_eq!(pushing.pipeline.current_state(), gst::State::Playing);
    let second = server(directory.path(), Some(address));
    pushing.wait_for_eos();
    pushing.stop();
    second.stop();
    let mut received: Vec<u32> = recordings(directory.path()).iter().flat_map(|file| send_times(file)).collect();
    let mut sent = send_times(&source);
    received.sort_unstable();
    received.dedup();
    sent.sort_unstable();
    sent.dedup();
    assert_eq!(received, sent);
    assert_eq!(pushing.destination_stats().get::<u64>("packets-dropped"), Ok(0));
}

/// A C program does not ignore SIGPIPE: a reset during a push must not kill it.
#[test]
fn a_reset_does_not_kill_gst_launch() {
    let peer = Peer::with_small_buffer();
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("stream.asf");
    fs::write(&file, media::stream(10_000, 40)).unwrap();
    let mut launched = gst_launch()
        .args([
            "-q",
            "filesrc",
            &format!("location={}", file.display()),
            "!",
            "asfpushsink",
            "sync=false",
            "retry-delay=10",
            "retry-delay-max=20",
        ])
        .args(["max-size-bytes=100000", &format!("location={}", peer.location())])
        .spawn()
        .unwrap();
    for _ in 0..20 {
        let mut connection = peer.accept();
        let mut head = connection.request();
        if head.is_setup() {
            connection.answer(&wms(204, "one"));
            head = connection.request();
        }
        assert!(!head.is_setup());
        connection.packet();
        connection.reset();
    }
    let mut connection = peer.accept();
    if connection.request().is_setup() {
        connection.answer(&wms(204, "one"));
        connection.request();
    }
    connection.until_the_end();
    connection.answer(&wms(204, "one"));
    assert!(launched.wait().unwrap().success());
}

/// With all log levels, messages and properties enabled, no push-id and no password appears.
#[test]
fn no_secret_is_logged() {
    let peer = Peer::new();
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("stream.asf");
    fs::write(&file, media::stream(50, 40)).unwrap();
    let location = peer.location().replace("http://", "http://bob:PASSWORD@");
    let launched = gst_launch()
        .args(["-v", "-m", "filesrc", &format!("location={}", file.display()), "!", "asfpushsink", "sync=false"])
        .arg(format!("location={location}"))
        .env("GST_DEBUG", "*:9")
        .env("GST_DEBUG_NO_COLOR", "1")
        .env("RUST_LOG", "trace")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let server = std::thread::spawn(move || {
        let mut connection = peer.accept();
        connection.set_up(&wms(204, "PUSHID"));
        connection.until_the_end();
        connection.answer(&wms(204, "PUSHID"));
    });
    let output = launched.wait_with_output().unwrap();
    server.join().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &*String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("asfpushsink-status") && text.len() > 100_000);
    // GStreamer's parser logs its command line before the element exists.
    let parser = ["gstparse.c", "types.h", "grammar.y", "GST_PIPELINE"];
    let shown: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("PASSWORD") && !parser.iter().any(|parser| line.contains(parser)))
        .collect();
    assert_eq!(shown, Vec::<&str>::new());
    assert!(!text.contains("PUSHID"));
}
