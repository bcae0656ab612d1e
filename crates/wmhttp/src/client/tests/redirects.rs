//! C-4: redirected sessions.

use super::*;

/// C-4: 300 to 304 redirect: a new PushSetup with push-id 0 on a new connection, and all later requests there.
#[test]
fn c4_follows_redirects() {
    for status in 300..=304 {
        for (location, url) in [
            ("http://other:81/live?a=b", "http://other:81/live?a=b"),
            ("http://bob:secret@other/live#part", "http://other/live"),
            ("/live", "http://media:8080/live"),
            ("live", "http://media:8080/live"),
            ("//other/live", "http://other/live"),
        ] {
            let mut peer = redirected(config(), &[redirect(status, location)]);
            assert_eq!(peer.did, [setup("0"), Did::Close, setup("0")], "{status}: no event");
            peer.respond(&wms(204, "abc"));
            peer.send(&header(), 1);
            assert_eq!(peer.requests()[2..], [start("abc", Connection::Same)]);
            let asked: Vec<&str> = peer.asked.iter().map(|(url, _)| url.as_str()).collect();
            assert_eq!(asked, ["http://media:8080/concert", url, url], "{status} {location}");
            assert_eq!(peer.session.url().as_str(), url);
        }
    }
}

/// C-4: cookies are sent only to the server that set them; another host or port receives none.
#[test]
fn c4_cookies_do_not_travel() {
    for (location, cookie) in [
        ("http://media:8080/other", "push-id=0; route=7"),
        ("http://media:81/concert", "push-id=0"),
        ("http://other:8080/concert", "push-id=0"),
    ] {
        let mut answer = redirect(302, location);
        for pair in ["push-id=abc", "route=7"] {
            answer.headers.append("set-cookie", HeaderValue::from_static(pair));
        }
        let peer = redirected(config(), &[answer]);
        assert_eq!(peer.asked[1].1, cookie, "{location}");
    }
}

/// C-4: observations about the redirecting server do not apply to the next one.
#[test]
fn c4_observations_apply_to_one_server() {
    let mut answer = redirect(302, "http://other/live");
    answer.headers.insert(VIA, HeaderValue::from_static("1.1 squid"));
    let peer = redirected(config(), &[answer]);
    assert_eq!(peer.session.peer(), &Peer::default());
}

/// C-4: eight redirects are followed; a ninth and loops are not.
#[test]
fn c4_hops_are_bounded() {
    let hops: Vec<ResponseHead> = (0..9).map(|hop| redirect(302, &format!("http://other/{hop}"))).collect();
    let mut peer = redirected(config(), &hops[..8]);
    assert_eq!((peer.requests().len(), peer.failure()), (9, None));
    peer.respond(&wms(204, "a"));
    assert_eq!(peer.events(), [Event::Opened]);

    for answers in [
        &hops[..],
        &[redirect(302, "/concert")],
        &[redirect(302, "http://other/"), redirect(302, "http://media:8080/concert#x")],
    ] {
        let peer = redirected(config(), answers);
        let failure = peer.failure().unwrap();
        assert_eq!((failure.hresult, failure.permanent), (Hresult::TOO_MANY_HOPS, true), "{failure}");
        assert!(peer.session.is_down());
        assert_eq!(peer.requests().len(), answers.len());
    }
}

/// C-4: a redirect that cannot be followed is a failure with a reason; https is supported only with TLS.
#[test]
fn c4_bad_locations() {
    for location in ["http://", "http://a:99999/", "ftp://other/live", "mailto:bob", "https://other/live"] {
        let failure = redirected(config(), &[redirect(301, location)]).failure().unwrap();
        assert_eq!((failure.hresult, failure.permanent), (Hresult::INVALID_REDIRECT, true), "{location}: {failure}");
        assert_eq!(failure.status(), Some(301));
    }
    let failure = redirected(config(), &[response(302, &[])]).failure().unwrap();
    assert_eq!(failure.hresult, Hresult::INVALID_REDIRECT);

    let peer = redirected(Config { https: true, ..config() }, &[redirect(301, "https://other/live")]);
    assert_eq!(peer.session.url().as_str(), "https://other/live");
}

/// C-4: a redirect that is not followed is a failure that names its target.
#[test]
fn c4_refused_redirects() {
    let off = Config { automatic_redirect: false, ..config() };
    for status in [300, 302] {
        let peer = redirected(off.clone(), &[redirect(status, "http://bob:secret@other/live")]);
        let failure = peer.failure().unwrap();
        assert_eq!((failure.hresult, failure.permanent), (Hresult::REDIRECT, true), "{failure}");
        assert!(failure.text.contains("http://other/live") && !failure.text.contains("secret"));
        assert_eq!(peer.requests().len(), 1);
    }
}

/// C-4: a lost session is resumed at its server; a new one begins at the original URL, without the other server's
/// state.
#[test]
fn c4_a_new_session_begins_at_the_original() {
    let answers = [redirect(302, "http://other/live"), ours(204, "abc")];
    let mut peer = redirected(config(), &answers);
    let header = header();
    peer.send(&header, 1);
    peer.lose(Cause::Reset);
    peer.session.connect(peer.now);
    peer.send(&header, 1);
    assert_eq!(peer.asked.last().unwrap(), &("http://other/live".to_owned(), "push-id=abc".to_owned()));
    let mut answer = ours(408, "abc");
    answer.headers.append("set-cookie", HeaderValue::from_static("route=7"));
    peer.respond(&answer);
    assert_eq!(peer.asked.last().unwrap(), &("http://media:8080/concert".to_owned(), "push-id=0".to_owned()));
    for answer in answers {
        peer.respond(&answer);
    }
    assert_eq!(peer.session.url().as_str(), "http://other/live");
    assert_eq!(peer.events().iter().filter(|event| **event == Event::Opened).count(), 2);
}

/// C-4, C-15: if a PushSetup must be sent first, it is sent to the original URL and follows the redirect. Only a
/// response of the server that has the session can mean that the session occupies the publishing point.
#[test]
fn c4_c15_a_lost_session_is_looked_up_through_the_redirect() {
    for (elsewhere, goes_on) in [("http://other/live", true), ("http://third/live", false)] {
        let mut peer = redirected(config(), &[redirect(302, "http://other/live"), wms(204, "abc")]);
        let header = header();
        peer.send(&header, 1);
        peer.lose(Cause::Reset);
        peer.session.connect(peer.now);
        peer.run();
        assert_eq!(peer.asked.last().unwrap(), &("http://media:8080/concert".to_owned(), "push-id=0".to_owned()));
        peer.respond(&redirect(302, elsewhere));
        peer.respond(&response(409, &[("server", "Cougar/9.6.7600.16564")]));
        peer.did.clear();
        if goes_on {
            assert_eq!(peer.send(&header, 1), 1);
            assert_eq!(peer.asked.last().unwrap(), &(elsewhere.to_owned(), "push-id=abc".to_owned()));
            assert_eq!(peer.packets(), []);
        } else {
            assert!(peer.session.is_down());
        }
    }
}

/// C-4 applies to PushSetup: a redirected PushStart fails.
#[test]
fn c4_a_redirected_start_fails() {
    let mut peer = Played::open(config(), &wms(204, "a"), &header());
    peer.respond(&redirect(302, "http://other/live"));
    assert_eq!(peer.failure().unwrap().hresult, Hresult::REDIRECT);
    assert_eq!(peer.requests(), []);
}
