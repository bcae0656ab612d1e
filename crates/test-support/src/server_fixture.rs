//! A server with the publishing point `Concert`, a small stream for it, and requests of real players.

use asf::test_util::{HeaderBuilder, PacketBuilder, Payload};
use asf_publishing_point::{BlockingServer, Config, PointConfig, Server};
use bytes::Bytes;
use wmhttp::packet::Packet;

use crate::pipeline::until;
use crate::wire::{CONCERT, Response, Wire};

pub const PACKET_SIZE: usize = 200;

pub fn header_with(preroll: u64) -> Bytes {
    HeaderBuilder { preroll, flags: 1, ..HeaderBuilder::default() }.audio_only().build()
}

pub fn header() -> Bytes {
    header_with(3000)
}

/// Returns the `n`th packet, shorter than the packet size, as an encoder sends it.
pub fn stripped(n: u8) -> Bytes {
    let payloads = vec![Payload::new(1, &[n; 50]), Payload::new(1, &[n; 20])];
    PacketBuilder { size: 0, payloads, ..PacketBuilder::default() }.build()
}

pub fn carries(packet: &[u8], n: u8) -> bool {
    packet.len() == PACKET_SIZE && packet.windows(50).any(|window| window == [n; 50])
}

pub fn server_with(change: impl FnOnce(&mut Config)) -> BlockingServer {
    let mut config = Config::with_points(["Concert"], &PointConfig::default());
    change(&mut config);
    Server::spawn(config).unwrap()
}

pub fn server() -> BlockingServer {
    server_with(|_| {})
}

/// Starts a push, and returns after its `$H` and the packets `0..packets` have been received.
pub fn push(server: &BlockingServer, packets: u8) -> (Wire, String) {
    let before = server.stats("concert").unwrap().packets;
    let (mut wire, id) = Wire::set_up(server.addr(), CONCERT);
    let data = (0..packets).map(|n| Packet::Data(stripped(n)));
    wire.start(CONCERT.id(&id), [Packet::Header(header())].into_iter().chain(data));
    until("the packets", || {
        let stats = server.stats("concert").unwrap();
        stats.packets == before + u64::from(packets) && stats.headers > 0
    });
    (wire, id)
}

/// Starts a player, and returns after it has received the response's head and `$H`.
pub fn play(server: &BlockingServer, expected: &[u8]) -> Wire {
    let mut wire = Wire::to(server.addr());
    wire.send(FFMPEG_PLAY);
    let head = wire.head();
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    let (letter, payload) = wire.pulled();
    assert_eq!(letter, 'H');
    assert_eq!(payload[8..], *expected);
    wire
}

/// A request of ffmpeg 5.1, with its missing line break.
pub const FFMPEG_DESCRIBE: &str = "GET /concert HTTP/1.1\r\nUser-Agent: NSPlayer/4.1.0.3856\r\nAccept: */*\r\nRange: bytes=0-\r\n\
    Connection: close\r\nHost: 127.0.0.1:8080\r\nIcy-MetaData: 1\r\n\
    Pragma: no-cache,rate=1.000000,stream-time=0,stream-offset=0:0,request-context=1,max-duration=0\r\n\
    Pragma: xClientGUID={c77e7400-738a-11d2-9add-0020af0a3278}\r\n\r\n";
pub const FFMPEG_PLAY: &str = "GET /concert HTTP/1.1\r\nUser-Agent: NSPlayer/4.1.0.3856\r\nAccept: */*\r\nRange: bytes=0-\r\n\
    Host: 127.0.0.1:8080\r\nIcy-MetaData: 1\r\n\
    Pragma: no-cache,rate=1.000000,request-context=2\r\nPragma: xPlayStrm=1\r\n\
    Pragma: xClientGUID={c77e7400-738a-11d2-9add-0020af0a3278}\r\nPragma: stream-switch-count=1\r\n\
    Pragma: stream-switch-entry=ffff:1:0 \r\nPragma: no-cache,rate=1.000000,stream-time=0Connection: Close\r\n\r\n";
/// A request of VLC 3.0.
pub const VLC_PLAY: &str = "GET /concert HTTP/1.0\r\nAccept: */*\r\nUser-Agent: NSPlayer/7.10.0.3059\r\nHost: 127.0.0.1:8080\r\n\
    Pragma: no-cache,rate=1.000000,stream-time=0,stream-offset=4294967295:4294967295,request-context=2,max-duration=0\r\n\
    Pragma: xPlayStrm=1\r\nPragma: xClientGUID={0x3300AD50-0x2C39-0x46c0-AE0A-0x8F6A3E6B9B6F}\r\n\
    Pragma: stream-switch-count=1\r\nPragma: stream-switch-entry=ffff:1:0\r\nConnection: Close\r\n\r\n";

pub fn ask(server: &BlockingServer, request: &str) -> Response {
    let mut wire = Wire::to(server.addr());
    wire.send(request);
    wire.response()
}
