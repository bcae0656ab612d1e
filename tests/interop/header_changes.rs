//! Other projects' players with a header change in the middle of the stream: red pictures before it, blue pictures
//! after it. The table in docs/players.md lists what is tested here.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tempfile::TempDir;
use test_support::live_media::Media;
use test_support::pipeline::until;
use test_support::server_fixture::*;
use test_support::wire::Wire;
use wmhttp::Hresult;
use wmhttp::packet::Packet;

/// Position in the first stream in milliseconds when the players start. A player that waits for this position in the
/// second stream shows nothing.
const RED_SINCE_MS: u32 = 600_000;
/// Seconds of the second stream.
const SECONDS: u32 = 8;
/// Minimum number of its pictures that a player must show, of 15 per second: on a busy machine some players drop late
/// pictures.
const PICTURES: usize = 40;

/// A player as a shell command: `$URL` is the URL to play, and `$OUT` a folder for what it shows.
struct Player {
    command: &'static str,
    scheme: &'static str,
}

const fn by_mms(command: &'static str) -> Player {
    Player { command, scheme: "mmsh" }
}

const fn by_http(command: &'static str) -> Player {
    Player { command, scheme: "http" }
}

const FFMPEG: &str = "exec ffmpeg -nostdin -v error -i $URL -map 0:v -vsync 0 -vf scale=4:4 -pix_fmt rgb24 -f rawvideo -flush_packets 1 $OUT/raw";
const FFPLAY: &str =
    "SDL_VIDEODRIVER=dummy SDL_AUDIODRIVER=dummy exec ffplay -autoexit -v info -vf showinfo $URL 2> $OUT/showinfo";
/// The output of libmms, decoded with ffmpeg.
const LIBMMS: &str = "exec 3>$OUT/asf; cc -o $OUT/mms tests/interop/mms.c $(pkg-config --cflags --libs libmms) && exec $OUT/mms $URL >&3";
const PLAYBIN: &str = "exec gst-launch-1.0 -q playbin uri=$URL audio-sink=fakesink \
    video-sink='videoscale ! videoconvert ! video/x-raw,format=RGB,width=4,height=4,pixel-aspect-ratio=1/1 ! filesink buffer-mode=unbuffered location='$OUT/raw";

macro_rules! mpv {
    ($($option:literal)?) => {
        concat!(
            "exec mpv --no-config --ytdl=no --no-audio --vo=image --vo-image-format=png --vo-image-outdir=$OUT ",
            $($option,)? " $URL"
        )
    };
}

macro_rules! mplayer {
    ($($option:literal)?) => {
        concat!("exec mplayer -ao null -vo png:outdir=$OUT -nolirc -noconsolecontrols ", $($option,)? " $URL")
    };
}

macro_rules! vlc {
    ($option:literal) => {
        concat!(
            "[ $(id -u) != 0 ] || run='setpriv --reuid=nobody --regid=nogroup --clear-groups'; \
             HOME=$OUT exec $run cvlc --quiet --no-audio --vout=dummy --video-filter=scene --scene-format=png \
             --scene-ratio=1 --scene-prefix=frame --scene-path=$OUT ",
            $option,
            " $URL"
        )
    };
}

/// The pictures that a player has shown.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shown {
    red: usize,
    blue: usize,
    other: usize,
}

impl Shown {
    fn count(&mut self, [red, green, blue]: [u8; 3]) {
        match (red > 200, green > 60, blue > 200) {
            (true, false, false) => self.red += 1,
            (false, false, true) => self.blue += 1,
            _ => self.other += 1,
        }
    }

    /// Returns the pictures in the folder of a player.
    fn of(out: &Path) -> Self {
        let mut shown = Self::default();
        if let Ok(text) = fs::read_to_string(out.join("showinfo")) {
            // Y, U and V, as in `mean:[81 90 240]`.
            let means = text.split("mean:[").skip(1).filter_map(|rest| rest.split(']').next());
            for mean in means {
                let values: Vec<u8> = mean.split_whitespace().filter_map(|value| value.parse().ok()).collect();
                shown.count(match values[..] {
                    [_, u, v] if u < 110 && v >= 200 => [255, 0, 0],
                    [_, u, v] if u >= 200 && v < 140 => [0, 0, 255],
                    _ => [0, 255, 0],
                });
            }
            return shown;
        }
        let raw = match fs::read(out.join("raw")) {
            Ok(raw) => raw,
            Err(_) if out.join("asf").exists() => decoded(&["-i".into(), out.join("asf")]),
            Err(_) => decoded(&["-pattern_type".into(), "glob".into(), "-i".into(), out.join("*.png")]),
        };
        for picture in raw.chunks_exact(4 * 4 * 3) {
            shown.count([picture[0], picture[1], picture[2]]);
        }
        shown
    }
}

/// Decodes to pictures of 4 × 4 pixels.
fn decoded(input: &[PathBuf]) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "quiet"])
        .args(input)
        .args(["-map", "0:v", "-vsync", "0", "-vf", "scale=4:4", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"])
        .output()
        .unwrap();
    output.stdout
}

/// Sends packets at about the rate of their stream until `stop`, like an encoder that has been running for `since_ms`
/// milliseconds.
fn push(wire: &mut Wire, media: &Media, since_ms: u32, stop: &AtomicBool) {
    let begin = Instant::now();
    for (send_time, packet) in &media.packets {
        let due = Duration::from_millis((*send_time).into());
        while begin.elapsed() < due && !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(10));
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let mut packet = packet.to_vec();
        asf::shift_times(&mut packet, since_ms);
        wire.packet(Packet::Data(packet.into()));
    }
}

