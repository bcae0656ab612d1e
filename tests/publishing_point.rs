//! The server over real sockets: both protocols byte by byte, recordings, and real players.
//!
//! Ids such as `S-9` number the rules of [MS-WMHTTP] 3.2. Time-outs here only make a failure end.
#![cfg(feature = "publishing-point")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gstasfpush::asf::fixture::{HeaderBuilder, PacketBuilder, Payload};
use gstasfpush::asf::{Padding, Parser, Settings};
use gstasfpush::point::{Config, PointConfig, RunningServer, Server};
use gstasfpush::wmhttp::Hresult;
use gstasfpush::wmhttp::packet::Packet;
use gstasfpush::wmhttp::server::Policy;

/// Nothing here takes so long unless it fails.
const PATIENCE: Duration = Duration::from_secs(60);
const AGENT: &str = "WMEncoder/12.0.0.0 test/1";
const PACKET_SIZE: usize = 200;

// ---- a client of few words ----

struct Wire(TcpStream);

#[derive(Debug)]
struct Response {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    fn push_id(&self) -> String {
        self.header("Set-Cookie").unwrap().strip_prefix("push-id=").unwrap().to_owned()
    }
}

impl Wire {
    fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    fn packet(&mut self, packet: Packet) {
        self.send(packet.to_bytes().unwrap());
    }

    fn setup(&mut self, path: &str, id: &str, body: &str) -> Response {
        self.send(format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-wms-pushsetup\r\nUser-Agent: {AGENT}\r\n\
             Content-Length: {}\r\nCookie: push-id={id}\r\n\r\n{body}",
            body.len()
        ));
        self.response()
    }

    fn start(&mut self, path: &str, id: &str, length: u64) {
        self.send(format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-wms-pushstart\r\nUser-Agent: {AGENT}\r\n\
             Content-Length: {length}\r\nCookie: push-id={id}\r\n\r\n"
        ));
    }

    /// A response with its Content-Length, or with none and no body.
    fn response(&mut self) -> Response {
        let head = self.head();
        let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
        let mut response = Response { status, head, body: Vec::new() };
        if let Some(length) = response.header("Content-Length") {
            response.body = self.take(length.parse().unwrap());
        }
        response
    }

    fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.take(1));
        }
        String::from_utf8(head).unwrap()
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// A packet of a pull stream: its letter and what follows the framing header.
    fn pulled(&mut self) -> (char, Vec<u8>) {
        let framing = self.take(4);
        assert_eq!(framing[0], b'$');
        let len = u16::from_le_bytes([framing[2], framing[3]]);
        (char::from(framing[1]), self.take(len.into()))
    }

    /// The next data packet of a pull stream: (LocationId, AFFlags, ASF packet).
    fn pulled_data(&mut self) -> (u32, u8, Vec<u8>) {
        let (letter, payload) = self.pulled();
        assert_eq!(letter, 'D');
        assert_eq!(usize::from(u16::from_le_bytes([payload[6], payload[7]])), payload.len());
        (u32::from_le_bytes(payload[..4].try_into().unwrap()), payload[5], payload[8..].to_vec())
    }

    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
            Ok(_) | Err(_) => rest,
        }
    }

    fn is_closed(&mut self) -> bool {
        self.rest().is_empty()
    }
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

// ---- a small stream ----

fn header_with(preroll: u64) -> Bytes {
    HeaderBuilder { preroll, flags: 1, ..HeaderBuilder::default() }.audio_only().build()
}

fn header() -> Bytes {
    header_with(3000)
}

/// The `n`th packet, shorter than the packet size: as a pusher sends it.
fn stripped(n: u8) -> Bytes {
    let payloads = vec![Payload::new(1, &[n; 50]), Payload::new(1, &[n; 20])];
    PacketBuilder { size: 0, payloads, ..PacketBuilder::default() }.build()
}

fn carries(packet: &[u8], n: u8) -> bool {
    packet.len() == PACKET_SIZE && packet.windows(50).any(|window| window == [n; 50])
}

