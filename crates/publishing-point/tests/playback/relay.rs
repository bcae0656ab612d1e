//! Points that relay to other servers: trees, interruptions, loops.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use asf_publishing_point::{BlockingServer, Config, PointConfig, RelayConfig, RelayStats, Server};
use asfpush_client::publish::status::State;
use gst::prelude::*;
use nix::sys::signal::Signal;
use tempfile::TempDir;
use test_support::media;
use test_support::peer::{Peer, wms};
use test_support::pipeline::{Pushing, end, push_bytes, until};
use test_support::puller::Puller;
use test_support::server_process::PointProgram;
use test_support::wire::{CONCERT, Wire};
use wmhttp::Hresult;
use wmhttp::packet::Packet;
use wmhttp::server::access::{AccessPolicy, Scheme};

#[cfg(feature = "interop")]
mod interop;

const STEP: u32 = 40;

/// Returns a relay with a short retry delay.
fn to(url: &str) -> RelayConfig {
    RelayConfig { retry_delay_max: Duration::from_millis(100), ..RelayConfig::to(url).unwrap() }
}

fn url(server: &BlockingServer) -> String {
    format!("http://{}/concert", server.addr())
}

fn point(forward: impl IntoIterator<Item = RelayConfig>) -> PointConfig {
    PointConfig { forward: forward.into_iter().collect(), ..PointConfig::default() }
}

fn config(point: &PointConfig) -> Config {
    Config::with_points(["concert"], point)
}

fn server(forward: impl IntoIterator<Item = RelayConfig>) -> BlockingServer {
    Server::spawn(config(&point(forward))).unwrap()
}

fn server_on(listen: SocketAddr, point: &PointConfig) -> BlockingServer {
    Server::spawn(Config { listen, ..config(point) }).unwrap()
}

/// Returns a free address for a server that starts later.
fn address() -> SocketAddr {
    server([]).addr()
}

fn packets(server: &BlockingServer) -> u64 {
    server.stats("concert").unwrap().packets
}

fn relays(server: &BlockingServer) -> Vec<RelayStats> {
    server.stats("concert").unwrap().relays
}

/// Starts an encoder that pushes the packets of the test without pacing.
fn encoder(server: &BlockingServer) -> (Pushing, gst::Element) {
    let (pushing, source) = Pushing::with_feed_source(&format!("sync=false location={} retry-delay=50", url(server)));
    pushing.play();
    (pushing, source)
}

/// Feeds packets, with the header before the first one.
fn feed_some(source: &gst::Element, numbers: Range<u32>) {
    let mut bytes = if numbers.start == 0 { media::header().to_vec() } else { Vec::new() };
    bytes.extend(media::packets(numbers, STEP));
    push_bytes(source, bytes);
}

fn numbers(range: Range<u32>) -> Vec<u32> {
    range.collect()
}

/// A tree of servers: the players of all leaves receive the same bytes.
#[test]
fn a_tree() {
    let leaves = [server([]), server([])];
    let root = server(leaves.each_ref().map(|leaf| to(&url(leaf))));
    let (pushing, source) = encoder(&root);
    feed_some(&source, 0..20);
    until("the leaves have it", || leaves.iter().all(|leaf| packets(leaf) == 20));
    let everyone = [&root, &leaves[0], &leaves[1]];
    let players = everyone.map(|server| Puller::of(server.addr(), "concert"));
    until("the players are there", || everyone.iter().all(|server| server.stats("concert").unwrap().playing == 1));
    feed_some(&source, 20..100);
    end(&source);
    pushing.wait_for_eos();
    let [at_root, one, other] = players.map(Puller::end);
    assert_eq!(one.numbers(STEP), numbers(10..100), "from the latest key frame on");
    assert_eq!((&one.letters[..], &one.headers, &one.packets), ("HDE", &at_root.headers, &at_root.packets));
    assert_eq!((&one.headers, &one.packets), (&other.headers, &other.packets));
    until("the relays have ended", || relays(&root).iter().all(|forward| forward.state == State::Idle));
    for (forward, leaf) in relays(&root).iter().zip(&leaves) {
        assert_eq!((&forward.location, forward.packets, forward.dropped), (&url(leaf), 100, 0));
        assert!(forward.bytes > 100 * u64::from(media::SIZE) && forward.last_error.is_none(), "{forward:?}");
    }
}

