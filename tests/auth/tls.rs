//! Pushes over TLS to a server with a certificate created by the test.

use std::time::Duration;

use gst::prelude::*;
use rcgen::KeyPair;
use test_support::authority::{Authority, self_signed_server};
use test_support::media;
use test_support::peer::{Peer, ours, wms};
use test_support::pipeline::{Pushing, end, push_bytes, until};
use wmhttp::Hresult;
use wmhttp::packet::Packet;

const STEP: u32 = 40;

fn pushing(location: &str, properties: &str) -> (Pushing, gst::Element) {
    let (pushing, source) = Pushing::with_feed_source(&format!("location={location} sync=false {properties}"));
    pushing.play();
    (pushing, source)
}

/// Receives a whole push of `count` packets on `peer`.
fn take(peer: &Peer, count: usize) {
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    let packets = connection.until_the_end();
    assert_eq!(packets.iter().filter(|packet| matches!(packet, Packet::Data(_))).count(), count);
    assert_eq!(packets.last(), Some(&Packet::End(Hresult::OK)));
    connection.answer(&wms(204, "one"));
}

/// Both requests and every packet arrive on one encrypted connection; `tls-ca-file` makes the server trusted.
#[test]
fn a_push_over_tls_arrives() {
    let authority = Authority::new();
    let peer = Peer::with_tls(authority.server("127.0.0.1", false));
    let (pushing, source) = pushing(&peer.location(), &authority.trusted());
    push_bytes(&source, media::stream(2000, STEP));
    end(&source);
    take(&peer, 2000);
    pushing.wait_for(|message| {
        assert!(!matches!(message.view(), gst::MessageView::Warning(_)), "{message:?}");
        matches!(message.view(), gst::MessageView::Eos(_)).then_some(())
    });
    assert!(peer.accept_within(Duration::ZERO).is_none(), "one connection");
    assert_eq!(pushing.destination_stats().get::<u64>("packets-sent"), Ok(2000));
}

/// Bodies end and connections break with TLS as without it.
#[test]
fn roll_overs_and_a_reset() {
    let authority = Authority::new();
    let peer = Peer::with_tls(authority.server("127.0.0.1", false));
    let (pushing, source) =
        pushing(&peer.location(), &format!("{} content-length=10000 retry-delay=10", authority.trusted()));
    push_bytes(&source, media::stream(500, STEP));
    let mut connection = peer.accept();
    connection.set_up(&ours(204, "one"));
    for _ in 0..10 {
        assert!(matches!(connection.until_the_end().last(), Some(Packet::Filler(_) | Packet::Data(_))));
        connection.answer(&ours(204, "one"));
        assert!(!connection.request().is_setup());
    }
    connection.reset();
    let mut connection = peer.accept();
    assert_eq!(connection.request().push_id(), "one", "C-15");
    end(&source);
    loop {
        let packets = connection.until_the_end();
        connection.answer(&ours(204, "one"));
        if packets.last() == Some(&Packet::End(Hresult::OK)) {
            break;
        }
        connection.request();
    }
    pushing.wait_for_eos();
}

/// A server with a certificate of an unknown authority or for another host receives nothing, and is not tried again.
#[test]
fn an_untrusted_certificate_is_refused() {
    let authority = Authority::new();
    for (name, properties) in [("127.0.0.1", String::new()), ("elsewhere.example", authority.trusted())] {
        let peer = Peer::with_tls(authority.server(name, false));
        let (pushing, source) = pushing(&peer.location(), &format!("{properties} retry-delay=1"));
        push_bytes(&source, media::stream(5, STEP));
        // A TLS server handles the handshake only while it reads.
        std::thread::scope(|scope| {
            let mut connection = peer.accept();
            scope.spawn(move || assert!(connection.is_closed()));
            let (error, details) = pushing.wait_for_error();
            assert!(error.matches(gst::ResourceError::OpenWrite), "{error:?}");
            assert_eq!(details.get::<u32>("hresult"), Ok(Hresult::NOT_TRUSTED.0));
            assert!(error.message().contains("not trusted") && error.message().contains("tls-ca-file"), "{error:?}");
        });
        assert!(peer.accept_within(Duration::from_millis(100)).is_none(), "no second attempt");
    }
}

