//! The behavior of known servers, each scripted, and a push that arrives nevertheless.
//!
//! Tested elsewhere: head and body of a PushSetup in one write in `crates/client/src/transport/tests.rs`; Digest
//! without quotes in `auth/authentication.rs`; a header change at a relay in `element/sessions.rs`.

use std::time::Duration;

use asf::Header;
use asf::test_util::{HeaderBuilder, PacketBuilder, Payload};
use gst::prelude::*;
use test_support::media;
use test_support::peer::{Connection, Peer, relay, wms};
use test_support::pipeline::{Pushing, end, push_bytes, status, status_nick};
use wmhttp::Hresult;
use wmhttp::packet::Packet;

const STEP: u32 = 40;
const PACKETS: u32 = 50;

fn pushing(properties: &str) -> (Peer, Pushing, gst::Element) {
    let peer = Peer::new();
    let (pushing, source) = Pushing::with_feed_source(&format!("location={} sync=false {properties}", peer.location()));
    pushing.play();
    (peer, pushing, source)
}

/// Starts a push of the whole stream, all of which is available immediately.
fn whole(properties: &str) -> (Peer, Pushing) {
    let (peer, pushing, source) = pushing(properties);
    push_bytes(&source, media::stream(PACKETS, STEP));
    end(&source);
    (peer, pushing)
}

/// Reads to `$E`(0) and asserts that nothing is missing.
fn take_all(connection: &mut Connection) {
    let packets = connection.until_the_end();
    let Packet::Header(header) = &packets[0] else { panic!("C-8: {:?}", packets[0]) };
    let header = Header::parse(header.clone()).unwrap();
    let numbers: Vec<u32> = packets
        .iter()
        .filter_map(|packet| if let Packet::Data(data) = packet { Some(data) } else { None })
        .map(|data| media::number(&header, data, STEP))
        .collect();
    assert_eq!(numbers, (0..PACKETS).collect::<Vec<_>>());
    assert_eq!(packets.last(), Some(&Packet::End(Hresult::OK)));
}

/// Waits for EOS and returns the WARNINGs before it.
fn warnings(pushing: &Pushing) -> Vec<String> {
    let mut told = Vec::new();
    pushing.wait_for(|message| {
        if let gst::MessageView::Warning(warning) = message.view() {
            told.push(warning.error().message().to_owned());
        }
        matches!(message.view(), gst::MessageView::Eos(_)).then_some(())
    });
    told
}

/// Header names in Title-Case, one space after the colon, the media type without parameters, and a length: as
/// case-sensitive parsers require.
#[test]
fn h1_case_sensitive_parsers() {
    let (peer, pushing) = whole("template-url=/live");
    let mut connection = peer.accept();
    let setup = connection.request();
    connection.answer(&relay(204));
    let start = connection.request();
    for (head, kind) in [(&setup, "pushsetup"), (&start, "pushstart")] {
        assert_eq!(head.header("Content-Type"), Some(format!("application/x-wms-{kind}").as_str()));
        for line in head.text.trim_end().split("\r\n").skip(1) {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
            assert!(!value.is_empty() && value.trim() == value, "{line}");
            for word in name.split('-') {
                let (first, rest) = word.split_at(1);
                let title =
                    first.chars().all(|c| c.is_ascii_uppercase()) && !rest.chars().any(|c| c.is_ascii_uppercase());
                assert!(title, "{name}");
            }
        }
    }
    take_all(&mut connection);
    drop(connection);
    assert_eq!(warnings(&pushing), [""; 0]);
}

/// No cookie, or `push-id=0`: the push continues with 0, the start uses the setup's connection, and no other connection
/// is made.
#[test]
fn h2_servers_without_ids() {
    for answer in [relay(204), relay(200), wms(204, "0")] {
        let (peer, pushing) = whole("");
        let mut connection = peer.accept();
        assert_eq!(connection.set_up(&answer).push_id(), "0");
        take_all(&mut connection);
        drop(connection);
        assert_eq!(warnings(&pushing), [""; 0]);
        assert!(peer.accept_within(Duration::ZERO).is_none(), "one connection");
    }
}

