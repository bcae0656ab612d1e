//! Sessions that are resumed after their connection was lost, and sessions that are replaced.

use super::*;
use crate::client::resume::RESUME_REJECT_WINDOW;

/// C-14, C-15: a lost connection is reported. Within the Idle-Timeout, a PushStart with the same id on a new connection
/// continues with `$D`.
#[test]
fn c14_c15_resume() {
    let header = header();
    let mut peer = Played::open(config(), &ours(204, "abc"), &header);
    peer.lose(Cause::Reset);
    assert_eq!(peer.failure().unwrap().hresult, Hresult::RESET_CONNECTION);
    peer.did.clear();
    peer.now += Duration::from_secs(59);
    peer.session.connect(peer.now);
    assert_eq!(peer.send(&header, 1), 1);
    assert_eq!(peer.did, [start("abc", Connection::New), Did::Data(1), Did::Event(Event::Started)]);
}

/// C-15: the data of a resume waits until the connection is established.
#[test]
fn c15_resume_waits_for_the_connection() {
    let header = header();
    let mut peer = Played::open(config(), &ours(204, "abc"), &header);
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

/// C-15: after the Idle-Timeout, or if the server assigned no id, a new session begins.
#[test]
fn c15_new_session() {
    let header = header();
    for (answer, wait) in [(ours(204, "abc"), 61), (relay(204), 0), (ours(204, "0"), 0)] {
        let mut peer = Played::open(config(), &answer, &header);
        peer.lose(Cause::Closed);
        peer.did.clear();
        peer.now += Duration::from_secs(wait);
        peer.session.connect(peer.now);
        peer.run();
        assert_eq!(peer.did, [setup("0")]);
    }
}

/// C-15: for a short time a resume may be rejected without a response; a first push or a new session may not.
#[test]
fn c15_a_resume_is_unproven_at_first() {
    let header = header();
    let mut peer = Played::open(config(), &ours(204, "abc"), &header);
    assert!(!peer.session.resume_is_unproven(peer.now));
    peer.lose(Cause::Reset);
    peer.session.connect(peer.now);
    peer.send(&header, 1);
    assert!(peer.session.resume_is_unproven(peer.now + RESUME_REJECT_WINDOW));
    assert!(!peer.session.resume_is_unproven(peer.now + RESUME_REJECT_WINDOW * 2));
    peer.respond(&ours(400, "0"));
    assert!(!peer.session.resume_is_unproven(peer.now));
}

/// A lost session that was resumed and has sent two packets.
fn resumed(header: &Arc<asf::Header>) -> Played {
    let mut peer = Played::open(config(), &ours(204, "abc"), header);
    peer.lose(Cause::Reset);
    peer.session.connect(peer.now);
    assert_eq!(peer.send(header, 2), 2);
    peer
}

/// The server does not know the session: both packets must be sent again, in another one.
fn refuse_the_resume(peer: &mut Played) {
    peer.did.clear();
    peer.respond(&ours(400, "0"));
    let restarted = Event::Restarted { reason: RestartReason::SessionGone, rewind: 2 * FRAMED as u64 };
    assert_eq!(peer.did, [Did::Close, Did::Event(restarted), setup("0")]);
    peer.respond(&ours(204, "new"));
}

/// C-15: if a server no longer knows the session, a new one begins immediately and the rejected data is sent again.
#[test]
fn c15_resume_refused() {
    let header = header();
    let mut peer = resumed(&header);
    refuse_the_resume(&mut peer);
    peer.did.clear();
    assert_eq!(peer.send(&header, 2), 2);
    assert_eq!(peer.packets(), [Packet::Header(header.bytes().clone())]);
}

/// C-15: the same, if the end was already sent.
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
    peer.respond(&ours(422, "new"));
    assert_eq!(peer.did, [Did::CloseGracefully]);
    peer.did.clear();
    peer.closed(true);
    assert_eq!(peer.did, [Did::Close, Did::Event(Event::Ended { clean: true })]);
}

