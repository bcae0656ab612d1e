//! Sessions of players, their stream selection, and settings of points for players.
//!
//! Timeouts only end a test that fails.

use std::net::SocketAddr;
use std::time::Duration;

use asf::test_util::{HeaderBuilder, PacketBuilder, Payload};
use asf_publishing_point::BlockingServer;
use asf_publishing_point::config::{HeaderChange, SlowPlayers};
use bytes::Bytes;
use test_support::encoder::{self, Encoder, Player};
use test_support::pipeline::until;
use test_support::server_fixture::*;
use test_support::wire::{CONCERT, Wire};
use wmhttp::Hresult;
use wmhttp::packet::Packet;

const END: (char, [u8; 4]) = ('E', [0; 4]);

fn point_with(change: impl Fn(&mut asf_publishing_point::PointConfig)) -> BlockingServer {
    server_with(|config| config.points.values_mut().for_each(&change))
}

fn with_pragma(method: &str, pragma: &str) -> String {
    format!(
        "{method} /concert HTTP/1.0\r\nUser-Agent: NSPlayer/9.0.0.2980\r\nPragma: {pragma}\r\nContent-Length: 0\r\n\r\n"
    )
}

fn client_id(head: &str) -> u32 {
    let (_, rest) = head.split_once("client-id=").unwrap();
    rest.split(',').next().unwrap().parse().unwrap()
}

/// Sends a Play request with these Pragmas; returns the response head, and the connection after the `$H`.
fn play_with(address: SocketAddr, pragma: &str) -> (String, Wire) {
    let mut wire = Wire::to(address);
    wire.send(with_pragma("GET", pragma));
    let head = wire.head();
    assert!(head.contains(" 200 "), "{head}");
    assert_eq!(wire.pulled().0, 'H');
    (head, wire)
}

/// [MS-WMSP] 3.2.5: a session from Describe to Stop, in which no other player can stream.
#[test]
fn a_session_has_one_stream_and_can_be_stopped() {
    let server = server();
    let (mut pusher, _) = push(&server, 1);
    let describe = ask(&server, &with_pragma("GET", "no-cache,rate=1.000"));
    let id = client_id(&describe.head);
    assert!(id != 0 && !describe.head.contains("xResetStrm"), "{describe:?}");
    let (head, mut player) = play_with(server.addr(), &format!("xPlayStrm=1,client-id={id}"));
    assert_eq!(client_id(&head), id);
    assert!(!head.contains("xResetStrm"), "{head}");
    assert!(carries(&player.pulled_data().2, 0));

    let again = ask(&server, &with_pragma("GET", &format!("xPlayStrm=1,client-id={id}")));
    assert_eq!(again.status, 400, "{again:?}");
    pusher.packet(Packet::Data(stripped(1)));
    assert!(carries(&player.pulled_data().2, 1));

    let stop = ask(&server, &with_pragma("POST", &format!("xStopStrm=1,client-id={id}")));
    assert_eq!((stop.status, stop.header("Content-Length")), (200, Some("0")), "{stop:?}");
    assert_eq!(player.pulled(), (END.0, END.1.to_vec()));
    assert!(player.is_closed());
    until("the end of the stream", || server.stats("concert").unwrap().playing == 0);
    let keep = ask(&server, &with_pragma("POST", &format!("xKeepAliveInPause=1,client-id={id}")));
    assert_eq!((keep.status, keep.header("Content-Length")), (200, Some("0")), "{keep:?}");
    assert!(keep.header("Pragma").unwrap().contains("timeout=60000"), "{keep:?}");
    let (head, _player) = play_with(server.addr(), &format!("xPlayStrm=1,client-id={id}"));
    assert_eq!(client_id(&head), id);
}