fn server_with(change: impl FnOnce(&mut Config)) -> RunningServer {
    let mut config = Config::with_points(["Concert"], &PointConfig::default());
    change(&mut config);
    Server::spawn(config).unwrap()
}

fn server() -> RunningServer {
    server_with(|_| {})
}

/// A push under way: its `$H` and the packets `0..packets` have been received.
fn push(server: &RunningServer, packets: u8) -> (Wire, String) {
    let before = server.stats("concert").unwrap().packets;
    let mut wire = Wire::to(server.addr());
    let setup = wire.setup("/concert", "0", "");
    assert_eq!(setup.status, 204, "{setup:?}");
    let id = setup.push_id();
    wire.start("/concert", &id, 2_147_483_647);
    wire.packet(Packet::Header(header()));
    (0..packets).for_each(|n| wire.packet(Packet::Data(stripped(n))));
    until("the packets", || {
        let stats = server.stats("concert").unwrap();
        stats.packets == before + u64::from(packets) && stats.headers > 0
    });
    (wire, id)
}

/// A player that has got the response's head and its `$H`.
fn play(server: &RunningServer, expected: &[u8]) -> Wire {
    let mut wire = Wire::to(server.addr());
    wire.send(FFMPEG_PLAY);
    let head = wire.head();
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    let (letter, payload) = wire.pulled();
    assert_eq!(letter, 'H');
    assert_eq!(payload[8..], *expected);
    wire
}

/// As ffmpeg 5.1 sends it, its missing line break included.
const FFMPEG_DESCRIBE: &str = "GET /concert HTTP/1.1\r\nUser-Agent: NSPlayer/4.1.0.3856\r\nAccept: */*\r\nRange: bytes=0-\r\n\
    Connection: close\r\nHost: 127.0.0.1:8080\r\nIcy-MetaData: 1\r\n\
    Pragma: no-cache,rate=1.000000,stream-time=0,stream-offset=0:0,request-context=1,max-duration=0\r\n\
    Pragma: xClientGUID={c77e7400-738a-11d2-9add-0020af0a3278}\r\n\r\n";
const FFMPEG_PLAY: &str = "GET /concert HTTP/1.1\r\nUser-Agent: NSPlayer/4.1.0.3856\r\nAccept: */*\r\nRange: bytes=0-\r\n\
    Host: 127.0.0.1:8080\r\nIcy-MetaData: 1\r\n\
    Pragma: no-cache,rate=1.000000,request-context=2\r\nPragma: xPlayStrm=1\r\n\
    Pragma: xClientGUID={c77e7400-738a-11d2-9add-0020af0a3278}\r\nPragma: stream-switch-count=1\r\n\
    Pragma: stream-switch-entry=ffff:1:0 \r\nPragma: no-cache,rate=1.000000,stream-time=0Connection: Close\r\n\r\n";
/// As VLC 3.0 sends it.
const VLC_PLAY: &str = "GET /concert HTTP/1.0\r\nAccept: */*\r\nUser-Agent: NSPlayer/7.10.0.3059\r\nHost: 127.0.0.1:8080\r\n\
    Pragma: no-cache,rate=1.000000,stream-time=0,stream-offset=4294967295:4294967295,request-context=2,max-duration=0\r\n\
    Pragma: xPlayStrm=1\r\nPragma: xClientGUID={0x3300AD50-0x2C39-0x46c0-AE0A-0x8F6A3E6B9B6F}\r\n\
    Pragma: stream-switch-count=1\r\nPragma: stream-switch-entry=ffff:1:0\r\nConnection: Close\r\n\r\n";

fn ask(server: &RunningServer, request: &str) -> Response {
    let mut wire = Wire::to(server.addr());
    wire.send(request);
    wire.response()
}

// ---- pushes ----

