//! The server over real sockets: pushes byte by byte, and recordings. The tests of players are in the directory
//! `playback`.
//!
//! Ids such as `S-9` are the rules of [MS-WMHTTP] 3.2. Timeouts here only end a test that fails.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use asf_publishing_point::{BlockingServer, PointConfig};
use bytes::Bytes;
use test_support::pipeline::until;
use test_support::server_fixture::*;
use test_support::wire::{CONCERT, Push, Wire};
use wmhttp::Hresult;
use wmhttp::packet::Packet;
use wmhttp::server::Policy;

#[cfg(feature = "interop")]
mod interop;

/// Exceeded only if a test fails.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

// ---- pushes ----

/// S-9, S-12, S-13: an exchange from PushSetup to `$E`, over two PushStarts of one connection.
#[test]
fn s9_s12_s13_a_whole_session() {
    let server = server();
    let mut wire = Wire::to(server.addr());
    let setup = wire.setup(Push::to("CONCERT"), "");
    assert_eq!(setup.status, 204, "{setup:?}");
    assert!(setup.header("Server").unwrap().starts_with("Cougar/"));
    assert_eq!(setup.header("Pragma"), Some("no-cache, timeout=60000"));
    assert_eq!(setup.header("Cache-Control"), Some("no-cache"));
    let id = setup.push_id();
    assert!(id.parse::<u64>().is_ok_and(|id| id != 0), "{id}");

    let body = [Packet::Header(header()), Packet::Data(stripped(0)), Packet::Filler(7)];
    let body: Vec<u8> = body.into_iter().flat_map(|packet| packet.to_bytes().unwrap()).collect();
    wire.send(CONCERT.id(&id).start(body.len() as u64));
    wire.send(&body);
    let first = wire.response();
    assert_eq!((first.status, first.header("Connection")), (204, None), "{first:?}");

    wire.start(CONCERT.id(&id), []);
    wire.packet(Packet::Data(stripped(1)));
    wire.packet(Packet::End(Hresult::OK));
    let last = wire.response();
    assert_eq!((last.status, last.header("Connection")), (204, Some("close")), "{last:?}");
    assert!(wire.is_closed());
    until("the end", || !server.stats("concert").unwrap().pushing);
    let stats = server.stats("concert").unwrap();
    assert_eq!((stats.sessions, stats.headers, stats.packets), (1, 1, 2));
    assert_eq!(stats.bytes, 2 * stripped(0).len() as u64);
}

