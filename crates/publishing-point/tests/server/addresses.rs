//! Limits per address and networks, over real sockets.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use asf_publishing_point::{BlockingServer, Config, Networks, PointConfig, Server, ServerLimits};
use socket2::SockRef;
use test_support::media;
use test_support::server_process::PointProgram;
use test_support::watched_push::begin_push;
use test_support::wire::{CONCERT, Push, Wire, play_request};
use wmhttp::packet::Packet;
use wmhttp::server::access::AccessPolicy;

const NEAR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(127, 66, 0, 1);
/// The password is `secret`.
const USERS: &str = "bob:push:0786f66609ee7d38256a25b55563aa64\n";
const RIGHT: &str = "Authorization: Basic Ym9iOnNlY3JldA==\r\n";
const WRONG: &str = "Authorization: Basic Ym9iOndyb25nCg==\r\n";

fn networks(text: &str) -> Option<Networks> {
    Some(text.parse().unwrap())
}

/// Starts a server that listens on both address families. Loopback addresses are limited too.
fn server(change: impl FnOnce(&mut Config)) -> BlockingServer {
    let mut config = Config {
        listen: "[::]:0".parse().unwrap(),
        bounds: ServerLimits { uncounted: Networks::default(), max_connection_rate: 1000, ..ServerLimits::default() },
        ..Config::with_points(["concert", "hall"], &PointConfig::default())
    };
    change(&mut config);
    Server::spawn(config).unwrap()
}

/// Returns the server's address for IPv4 clients, which then arrive with IPv4-mapped addresses.
fn v4(server: &BlockingServer) -> SocketAddr {
    (NEAR, server.addr().port()).into()
}

fn ask_over(mut stream: Wire, request: &str) -> (u16, String) {
    stream.send(request);
    let head = stream.head();
    // Close this side of connections that are still open.
    stream.close_writing();
    let status = head.split(' ').nth(1).unwrap_or_else(|| panic!("no answer to {request}")).parse().unwrap();
    let body = stream.rest_text();
    (status, format!("{head}{body}"))
}

fn ask(server: &BlockingServer, source: Ipv4Addr, request: &str) -> (u16, String) {
    ask_over(Wire::from(source, v4(server)), request)
}

fn setup(point: &str, further: &str) -> String {
    Push::to(point).further(further).setup(0)
}

/// Encoders are admitted by the networks of the server and of the point. An IPv4 client at an IPv6 socket is matched as
/// IPv4.
#[test]
fn encoders_need_an_allowed_network() {
    let server = server(|config| {
        config.allow_push = networks("127.0.0.0/24,127.66.0.0/24,::1");
        config.points.get_mut("hall").unwrap().allow_push = networks("127.66.0.1");
    });
    for (source, point, status) in [
        (NEAR, "concert", 204),
        (FAR, "hall", 204),
        (NEAR, "hall", 403),
        (Ipv4Addr::new(127, 67, 0, 1), "concert", 403),
    ] {
        let (got, answer) = ask(&server, source, &setup(point, ""));
        assert_eq!(got, status, "{source} at {point}: {answer}");
        assert!(answer.contains("Server: Cougar/"), "H-5, in a refusal too: {answer}");
        assert_eq!(got == 403, answer.contains("not in an allowed network"), "{answer}");
    }
    let v6 = Wire::to((Ipv6Addr::LOCALHOST, server.addr().port()).into());
    assert_eq!(ask_over(v6, &setup("hall", "")).0, 403);
    // Playing is not restricted.
    assert_eq!(ask(&server, Ipv4Addr::new(127, 67, 0, 1), &play_request("concert")).0, 503);
    server.stop();
}

