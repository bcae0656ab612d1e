//! Lost connections, and responses that arrive early or never.

use super::*;

/// C-16: any status before the end of the body ends the request, and the session is not resumed.
#[test]
fn c16_early_answers() {
    for (status, hresult) in [
        (200, Hresult::PUSH_DUPLICATE),
        (400, Hresult::BAD_REQUEST),
        (401, Hresult::SERVER_ACCESS_DENIED),
        (404, Hresult::FILE_NOT_FOUND),
        (408, Hresult::TIMEOUT),
        (422, Hresult::REFUSED_BY_SERVER),
        (503, Hresult::SERVER_UNAVAILABLE),
    ] {
        let mut peer = Played::open(config(), &wms(204, "a"), &header());
        peer.respond(&wms(status, "a"));
        assert_eq!(peer.did.first(), Some(&Did::Close));
        assert_eq!(peer.failure().unwrap().hresult, hresult, "{status}");
        peer.did.clear();
        peer.session.connect(peer.now);
        peer.run();
        assert_eq!(peer.did, [setup("0")], "{status}");
    }
}

/// C-17: without a response, a setup fails; at the end of a body, a new session begins (receivers, HTTP 7).
#[test]
fn c17_no_answer() {
    let mut peer = Played::new(config());
    peer.session.connect(peer.now);
    peer.run();
    peer.did.clear();
    peer.pass(Duration::from_secs(14));
    assert_eq!(peer.did, []);
    peer.pass(Duration::from_secs(2));
    assert_eq!(peer.failure().unwrap().hresult, Hresult::TIMEOUT);

    let header = header();
    let mut peer = Played::open(Config { content_length: Some(1), ..config() }, &wms(204, "a"), &header);
    peer.send(&header, 100);
    peer.did.clear();
    peer.pass(Duration::from_secs(16));
    assert_eq!(
        peer.did,
        [Did::Close, Did::Event(Event::Restarted { reason: RestartReason::NoAnswer, rewind: 0 }), setup("0")]
    );
}

/// Receivers HTTP 2: if the connection was closed after the setup, the setup is repeated once, and the start is then
/// sent on its own connection.
#[test]
fn receivers_stale_connection() {
    let header = header();
    let mut peer = Played::open(config(), &relay(204), &header);
    peer.lose(Cause::Stale);
    let rewind = FRAMED as u64;
    assert_eq!(
        peer.did,
        [Did::Close, Did::Event(Event::Restarted { reason: RestartReason::Stale, rewind }), setup("0")]
    );
    peer.respond(&relay(204));
    peer.did.clear();
    // `open` has already sent data; the second loss is in a session without data.
    let mut peer = Played::ready(config(), &relay(204));
    peer.session.offer(&header, FRAMED, peer.now);
    peer.run();
    peer.lose(Cause::Stale);
    peer.respond(&relay(204));
    peer.session.offer(&header, FRAMED, peer.now);
    peer.run();
    peer.did.clear();
    peer.lose(Cause::Stale);
    assert_eq!(peer.send(&header, 1), 1);
    assert_eq!(
        peer.did,
        [
            Did::Close,
            Did::Event(Event::Restarted { reason: RestartReason::Stale, rewind: 0 }),
            start("0", Connection::New),
            Did::Packet(Packet::Header(header.bytes().clone())),
            Did::Data(1),
            Did::Event(Event::Started),
        ]
    );
}

/// Receivers HTTP 2: after `Connection: close`, the start is sent on a new connection.
#[test]
fn receivers_connection_closed_after_setup() {
    let answer = ResponseHead { keep_alive: false, ..wms(204, "a") };
    let mut peer = Played::ready(config(), &answer);
    peer.send(&header(), 1);
    assert_eq!(peer.requests(), [start("a", Connection::New)]);
}

/// A stale connection at a rollover: the same PushStart is sent again, including the `$C`, without a new session.
#[test]
fn receivers_stale_connection_at_roll_over() {
    let first = header();
    let mut peer = Played::open(Config { content_length: Some(1), ..config() }, &wms(204, "a"), &first);
    peer.send(&first, 100);
    peer.respond(&wms(204, "a"));
    let second = header();
    assert_eq!(peer.send(&second, 1), 1);
    peer.did.clear();
    peer.lose(Cause::Stale);
    assert_eq!(peer.send(&second, 1), 1);
    assert!(matches!(peer.requests()[..], [Did::Start { connection: Connection::New, .. }]));
    assert_eq!(peer.packets().iter().map(Packet::letter).collect::<Vec<_>>(), b"EC");
}
