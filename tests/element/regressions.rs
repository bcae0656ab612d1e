//! The maximum sizes and numbers that the protocol and ASF allow, and one more.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use asf::test_util::{self, HeaderBuilder, PacketBuilder, Payload};
use asf::{Header, Parser, Settings};
use asf_publishing_point::{BlockingServer, Config, PointConfig, Server};
use bytes::Bytes;
use tempfile::TempDir;
use test_support::decoded::recordings;
use test_support::media;
use test_support::peer::{Peer, wms};
use test_support::pipeline::{Pushing, end, push_bytes, pushing_to, until};
use test_support::puller::Puller;
use wmhttp::packet::Packet;

/// Maximum size of an ASF file header that also fits `$C`.
const LARGEST_HEADER: usize = 65_527;
const STEP: u32 = 40;
/// Time until a connection without a reader has accepted as much as it can.
const FULL: Duration = Duration::from_millis(500);

fn server(record: &Path) -> BlockingServer {
    let point = PointConfig { record: Some(record.to_owned()), ..PointConfig::default() };
    Server::spawn(Config::with_points(["concert"], &point)).unwrap()
}

fn pushing_to_server(server: &BlockingServer) -> (Pushing, gst::Element) {
    let location = format!("sync=false location=http://{}/concert eos-timeout=60000", server.addr());
    let (pushing, source) = Pushing::with_feed_source(&location);
    pushing.play();
    (pushing, source)
}

/// Returns the header and the packets, without padding, of the only recording.
fn recorded(folder: &Path) -> (Bytes, Vec<Bytes>) {
    let [file] = &recordings(folder)[..] else { panic!("one recording") };
    let mut parser = Parser::new(Settings::default());
    parser.push(fs::read(file).unwrap().into());
    let packets = std::iter::from_fn(|| parser.next_packet().unwrap());
    let packets = packets.map(|unit| unit.packet.slices().concat().into()).collect();
    (parser.header().unwrap().bytes().clone(), packets)
}

// ---- P-3, P-4: headers ----

/// Returns a header of this size from which nothing can be removed: the names of its codecs, which begin with this
/// byte, fill it.
fn header_of(len: usize, first: u8) -> Bytes {
    let builder = HeaderBuilder { flags: 1, ..HeaderBuilder::default() }.packet_size(media::SIZE);
    let mut names = vec![0; len - builder.build().len() - 24];
    names[0] = first;
    let header = builder.object(test_util::CODEC_LIST, &names).build();
    assert_eq!(header.len(), len);
    header
}

/// P-3, P-4: every byte of the header is sent as `$H` and as `$C`.
#[test]
fn p3_p4_the_largest_header() {
    let peer = Peer::new();
    let (pushing, source) = pushing_to(std::slice::from_ref(&peer), "");
    let [first, second] = [1, 2].map(|first| header_of(LARGEST_HEADER, first));
    push_bytes(&source, [&first[..], &media::packets(0..5, STEP)].concat());
    push_bytes(&source, [&second[..], &media::packets(0..5, STEP)].concat());
    end(&source);
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    let packets = connection.until_the_end();
    connection.answer(&wms(204, "one"));
    pushing.wait_for_eos();
    let live = |header: &Bytes| Header::parse(header.clone()).unwrap().to_live().bytes().clone();
    assert_eq!(packets[0], Packet::Header(live(&first)));
    let changed = packets.iter().find(|packet| matches!(packet, Packet::StreamChange(_)));
    assert_eq!(changed, Some(&Packet::StreamChange(live(&second))));
}

/// A player receives it in one piece, and it is in the recording.
#[test]
fn the_largest_header_reaches_players() {
    let directory = TempDir::new().unwrap();
    let server = server(directory.path());
    let (pushing, source) = pushing_to_server(&server);
    let header = header_of(LARGEST_HEADER, 1);
    push_bytes(&source, [&header[..], &media::packets(0..5, STEP)].concat());
    until("the stream", || server.stats("concert").unwrap().packets == 5);
    let player = Puller::of(server.addr(), "concert");
    until("the player", || server.stats("concert").unwrap().players == 1);
    push_bytes(&source, media::packets(5..10, STEP));
    end(&source);
    pushing.wait_for_eos();
    let pulled = player.end();
    let live = Header::parse(header).unwrap().to_live().bytes().clone();
    assert_eq!(pulled.headers, [live]);
    server.stop();
    assert_eq!(recorded(directory.path()).0, pulled.headers[0]);
}

