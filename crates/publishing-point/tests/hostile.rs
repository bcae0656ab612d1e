//! Attacks on a server on the Internet, and their effect on its players.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use test_support::pipeline::until;
use test_support::server_process::PointProgram;
use test_support::watched_push::WatchedPush;
use test_support::wire::{CONCERT, Push, Wire};

/// The address of the attacker, which differs from that of the players.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 66, 0, 1);
/// A gap may be this many times as long as the longest one before the attack.
const NOISE: u32 = 8;
/// Shorter gaps are noise on a machine that runs other programs too.
const MIN_GAP: Duration = Duration::from_millis(150);

/// Runs the tests one at a time, because each compares what players receive before and during an attack.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a server with limits for loopback addresses too. `bounds` are the limits of the attacker.
fn server(bounds: &str) -> PointProgram {
    let config = format!("[bounds]\nuncounted = ['127.0.0.1']\n{bounds}\n[point.concert]\n");
    PointProgram::configured(&["--log", "warn"], &config)
}

/// Starts players, runs an attack, and checks that the players are not affected.
fn served_throughout<T>(program: &PointProgram, attack: impl FnOnce(&WatchedPush) -> T) -> T {
    let push = WatchedPush::start(program.address, "concert", 4);
    let calm = Instant::now();
    let pushed = push.pushed();
    until("two seconds of calm", || push.pushed() > pushed + 400);
    let before = push.longest_gap(calm);
    let start = Instant::now();
    let outcome = attack(&push);
    let meanwhile = push.longest_gap(start);
    println!("longest gap of the players: {before:?} before, {meanwhile:?} meanwhile ({:?})", start.elapsed());
    assert!(meanwhile < before.max(MIN_GAP) * NOISE, "{meanwhile:?} after {before:?}");
    push.end();
    outcome
}

fn attacker(program: &PointProgram) -> Wire {
    Wire::from(ATTACKER, program.address)
}

/// Sends as much as possible; returns what was received until the server closed.
fn say(program: &PointProgram, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = attacker(program);
    // The server may close before the end.
    let _ = stream.try_send(bytes);
    stream.rest_text()
}

/// Many request heads and setup bodies that never end, with a byte now and then: each one times out as a whole.
#[test]
fn slow_requests_time_out_and_delay_nobody() {
    let _alone = alone();
    let program = server(
        "head-timeout = '2s'\nsetup-timeout = '2s'\nmax-connections-per-address = 1000\nmax-connection-rate = 1000",
    );
    served_throughout(&program, |_| {
        let mut slow: Vec<Wire> = (0..400).map(|_| attacker(&program)).collect();
        for (n, stream) in slow.iter_mut().enumerate() {
            // Half of them are in a head, half in the body of a PushSetup.
            let start =
                if n % 2 == 0 { "GET /concert HTTP/1.1\r\nX: ".to_owned() } else { Push::to("new").setup(8000) };
            stream.send(start);
            stream.0.set_nonblocking(true).unwrap();
        }
        // Bytes arrive more often than any timeout between bytes.
        until("all have timed out", || {
            slow.retain_mut(|stream| {
                let mut answer = [0; 1024];
                let closed = matches!(stream.0.read(&mut answer), Ok(0));
                !closed && stream.try_send(b"x").is_ok()
            });
            std::thread::sleep(Duration::from_millis(100));
            slow.is_empty()
        });
    });
    program.is_well();
}

