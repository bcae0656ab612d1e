//! Many players of one point receive the same bytes. `benches/run server` measures a thousand.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use asf::test_util::{PacketBuilder, Payload};
use rand::RngExt as _;
use socket2::{Domain, Socket, Type};
use test_support::pipeline::until;
use test_support::player_load::{self, listen};
use test_support::server_fixture::*;
use test_support::wire::{CONCERT, Wire};
use wmhttp::Hresult;
use wmhttp::packet::Packet;

const PLAYERS: usize = 200;
const PACKETS: u32 = 100;

/// All players use the plain stream, in which all bytes are shared. With the pull protocol, only packet numbers would
/// differ.
#[test]
fn two_hundred_players_get_the_same_bytes() {
    let server = server();
    let mut pusher = Wire::to(server.addr());
    let id = pusher.setup(CONCERT, "").push_id();
    pusher.start(CONCERT.id(&id), []);
    pusher.packet(Packet::Header(player_load::header()));
    until("the header", || server.stats("concert").unwrap().headers == 1);

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (begun, begins) = channel();
    let players: Vec<_> = (0..PLAYERS)
        .map(|_| {
            let begun = begun.clone();
            runtime.spawn(listen(server.addr(), "/concert?format=asf", move || begun.send(()).unwrap()))
        })
        .collect();
    begins.iter().take(PLAYERS).for_each(drop);
    assert_eq!(server.stats("concert").unwrap().playing, PLAYERS as u64);
    for n in 0..PACKETS {
        pusher.packet(Packet::Data(player_load::packet(n)));
    }
    pusher.packet(Packet::End(Hresult::OK));
    let received: HashSet<_> =
        players.into_iter().map(|player| runtime.block_on(player).unwrap()).map(|got| (got.hash, got.bytes)).collect();
    assert_eq!(received.len(), 1, "{received:?}");
    let (_, bytes) = received.into_iter().next().unwrap();
    assert_eq!(bytes as usize, player_load::header().len() + PACKETS as usize * player_load::PACKET);
    assert_eq!(server.stats("concert").unwrap().missed, 0);
}

/// Precedes the number in the packets of [`numbered`].
const MARK: [u8; 16] = [0xa5; 16];

/// Returns the `n`th packet, from which its number can be read.
fn numbered(n: u32) -> Packet {
    let mut data = [&MARK[..], &n.to_le_bytes()].concat();
    data.resize(player_load::PACKET - 60, 1);
    let payloads = vec![Payload::new(1, &data).key()];
    Packet::Data(PacketBuilder { size: 0, payloads, ..PacketBuilder::default() }.send_time(n).build())
}

fn number_in(packet: &[u8]) -> u32 {
    assert_eq!(packet.len(), player_load::PACKET);
    let at = packet.windows(MARK.len()).position(|window| window == MARK).unwrap() + MARK.len();
    u32::from_le_bytes(packet[at..at + 4].try_into().unwrap())
}

/// How a player of [`players_of_any_speed_receive_whole_packets_in_order`] reads.
#[derive(Clone, Copy, Debug)]
struct Pace {
    receive_buffer: usize,
    max_read: usize,
    /// Maximum pause between two reads; `None` if it reads nothing until the encoder has sent everything.
    max_pause: Option<Duration>,
}

/// Sends the request, reads at this pace to the end, and returns all bytes.
fn read_at_pace(address: SocketAddr, request: &str, pace: Pace, sent_all: &AtomicBool) -> Vec<u8> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(pace.receive_buffer).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let (mut all, mut buffer) = (Vec::new(), vec![0; 1 << 17]);
    loop {
        match pace.max_pause {
            _ if sent_all.load(Ordering::Relaxed) => {}
            Some(pause) => thread::sleep(pause.mul_f64(rand::rng().random())),
            None => {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
        }
        let len = rand::rng().random_range(1..=pace.max_read);
        match stream.read(&mut buffer[..len]) {
            Ok(0) => return all,
            Ok(len) => all.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{pace:?}: {error}"),
        }
    }
}

/// Returns the body of a response, whose chunks must be whole.
fn body_of(response: &[u8]) -> Vec<u8> {
    let end = response.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let (head, mut rest) = (String::from_utf8_lossy(&response[..end]), &response[end + 4..]);
    assert!(head.contains(" 200 "), "{head}");
    if !head.contains("chunked") {
        return rest.to_vec();
    }
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n").unwrap();
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        body.extend_from_slice(&rest[line + 2..line + 2 + len]);
        assert_eq!(&rest[line + 2 + len..line + 4 + len], b"\r\n");
        rest = &rest[line + 4 + len..];
        if len == 0 {
            assert!(rest.is_empty(), "nothing follows after the last chunk");
            return body;
        }
    }
}

