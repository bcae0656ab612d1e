//! The element and servers that require authentication.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use asf::Header;
use gst::prelude::*;
use test_support::media;
use test_support::peer::{Connection, Head, Peer, unauthorized, wms};
use test_support::pipeline::{Pushing, end, push_bytes, status, until};
use wmhttp::Hresult;
use wmhttp::packet::Packet;

#[cfg(all(feature = "interop", feature = "ntlm"))]
mod interop;

const STEP: u32 = 40;
const PACKETS: u32 = 50;
const DIGEST: &str = "Digest realm=\"live\",nonce=\"one\",qop=\"auth\",algorithm=SHA-256";

/// Creates a pipeline that pushes [`PACKETS`] packets when it plays.
fn pushing(peer: &Peer, properties: &str) -> Pushing {
    let (pushing, source) = Pushing::with_feed_source(&format!("location={} sync=false {properties}", peer.location()));
    // The parser of pipeline descriptions would log a password.
    if !properties.contains("user-id") {
        pushing.sink.set_property("user-id", "STUDIO\\bob");
        pushing.sink.set_property("user-pw", "hush");
    }
    pushing.play();
    push_bytes(&source, media::stream(PACKETS, STEP));
    end(&source);
    pushing
}

/// Reads the body to its end and confirms it; returns the numbers of its packets.
fn take(connection: &mut Connection) -> Vec<u32> {
    let packets = connection.until_the_end();
    let Packet::Header(header) = &packets[0] else { panic!("C-8: {:?}", packets[0]) };
    let header = Header::parse(header.clone()).unwrap();
    let numbers = packets.iter().filter_map(|packet| match packet {
        Packet::Data(payload) => Some(media::number(&header, payload, STEP)),
        Packet::Header(_) | Packet::StreamChange(_) | Packet::End(_) | Packet::Filler(_) => None,
    });
    let numbers = numbers.collect();
    assert_eq!(packets.last(), Some(&Packet::End(Hresult::OK)));
    connection.answer(&wms(204, "one"));
    numbers
}

fn all() -> Vec<u32> {
    (0..PACKETS).collect()
}

fn authorization(head: &Head) -> &str {
    head.header("Authorization").unwrap_or_else(|| panic!("no Authorization in {}", head.text))
}

fn token(head: &Head) -> &str {
    authorization(head).split_once(' ').unwrap().1
}

/// The destination's states on the bus up to the end of the stream.
fn states(pushing: &Pushing) -> Vec<String> {
    let mut states = Vec::new();
    pushing.wait_for(|message| {
        states.extend(status(message).map(|status| status.get::<String>("new-state").unwrap()));
        matches!(message.view(), gst::MessageView::Eos(_)).then_some(())
    });
    states
}

/// C-5, C-13, H-4, H-6: challenge, PushSetup and PushStart on one connection, each authenticated separately.
#[test]
fn c5_c13_h4_h6_digest() {
    let peer = Peer::new();
    let pushing = pushing(&peer, "auth-methods=basic+digest");
    let mut connection = peer.accept();
    let first = connection.request();
    assert_eq!(first.header("Authorization"), None);
    assert_eq!(first.header("X-Accept-Authentication"), Some("Digest, Basic"));
    connection.answer(&unauthorized(&["Basic realm=\"live\"", DIGEST]));
    let second = connection.request();
    assert!(second.is_setup() && second.push_id() == "REFUSED");
    assert!(authorization(&second).starts_with("Digest username=\"STUDIO\\\\bob\", realm=\"live\", nonce=\"one\""));
    assert!(authorization(&second).contains("uri=\"/concert\"") && authorization(&second).contains("nc=00000001"));
    connection.answer(&wms(204, "one"));
    let start = connection.request();
    assert!(!start.is_setup() && authorization(&start).contains("nc=00000002"));
    assert_eq!(take(&mut connection), all());
    let states = states(&pushing);
    let authenticating = states.iter().position(|state| state == "authenticating").expect("the state authenticating");
    assert!(states.iter().position(|state| state == "opened").unwrap() > authenticating);
    assert_eq!(pushing.destination_stats().get::<&str>("auth-scheme"), Ok("Digest"));
    assert!(peer.accept_within(Duration::from_millis(100)).is_none());
}

/// C-5: after a permanent failure, `reconnect` tries once more, and only once.
#[test]
fn c5_reconnect_tries_once_more() {
    let peer = Peer::new();
    let (pushing, source) =
        Pushing::with_feed_source(&format!("location={} sync=false on-error=never", peer.location()));
    pushing.sink.set_property("user-id", "bob");
    pushing.sink.set_property("user-pw", "hush");
    pushing.play();
    push_bytes(&source, media::stream(PACKETS, STEP));
    for answer in [unauthorized(&[DIGEST]), wms(204, "one")] {
        let mut connection = peer.accept();
        connection.request();
        connection.answer(&unauthorized(&[DIGEST]));
        assert!(authorization(&connection.request()).contains("username=\"bob\""));
        connection.answer(&answer);
        if answer.contains(" 401 ") {
            until("it has failed", || pushing.state_of(0) == "failed");
            assert!(pushing.sink.emit_by_name::<bool>("reconnect", &[&None::<&str>]));
        } else {
            pushing.wait_for_status("opened");
        }
    }
}

