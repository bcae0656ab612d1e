//! One origin, three edges that pull on demand, HAProxy before them, and players that others wrote: what
//! docs/scaling.md describes, with the configuration in `packaging/haproxy.cfg`.

use std::collections::HashSet;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use test_support::haproxy::{HaProxy, Router};
use test_support::live_media::{Media, checksum, frames};
use test_support::pipeline::{Pushing, until};
use test_support::server_process::PointProgram;
use test_support::wire::Wire;

/// Seconds of the stream: more than a test takes on a busy machine.
const SECONDS: u32 = 180;
/// Pictures that a player must show before a test does something to its server.
const FIRST_PICTURES: usize = 15;
/// Those that it must show after that: five seconds of them, more than a player holds back.
const PICTURES: usize = 75;
/// Frames between two key frames.
const GROUP: usize = 15;

/// A player, by a shell's commands: `$URL` is what it plays, `$OUT` a folder for what it shows. Each plays the URL
/// again when its stream has ended, as a viewer does.
#[derive(Clone, Copy)]
struct Player {
    command: &'static str,
    scheme: &'static str,
}

/// A file of checksums for each connection.
const FFMPEG: &str = "while :; do n=$((n+1)); ffmpeg -nostdin -v error -i $URL -map 0:v -vsync 0 -flush_packets 1 \
    -f framemd5 $OUT/$n.md5; sleep 0.3; done";
const MPV: &str = "exec mpv --no-config --ytdl=no --no-audio --vo=image --vo-image-format=png --vo-image-outdir=$OUT \
    --loop-playlist=force $URL";
const VLC: &str = "[ $(id -u) != 0 ] || run='setpriv --reuid=nobody --regid=nogroup --clear-groups'; \
    HOME=$OUT exec $run cvlc --quiet --no-audio --vout=dummy --video-filter=scene --scene-format=png --scene-ratio=1 \
    --scene-prefix=frame --scene-path=$OUT --repeat $URL";

const FFMPEG_BY_HTTP: Player = Player { command: FFMPEG, scheme: "http" };
const FFMPEG_BY_MMS: Player = Player { command: FFMPEG, scheme: "mmsh" };
const MPV_BY_MMS: Player = Player { command: MPV, scheme: "mmsh" };
const VLC_BY_MMS: Player = Player { command: VLC, scheme: "mmsh" };

/// A player's processes, ended with it.
struct Playing {
    child: Child,
    command: &'static str,
    out: TempDir,
}

impl Playing {
    fn start(player: Player, address: SocketAddr) -> Self {
        let out = TempDir::new().unwrap();
        // VLC, which refuses to run as root, runs as another user, who writes into it.
        fs::set_permissions(out.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let log = File::create(out.path().join("log")).unwrap();
        let child = Command::new("sh")
            .args(["-c", player.command])
            .env("URL", format!("{}://{address}/concert", player.scheme))
            .env("OUT", out.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        Self { child, command: player.command, out }
    }

    /// Checksums of the frames that ffmpeg has decoded, a list for each connection.
    fn decoded(&self) -> Vec<Vec<String>> {
        let list = |path: &Path| -> Vec<String> {
            let text = fs::read_to_string(path).unwrap_or_default();
            // The last line may be half written.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            whole.lines().filter(|line| !line.starts_with('#')).map(checksum).collect()
        };
        (1..)
            .map(|n| self.out.path().join(format!("{n}.md5")))
            .take_while(|path| path.exists())
            .map(|path| list(&path))
            .collect()
    }

    /// Pictures that it has shown.
    fn pictures(&self) -> usize {
        let names = fs::read_dir(self.out.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let pictures = names.filter(|name| name.to_string_lossy().ends_with(".png")).count();
        pictures + self.decoded().iter().map(Vec::len).sum::<usize>()
    }

    fn begins(&self) {
        until(self.command, || self.pictures() >= FIRST_PICTURES);
    }

    /// Waits until it has shown more than a player holds back.
    fn goes_on(&self) {
        let before = self.pictures();
        until(self.command, || self.pictures() >= before + PICTURES);
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.out.path().join("log")).unwrap_or_default());
        }
    }
}

