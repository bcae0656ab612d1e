//! Faulty origins: each needs few resources, and the status and the metrics show what is wrong.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use asf_publishing_point::SourceConfig;
use test_support::media;
use test_support::pipeline::until;
use test_support::server_fixture::FFMPEG_PLAY;
use test_support::server_process::PointProgram;
use test_support::wire::{Wire, play_request};

use crate::pulls::{encoder, feed_some, until_pulled};

use crate::support::*;

/// A server that handles each connection with the script of a test, after reading its request.
struct Origin {
    address: SocketAddr,
    connections: Arc<AtomicU64>,
}

impl Origin {
    fn new(script: impl Fn(&mut TcpStream, &str) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, connections) = (listener.local_addr().unwrap(), Arc::<AtomicU64>::default());
        let (counter, script) = (Arc::clone(&connections), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming() {
                counter.fetch_add(1, Ordering::Relaxed);
                let (mut stream, script) = (stream.unwrap(), Arc::clone(&script));
                thread::spawn(move || {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let mut byte = [0];
                        if stream.read(&mut byte).unwrap_or(0) == 0 {
                            return;
                        }
                        head.push(byte[0]);
                    }
                    script(&mut stream, &String::from_utf8_lossy(&head));
                });
            }
        });
        Self { address, connections }
    }

    fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

fn framed(letter: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len() + 8).unwrap().to_le_bytes();
    [&[b'$', letter], &len[..], &[0, 0, 0, 0, 0, 0x0c], &len[..], payload].concat()
}

const OK: &[u8] = b"HTTP/1.0 200 OK\r\nServer: Rex/9.0\r\n\r\n";

/// Answers a request as a working origin does, up to the header.
fn begin(stream: &mut TcpStream) {
    let _ = stream.write_all(&[OK, &framed(b'H', &media::header())].concat());
}

/// Waits until the edge has closed the connection.
fn until_left(stream: &mut TcpStream) {
    while stream.read(&mut [0; 64]).is_ok_and(|len| len > 0) {}
}

fn quick(source: SourceConfig) -> SourceConfig {
    SourceConfig { timeout: Duration::from_secs(3), retry_delay_max: Duration::from_secs(3600), ..source }
}

/// The behaviour of an origin, the kind of the failure, and a part of its message.
#[test]
fn each_faulty_origin_is_reported() {
    type Script = fn(&mut TcpStream, &str);
    let cases: &[(&str, &str, Script)] = &[
        ("stalled", "did not answer within 3 s", |stream, _| until_left(stream)),
        ("stalled", "sent no header within 3 s", |stream, _| {
            let _ = stream.write_all(OK);
            until_left(stream);
        }),
        ("stalled", "sent no packet for 3 s", |stream, _| {
            begin(stream);
            until_left(stream);
        }),
        ("malformed", "is not an ASF stream", |stream, _| {
            let _ = stream.write_all(&[OK, &[b'x'; 1000]].concat());
        }),
        ("malformed", "answered with text/html, not a stream", |stream, _| {
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html></html>");
        }),
        ("malformed", "a data packet of 1001 bytes; the packet size in its header is 1000", |stream, head| {
            begin(stream);
            if head.contains("xPlayStrm=1") {
                let _ = stream.write_all(&framed(b'D', &[1; 1001]));
            }
            until_left(stream);
        }),
        ("malformed", "its header claims a size of", |stream, _| {
            let mut header = media::header().to_vec();
            header[16..24].copy_from_slice(&(1_u64 << 40).to_le_bytes());
            let _ = stream.write_all(&[OK, &framed(b'H', &header)].concat());
        }),
        ("lost", "the origin closed the connection: ", |_, _| {}),
        ("lost", "closed the connection before the end of the stream", |stream, _| begin(stream)),
        ("redirect", "redirect loop", |stream, _| {
            let _ = stream.write_all(b"HTTP/1.0 302 Found\r\nLocation: /concert\r\n\r\n");
        }),
        ("unauthorized", "Set `user` and `password-file`", |stream, _| {
            let _ = stream.write_all(b"HTTP/1.0 401 No\r\nWWW-Authenticate: Digest realm=\"x\", nonce=\"y\"\r\n\r\n");
        }),
        ("refused", "the origin answered 403", |stream, _| {
            let _ = stream.write_all(b"HTTP/1.0 403 No\r\n\r\n");
        }),
        ("no-stream", "the origin answered 404", |stream, _| {
            let _ = stream.write_all(b"HTTP/1.0 404 No\r\n\r\n");
        }),
        ("loop", "Remove one `source` or `forward`", |stream, head| {
            let via =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("via: ").map(str::to_owned)).unwrap();
            let _ = stream.write_all(format!("HTTP/1.0 200 OK\r\nVia: {via}, 1.1 other\r\n\r\n").as_bytes());
        }),
    ];
    let edges: Vec<_> = cases
        .iter()
        .map(|(_, _, script)| {
            let origin = Origin::new(*script);
            (server(quick(source(origin.address))), origin)
        })
        .collect();
    for ((kind, words, _), (edge, _)) in cases.iter().zip(&edges) {
        until(words, || failures(edge, kind) > 0);
        let error = last_error(edge);
        assert!(error.contains(words), "{kind}: {error}");
        let metrics = get(edge.addr(), "/metrics");
        let metrics = String::from_utf8(metrics.body).unwrap();
        let line = format!(
            "asf_source_failures_total{{point=\"concert\",location=\"{}\",kind=\"{kind}\"}}",
            status(edge)["location"].as_str().unwrap()
        );
        assert!(metrics.lines().any(|text| text.starts_with(&line) && !text.ends_with(" 0")), "{line}: {metrics}");
        assert!(point(edge)["errors"].to_string().contains("source failed"), "{}", point(edge)["errors"]);
    }
}