/// Heads, bodies and codings of any size are limited.
#[test]
fn oversized_requests_are_refused_in_bounded_memory() {
    let _alone = alone();
    let program = server("max-connection-rate = 1000");
    let long = |line: &str, times: usize| format!("GET /concert HTTP/1.1\r\nHost: x\r\n{}\r\n", line.repeat(times));
    let setup = |further: &str| CONCERT.further(further).setup(0).replace("Content-Length: 0\r\n", "");
    let chunked = setup("Transfer-Encoding: chunked\r\n");
    let started = CONCERT.id("unknown").start(1 << 40);
    let bombs: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("a line without an end", vec![b'A'; 8 << 20], &["400", "414", "431", "closed"]),
        ("a long target", format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20)).into(), &["414", "431"]),
        ("100,000 lines", long("X-Y: z\r\n", 100_000).into(), &["431"]),
        ("101 lines", long("X-Y: z\r\n", 101).into(), &["431"]),
        ("one long line", long(&format!("X-Y: {}\r\n", "z".repeat(1 << 20)), 1).into(), &["431"]),
        (
            "a chunk extension without an end",
            [chunked.as_bytes(), b"1;x=", &vec![b'y'; 4 << 20]].concat(),
            &["400", "411", "413", "closed"],
        ),
        (
            "endless chunk extensions",
            [chunked.as_bytes(), &b"1;xxxxxxxx\r\na\r\n".repeat(300_000)].concat(),
            &["400", "411", "413", "closed"],
        ),
        (
            "endless trailers",
            [chunked.as_bytes(), b"0\r\n", &b"X-Y: z\r\n".repeat(300_000)].concat(),
            &["400", "411", "413", "closed"],
        ),
        ("a chunk of 2^64", [chunked.as_bytes(), b"FFFFFFFFFFFFFFFFF\r\n"].concat(), &["400", "411", "413", "closed"]),
        ("a long setup", [CONCERT.setup(1 << 30).as_bytes(), &vec![b'x'; 1 << 20]].concat(), &["413"]),
        ("an endless start of an unknown session", [started.as_bytes(), &vec![b'$'; 8 << 20]].concat(), &["412"]),
        ("a length of 2^64", CONCERT.setup(0).replace(": 0\r", ": 18446744073709551616\r").into(), &["400"]),
        ("a length of -1", CONCERT.setup(0).replace("Length: 0", "Length: -1").into(), &["400"]),
        ("two lengths", CONCERT.further("Content-Length: 5\r\n").setup(0).into(), &["400"]),
        ("NUL in a line", b"GET /concert HTTP/1.1\r\nX: a\0b\r\n\r\n".to_vec(), &["400"]),
        ("NUL in the target", b"GET /\0 HTTP/1.1\r\n\r\n".to_vec(), &["400"]),
        ("HTTP/0.9", b"GET /concert\r\n".to_vec(), &["400", "closed"]),
        (
            "the preface of HTTP/2",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
            &["400", "505", "closed"],
        ),
        ("a TLS hello", [&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..], &[7; 500]].concat(), &["400", "closed"]),
        ("a CONNECT", b"CONNECT other.example:443 HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), &["400", "404", "405"]),
    ];
    let before = program.resident();
    served_throughout(&program, |_| {
        for _ in 0..3 {
            for (name, bomb, expected) in &bombs {
                let answer = say(&program, bomb);
                let status = answer.split(' ').nth(1).filter(|_| answer.starts_with("HTTP/1.")).unwrap_or("closed");
                assert!(expected.contains(&status), "{name}: {status}, not of {expected:?}: {answer:.300}");
                assert!(answer.matches("HTTP/1.").count() <= 1, "{name}: {answer:.300}");
            }
        }
    });
    program.is_well();
    let after = program.resident();
    println!("resident: {before} KiB before, {after} KiB after");
    assert!(after < before + 32 * 1024, "memory of refused requests is kept: {before} KiB before, {after} KiB after");
}

/// A body that other servers may parse as a request is not a request here: if both lengths are given, there is one
/// request.
#[test]
fn a_request_smuggled_in_a_body_is_not_handled() {
    let _alone = alone();
    let program = server("");
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    for (lengths, body) in [
        ("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", format!("0\r\n\r\n{smuggled}")),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", format!("0\r\n\r\n{smuggled}")),
        ("Transfer-Encoding : chunked\r\nContent-Length: 5\r\n", format!("0\r\n\r\n{smuggled}")),
        ("Transfer-Encoding: chunked, identity\r\n", format!("0\r\n\r\n{smuggled}")),
        ("Transfer-Encoding: xchunked\r\n", format!("0\r\n\r\n{smuggled}")),
        ("Content-Length: 4\r\nContent-Length: 0\r\n", smuggled.to_owned()),
        ("Content-Length: 0, 4\r\n", smuggled.to_owned()),
        ("Content-Length: +0\r\n", smuggled.to_owned()),
    ] {
        let setup = CONCERT.further(lengths).setup(0).replacen("Content-Length: 0\r\n", "", 1);
        let answer = say(&program, format!("{setup}{body}"));
        assert!(answer.matches("HTTP/1.").count() <= 1, "{lengths}: {answer}");
        assert!(!answer.contains(" 404 ") && !answer.contains(" 204 "), "{lengths}: {answer}");
    }
}

