//! Browsers, and players with plain HTTP.
//!
//! Timeouts only end a test that fails.

use asf_publishing_point::config::Principals;
use asf_publishing_point::{Config, PointConfig, Server};
use test_support::server_fixture::*;
use test_support::wire::Wire;
use wmhttp::Hresult;
use wmhttp::packet::Packet;
use wmhttp::server::access::AccessPolicy;

fn get(method: &str, target: &str, agent: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: media.example:8080\r\nUser-Agent: {agent}\r\n\r\n")
}

const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64)";

/// A browser receives an ASX file with the URL as the client sees it.
#[test]
fn browsers_get_a_playlist() {
    let server = server();
    for (target, agent) in [
        ("/concert", BROWSER),
        ("/concert.asx", BROWSER),
        ("/concert?format=asx", "VLC/3.0.24 LibVLC/3.0.24"),
        ("/concert", "curl/7.88.1"),
    ] {
        let response = ask(&server, &get("GET", target, agent));
        assert_eq!((response.status, response.header("Content-Type")), (200, Some("video/x-ms-asf")), "{response:?}");
        let text = String::from_utf8(response.body).unwrap();
        assert!(text.contains("<REF HREF=\"http://media.example:8080/concert\"/>"), "{text}");
    }
    for target in ["/nowhere", "/nowhere.asx", "/nowhere?format=asx", "/"] {
        assert_eq!(ask(&server, &get("GET", target, BROWSER)).status, 404, "{target}");
    }
    let hostile = "GET /concert?format=asx HTTP/1.1\r\nHost: \"/><script>\r\n\r\n";
    let response = ask(&server, hostile);
    let text = String::from_utf8(response.body).unwrap();
    assert_eq!((response.status, text.contains("script")), (400, false), "{text}");
}

/// The playlist of a point is not secret; authentication is required at the URL in it.
#[test]
fn an_asx_file_needs_no_authentication() {
    let point = PointConfig { read: Principals::Users, ..PointConfig::default() };
    let users = "bob:push:0786f66609ee7d38256a25b55563aa64\n".parse().unwrap();
    let server =
        Server::spawn(Config { users: Some(AccessPolicy::new(users)), ..Config::with_points(["concert"], &point) })
            .unwrap();
    for (target, agent, status) in [
        ("/concert.asx", BROWSER, 200),
        ("/concert.ASX", "VLC/3.0.24 LibVLC/3.0.24", 200),
        ("/concert", BROWSER, 401),
        ("/concert?format=asx", BROWSER, 401),
        ("/concert?format=asf", BROWSER, 401),
    ] {
        assert_eq!(ask(&server, &get("GET", target, agent)).status, status, "{target}");
    }
}

/// The header and the packets are sent without framing, as in a file, until the end of the stream.
#[test]
fn the_plain_stream_is_a_file() {
    let server = server();
    assert_eq!(ask(&server, &get("GET", "/concert?format=asf", BROWSER)).status, 503);
    assert_eq!(ask(&server, &get("GET", "/nowhere?format=asf", BROWSER)).status, 404);
    let (mut pusher, _) = push(&server, 1);
    let mut players: Vec<_> = [("/concert?format=asf", BROWSER), ("/concert", "Lavf/59.27.100")]
        .into_iter()
        .map(|(target, agent)| {
            let mut player = Wire::to(server.addr());
            player.send(get("GET", target, agent));
            let head = player.head();
            assert!(head.contains(" 200 ") && head.contains("Content-Type: video/x-ms-asf\r\n"), "{head}");
            assert!(!head.contains("Content-Length"), "{head}");
            assert_eq!(player.take(header().len()), header());
            player
        })
        .collect();
    for n in 1..100 {
        pusher.packet(Packet::Data(stripped(n)));
    }
    pusher.packet(Packet::End(Hresult::OK));
    for player in &mut players {
        let rest = player.rest();
        assert_eq!(rest.len(), 100 * PACKET_SIZE);
        for (n, packet) in (0..).zip(rest.chunks(PACKET_SIZE)) {
            assert!(carries(packet, n));
        }
    }
}

/// A file has one header, so the response ends before another header.
#[test]
fn the_plain_stream_ends_with_its_header() {
    let server = server();
    let (mut pusher, _) = push(&server, 1);
    let mut player = Wire::to(server.addr());
    player.send(get("GET", "/concert?format=asf", BROWSER));
    player.head();
    assert_eq!(player.take(header().len()), header());
    pusher.packet(Packet::End(Hresult::FALSE));
    pusher.packet(Packet::StreamChange(header_with(4000)));
    pusher.packet(Packet::Data(stripped(1)));
    assert_eq!(player.rest().len(), PACKET_SIZE);
}

/// HEAD: the same head, no body, and no player is counted.
#[test]
fn head_has_no_body() {
    let server = server();
    let (_pusher, _) = push(&server, 1);
    for (target, content_type) in [("/concert?format=asf", "video/x-ms-asf"), ("/concert.asx", "video/x-ms-asf")] {
        let mut wire = Wire::to(server.addr());
        wire.send(get("HEAD", target, BROWSER));
        let head = wire.head();
        assert!(head.contains(" 200 ") && head.contains(&format!("Content-Type: {content_type}\r\n")), "{head}");
        assert!(wire.rest().is_empty());
    }
    assert_eq!(server.stats("concert").unwrap().players, 0);
    let mut wire = Wire::to(server.addr());
    wire.send(get("HEAD", "/nowhere?format=asf", BROWSER));
    assert!(wire.head().contains(" 404 "));
}

/// Unsupported methods and formats are refused.
#[test]
fn unsupported_requests_are_refused() {
    let server = server();
    for method in ["PUT", "DELETE", "PATCH"] {
        let response = ask(&server, &get(method, "/concert", BROWSER));
        assert_eq!((response.status, response.header("Allow")), (405, Some("OPTIONS, GET, HEAD, POST")));
    }
    assert_eq!(ask(&server, &get("GET", "/concert?format=mov", BROWSER)).status, 400);
    let long = "x".repeat(70_000);
    let log = format!(
        "POST /concert HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-wms-LogStats\r\nContent-Length: 70000\r\n\r\n{long}"
    );
    assert_eq!(ask(&server, &log).status, 413);
}
