//! Authorization of pushes, and redirects: the server program, curl and plain sockets.

use std::fs;
use std::process::Command;
use std::time::Duration;

use asf_publishing_point::{BlockingServer, Config, PointConfig, Server};
use gst::prelude::*;
use tempfile::TempDir;
use test_support::media;
use test_support::pipeline::{Pushing, end, push_bytes, until};
use test_support::server_process::PointProgram;
use test_support::wire::{CONCERT, Push, Wire};
use wmhttp::server::access::{AccessPolicy, Scheme};

#[cfg(feature = "interop")]
mod interop;

/// The password is `secret`.
const MD5: &str = "bob:push:0786f66609ee7d38256a25b55563aa64\n";
const SHA256: &str = "bob:push:dbd3e616330a8d2327c01b5dea58f97d26d447f2546fc7d00d86db4d1ecb94aa\n";

/// Starts a server with this users file, whose users may push to the point `concert`, and these further arguments.
fn program(users: &str, arguments: &[&str]) -> PointProgram {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("users");
    fs::write(&file, users).unwrap();
    let file = file.display().to_string();
    PointProgram::start_in(
        directory,
        &[&["--point", "concert", "--log", "trace", "--users", &file], arguments].concat(),
    )
}

/// S-10: a PushStart without credentials is answered before its body arrives. The connection stays open ([MS-WMHTTP]
/// 3.2.5.2): after the body, the next request on it is answered.
#[test]
fn s10_a_push_start_is_refused_at_once() {
    let program = program(MD5, &[]);
    let body = media::body(3);
    let mut wire = Wire::to(program.address);
    wire.send(CONCERT.start(body.len() as u64));
    let answer = wire.response().head;
    assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n") && !answer.contains("Connection: close"), "{answer}");
    assert_eq!(answer.matches("\r\nWWW-Authenticate: ").count(), 2, "{answer}");
    wire.send(&body);
    let basic = format!("Authorization: Basic {}\r\n", "Ym9iOnNlY3JldA==");
    assert_eq!(wire.setup(CONCERT.further(&basic), "").status, 204);
}

/// S-6, H-4: the challenges match the schemes that the client lists. Players need no authentication.
#[test]
fn s6_h4_challenges_match_the_listed_schemes() {
    let program = program(MD5, &[]);
    for (listed, digest, basic) in
        [("Negotiate, NTLM, Digest", true, false), ("Basic", false, true), ("NTLM", true, true)]
    {
        let further = format!("X-Accept-Authentication: {listed}\r\nConnection: close\r\n");
        let answer = program.ask(&CONCERT.further(&further).setup(0));
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        let challenged = |scheme| answer.contains(&format!("\r\nWWW-Authenticate: {scheme} realm=\"push\""));
        assert_eq!((challenged("Digest"), challenged("Basic")), (digest, basic), "{answer}");
    }
    let player = program.ask("GET /concert HTTP/1.0\r\nUser-Agent: NSPlayer/12.0\r\n\r\n");
    assert!(player.starts_with("HTTP/1.0 503 "), "there is no push: {player}");
}

/// S-5: redirected clients need no password, and players follow the redirect of a moved point.
#[test]
fn s5_redirects_by_configuration() {
    let redirects = ["--redirect", "concert=http://127.0.0.1:9/x", "--proxy-redirect", "hall=http://127.0.0.1:3128"];
    let program = program(MD5, &redirects);
    let answer = program.ask(&CONCERT.setup(0));
    assert!(answer.starts_with("HTTP/1.1 302 "), "{answer}");
    assert!(answer.contains("\r\nLocation: http://127.0.0.1:9/x\r\n") && answer.contains("\r\nConnection: close\r\n"));
    let answer = program.ask(&Push::to("hall").setup(0));
    assert!(answer.starts_with("HTTP/1.1 305 ") && answer.contains("\r\nLocation: http://127.0.0.1:3128/\r\n"));
    for pragma in ["no-cache", "xPlayStrm=1"] {
        let player =
            program.ask(&format!("GET /concert HTTP/1.0\r\nUser-Agent: NSPlayer/12.0\r\nPragma: {pragma}\r\n\r\n"));
        assert!(player.starts_with("HTTP/1.0 302 Found\r\n"), "{player}");
        assert!(player.contains("\r\nLocation: http://127.0.0.1:9/x\r\n"), "{player}");
    }
    let player = program.ask("GET /hall HTTP/1.0\r\nUser-Agent: NSPlayer/12.0\r\n\r\n");
    assert!(player.starts_with("HTTP/1.0 503 "), "{player}");
}