/// Players and all other requests have separate networks.
#[test]
fn players_need_an_allowed_network() {
    let server = server(|config| {
        config.allow_play = networks("127.0.0.0/8");
        config.points.get_mut("hall").unwrap().allow_play = networks("");
    });
    let (_pusher, _) = begin_push(v4(&server), "concert");
    test_support::pipeline::until("a stream", || {
        ask(&server, FAR, "GET /concert HTTP/1.0\r\nUser-Agent: NSPlayer/9.0\r\n\r\n").0 == 200
    });
    let (status, answer) = ask(&server, FAR, &play_request("hall"));
    assert!(status == 403 && answer.contains("not in an allowed network"), "{answer}");
    let v6 = Wire::to((Ipv6Addr::LOCALHOST, server.addr().port()).into());
    assert_eq!(ask_over(v6, "GET /concert HTTP/1.0\r\n\r\n").0, 403);
    let (status, _) = ask(&server, NEAR, &setup("hall", ""));
    assert_eq!(status, 204, "a client that may not play may push");
    server.stop();
}

/// A point that does not exist yet has the networks of its template.
#[test]
fn a_new_point_has_the_networks_of_its_template() {
    let server = server(|config| config.points.get_mut("hall").unwrap().allow_push = networks("127.66.0.0/16"));
    let body = "Template-URL: \"/hall\"\r\nAutoDestroy: 1\r\n";
    let request = format!("{}{body}", Push::to("new").setup(body.len()));
    assert_eq!(ask(&server, NEAR, &request).0, 403);
    assert_eq!(ask(&server, FAR, &request).0, 204);
    assert_eq!(ask(&server, NEAR, &setup("new", "")).0, 403, "the point keeps them");
    server.stop();
}

/// A reload changes the networks for later requests.
#[test]
fn a_reload_changes_networks() {
    let program = PointProgram::configured(&[], "[point.concert]\n");
    let asked = || ask_over(Wire::from(FAR, program.address), &setup("concert", "")).0;
    assert_eq!(asked(), 204);
    program.reload("allow-push = ['10.0.0.0/8']\n[point.concert]\n");
    test_support::pipeline::until("the networks of the file", || asked() == 403);
}

