//! Encoders in the field: their deviations from the protocol's documents, and their requirements.

use std::fs;

use tempfile::TempDir;
use test_support::media;
use test_support::pipeline::until;
use test_support::server_process::PointProgram;
use test_support::wire::{CONCERT, LONG, Push, Wire};

/// The password of both users is `secret`.
const USERS: &str = "bob:push:0786f66609ee7d38256a25b55563aa64\neve:push:1e353811dc7ee6da20d7e55c9da5a0b4\n";
const BOB: &str = "Authorization: Basic Ym9iOnNlY3JldA==\r\n";
const EVE: &str = "Authorization: Basic ZXZlOnNlY3JldA==\r\n";

/// Starts a server with these users.
fn program(users: &str) -> PointProgram {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("users");
    fs::write(&file, users).unwrap();
    let file = file.display().to_string();
    PointProgram::start_in(directory, &["--point", "concert", "--users", &file])
}

/// Sends a PushStart with a whole stream; returns the status of the response.
fn push(wire: &mut Wire, push: Push<'_>) -> u16 {
    let body = media::body(3);
    wire.send([push.start(body.len() as u64).into_bytes(), body].concat());
    wire.response().status
}

/// Windows Media Encoder authenticates at PushSetup, and sends PushStart on that connection with the push-id alone.
#[test]
fn s10_a_push_start_on_the_authenticated_connection_needs_no_authorization() {
    let program = program(USERS);
    let (mut wire, id) = Wire::set_up(program.address, CONCERT.further(BOB));
    assert_eq!(push(&mut wire, CONCERT.id(&id)), 204);
    let (_, log) = program.stop();
    let ended = log.lines().find(|line| line.contains("push session ended")).unwrap();
    assert!(ended.contains("user=\"bob\"") && ended.contains("packets=3"), "{log}");
}

/// S-10: on another connection the push-id alone is not sufficient, and a session belongs to the user that opened it.
#[test]
fn s10_a_session_belongs_to_its_user() {
    let program = program(USERS);
    let (mut wire, id) = Wire::set_up(program.address, CONCERT.further(BOB));
    assert_eq!(push(&mut Wire::to(program.address), CONCERT.id(&id)), 401);
    assert_eq!(push(&mut Wire::to(program.address), CONCERT.id(&id).further(EVE)), 403);
    assert_eq!(Wire::to(program.address).setup(CONCERT.id(&id).further(EVE), "").status, 403);
    // Eve's credentials on Bob's connection still identify Eve.
    assert_eq!(push(&mut wire, CONCERT.id(&id).further(EVE)), 403);
    assert_eq!(push(&mut Wire::to(program.address), CONCERT.id(&id).further(BOB)), 204);
}

/// S-10: a user that a reload removes cannot continue a push, not even on the same connection.
#[test]
fn s10_a_removed_user_is_challenged_again() {
    let program = program(USERS);
    let (mut wire, id) = Wire::set_up(program.address, CONCERT.further(BOB));
    fs::write(program.directory().join("users"), USERS.lines().last().unwrap()).unwrap();
    program.signal(nix::sys::signal::Signal::SIGHUP);
    until("the reload", || program.log().contains("configuration reloaded"));
    assert_eq!(push(&mut wire, CONCERT.id(&id)), 401);
}

/// H-2: some encoders parse the push-id as a number, some of them into a short buffer: the first ten digits suffice,
/// but only on the session's connection.
#[test]
fn h2_a_shortened_push_id_is_accepted() {
    let program = PointProgram::start(&["--point", "concert"]);
    let (mut wire, id) = Wire::set_up(program.address, CONCERT);
    assert!(id.bytes().all(|letter| letter.is_ascii_digit()), "{id}");
    let cut = id.get(..10).unwrap_or(&id);
    if cut != id {
        assert_eq!(push(&mut Wire::to(program.address), CONCERT.id(cut)), 412);
    }
    assert_eq!(push(&mut wire, CONCERT.id(cut)), 204);
}

