//! What happens to a push when its body is full, its connection is lost, its header changes or its server rejects it.

use std::time::Duration;

use test_support::media;
use test_support::peer::{Peer, ours, relay, wms};
use test_support::pipeline::{Pushing, end, push_bytes, pushing_to_one as pushing, until};
use test_support::server::listen;
use wmhttp::Hresult;
use wmhttp::packet::Packet;

const STEP: u32 = 40;

/// C-9, C-10: hundreds of rollovers on one connection, without loss.
#[test]
fn c9_c10_roll_overs() {
    let (peer, pushing, source) = pushing("content-length=10000");
    push_bytes(&source, media::stream(3000, STEP));
    end(&source);
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    let mut all = Vec::new();
    let mut bodies = 1;
    loop {
        all.extend(connection.until_the_end());
        connection.answer(&wms(204, "one"));
        if all.last() == Some(&Packet::End(Hresult::OK)) {
            break;
        }
        assert_eq!(connection.body_left, 0);
        let start = connection.request();
        assert!(!start.is_setup());
        bodies += 1;
    }
    pushing.wait_for_eos();
    assert_eq!(media::numbers_of_push(&all, STEP), (0..3000).collect::<Vec<_>>());
    assert!(bodies > 100, "{bodies}");
    assert_eq!(pushing.destination_stats().get::<u64>("rollovers"), Ok(bodies - 1));
    assert!(peer.accept_within(Duration::ZERO).is_none(), "one connection");
}

/// C-15: after a reset within a body, the push continues with the same id on a new connection, without loss.
#[test]
fn c15_a_reset_loses_nothing() {
    let (peer, pushing, source) = pushing("retry-delay=10");
    push_bytes(&source, media::stream(500, STEP));
    let mut first = peer.accept();
    first.set_up(&ours(204, "one"));
    let Some(Packet::Header(_header)) = first.packet() else { panic!() };
    let got = first.data(500);
    first.reset();
    push_bytes(&source, (500..600).flat_map(|n| media::packet(n, STEP)).collect::<Vec<u8>>());
    end(&source);
    let mut second = peer.accept();
    let start = second.request();
    assert!(!start.is_setup());
    assert_eq!(start.push_id(), "one");
    let packets = second.until_the_end();
    second.answer(&ours(204, "one"));
    pushing.wait_for_eos();
    let before: Vec<Packet> = got.into_iter().map(Packet::Data).collect();
    assert_eq!(media::numbers(&before, STEP), (0..500).collect::<Vec<_>>());
    // Packets that had arrived but were not acknowledged yet are sent again.
    let after = media::numbers(&packets, STEP);
    assert!(after[0] <= 500, "{}", after[0]);
    assert_eq!(after, (after[0]..600).collect::<Vec<_>>());
}