/// C-15: failed attempts do not extend the Idle-Timeout.
#[test]
fn c15_failed_attempts_do_not_extend_the_idle_timeout() {
    let header = header();
    let mut peer = Played::open(config(), &ours(204, "abc"), &header);
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

/// If the connection is lost after `$E` was sent, the last data and the end can be sent again.
#[test]
fn a_broken_end_is_resumed() {
    let header = header();
    let mut peer = Played::open(config(), &ours(204, "a"), &header);
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

/// `disconnect` keeps the session for a resume.
#[test]
fn disconnect_keeps_the_session() {
    let header = header();
    let mut peer = Played::open(config(), &ours(204, "a"), &header);
    peer.session.disconnect(peer.now);
    peer.run();
    assert_eq!(peer.did, [Did::Close]);
    peer.session.connect(peer.now);
    peer.send(&header, 1);
    assert_eq!(peer.requests(), [start("a", Connection::New)]);
}

/// A session at a server whose connection was lost and which connects again.
fn lost_at(config: Config, answer: &ResponseHead, header: &Arc<asf::Header>, cause: Cause) -> Played {
    let mut peer = Played::open(config, answer, header);
    peer.lose(Cause::Reset);
    if cause != Cause::Reset {
        peer.session.connect(peer.now);
        peer.send(header, 1);
        peer.lose(cause);
    }
    peer.did.clear();
    peer.session.connect(peer.now);
    peer.run();
    peer
}

/// C-15, S-10: at an unknown server, and at Windows Media Services, which begin a new session for an unknown id, a
/// PushSetup is sent first. If it is accepted, a new session begins with its header.
#[test]
fn c15_s10_a_setup_is_sent_first() {
    let header = header();
    for answer in [wms(204, "abc"), response(204, &[("server", "Cougar/9.01.01.3814"), ("set-cookie", "push-id=abc")])]
    {
        let mut peer = lost_at(config(), &answer, &header, Cause::Reset);
        assert_eq!(peer.did, [setup("0")]);
        peer.respond(&answer);
        assert_eq!(peer.send(&header, 1), 1);
        assert_eq!(peer.packets(), [Packet::Header(header.bytes().clone())]);
    }
}

/// C-15: if a server responds that the publishing point is in use after the connection was lost, the session still
/// exists. It is resumed, on the same connection if it is open.
#[test]
fn c15_a_point_in_use_by_the_session() {
    let header = header();
    for status in [404, 409] {
        for (keep_alive, connection) in [(true, Connection::Same), (false, Connection::New)] {
            let mut peer = lost_at(config(), &wms(204, "abc"), &header, Cause::Reset);
            // The cookie of the rejected setup belongs to no session.
            peer.respond(&ResponseHead { keep_alive, ..wms(status, "none") });
            assert_eq!(peer.send(&header, 1), 1);
            assert_eq!(peer.requests(), [setup("0"), start("abc", connection)], "{status}");
            assert_eq!((peer.packets(), peer.failure()), (vec![], None));
        }
    }
}

/// C-15: if the publishing point is used by another encoder, the resume is rejected, whatever the status. The failure
/// is that of the setup, nothing counts as sent, and the lost session is not tried again.
#[test]
fn c15_a_point_in_use_by_another() {
    let header = header();
    for status in [400, 401, 403, 404, 410, 412, 422, 500, 503] {
        let mut peer = lost_at(config(), &wms(204, "abc"), &header, Cause::Reset);
        peer.respond(&wms(409, "0"));
        assert_eq!(peer.send(&header, 2), 2);
        peer.respond(&response(status, &[("server", "Cougar/9.6.7600.16564")]));
        let rewind = 2 * FRAMED as u64;
        assert!(peer.events().contains(&Event::Restarted { reason: RestartReason::SessionGone, rewind }), "{status}");
        assert_eq!(peer.failure().unwrap().hresult, Hresult::PUSH_DUPLICATE, "{status}");
        peer.did.clear();
        peer.session.connect(peer.now);
        peer.run();
        peer.respond(&wms(409, "0"));
        assert_eq!(peer.requests(), [setup("0")], "{status}");
        assert!(peer.session.is_down());
    }
}

/// C-15, S-7: 409 to a resume means that the server has not detected the lost connection yet. The session is kept.
#[test]
fn c15_s7_a_loss_that_the_server_has_not_detected() {
    let header = header();
    // At a server that rejects unknown ids, each attempt tries to resume first, and then to begin a new session.
    let mut peer = lost_at(config(), &ours(204, "abc"), &header, Cause::Reset);
    for _ in 0..3 {
        assert_eq!(peer.send(&header, 1), 1);
        assert_eq!(peer.requests(), [start("abc", Connection::New)]);
        peer.respond(&response(409, &[("server", "Cougar/9.6.7600.16564 asf-publishing-point/0.1.0")]));
        peer.respond(&response(409, &[("server", "Cougar/9.6.7600.16564 asf-publishing-point/0.1.0")]));
        assert!(peer.session.is_down());
        peer.did.clear();
        peer.now += Duration::from_secs(5);
        peer.session.connect(peer.now);
    }
    assert_eq!(peer.send(&header, 1), 1);
    assert_eq!(peer.packets(), []);

    let busy = response(409, &[("server", "Cougar/9.6.7600.16564")]);
    let mut peer = lost_at(config(), &wms(204, "abc"), &header, Cause::Reset);
    for _ in 0..3 {
        peer.respond(&busy);
        assert_eq!(peer.send(&header, 1), 1);
        peer.respond(&busy);
        assert!(peer.session.is_down());
        peer.did.clear();
        peer.now += Duration::from_secs(5);
        peer.session.connect(peer.now);
        peer.run();
    }
    peer.respond(&busy);
    assert_eq!(peer.send(&header, 1), 1);
    assert_eq!((peer.requests(), peer.packets()), (vec![setup("0"), start("abc", Connection::Same)], vec![]));
    // But not after the Idle-Timeout.
    peer.respond(&busy);
    peer.did.clear();
    peer.now += Duration::from_secs(60);
    peer.session.connect(peer.now);
    peer.run();
    peer.respond(&busy);
    assert_eq!(peer.requests(), [setup("0")]);
}

/// C-15: a server process that has ended has lost its sessions; an interrupted network has not.
#[test]
fn c15_what_a_failed_connection_means() {
    let header = header();
    for (cause, survives) in [
        (Cause::Refused, false),
        (Cause::ProxyNoTunnel, false),
        (Cause::NotHttp, false),
        (Cause::Unreachable, true),
        (Cause::ConnectTimeout, true),
        (Cause::ProxyRefused, true),
        (Cause::Closed, true),
    ] {
        let mut peer = lost_at(config(), &ours(204, "abc"), &header, cause);
        peer.send(&header, 1);
        let request = if survives { start("abc", Connection::New) } else { setup("0") };
        assert_eq!(peer.requests(), [request], "{cause:?}");

        // The setup that was to be sent first does not reach the server.
        let mut peer = lost_at(config(), &wms(204, "abc"), &header, Cause::Reset);
        peer.lose(cause);
        peer.session.connect(peer.now);
        peer.run();
        peer.respond(&wms(409, "0"));
        assert_eq!(peer.send(&header, 1), u64::from(survives), "{cause:?}");
    }
}

/// C-15: the user may force either behavior.
#[test]
fn c15_always_and_never() {
    let header = header();
    for answer in
        [ours(204, "abc"), wms(204, "abc"), response(204, &[("server", "Cougar/9.0"), ("set-cookie", "push-id=abc")])]
    {
        let always = Config { resume: Resume::Always, ..config() };
        for cause in [Cause::Reset, Cause::Refused] {
            let mut peer = lost_at(always.clone(), &answer, &header, cause);
            assert_eq!(peer.send(&header, 1), 1);
            assert_eq!(peer.requests(), [start("abc", Connection::New)]);
        }
        let never = Config { resume: Resume::Never, ..config() };
        let mut peer = lost_at(never, &answer, &header, Cause::Reset);
        peer.respond(&wms(409, "0"));
        assert_eq!(peer.requests(), [setup("0")]);
        assert!(peer.session.is_down());
    }
}

/// C-15, H-6: whatever its status, a response that sets another push-id belongs to another session. The data of the
/// session to resume is sent again, with its header.
#[test]
fn c15_h6_another_id_ends_a_resume() {
    let header = header();
    for status in [204, 400, 401, 404, 412] {
        let mut peer = resumed(&header);
        if status == 204 {
            // A response to the whole body, including its end.
            peer.end();
        }
        peer.did.clear();
        peer.respond(&ours(status, "other"));
        let restarted = Event::Restarted { reason: RestartReason::SessionGone, rewind: 2 * FRAMED as u64 };
        assert_eq!(peer.did, [Did::Close, Did::Event(restarted), setup("0")], "{status}");
        peer.respond(&ours(204, "third"));
        peer.did.clear();
        assert_eq!(peer.send(&header, 2), 2);
        assert_eq!(peer.packets(), [Packet::Header(header.bytes().clone())]);
    }
    // A server that sets 0 in every response tells sessions apart by other means.
    let mut peer = resumed(&header);
    peer.end();
    peer.respond(&ours(204, "0"));
    peer.closed(true);
    assert_eq!(peer.did.last(), Some(&Did::Event(Event::Ended { clean: true })));
}

/// C-15: a resume can be rejected when its PushStart is sent, however long there was no data before.
#[test]
fn c15_a_resume_without_data_for_a_while() {
    let header = header();
    let mut peer = Played::open(config(), &ours(204, "abc"), &header);
    peer.lose(Cause::Reset);
    peer.session.connect(peer.now);
    peer.now += Duration::from_secs(40);
    assert_eq!(peer.send(&header, 2), 2);
    assert!(peer.session.resume_is_unproven(peer.now));
    refuse_the_resume(&mut peer);
}

/// C-15: a 404 from a proxy says nothing about the session.
#[test]
fn c15_a_404_of_a_proxy_does_not_concern_the_session() {
    let header = header();
    let mut answer = wms(204, "abc");
    answer.headers.insert(VIA, HeaderValue::from_static("1.1 squid"));
    let mut peer = Played::open(config(), &answer, &header);
    // Longer than a proxy takes to close the connection after its response.
    peer.now += Duration::from_secs(5);
    peer.lose(Cause::Reset);
    peer.did.clear();
    peer.session.connect(peer.now);
    peer.run();
    peer.respond(&response(404, &[("server", "squid/5.7")]));
    assert_eq!(peer.requests(), [setup("0")]);
    assert!(peer.session.is_down());
}

/// C-12: `$C` is sent only to servers that are known to apply it. Imitations announce all features of Windows Media
/// Services.
#[test]
fn c12_which_servers_apply_a_stream_change() {
    for (server, applies) in [
        ("Cougar/9.6.7600.16564 asf-publishing-point/0.1.0", true),
        ("Cougar/9.6.7600.16564", true),
        ("Cougar/9.5.6001.18161", true),
        ("Cougar/9.01.01.3814", false),
        ("Cougar/9.00.00.3380", false),
        ("Cougar/9.6", false),
        ("Cougar/9.6.7600.16564 SomeRelay/1.0", false),
        ("Rex/9.0.2980", false),
        ("Cougar/9.6.7600.x", false),
    ] {
        let mut answer = wms(204, "a");
        answer.headers.insert(SERVER, HeaderValue::from_static(server));
        let mut peer = Played::open(config(), &answer, &header());
        peer.send(&header(), 1);
        let reason = if applies { Hresult::FALSE } else { Hresult::OK };
        assert_eq!(peer.packets().first(), Some(&Packet::End(reason)), "{server}");
    }
    // Windows Media Services always send these headers, and never repeat an id.
    for strip in ["pragma", "supported", "set-cookie"] {
        let mut answer = wms(204, "a");
        answer.headers.remove(strip);
        let mut peer = Played::open(config(), &answer, &header());
        peer.send(&header(), 1);
        assert_eq!(peer.packets().first(), Some(&Packet::End(Hresult::OK)), "{strip}");
    }
    let first = header();
    let mut peer = lost_at(config(), &wms(204, "same"), &first, Cause::Reset);
    peer.respond(&wms(204, "same"));
    peer.send(&first, 1);
    peer.did.clear();
    peer.send(&header(), 1);
    assert_eq!(peer.packets().first(), Some(&Packet::End(Hresult::OK)), "one id for two sessions");
}