/// S-6: user names beyond ASCII work with Digest and Basic: curl sends them in UTF-8.
#[cfg(feature = "interop")]
#[test]
fn s6_a_name_beyond_ascii_is_accepted() {
    use test_support::curl::Curl;

    // MD5 of `björn:push:secret` in UTF-8.
    let program = program("bj\u{f6}rn:push:a86e832af619bd803808fddaa9f5d66c\n");
    for scheme in ["--digest", "--basic"] {
        let user = "bj\u{f6}rn:secret";
        let outcome = Curl::new(&[scheme, "--user", user]).set_up(&program.url("concert"));
        assert_eq!(outcome.status, 204, "{scheme}: {outcome:?}");
        assert_eq!(Curl::new(&[scheme, "--user", "bj\u{f6}rn:Secret"]).set_up(&program.url("concert")).status, 401);
    }
}

/// C-2: a PushSetup without Content-Length has no body; a chunked one is refused with the missing header.
#[test]
fn c2_a_setup_without_content_length() {
    let program = PointProgram::start(&["--point", "concert"]);
    let setup = CONCERT.setup(0).replacen("Content-Length: 0\r\n", "", 1);
    let mut wire = Wire::to(program.address);
    wire.send(&setup);
    let response = wire.response();
    assert_eq!(response.status, 204, "{response:?}");
    assert_eq!(push(&mut wire, CONCERT.id(&response.push_id())), 204);
    let chunked = setup.replacen("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 1);
    let start = CONCERT.start(LONG).replacen("Content-Length: 2147483647\r\n", "", 1);
    for request in [chunked, start] {
        let mut wire = Wire::to(program.address);
        wire.send(&request);
        assert_eq!(wire.response().status, 411, "{request}");
    }
    let (_, log) = program.stop();
    assert_eq!(log.lines().filter(|line| line.contains("push refused") && line.contains("status=411")).count(), 2);
}

/// S-6: Windows Media Encoder requires the exact spelling `WWW-Authenticate`, and players may do so too.
#[test]
fn s6_challenges_are_written_as_windows_media_services_do() {
    let directory = TempDir::new().unwrap();
    let users = directory.path().join("users");
    fs::write(&users, USERS).unwrap();
    let config = format!("users = '{}'\n[point.concert]\nread = 'users'\n", users.display());
    let program = PointProgram::configured(&[], &config);
    let player = "GET /concert HTTP/1.0\r\nUser-Agent: NSPlayer/12.0\r\nPragma: xPlayStrm=1\r\n\r\n".to_owned();
    for request in [CONCERT.further("Connection: close\r\n").setup(0), player] {
        let answer = program.ask(&request);
        let names: Vec<_> = answer.lines().filter_map(|line| line.split_once(": ").map(|(name, _)| name)).collect();
        let written = names.iter().filter(|name| name.eq_ignore_ascii_case("www-authenticate"));
        assert_eq!(written.collect::<Vec<_>>(), [&"WWW-Authenticate"; 2], "{answer}");
    }
}

/// H-3, S-4: an encoder library whose User-Agent does not contain WMEncoder is refused, and the log has the client and
/// the reason.
#[test]
fn h3_another_user_agent_is_refused_and_logged() {
    let program = PointProgram::start(&["--point", "concert"]);
    let answer = Wire::to(program.address).setup(CONCERT.agent("NSWriter/9.0"), "");
    assert_eq!(answer.status, 200, "an ASX file");
    let (_, log) = program.stop();
    let line = log.lines().find(|line| line.contains("push refused")).unwrap();
    assert!(line.contains("user_agent=\"NSWriter/9.0\"") && line.contains("User-Agent"), "{log}");
    assert!(line.contains("path=\"/concert\"") && line.contains("address=127.0.0.1:"), "{log}");
}
