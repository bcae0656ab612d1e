//! One origin, three edge servers that pull on demand, HAProxy in front of them, and players of other projects: the
//! setup of docs/scaling.md, with the configuration in `packaging/haproxy.cfg`.

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

/// Duration of the stream in seconds: longer than a test takes on a busy machine.
const SECONDS: u32 = 180;
/// Number of pictures that a player must show before a test disturbs its server.
const FIRST_PICTURES: usize = 15;
/// Number of pictures that it must show afterwards: five seconds, more than a player buffers.
const PICTURES: usize = 75;
/// Number of frames per group of pictures.
const GROUP: usize = 15;

/// A player as shell commands: `$URL` is the URL to play, and `$OUT` a folder for what it shows. Each one plays the URL
/// again when its stream has ended, as a viewer does.
#[derive(Clone, Copy)]
struct Player {
    command: &'static str,
    scheme: &'static str,
}

/// Writes a file of checksums for each connection.
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

/// A player's processes, which end on drop.
struct Playing {
    child: Child,
    command: &'static str,
    out: TempDir,
}

impl Playing {
    fn start(player: Player, address: SocketAddr) -> Self {
        let out = TempDir::new().unwrap();
        // VLC does not run as root, so it runs as another user, who writes to this folder.
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

    /// Returns the checksums of the frames that ffmpeg has decoded, one list per connection.
    fn decoded(&self) -> Vec<Vec<String>> {
        let list = |path: &Path| -> Vec<String> {
            let text = fs::read_to_string(path).unwrap_or_default();
            // The last line may be incomplete.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            whole.lines().filter(|line| !line.starts_with('#')).map(checksum).collect()
        };
        (1..)
            .map(|n| self.out.path().join(format!("{n}.md5")))
            .take_while(|path| path.exists())
            .map(|path| list(&path))
            .collect()
    }

    /// Returns the number of pictures that it has shown.
    fn pictures(&self) -> usize {
        let names = fs::read_dir(self.out.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let pictures = names.filter(|name| name.to_string_lossy().ends_with(".png")).count();
        pictures + self.decoded().iter().map(Vec::len).sum::<usize>()
    }

    fn begins(&self) {
        until(self.command, || self.pictures() >= FIRST_PICTURES);
    }

    /// Waits until it has shown more pictures than a player buffers.
    fn assert_continues(&self) {
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
        // The element pushes the file at the rate of its timestamps.
        let pushing = Pushing::launch(
            &format!("filesrc location={}", media.file.display()),
            &format!("location={} retry-delay=100", origin.url("concert")),
        );
        pushing.play();
        until("the origin has the stream", || packets(&origin) > 10);
        Self { media, _pushing: pushing, origin, edges: edges.into(), haproxy, addresses: 0 }
    }

    /// Returns a route to HAProxy from an address that no player has had.
    fn router(&mut self) -> Router {
        self.addresses += 1;
        Router::new(Ipv4Addr::new(127, 9, 0, self.addresses), self.haproxy.address())
    }

    /// Starts a player with its own address.
    fn player(&mut self, player: Player) -> Playing {
        let playing = Playing::start(player, self.router().address);
        playing.begins();
        playing
    }

    /// Starts one player of each kind behind one address, and returns the edge server that HAProxy has selected for all
    /// of them; and one player with another address, which is on another edge server.
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

    /// Returns the number of players per edge server.
    fn players(&self) -> Vec<u64> {
        self.edges.iter().map(players).collect()
    }

    /// Asserts that the frames that ffmpeg has decoded are those of the source, except for up to one group of pictures
    /// at each interruption, whose reference frames are missing.
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

/// Returns the publishing point in a server's status.
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

/// Each player decodes the encoder's pictures, and the origin has one connection per edge server, whatever the number
/// of players.
#[test]
fn players_of_others_play_through_haproxy() {
    let mut servers = Servers::start();
    assert_eq!(players(&servers.origin), 0, "without players, no edge pulls");
    let kinds = [FFMPEG_BY_HTTP, FFMPEG_BY_MMS, MPV_BY_MMS, VLC_BY_MMS, FFMPEG_BY_MMS, FFMPEG_BY_HTTP];
    let playing = kinds.map(|player| servers.player(player));
    // HAProxy assigns each new address to the edge server with the fewest connections.
    assert_eq!(servers.players(), [2, 2, 2]);
    assert_eq!(players(&servers.origin), 3);
    for playing in &playing {
        playing.assert_continues();
        assert!(playing.decoded().len() <= 1, "its first connection is the only one");
        servers.are_of_the_source(playing, 0);
    }
    // HAProxy does not forward the edge servers' status and health to players.
    for path in ["/", "/api/v1/status", "/metrics", "/status/", "/healthz"] {
        let mut wire = Wire::to(servers.haproxy.address());
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"));
        assert_eq!(wire.response().status, 404, "{path}");
    }
}

/// An edge server is killed: its players open their URL again, and play from another edge server. Players of other edge
/// servers notice nothing.
#[test]
fn players_of_an_edge_that_is_killed_play_from_another() {
    let mut servers = Servers::start();
    let (household, edge, other) = servers.household();
    // It is killed on drop.
    servers.edges.remove(edge);
    until("all players are at the edges that are left", || servers.players().iter().sum::<u64>() == 5);
    for playing in household.iter().chain([&other]) {
        playing.assert_continues();
    }
    for by_ffmpeg in &household[..2] {
        assert_eq!(by_ffmpeg.decoded().len(), 2, "connections");
        servers.are_of_the_source(by_ffmpeg, 1);
    }
    assert_eq!(other.decoded().len(), 1);
    servers.are_of_the_source(&other, 0);
    assert_eq!(servers.haproxy.changes(edge, "DOWN"), 1);
}

/// An edge server receives SIGTERM: HAProxy removes it, so that new players use others; its own players continue, and
/// then change to another edge server before it exits.
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
        playing.assert_continues();
    }
    for by_ffmpeg in &household[..2] {
        assert_eq!(by_ffmpeg.decoded().len(), 2, "connections");
        servers.are_of_the_source(by_ffmpeg, 0);
    }
    assert_eq!((other.decoded().len(), new.decoded().len()), (1, 1), "connections");
}

/// The origin is killed and restarted: the encoder pushes again, the edge servers pull again, and the players keep
/// their connections.
#[test]
fn players_keep_their_connections_while_the_origin_restarts() {
    let mut servers = Servers::start();
    let (household, _, other) = servers.household();
    let address = servers.origin.address;
    drop(servers.origin);
    servers.origin = origin_at(address);
    until("both edges pull again", || players(&servers.origin) == 2);
    for playing in household.iter().chain([&other]) {
        playing.assert_continues();
    }
    for by_ffmpeg in [&household[0], &household[1], &other] {
        assert_eq!(by_ffmpeg.decoded().len(), 1, "connections");
        servers.are_of_the_source(by_ffmpeg, 1);
    }
    assert_eq!(servers.players().iter().sum::<u64>(), 5);
}