/// The connection is closed after the 204, with or without an announcement: the start uses a new one, without an
/// announcement after another setup.
#[test]
fn closed_after_the_setup() {
    for said in [true, false] {
        let (peer, pushing, source) = pushing("");
        let mut connection = peer.accept();
        assert!(connection.request().is_setup());
        let answer = wms(204, "one");
        connection.answer(&if said { answer.replace("Pragma", "Connection: close\r\nPragma") } else { answer });
        pushing.wait_for_status("opened");
        drop(connection);
        // As after the seconds for which such servers wait.
        std::thread::sleep(Duration::from_millis(100));
        push_bytes(&source, media::stream(PACKETS, STEP));
        end(&source);
        let mut connection = peer.accept();
        if said {
            assert_eq!(connection.request().push_id(), "one");
        } else {
            connection.set_up(&wms(204, "two"));
        }
        take_all(&mut connection);
        connection.answer(&wms(204, "two"));
        assert_eq!(warnings(&pushing), [""; 0], "said: {said}");
    }
}

/// A full body without a response: after `timeout` a new session begins with the header, without loss.
#[test]
fn c10_never_responds() {
    let (peer, pushing) = whole("timeout=300 content-length=20000");
    let mut seen = Vec::new();
    while seen.last() != Some(&PACKETS) {
        let mut connection = peer.accept();
        connection.set_up(&relay(204));
        let packets = connection.until_the_end();
        let Packet::Header(header) = &packets[0] else { panic!("{:?}", packets[0]) };
        let header = Header::parse(header.clone()).unwrap();
        for packet in &packets {
            if let Packet::Data(data) = packet {
                assert_eq!(media::number(&header, data, STEP), seen.last().copied().unwrap_or(0));
                seen.push(media::number(&header, data, STEP) + 1);
            }
        }
        // Kept open: the client closes the connection.
        if seen.last() != Some(&PACKETS) {
            assert!(connection.is_closed());
        }
    }
    let told = warnings(&pushing);
    assert!(told.iter().all(|text| text.contains("did not answer at the end of a request's body")), "{told:?}");
    assert!(!told.is_empty());
}

/// A server that supports the whole protocol, but ends the session at any `$E`: a new session sends the new header.
#[test]
fn c12_ends_the_session_at_any_end() {
    let (peer, pushing, source) = pushing("");
    push_bytes(&source, media::stream(5, STEP));
    push_bytes(&source, media::stream(PACKETS, STEP));
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    connection.packet();
    connection.data(5);
    assert_eq!(connection.packet(), Some(Packet::End(Hresult::FALSE)));
    connection.answer(&wms(204, "one"));
    drop(connection);
    let mut connection = peer.accept();
    assert_eq!(connection.set_up(&wms(204, "two")).push_id(), "two");
    end(&source);
    take_all(&mut connection);
    connection.answer(&wms(204, "two"));
    let told = warnings(&pushing);
    assert!(matches!(&told[..], [text] if text.contains("header-change=reconnect")), "{told:?}");
}

/// After `$E` any response confirms the end, even an error.
#[test]
fn c11_422_after_the_end() {
    for status in [204, 200, 422, 500] {
        let (peer, pushing) = whole("");
        let mut connection = peer.accept();
        connection.set_up(&wms(204, "one"));
        take_all(&mut connection);
        connection.answer(&wms(status, "one"));
        assert_eq!(warnings(&pushing), [""; 0], "{status}");
    }
}

/// 200 in the middle of the stream means that another encoder has taken over. It is reported as such and retried at
/// increasing intervals, although each push had streamed for longer than `retry-delay`.
#[test]
fn c16_displaced_repeatedly() {
    let (peer, pushing, source) = pushing("retry-delay=40 retry-delay-max=100000");
    push_bytes(&source, media::stream(1, STEP));
    let mut waits = Vec::new();
    for n in 1..=6 {
        let mut connection = peer.accept();
        connection.set_up(&relay(204));
        assert!(matches!(connection.packet(), Some(Packet::Header(_))), "C-8");
        connection.data(1);
        std::thread::sleep(Duration::from_millis(60));
        connection.answer(&relay(200));
        let again = pushing.wait_for_status("reconnect-start");
        push_bytes(&source, media::packet(n, STEP));
        assert_eq!(again.get::<u32>("hresult"), Ok(Hresult::PUSH_DUPLICATE.0));
        waits.push(again.get::<u32>("retry-in").unwrap());
    }
    assert!(waits[5] > 3 * waits[0] && waits[0] > 0, "{waits:?}");
}

