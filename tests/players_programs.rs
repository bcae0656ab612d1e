//! Players that nobody here wrote: ffmpeg, MPlayer, VLC, GStreamer and curl.
#![cfg(feature = "publishing-point")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::HashSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use gstasfpush::point::RunningServer;
use support::live::{Broadcast, Media, checksum, frames};
use support::pipeline::until;
use support::wire::*;

fn live() -> (Media, RunningServer, Broadcast) {
    let media = Media::of(60);
    let server = server();
    let broadcast = Broadcast::of(&media, &server);
    (media, server, broadcast)
}

/// A player's process; killed where it does not end by itself.
struct Player(Child);

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn ffmpeg_plays() {
    let (media, server, _broadcast) = live();
    let output = Command::new("timeout")
        .args(["60", "ffmpeg", "-v", "error", "-i", &format!("mmsh://{}/concert", server.addr())])
        .args(["-map", "0:v", "-frames:v", "30", "-f", "framemd5", "-"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // It joined at a key frame: each frame is one of the source's.
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
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // The status line counts frames as `30/ 30`; a broken one is told of.
    assert!(text.contains(" 30/ 30 ") && !text.to_lowercase().contains("error"), "{text}");
}

#[test]
fn vlc_plays() {
    let (media, server, _broadcast) = live();
    let scenes = media.directory.path().join("scenes");
    std::fs::create_dir(&scenes).unwrap();
    open_to_all(media.directory.path());
    open_to_all(&scenes);
    // VLC does not run as root.
    let mut command = if rustix::process::getuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "cvlc"]);
        command
    } else {
        Command::new("cvlc")
    };
    let player = command
        .args(["--quiet", "--no-audio", "--vout=dummy", "--video-filter=scene", "--scene-format=png"])
        .args(["--scene-ratio=5", "--scene-prefix=frame"])
        .arg(format!("--scene-path={}", scenes.display()))
        .arg(format!("mmsh://{}/concert", server.addr()))
        .env("HOME", &scenes)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _player = Player(player);
    until("frames", || pictures(&scenes) >= 5);
}

fn open_to_all(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o777)).unwrap();
}

fn pictures(directory: &Path) -> usize {
    let files = std::fs::read_dir(directory).unwrap();
    files.filter(|file| file.as_ref().unwrap().file_name().to_str().unwrap().starts_with("frame")).count()
}