/// C-15: a leaf that stops and restarts receives the packets sent meanwhile; the others are not affected.
#[test]
fn c15_a_leaf_restarts() {
    let (steady, broken) = (server([]), server([]));
    let address = broken.addr();
    let root = server([to(&url(&steady)), to(&url(&broken))]);
    let (_pushing, source) = encoder(&root);
    feed_some(&source, 0..20);
    until("both have it", || packets(&steady) == 20 && packets(&broken) == 20);
    broken.kill();
    feed_some(&source, 20..40);
    until("the steady one has it", || packets(&steady) == 40);
    until("the failure is reported", || relays(&root)[1].failures > 0);
    assert_eq!(relays(&root)[0].failures, 0);
    let returned = server_on(address, &PointConfig::default());
    // Packets that the stopped leaf's kernel had received count as arrived.
    until("the leaf has the packets sent meanwhile", || packets(&returned) >= 20);
    feed_some(&source, 40..50);
    until("the leaf continues", || packets(&returned) >= 30 && packets(&steady) == 50);
    let told = &relays(&root)[1];
    assert_eq!((told.dropped, told.reconnects, told.state), (0, 1, State::Streaming));
}

/// C-15: the encoder's connection is lost and resumed: the leaf has one session without a gap.
#[test]
fn c15_an_encoder_that_resumes() {
    let leaf = server([]);
    let root = server([to(&url(&leaf))]);
    let (pushing, source) = encoder(&root);
    feed_some(&source, 0..10);
    until("the leaf has it", || packets(&leaf) == 10);
    let player = Puller::of(leaf.addr(), "concert");
    until("the player is there", || leaf.stats("concert").unwrap().playing == 1);
    pushing.sink.emit_by_name::<bool>("disconnect", &[&None::<&str>]);
    pushing.wait_for_status("closed");
    pushing.sink.emit_by_name::<bool>("reconnect", &[&None::<&str>]);
    feed_some(&source, 10..50);
    end(&source);
    pushing.wait_for_eos();
    assert_eq!(player.end().numbers(STEP), numbers(0..50));
    let stats = leaf.stats("concert").unwrap();
    assert_eq!((stats.sessions, stats.headers), (1, 1));
}

/// A leaf that does not read does not affect the other leaf, and needs no memory beyond the packet buffer.
#[test]
fn a_stalled_leaf_delays_nobody() {
    let (steady, stalled) = (server([]), Peer::with_small_buffer());
    let root = server([to(&stalled.location()), to(&url(&steady))]);
    let (_pushing, source) = encoder(&root);
    feed_some(&source, 0..10);
    let mut connection = stalled.accept();
    connection.set_up(&wms(204, "one"));
    until("the steady one has it", || packets(&steady) == 10);
    let player = Puller::of(steady.addr(), "concert");
    until("the player is there", || steady.stats("concert").unwrap().playing == 1);
    // 30 s of the stream, of which the packet buffer keeps 5.
    for from in (10..800).step_by(10) {
        feed_some(&source, from..from + 10);
        until("the steady one has it", || packets(&steady) == u64::from(from) + 10);
    }
    until("the stalled one misses some", || relays(&root)[0].dropped > 0);
    let [stalled, steady] = &relays(&root)[..] else { panic!() };
    assert!(stalled.behind <= Duration::from_secs(6), "{stalled:?}");
    assert_eq!((steady.packets, steady.dropped, steady.failures), (800, 0, 0));
    end(&source);
    root.stop();
    assert_eq!(player.end().numbers(STEP), numbers(0..800));
}