/// C-8, C-15: a session whose `$H` has not even been sent cannot be resumed.
#[test]
fn c8_c15_a_header_that_was_not_sent() {
    let address = listen(1, None).local_addr().unwrap();
    let peer = Peer::on(address);
    let (pushing, source) =
        Pushing::with_feed_source(&format!("location={} sync=false retry-delay=100", peer.location()));
    pushing.play();
    let mut first = peer.accept();
    first.request();
    first.answer(&wms(204, "one").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    pushing.wait_for_status("opened");
    drop((first, peer));
    until("the port is closed", || std::net::TcpStream::connect(address).is_err());
    push_bytes(&source, media::stream(5, STEP));
    pushing.wait_for_status("reconnect-start");
    let again = Peer::on(address);
    let mut second = again.accept();
    let setup = second.set_up(&wms(204, "two"));
    assert_eq!(setup.push_id(), "two");
    assert!(matches!(second.packet(), Some(Packet::Header(_))));
    assert_eq!(second.data(5).len(), 5);
}

/// C-16: a server that rejects a body has read none of it, whatever its TCP stack has acknowledged.
#[test]
fn c16_rejected_data_is_sent_again() {
    for answer in [Some(wms(503, "0")), Some(wms(404, "0")), None] {
        let (peer, pushing, source) = pushing("retry-delay=10");
        push_bytes(&source, media::stream(20, STEP));
        let mut refusing = peer.accept();
        refusing.set_up(&wms(204, "one"));
        until("all sent", || pushing.destination_stats().get::<u64>("packets-sent") == Ok(20));
        until("all acknowledged", || refusing.unread() > 20 * 900);
        match answer {
            Some(answer) => refusing.answer(&answer),
            None => refusing.reset(),
        }
        // After the end, any response would confirm it.
        pushing.wait_for_status("reconnect-start");
        end(&source);
        let mut again = peer.accept();
        if again.request().is_setup() {
            again.answer(&wms(204, "two"));
            again.request();
        }
        let packets = again.until_the_end();
        again.answer(&wms(204, "two"));
        assert_eq!(media::numbers(&packets, STEP), (0..20).collect::<Vec<_>>());
        pushing.wait_for_eos();
        assert_eq!(pushing.destination_stats().get::<u64>("packets-sent"), Ok(20));
    }
}

/// The server ends with unread bytes and restarts: what its TCP stack had not acknowledged is sent again.
#[test]
fn c15_data_in_transit_is_sent_again() {
    let peer = Peer::with_small_buffer();
    let (pushing, source) =
        Pushing::with_feed_source(&format!("location={} sync=false max-size-time=0 retry-delay=50", peer.location()));
    pushing.play();
    push_bytes(&source, media::stream(7000, STEP));
    let mut first = peer.accept();
    first.set_up(&wms(204, "one"));
    first.packet();
    first.data(10);
    // Far more is in transit than the server's TCP stack accepts.
    until("the pipe is full", || pushing.destination_stats().get::<u64>("packets-sent").unwrap() > 200);
    let came = 10 + first.unread() / 900;
    first.reset();
    end(&source);
    // The new process knows no session.
    let mut refused = peer.accept();
    refused.request();
    refused.answer("HTTP/1.1 412 No\r\nServer: Cougar/9.6\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let mut second = peer.accept();
    second.set_up(&wms(204, "two"));
    let packets = second.until_the_end();
    second.answer(&wms(204, "two"));
    pushing.wait_for_eos();
    let numbers = media::numbers_of_push(&packets, STEP);
    assert_eq!(numbers, (numbers[0]..7000).collect::<Vec<_>>());
    // Some packets may have arrived between the measurement and the reset, but not those that were still on the
    // client's side.
    assert!((numbers[0] as usize) < came + 100, "{} after {came} had arrived", numbers[0]);
    assert_eq!(pushing.destination_stats().get::<u64>("packets-dropped"), Ok(0));
}

/// C-12: a second header in the middle of the stream, and its statistics.
#[test]
fn c12_header_change() {
    let (peer, pushing, source) = pushing("");
    push_bytes(&source, media::stream(5, STEP));
    push_bytes(&source, media::stream(5, STEP));
    end(&source);
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    let letters: Vec<u8> = connection.until_the_end().iter().map(Packet::letter).collect();
    assert_eq!(letters, b"HDDDDDECDDDDDE");
    connection.answer(&wms(204, "one"));
    pushing.wait_for_eos();
    assert_eq!(pushing.destination_stats().get::<u64>("header-changes"), Ok(1));
}

/// Receivers Framing 2: a simple relay receives the new header in a new session.
#[test]
fn c12_header_change_at_a_relay() {
    let (peer, pushing, source) = pushing("");
    push_bytes(&source, media::stream(5, STEP));
    push_bytes(&source, media::stream(5, STEP));
    end(&source);
    for _ in 0..2 {
        let mut connection = peer.accept();
        connection.set_up(&relay(204));
        let letters: Vec<u8> = connection.until_the_end().iter().map(Packet::letter).collect();
        assert_eq!(letters, b"HDDDDDE");
        // It never responds; it closes the connection.
    }
    pushing.wait_for_eos();
}

fn redirect(status: u16, location: &str) -> String {
    format!(
        "HTTP/1.1 {status} Said\r\nServer: nginx\r\nLocation: {location}\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
    )
}

/// C-4: after a redirect to another server, the whole stream arrives there, and the statistics contain its URL.
#[test]
fn c4_a_redirected_push_arrives() {
    let (first, pushing, source) = pushing("");
    let second = Peer::new();
    push_bytes(&source, media::stream(50, STEP));
    end(&source);
    let mut connection = first.accept();
    assert!(connection.request().is_setup());
    connection.answer(&redirect(302, &second.location().replace("concert", "elsewhere")));
    assert!(connection.is_closed());
    let mut connection = second.accept();
    let setup = connection.request();
    assert!(setup.is_setup() && setup.text.starts_with("POST /elsewhere HTTP/1.1\r\n"), "{}", setup.text);
    assert_eq!((setup.push_id(), setup.header("Host")), ("0", Some(second.addr.to_string().as_str())));
    connection.answer(&wms(204, "one"));
    assert_eq!(connection.request().push_id(), "one");
    let packets = connection.until_the_end();
    assert_eq!(media::numbers_of_push(&packets, STEP), (0..50).collect::<Vec<_>>());
    connection.answer(&wms(204, "one"));
    pushing.wait_for_eos();
    let stats = pushing.destination_stats();
    assert_eq!(stats.get::<&str>("location").unwrap(), first.location());
    assert_eq!(stats.get::<&str>("effective-location").unwrap(), second.location().replace("concert", "elsewhere"));
}

/// C-4: with `automatic-redirect=false`, the error contains the new URL for the user.
#[test]
fn c4_redirects_can_be_refused() {
    let (peer, pushing, _source) = pushing("automatic-redirect=false");
    let mut connection = peer.accept();
    connection.request();
    connection.answer(&redirect(301, "http://elsewhere:81/live"));
    let (error, details) = pushing.wait_for_error();
    assert!(error.matches(gst::ResourceError::Settings), "{error:?}");
    assert!(error.message().contains("http://elsewhere:81/live"), "{error:?}");
    assert_eq!(details.get::<u32>("hresult"), Ok(Hresult::REDIRECT.0));
    assert_eq!(details.get::<u32>("http-status-code"), Ok(301));
}

/// Temporary failures are WARNINGs and are retried; `retries` limits that.
#[test]
fn retries_are_counted() {
    let (peer, pushing, _source) = pushing("retries=2 retry-delay=1");
    for _ in 0..3 {
        let mut connection = peer.accept();
        connection.request();
        connection.answer(&wms(503, "0"));
    }
    let (error, details) = pushing.wait_for_error();
    assert!(error.matches(gst::ResourceError::Busy));
    assert_eq!(details.get::<u32>("http-status-code"), Ok(503));
    assert!(peer.accept_within(Duration::from_millis(200)).is_none(), "no attempt after the last");
}

/// A server that accepts each push and drops it immediately is retried after `retry-delay`, not in a tight loop.
#[test]
fn an_immediate_drop_is_not_a_success() {
    let (peer, pushing, source) = pushing("retry-delay=1000");
    push_bytes(&source, media::stream(5, STEP));
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    connection.packet();
    connection.reset();
    let broken = pushing.wait_for_status("reconnect-start");
    assert!(broken.get::<u32>("retry-in").unwrap() >= 800, "{broken}");
}

/// Each resume that fails counts as a failed attempt: the delays grow.
#[test]
fn a_rejected_resume_backs_off() {
    let (peer, pushing, source) = pushing("retry-delay=20 retry-delay-max=100000");
    push_bytes(&source, media::stream(5, STEP));
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    connection.packet();
    connection.data(5);
    pushing.wait_for_status("started");
    drop(peer);
    std::thread::sleep(Duration::from_millis(50));
    connection.reset();
    push_bytes(&source, media::packet(5, STEP));
    let delays: Vec<u32> =
        (0..8).map(|_| pushing.wait_for_status("reconnect-start").get::<u32>("retry-in").unwrap()).collect();
    assert_eq!(delays[0], 0, "it had streamed: {delays:?}");
    assert!(delays[7] > 2 * delays[2], "{delays:?}");
    assert!(delays[1..].iter().all(|delay| *delay >= 16), "{delays:?}");
}

/// The client stops reading an endless response long before it fills the memory, and retries.
#[test]
fn endless_responses_are_aborted() {
    let endless_lines = ("HTTP/1.1 204 OK\r\nServer: Cougar/9.6\r\n", "X-More: and more\r\n".repeat(4096));
    let endless_line = ("HTTP/1.1 204 OK\r\nServer: Cougar/9.6\r\nX-Long: ", "a".repeat(65_536));
    let endless_status = ("HTTP/1.1 204 ", "a".repeat(65_536));
    let endless_body = ("HTTP/1.1 503 No\r\nServer: x\r\nContent-Length: 1000000000000\r\n\r\n", "a".repeat(65_536));
    let endless_chunk_head =
        ("HTTP/1.1 503 No\r\nServer: x\r\nTransfer-Encoding: chunked\r\n\r\n1;", "a".repeat(65_536));
    for (head, more) in [endless_lines, endless_line, endless_status, endless_body, endless_chunk_head] {
        let (peer, pushing, _source) = pushing("retry-delay=1");
        let mut connection = peer.accept();
        assert!(connection.request().is_setup());
        let mut sent = 0;
        if connection.try_answer(head).is_ok() {
            while connection.try_answer(&more).is_ok() {
                sent += more.len();
                // This includes what the socket buffers on both sides accept.
                assert!(sent < 32 << 20, "{head:?}");
            }
        }
        let retried = pushing.wait_for_status("reconnect-start");
        assert!(retried.get::<u32>("hresult").unwrap() & 0x8000_0000 != 0, "{head:?}: {retried}");
        assert!(peer.accept().request().is_setup(), "{head:?}");
    }
}