/// A self-signed certificate in `tls-ca-file` is trusted, whether it is marked as an authority's or not, but not for
/// another host, and not if another certificate is listed.
#[test]
fn a_listed_certificate_is_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("listed.pem");
    let properties = format!("tls-ca-file={} retry-delay=1", file.display());
    for is_authority in [true, false] {
        let (server, listed) = self_signed_server(&["127.0.0.1"], is_authority);
        std::fs::write(&file, listed).unwrap();
        let peer = Peer::with_tls(server);
        let (pushing, source) = pushing(&peer.location(), &properties);
        push_bytes(&source, media::stream(5, STEP));
        end(&source);
        take(&peer, 5);
        pushing.wait_for(|message| matches!(message.view(), gst::MessageView::Eos(_)).then_some(()));
    }
    let other = self_signed_server(&["127.0.0.1"], true).1;
    for (names, listed, words) in [
        (&["elsewhere.example"][..], None, "elsewhere.example"),
        (&["127.0.0.1"], Some(other), "basicConstraints"),
        (&[], None, "subjectAltName"),
    ] {
        let (server, own) = self_signed_server(names, true);
        std::fs::write(&file, listed.unwrap_or(own)).unwrap();
        let peer = Peer::with_tls(server);
        let (pushing, source) = pushing(&peer.location(), &properties);
        push_bytes(&source, media::stream(5, STEP));
        std::thread::scope(|scope| {
            let mut connection = peer.accept();
            scope.spawn(move || assert!(connection.is_closed()));
            let (error, details) = pushing.wait_for_error();
            assert_eq!(details.get::<u32>("hresult"), Ok(Hresult::NOT_TRUSTED.0));
            assert!(error.message().contains(words), "{error:?}");
        });
    }
}

/// `tls-validation=false` accepts any server, with one WARNING.
#[test]
fn without_validation_any_server_is_accepted() {
    let authority = Authority::new();
    let peer = Peer::with_tls(authority.server("elsewhere.example", false));
    let (pushing, source) = pushing(&peer.location(), "tls-validation=false");
    push_bytes(&source, media::stream(5, STEP));
    end(&source);
    take(&peer, 5);
    let mut warnings = 0;
    pushing.wait_for(|message| {
        if let gst::MessageView::Warning(warning) = message.view() {
            assert!(warning.error().matches(gst::ResourceError::Settings), "{warning:?}");
            warnings += 1;
        }
        matches!(message.view(), gst::MessageView::Eos(_)).then_some(())
    });
    assert_eq!(warnings, 1);
}