/// Requests that are sent without waiting for responses cost the attacker, not the players.
#[test]
fn a_flood_of_requests_on_one_connection_delays_nobody() {
    let _alone = alone();
    let program = server("max-connection-rate = 1000");
    let before = program.resident();
    served_throughout(&program, |_| {
        // Players send OPTIONS to keep a connection alive, so each of these gets its response in turn.
        let options = "OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(5000);
        let answer = say(&program, format!("{options}OPTIONS / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
        assert_eq!(answer.matches("HTTP/1.").count(), 5001);
        let answer = say(&program, "GET /concert HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50_000));
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "the connection closes after the first response");
        // The point has a push, so each of these is refused and the connection closes.
        let answer = say(&program, CONCERT.setup(0).repeat(20_000));
        assert!(answer.starts_with("HTTP/1.1 409"), "{answer:.200}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1);
        for _ in 0..300 {
            say(&program, "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100));
        }
    });
    let after = program.resident();
    assert!(after < before + 32 * 1024, "{before} KiB before, {after} KiB after");
}

/// Ten thousand idle connections do not affect the players, and each needs little memory.
#[test]
fn ten_thousand_idle_connections() {
    const IDLE: usize = 10_000;
    let _alone = alone();
    let (_, maximum) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(
        maximum > IDLE as u64 + 500,
        "the system's limit of descriptors is too low for this test: ulimit -Hn 20000"
    );
    setrlimit(Resource::RLIMIT_NOFILE, maximum, maximum).unwrap();
    let config = format!(
        "[bounds]\nuncounted = ['127.0.0.0/8']\nmax-connections = {}\nhead-timeout = '10m'\n[point.concert]\n",
        IDLE + 100
    );
    let program = PointProgram::configured(&["--log", "warn"], &config);
    let before = program.resident();
    let idle = served_throughout(&program, |push| {
        let addresses = (0..IDLE).map(|n| Ipv4Addr::new(127, 66, 1, (n % 200 + 1) as u8));
        let mut idle: Vec<Wire> = addresses.map(|address| Wire::from(address, program.address)).collect();
        // Half of them have sent the start of a head.
        for stream in idle.iter_mut().step_by(2) {
            stream.send(b"GET /concert HTTP/1.1\r\n");
        }
        let pushed = push.pushed();
        until("two seconds with all of them", || push.pushed() > pushed + 400);
        idle
    });
    let each = (program.resident() - before) * 1024 / IDLE as u64;
    println!("{IDLE} idle connections: {each} bytes each, {} KiB in all", program.resident());
    assert!(each < 40_000, "an idle connection costs {each} bytes");
    program.is_well();
    drop(idle);
    program.is_well();
}

/// The number of connections per address is limited, and other addresses are not affected.
#[test]
fn connections_per_address_are_limited() {
    let _alone = alone();
    let program = server("max-connections-per-address = 5\nmax-connection-rate = 1000");
    let held: Vec<Wire> = (0..5).map(|_| attacker(&program)).collect();
    let request = b"OPTIONS / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(say(&program, request), "", "the sixth connection is closed at once");
    let mut other = Wire::from(Ipv4Addr::new(127, 66, 0, 2), program.address);
    other.send(request);
    assert!(other.rest_text().contains(" 200 "));
    drop(held);
    until("a free connection", || say(&program, request).contains(" 200 "));
}

/// The rate of new connections per address is limited.
#[test]
fn the_connection_rate_per_address_is_limited() {
    let _alone = alone();
    let program = server("max-connection-rate = 2");
    let start = Instant::now();
    let request = b"OPTIONS / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answered = (0..40).filter(|_| say(&program, request).contains(" 200 ")).count();
    // Six at once, and two per second.
    let most = 6 + 2 * start.elapsed().as_secs() as usize + 2;
    assert!((6..=most).contains(&answered), "{answered} in {:?}", start.elapsed());
    program.is_well();
}

/// An encoder that is too fast is slowed down, loses nothing, and its players receive everything.
#[test]
fn the_bit_rate_of_a_push_is_limited() {
    let _alone = alone();
    let config = "[point.concert]\n[point.loud]\nmax-bitrate = 1_000_000\n";
    let program = PointProgram::configured(&["--log", "warn"], config);
    served_throughout(&program, |_| {
        let (mut stream, _) = test_support::watched_push::begin_push(program.address, "loud");
        let start = Instant::now();
        let packet = wmhttp::packet::Packet::Data(test_support::media::packet(0, 5)).to_bytes().unwrap();
        let mut sent = 0;
        while start.elapsed() < Duration::from_secs(4) {
            stream.0.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            // A write that blocks times out.
            sent += stream.0.write(&packet.repeat(16)).unwrap_or(0);
        }
        // Five seconds' worth at once, one second's worth per second, and the kernel's buffers.
        let taken = 125_000 * (5 + start.elapsed().as_secs() as usize + 1);
        println!("{sent} bytes sent, {taken} allowed");
        assert!(sent < taken + 12_000_000, "{sent}");
    });
    let (_, log) = program.stop();
    assert!(log.contains("exceeds the point's `max-bitrate`") && log.contains("loud"), "{log}");
}

/// Names of points and templates cannot lead out of the directory of recordings.
#[test]
fn point_names_stay_in_the_directory_of_recordings() {
    let _alone = alone();
    let directory = tempfile::TempDir::new().unwrap();
    let inner = directory.path().join("a/b/recordings");
    let config = format!("max-points = 100\n[point.template]\nrecord = '{}'\n", inner.display());
    let program = PointProgram::configured(&["--log", "warn"], &config);
    let names = [
        "..%2f..%2fabove",
        "../../above",
        "%2e%2e/%2e%2e/above",
        "%2fetc%2fabove",
        "..%5c..%5cabove",
        "a%00b",
        "..",
        "%c0%ae%c0%ae%2fabove",
        "x%2f..%2f..%2f..%2fabove",
        "CON",
        &"long".repeat(500),
    ];
    let mut taken = 0;
    for name in names {
        let mut stream = Wire::from(Ipv4Addr::LOCALHOST, program.address);
        let body = "Template-URL: \"/template\"\r\nAutoDestroy: 1\r\n";
        let setup = Push::to(name).setup(body.len());
        stream.send(format!("{setup}{body}"));
        let answer = stream.head();
        let Some(id) = answer.split("push-id=").nth(1).and_then(|rest| rest.split("\r\n").next()) else { continue };
        let media = test_support::media::body(3);
        stream.send(Push::to(name).id(id).start(media.len() as u64));
        stream.send(&media);
        assert!(stream.head().contains(" 204 "), "{name}");
        taken += 1;
    }
    program.stop();
    assert!(taken > 5, "most names are accepted: {taken}");
    // There is nothing but the path to the recordings.
    let listed = |path: &std::path::Path| -> Vec<String> {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
        entries.map(|name| name.to_string_lossy().into_owned()).collect()
    };
    assert_eq!(listed(directory.path()), ["a"]);
    assert_eq!(listed(&directory.path().join("a")), ["b"]);
    assert_eq!(listed(&directory.path().join("a/b")), ["recordings"]);
    let files = listed(&inner);
    assert!(files.len() >= taken && files.iter().all(|file| file.ends_with(".asf")), "{files:?}");
    let etc = std::fs::read_dir("/etc").unwrap();
    assert!(!etc.flatten().any(|entry| entry.file_name().to_string_lossy().contains("above")));
}
