//! VLC's MMS output as a source: an encoder that waits to be pulled from, as Windows Media Encoder did in pull mode.

use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use asf_publishing_point::{BlockingServer, Config, PointConfig, Server, SourceConfig};
use test_support::daemon::{Daemon, folder};
use test_support::live_media::{Media, checksum, frames};
use test_support::pipeline::until;
use test_support::server_fixture::{FFMPEG_DESCRIBE, FFMPEG_PLAY};
use test_support::wire::Wire;

/// Frames between two key frames.
const GROUP: usize = 15;

/// VLC sends a file at its own speed, and the server pulls it while somebody plays: ffmpeg decodes the file's frames.
/// When VLC is gone, the status says so.
#[test]
fn what_vlc_offers_is_pulled() {
    let media = Media::of(120);
    let home = folder();
    // As root VLC does not run.
    for path in [home.path(), media.directory.path()] {
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    }
    let vlc = Daemon::start(&home.path().join("log"), |address| {
        let mut command = vec!["env".to_owned(), format!("HOME={}", home.path().display())];
        if nix::unistd::getuid().is_root() {
            command.extend(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"].map(str::to_owned));
        }
        let output = format!("--sout=#std{{access=mmsh,mux=asfh,dst={address}/concert}}");
        command.extend(["cvlc".to_owned(), "--quiet".to_owned(), output, media.file.display().to_string()]);
        command
    });
    let vlcs = SourceConfig::at(&format!("http://{}/concert", vlc.address)).unwrap();
    let vlcs = SourceConfig { on_demand: Some(Duration::from_secs(1)), ..vlcs };
    let edge =
        Server::spawn(Config::with_points(["concert"], &PointConfig { source: Some(vlcs), ..PointConfig::default() }))
            .unwrap();
    assert_eq!(edge.stats("concert").unwrap().packets, 0, "nobody plays");
    // VLC listens before it has a stream; then it answers 404.
    until("VLC has a stream", || {
        let mut player = Wire::to(edge.addr());
        player.send(FFMPEG_DESCRIBE);
        player.head().contains(" 200 ")
    });
    let output = Command::new("timeout")
        .args(["60", "ffmpeg", "-nostdin", "-v", "error", "-i", &format!("mmsh://{}/concert", edge.addr())])
        .args(["-map", "0:v", "-vsync", "0", "-frames:v", "60", "-f", "framemd5", "-"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let known: HashSet<_> = frames(&media.file).iter().map(|line| checksum(line)).collect();
    let played: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).map(checksum).collect();
    assert_eq!(played.len(), 60, "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    // VLC does not mark its key frames: the first frames may lack what they build on.
    let first = played.iter().position(|frame| known.contains(frame)).unwrap();
    assert!(first <= GROUP, "{first} frames before a key frame");
    assert!(played[first..].iter().all(|frame| known.contains(frame)), "{text}");

    // While a stream is kept for players, they are not refused.
    until("the edge leaves VLC", || source(&edge)["state"] == "idle");
    drop(vlc);
    let mut player = Wire::to(edge.addr());
    player.send(FFMPEG_PLAY);
    assert_eq!(player.response().status, 503);
    let source = source(&edge);
    assert_eq!(source["failures"]["unreachable"], 1, "{source}");
}

/// Returns the status of the point's source.
fn source(edge: &BlockingServer) -> serde_json::Value {
    let mut wire = Wire::to(edge.addr());
    wire.send("GET /api/v1/points/concert HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let point: serde_json::Value = serde_json::from_slice(&wire.response().body).unwrap();
    point["source"].clone()
}
