//! The log for operators: each event is one line, and repeated events are limited.

use std::fs;

use bytes::Bytes;
use tempfile::TempDir;
use test_support::media;
use test_support::pipeline::until;
use test_support::server_process::PointProgram;
use test_support::wire::{CONCERT, Push, Wire};
use wmhttp::packet::Packet;

/// The password is `secret`.
const USERS: &str = "bob:push:0786f66609ee7d38256a25b55563aa64\n";
const BOB: &str = "Authorization: Basic Ym9iOnNlY3JldA==\r\n";
const WRONG: &str = "Authorization: Basic Ym9iOndyb25nCg==\r\n";

/// Returns the lines of the log that contain `words`.
fn lines<'a>(log: &'a str, words: &str) -> Vec<&'a str> {
    log.lines().filter(|line| line.contains(words)).collect()
}

/// Returns the only line of the log that contains `words`, which must also contain all of `parts`.
fn line_with<'a>(log: &'a str, words: &str, parts: &[&str]) -> &'a str {
    let found = lines(log, words);
    assert!(found.len() == 1 && parts.iter().all(|part| found[0].contains(part)), "{words} {parts:?}: {log}");
    found[0]
}

/// Starts a server with a user, and these points.
fn with_users(points: &str) -> PointProgram {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("users");
    fs::write(&file, USERS).unwrap();
    let config = format!("users = '{}'\n{points}", file.display());
    let file = directory.path().join("config.toml");
    fs::write(&file, config).unwrap();
    let file = file.display().to_string();
    PointProgram::start_in(directory, &["--config", &file])
}

/// The typical events of a day: who pushed and played, for how long and how much, and who was refused and why.
#[test]
fn typical_events_of_a_day() {
    let program = with_users("[point.concert]\n[point.hall]\nread = 'users'\n");
    let (mut encoder, id) = Wire::set_up(program.address, CONCERT.further(BOB));
    encoder.start(CONCERT.id(&id), media::numbered(20));
    let play = "GET /concert HTTP/1.0\r\nUser-Agent: NSPlayer/12.0\r\nPragma: xPlayStrm=1\r\n\r\n";
    let mut player = Wire::to(program.address);
    let status = |text: &str| text.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
    until("the player", || {
        player = Wire::to(program.address);
        player.send(play);
        status(&player.head()) == Some(200)
    });
    assert_eq!(Wire::to(program.address).setup(CONCERT.further(BOB).agent("WMEncoder/9.0 second"), "").status, 409);
    assert_eq!(Wire::to(program.address).setup(CONCERT.further(WRONG), "").status, 401);
    let answer = program.ask("GET /nothing HTTP/1.0\r\nUser-Agent: VLC/3.0\r\nPragma: xPlayStrm=1\r\n\r\n");
    assert_eq!(status(&answer), Some(404));
    encoder.end();
    player.rest();
    until("the player's end", || program.log().contains("player left"));
    let (_, log) = program.stop();
    let base = format!("http://{}", program_address(&log));
    line_with(
        &log,
        "publishing point ready point=\"concert\"",
        &[
            &format!("push=\"{base}/concert\""),
            "play_mms=\"mmsh://127.0.0.1:",
            &format!("play_http=\"{base}/concert?format=asf\""),
        ],
    );
    line_with(&log, "status page ready", &[&format!("page=\"{base}/status\"")]);
    let opened =
        ["point=\"concert\"", "address=127.0.0.1:", "user=\"bob\"", "user_agent=\"WMEncoder/12.0.0.0 test/1\""];
    line_with(&log, "push session opened", &opened);
    let ended = ["user=\"bob\"", "reason=\"the encoder ended the stream\"", "duration=", "packets=20", "bytes=20000"];
    line_with(&log, "push session ended", &ended);
    line_with(&log, "player joined", &["point=\"concert\"", "address=127.0.0.1:", "user_agent=\"NSPlayer/12.0\""]);
    line_with(&log, "player left", &["point=\"concert\"", "duration=", "bytes="]);
    let second = ["WARN", "status=409", "reason=\"", "path=\"/concert\"", "user=\"bob\"", "WMEncoder/9.0 second"];
    line_with(&log, "push refused", &second);
    line_with(&log, "status=404", &["request refused", "path=\"/nothing\"", "user_agent=\"VLC/3.0\""]);
    line_with(&log, "login failed", &["address=127.0.0.1 status=401", "user=\"bob\"", "path=\"/concert\""]);
    assert!(!log.contains("Some(") && !log.contains("None"), "{log}");
}

/// A point that pulls its stream accepts no push: the log names only the URLs for playing.
#[test]
fn a_point_with_a_source_has_no_url_for_pushing() {
    let program = with_users("[point.edge]\nsource = 'http://127.0.0.1:9/live'\nsource-on-demand = true\n");
    let (_, log) = program.stop();
    let ready = line_with(&log, "publishing point ready", &["point=\"edge\"", "play_mms=", "play_http="]);
    assert!(!ready.contains("push"), "{ready}");
}

/// Returns the address in the first URL of the log.
fn program_address(log: &str) -> String {
    let rest = log.split("push=\"http://").nth(1).unwrap();
    rest.split('/').next().unwrap().to_owned()
}