/// Invalid arguments are reported at the start, with the cause.
#[test]
fn bad_arguments_are_refused() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("users");
    fs::write(&file, "bob:push:secret\n").unwrap();
    let file = file.display().to_string();
    let good = directory.path().join("good");
    fs::write(&good, MD5).unwrap();
    let good = good.display().to_string();
    for (arguments, cause) in [
        (vec!["--users", "/no/such/file"], "cannot read /no/such/file: No such file or directory (os error 2)\n"),
        (vec!["--users", "no-such-file"], "Relative paths start at the working directory, /"),
        (vec!["--users", &file], "line 1 is not user:realm:hash"),
        (vec!["--auth", "digest"], "--users"),
        (vec!["--users", &good, "--auth", "ntlm"], "`digest` and `basic`"),
        (vec!["--redirect", "concert"], "expected POINT=VALUE"),
        (vec!["--redirect", "concert=elsewhere"], "not a URL"),
        (vec!["--redirect", "concert=http:///concert"], "no host"),
        (vec!["--proxy-redirect", "concert=ftp://host/"], "neither with http: nor with https:"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_asf-publishing-point")).args(&arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(cause), "{arguments:?}: {said}");
    }
}

/// Returns a server in this process with the password `secret` and this lifetime of nonces.
fn server(nonce_lifetime: Duration, schemes: &[Scheme], users: &str) -> BlockingServer {
    let rights =
        AccessPolicy { schemes: schemes.to_vec(), nonce_lifetime, ..AccessPolicy::new(users.parse().unwrap()) };
    Server::spawn(Config { users: Some(rights), ..Config::with_points(["concert"], &PointConfig::default()) }).unwrap()
}

fn pushing(server: &BlockingServer, properties: &str) -> (Pushing, gst::Element) {
    let location = format!("location=http://{}/concert", server.addr());
    let (pushing, source) = Pushing::with_feed_source(&format!("{location} sync=false {properties}"));
    pushing.sink.set_property("user-id", "bob");
    pushing.sink.set_property("user-pw", "secret");
    pushing.play();
    (pushing, source)
}

/// S-6, C-13: client and server authenticate with each scheme over several PushStarts, with one challenge in total.
#[test]
fn s6_c13_the_element_authenticates() {
    for (users, schemes, scheme) in [
        (MD5.to_owned(), &[Scheme::Digest, Scheme::Basic][..], "Digest"),
        (SHA256.to_owned(), &[Scheme::Basic, Scheme::Digest], "Digest"),
        (format!("{MD5}{SHA256}"), &[Scheme::Digest], "Digest"),
        (MD5.to_owned(), &[Scheme::Basic], "Basic"),
    ] {
        let server = server(Duration::from_secs(300), schemes, &users);
        let (pushing, source) = pushing(&server, "content-length=20000 auth-methods=basic+digest");
        push_bytes(&source, media::stream(200, 40));
        end(&source);
        pushing.wait_for_eos();
        let stats = pushing.destination_stats();
        assert_eq!(stats.get::<&str>("auth-scheme"), Ok(scheme));
        let rollovers = stats.get::<u64>("rollovers").unwrap();
        // Two PushSetups, and the first PushStart.
        assert_eq!((rollovers > 5, stats.get::<u64>("requests-sent")), (true, Ok(rollovers + 3)), "{stats}");
        let received = server.stats("concert").unwrap();
        assert_eq!((received.packets, received.sessions, received.headers), (200, 1, 1));
    }
}

/// C-13, S-10: a nonce expires between two PushStarts: the element uses the next one, and nothing is lost.
#[test]
fn c13_s10_a_nonce_expires() {
    let lifetime = Duration::from_secs(1);
    let server = server(lifetime, &[Scheme::Digest], MD5);
    let (pushing, source) = pushing(&server, "content-length=20000 retry-delay=10");
    push_bytes(&source, media::stream(10, 40));
    until("the push flows", || server.stats("concert").unwrap().packets == 10);
    std::thread::sleep(lifetime);
    push_bytes(&source, (10..100).flat_map(|n| media::packet(n, 40)).collect::<Vec<u8>>());
    end(&source);
    pushing.wait_for_eos();
    let received = server.stats("concert").unwrap();
    assert_eq!((received.packets, received.sessions, received.headers), (100, 1, 1));
    let stats = pushing.destination_stats();
    assert_eq!(stats.get::<u64>("packets-dropped"), Ok(0));
    // Two PushSetups, the first PushStart, and the PushStart that was refused.
    let rollovers = stats.get::<u64>("rollovers").unwrap();
    assert_eq!(stats.get::<u64>("requests-sent"), Ok(rollovers + 4), "{stats}");
}

/// The element does not retry for ever at a server whose nonces expire at once.
#[test]
fn a_nonce_that_is_always_expired_ends_the_push() {
    let server = server(Duration::ZERO, &[Scheme::Digest], MD5);
    let (pushing, source) = pushing(&server, "");
    push_bytes(&source, media::stream(10, 40));
    let (error, details) = pushing.wait_for_error();
    assert!(error.matches(gst::ResourceError::NotAuthorized), "{error:?} {details}");
    let requests = pushing.destination_stats().get::<u64>("requests-sent").unwrap();
    assert!(requests < 10, "{requests}");
}
