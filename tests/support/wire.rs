//! A client of few words, of both protocols, and a small stream for it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use gstasfpush::asf::fixture::{HeaderBuilder, PacketBuilder, Payload};
use gstasfpush::point::{Config, PointConfig, RunningServer, Server};
use gstasfpush::wmhttp::packet::Packet;

use super::pipeline::until;

/// Nothing here takes so long unless it fails.
const PATIENCE: Duration = Duration::from_secs(60);
const AGENT: &str = "WMEncoder/12.0.0.0 test/1";
pub const PACKET_SIZE: usize = 200;

/// A connection to a server.
pub struct Wire(pub TcpStream);

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    pub fn push_id(&self) -> String {
        self.header("Set-Cookie").unwrap().strip_prefix("push-id=").unwrap().to_owned()
    }
}

impl Wire {
    pub fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    pub fn packet(&mut self, packet: Packet) {
        self.send(packet.to_bytes().unwrap());
    }

    pub fn setup(&mut self, path: &str, id: &str, body: &str) -> Response {
        self.send(format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-wms-pushsetup\r\nUser-Agent: {AGENT}\r\n\
             Content-Length: {}\r\nCookie: push-id={id}\r\n\r\n{body}",
            body.len()
        ));
        self.response()
    }

    pub fn start(&mut self, path: &str, id: &str, length: u64) {
        self.send(format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-wms-pushstart\r\nUser-Agent: {AGENT}\r\n\
             Content-Length: {length}\r\nCookie: push-id={id}\r\n\r\n"
        ));
    }

    /// A response with its Content-Length, or with none and no body.
    pub fn response(&mut self) -> Response {
        let head = self.head();
        let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
        let mut response = Response { status, head, body: Vec::new() };
        if let Some(length) = response.header("Content-Length") {
            response.body = self.take(length.parse().unwrap());
        }
        response
    }

    pub fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.take(1));
        }
        String::from_utf8(head).unwrap()
    }

    pub fn take(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// A packet of a pull stream: its letter and what follows the framing header.
    pub fn pulled(&mut self) -> (char, Vec<u8>) {
        let framing = self.take(4);
        assert_eq!(framing[0], b'$');
        let len = u16::from_le_bytes([framing[2], framing[3]]);
        (char::from(framing[1]), self.take(len.into()))
    }

    /// The next data packet of a pull stream: (LocationId, AFFlags, ASF packet).
    pub fn pulled_data(&mut self) -> (u32, u8, Vec<u8>) {
        let (letter, payload) = self.pulled();
        assert_eq!(letter, 'D');
        assert_eq!(usize::from(u16::from_le_bytes([payload[6], payload[7]])), payload.len());
        (u32::from_le_bytes(payload[..4].try_into().unwrap()), payload[5], payload[8..].to_vec())
    }

    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
            Ok(_) | Err(_) => rest,
        }
    }

    pub fn is_closed(&mut self) -> bool {
        self.rest().is_empty()
    }
}

pub fn header_with(preroll: u64) -> Bytes {
    HeaderBuilder { preroll, flags: 1, ..HeaderBuilder::default() }.audio_only().build()
}

pub fn header() -> Bytes {
    header_with(3000)
}

/// The `n`th packet, shorter than the packet size: as a pusher sends it.
pub fn stripped(n: u8) -> Bytes {
    let payloads = vec![Payload::new(1, &[n; 50]), Payload::new(1, &[n; 20])];
    PacketBuilder { size: 0, payloads, ..PacketBuilder::default() }.build()
}

pub fn carries(packet: &[u8], n: u8) -> bool {
    packet.len() == PACKET_SIZE && packet.windows(50).any(|window| window == [n; 50])
}

pub fn server_with(change: impl FnOnce(&mut Config)) -> RunningServer {
    let mut config = Config::with_points(["Concert"], &PointConfig::default());
    change(&mut config);
    Server::spawn(config).unwrap()
}

pub fn server() -> RunningServer {
    server_with(|_| {})
}

/// A push under way: its `$H` and the packets `0..packets` have been received.
pub fn push(server: &RunningServer, packets: u8) -> (Wire, String) {
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
pub fn play(server: &RunningServer, expected: &[u8]) -> Wire {
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
pub const FFMPEG_DESCRIBE: &str = "GET /concert HTTP/1.1\r\nUser-Agent: NSPlayer/4.1.0.3856\r\nAccept: */*\r\nRange: bytes=0-\r\n\
    Connection: close\r\nHost: 127.0.0.1:8080\r\nIcy-MetaData: 1\r\n\
    Pragma: no-cache,rate=1.000000,stream-time=0,stream-offset=0:0,request-context=1,max-duration=0\r\n\
    Pragma: xClientGUID={c77e7400-738a-11d2-9add-0020af0a3278}\r\n\r\n";
pub const FFMPEG_PLAY: &str = "GET /concert HTTP/1.1\r\nUser-Agent: NSPlayer/4.1.0.3856\r\nAccept: */*\r\nRange: bytes=0-\r\n\
    Host: 127.0.0.1:8080\r\nIcy-MetaData: 1\r\n\
    Pragma: no-cache,rate=1.000000,request-context=2\r\nPragma: xPlayStrm=1\r\n\
    Pragma: xClientGUID={c77e7400-738a-11d2-9add-0020af0a3278}\r\nPragma: stream-switch-count=1\r\n\
    Pragma: stream-switch-entry=ffff:1:0 \r\nPragma: no-cache,rate=1.000000,stream-time=0Connection: Close\r\n\r\n";
/// As VLC 3.0 sends it.
pub const VLC_PLAY: &str = "GET /concert HTTP/1.0\r\nAccept: */*\r\nUser-Agent: NSPlayer/7.10.0.3059\r\nHost: 127.0.0.1:8080\r\n\
    Pragma: no-cache,rate=1.000000,stream-time=0,stream-offset=4294967295:4294967295,request-context=2,max-duration=0\r\n\
    Pragma: xPlayStrm=1\r\nPragma: xClientGUID={0x3300AD50-0x2C39-0x46c0-AE0A-0x8F6A3E6B9B6F}\r\n\
    Pragma: stream-switch-count=1\r\nPragma: stream-switch-entry=ffff:1:0\r\nConnection: Close\r\n\r\n";

pub fn ask(server: &RunningServer, request: &str) -> Response {
    let mut wire = Wire::to(server.addr());
    wire.send(request);
    wire.response()
}