/// An origin that closes at once, or after each first packet, is tried with growing delays.
#[test]
fn an_origin_that_closes_is_not_tried_without_a_pause() {
    let closes = Origin::new(|_, _| {});
    let after_a_packet = Origin::new(|stream, head| {
        begin(stream);
        if head.contains("xPlayStrm=1") {
            let _ = stream.write_all(&framed(b'D', &media::packet(0, 40)));
        }
    });
    let begun = Instant::now();
    let edges = [&closes, &after_a_packet].map(|origin| {
        let source = SourceConfig::at(&format!("http://{}/concert", origin.address)).unwrap();
        server(source)
    });
    until("three attempts failed", || edges.iter().all(|edge| failures(edge, "lost") >= 3));
    // Delays of 1 s and 1.5 s, minus up to a fifth. The first retry of the second origin is immediate, and each attempt
    // there is two requests.
    assert!(begun.elapsed() >= Duration::from_millis(1600), "{:?}", begun.elapsed());
    let allowed = 4 + begun.elapsed().as_secs();
    assert!(closes.connections() <= allowed, "{}", closes.connections());
    assert!(after_a_packet.connections() <= 2 * (allowed + 1), "{}", after_a_packet.connections());
}

/// Players of an origin that stalls get a response in time, and leave no state behind.
#[test]
fn players_do_not_wait_for_a_stalled_origin() {
    let origin = Origin::new(|stream, _| until_left(stream));
    let edge = server(on_demand(quick(source(origin.address))));
    let mut players: Vec<Wire> = (0..50)
        .map(|_| {
            let mut wire = Wire::to(edge.addr());
            wire.send(FFMPEG_PLAY);
            wire
        })
        .collect();
    for wire in &mut players {
        let response = wire.response();
        assert_eq!(response.status, 503, "{}", response.head);
        assert!(response.header("Retry-After").is_some(), "{}", response.head);
    }
    // One pull for all of them, or two if some of them arrived after the first had failed.
    assert!(origin.connections() <= 2, "{}", origin.connections());
    assert_eq!(status(&edge)["players_waiting"], 0);
}

/// A packet that never ends, although its bytes keep arriving, counts as a pause.
#[test]
fn an_endless_packet_does_not_keep_the_connection() {
    let origin = Origin::new(|stream, head| {
        begin(stream);
        if head.contains("xPlayStrm=1") {
            let _ = stream.write_all(b"$D\xff\xff");
            while stream.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(50));
            }
        }
        until_left(stream);
    });
    let edge = server(quick(source(origin.address)));
    until("the origin counts as stalled", || failures(&edge, "stalled") == 1);
}