/// [MS-WMSP] 3.2.5.1: a client-id without a session.
#[test]
fn an_unknown_session_is_started_or_refused() {
    let server = server();
    let (_pusher, _) = push(&server, 1);
    let describe = ask(&server, &with_pragma("GET", "rate=1.000,client-id=77"));
    assert!(describe.header("Pragma").unwrap().contains(",xResetStrm=1"), "{describe:?}");
    assert_ne!(client_id(&describe.head), 77);
    let (head, _player) = play_with(server.addr(), "xPlayStrm=1,client-id=78");
    assert!(head.contains(",xResetStrm=1"), "{head}");
    for what in ["xStopStrm=1", "xKeepAliveInPause=1", "stream-switch-entry=ffff:1:0"] {
        for id in ["", ",client-id=79", ",client-id=0"] {
            assert_eq!(ask(&server, &with_pragma("POST", &format!("{what}{id}"))).status, 400, "{what}{id}");
        }
    }
}

/// Pipelined KeepAlive requests on one connection, and then a Play on it.
#[test]
fn options_keep_a_connection() {
    let server = server();
    let (_pusher, _) = push(&server, 1);
    let mut wire = Wire::to(server.addr());
    for _ in 0..3 {
        wire.send("OPTIONS * HTTP/1.1\r\nHost: x\r\nUser-Agent: NSPlayer/9.0.0.2980\r\n\r\n");
        let response = wire.response();
        assert_eq!((response.status, response.header("Content-Length")), (200, Some("0")), "{response:?}");
        let methods = Some("OPTIONS, GET, HEAD, POST");
        assert_eq!((response.header("Public"), response.header("Allow")), (methods, methods));
    }
    wire.send(FFMPEG_PLAY);
    assert!(wire.head().contains(" 200 "));
    assert_eq!(wire.pulled().0, 'H');
}

// ---- streams ----

fn both() -> Bytes {
    HeaderBuilder { flags: 1, ..HeaderBuilder::default() }.build()
}

/// Returns a packet with audio and video; every tenth packet has a video key frame.
fn mixed(n: u8) -> Bytes {
    let video = Payload::new(2, &[0x40 | n; 60]);
    let video = if n.is_multiple_of(10) { video.key() } else { video };
    PacketBuilder::asfmux(PACKET_SIZE, vec![Payload::new(1, &[0x80 | n; 30]).key(), video]).build()
}

fn has_audio(packet: &[u8], n: u8) -> bool {
    packet.windows(30).any(|window| window == [0x80 | n; 30])
}

fn has_video(packet: &[u8], n: u8) -> bool {
    packet.windows(60).any(|window| window == [0x40 | n; 60])
}

fn push_both(server: &BlockingServer) -> Wire {
    let mut wire = Wire::to(server.addr());
    let id = wire.setup(CONCERT, "").push_id();
    wire.start(CONCERT.id(&id), []);
    wire.packet(Packet::Header(both()));
    wire.packet(Packet::Data(mixed(0)));
    until("the packet", || server.stats("concert").unwrap().packets == 1);
    wire
}

/// Players receive only the streams that they select, in packets of full size. A stream that is selected later starts
/// with a key frame, without an effect on the others.
#[test]
fn players_receive_the_selected_streams() {
    let server = server();
    let mut pusher = push_both(&server);
    let (head, mut audio) = play_with(server.addr(), "xPlayStrm=1,stream-switch-count=1,stream-switch-entry=ffff:1:0 ");
    let (_, mut keys) = play_with(server.addr(), "xPlayStrm=1,stream-switch-entry=ffff:2:1");
    let (_, mut all) = play_with(server.addr(), "xPlayStrm=1");
    for n in 0..8 {
        let (location, _, packet) = audio.pulled_data();
        assert_eq!((location, packet.len()), (n.into(), PACKET_SIZE));
        assert!(has_audio(&packet, n) && !has_video(&packet, n), "{packet:02x?}");
        let (_, _, packet) = all.pulled_data();
        assert!(has_audio(&packet, n) && has_video(&packet, n));
        pusher.packet(Packet::Data(mixed(n + 1)));
    }
    assert!(has_audio(&audio.pulled_data().2, 8));

    let select = format!("stream-switch-count=1,stream-switch-entry=ffff:2:0,client-id={}", client_id(&head));
    assert_eq!(ask(&server, &with_pragma("POST", &select)).status, 200);
    for n in 9..=12 {
        pusher.packet(Packet::Data(mixed(n)));
        let (_, _, packet) = audio.pulled_data();
        assert!(has_audio(&packet, n));
        assert_eq!(has_video(&packet, n), n >= 10, "{n}");
    }
    let select = format!("stream-switch-entry=1:ffff:2,client-id={}", client_id(&head));
    assert_eq!(ask(&server, &with_pragma("POST", &select)).status, 200);
    pusher.packet(Packet::Data(mixed(13)));
    let (_, _, packet) = audio.pulled_data();
    assert!(!has_audio(&packet, 13) && has_video(&packet, 13));

    pusher.packet(Packet::Data(mixed(20)));
    for (location, n) in [0, 10, 20].into_iter().enumerate() {
        let (found, _, packet) = keys.pulled_data();
        assert_eq!(found as usize, location, "packets without selected streams are left out and not counted");
        assert!(has_video(&packet, n) && !has_audio(&packet, n), "{n}");
    }
}