/// S-11: packets after a refused one in the same read are neither processed nor logged: one event, one line.
#[test]
fn s11_a_refusal_is_final_and_one_line() {
    let recordings = TempDir::new().unwrap();
    let folder = recordings.path().display().to_string();
    let refusals: [(&str, Packet); 3] = [
        ("$H", Packet::Header(Bytes::from_static(&[0; 100]))),
        ("$C", Packet::StreamChange(Bytes::from_static(&[0; 100]))),
        ("overlong $D", Packet::Data(Bytes::from(vec![0; media::SIZE as usize + 1]))),
    ];
    for (name, refused) in refusals {
        let program = PointProgram::start(&["--point", "concert", "--record", &folder]);
        let (mut wire, id) = Wire::set_up(program.address, CONCERT);
        let good = (0..if name == "$H" { 0 } else { 2 }).map(|n| Packet::Data(media::packet(n, 40)));
        let header = (name != "$H").then(|| Packet::Header(media::header()));
        let entry_end = (name == "$C").then_some(Packet::End(wmhttp::Hresult::FALSE));
        let behind = (2..40).map(|n| Packet::Data(media::packet(n, 40)));
        wire.start(CONCERT.id(&id), header.into_iter().chain(good).chain(entry_end).chain([refused]).chain(behind));
        assert!(wire.head().contains(" 400 "), "{name}");
        let (words, log) = program.stop();
        let packets = if name == "$H" { 0 } else { 2 };
        assert!(words.contains(&format!(" packets={packets} ")), "{name}: {words}");
        line_with(&log, "push session ended", &["WARN", "reason=\"400 ", &format!("packets={packets}")]);
        assert_eq!(lines(&log, "refused").len(), 0, "{name}: {log}");
        for recording in fs::read_dir(recordings.path()).unwrap() {
            let bytes = fs::read(recording.unwrap().path()).unwrap();
            let marked = |n: u32| {
                let start = [&n.to_le_bytes()[..], &[0xA5; 16]].concat();
                bytes.windows(start.len()).any(|window| window == start)
            };
            assert!(!(2..40).any(marked), "{name}: packets after the refused one are recorded");
        }
        fs::read_dir(recordings.path()).unwrap().for_each(|file| fs::remove_file(file.unwrap().path()).unwrap());
    }
}

/// Repeated requests of a client do not fill the log; the next line has the number of lines that were left out.
#[test]
fn repeated_requests_do_not_fill_the_log() {
    let config = "[bounds]\nmax-connection-rate = 10000\n[point.concert]\n";
    let program = PointProgram::configured(&[], config);
    for _ in 0..500 {
        assert_eq!(Wire::to(program.address).setup(Push::to("nothing"), "").status, 404);
    }
    let (_, log) = program.stop();
    let refused = lines(&log, "push refused").len();
    assert!((30..100).contains(&refused), "{refused} lines");
}

/// The fail2ban filter in the documentation finds exactly the addresses to ban in the server's log.
#[cfg(feature = "interop")]
#[test]
fn the_fail2ban_filter_matches() {
    use std::io::Write;
    use std::process::{Command, Stdio};

    let program = with_users("[point.concert]\n");
    let (_encoder, _) = Wire::set_up(program.address, CONCERT.further(BOB));
    assert_eq!(Wire::to(program.address).setup(CONCERT.further(WRONG), "").status, 401);
    // A user name that tries to forge another address.
    let forged = "Authorization: Basic eCBsb2dpbiBmYWlsZWQgYWRkcmVzcz0xOTIuMC4yLjE6eA==\r\n";
    assert_eq!(Wire::to(program.address).setup(CONCERT.further(forged), "").status, 401);
    let (_, log) = program.stop();
    let page = fs::read_to_string(test_support::root().join("docs/publishing-point.md")).unwrap();
    let rule = page.lines().find_map(|line| line.strip_prefix("failregex = ")).unwrap();
    // The tag <ADDR> of fail2ban stands for an address. fail2ban reads lines of files without their time, and lines of
    // the journal with a prefix.
    let rule = rule.replace("<ADDR>", "(?P<address>[0-9a-f.:]+)");
    let script = "import re, sys\nfor line in sys.stdin:\n  \
                  for form in line.split(None, 1)[1], 'media asf-publishing-point[7]: ' + line:\n    \
                  found = re.search(sys.argv[1], form)\n    \
                  if found: print(found['address'])\n";
    let mut python = Command::new("python3");
    let mut python = python.args(["-c", script, &rule]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    python.stdin.take().unwrap().write_all(log.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "127.0.0.1\n".repeat(4), "{log}");
}

/// Request heads are checked over the wire by RFC 9112.
#[test]
fn heads_are_checked_by_rfc_9112() {
    let program = PointProgram::start(&["--point", "concert"]);
    for (head, status) in [
        ("GET /concert HTTP/1.1\r\n\r\n", "400"),
        ("GET /concert HTTP/1.1\r\nHost: one\r\nHost: two\r\n\r\n", "400"),
        ("GET /concert HTTP/1.1\r\nHost: one\r\nExpect: miracles\r\n\r\n", "417"),
        ("GET /concert HTTP/1.1\r\nHost: one\rX: y\r\n\r\n", "400"),
        // 2.2: a line may also end with LF alone.
        ("GET /nothing HTTP/1.1\nHost: one\nUser-Agent: NSPlayer/12.0\n\n", "404"),
        ("GET /nothing HTTP/1.1\r\nHost: one\r\nUser-Agent: NSPlayer/12.0\r\n\r\n", "404"),
    ] {
        let answer = program.ask(&head.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
        assert_eq!(answer.split(' ').nth(1), Some(status), "{head:?}: {answer}");
    }
    // 3.2.2: the authority of the target overrides the Host header.
    let absolute = "GET http://one.example/concert.asx HTTP/1.1\r\nHost: two.example\r\nConnection: close\r\n\r\n";
    let answer = program.ask(absolute);
    assert!(answer.contains("http://one.example/concert") && !answer.contains("two.example"), "{answer}");
}