/// A header with one byte more is an error with a remedy.
#[test]
fn a_header_too_large() {
    let peer = Peer::new();
    let (pushing, source) = pushing_to(std::slice::from_ref(&peer), "");
    push_bytes(&source, [&header_of(LARGEST_HEADER + 1, 1)[..], &media::packets(0..5, STEP)].concat());
    let (error, details) = pushing.wait_for_error();
    let text = error.to_string();
    assert!(text.contains("65528 bytes; the limit is 65527") && text.contains("Remove metadata"), "{text}");
    assert!(error.matches(gst::StreamError::Format), "{error:?}");
    assert_eq!(details.get::<String>("hresult-name").unwrap(), "ASF_E_HEADERSIZE", "{details}");
}

// ---- P-5: data packets ----

/// Returns packet number `n` of this size, without padding.
fn packet_of(size: usize, n: u32) -> Bytes {
    let build = |data: &[u8]| {
        let payloads = vec![Payload::new(2, data).key()];
        PacketBuilder { size: 0, payloads, ..PacketBuilder::default() }.send_time(n * STEP).build()
    };
    let mut data = vec![n.to_le_bytes()[0]; size - build(&[]).len()];
    data[..4].copy_from_slice(&n.to_le_bytes());
    let packet = build(&data);
    assert_eq!(packet.len(), size);
    packet
}

/// P-5: the largest `$D`, and the largest one that also fits a player's packet.
#[test]
fn p5_the_largest_packets() {
    for (size, has_players) in [(65_527, true), (65_535, false)] {
        let directory = TempDir::new().unwrap();
        let server = server(directory.path());
        let (pushing, source) = pushing_to_server(&server);
        let header = HeaderBuilder::default().packet_size(u32::try_from(size).unwrap()).build();
        let packets: Vec<Bytes> = (0..100).map(|n| packet_of(size, n)).collect();
        push_bytes(&source, [&header[..], &packets[..10].concat()].concat());
        until("the stream", || server.stats("concert").unwrap().packets == 10);
        let player = has_players.then(|| Puller::of(server.addr(), "concert"));
        until("the player", || player.is_none() || server.stats("concert").unwrap().players == 1);
        packets[10..].iter().for_each(|packet| push_bytes(&source, packet.clone()));
        end(&source);
        pushing.wait_for_eos();
        assert_eq!(pushing.count(0, "packets-sent"), 100);
        if let Some(player) = player {
            let pulled = player.end().packets;
            assert!(pulled.len() >= 90 && packets.ends_with(&pulled), "{size}: {} packets", pulled.len());
        }
        server.stop();
        assert!(recorded(directory.path()).1 == packets, "{size}");
    }
}

/// Large packets wait for a slow server as small ones do.
#[test]
fn large_packets_wait_for_a_slow_server() {
    const PACKETS: u32 = 60;
    for size in [33_000, 50_000, 65_535] {
        let peer = Peer::with_small_buffer();
        let (pushing, source) = pushing_to(std::slice::from_ref(&peer), "max-size-time=0 max-size-bytes=0");
        push_bytes(&source, HeaderBuilder::default().packet_size(u32::try_from(size).unwrap()).build());
        (0..PACKETS).for_each(|n| push_bytes(&source, packet_of(size, n)));
        let mut connection = peer.accept();
        connection.set_up(&wms(204, "one"));
        thread::sleep(FULL);
        connection.packet();
        let data: Vec<Bytes> = (0..PACKETS).flat_map(|_| connection.data(1)).collect();
        assert!(data.iter().zip(0..).all(|(data, n)| *data == packet_of(size, n)), "{size}");
        end(&source);
        connection.until_the_end();
        connection.answer(&wms(204, "one"));
        pushing.wait_for_eos();
    }
}

