//! The whole chain with other projects' programs at both ends: an encoder, two servers, and players; and curl, which
//! observes each status.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use asf_publishing_point::{BlockingServer, Config, PointConfig, RelayConfig, Server};
use gst::prelude::*;
use tempfile::TempDir;
use test_support::curl::Curl;
use test_support::decoded::{assert_same_frames, frames, recordings};
use test_support::media;
use test_support::pipeline::{Pushing, until};
use test_support::vlc::Vlc;
use wmhttp::server::access::{AccessPolicy, Scheme};

/// A player's process, which is killed on drop if it has not exited.
struct Player(Child);

impl Player {
    fn start(command: &mut Command, output: &Path) -> Self {
        let output = fs::File::create(output).unwrap();
        let command = command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        Self(command.spawn().unwrap())
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn url(scheme: &str, server: &BlockingServer) -> String {
    format!("{scheme}://{}/concert", server.addr())
}

/// Returns the checksums in the output of `-f framemd5`.
fn checksums(text: &str) -> Vec<String> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit(',').next().unwrap().to_owned()).collect()
}

/// GStreamer encodes, the element pushes, one server relays to another, and three players decode there.
#[test]
fn from_gstreamer_by_two_servers_to_ffmpeg_vlc_and_mplayer() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let recorded = PointConfig { record: Some(path("relayed")), ..PointConfig::default() };
    let leaf = Server::spawn(Config::with_points(["concert"], &recorded)).unwrap();
    let forward = vec![RelayConfig::to(&url("http", &leaf)).unwrap()];
    let root =
        Server::spawn(Config::with_points(["concert"], &PointConfig { forward, ..PointConfig::default() })).unwrap();
    let pushing = Pushing::launch(
        &format!(
            "asfmux name=mux streamable=true ! tee name=t ! queue ! filesink location={} \
             videotestsrc is-live=true pattern=ball ! video/x-raw,width=160,height=120,framerate=25/1 \
             ! avenc_wmv2 bitrate=300000 gop-size=25 ! identity single-segment=true ! queue ! mux. \
             audiotestsrc is-live=true ! audio/x-raw,rate=44100,channels=2 ! avenc_wmav2 ! queue ! mux. \
             t. ! queue",
            path("source.asf").display()
        ),
        &format!("location={}", url("http", &root)),
    );
    pushing.play();
    until("the stream is at the leaf", || leaf.stats("concert").unwrap().packets > 10);

    let mms = url("mmsh", &leaf);
    let ffmpeg = Player::start(
        Command::new("ffmpeg")
            .args([
                "-nostdin",
                "-loglevel",
                "error",
                "-y",
                "-i",
                &mms,
                "-map",
                "0:v",
                "-flush_packets",
                "1",
                "-f",
                "framemd5",
            ])
            .arg(path("ffmpeg.md5")),
        &path("ffmpeg.log"),
    );
    let mut mplayer = Player::start(
        Command::new("mplayer").args([
            "-vo",
            "null",
            "-ao",
            "null",
            "-benchmark",
            "-nolirc",
            "-noconsolecontrols",
            "-frames",
            "50",
            &mms,
        ]),
        &path("mplayer.log"),
    );
    let vlc = Vlc::playing(&mms);
    vlc.shows(5);
    until("MPlayer ends", || mplayer.0.try_wait().unwrap().is_some());
    let told = String::from_utf8_lossy(&fs::read(path("mplayer.log")).unwrap()).into_owned();
    assert!(told.contains(" 50/ 50 ") && !told.to_lowercase().contains("error"), "{told}");
    until("ffmpeg has decoded some", || {
        checksums(&fs::read_to_string(path("ffmpeg.md5")).unwrap_or_default()).len() > 60
    });

    // The end is relayed to the players.
    pushing.pipeline.send_event(gst::event::Eos::new());
    pushing.wait_for_eos();
    pushing.stop();
    let mut ffmpeg = ffmpeg;
    until("ffmpeg exits", || ffmpeg.0.try_wait().unwrap().is_some());
    until("the leaf has all", || {
        let (leaf, root) = (leaf.stats("concert").unwrap(), root.stats("concert").unwrap());
        leaf.packets == root.packets && !leaf.pushing
    });
    let forward = root.stats("concert").unwrap().relays.remove(0);
    assert_eq!((forward.dropped, forward.reconnects, forward.last_error), (0, 0, None));
    root.stop();
    leaf.stop();

    let recording = recordings(&path("relayed")).remove(0);
    assert_same_frames(&path("source.asf"), &recording, 2);
    let all = frames(&recording).into_iter().next().unwrap();
    let played = checksums(&fs::read_to_string(path("ffmpeg.md5")).unwrap());
    let joined = all.len() - played.len();
    assert!(joined > 0 && played.len() > 60);
    // The packet that starts a key frame also contains the last frames before it, whose reference frames are missing.
    let before = played.iter().zip(&all[joined..]).take_while(|(shown, sent)| shown != sent).count();
    assert!(before < 15, "{before} frames before the key frame");
    assert_eq!(played[before..], all[joined + before..], "what ffmpeg has shown to the end");
}