/// S-9, S-12, S-13: an exchange from PushSetup to `$E`, over two PushStarts of one connection.
#[test]
fn s9_s12_s13_a_whole_session() {
    let server = server();
    let mut wire = Wire::to(server.addr());
    let setup = wire.setup("/CONCERT", "0", "");
    assert_eq!(setup.status, 204, "{setup:?}");
    assert!(setup.header("Server").unwrap().starts_with("Cougar/"));
    assert_eq!(setup.header("Pragma"), Some("no-cache, timeout=60000"));
    assert_eq!(setup.header("Cache-Control"), Some("no-cache"));
    let id = setup.push_id();
    assert!(id.len() >= 32 && id != "0", "{id}");

    let body = [Packet::Header(header()), Packet::Data(stripped(0)), Packet::Filler(7)];
    let body: Vec<u8> = body.into_iter().flat_map(|packet| packet.to_bytes().unwrap()).collect();
    wire.start("/concert", &id, body.len() as u64);
    wire.send(&body);
    let first = wire.response();
    assert_eq!((first.status, first.header("Connection")), (204, None), "{first:?}");

    wire.start("/concert", &id, 2_147_483_647);
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

/// S-4, S-7, S-8, S-10: what opens no session.
#[test]
fn s4_s7_s8_s10_refusals() {
    let server = server();
    let connect = || Wire::to(server.addr());
    assert_eq!(connect().setup("/nowhere", "0", "").status, 404);
    assert_eq!(connect().setup("/concert", "stranger", "").status, 412);
    assert_eq!(connect().setup("/concert", "0", "AutoDestroy: 2\r\n").status, 400);
    assert_eq!(connect().setup("/concert", "0", &"x".repeat(9000)).status, 413);
    let mut wire = connect();
    wire.start("/concert", "stranger", 2_147_483_647);
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

/// S-8: one pusher at a time.
#[test]
fn s8_a_busy_point_refuses_a_second_pusher() {
    let server = server();
    let (mut first, _) = push(&server, 1);
    assert_eq!(Wire::to(server.addr()).setup("/concert", "0", "").status, 409);
    first.packet(Packet::Data(stripped(1)));
    until("the first goes on", || server.stats("concert").unwrap().packets == 2);
}

/// S-7: a PushStart of a session whose PushStart is under way is refused, and that one goes on.
#[test]
fn s7_one_push_start_at_a_time() {
    let server = server();
    let (mut first, id) = push(&server, 1);
    let mut second = Wire::to(server.addr());
    second.start("/concert", &id, 2_147_483_647);
    assert_eq!(second.response().status, 409);
    first.packet(Packet::Data(stripped(1)));
    until("the first goes on", || server.stats("concert").unwrap().packets == 2);
}

/// S-14: a lost connection ends nothing; the player's stream goes on where the pusher resumes.
#[test]
fn s14_a_lost_connection_is_resumed() {
    let server = server();
    let (mut wire, id) = push(&server, 1);
    let mut player = play(&server, &header());
    assert!(carries(&player.pulled_data().2, 0));
    // In the middle of a packet.
    wire.send(b"$D\x40\x00half");
    drop(wire);
    let mut wire = Wire::to(server.addr());
    wire.start("/concert", &id, 2_147_483_647);
    wire.packet(Packet::Data(stripped(1)));
    let (location, flags, packet) = player.pulled_data();
    assert_eq!((location, flags), (1, 1));
    assert!(carries(&packet, 1));
    assert_eq!(server.stats("concert").unwrap().sessions, 1);
}

/// A new encoder takes over from one that is lost; players stay where the header is the same.
#[test]
fn a_new_session_displaces_a_lost_one() {
    let server = server();
    let (wire, id) = push(&server, 1);
    let mut player = play(&server, &header());
    assert!(carries(&player.pulled_data().2, 0));
    drop(wire);
    until("the loss", || !server.stats("concert").unwrap().pushing);
    for expected in [header(), header_with(4000)] {
        let mut wire = Wire::to(server.addr());
        let mut setup = wire.setup("/concert", "0", "");
        let end = Instant::now() + PATIENCE;
        while setup.status == 409 && Instant::now() < end {
            wire = Wire::to(server.addr());
            setup = wire.setup("/concert", "0", "");
        }
        wire.start("/concert", &setup.push_id(), 2_147_483_647);
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
    old.start("/concert", &id, 2_147_483_647);
    assert_eq!(old.response().status, 412);
}

/// S-2: silence in mid-body is answered at once, and ends the session and the players' stream.
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
    assert_eq!(Wire::to(server.addr()).setup("/concert", &id, "").status, 412);
}

/// S-3: a session without requests is deleted, and its connection closed.
#[test]
fn s3_inactivity_timeout() {
    let inactivity_timeout = Duration::from_millis(300);
    let server = server_with(|config| config.policy = Policy { inactivity_timeout, ..Policy::default() });
    let mut wire = Wire::to(server.addr());
    let id = wire.setup("/concert", "0", "").push_id();
    assert!(wire.is_closed());
    assert_eq!(Wire::to(server.addr()).setup("/concert", &id, "").status, 412);
    assert_eq!(Wire::to(server.addr()).setup("/concert", "0", "").status, 204);
}

/// S-8, S-13: a point made from a template goes with its session.
#[test]
fn s8_s13_template_and_auto_destroy() {
    let server = server();
    let create = |body: &str| Wire::to(server.addr()).setup("/live/new", "0", body).status;
    assert_eq!(create("AutoDestroy: 1\r\n"), 404);
    assert_eq!(create("Template-URL: \"/other\"\r\nAutoDestroy: 1\r\n"), 404);
    let mut wire = Wire::to(server.addr());
    let setup = wire.setup("/live/new", "0", "Template-URL: \"/concert\"\r\nAutoDestroy: 1\r\n");
    assert_eq!(setup.status, 204);
    wire.start("/live/new", &setup.push_id(), 2_147_483_647);
    wire.packet(Packet::Header(header()));
    until("the header", || server.stats("live/new").unwrap().headers == 1);
    wire.packet(Packet::End(Hresult::OK));
    assert_eq!(wire.response().status, 204);
    until("the removal", || server.stats("live/new").is_none());
    assert!(server.stats("concert").is_some());
}

/// S-15: an error status goes out while the body is still coming in, and can be read.
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
    // A plain end; what is still under way is read for a while, and not reset.
    assert_eq!(wire.0.read(&mut [0]).unwrap(), 0);
    for _ in 0..3 {
        writer.write_all(b"late").unwrap();
        thread::sleep(Duration::from_millis(10));
    }
    until("the end", || !server.stats("concert").unwrap().pushing);
}

/// S-11: what is no ASF ends the session.
#[test]
fn s11_no_asf_is_refused() {
    let server = server();
    for packets in [
        vec![Packet::Header(Bytes::from_static(b"no header"))],
        vec![Packet::Data(stripped(0))],
        vec![Packet::Header(header()), Packet::Data(Bytes::from(vec![0; PACKET_SIZE + 1]))],
    ] {
        let mut wire = Wire::to(server.addr());
        let id = wire.setup("/concert", "0", "").push_id();
        wire.start("/concert", &id, 2_147_483_647);
        packets.into_iter().for_each(|packet| wire.packet(packet));
        let reply = wire.response();
        assert_eq!((reply.status, reply.body.is_empty()), (400, false), "{reply:?}");
        assert!(wire.is_closed());
    }
}

/// The bounds of the registry.
#[test]
fn limits_are_answered_with_503() {
    let server = server_with(|config| {
        config.points.insert("second".to_owned(), PointConfig::default());
        config.max_sessions = 1;
        config.max_points = 2;
        config.max_players = 1;
    });
    let template = "Template-URL: \"/concert\"\r\nAutoDestroy: 0\r\n";
    assert_eq!(Wire::to(server.addr()).setup("/new", "0", template).status, 503);
    let (_wire, _) = push(&server, 1);
    assert_eq!(Wire::to(server.addr()).setup("/second", "0", "").status, 503);
    let _player = play(&server, &header());
    assert_eq!(ask(&server, FFMPEG_PLAY).status, 503);
}

// ---- pulls ----

/// Describe and Play as players send them, and what they must find in the answers.
#[test]
fn players_get_header_and_data() {
    let server = server();
    assert_eq!(ask(&server, FFMPEG_DESCRIBE).status, 503);
    assert_eq!(ask(&server, FFMPEG_PLAY).status, 503);
    assert_eq!(ask(&server, &FFMPEG_DESCRIBE.replace("/concert", "/nowhere")).status, 404);
    let (mut wire, _) = push(&server, 3);

    let mut player = Wire::to(server.addr());
    player.send(FFMPEG_DESCRIBE);
    let describe = player.response();
    assert!(describe.head.starts_with("HTTP/1.0 200 OK\r\n"), "{describe:?}");
    assert_eq!(describe.header("Content-Type"), Some("application/vnd.ms.wms-hdr.asfv1"));
    assert_eq!(describe.header("Server"), Some("Rex/9.0.0.2980"));
    assert_eq!(describe.header("Cache-Control"), Some("no-cache"));
    assert_eq!(describe.header("Connection"), Some("close"));
    let pragma = describe.header("Pragma").unwrap();
    assert!(pragma.starts_with("no-cache,client-id="), "{pragma}");
    assert!(pragma.ends_with(",features=\"broadcast\",timeout=60000"), "{pragma}");
    assert_eq!(describe.body[..2], *b"$H");
    assert_eq!(describe.body[4..10], [0, 0, 0, 0, 0, 0x0c]);
    assert_eq!(describe.body[12..], header());
    assert!(player.is_closed());

    for request in [FFMPEG_PLAY, VLC_PLAY] {
        let mut player = Wire::to(server.addr());
        player.send(request);
        let head = player.head();
        assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
        assert!(head.contains("Content-Type: application/x-mms-framed\r\n"), "{head}");
        assert!(!head.contains("Content-Length") && !head.contains("Transfer-Encoding"), "{head}");
        let (letter, payload) = player.pulled();
        assert_eq!((letter, &payload[8..]), ('H', &header()[..]));
        // Without video every packet is a start: the newest.
        let (location, flags, packet) = player.pulled_data();
        assert_eq!((location, flags), (0, 0));
        assert!(carries(&packet, 2), "{packet:?}");
        until("the player", || server.stats("concert").unwrap().playing > 0);
    }
    until("they are gone", || server.stats("concert").unwrap().playing == 0);
    assert_eq!(server.stats("concert").unwrap().players, 2);

    let mut player = play(&server, &header());
    assert!(carries(&player.pulled_data().2, 2));
    for n in 3..=255 {
        wire.packet(Packet::Data(stripped(n)));
    }
    for n in 3..=255 {
        let (location, flags, packet) = player.pulled_data();
        assert_eq!((location, flags), (u32::from(n) - 2, n - 2));
        assert!(carries(&packet, n));
    }
    wire.packet(Packet::End(Hresult::OK));
    assert_eq!(player.rest(), b"$E\x04\0\0\0\0\0");
}

/// Chunked only for those who can.
#[test]
fn version11_players_get_chunks() {
    let server = server();
    let (mut wire, _) = push(&server, 1);
    let mut player = Wire::to(server.addr());
    player.send("GET /concert HTTP/1.1\r\nHost: x\r\nPragma: xPlayStrm=1, version11-enabled=1\r\n\r\n");
    let head = player.head();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Transfer-Encoding: chunked\r\n"), "{head}");
    wire.packet(Packet::End(Hresult::OK));
    assert!(player.rest().ends_with(b"$E\x04\0\0\0\0\0\r\n0\r\n\r\n"));
}

/// Packets that the pull protocol cannot frame: the player's stream ends, the push goes on.
#[test]
fn too_large_packets_end_the_players_stream() {
    let server = server();
    let header = HeaderBuilder { flags: 1, ..HeaderBuilder::default() }.audio_only().packet_size(65_535).build();
    let mut wire = Wire::to(server.addr());
    let id = wire.setup("/concert", "0", "").push_id();
    wire.start("/concert", &id, 2_147_483_647);
    wire.packet(Packet::Header(header.clone()));
    until("the header", || server.stats("concert").unwrap().headers == 1);
    let mut player = play(&server, &header);
    wire.packet(Packet::Data(stripped(0)));
    assert_eq!(player.rest(), b"$E\x04\0\0\0\0\0");
    wire.packet(Packet::Data(stripped(1)));
    until("both packets", || server.stats("concert").unwrap().packets == 2);
}

/// Requests that a player may send beside.
#[test]
fn other_requests_of_players() {
    let server = server();
    for (request, status) in [
        (
            "POST /concert HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-wms-LogStats\r\nContent-Length: 5\r\n\r\n<xml>",
            204,
        ),
        ("POST /concert HTTP/1.0\r\nPragma: log-line=no-cache\r\nContent-Length: 0\r\n\r\n", 204),
        ("POST /concert HTTP/1.0\r\nPragma: xKeepAliveInPause=1\r\nContent-Length: 0\r\n\r\n", 200),
        ("POST /concert HTTP/1.0\r\nPragma: xStopStrm=1\r\nContent-Length: 0\r\n\r\n", 200),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        ("POST /concert HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 400),
        ("DELETE /concert HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    ] {
        let response = ask(&server, request);
        assert_eq!(response.status, status, "{request} {response:?}");
        assert!(response.head.starts_with("HTTP/1.0 "), "{response:?}");
    }
}

/// Another header in mid-stream, in place: `$C`, `$H`, and on with `$D`.
#[test]
fn a_stream_change_reaches_players_in_place() {
    let server = server();
    let (mut wire, _) = push(&server, 1);
    let mut player = play(&server, &header());
    assert!(carries(&player.pulled_data().2, 0));
    wire.packet(Packet::End(Hresult::FALSE));
    wire.packet(Packet::StreamChange(header_with(4000)));
    wire.packet(Packet::Data(stripped(1)));
    assert_eq!(player.pulled(), ('C', vec![0; 4]));
    let (letter, payload) = player.pulled();
    assert_eq!((letter, payload[5], &payload[8..]), ('H', 0x0c, &header_with(4000)[..]));
    let (location, _, packet) = player.pulled_data();
    assert_eq!(location, 1);
    assert!(carries(&packet, 1));
    assert_eq!(server.stats("concert").unwrap().headers, 2);
}

/// A player that does not read is lapped; the others and the pusher notice nothing.
#[test]
fn a_slow_player_holds_nobody_up() {
    let server = server();
    let (mut wire, _) = push(&server, 1);
    let mut slow = play(&server, &header());
    let mut quick = play(&server, &header());
    assert!(carries(&quick.pulled_data().2, 0));
    let batch: Vec<u8> = (0..50).flat_map(|_| Packet::Data(stripped(9)).to_bytes().unwrap()).collect();
    let rounds = 2000;
    let reader = thread::spawn(move || {
        let mut locations = 0;
        loop {
            match quick.pulled() {
                ('D', _) => locations += 1,
                (letter, _) => break (letter, locations),
            }
        }
    });
    for _ in 0..rounds {
        wire.send(&batch);
    }
    wire.packet(Packet::End(Hresult::OK));
    assert_eq!(wire.response().status, 204);
    assert_eq!(reader.join().unwrap().0, 'E');
    let mut got = 0;
    while let ('D', _) = slow.pulled() {
        got += 1;
    }
    assert!(got > 0 && got < rounds * 50, "{got}");
}

// ---- recordings ----

fn recording_server(directory: &Path) -> RunningServer {
    server_with(|config| config.points.values_mut().for_each(|point| point.record = Some(directory.to_owned())))
}

/// The point's files, once there are so many: the disk has its own pace.
fn recordings(server: &RunningServer, count: usize) -> Vec<PathBuf> {
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

/// The header's counts and durations are those of what was recorded; it is live no more.
fn assert_whole(path: &Path, header: &Bytes, packets: u64) {
    let bytes = std::fs::read(path).unwrap();
    let data = header.len() - 50;
    assert_eq!(bytes.len() as u64, header.len() as u64 + packets * PACKET_SIZE as u64);
    assert_eq!(field(&bytes, data + 16), 50 + packets * PACKET_SIZE as u64, "Data Object size");
    assert_eq!(field(&bytes, data + 40), packets, "Data Object packets");
    // The builder writes the File Properties first.
    assert_eq!(field(&bytes, 30 + 40), bytes.len() as u64, "file size");
    assert_eq!(field(&bytes, 30 + 56), packets, "packets");
    assert_eq!(bytes[30 + 88] & 1, 0, "broadcast");
}

/// Which sessions and headers share a file, and what a second server makes of files that are there.
#[test]
fn recordings_begin_and_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let server = recording_server(directory.path());
    // Two sessions with one header, the first of them resumed.
    let (wire, id) = push(&server, 2);
    drop(wire);
    let mut wire = Wire::to(server.addr());
    wire.start("/concert", &id, 2_147_483_647);
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
    assert_eq!(names(directory.path()), ["Concert-1.asf", "Concert-2.asf"]);
    assert_eq!(files, [directory.path().join("Concert-1.asf"), directory.path().join("Concert-2.asf")]);
    assert_whole(&files[0], &header(), 4);
    assert_whole(&files[1], &header_with(4000), 1);

    let server = recording_server(directory.path());
    drop(push(&server, 1));
    server.stop();
    assert_eq!(names(directory.path()), ["Concert-1.asf", "Concert-2.asf", "Concert-3.asf"]);
}

/// A directory that takes no file costs the recording only.
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

/// An ASF file of ffmpeg's, cut as a pusher cuts it.
struct Media {
    directory: tempfile::TempDir,
    file: PathBuf,
    header: Bytes,
    /// Send time in milliseconds, and the packet without its padding.
    packets: Vec<(u32, Bytes)>,
}

impl Media {
    fn of(seconds: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("source.asf");
        let status = Command::new("ffmpeg")
            .args(["-v", "error", "-f", "lavfi", "-i", &format!("testsrc=duration={seconds}:size=176x144:rate=15")])
            .args(["-f", "lavfi", "-i", &format!("sine=duration={seconds}")])
            .args(["-c:v", "wmv2", "-g", "15", "-b:v", "200k", "-c:a", "wmav2", "-f", "asf"])
            .arg(&file)
            .status()
            .unwrap();
        assert!(status.success());
        let mut parser = Parser::new(Settings { padding: Padding::Explicit, live_header: true });
        parser.push(std::fs::read(&file).unwrap().into());
        let mut packets = Vec::new();
        while let Some(unit) = parser.next_unit().unwrap() {
            packets.push((unit.packet.send_time(), unit.packet.slices().concat().into()));
        }
        let header = parser.header().unwrap().bytes().clone();
        Self { directory, file, header, packets }
    }

    fn push(&self, server: &RunningServer) -> Wire {
        let mut wire = Wire::to(server.addr());
        let id = wire.setup("/concert", "0", "").push_id();
        wire.start("/concert", &id, 2_147_483_647);
        wire.packet(Packet::Header(self.header.clone()));
        wire
    }
}

/// The checksums of all frames that ffmpeg decodes.
fn frames(file: &Path) -> Vec<String> {
    let output =
        Command::new("ffmpeg").args(["-v", "error", "-i"]).arg(file).args(["-f", "framemd5", "-"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

fn checksum(line: &str) -> String {
    line.rsplit(',').next().unwrap().trim().to_owned()
}

/// What was pushed without padding is recorded so that every frame decodes as in the source.
#[test]
fn a_recording_decodes_as_its_source() {
    let media = Media::of(3);
    let server = recording_server(media.directory.path());
    let mut wire = media.push(&server);
    for (_, packet) in &media.packets {
        wire.packet(Packet::Data(packet.clone()));
    }
    wire.packet(Packet::End(Hresult::OK));
    assert_eq!(wire.response().status, 204);
    let [file] = &recordings(&server, 1)[..] else { panic!() };
    server.stop();
    let expected = frames(&media.file);
    assert!(expected.len() > 45 + 50, "{}", expected.len());
    assert_eq!(frames(file), expected);
    assert_eq!(std::fs::metadata(file).unwrap().len() % 3200, media.header.len() as u64 % 3200);
    let recorded = probe(file);
    let source = probe(&media.file);
    assert!((recorded - source).abs() < 1.0, "{recorded} s of {source} s");
}

/// Duration by the header, seconds.
fn probe(file: &Path) -> f64 {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "format=duration", "-of", "default=nw=1:nk=1"])
        .arg(file)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// A server that dies leaves a file that decodes as far as it came.
#[test]
fn a_recording_survives_the_server() {
    let media = Media::of(3);
    let server = recording_server(media.directory.path());
    let mut wire = media.push(&server);
    for (_, packet) in &media.packets {
        wire.packet(Packet::Data(packet.clone()));
    }
    let bytes = media.header.len() as u64 + media.packets.len() as u64 * 3200;
    let file = || server.stats("concert").unwrap().recordings.first().cloned();
    until("the file", || {
        file().is_some_and(|file| std::fs::metadata(file).is_ok_and(|metadata| metadata.len() == bytes))
    });
    let file = file().unwrap();
    server.kill();
    assert_eq!(frames(&file), frames(&media.file));
}

// ---- real players ----

/// A push at about the speed of the stream, over and over, until it is dropped.
struct Broadcast {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Broadcast {
    fn of(media: &Media, server: &RunningServer) -> Self {
        let mut wire = media.push(server);
        let packets = media.packets.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let begin = Instant::now();
            for (send_time, packet) in packets {
                let due = Duration::from_millis(send_time.into());
                while begin.elapsed() < due && !stopped.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(10));
                }
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                wire.packet(Packet::Data(packet));
            }
            wire.packet(Packet::End(Hresult::OK));
            // Whatever the answer: the end was sent.
            let _ = wire.rest();
        });
        until("the stream", || server.stats("concert").unwrap().packets > 10);
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Broadcast {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A player's process; killed where it does not end by itself.
struct Player(Child);

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn live() -> (Media, RunningServer, Broadcast) {
    let media = Media::of(60);
    let server = server();
    let broadcast = Broadcast::of(&media, &server);
    (media, server, broadcast)
}

#[test]
fn ffmpeg_plays() {
    let (media, server, _broadcast) = live();
    let output = Command::new("timeout")
        .args(["60", "ffmpeg", "-v", "error", "-i", &format!("mmsh://{}/concert", server.addr())])
        .args(["-map", "0:v", "-frames:v", "30", "-f", "framemd5", "-"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // It joined at a key frame: each frame is one of the source's.
    let source: HashSet<_> = frames(&media.file).iter().map(|line| checksum(line)).collect();
    let played: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).map(checksum).collect();
    assert_eq!(played.len(), 30, "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(played.iter().all(|frame| source.contains(frame)), "{text}");
    assert!(server.stats("concert").unwrap().players >= 1);
}

#[test]
fn mplayer_plays() {
    let (_media, server, _broadcast) = live();
    let output = Command::new("timeout")
        .args(["60", "mplayer", "-vo", "null", "-ao", "null", "-benchmark", "-nolirc", "-noconsolecontrols"])
        .args(["-frames", "30", &format!("mmsh://{}/concert", server.addr())])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // The status line counts frames as `30/ 30`; a broken one is told of.
    assert!(text.contains(" 30/ 30 ") && !text.to_lowercase().contains("error"), "{text}");
}

#[test]
fn vlc_plays() {
    let (media, server, _broadcast) = live();
    let scenes = media.directory.path().join("scenes");
    std::fs::create_dir(&scenes).unwrap();
    open_to_all(media.directory.path());
    open_to_all(&scenes);
    // VLC does not run as root.
    let mut command = if rustix::process::getuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "cvlc"]);
        command
    } else {
        Command::new("cvlc")
    };
    let player = command
        .args(["--quiet", "--no-audio", "--vout=dummy", "--video-filter=scene", "--scene-format=png"])
        .args(["--scene-ratio=5", "--scene-prefix=frame"])
        .arg(format!("--scene-path={}", scenes.display()))
        .arg(format!("mmsh://{}/concert", server.addr()))
        .env("HOME", &scenes)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _player = Player(player);
    until("frames", || names(&scenes).iter().filter(|name| name.starts_with("frame")).count() >= 5);
}

fn open_to_all(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o777)).unwrap();
}