/// A packet with one byte more is an error with a remedy.
#[test]
fn packets_too_large() {
    let peer = Peer::new();
    let (pushing, source) = pushing_to(std::slice::from_ref(&peer), "");
    push_bytes(&source, HeaderBuilder::default().packet_size(65_536).build());
    let (error, details) = pushing.wait_for_error();
    let text = error.to_string();
    assert!(text.contains("65536 bytes; the limit is 65535") && text.contains("packet-size"), "{text}");
    assert_eq!(details.get::<String>("hresult-name").unwrap(), "ASF_E_PACKETCONTENTTOOLARGE", "{details}");
}

// ---- H-2: push-ids ----

/// H-2: a push-id is whatever the server assigns, up to 255 visible characters.
#[test]
fn h2_the_longest_push_id() {
    let odd: String = ('!'..='~').filter(|character| !";,".contains(*character)).cycle().take(255).collect();
    let peer = Peer::new();
    let (pushing, source) = pushing_to(std::slice::from_ref(&peer), "content-length=6000");
    push_bytes(&source, media::stream(10, STEP));
    end(&source);
    let mut connection = peer.accept();
    let mut start = connection.set_up(&wms(204, &odd));
    let mut bodies = 1;
    loop {
        assert_eq!(start.push_id(), odd);
        let is_over = connection.until_the_end().iter().any(|packet| matches!(packet, Packet::End(_)));
        connection.answer(&wms(204, &odd));
        if is_over {
            break;
        }
        start = connection.request();
        bodies += 1;
    }
    assert!(bodies > 1, "it is sent again");
    pushing.wait_for_eos();
}

// ---- streams ----

const STREAMS_SIZE: usize = 2000;
/// A packet can contain up to 63 payloads.
const PER_PACKET: u32 = 60;

/// Returns packet number `n`, with data of as many streams as it can contain, in turn.
fn packet_of_streams(streams: u32, n: u32) -> Bytes {
    let first = n % streams.div_ceil(PER_PACKET) * PER_PACKET + 1;
    let numbers = (first..=streams).take(PER_PACKET as usize).map(|number| u8::try_from(number).unwrap());
    let payloads = numbers.map(|number| Payload::new(number, &[number, 1]).key()).collect();
    PacketBuilder::asfmux(STREAMS_SIZE, payloads).send_time(n * STEP).build()
}

fn header_of_streams(streams: u16) -> Bytes {
    let kinds = [test_util::AUDIO_MEDIA, test_util::VIDEO_MEDIA, test_util::COMMAND_MEDIA];
    let streams = (1..=streams).map(|number| (number, kinds[usize::from(number) % 3])).collect();
    HeaderBuilder { streams, flags: 1, ..HeaderBuilder::default() }.packet_size(STREAMS_SIZE as u32).build()
}

/// Thirty streams, and the maximum of 127.
#[test]
fn the_maximum_number_of_streams() {
    for streams in [30_u8, 127] {
        let directory = TempDir::new().unwrap();
        let server = server(directory.path());
        let (pushing, source) = pushing_to_server(&server);
        let header = header_of_streams(streams.into());
        let packets: Vec<Bytes> = (0..20).map(|n| packet_of_streams(streams.into(), n)).collect();
        push_bytes(&source, [&header[..], &packets.concat()].concat());
        end(&source);
        pushing.wait_for_eos();
        server.stop();
        let (recorded_header, recorded) = recorded(directory.path());
        let numbers = |header: &Bytes| {
            let header = Header::parse(header.clone()).unwrap();
            header.streams().iter().map(|stream| stream.number).collect::<Vec<_>>()
        };
        assert_eq!(numbers(&recorded_header), (1..=streams).collect::<Vec<_>>());
        let mut parser = Parser::new(Settings::default());
        parser.push([&header[..], &packets.concat()].concat().into());
        let pushed: Vec<Bytes> = std::iter::from_fn(|| parser.next_packet().unwrap())
            .map(|unit| unit.packet.slices().concat().into())
            .collect();
        assert!(pushed.len() == 20 && recorded == pushed, "{streams}");
    }
}