/// S-4, S-7, S-8, S-10: requests that open no session are refused.
#[test]
fn s4_s7_s8_s10_refusals() {
    let server = server();
    let connect = || Wire::to(server.addr());
    assert_eq!(connect().setup(Push::to("nowhere"), "").status, 404);
    assert_eq!(connect().setup(CONCERT.id("stranger"), "").status, 412);
    assert_eq!(connect().setup(CONCERT, "AutoDestroy: 2\r\n").status, 400);
    assert_eq!(connect().setup(CONCERT, &"x".repeat(9000)).status, 413);
    let mut wire = connect();
    wire.start(CONCERT.id("stranger"), []);
    let reply = wire.response();
    assert_eq!((reply.status, reply.header("Connection")), (412, Some("close")), "{reply:?}");
    assert!(wire.is_closed());
    let asx = ask(
        &server,
        "POST /concert HTTP/1.1\r\nHost: media:80\r\nContent-Type: application/x-wms-pushsetup\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(asx.status, 200);
    assert!(String::from_utf8(asx.body).unwrap().contains("http://media:80/concert"));
    let huge = format!("GET /concert HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    assert_eq!(ask(&server, &huge).status, 431);
}

/// S-8: a point accepts one encoder at a time.
#[test]
fn s8_a_busy_point_refuses_a_second_encoder() {
    let server = server();
    let (mut first, _) = push(&server, 1);
    assert_eq!(Wire::to(server.addr()).setup(CONCERT, "").status, 409);
    first.packet(Packet::Data(stripped(1)));
    until("the first push continues", || server.stats("concert").unwrap().packets == 2);
}

/// S-7: a PushStart is refused while another PushStart of the session is in progress, which then continues.
#[test]
fn s7_one_push_start_at_a_time() {
    let server = server();
    let (mut first, id) = push(&server, 1);
    let mut second = Wire::to(server.addr());
    second.start(CONCERT.id(&id), []);
    assert_eq!(second.response().status, 409);
    first.packet(Packet::Data(stripped(1)));
    until("the first push continues", || server.stats("concert").unwrap().packets == 2);
}

/// S-14: a lost connection does not end the session; the player's stream continues after the encoder has resumed.
#[test]
fn s14_a_lost_connection_is_resumed() {
    let server = server();
    let (mut wire, id) = push(&server, 1);
    let mut player = play(&server, &header());
    assert!(carries(&player.pulled_data().2, 0));
    // Part of a packet.
    wire.send(b"$D\x40\x00half");
    drop(wire);
    let mut wire = Wire::to(server.addr());
    wire.start(CONCERT.id(&id), []);
    wire.packet(Packet::Data(stripped(1)));
    let (location, flags, packet) = player.pulled_data();
    assert_eq!((location, flags), (1, 1));
    assert!(carries(&packet, 1));
    assert_eq!(server.stats("concert").unwrap().sessions, 1);
}

/// A new encoder replaces one whose connection is lost; players stay connected if the header is the same.
#[test]
fn a_new_session_displaces_a_lost_one() {
    let server = server();
    let (wire, id) = push(&server, 1);
    let mut player = Wire::to(server.addr());
    player.send("GET /concert HTTP/1.0\r\nUser-Agent: NSPlayer/9.0.0.2980\r\nPragma: xPlayStrm=1\r\n\r\n");
    player.head();
    assert_eq!(player.pulled().0, 'H');
    assert!(carries(&player.pulled_data().2, 0));
    drop(wire);
    until("the loss", || !server.stats("concert").unwrap().pushing);
    for expected in [header(), header_with(4000)] {
        let mut wire = Wire::to(server.addr());
        let mut setup = wire.setup(CONCERT, "");
        let end = Instant::now() + TEST_TIMEOUT;
        while setup.status == 409 && Instant::now() < end {
            wire = Wire::to(server.addr());
            setup = wire.setup(CONCERT, "");
        }
        wire.start(CONCERT.id(&setup.push_id()), []);
        wire.packet(Packet::Header(expected.clone()));
        wire.packet(Packet::Data(stripped(7)));
        if expected != header() {
            assert_eq!(player.pulled(), ('C', vec![0; 4]));
            let (letter, payload) = player.pulled();
            assert_eq!((letter, &payload[8..]), ('H', &expected[..]));
        }
        assert!(carries(&player.pulled_data().2, 7));
    }
    let mut old = Wire::to(server.addr());
    old.start(CONCERT.id(&id), []);
    assert_eq!(old.response().status, 412);
}

/// S-2: silence within a body is answered at once, and ends the session and the players' stream.
#[test]
fn s2_idle_timeout() {
    let idle_timeout = Duration::from_secs(10);
    let server = server_with(|config| config.policy = Policy { idle_timeout, ..Policy::default() });
    let (mut wire, id) = push(&server, 1);
    let mut player = play(&server, &header());
    assert!(carries(&player.pulled_data().2, 0));
    let reply = wire.response();
    assert_eq!((reply.status, reply.header("Connection")), (408, Some("close")), "{reply:?}");
    assert!(wire.is_closed());
    assert_eq!(player.pulled(), ('E', vec![0; 4]));
    assert!(player.is_closed());
    assert_eq!(Wire::to(server.addr()).setup(CONCERT.id(&id), "").status, 412);
}

/// S-3: a session without requests is deleted, and its connection closed.
#[test]
fn s3_inactivity_timeout() {
    let inactivity_timeout = Duration::from_millis(300);
    let server = server_with(|config| config.policy = Policy { inactivity_timeout, ..Policy::default() });
    let mut wire = Wire::to(server.addr());
    let id = wire.setup(CONCERT, "").push_id();
    assert!(wire.is_closed());
    assert_eq!(Wire::to(server.addr()).setup(CONCERT.id(&id), "").status, 412);
    assert_eq!(Wire::to(server.addr()).setup(CONCERT, "").status, 204);
}

/// S-3, S-15: the connection of a deleted session stays open if another session uses it, as behind a proxy.
#[test]
fn s3_s15_a_connection_is_closed_for_its_last_session_only() {
    let server = server_with(|config| drop(config.points.insert("other".to_owned(), PointConfig::default())));
    let (mut wire, _) = Wire::set_up(server.addr(), CONCERT);
    let other = Push::to("other");
    let id = wire.setup(other, "").push_id();
    wire.start(other.id(&id), [Packet::Header(header())]);
    until("the other's header", || server.stats("other").unwrap().headers == 1);
    assert!(server.disconnect_pusher("concert", 403));
    until("the first one's end", || !server.disconnect_pusher("concert", 403));
    wire.packet(Packet::Data(stripped(0)));
    wire.end();
    assert_eq!(server.stats("other").unwrap().packets, 1);
}

/// S-8, S-13: a point created from a template is removed with its session.
#[test]
fn s8_s13_template_and_auto_destroy() {
    let server = server();
    let create = |body: &str| Wire::to(server.addr()).setup(Push::to("live/new"), body).status;
    assert_eq!(create("AutoDestroy: 1\r\n"), 404);
    assert_eq!(create("Template-URL: \"/other\"\r\nAutoDestroy: 1\r\n"), 404);
    let mut wire = Wire::to(server.addr());
    let setup = wire.setup(Push::to("live/new"), "Template-URL: \"/concert\"\r\nAutoDestroy: 1\r\n");
    assert_eq!(setup.status, 204);
    wire.start(Push::to("live/new").id(&setup.push_id()), []);
    wire.packet(Packet::Header(header()));
    until("the header", || server.stats("live/new").unwrap().headers == 1);
    wire.packet(Packet::End(Hresult::OK));
    assert_eq!(wire.response().status, 204);
    until("the removal", || server.stats("live/new").is_none());
    assert!(server.stats("concert").is_some());
}

/// S-13: AutoDestroy removes points that a push has created. A configured point stays, whatever an encoder requests.
#[test]
fn s13_a_configured_point_is_never_removed() {
    let server = server();
    let mut wire = Wire::to(server.addr());
    let setup = wire.setup(CONCERT, "AutoDestroy: 1\r\n");
    assert_eq!(setup.status, 204);
    wire.start(CONCERT.id(&setup.push_id()), []);
    wire.packet(Packet::Header(header()));
    until("the header", || server.stats("concert").unwrap().headers == 1);
    wire.packet(Packet::End(Hresult::OK));
    assert_eq!(wire.response().status, 204);
    // The server admits another session after the previous one has ended.
    until("another session", || Wire::to(server.addr()).setup(CONCERT, "").status == 204);
    assert_eq!(server.stats("concert").unwrap().headers, 1);
}

/// S-15: an error status is sent while the body is still arriving, and the encoder can read it.
#[test]
fn s15_administrative_disconnect() {
    let server = server();
    assert!(!server.disconnect_pusher("concert", 403));
    let (mut wire, _) = push(&server, 1);
    let mut writer = wire.0.try_clone().unwrap();
    let answered = Arc::new(AtomicBool::new(false));
    let done = Arc::clone(&answered);
    let packets = Packet::Data(stripped(1)).to_bytes().unwrap().repeat(50);
    let busy = thread::spawn(move || {
        while !done.load(Ordering::Relaxed) {
            writer.write_all(&packets).unwrap();
        }
        writer
    });
    assert!(server.disconnect_pusher("concert", 403));
    let reply = wire.response();
    answered.store(true, Ordering::Relaxed);
    assert_eq!((reply.status, reply.header("Connection")), (403, Some("close")), "{reply:?}");
    let mut writer = busy.join().unwrap();
    // The connection closes gracefully: the server keeps reading for a while, and does not reset the connection.
    assert_eq!(wire.0.read(&mut [0]).unwrap(), 0);
    for _ in 0..3 {
        writer.write_all(b"late").unwrap();
        thread::sleep(Duration::from_millis(10));
    }
    until("the end", || !server.stats("concert").unwrap().pushing);
}

/// S-11: a push that is not ASF ends the session.
#[test]
fn s11_a_push_that_is_not_asf_is_refused() {
    let server = server();
    for packets in [
        vec![Packet::Header(Bytes::from_static(b"no header"))],
        vec![Packet::Data(stripped(0))],
        vec![Packet::Header(header()), Packet::Data(Bytes::from(vec![0; PACKET_SIZE + 1]))],
    ] {
        let mut wire = Wire::to(server.addr());
        let id = wire.setup(CONCERT, "").push_id();
        wire.start(CONCERT.id(&id), []);
        packets.into_iter().for_each(|packet| wire.packet(packet));
        let reply = wire.response();
        assert_eq!((reply.status, reply.body.is_empty()), (400, false), "{reply:?}");
        assert!(wire.is_closed());
    }
}

/// The limits of sessions and points.
#[test]
fn limits_are_answered_with_503() {
    let server = server_with(|config| {
        config.points.insert("second".to_owned(), PointConfig::default());
        config.max_sessions = 1;
        config.max_points = 2;
        config.max_players = 1;
    });
    let template = "Template-URL: \"/concert\"\r\nAutoDestroy: 0\r\n";
    assert_eq!(Wire::to(server.addr()).setup(Push::to("new"), template).status, 503);
    let (_wire, _) = push(&server, 1);
    assert_eq!(Wire::to(server.addr()).setup(Push::to("second"), "").status, 503);
    let _player = play(&server, &header());
    assert_eq!(ask(&server, FFMPEG_PLAY).status, 503);
}

// ---- recordings ----

fn recording_server(directory: &Path) -> BlockingServer {
    server_with(|config| config.points.values_mut().for_each(|point| point.record = Some(directory.to_owned())))
}

/// Returns the point's recordings once there are `count`, because the disk may be slow.
fn recordings(server: &BlockingServer, count: usize) -> Vec<PathBuf> {
    let files = || server.stats("concert").unwrap().recordings;
    until("the files", || files().len() >= count);
    files()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn field(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Checks that the header has the counts and durations of the recording, and no broadcast flag.
fn assert_whole(path: &Path, header: &Bytes, packets: u64) {
    let bytes = std::fs::read(path).unwrap();
    let data = header.len() - 50;
    let index = &bytes[header.len() + usize::try_from(packets).unwrap() * PACKET_SIZE..];
    assert!(index.is_empty() || field(index, 16) == index.len() as u64, "the packets are followed by one index");
    assert_eq!(field(&bytes, data + 16), 50 + packets * PACKET_SIZE as u64, "Data Object size");
    assert_eq!(field(&bytes, data + 40), packets, "Data Object packets");
    // The builder writes the File Properties Object first.
    assert_eq!(field(&bytes, 30 + 40), bytes.len() as u64, "file size");
    assert_eq!(field(&bytes, 30 + 56), packets, "packets");
    assert_eq!(bytes[30 + 88] & 1, 0, "broadcast");
}

/// Which sessions and headers share a file, and what a second server does with existing files.
#[test]
fn recordings_start_and_continue() {
    let directory = tempfile::tempdir().unwrap();
    let server = recording_server(directory.path());
    // Two sessions with the same header, the first of which is resumed.
    let (wire, id) = push(&server, 2);
    drop(wire);
    let mut wire = Wire::to(server.addr());
    wire.start(CONCERT.id(&id), []);
    wire.packet(Packet::Data(stripped(2)));
    wire.packet(Packet::End(Hresult::OK));
    assert_eq!(wire.response().status, 204);
    until("the end", || !server.stats("concert").unwrap().pushing);
    let (mut wire, _) = push(&server, 1);
    // Another header.
    wire.packet(Packet::End(Hresult::FALSE));
    wire.packet(Packet::StreamChange(header_with(4000)));
    wire.packet(Packet::Data(stripped(3)));
    until("the packet", || server.stats("concert").unwrap().packets == 5);
    let files = recordings(&server, 2);
    server.stop();
    let paths = |names: Vec<String>| names.iter().map(|name| directory.path().join(name)).collect::<Vec<_>>();
    assert_eq!(paths(names(directory.path())), files);
    assert!(names(directory.path()).iter().all(|name| name.starts_with("Concert-2") && name.len() == 33));
    assert_whole(&files[0], &header(), 4);
    assert_whole(&files[1], &header_with(4000), 1);

    let server = recording_server(directory.path());
    drop(push(&server, 1));
    server.stop();
    let after = paths(names(directory.path()));
    assert_eq!((after.len(), &after[..2]), (3, &files[..]));
}

/// A directory in which no file can be created affects only the recording.
#[test]
fn a_disk_error_ends_the_recording_only() {
    let directory = tempfile::tempdir().unwrap();
    let recordings = directory.path().join("recordings");
    let server = recording_server(&recordings);
    std::fs::remove_dir(&recordings).unwrap();
    let (mut wire, _) = push(&server, 1);
    let mut player = play(&server, &header());
    assert!(carries(&player.pulled_data().2, 0));
    wire.packet(Packet::Data(stripped(1)));
    assert!(carries(&player.pulled_data().2, 1));
    assert_eq!(server.stats("concert").unwrap().recordings, Vec::<PathBuf>::new());
}

// ---- real media ----