/// C-13: a PushStart that is rejected before the end of its body is sent again on a new connection, without loss.
#[test]
fn c13_a_rejected_push_start_is_repeated() {
    let peer = Peer::new();
    let pushing = pushing(&peer, "");
    let mut connection = peer.accept();
    let start = connection.set_up(&wms(204, "one"));
    assert_eq!(start.header("Authorization"), None);
    connection.packet();
    connection.answer(&unauthorized(&[DIGEST]));
    let mut second = peer.accept();
    let start = second.request();
    assert!(!start.is_setup() && authorization(&start).contains("nc=00000001"));
    assert_eq!(take(&mut second), all());
    pushing.wait_for_eos();
    assert_eq!(pushing.destination_stats().get::<u64>("packets-dropped"), Ok(0));
}

/// A rejection is an ERROR with cause, remedy and HRESULT; only one request contains credentials.
#[test]
fn c5_a_second_refusal_is_final() {
    let peer = Peer::new();
    let pushing = pushing(&peer, "retry-delay=1");
    let mut connection = peer.accept();
    connection.request();
    connection.answer(&unauthorized(&[DIGEST]));
    authorization(&connection.request());
    connection.answer(&unauthorized(&[DIGEST]));
    let (error, details) = pushing.wait_for_error();
    assert_eq!(error.kind(), Some(gst::ResourceError::NotAuthorized));
    assert!(error.message().contains("user-pw"), "{error}");
    assert_eq!(details.get::<u32>("hresult"), Ok(Hresult::SERVER_ACCESS_DENIED.0));
    assert_eq!(details.get::<u32>("http-status-code"), Ok(401));
    assert!(connection.is_closed());
    assert!(peer.accept_within(Duration::from_millis(300)).is_none());
}

/// Basic is used only if it is enabled, and over plain HTTP with a WARNING.
#[test]
fn basic_must_be_enabled_and_causes_a_warning() {
    let peer = Peer::new();
    let refused = pushing(&peer, "");
    let mut connection = peer.accept();
    connection.request();
    connection.answer(&unauthorized(&["Basic realm=\"live\""]));
    let (error, _) = refused.wait_for_error();
    assert!(error.message().contains("Basic") && error.message().contains("auth-methods"), "{error}");

    let pushing = pushing(&peer, "auth-methods=basic");
    let mut connection = peer.accept();
    connection.request();
    connection.answer(&unauthorized(&["Basic realm=\"live\""]));
    assert_eq!(authorization(&connection.request()), "Basic U1RVRElPXGJvYjpodXNo");
    connection.answer(&wms(204, "one"));
    assert_eq!(authorization(&connection.request()), "Basic U1RVRElPXGJvYjpodXNo");
    take(&mut connection);
    let warning = pushing.wait_for(|message| {
        let gst::MessageView::Warning(warning) = message.view() else { return None };
        Some(warning.error().message().to_owned())
    });
    assert!(warning.contains("password") && warning.contains("https"), "{warning}");
}

/// User name and password in a location become properties of its destination; each destination has its own.
#[test]
fn credentials_of_destinations() {
    let peers = [Peer::new(), Peer::new(), Peer::new()];
    let with = |peer: &Peer, login: &str| peer.location().replace("http://", &format!("http://{login}@"));
    let (pushing, source) = Pushing::with_feed_source("sync=false auth-methods=basic");
    pushing.sink.set_property("location", with(&peers[0], "alice:a%3Ab"));
    pushing.sink.set_property("locations", format!("{},{}", with(&peers[1], "bob:b"), peers[2].location()));
    pushing.sink.set_property("user-id", "carol");
    pushing.sink.set_property("user-pw", "c");
    assert_eq!(pushing.sink.property::<String>("location"), peers[0].location());
    assert!(!pushing.sink.property::<String>("locations").contains('@'));
    let proxy = pushing.sink.dynamic_cast_ref::<gst::ChildProxy>().unwrap();
    let names = ["alice", "bob", "carol"];
    for (index, name) in names.into_iter().enumerate() {
        let child = proxy.child_by_name(&format!("dest_{index}")).unwrap();
        assert_eq!(child.property::<String>("user-id"), name);
        assert_eq!(child.property::<String>("location"), peers[index].location());
        for object in [&child, pushing.sink.upcast_ref()] {
            assert!(!object.find_property("user-pw").unwrap().flags().contains(glib::ParamFlags::READABLE));
        }
    }
    pushing.play();
    push_bytes(&source, media::stream(PACKETS, STEP));
    end(&source);
    // base64 of alice:a:b, bob:b and carol:c.
    for (peer, value) in peers.iter().zip(["YWxpY2U6YTpi", "Ym9iOmI=", "Y2Fyb2w6Yw=="]) {
        let mut connection = peer.accept();
        connection.request();
        connection.answer(&unauthorized(&["Basic realm=\"live\""]));
        assert_eq!(token(&connection.request()), value);
        connection.answer(&wms(204, "one"));
        connection.request();
        assert_eq!(take(&mut connection), all());
    }
    pushing.wait_for_eos();
}