/// Each failure is one line in the log, with the point, what happened, and what to do.
#[test]
fn each_failure_is_one_line_in_the_log() {
    type Script = fn(&mut TcpStream, &str);
    let cases: [(&str, &str, Script); 3] = [
        ("garbage", "Check that `source` is the URL", |stream, _| {
            let _ = stream.write_all(&[OK, &[b'x'; 1000]].concat());
        }),
        ("closed", "Check the network and the origin's log", |_, _| {}),
        ("redirected", "Correct the redirect", |stream, head| {
            let path = head.split(' ').nth(1).unwrap();
            let _ = stream.write_all(format!("HTTP/1.0 302 Found\r\nLocation: {path}\r\n\r\n").as_bytes());
        }),
    ];
    let origins = cases.map(|(_, _, script)| Origin::new(script));
    let mut config = String::new();
    for ((name, _, _), origin) in cases.iter().zip(&origins) {
        writeln!(config, "[point.{name}]\nsource = 'http://{}/{name}'", origin.address).unwrap();
    }
    let edge = PointProgram::configured(&[], &config);
    let failures = |name: &str| -> u64 {
        let status: serde_json::Value =
            serde_json::from_slice(&get(edge.address, &format!("/api/v1/points/{name}")).body).unwrap();
        status["source"]["failures"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum()
    };
    for (name, remedy, _) in cases {
        let of_point = format!("point=\"{name}\"");
        // A redirect to itself is not asked for again soon.
        let expected = if name == "redirected" { 1 } else { 2 };
        until("it has failed", || failures(name) >= expected);
        // A failure in between has its line before it is counted.
        let (mut counted, mut lines) = (0, Vec::new());
        until("as many lines as failures", || {
            counted = failures(name);
            let log = edge.log();
            lines = log
                .lines()
                .filter(|line| line.contains(" WARN ") && line.contains(&of_point))
                .map(str::to_owned)
                .collect();
            lines.len() as u64 == counted
        });
        for line in lines {
            assert!(line.contains("source failed") && line.contains(remedy), "{line}");
        }
    }
}

/// An edge without a free file descriptor: it logs that once, does not spin, and serves again when it has some.
#[test]
fn an_edge_out_of_descriptors() {
    let root = server(None);
    let (_pushing, fed) = encoder(&root);
    feed_some(&fed, 0..20);
    until_pulled(&root, 20);
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config");
    let text = format!(
        "[bounds]\nuncounted = ['127.0.0.1']\n[point.concert]\nsource = 'http://{}/concert'\nsource-on-demand = true\n",
        root.addr()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("prlimit");
    command.arg("--nofile=40").arg(test_support::server_program()).arg("--config").arg(&config);
    let edge = PointProgram::spawn(&mut command, directory);
    assert!(edge.log().contains("limit of file descriptors is too low for the configured number"), "{}", edge.log());
    // More connections than the edge has descriptors for: some wait until it accepts them.
    let begun = Instant::now();
    let mut players: Vec<Wire> = (0..60).map(|_| Wire::to(edge.address)).collect();
    let lines = || edge.log().matches("cannot accept connections").count();
    until("the edge has no descriptors left", || lines() == 1);
    assert!(edge.log().contains("Raise the limit of file descriptors"), "{}", edge.log());
    // No descriptor is left for the connection to the origin either.
    players[0].send(FFMPEG_PLAY);
    let response = players[0].response();
    assert_eq!(response.status, 503, "{}", response.head);
    assert!(response.header("Retry-After").is_some(), "{}", response.head);
    until("the failure is logged", || {
        edge.log().contains("source failed") && edge.log().contains("Raise the limits of file descriptors and threads")
    });
    assert_eq!(root.stats("concert").unwrap().players, 0);
    // The edge keeps trying meanwhile, ten times per second.
    thread::sleep(Duration::from_millis(500));
    // Clients that disconnect free their descriptors.
    players.truncate(10);
    let mut player = Wire::to(edge.address);
    until("a player has the stream", || {
        player = Wire::to(edge.address);
        player.send(play_request("concert"));
        player.head().contains(" 200 OK")
    });
    assert_eq!((player.pulled().0, player.pulled().0), ('H', 'D'));
    assert_eq!(lines(), 1, "{}", edge.log());
    let status: serde_json::Value = serde_json::from_slice(&get(edge.address, "/api/v1/status").body).unwrap();
    let failures = status["accept_failures"].as_u64().unwrap();
    assert!((1..=2 + begun.elapsed().as_millis() / 100).contains(&failures.into()), "{failures}");
    let metrics = get(edge.address, "/metrics");
    let metrics = String::from_utf8(metrics.body).unwrap();
    assert!(metrics.contains("\nasf_server_accept_failures_total "), "{metrics}");
}