/// After ten wrong passwords the credentials of the address are not checked. Other addresses, and requests without
/// credentials, are not affected.
#[test]
fn wrong_passwords_block_an_address() {
    let server = server(|config| {
        config.users = Some(AccessPolicy::new(USERS.parse().unwrap()));
        config.bounds.guess_window = Duration::from_secs(3600);
    });
    for _ in 0..10 {
        assert_eq!(ask(&server, FAR, &setup("concert", WRONG)).0, 401);
    }
    for guess in [WRONG, RIGHT] {
        let (status, answer) = ask(&server, FAR, &setup("concert", guess));
        assert_eq!(status, 429, "{answer}");
        let wait = answer.split("Retry-After: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap();
        assert!((300..=361).contains(&wait.parse::<u32>().unwrap()), "an hour for ten: {wait}");
        assert!(answer.contains("too many failed logins") && !answer.contains("WWW-Authenticate"), "{answer}");
    }
    assert_eq!(ask(&server, FAR, &setup("concert", "")).0, 401, "a request without credentials is not a failed login");
    assert_eq!(ask(&server, NEAR, &setup("concert", RIGHT)).0, 204);
    server.stop();
}

/// Failed logins of players count as those of encoders do.
#[test]
fn failed_logins_of_players_count_too() {
    let server = server(|config| {
        config.users = Some(AccessPolicy::new(USERS.parse().unwrap()));
        config.bounds.max_guesses = 2;
        for point in config.points.values_mut() {
            point.read = asf_publishing_point::config::Principals::Users;
        }
    });
    let play = |further: &str| format!("GET /concert HTTP/1.0\r\nPragma: xPlayStrm=1\r\n{further}\r\n");
    for _ in 0..2 {
        assert_eq!(ask(&server, FAR, &play(WRONG)).0, 401);
    }
    assert_eq!(ask(&server, FAR, &play(RIGHT)).0, 429);
    assert_eq!(ask(&server, NEAR, &play(RIGHT)).0, 503, "authorized, but there is no stream");
    server.stop();
}

/// A connection gets a limited number of challenges, because each costs a nonce, of which there are 1024.
#[test]
fn challenges_per_connection_are_limited() {
    let server = server(|config| config.users = Some(AccessPolicy::new(USERS.parse().unwrap())));
    let mut stream = Wire::from(FAR, v4(&server));
    // The requests are sent without waiting for responses.
    stream.send(setup("concert", "").repeat(100));
    let answers = stream.rest_text();
    assert_eq!(answers.matches("HTTP/1.1 401").count(), 8, "{answers:.500}");
    server.stop();
}

/// The number of players per address is limited. Other addresses are not affected, nor are later players of the
/// address.
#[test]
fn players_per_address_are_limited() {
    let server = server(|config| config.bounds.max_players_per_address = 2);
    let (mut pusher, _) = begin_push(v4(&server), "concert");
    pusher.packet(Packet::Data(media::packet(0, 40)));
    let play = |source| {
        let mut stream = Wire::from(source, v4(&server));
        stream.send(play_request("concert"));
        let head = stream.head();
        (stream, head)
    };
    test_support::pipeline::until("a stream", || {
        ask(&server, NEAR, "GET /concert HTTP/1.0\r\nUser-Agent: NSPlayer/9.0\r\n\r\n").0 == 200
    });
    let (one, other) = (play(FAR), play(FAR));
    assert!(one.1.contains(" 200 ") && other.1.contains(" 200 "), "{}{}", one.1, other.1);
    let (mut third, refusal) = play(FAR);
    assert!(refusal.contains(" 503 ") && refusal.contains("Retry-After: "), "{refusal}");
    assert!(third.rest_text().contains("too many players from your address"));
    assert!(play(NEAR).1.contains(" 200 "));
    // A player that disconnects no longer counts, even if it resets its connection.
    SockRef::from(&one.0.0).set_linger(Some(Duration::ZERO)).unwrap();
    drop(one);
    test_support::pipeline::until("a free place for another player", || play(FAR).1.contains(" 200 "));
    server.stop();
}

/// The log at the most verbose level contains no secrets.
#[test]
fn the_log_shows_no_secret() {
    let directory = tempfile::TempDir::new().unwrap();
    let users = directory.path().join("users");
    std::fs::write(&users, USERS).unwrap();
    let config = format!(
        "users = '{}'\n[bounds]\nuncounted = []\nmax-guesses = 3\n[point.concert]\nread = 'users'\n",
        users.display()
    );
    let program = PointProgram::configured(&["--log", "trace"], &config);
    let mut stream = Wire::from(NEAR, program.address);
    stream.send(CONCERT.further(RIGHT).setup(0));
    let answer = stream.head();
    let id = answer.split("push-id=").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap().to_owned();
    let body = media::body(5);
    let start = CONCERT.id(&id).further(RIGHT).start(body.len() as u64);
    stream.send([start.as_bytes(), &body].concat());
    assert!(stream.head().contains(" 204 "));
    let digest = "Authorization: Digest username=\"bob\", realm=\"push\", nonce=\"NONCENONCE\", uri=\"/concert\", \
                  response=\"RESPONSERESPONSE\"\r\n";
    for request in [
        setup("concert", WRONG),
        setup("concert", digest),
        setup("concert", "Authorization: Basic %%NOBASE64%%\r\n"),
        CONCERT.id("STOLENPUSHID").further(RIGHT).start(8),
        format!("GET http://bob:INTHEURL@media/concert?token=INTHEQUERY HTTP/1.1\r\nHost: media\r\n{WRONG}\r\n"),
        format!("GET /concert HTTP/1.1\r\nHost: media\r\nPragma: xPlayStrm=1\r\n{WRONG}\r\n"),
        "GET /concert HTTP/1.1\r\nAuthorization: Basic INABROKENHEAD\r\nX\0: y\r\n\r\n".to_owned(),
    ] {
        assert!((400..500).contains(&ask_over(Wire::from(NEAR, program.address), &request).0), "{request}");
    }
    let (_, log) = program.stop();
    for expected in ["push session opened", "login failed", "too many failed logins"] {
        assert!(log.contains(expected), "no line with {expected}:\n{log}");
    }
    for secret in [
        "Ym9i",
        "wrong\n",
        "secret",
        "0786f666",
        &id,
        "NONCENONCE",
        "RESPONSERESPONSE",
        "NOBASE64",
        "STOLENPUSHID",
        "INTHEURL",
        "INTHEQUERY",
        "INABROKENHEAD",
    ] {
        assert!(!log.contains(secret), "{secret}:\n{log}");
    }
}