fn answer(user: &str, password: &str) -> Option<gst::Structure> {
    let answer = gst::Structure::builder("credentials").field("user-id", user).field("user-pw", password);
    Some(answer.build())
}

/// `request-credentials`: the fields of the request; handlers are called in order until one answers, and the signal is
/// emitted again if that answer is rejected.
#[test]
fn request_credentials() {
    let peer = Peer::new();
    let (pushing, source) = Pushing::with_feed_source(&format!("location={} sync=false user-id=bob", peer.location()));
    let questions = Arc::new(Mutex::new(Vec::new()));
    let (first, third) = (Arc::clone(&questions), Arc::clone(&questions));
    pushing.sink.connect("request-credentials", false, move |values| {
        let destination = values[1].get::<gst::Object>().unwrap().name().to_string();
        let question = values[2].get::<gst::Structure>().unwrap();
        first.lock().unwrap().push((destination, question));
        Some(None::<gst::Structure>.to_value())
    });
    pushing.sink.connect("request-credentials", false, move |values| {
        let attempt = values[2].get::<gst::Structure>().unwrap().get::<u32>("attempt").unwrap();
        Some(if attempt == 1 { answer("alice", "wrong") } else { answer("bob", "right") }.to_value())
    });
    pushing.sink.connect("request-credentials", false, move |_| {
        third.lock().unwrap().clear();
        Some(answer("mallory", "last").to_value())
    });
    pushing.play();
    push_bytes(&source, media::stream(PACKETS, STEP));
    end(&source);
    let mut connection = peer.accept();
    connection.request();
    connection.answer(&unauthorized(&[DIGEST]));
    for user in ["alice", "bob"] {
        assert!(authorization(&connection.request()).contains(&format!("username=\"{user}\"")));
        connection.answer(&if user == "bob" { wms(204, "one") } else { unauthorized(&[DIGEST]) });
    }
    connection.request();
    assert_eq!(take(&mut connection), all());
    pushing.wait_for_eos();
    let questions = questions.lock().unwrap();
    assert_eq!(questions.len(), 2, "the third handler was called");
    for ((destination, question), (attempt, user)) in questions.iter().zip([(1_u32, "bob"), (2, "alice")]) {
        assert_eq!(destination, "dest_0");
        assert_eq!(question.get::<&str>("realm"), Ok("live"));
        assert_eq!(question.get::<String>("site"), Ok(peer.addr.to_string()));
        assert_eq!(question.get::<&str>("scheme"), Ok("Digest"));
        assert_eq!(question.get::<bool>("proxy"), Ok(false));
        assert_eq!(question.get::<bool>("clear-text"), Ok(false));
        assert_eq!((question.get::<u32>("attempt"), question.get::<&str>("user-id")), (Ok(attempt), Ok(user)));
    }
}

/// A handler may block: meanwhile the other destination receives everything, and the state can be changed.
#[test]
fn a_pending_request_delays_no_other_destination() {
    let (asked, other) = (Peer::new(), Peer::new());
    let locations = format!("{},{}", asked.location(), other.location());
    let (pushing, source) =
        Pushing::with_feed_source(&format!("locations=\"{locations}\" sync=false eos-timeout=60000"));
    let (release, released) = channel();
    let released = Mutex::new(released);
    pushing.sink.connect("request-credentials", false, move |_| {
        released.lock().unwrap().recv().unwrap();
        Some(answer("bob", "hush").to_value())
    });
    pushing.play();
    push_bytes(&source, media::stream(PACKETS, STEP));
    end(&source);
    let mut connection = asked.accept();
    connection.request();
    connection.answer(&unauthorized(&[DIGEST]));
    let mut second = other.accept();
    second.set_up(&wms(204, "two"));
    assert_eq!(take(&mut second), all());
    assert!(second.is_closed(), "its end does not wait for the other's");
    release.send(()).unwrap();
    authorization(&connection.request());
    connection.answer(&wms(204, "one"));
    connection.request();
    assert_eq!(take(&mut connection), all());
    pushing.wait_for_eos();
}

/// A state change does not wait for a pending request for credentials.
#[test]
fn a_request_may_stay_pending() {
    let peer = Peer::new();
    let (pushing, _source) = Pushing::with_feed_source(&format!("location={} sync=false", peer.location()));
    let (ask, asked) = channel();
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    pushing.sink.connect("request-credentials", false, move |_| {
        ask.send(()).unwrap();
        let _ = released.lock().unwrap().recv();
        Some(None::<gst::Structure>.to_value())
    });
    pushing.play();
    let mut connection = peer.accept();
    connection.request();
    connection.answer(&unauthorized(&[DIGEST]));
    asked.recv_timeout(test_support::peer::TEST_TIMEOUT).unwrap();
    pushing.stop();
    assert!(connection.is_closed());
    release.send(()).unwrap();
}