// ---- settings of a point ----

/// Without a fast start a player starts at the next key frame.
#[test]
fn fast_start_is_a_setting() {
    for fast in [true, false] {
        let server = point_with(|point| point.fast_start = fast);
        let mut pusher = push_both(&server);
        pusher.packet(Packet::Data(mixed(1)));
        until("the packet", || server.stats("concert").unwrap().packets == 2);
        let (_, mut player) = play_with(server.addr(), "xPlayStrm=1");
        for n in [2, 10] {
            pusher.packet(Packet::Data(mixed(n)));
        }
        let expected: &[u8] = if fast { &[0, 1, 2, 10] } else { &[10] };
        for (location, n) in expected.iter().enumerate() {
            let (found, _, packet) = player.pulled_data();
            assert_eq!(found as usize, location);
            assert!(has_video(&packet, *n), "{n}");
        }
        assert_eq!(server.stats("concert").unwrap().missed, 0, "packets before the start do not count as missed");
    }
}

/// An incompatible header is sent in place to Windows players and ends the stream of all others, unless the point is
/// configured differently.
#[test]
fn a_changed_header_is_sent_to_players_that_support_it() {
    const WINDOWS: &str = "GET /concert HTTP/1.0\r\nUser-Agent: NSPlayer/12.0.7601\r\nPragma: xPlayStrm=1\r\n\r\n";
    const VLC: &str = "GET /concert HTTP/1.0\r\nUser-Agent: NSPlayer/7.10.0.3059\r\nPragma: xPlayStrm=1\r\n\r\n";
    const FFMPEG: &str = "GET /concert HTTP/1.0\r\nUser-Agent: NSPlayer/4.1.0.3856\r\nPragma: xPlayStrm=1\r\n\r\n";
    for (change, request, end) in [
        (HeaderChange::Auto, WINDOWS, None),
        (HeaderChange::Auto, VLC, Some(0)),
        (HeaderChange::Auto, FFMPEG, Some(0)),
        (HeaderChange::InPlace, VLC, None),
        (HeaderChange::Reconnect, WINDOWS, Some(1)),
    ] {
        let server = point_with(|point| point.header_change = change);
        let (mut pusher, _) = push(&server, 1);
        let mut player = Wire::to(server.addr());
        player.send(request);
        assert!(player.head().contains(" 200 "));
        assert_eq!(player.pulled().0, 'H');
        assert!(carries(&player.pulled_data().2, 0));
        pusher.packet(Packet::End(Hresult::FALSE));
        pusher.packet(Packet::StreamChange(header_with(4000)));
        pusher.packet(Packet::Data(stripped(1)));
        if let Some(reason) = end {
            assert_eq!(player.pulled(), ('E', vec![reason, 0, 0, 0]), "{change:?}");
            assert!(player.is_closed());
            let mut player = play(&server, &header_with(4000));
            assert!(carries(&player.pulled_data().2, 1));
        } else {
            assert_eq!(player.pulled(), ('C', vec![0; 4]), "{change:?}");
            assert_eq!(player.pulled().0, 'H');
            assert!(carries(&player.pulled_data().2, 1));
        }
    }
}

