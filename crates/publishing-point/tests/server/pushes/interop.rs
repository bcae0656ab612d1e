//! Recordings decoded by ffmpeg.

use std::process::Command;

use test_support::live_media::{Media, frames};

use super::*;

/// A stream that was pushed without padding is recorded so that every frame decodes as in the source.
#[test]
fn a_recording_decodes_as_its_source() {
    let media = Media::of(3);
    let server = recording_server(media.directory.path());
    let mut wire = media.push(&server);
    for (_, packet) in &media.packets {
        wire.packet(Packet::Data(packet.clone()));
    }
    wire.packet(Packet::End(Hresult::OK));
    assert_eq!(wire.response().status, 204);
    let [file] = &recordings(&server, 1)[..] else { panic!() };
    server.stop();
    let expected = frames(&media.file);
    assert!(expected.len() > 45 + 50, "{}", expected.len());
    assert_eq!(frames(file), expected);
    let data_at = media.header.len() - 50;
    assert_eq!(field(&std::fs::read(file).unwrap(), data_at + 16), 50 + media.packets.len() as u64 * 3200);
    let recorded = probe(file);
    let source = probe(&media.file);
    assert!((recorded - source).abs() < 1.0, "{recorded} s of {source} s");
}

/// Returns the duration in the header, in seconds.
fn probe(file: &Path) -> f64 {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "format=duration", "-of", "default=nw=1:nk=1"])
        .arg(file)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// A server that dies leaves a file that decodes up to its end.
#[test]
fn a_recording_survives_the_server() {
    let media = Media::of(3);
    let server = recording_server(media.directory.path());
    let mut wire = media.push(&server);
    for (_, packet) in &media.packets {
        wire.packet(Packet::Data(packet.clone()));
    }
    let bytes = media.header.len() as u64 + media.packets.len() as u64 * 3200;
    let file = || server.stats("concert").unwrap().recordings.first().cloned();
    until("the file", || {
        file().is_some_and(|file| std::fs::metadata(file).is_ok_and(|metadata| metadata.len() == bytes))
    });
    let file = file().unwrap();
    server.kill();
    assert_eq!(frames(&file), frames(&media.file));
}