/// Checks the effects of a loop: the stream arrives everywhere once, and the server that closes the loop receives an
/// error.
fn assert_loop_is_found(servers: &[BlockingServer]) {
    let (first, last) = (&servers[0], servers.last().unwrap());
    let (_pushing, source) = encoder(first);
    feed_some(&source, 0..20);
    until("the loop is found", || relays(last)[0].last_error.is_some());
    let told = &relays(last)[0];
    let error = told.last_error.as_deref().unwrap();
    assert!(error.contains("508") && error.contains("relay loop") && error.contains("remove one `forward`"), "{error}");
    assert_eq!((told.state, told.packets), (State::Reconnecting, 0));
    feed_some(&source, 20..50);
    until("all have the stream", || servers.iter().all(|server| packets(server) == 50));
    for server in servers {
        assert_eq!(server.stats("concert").unwrap().sessions, 1);
    }
}

#[test]
fn a_loop_of_one() {
    let address = address();
    assert_loop_is_found(&[server_on(address, &point([to(&format!("http://{address}/concert"))]))]);
}

#[test]
fn a_loop_of_two() {
    let address = address();
    let second = server([to(&format!("http://{address}/concert"))]);
    let first = server_on(address, &point([to(&url(&second))]));
    assert_loop_is_found(&[first, second]);
}

#[test]
fn a_loop_of_three() {
    let address = address();
    let third = server([to(&format!("http://{address}/concert"))]);
    let second = server([to(&url(&third))]);
    let first = server_on(address, &point([to(&url(&second))]));
    assert_loop_is_found(&[first, second, third]);
}

/// A relay from one point to another of the same server is not a loop.
#[test]
fn two_points_of_one_server() {
    let address = address();
    let mut config = config(&point([to(&format!("http://{address}/copy"))]));
    config.points.insert("copy".to_owned(), PointConfig::default());
    let server = Server::spawn(Config { listen: address, ..config }).unwrap();
    let (_pushing, source) = encoder(&server);
    feed_some(&source, 0..20);
    until("the copy has it", || server.stats("copy").unwrap().packets == 20);
}

/// A loop that a reload creates is found too, and is still refused while the point's own encoder is disconnected.
#[test]
fn a_loop_that_a_reload_creates() {
    let address = address();
    // The encoder pushes to the second server, which pushes to the first. The first has no relay yet.
    let first = server_on(address, &point([]));
    let second = server([to(&url(&first))]);
    let (pushing, source) = encoder(&second);
    feed_some(&source, 0..20);
    until("the first has it", || packets(&first) == 20);
    first.reload(config(&point([to(&url(&second))]))).unwrap();
    until("busy, and a loop", || relays(&first)[0].last_error.as_deref().is_some_and(|error| error.contains("508")));
    // Without its encoder, the second server would accept any other push.
    pushing.sink.emit_by_name::<bool>("disconnect", &[&None::<&str>]);
    pushing.wait_for_status("closed");
    first
        .reload(config(&point([RelayConfig { retry_delay_max: Duration::from_millis(10), ..to(&url(&second)) }])))
        .unwrap();
    let failures = relays(&first)[0].failures;
    until("the relay is refused again", || relays(&first)[0].failures > failures + 3);
    assert_eq!(second.stats("concert").unwrap().sessions, 1);
}

/// The stream arrives on another path: the leaf learns the new path, which may reveal a loop, by a new session. This
/// session replaces the old one, whose stream has no `$E`.
#[test]
fn a_stream_that_arrives_on_another_path() {
    let leaf = Peer::new();
    let root = server([to(&leaf.location())]);
    let (pushing, source) = encoder(&root);
    feed_some(&source, 0..20);
    let mut first = leaf.accept();
    let setup = first.request();
    let direct = setup.header("Via").unwrap().to_owned();
    assert!(direct.starts_with("1.1 ") && direct.len() > 40 && !direct.contains(','), "{direct}");
    first.answer(&wms(204, "one"));
    assert_eq!(first.request().header("Via"), Some(&direct[..]));
    assert!(matches!(first.packet(), Some(Packet::Header(_))));
    pushing.sink.emit_by_name::<bool>("disconnect", &[&None::<&str>]);
    pushing.wait_for_status("closed");
    let by_relay = CONCERT.further("Via: 1.0 fred (a, b), 1.1 other\r\n");
    until("the other encoder is accepted", || Wire::to(root.addr()).setup(by_relay, "").status == 204);
    let setup = leaf.accept().request();
    assert!(setup.is_setup() && setup.push_id() == "0", "{setup:?}");
    assert_eq!(setup.header("Via"), Some(&format!("1.0 fred, 1.1 other, {direct}")[..]));
}