/// The password is `secret`.
const USERS: &str = "bob:push:0786f66609ee7d38256a25b55563aa64\n";

/// curl as an encoder and as a player.
#[test]
fn curl_sees_each_status() {
    let there = "http://127.0.0.1:9/there".parse().unwrap();
    let mut config = Config::with_points(["concert"], &PointConfig::default());
    config.points.insert("moved".to_owned(), PointConfig { redirect: Some(there), ..PointConfig::default() });
    let proxy = Some("http://127.0.0.1:9/".parse().unwrap());
    config.points.insert("proxied".to_owned(), PointConfig { proxy_redirect: proxy, ..PointConfig::default() });
    config.max_sessions = 1;
    let server = Server::spawn(config.clone()).unwrap();
    let at = |point: &str| format!("http://{}/{point}", server.addr());
    let none = Curl::default();

    let setup = none.set_up(&at("concert"));
    assert_eq!(setup.status, 204);
    let statuses = [
        ("no such point", 404, none.set_up(&at("nowhere"))),
        ("moved", 302, none.set_up(&at("moved"))),
        ("through a proxy", 305, none.set_up(&at("proxied"))),
        ("an unknown push-id", 412, none.start(&at("concert"), "1234", Path::new("/dev/null"))),
        ("a missing length", 411, Curl::new(&["--header", "Transfer-Encoding: chunked"]).set_up(&at("concert"))),
        ("no user agent of an encoder", 200, Curl::new(&["--user-agent", "curl"]).set_up(&at("concert"))),
        (
            "a head that is too long",
            431,
            Curl::new(&["--header", &format!("X: {}", "x".repeat(60_000))]).set_up(&at("concert")),
        ),
    ];
    for (what, status, outcome) in statuses {
        assert_eq!(outcome.status, status, "{what}: {outcome:?}");
    }
    // A body that is not a push, and one that is.
    let directory = TempDir::new().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let file = directory.path().join(name);
        fs::write(&file, bytes).unwrap();
        file
    };
    assert_eq!(none.start(&at("concert"), setup.push_id(), &file("garbage", b"garbage")).status, 400);
    let setup = none.set_up(&at("concert"));
    let started = none.start(&at("concert"), setup.push_id(), &file("body", &media::body(20)));
    assert_eq!(started.status, 204);
    assert_eq!(server.stats("concert").unwrap().packets, 20);
    let directives = file("directives", &vec![b'x'; 20_000]);
    let long = Curl::new(&["--data-binary", &format!("@{}", directives.display())]).set_up(&at("concert"));
    assert_eq!(long.status, 413);
    // Players: no active push, no such publishing point, an unsupported method.
    let play = |point: &str, arguments: &[&str]| {
        let told = Command::new("curl")
            .args(["--silent", "--noproxy", "*", "--output", "/dev/null", "--write-out", "%{http_code}"])
            .args(arguments)
            .arg(at(point))
            .output()
            .unwrap();
        String::from_utf8(told.stdout).unwrap()
    };
    let player = ["--user-agent", "NSPlayer/9.0.0.2980"];
    assert_eq!(play("concert", &player), "503");
    assert_eq!(play("nowhere", &player), "404");
    assert_eq!(play("moved", &player), "302");
    assert_eq!(play("concert", &["--request", "DELETE"]), "405");
    // The servers and proxies that the push has passed.
    let hops = (0..20).map(|hop| format!("1.1 p{hop}")).collect::<Vec<_>>().join(", ");
    let far = Curl::new(&["--header", &format!("Via: {hops}")]).set_up(&at("concert"));
    assert_eq!(far.status, 508);
    let near = Curl::new(&["--header", "Via: 1.1 proxy (Apache/2.4), 1.0 other"]).set_up(&at("concert"));
    assert_eq!(near.status, 204);
    server.stop();

    let rights = AccessPolicy { schemes: vec![Scheme::Digest], ..AccessPolicy::new(USERS.parse().unwrap()) };
    let asking = Server::spawn(Config { users: Some(rights), ..config }).unwrap();
    let at = format!("http://{}/concert", asking.addr());
    for (user, status) in [("bob:wrong", 401), ("bob:secret", 204)] {
        assert_eq!(Curl::new(&["--digest", "--user", user]).set_up(&at).status, status, "{user}");
    }
    assert_eq!(none.set_up(&at).status, 401);
}

/// Two encoders, consecutively and simultaneously: 409 while the first is connected, 503 at the limit.
#[test]
fn curl_sees_a_busy_publishing_point() {
    let config = Config::with_points(["concert", "other"], &PointConfig::default());
    let server = Server::spawn(Config { max_sessions: 1, ..config }).unwrap();
    let pushing = Pushing::with_feed_source(&format!("sync=false location={}", url("http", &server)));
    pushing.0.play();
    test_support::pipeline::push_bytes(&pushing.1, media::stream(10, 40));
    until("the push flows", || server.stats("concert").unwrap().packets == 10);
    let none = Curl::default();
    assert_eq!(none.set_up(&url("http", &server)).status, 409);
    assert_eq!(none.set_up(&url("http", &server).replace("concert", "other")).status, 503);
}