/// The servers, and the push to the origin.
struct Servers {
    media: Media,
    _pushing: Pushing,
    origin: PointProgram,
    edges: Vec<PointProgram>,
    haproxy: HaProxy,
    addresses: u8,
}

impl Servers {
    fn start() -> Self {
        let media = Media::of(SECONDS);
        let origin = origin_at("127.0.0.1:0".parse().unwrap());
        let config = format!(
            "drain-time = '30s'\n[bounds]\nuncounted = ['127.0.0.1']\n\
             [point.concert]\nsource = '{}'\nsource-on-demand = true\n",
            origin.url("concert")
        );
        let edges = [(); 3].map(|()| PointProgram::configured(&[], &config));
        let haproxy = HaProxy::new(edges.each_ref().map(|edge| edge.address), 500);
        // The element paces the file by the times in it.
        let pushing = Pushing::launch(
            &format!("filesrc location={}", media.file.display()),
            &format!("location={} retry-delay=100", origin.url("concert")),
        );
        pushing.play();
        until("the origin has the stream", || packets(&origin) > 10);
        Self { media, _pushing: pushing, origin, edges: edges.into(), haproxy, addresses: 0 }
    }

    /// A way to HAProxy from an address that no player has had.
    fn router(&mut self) -> Router {
        self.addresses += 1;
        Router::new(Ipv4Addr::new(127, 9, 0, self.addresses), self.haproxy.address())
    }

    /// A player with an address of its own.
    fn player(&mut self, player: Player) -> Playing {
        let playing = Playing::start(player, self.router().address);
        playing.begins();
        playing
    }

    /// A player of each kind behind one address, and the edge that HAProxy has chosen for all of them; and one player
    /// of another address, which is at another edge.
    fn household(&mut self) -> ([Playing; 4], usize, Playing) {
        let router = self.router();
        let household = [FFMPEG_BY_HTTP, FFMPEG_BY_MMS, MPV_BY_MMS, VLC_BY_MMS]
            .map(|player| Playing::start(player, router.address));
        household.iter().for_each(Playing::begins);
        let edge = self.players().iter().position(|players| *players == 4).expect("an edge with the whole household");
        let other = self.player(FFMPEG_BY_MMS);
        assert_eq!(self.players()[edge], 4);
        (household, edge, other)
    }

    /// How many players each edge has.
    fn players(&self) -> Vec<u64> {
        self.edges.iter().map(players).collect()
    }

    /// What ffmpeg has decoded is the source's, but for the frames of a group at each place where the stream was cut:
    /// they lack what they build on.
    fn are_of_the_source(&self, playing: &Playing, cuts: usize) {
        let source: HashSet<_> = frames(&self.media.file).iter().map(|line| checksum(line)).collect();
        for decoded in playing.decoded() {
            let other = decoded.iter().filter(|frame| !source.contains(*frame)).count();
            assert!(other <= cuts * GROUP, "{other} of {} frames are not of the source", decoded.len());
        }
    }
}

fn origin_at(address: SocketAddr) -> PointProgram {
    PointProgram::configured_at(address, &[], "[point.concert]\n")
}

