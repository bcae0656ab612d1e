//! Players of other projects: ffmpeg, MPlayer, VLC, GStreamer and curl.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use asf_publishing_point::BlockingServer;
use test_support::live_media::{Broadcast, Media, checksum, frames};
use test_support::server_fixture::*;
use test_support::vlc::Vlc;
use test_support::wire::Wire;

fn live() -> (Media, BlockingServer, Broadcast) {
    let media = Media::of(60);
    // A busy machine starts programs slowly, and they must not miss what arrives meanwhile.
    let server = server_with(|config| {
        config.points.values_mut().for_each(|point| point.limits.time = Duration::from_secs(60));
    });
    let broadcast = Broadcast::of(&media, &server);
    (media, server, broadcast)
}

#[test]
fn ffmpeg_plays() {
    decodes(|address| format!("mmsh://{address}/concert"));
}

/// The same without the pull protocol.
#[test]
fn ffmpeg_plays_the_plain_stream() {
    decodes(|address| format!("http://{address}/concert?format=asf"));
}

fn decodes(url: impl Fn(SocketAddr) -> String) {
    let (media, server, _broadcast) = live();
    let output = Command::new("timeout")
        .args(["60", "ffmpeg", "-v", "error", "-i", &url(server.addr())])
        .args(["-map", "0:v", "-frames:v", "30", "-f", "framemd5", "-"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // It joined at a key frame, so each frame is one of the source's.
    let source: HashSet<_> = frames(&media.file).iter().map(|line| checksum(line)).collect();
    let played: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).map(checksum).collect();
    assert_eq!(played.len(), 30, "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(played.iter().all(|frame| source.contains(frame)), "{text}");
    assert!(server.stats("concert").unwrap().players >= 1);
}

#[test]
fn mplayer_plays() {
    let (_media, server, _broadcast) = live();
    let output = Command::new("timeout")
        .args(["60", "mplayer", "-vo", "null", "-ao", "null", "-benchmark", "-nolirc", "-noconsolecontrols"])
        .args(["-frames", "30", &format!("mmsh://{}/concert", server.addr())])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &*String::from_utf8_lossy(&output.stderr);
    // The status line counts frames as `30/ 30`; a decoding error is printed.
    assert!(text.contains(" 30/ 30 ") && !text.to_lowercase().contains("error"), "{text}");
}

#[test]
fn vlc_plays() {
    let (_media, server, _broadcast) = live();
    Vlc::playing(&format!("mmsh://{}/concert", server.addr())).shows(5);
}

/// Video only, which no program requests by default: the remaining data decodes to frames of the source, starting with
/// a key frame.
#[test]
fn a_chosen_stream_decodes() {
    let (media, server, broadcast) = live();
    let mut wire = Wire::to(server.addr());
    let header = asf::Header::parse(media.header.clone()).unwrap();
    let video = header.streams().iter().find(|stream| header.is_video(stream.number)).unwrap().number;
    wire.send(format!(
        "GET /concert HTTP/1.0\r\nUser-Agent: NSPlayer/9.0.0.2980\r\n\
         Pragma: xPlayStrm=1,stream-switch-count=1,stream-switch-entry=ffff:{video:x}:0\r\n\r\n"
    ));
    assert!(wire.head().contains(" 200 "));
    let mut file = wire.pulled().1.split_off(8);
    for _ in 0..40 {
        file.extend(wire.pulled_data().2);
    }
    drop(broadcast);
    let path = media.directory.path().join("video.asf");
    std::fs::write(&path, file).unwrap();
    let source: HashSet<_> = frames(&media.file).iter().map(|line| checksum(line)).collect();
    let mut played = frames(&path);
    // The last frame may be incomplete.
    played.pop();
    assert!(played.len() > 10 && played.iter().all(|line| line.starts_with('0')), "{played:?}");
    assert!(played.iter().all(|line| source.contains(&checksum(line))), "{played:?}");
}

/// The stream saved by `curl` is a file that can be decoded.
#[test]
fn curl_saves_a_file_that_decodes() {
    let (media, server, _broadcast) = live();
    let saved = media.directory.path().join("saved.asf");
    let status = Command::new("curl")
        .args(["--silent", "--max-time", "4", "--output"])
        .arg(&saved)
        .arg(format!("http://{}/concert?format=asf", server.addr()))
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(28), "it received data until the time limit");
    let source: HashSet<_> = frames(&media.file).iter().map(|line| checksum(line)).collect();
    let video: Vec<_> = frames(&saved).into_iter().filter(|line| line.starts_with('0')).collect();
    assert!(video.len() > 20 && video.iter().all(|frame| source.contains(&checksum(frame))), "{}", video.len());
}

/// GStreamer over plain HTTP, with its own demuxer.
#[test]
fn gstreamer_plays_the_plain_stream() {
    let (media, server, _broadcast) = live();
    let pictures = media.directory.path().join("pictures");
    let line = format!(
        "souphttpsrc location=http://{}/concert?format=asf ! asfdemux name=demuxer demuxer.video_0 ! queue ! \
         avdec_wmv2 ! videoconvert ! video/x-raw,format=I420 ! identity eos-after=31 ! filesink location={}",
        server.addr(),
        pictures.display()
    );
    let output =
        Command::new("timeout").args(["60", "gst-launch-1.0", "-q"]).args(line.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(std::fs::metadata(&pictures).unwrap().len() >= 30 * 176 * 144 * 3 / 2);
}