/// The client waits for a server that polls and takes a second for each response.
#[test]
fn slow_responses() {
    let (peer, pushing) = whole("");
    let mut connection = peer.accept();
    assert!(connection.request().is_setup());
    std::thread::sleep(Duration::from_millis(1200));
    connection.answer(&wms(204, "one"));
    assert!(!connection.request().is_setup());
    take_all(&mut connection);
    std::thread::sleep(Duration::from_millis(1200));
    connection.answer(&wms(204, "one"));
    assert_eq!(warnings(&pushing), [""; 0]);
}

/// The path is sent as it was written.
#[test]
fn paths_as_written() {
    for path in ["/live;a=b;c/x", "/%7Euser/a%2Fb%20c?d=%3b", "/", "/a//b", "/(a)!$&'*+,=:@-._~"] {
        let peer = Peer::new();
        let pushing = Pushing::with_feed_source("sync=false").0;
        pushing.sink.set_property("location", format!("http://{}{path}", peer.addr));
        pushing.play();
        let text = peer.accept().request().text;
        assert!(text.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{path}: {text}");
    }
}

/// With `strict-server=false`, the element pushes to servers that do not identify themselves as a Windows Media server.
#[test]
fn h5_strictness_can_be_turned_off() {
    for answer in
        ["Server: nginx\r\n", ""].map(|server| format!("HTTP/1.1 200 OK\r\n{server}Content-Length: 0\r\n\r\n"))
    {
        let (peer, pushing) = whole("strict-server=false");
        let mut connection = peer.accept();
        connection.set_up(&answer);
        take_all(&mut connection);
        connection.answer(&answer);
        assert_eq!(warnings(&pushing), [""; 0]);
    }
}

/// Returns the header of a stream with data packets of `size` bytes, and one of them.
fn stream_of(size: u32) -> [Vec<u8>; 2] {
    let data = vec![0xA5; size as usize - 100];
    let packet = PacketBuilder::asfmux(size as usize, vec![Payload::new(2, &data).key()]).build();
    [HeaderBuilder::default().packet_size(size).build().to_vec(), packet.to_vec()]
}

/// A server that closes the connection on payloads of more than 8,192 bytes is reported once, with the remedy; not for
/// smaller payloads, not after a single close, and not if it accepts them.
#[test]
fn large_payloads() {
    for (size, closes, told) in [(9000, 4, 1), (4000, 4, 0), (9000, 1, 0), (9000, 0, 0)] {
        let (peer, pushing, source) = pushing("retry-delay=20 retry-delay-max=20");
        let [header, packet] = stream_of(size);
        push_bytes(&source, header);
        let mut said = Vec::new();
        for _ in 0..closes {
            push_bytes(&source, packet.clone());
            let mut connection = peer.accept();
            connection.set_up(&relay(204));
            assert!(matches!(connection.packet(), Some(Packet::Header(_))), "C-8");
            drop(connection);
            pushing.wait_for(|message| {
                if let gst::MessageView::Warning(warning) = message.view() {
                    said.push(warning.error().message().to_owned());
                }
                status(message).filter(|status| status_nick(status) == "reconnect-start")
            });
        }
        push_bytes(&source, packet);
        let mut connection = peer.accept();
        connection.set_up(&relay(204));
        end(&source);
        connection.until_the_end();
        connection.answer(&relay(204));
        said.extend(warnings(&pushing));
        said.retain(|text| text.contains("payload limit may be 8192 bytes"));
        assert_eq!(said.len(), told, "{size} bytes, closed {closes} times: {said:?}");
        assert!(said.iter().all(|text| text.contains("packet-size")), "{said:?}");
    }
}