/// Returns the numbers of the packets in the body of a pull stream, whose framing must count them without gaps.
fn numbers_of_framed(mut body: &[u8]) -> Vec<u32> {
    let mut numbers = Vec::new();
    loop {
        let len = usize::from(u16::from_le_bytes([body[2], body[3]]));
        let (framing, rest) = body.split_at(4);
        let (packet, rest) = rest.split_at(len);
        body = rest;
        match framing[..2] {
            [b'$', b'H'] => assert!(numbers.is_empty()),
            [b'$', b'D'] => {
                let count = u32::try_from(numbers.len()).unwrap();
                assert_eq!(packet[..4], count.to_le_bytes());
                assert_eq!(packet[4..6], [0, count.to_le_bytes()[0]]);
                numbers.push(number_in(&packet[8..]));
            }
            [b'$', b'E'] => {
                assert_eq!((packet, rest.len()), (&[0; 4][..], 0));
                return numbers;
            }
            _ => panic!("{framing:?} after {} packets", numbers.len()),
        }
    }
}

/// Players that read at random speeds receive each packet once, whole, in order and counted in their framing. Those that
/// are too slow miss packets; the server counts exactly these.
#[test]
fn players_of_any_speed_receive_whole_packets_in_order() {
    const PACKETS: u32 = 8000;
    let server = server_with(|config| config.points.values_mut().for_each(|point| point.limits.bytes = 200_000));
    let mut pusher = Wire::to(server.addr());
    let id = pusher.setup(CONCERT, "").push_id();
    pusher.start(CONCERT.id(&id), [Packet::Header(player_load::header())]);
    until("the header", || server.stats("concert").unwrap().headers == 1);

    let requests = [
        ("GET /concert HTTP/1.0\r\nHost: x\r\nPragma: xPlayStrm=1\r\n\r\n", true),
        ("GET /concert HTTP/1.1\r\nHost: x\r\nPragma: xPlayStrm=1, version11-enabled=1\r\n\r\n", true),
        ("GET /concert?format=asf HTTP/1.0\r\nHost: x\r\n\r\n", false),
        ("GET /concert?format=asf HTTP/1.1\r\nHost: x\r\n\r\n", false),
    ];
    let paces = [
        Pace { receive_buffer: 1 << 20, max_read: 1 << 17, max_pause: Some(Duration::ZERO) },
        Pace { receive_buffer: 8 << 10, max_read: 1 << 14, max_pause: Some(Duration::from_micros(500)) },
        Pace { receive_buffer: 32 << 10, max_read: 1 << 13, max_pause: Some(Duration::from_millis(4)) },
        Pace { receive_buffer: 32 << 10, max_read: 1 << 17, max_pause: None },
    ];
    let sent_all = Arc::new(AtomicBool::new(false));
    let mut players = Vec::new();
    for pace in paces {
        for (request, framed) in requests {
            let (address, sent_all) = (server.addr(), Arc::clone(&sent_all));
            let player = thread::spawn(move || read_at_pace(address, request, pace, &sent_all));
            players.push((player, pace, framed));
        }
    }
    until("the players", || server.stats("concert").unwrap().playing == players.len() as u64);
    for n in (0..PACKETS).step_by(8) {
        pusher.packets((n..n + 8).map(numbered));
        thread::sleep(Duration::from_micros(500));
    }
    pusher.packet(Packet::End(Hresult::OK));
    sent_all.store(true, Ordering::Relaxed);

    let mut missed = 0;
    for (player, pace, framed) in players {
        let body = body_of(&player.join().unwrap());
        let numbers = if framed {
            numbers_of_framed(&body)
        } else {
            let packets = body.strip_prefix(&player_load::header()[..]).unwrap().chunks(player_load::PACKET);
            packets.map(number_in).collect()
        };
        let ends = (numbers.first().copied(), numbers.last().copied());
        assert_eq!(ends, (Some(0), Some(PACKETS - 1)), "{pace:?}");
        assert!(numbers.is_sorted_by(|a, b| a < b), "{pace:?}: {numbers:?}");
        missed += u64::from(PACKETS) - numbers.len() as u64;
    }
    assert!(missed > 0, "some players are too slow");
    assert_eq!(server.stats("concert").unwrap().missed, missed);
}