/// Plays a stream whose header changes to that of blue pictures of this size. Returns what was shown before the player
/// exited without an error, or, if the player `repeats`, before it had shown [`PICTURES`] blue pictures.
fn play(player: &Player, size: &str, repeats: bool) -> Shown {
    let red = Media::showing("color=c=red:s=176x144:r=15", 60);
    let blue = Media::showing(&format!("color=c=blue:s={size}:r=15"), SECONDS);
    let server = server_with(|config| {
        // A busy machine starts programs slowly, and they must not miss what arrives meanwhile.
        config.points.values_mut().for_each(|point| point.limits.time = Duration::from_secs(60));
    });
    let out = TempDir::new().unwrap();
    let change = AtomicBool::new(false);
    thread::scope(|scope| {
        let pusher = scope.spawn(|| {
            let mut wire = red.push(&server);
            push(&mut wire, &red, RED_SINCE_MS, &change);
            wire.packet(Packet::End(Hresult::FALSE));
            wire.packet(Packet::StreamChange(blue.header.clone()));
            push(&mut wire, &blue, 0, &AtomicBool::new(false));
            wire.packet(Packet::End(Hresult::OK));
            // The response does not matter: the end was sent.
            let _ = wire.rest();
        });
        until("the stream", || server.stats("concert").is_some_and(|stats| stats.packets > 10));
        let mut child = start(player, server.addr(), out.path());
        until("the first pictures", || Shown::of(out.path()).red >= 5 || child.try_wait().unwrap().is_some());
        change.store(true, Ordering::Relaxed);
        if repeats {
            until("the other pictures", || Shown::of(out.path()).blue >= PICTURES);
            signal::kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
            child.wait().unwrap();
        } else {
            until("the player's end", || child.try_wait().unwrap().is_some());
            let status = child.wait().unwrap();
            let log = fs::read_to_string(out.path().join("log")).unwrap_or_default();
            assert!(status.success(), "{}: {status} {log}", player.command);
        }
        pusher.join().unwrap();
    });
    Shown::of(out.path())
}

fn start(player: &Player, address: SocketAddr, out: &Path) -> std::process::Child {
    // VLC does not run as root, so it runs as another user, who writes to this folder.
    Command::new("chmod").arg("777").arg(out).status().unwrap();
    let log = File::create(out.join("log")).unwrap();
    Command::new("timeout")
        .args(["120", "sh", "-c", player.command])
        .env("URL", format!("{}://{address}/concert", player.scheme))
        .env("OUT", out)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Like a restarted encoder: the player shows the first stream and the second.
fn continues(player: &Player) {
    let shown = play(player, "176x144", false);
    assert!(shown.red >= 5 && shown.blue >= PICTURES && shown.other == 0, "{}: {shown:?}", player.command);
}

/// With pictures of another size, the player exits without an error and shows nothing that it cannot decode.
fn ends(player: &Player) {
    let shown = play(player, "320x240", false);
    assert!(shown.red >= 5, "{}: {shown:?}", player.command);
    assert_eq!((shown.blue, shown.other), (0, 0), "{}: {shown:?}", player.command);
}

/// With pictures of another size, a player with a repeat option opens the URL again and shows them.
fn reopens(player: &Player) {
    assert_eq!(play(player, "320x240", true).other, 0, "{}", player.command);
}

/// Tests one player, also with the option to open its URL again if it has one.
macro_rules! player {
    ($name:ident, $player:expr $(, $repeating:expr)?) => {
        mod $name {
            use super::*;

            #[test]
            fn continues_with_the_same_size() {
                continues(&$player);
            }

            #[test]
            fn ends_with_another_size() {
                ends(&$player);
            }

            $(#[test]
            fn reopens_the_url_with_another_size() {
                reopens(&$repeating);
            })?
        }
    };
}

player!(ffmpeg_by_mms, by_mms(FFMPEG));
player!(ffmpeg_by_http, by_http(FFMPEG));
player!(ffplay_by_mms, by_mms(FFPLAY));
player!(ffplay_by_http, by_http(FFPLAY));
player!(mpv_by_mms, by_mms(mpv!()), by_mms(mpv!("--loop-playlist=force")));
player!(mpv_by_http, by_http(mpv!()), by_http(mpv!("--loop-playlist=force")));
player!(vlc_by_mms, by_mms(vlc!("--play-and-exit")), by_mms(vlc!("--repeat")));
player!(vlc_by_http, by_http(vlc!("--play-and-exit")), by_http(vlc!("--repeat")));
player!(mplayer_by_mms, by_mms(mplayer!()), by_mms(mplayer!("-loop 0")));
player!(mplayer_by_http, by_http(mplayer!()), by_http(mplayer!("-loop 0")));
player!(playbin_by_http, by_http(PLAYBIN));
player!(libmms, by_mms(LIBMMS));
