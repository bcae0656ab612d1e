//! The pull protocol byte by byte, with scripted players.
//!
//! Timeouts only end a test that fails.

use std::thread;

use asf::test_util::HeaderBuilder;
use test_support::pipeline::until;
use test_support::server_fixture::*;
use test_support::wire::{CONCERT, Wire};
use wmhttp::Hresult;
use wmhttp::packet::Packet;

/// Describe and Play requests as sent by players, and what the responses must contain.
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
        // Without video every packet is a possible start, so the player starts with the latest one.
        let (location, flags, packet) = player.pulled_data();
        assert_eq!((location, flags), (0, 0));
        assert!(carries(&packet, 2), "{packet:?}");
        until("the player", || server.stats("concert").unwrap().playing > 0);
    }
    until("the players have left", || server.stats("concert").unwrap().playing == 0);
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

/// Only HTTP/1.1 players receive chunked responses.
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

/// The pull protocol cannot frame packets this large: the player's stream ends, and the push continues.
#[test]
fn too_large_packets_end_the_players_stream() {
    let server = server();
    let header = HeaderBuilder { flags: 1, ..HeaderBuilder::default() }.audio_only().packet_size(65_535).build();
    let mut wire = Wire::to(server.addr());
    let id = wire.setup(CONCERT, "").push_id();
    wire.start(CONCERT.id(&id), []);
    wire.packet(Packet::Header(header.clone()));
    until("the header", || server.stats("concert").unwrap().headers == 1);
    let mut player = play(&server, &header);
    wire.packet(Packet::Data(stripped(0)));
    assert_eq!(player.rest(), b"$E\x04\0\0\0\0\0");
    wire.packet(Packet::Data(stripped(1)));
    until("both packets", || server.stats("concert").unwrap().packets == 2);
}

/// Other requests of players.
#[test]
fn other_requests_of_players() {
    let server = server();
    for (request, status) in [
        (
            "POST /concert HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-wms-LogStats\r\nContent-Length: 5\r\n\r\n<xml>",
            204,
        ),
        ("POST /concert HTTP/1.0\r\nPragma: log-line=no-cache\r\nContent-Length: 0\r\n\r\n", 204),
        ("POST /concert HTTP/1.0\r\nPragma: xKeepAliveInPause=1\r\nContent-Length: 0\r\n\r\n", 400),
        ("POST /concert HTTP/1.0\r\nPragma: xStopStrm=1\r\nContent-Length: 0\r\n\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        ("POST /concert HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 400),
        ("DELETE /concert HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    ] {
        let response = ask(&server, request);
        assert_eq!(response.status, status, "{request} {response:?}");
        // Only after that request does the connection stay open.
        let version = if request.starts_with("OPTIONS") { "HTTP/1.1 " } else { "HTTP/1.0 " };
        assert!(response.head.starts_with(version), "{response:?}");
    }
}

/// A changed header in mid-stream, in place: `$C`, `$H`, then further `$D`.
#[test]
fn a_stream_change_reaches_players_in_place() {
    let server = server();
    let (mut wire, _) = push(&server, 1);
    let mut player = Wire::to(server.addr());
    player.send("GET /concert HTTP/1.0\r\nUser-Agent: NSPlayer/9.0.0.2980\r\nPragma: xPlayStrm=1\r\n\r\n");
    player.head();
    assert_eq!(player.pulled().0, 'H');
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

/// A player that does not read is overrun; the other players and the encoder are not affected.
#[test]
fn a_slow_player_delays_nobody() {
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