/// The point in a server's status.
fn point(server: &PointProgram) -> Value {
    let mut wire = Wire::to(server.address);
    wire.send("GET /api/v1/points/concert?history=0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    serde_json::from_slice(&wire.response().body).unwrap()
}

fn packets(server: &PointProgram) -> u64 {
    point(server)["totals"]["packets"].as_u64().unwrap()
}

fn players(server: &PointProgram) -> u64 {
    point(server)["players"]["count"].as_u64().unwrap()
}

/// Each player decodes the encoder's pictures, and the origin has one connection for each edge, whatever their number.
#[test]
fn players_of_others_play_through_haproxy() {
    let mut servers = Servers::start();
    assert_eq!(players(&servers.origin), 0, "nobody plays, and no edge pulls");
    let kinds = [FFMPEG_BY_HTTP, FFMPEG_BY_MMS, MPV_BY_MMS, VLC_BY_MMS, FFMPEG_BY_MMS, FFMPEG_BY_HTTP];
    let playing = kinds.map(|player| servers.player(player));
    // HAProxy gives each new address to the edge with the fewest connections.
    assert_eq!(servers.players(), [2, 2, 2]);
    assert_eq!(players(&servers.origin), 3);
    for playing in &playing {
        playing.goes_on();
        assert!(playing.decoded().len() <= 1, "its first connection is the only one");
        servers.are_of_the_source(playing, 0);
    }
    // Players get neither the edges' status nor their health.
    for path in ["/", "/api/v1/status", "/metrics", "/status/", "/healthz"] {
        let mut wire = Wire::to(servers.haproxy.address());
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"));
        assert_eq!(wire.response().status, 404, "{path}");
    }
}

/// An edge is killed: its players open their URL again, and play from another edge. Those of other edges notice nothing.
#[test]
fn players_of_an_edge_that_is_killed_play_from_another() {
    let mut servers = Servers::start();
    let (household, edge, other) = servers.household();
    // Dropped, it is killed.
    servers.edges.remove(edge);
    until("all players are at the edges that are left", || servers.players().iter().sum::<u64>() == 5);
    for playing in household.iter().chain([&other]) {
        playing.goes_on();
    }
    for by_ffmpeg in &household[..2] {
        assert_eq!(by_ffmpeg.decoded().len(), 2, "connections");
        servers.are_of_the_source(by_ffmpeg, 1);
    }
    assert_eq!(other.decoded().len(), 1);
    servers.are_of_the_source(&other, 0);
    assert_eq!(servers.haproxy.changes(edge, "DOWN"), 1);
}

/// An edge gets SIGTERM: HAProxy takes it out, so that new players go elsewhere; its own play on, and then change to
/// another edge, before it ends.
#[test]
fn players_of_an_edge_that_drains_change_to_another() {
    let mut servers = Servers::start();
    let (household, edge, other) = servers.household();
    let draining = servers.edges.remove(edge);
    draining.signal(Signal::SIGTERM);
    until("HAProxy takes it out", || servers.haproxy.changes(edge, "DOWN") == 1);
    assert_eq!(players(&draining), 4, "its players stay for a while");
    let new = servers.player(FFMPEG_BY_MMS);
    draining.wait();
    until("all players are at the edges that are left", || servers.players().iter().sum::<u64>() == 6);
    for playing in household.iter().chain([&other, &new]) {
        playing.goes_on();
    }
    for by_ffmpeg in &household[..2] {
        assert_eq!(by_ffmpeg.decoded().len(), 2, "connections");
        servers.are_of_the_source(by_ffmpeg, 0);
    }
    assert_eq!((other.decoded().len(), new.decoded().len()), (1, 1), "connections");
}

/// The origin is killed and started again: the encoder pushes again, the edges pull again, and the players keep their
/// connections.
#[test]
fn players_keep_their_connections_while_the_origin_restarts() {
    let mut servers = Servers::start();
    let (household, _, other) = servers.household();
    let address = servers.origin.address;
    drop(servers.origin);
    servers.origin = origin_at(address);
    until("both edges pull again", || players(&servers.origin) == 2);
    for playing in household.iter().chain([&other]) {
        playing.goes_on();
    }
    for by_ffmpeg in [&household[0], &household[1], &other] {
        assert_eq!(by_ffmpeg.decoded().len(), 1, "connections");
        servers.are_of_the_source(by_ffmpeg, 1);
    }
    assert_eq!(servers.players().iter().sum::<u64>(), 5);
}