/// A server that requires a certificate receives the client's, with the key in a separate file or in the same one.
#[test]
fn a_client_certificate_is_sent() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("encoder");
    std::fs::write(authority.file("own.pem"), certificate.pem()).unwrap();
    std::fs::write(authority.file("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(authority.file("both.pem"), format!("{}{}", certificate.pem(), key.serialize_pem())).unwrap();
    let name = |name| authority.file(name).display().to_string();
    for properties in [
        format!("tls-certificate-file={} tls-private-key-file={}", name("own.pem"), name("key.pem")),
        format!("tls-certificate-file={}", name("both.pem")),
    ] {
        let peer = Peer::with_tls(authority.server("127.0.0.1", true));
        let (pushing, source) = pushing(&peer.location(), &format!("{} {properties}", authority.trusted()));
        push_bytes(&source, media::stream(5, STEP));
        end(&source);
        take(&peer, 5);
        pushing.wait_for_eos();
    }
}

/// C-4: a redirect may lead from http to https.
#[test]
fn c4_redirected_to_tls() {
    let authority = Authority::new();
    let plain = Peer::new();
    let peer = Peer::with_tls(authority.server("127.0.0.1", false));
    let (pushing, source) = pushing(&plain.location(), &authority.trusted());
    push_bytes(&source, media::stream(5, STEP));
    end(&source);
    let mut connection = plain.accept();
    connection.request();
    connection.answer(&format!("HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", peer.location()));
    take(&peer, 5);
    pushing.wait_for_eos();
    assert_eq!(pushing.destination_stats().get::<&str>("effective-location").unwrap(), peer.location());
}

/// A port without TLS is distinguished from one on which no process listens.
#[test]
fn a_server_without_tls() {
    let peer = Peer::new();
    let (pushing, _source) = pushing(&peer.location().replace("http:", "https:"), "retries=0");
    peer.accept().answer("HTTP/1.1 400 Bad Request\r\n\r\n");
    let (error, details) = pushing.wait_for_error();
    assert!(error.matches(gst::ResourceError::OpenWrite), "{error:?}");
    assert_eq!(details.get::<u32>("hresult"), Ok(Hresult::TLS_FAILED.0), "{error:?}");
}

/// Unusable files are reported before connecting.
#[test]
fn bad_files_are_settings() {
    let authority = Authority::new();
    std::fs::write(authority.file("empty.pem"), "").unwrap();
    std::fs::write(authority.file("other-key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let name = |name| authority.file(name).display().to_string();
    let peer = Peer::new();
    for (properties, word) in [
        ("tls-ca-file=/no/such.pem".to_owned(), "/no/such.pem"),
        (format!("tls-ca-file={}", name("empty.pem")), "no certificate"),
        ("tls-certificate-file=/no/such.pem".to_owned(), "tls-certificate-file"),
        (format!("tls-certificate-file={}", name("ca.pem")), "no private key"),
        (format!("tls-private-key-file={}", name("other-key.pem")), "set tls-certificate-file"),
        (
            format!("tls-certificate-file={} tls-private-key-file={}", name("ca.pem"), name("other-key.pem")),
            "belong together",
        ),
    ] {
        for location in [peer.location(), "https://127.0.0.1:9/concert".to_owned()] {
            let (pushing, _source) = Pushing::with_feed_source(&format!("location={location} {properties}"));
            assert!(pushing.pipeline.set_state(gst::State::Paused).is_err(), "{properties}");
            let (error, details) = pushing.wait_for_error();
            assert!(error.matches(gst::ResourceError::Settings), "{error:?}");
            assert!(error.message().contains(word), "{properties}: {error:?}");
            assert_eq!(details.get::<u32>("hresult"), Ok(Hresult::INVALID_ARG.0));
        }
    }
    assert!(peer.accept_within(Duration::ZERO).is_none(), "no connection is made");
    until("files are read again at each start", || {
        let (pushing, _source) =
            Pushing::with_feed_source(&format!("location={} tls-ca-file={}", peer.location(), name("late.pem")));
        assert!(pushing.pipeline.set_state(gst::State::Paused).is_err());
        std::fs::copy(name("ca.pem"), name("late.pem")).unwrap();
        pushing.stop();
        let begun = pushing.pipeline.set_state(gst::State::Paused).is_ok();
        std::fs::remove_file(name("late.pem")).unwrap();
        begun
    });
}

/// The URI interface supports both schemes.
#[test]
fn uri_over_tls() {
    test_support::pipeline::init();
    let sink = gst::Element::make_from_uri(gst::URIType::Sink, "wmpush+https://host/a;b", None).unwrap();
    assert_eq!(sink.property::<Option<String>>("location").as_deref(), Some("https://host/a;b"));
    let handler = sink.dynamic_cast::<gst::URIHandler>().unwrap();
    assert_eq!(handler.uri().as_deref(), Some("wmpush+https://host/a;b"));
}

/// The server ends with unread bytes: what was not acknowledged is sent again, as far as that is known with TLS.
#[test]
fn c15_data_in_transit_is_sent_again() {
    const PACKETS: usize = 300;
    let authority = Authority::new();
    let peer = Peer::with_tls_and_small_buffer(authority.server("127.0.0.1", false));
    let (pushing, source) = pushing(&peer.location(), &format!("{} retry-delay=10", authority.trusted()));
    push_bytes(&source, media::stream(PACKETS as u32, STEP));
    let mut first = peer.accept();
    first.set_up(&ours(204, "one"));
    until("all sent", || pushing.destination_stats().get::<u64>("packets-sent") == Ok(PACKETS as u64));
    first.packet();
    first.data(10);
    first.reset();
    end(&source);
    let mut second = peer.accept();
    // If it is unknown with TLS whether the header arrived, a new session sends it again.
    let head = second.request();
    if head.is_setup() {
        second.answer(&ours(204, "one"));
        second.request();
    } else {
        assert_eq!(head.push_id(), "one");
    }
    let packets = second.until_the_end();
    second.answer(&ours(204, "one"));
    pushing.wait_for_eos();
    let data = packets.iter().filter(|packet| matches!(packet, Packet::Data(_))).count();
    // Everything, if the reset follows soon after the start.
    assert!(data > PACKETS / 2 && data <= PACKETS, "{data}");
    assert_eq!(pushing.destination_stats().get::<u64>("packets-dropped"), Ok(0));
}
