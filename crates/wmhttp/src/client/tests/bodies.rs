//! The size of a request's body, its end, and header changes in it.

use super::*;

/// H-7, C-7: a Via in the response limits bodies to about 60 s, if the ASF header has a bit rate.
#[test]
fn h7_c7_body_through_a_proxy() {
    let mut builder = HeaderBuilder::default().packet_size(PACKET);
    builder.max_bitrate = 800_000;
    let header = Arc::new(asf::Header::parse(builder.build()).unwrap());
    let mut answer = wms(204, "a");
    answer.headers.insert(VIA, HeaderValue::from_static("1.1 squid"));
    let mut peer = Played::ready(config(), &answer);
    peer.send(&header, 1);
    assert!(peer.session.uses_proxy());
    assert_eq!(
        peer.requests(),
        [Did::Start { push_id: "a".into(), connection: Connection::Same, content_length: 6_000_000 }]
    );
}

/// C-7: a Content-Length is at least three data packets and the header.
#[test]
fn c7_least_content_length() {
    let header = header();
    let mut peer = Played::ready(Config { content_length: Some(1), ..config() }, &wms(204, "a"));
    peer.send(&header, 1);
    let least = (3 * FRAMED + FRAMING_LEN + 4 + header.bytes().len()) as u64;
    assert!(peer.content_length >= least, "{} < {least}", peer.content_length);
    assert!(peer.content_length < 2 * least);
}

/// C-9, C-10, P-7: whatever the remainder, the body ends exactly at its Content-Length, with no empty `$F`, and the
/// next PushStart continues with `$D` on the same connection.
#[test]
fn c9_c10_p7_roll_over_at_every_remainder() {
    let header = header();
    let least = 3 * FRAMED + FRAMING_LEN + 4 + header.bytes().len() + 50;
    for extra in 0..2 * FRAMED {
        let content_length = (least + extra) as u64;
        let mut peer = Played::ready(Config { content_length: Some(content_length), ..config() }, &wms(204, "a"));
        let first = peer.send(&header, 100);
        assert!((3..100).contains(&first));
        assert_eq!(peer.body, peer.content_length, "exact");
        let fillers = peer.packets().split_off(1);
        assert!(!fillers.is_empty());
        for filler in fillers {
            assert!(matches!(filler, Packet::Filler(1..=8192)), "{filler:?}");
        }
        assert!(!peer.session.wants_data(), "waits for the response");
        peer.did.clear();
        peer.respond(&wms(204, "a"));
        assert_eq!(peer.send(&header, 1), 1);
        assert_eq!(
            peer.did,
            [
                Did::Event(Event::RolledOver),
                Did::Start { push_id: "a".into(), connection: Connection::Same, content_length },
                Did::Data(1),
            ]
        );
    }
}

/// C-9: fillers of more than 8,192 bytes are split so that none is too small (receivers, Framing 1).
#[test]
fn c9_a_large_remainder_is_filled_by_several_packets() {
    let big = Arc::new(asf::Header::parse(HeaderBuilder::default().packet_size(60_000).build()).unwrap());
    for rest in (8190..8220).chain(16_380..16_410) {
        let mut peer = Played::ready(Config { content_length: Some(1), ..config() }, &wms(204, "a"));
        let granted = peer.session.offer(&big, 60_004, peer.now);
        assert!(granted > 0);
        peer.run();
        let State::Open { remaining, .. } = peer.session.state else { panic!() };
        peer.session.sent(remaining - rest);
        peer.body += remaining - rest;
        assert_eq!(peer.session.offer(&big, 60_004, peer.now), 0);
        peer.run();
        assert_eq!(peer.body, peer.content_length);
        for filler in peer.packets().split_off(1) {
            assert!(matches!(filler, Packet::Filler(1..=8192)), "{rest}: {filler:?}");
        }
    }
}

