//! Connections that break, and answers that come too early or never.

use super::*;

/// C-16: any status in mid-body ends the request; the session is not resumed.
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

/// C-17: a response that never comes: a failed setup; at a body's end a new session (receivers, HTTP 7).
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

/// Receivers HTTP 2: a connection that was closed after the setup: the setup is repeated, once, and
/// the start then goes on a connection of its own.
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
    // `open` has let data through already; the second loss is of a session without any.
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

/// Receivers HTTP 2: a server that closes by `Connection: close` gets the start on a new connection.
#[test]
fn receivers_connection_closed_after_setup() {
    let answer = ResponseHead { keep_alive: false, ..wms(204, "a") };
    let mut peer = Played::ready(config(), &answer);
    peer.send(&header(), 1);
    assert_eq!(peer.requests(), [start("a", Connection::New)]);
}

/// A stale connection at a roll-over: the same PushStart again, no new session, the `$C` too.
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