/// With a compatible header, as after a restart of an encoder, players continue without it, and their clock continues
/// too.
#[test]
fn a_restart_of_an_encoder_is_not_noticed() {
    let server = point_with(|_| {});
    let (mut pusher, id) = Wire::set_up(server.addr(), CONCERT);
    let packet = |n: u8, send_time: u32| {
        let payloads = vec![Payload::new(1, &[n; 50])];
        Packet::Data(PacketBuilder::asfmux(200, payloads).send_time(send_time).build())
    };
    pusher.start(CONCERT.id(&id), [Packet::Header(header()), packet(0, 20_000), packet(1, 20_040)]);
    until("the packets", || server.stats("concert").unwrap().packets == 2);
    let mut player = Wire::to(server.addr());
    player.send("GET /concert HTTP/1.0\r\nPragma: xPlayStrm=1\r\n\r\n");
    player.head();
    assert_eq!(player.pulled().0, 'H');
    let mut plain = Wire::to(server.addr());
    plain.send("GET /concert?format=asf HTTP/1.0\r\n\r\n");
    plain.head();
    assert_eq!(plain.take(header().len()), header());
    let builder = HeaderBuilder { preroll: 3000, flags: 1, max_bitrate: 1, ..HeaderBuilder::default() };
    let another = builder.audio_only().build();
    assert_ne!(another, header());
    pusher.packet(Packet::End(Hresult::FALSE));
    pusher.packets([Packet::StreamChange(another.clone()), packet(2, 0), packet(3, 40)]);
    let both = [(1, 20_040), (2, 20_080), (3, 20_120)];
    for (location, (n, send_time)) in both.into_iter().enumerate() {
        let (found, _, framed) = player.pulled_data();
        assert_eq!(found as usize, location);
        for bytes in [framed, plain.take(200)] {
            assert!(carries(&bytes, n));
            assert_eq!(asf::send_time(&bytes), Some(send_time));
        }
    }
    // A player that joins later has the new header.
    play(&server, &another);
}

/// If the point is configured so, the stream of a player that is too slow ends. The packets that it missed are counted.
#[test]
fn slow_players_are_disconnected_if_configured() {
    for (policy, goes_on) in [(SlowPlayers::Skip, true), (SlowPlayers::Disconnect, false)] {
        let server = point_with(|point| {
            point.slow_players = policy;
            point.limits.bytes = 100_000;
        });
        let (mut pusher, _) = push(&server, 1);
        let mut slow = play(&server, &header());
        assert!(carries(&slow.pulled_data().2, 0));
        let batch: Vec<u8> = (0..50).flat_map(|_| Packet::Data(stripped(9)).to_bytes().unwrap()).collect();
        // More than the sockets in between can buffer.
        for _ in 0..2000 {
            pusher.send(&batch);
        }
        pusher.packet(Packet::Data(stripped(10)));
        until("all of it", || server.stats("concert").unwrap().packets == 100_002);
        let reached_the_newest = loop {
            match slow.pulled() {
                ('D', payload) if carries(&payload[8..], 10) => break true,
                ('D', _) => {}
                end => {
                    assert_eq!(end, (END.0, END.1.to_vec()));
                    break false;
                }
            }
        };
        assert_eq!(reached_the_newest, goes_on, "{policy:?}");
        let missed = server.stats("concert").unwrap().missed;
        assert!(missed > 0 && missed < 100_000, "{missed}");
    }
}

/// A player that acknowledges no data is considered dead, and its place becomes free.
#[test]
fn a_player_that_acknowledges_nothing_is_dropped() {
    let server = server_with(|config| config.bounds.stall_timeout = Duration::from_secs(1));
    let _encoder = Encoder::without_pauses(server.addr(), "concert", "WMEncoder/12.0", encoder::header("", ""));
    let playing = || server.stats("concert").unwrap().playing;
    until("a stream", || server.stats("concert").unwrap().headers > 0);
    let _reads = Player::start(server.addr(), "concert", "NSPlayer/9.0", false);
    let _stuck = Player::start(server.addr(), "concert", "NSPlayer/9.0", true);
    until("both play", || playing() == 2);
    until("one is dropped", || playing() == 1);
    assert_eq!(server.stats("concert").unwrap().players, 2);
}
