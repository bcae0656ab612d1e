//! The 1000 hours that libav's video encoders add to timestamps, with each muxer and each bin that makes pipelines: the
//! recording is decoded, and its picture and sound must belong together.

use std::fs;
use std::path::Path;
use std::process::Command;

use asf_publishing_point::{BlockingServer, Config, PointConfig, Server};
use gst::prelude::*;
use tempfile::TempDir;
use test_support::decoded::{pictures, recordings};
use test_support::pipeline::{ges_launch, init};

/// How far picture and sound may be apart, seconds.
const TOLERANCE: f64 = 0.1;
/// When the flash and the tone begin in the source, seconds.
const FLASH: f64 = 2.0;
const PROFILE: &str = "video/x-ms-asf,parsed=true:video/x-wmv,wmvversion=2:audio/x-wma,wmaversion=2";
/// A queue that holds what a muxer does not take yet.
const QUEUE: &str = "queue max-size-time=0 max-size-bytes=0 max-size-buffers=0";

/// A server that records, and its publishing point's URL.
fn recording_point(directory: &Path) -> (BlockingServer, String) {
    let point = PointConfig { record: Some(directory.to_owned()), ..PointConfig::default() };
    let server = Server::spawn(Config::with_points(["concert"], &point)).unwrap();
    let location = format!("http://{}/concert", server.addr());
    (server, location)
}

/// A file of four seconds: after two seconds the black picture becomes white, and a tone begins.
fn source(directory: &Path) -> String {
    let file = directory.join("source.avi");
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i"])
        .arg(format!("color=black:size=160x120:rate=25:duration=4,drawbox=color=white:t=fill:enable='gte(t,{FLASH})'"))
        .args(["-f", "lavfi", "-i"])
        .arg(format!("aevalsrc=exprs='if(gte(t,{FLASH}),sin(2800*t)/2,0)':duration=4:sample_rate=44100"))
        .args(["-c:v", "mpeg4", "-c:a", "pcm_s16le"])
        .arg(&file)
        .status();
    assert!(made.unwrap().success());
    format!("file://{}", file.display())
}

/// When the picture becomes white and the tone begins in a recording, in seconds.
fn flash_and_tone(recording: &Path) -> [f64; 2] {
    let decoded = Command::new("ffmpeg")
        .args(["-nostdin", "-i", recording.to_str().unwrap()])
        .args(["-vf", "blackdetect=d=0.1", "-af", "silencedetect=noise=-20dB:d=0.1", "-f", "null", "-"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&decoded.stderr);
    ["black_end:", "silence_end: "].map(|name| {
        let (_, rest) = text.split_once(name).unwrap_or_else(|| panic!("{name} {text}"));
        rest.split_whitespace().next().unwrap().parse().unwrap()
    })
}

/// The one recording has all pictures, and its picture and sound belong together.
fn assert_in_sync(directory: &Path, what: &str) {
    let files = recordings(directory);
    let [recording] = &files[..] else { panic!("{what}: {files:?}") };
    let count = pictures(recording);
    assert!(count >= 100, "{what}: {count} pictures");
    let [flash, tone] = flash_and_tone(recording);
    assert!((flash - tone).abs() < TOLERANCE && (flash - FLASH).abs() < TOLERANCE, "{what}: {flash} s, {tone} s");
}

/// Runs a pipeline to its EOS, and returns the texts of its INFO and WARNING messages.
fn messages(description: &str) -> Vec<String> {
    init();
    let pipeline = gst::parse::launch(description).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let mut texts = Vec::new();
    loop {
        let message = bus.timed_pop(gst::ClockTime::from_seconds(120)).expect("the pipeline ends");
        let view = message.view();
        if let gst::MessageView::Eos(_) = view {
            break;
        } else if let gst::MessageView::Error(error) = view {
            panic!("{description}: {error:?}");
        } else if let gst::MessageView::Info(info) = view {
            texts.push(info.error().message().to_owned());
        } else if let gst::MessageView::Warning(warning) = view {
            texts.push(warning.error().message().to_owned());
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    texts
}

/// asfmux, avmux_asf and encodebin write all sound before the pictures: the recording is right, and a WARNING says what
/// live players need.
#[test]
fn picture_and_sound() {
    let directory = TempDir::new().unwrap();
    let source = source(directory.path());
    for (muxer, video, sound) in [
        ("asfmux streamable=true name=mux", format!("avenc_wmv2 ! {QUEUE} ! mux."), "avenc_wmav2 ! queue ! mux."),
        ("avmux_asf name=mux", format!("avenc_wmv2 ! {QUEUE} ! mux."), "avenc_wmav2 ! queue ! mux."),
        ("avmux_asf name=mux", format!("avenc_msmpeg4 ! {QUEUE} ! mux."), "avenc_wmav2 ! queue ! mux."),
        (
            &format!("encodebin name=mux queue-bytes-max=0 queue-buffers-max=0 queue-time-max=0 profile={PROFILE}"),
            "mux.video_0".to_owned(),
            "mux.audio_0",
        ),
    ] {
        let recorded = TempDir::new().unwrap();
        let (server, location) = recording_point(recorded.path());
        let texts = messages(&format!(
            "uridecodebin uri={source} name=source {muxer} ! asfpushsink location={location} sync=false \
             source. ! videoconvert ! {video} source. ! audioconvert ! audio/x-raw,channels=2 ! {sound}"
        ));
        server.stop();
        assert_in_sync(recorded.path(), muxer);
        let [missing, removed] = &texts[..] else { panic!("{muxer}: {texts:?}") };
        assert!(missing.contains("no picture") && missing.contains("single-segment=true"), "{missing}");
        assert!(removed.contains("1000 hours too large"), "{removed}");
    }
}

/// The editing services write a timeline with sound in the same way.
#[test]
fn a_timeline() {
    let directory = TempDir::new().unwrap();
    let source = source(directory.path());
    let recorded = TempDir::new().unwrap();
    let (server, location) = recording_point(recorded.path());
    let rendered = ges_launch()
        .args(["+clip", &source, &format!("--format={PROFILE}")])
        .args(["-o", &format!("wmpush+{location}")])
        .output()
        .unwrap();
    assert!(rendered.status.success(), "{rendered:?}");
    server.stop();
    assert_in_sync(recorded.path(), "ges-launch-1.0");
}

/// Pictures alone have the hours in all their times. They are removed, and an INFO says so.
#[test]
fn pictures_alone() {
    for muxer in ["asfmux streamable=true", "avmux_asf"] {
        let recorded = TempDir::new().unwrap();
        let (server, location) = recording_point(recorded.path());
        let texts = messages(&format!(
            "videotestsrc num-buffers=100 ! video/x-raw,framerate=25/1 ! avenc_wmv2 ! {muxer} \
             ! asfpushsink location={location} sync=true"
        ));
        server.stop();
        let [removed] = &texts[..] else { panic!("{muxer}: {texts:?}") };
        assert!(removed.contains("1000 hours too large"), "{removed}");
        let files = recordings(recorded.path());
        assert_eq!(pictures(&files[0]), 100, "{muxer}");
        let mut parser = asf::Parser::new(asf::Settings {
            padding: asf::Padding::Keep,
            live_header: true,
            remove_encoder_offset: false,
        });
        parser.push(fs::read(&files[0]).unwrap().into());
        let times: Vec<u32> =
            std::iter::from_fn(|| parser.next_packet().unwrap()).map(|unit| unit.packet.send_time()).collect();
        assert!(times.iter().all(|time| *time < 4000), "{muxer}: {times:?}");
    }
}
