//! Connections that break, answers that come too early or never, and sessions that go on or begin anew.

use super::*;

/// C-14, C-15: a lost connection is reported; within the Idle-Timeout a PushStart with the same id on a
/// new connection goes on with `$D`.
#[test]
fn c14_c15_resume() {
    let header = header();
    let mut peer = Played::open(config(), &wms(204, "abc"), &header);
    peer.lose(Cause::Reset);
    assert_eq!(peer.failure().unwrap().hresult, Hresult::RESET_CONNECTION);
    peer.did.clear();
    peer.now += Duration::from_secs(59);
    peer.session.connect(peer.now);
    assert_eq!(peer.send(&header, 1), 1);
    assert_eq!(peer.did, [start("abc", Connection::New), Did::Data(1), Did::Event(Event::Started)]);
}

/// C-15: a resume's data waits for its connection.
#[test]
fn c15_resume_waits_for_the_connection() {
    let header = header();
    let mut peer = Played::open(config(), &wms(204, "abc"), &header);
    peer.lose(Cause::Reset);
    peer.session.connect(peer.now);
    peer.session.offer(&header, FRAMED, peer.now);
    peer.run();
    assert!(!peer.session.wants_data() && !peer.session.is_streaming());
    assert_eq!(peer.session.offer(&header, FRAMED, peer.now), 0);
    peer.session.handle_connected();
    assert!(peer.session.wants_data() && peer.session.is_streaming());
    assert!(peer.session.offer(&header, FRAMED, peer.now) > 0);
}

/// C-15: after the Idle-Timeout, or where the server gave no id, the session begins anew.
#[test]
fn c15_new_session() {
    let header = header();
    for (answer, wait) in [(wms(204, "abc"), 61), (relay(204), 0), (wms(204, "0"), 0)] {
        let mut peer = Played::open(config(), &answer, &header);
        peer.lose(Cause::Closed);
        peer.did.clear();
        peer.now += Duration::from_secs(wait);
        peer.session.connect(peer.now);
        peer.run();
        assert_eq!(peer.did, [setup("0")]);
    }
}

/// C-15: for a moment a resume may be refused unheard; a first push, or a new session, may not.
#[test]
fn c15_a_resume_is_unproven_at_first() {
    let header = header();
    let mut peer = Played::open(config(), &wms(204, "abc"), &header);
    assert!(!peer.session.resume_is_unproven(peer.now));
    peer.lose(Cause::Reset);
    peer.session.connect(peer.now);
    peer.send(&header, 1);
    assert!(peer.session.resume_is_unproven(peer.now + RESUME_REJECT_WINDOW));
    assert!(!peer.session.resume_is_unproven(peer.now + RESUME_REJECT_WINDOW * 2));
    peer.respond(&wms(400, "0"));
    assert!(!peer.session.resume_is_unproven(peer.now));
}

/// A session that was lost and goes on, with two packets by now.
fn resumed(header: &Arc<asf::Header>) -> Played {
    let mut peer = Played::open(config(), &wms(204, "abc"), header);
    peer.lose(Cause::Reset);
    peer.session.connect(peer.now);
    assert_eq!(peer.send(header, 2), 2);
    peer
}

/// The server does not know the session: both packets are to come again, in another.
fn refuse_the_resume(peer: &mut Played) {
    peer.did.clear();
    peer.respond(&wms(400, "0"));
    let restarted = Event::Restarted { reason: RestartReason::SessionGone, rewind: 2 * FRAMED as u64 };
    assert_eq!(peer.did, [Did::Close, Did::Event(restarted), setup("0")]);
    peer.respond(&wms(204, "new"));
}

/// C-15: a server that does not know the session any more gets a new one at once, and the refused data again.
#[test]
fn c15_resume_refused() {
    let header = header();
    let mut peer = resumed(&header);
    refuse_the_resume(&mut peer);
    peer.did.clear();
    assert_eq!(peer.send(&header, 2), 2);
    assert_eq!(peer.packets(), [Packet::Header(header.bytes().clone())]);
}

/// C-15: the same where the end is out by then.
#[test]
fn c15_resume_refused_at_its_end() {
    let header = header();
    let mut peer = resumed(&header);
    peer.session.end(peer.now);
    peer.run();
    refuse_the_resume(&mut peer);
    assert_eq!(peer.send(&header, 2), 2);
    peer.session.end(peer.now);
    peer.run();
    peer.did.clear();
    peer.respond(&wms(422, "new"));
    assert_eq!(peer.did, [Did::Close, Did::Event(Event::Ended { clean: true })]);
}

/// C-15: attempts that do not get through do not prolong the Idle-Timeout.
#[test]
fn c15_refused_connections_do_not_prolong() {
    let header = header();
    let mut peer = Played::open(config(), &wms(204, "abc"), &header);
    peer.lose(Cause::Reset);
    for _ in 0..6 {
        peer.now += Duration::from_secs(10);
        peer.session.connect(peer.now);
        peer.send(&header, 1);
        peer.lose(Cause::Refused);
    }
    peer.did.clear();
    peer.now += Duration::from_secs(1);
    peer.session.connect(peer.now);
    peer.run();
    assert_eq!(peer.did, [setup("0")]);
}

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

/// An end that was on its way when the connection broke is not lost: the tail can be offered again.
#[test]
fn a_broken_end_is_resumed() {
    let header = header();
    let mut peer = Played::open(config(), &wms(204, "a"), &header);
    peer.end();
    peer.did.clear();
    peer.lose(Cause::Reset);
    assert!(peer.failure().is_some());
    peer.session.connect(peer.now);
    assert_eq!(peer.send(&header, 1), 1);
    peer.end();
    assert_eq!(peer.packets(), [Packet::End(Hresult::OK)]);
    peer.session.handle_disconnect(Cause::Reset, "", true, peer.now);
    peer.run();
    assert_eq!(peer.did.last(), Some(&Did::Event(Event::Ended { clean: true })), "everything was delivered");
}

/// Giving up keeps the session for a resume.
#[test]
fn disconnect_keeps_the_session() {
    let header = header();
    let mut peer = Played::open(config(), &wms(204, "a"), &header);
    peer.session.disconnect(peer.now);
    peer.run();
    assert_eq!(peer.did, [Did::Close]);
    peer.session.connect(peer.now);
    peer.send(&header, 1);
    assert_eq!(peer.requests(), [start("a", Connection::New)]);
}