/// The password is `secret`.
const USERS: &str = "bob:push:0786f66609ee7d38256a25b55563aa64\n";

/// C-5: a leaf that requires Digest. A wrong password is reported without the password, and a reload corrects it at
/// once.
#[test]
fn c5_credentials() {
    let rights = AccessPolicy { schemes: vec![Scheme::Digest], ..AccessPolicy::new(USERS.parse().unwrap()) };
    let leaf = Server::spawn(Config { users: Some(rights), ..config(&PointConfig::default()) }).unwrap();
    let with = |login: &str| RelayConfig::to(&url(&leaf).replace("http://", &format!("http://{login}@"))).unwrap();
    let root = server([with("bob:wrongpw")]);
    let (_pushing, source) = encoder(&root);
    feed_some(&source, 0..20);
    until("the relay is refused", || relays(&root)[0].last_error.is_some());
    let told = format!("{:?}", relays(&root));
    assert!(told.contains("401") && !told.contains("wrongpw"), "{told}");
    // Otherwise the relay would try again after 300 s.
    root.reload(config(&point([with("bob:secret")]))).unwrap();
    until("the relay is accepted", || packets(&leaf) == 20);
    assert_eq!(relays(&root)[0].state, State::Streaming);
}

/// C-5: a relay tries again in time after its password was refused and the leaf's users were corrected.
#[test]
fn c5_a_password_is_corrected_at_the_leaf() {
    let users = |text: &str| {
        let rights = AccessPolicy { schemes: vec![Scheme::Digest], ..AccessPolicy::new(text.parse().unwrap()) };
        Config { users: Some(rights), ..config(&PointConfig::default()) }
    };
    let leaf = Server::spawn(users(&USERS.replace("0786f6", "000000"))).unwrap();
    let root = server([to(&url(&leaf).replace("http://", "http://bob:secret@"))]);
    let (_pushing, source) = encoder(&root);
    feed_some(&source, 0..20);
    until("the relay is refused", || relays(&root)[0].last_error.is_some());
    leaf.reload(users(USERS)).unwrap();
    until("the relay is accepted", || packets(&leaf) == 20);
}

/// A reload adds and removes relays while the stream continues; a removed relay ends with `$E`.
#[test]
fn a_reload() {
    let (one, other) = (server([]), server([]));
    let root = server([to(&url(&one))]);
    let (_pushing, source) = encoder(&root);
    feed_some(&source, 0..20);
    until("the first leaf has it", || packets(&one) == 20);
    let player = Puller::of(one.addr(), "concert");
    until("the player is there", || one.stats("concert").unwrap().playing == 1);
    root.reload(config(&point([to(&url(&one)), to(&url(&other))]))).unwrap();
    until("the other leaf has it from the latest key frame on", || packets(&other) == 10);
    root.reload(config(&point([to(&url(&other))]))).unwrap();
    assert_eq!(player.end().letters, "HDE");
    feed_some(&source, 20..30);
    until("the other leaf continues", || packets(&other) == 20);
    let stats = one.stats("concert").unwrap();
    assert_eq!((stats.packets, stats.pushing), (20, false));
    assert_eq!(relays(&root).len(), 1);
}