/// C-12: a new header is sent as `$E`(1) and `$C`, even if it is equal byte for byte, and data continues.
#[test]
fn c12_header_change_in_the_session() {
    let first = header();
    let mut peer = Played::open(config(), &wms(204, "a"), &first);
    let second = header();
    assert_eq!(first.bytes(), second.bytes());
    assert_eq!(peer.send(&second, 1), 1);
    assert_eq!(
        peer.did,
        [
            Did::Packet(Packet::End(Hresult::FALSE)),
            Did::Packet(Packet::StreamChange(second.bytes().clone())),
            Did::Event(Event::HeaderChanged),
            Did::Data(1),
        ]
    );
}

/// C-12: whatever remains of the body, `$E`(1) and `$C` arrive in order, in this PushStart or the next.
#[test]
fn c12_header_change_at_every_remainder() {
    let first = header();
    let second = header();
    let change = FRAMING_LEN + 4 + second.bytes().len();
    for rest in MIN_FILLER_BYTES..(change + 40) as u64 {
        let mut peer = Played::open(config(), &wms(204, "a"), &first);
        let State::Open { remaining, .. } = peer.session.state else { panic!() };
        peer.session.sent(remaining - rest);
        peer.body += remaining - rest;
        let mut sent = peer.send(&second, 1);
        if sent == 0 {
            assert_eq!(peer.body, peer.content_length, "rest {rest}");
            peer.respond(&wms(204, "a"));
            sent = peer.send(&second, 1);
        }
        assert_eq!(sent, 1, "rest {rest}");
        let packets: Vec<u8> =
            peer.packets().iter().filter(|packet| !matches!(packet, Packet::Filler(_))).map(Packet::letter).collect();
        assert_eq!(packets, b"EC", "rest {rest}");
    }
}

/// C-12, receivers Framing 2: a server that has not shown that it supports the whole protocol gets a new session.
#[test]
fn c12_header_change_by_a_new_session() {
    let mut peer = Played::open(config(), &relay(204), &header());
    let second = header();
    assert_eq!(peer.send(&second, 1), 0);
    assert_eq!(peer.did, [Did::Packet(Packet::End(Hresult::OK))]);
    peer.did.clear();
    peer.respond(&relay(204));
    peer.closed(true);
    peer.respond(&relay(204));
    assert_eq!(peer.send(&second, 1), 1);
    assert_eq!(
        peer.did,
        [
            Did::CloseGracefully,
            Did::Close,
            Did::Event(Event::Restarted { reason: RestartReason::HeaderChange, rewind: 0 }),
            setup("0"),
            Did::Event(Event::Opened),
            start("0", Connection::Same),
            Did::Packet(Packet::Header(second.bytes().clone())),
            Did::Data(1),
            Did::Event(Event::Started),
        ]
    );
}

/// Receivers Framing 2: if a server ends the session on `$E`(1), a new session begins immediately and the data after
/// `$C` is sent again. The next header change begins a new session directly.
#[test]
fn c12_server_that_ends_at_a_header_change() {
    type Act = fn(&mut Played);
    let ways: [Act; 2] = [|peer| peer.lose(Cause::Closed), |peer| peer.respond(&wms(204, "a"))];
    for act in ways {
        let mut peer = Played::open(config(), &wms(204, "a"), &header());
        let second = header();
        assert_eq!(peer.send(&second, 3), 3);
        peer.did.clear();
        act(&mut peer);
        let rewind = 3 * FRAMED as u64;
        let restarted = Did::Event(Event::Restarted { reason: RestartReason::HeaderChangeRefused, rewind });
        assert_eq!(peer.did, [Did::Close, restarted, setup("0")]);
        peer.respond(&wms(204, "b"));
        assert_eq!(peer.send(&second, 3), 3);
        peer.did.clear();
        assert_eq!(peer.send(&header(), 1), 0);
        assert_eq!(peer.packets(), [Packet::End(Hresult::OK)], "no second attempt");
    }
}