/// A stopping server sends its remaining packets and the end, even to a slow leaf; an unavailable leaf does not delay
/// the stop.
#[test]
fn a_graceful_stop() {
    let leaf = Peer::with_small_buffer();
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("config.toml");
    let forward = format!("['{}', 'http://{}/concert']", leaf.location(), address());
    std::fs::write(&file, format!("[point.concert]\nkeep-time = '10m'\nforward = {forward}\n")).unwrap();
    let root = PointProgram::start_in(directory, &["--config", file.to_str().unwrap()]);
    let (pushing, source) =
        Pushing::with_feed_source(&format!("sync=false max-size-time=0 location={}", root.url("concert")));
    pushing.play();
    feed_some(&source, 0..1500);
    let mut connection = leaf.accept();
    connection.set_up(&wms(204, "one"));
    end(&source);
    pushing.wait_for_eos();
    let stopping = std::thread::spawn(move || root.stop());
    // Longer than a server needs that waits for nothing.
    std::thread::sleep(Duration::from_millis(500));
    let sent = connection.until_the_end();
    connection.answer(&wms(204, "one"));
    let data = sent.iter().filter(|packet| matches!(packet, Packet::Data(_))).count();
    assert_eq!((data, sent.last() == Some(&Packet::End(Hresult::OK))), (1500, true));
    assert!(stopping.join().unwrap().0.contains("packets=1500"));
}

/// A point created from a template relays to the point with its own name.
#[test]
fn s8_a_point_from_a_template() {
    let leaf = server([]);
    let live = RelayConfig {
        directives: wmhttp::headers::Directives { template: Some("/concert".to_owned()), auto_destroy: true },
        ..to(&format!("http://{}/", leaf.addr()))
    };
    let root = Server::spawn(Config::with_points(["live"], &point([live]))).unwrap();
    let location = format!("http://{}/hall/2", root.addr());
    let (pushing, source) =
        Pushing::with_feed_source(&format!("sync=false location={location} template-url=/live auto-destroy=true"));
    pushing.play();
    feed_some(&source, 0..20);
    until("the leaf has created the point", || leaf.stats("hall/2").is_some_and(|stats| stats.packets == 20));
    end(&source);
    pushing.wait_for_eos();
    until("the point is removed", || leaf.stats("hall/2").is_none());
}

/// The program with flags, a file and SIGHUP: it relays, and its output never contains a password, not even on errors.
#[test]
fn the_program_relays_and_keeps_its_secrets() {
    let rights = AccessPolicy { schemes: vec![Scheme::Digest], ..AccessPolicy::new(USERS.parse().unwrap()) };
    let leaf = Server::spawn(Config { users: Some(rights), ..config(&PointConfig::default()) }).unwrap();
    let with = |password: &str| format!("http://bob:{password}@{}/concert", leaf.addr());
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("config.toml");
    let arguments =
        ["--config", file.to_str().unwrap(), "--log", "trace", "--forward", &format!("copy={}", with("PASSWORD"))];
    let point = |password: &str| {
        format!("listen = '127.0.0.1:0'\n[point.copy]\n[point.concert]\nforward = '{}'\n", with(password))
    };
    std::fs::write(&file, point("PASSWORD")).unwrap();
    let program = PointProgram::start_in(directory, &arguments);
    let (pushing, source) = Pushing::with_feed_source(&format!("sync=false location={}", program.url("concert")));
    pushing.play();
    feed_some(&source, 0..20);
    until("the relay is refused", || program.log().contains("401"));
    let file = program.directory().join("config.toml");
    std::fs::write(&file, point("PASSWORD").replace("forward", "forwards")).unwrap();
    program.signal(Signal::SIGHUP);
    until("an unknown key is reported", || program.log().contains("unknown field `forwards`"));
    std::fs::write(&file, point("secret")).unwrap();
    program.signal(Signal::SIGHUP);
    until("the leaf has it", || packets(&leaf) == 20);
    end(&source);
    pushing.wait_for_eos();
    until("the end arrives too", || !leaf.stats("concert").unwrap().pushing);
    let log = program.log();
    assert!(log.contains("line 4") && log.contains("relay started"), "{log}");
    for secret in ["PASSWORD", "bob:secret"] {
        assert!(!log.contains(secret), "{}", log.lines().filter(|line| line.contains(secret)).collect::<String>());
    }
}
