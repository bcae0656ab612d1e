//! Pushes through real proxies, squid and tinyproxy, to the real publishing point.

use std::fs;
use std::path::Path;

use asf::{Padding, Parser, Settings};
use asf_publishing_point::{BlockingServer, Config, PointConfig, Server};
use bytes::Bytes;
use tempfile::TempDir;
use test_support::media;
use test_support::pipeline::{Pushing, end, gst_launch, push_bytes, until};
use test_support::proxy::{Proxy, RequiredAuth};
use wmhttp::Hresult;

const STEP: u32 = 40;
const PACKETS: u32 = 2000;
/// Size of a body in bytes: the stream needs about twenty.
const BODY: u32 = 100_000;

/// A publishing point that records, and its location.
fn server() -> (BlockingServer, TempDir, String) {
    let directory = TempDir::new().unwrap();
    let point = PointConfig { record: Some(directory.path().to_owned()), ..PointConfig::default() };
    let server = Server::spawn(Config::with_points(["concert"], &point)).unwrap();
    let location = format!("http://{}/concert", server.addr());
    (server, directory, location)
}

/// Returns the numbers of the packets in the only recording.
fn recorded(directory: &Path) -> Vec<u32> {
    let files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "one session: {files:?}");
    let mut parser = Parser::new(Settings { padding: Padding::Keep, live_header: true, remove_encoder_offset: false });
    parser.push(Bytes::from(fs::read(&files[0]).unwrap()));
    std::iter::from_fn(|| parser.next_packet().unwrap()).map(|unit| unit.packet.send_time() / STEP).collect()
}

/// Pushes the whole stream with `properties`, and checks what the publishing point has received.
fn push_through(properties: &str, warnings: usize) -> gst::Structure {
    let (server, directory, location) = server();
    let (pushing, source) =
        Pushing::with_feed_source(&format!("location={location} sync=false content-length={BODY} {properties}"));
    pushing.play();
    push_bytes(&source, media::stream(PACKETS, STEP));
    until("all sent", || pushing.destination_stats().get::<u64>("packets-sent") == Ok(u64::from(PACKETS)));
    end(&source);
    let mut warned = Vec::new();
    pushing.wait_for(|message| {
        if let gst::MessageView::Warning(warning) = message.view() {
            warned.push(format!("{} {:?}", warning.error().message(), warning.debug()));
        }
        matches!(message.view(), gst::MessageView::Eos(_)).then_some(())
    });
    // tinyproxy causes this one: the end is not confirmed.
    warned.retain(|text| !text.contains("did not confirm the end"));
    assert_eq!(warned.len(), warnings, "{warned:?}");
    let stats = pushing.destination_stats();
    pushing.stop();
    server.stop();
    assert_eq!(recorded(directory.path()), (0..PACKETS).collect::<Vec<_>>());
    assert!(stats.get::<u64>("rollovers").unwrap() > 10, "{stats}");
    assert_eq!(stats.get::<u64>("packets-dropped"), Ok(0));
    assert_eq!(stats.get::<u64>("reconnects"), Ok(0));
    stats
}

/// Many bodies through squid, each with a response.
#[test]
fn c7_c10_squid() {
    let proxy = Proxy::squid(RequiredAuth::Nothing);
    push_through(&format!("proxy={}", proxy.url()), 0);
}

/// The same through tinyproxy, which forwards no response before a body is complete: the end is not confirmed.
#[test]
fn c7_c10_tinyproxy() {
    let proxy = Proxy::tinyproxy(RequiredAuth::Nothing);
    push_through(&format!("proxy={} eos-timeout=600000", proxy.url()), 0);
}

/// Without the property, the environment is used; a host in no_proxy is connected directly.
#[test]
fn the_environment_is_used() {
    for (no_proxy, through) in [("", true), ("127.0.0.0/8", false)] {
        let proxy = Proxy::squid(RequiredAuth::Nothing);
        let (server, directory, location) = server();
        let file = directory.path().join("source.wmv");
        fs::write(&file, media::stream(PACKETS, STEP)).unwrap();
        let pushed = gst_launch()
            .args(["-q", "filesrc", &format!("location={}", file.display()), "!", "asfpushsink", "sync=false"])
            .arg(format!("location={location}"))
            // The variables in upper case have precedence.
            .env_remove("HTTP_PROXY")
            .env_remove("NO_PROXY")
            .env("http_proxy", proxy.url())
            .env("no_proxy", no_proxy)
            .status()
            .unwrap();
        assert!(pushed.success());
        server.stop();
        fs::remove_file(&file).unwrap();
        assert_eq!(recorded(directory.path()), (0..PACKETS).collect::<Vec<_>>());
        if through {
            until("squid has logged a request", || proxy.requests() > 0);
        } else {
            assert_eq!(proxy.requests(), 0);
        }
    }
}

/// 407 from squid and tinyproxy (C-5, C-13): each request is authenticated, with Digest if the proxy supports it, and
/// with Basic only if that is enabled, with a WARNING. The same with tinyproxy, which closes each connection.
#[test]
fn c5_c13_proxies_with_authentication() {
    for (proxy, properties, eos, warnings) in [
        (Proxy::squid(RequiredAuth::Digest), "", "", 0),
        (Proxy::squid(RequiredAuth::Basic), "auth-methods=basic+digest", "", 1),
        (Proxy::tinyproxy(RequiredAuth::Basic), "auth-methods=basic", "eos-timeout=600000", 1),
    ] {
        let stats = push_through(&format!("proxy={} {properties} {eos}", proxy.url_with_login()), warnings);
        // One challenge, for the first request; then each body includes the authentication.
        let requests = stats.get::<u64>("requests-sent").unwrap();
        let bodies = stats.get::<u64>("rollovers").unwrap() + 1;
        assert!(requests <= bodies + 5, "{requests} requests for {bodies} bodies");
    }
}

/// A wrong password is a permanent failure after one attempt; Basic is not used unless it is enabled.
#[test]
fn c5_a_proxy_that_rejects() {
    let (server, _directory, location) = server();
    for (asks, properties, says) in [
        (RequiredAuth::Digest, "proxy-id=bob proxy-pw=wrong", "bob"),
        (RequiredAuth::Basic, "auth-methods=basic proxy-id=eve proxy-pw=wrong", "eve"),
        (RequiredAuth::Basic, "proxy-id=bob proxy-pw=pass-word", "auth-methods"),
        (RequiredAuth::Digest, "user-id=bob user-pw=pass-word", "proxy-id"),
    ] {
        let proxy = Proxy::squid(asks);
        let (pushing, _source) =
            Pushing::with_feed_source(&format!("location={location} proxy={} retry-delay=1 {properties}", proxy.url()));
        pushing.play();
        let (error, details) = pushing.wait_for_error();
        assert!(error.matches(gst::ResourceError::NotAuthorized), "{properties}: {error:?}");
        assert_eq!(details.get::<u32>("hresult"), Ok(Hresult::PROXY_ACCESS_DENIED.0));
        assert_eq!(details.get::<u32>("http-status-code"), Ok(407));
        assert!(error.message().contains(says), "{properties}: {error:?}");
        assert!(!error.message().contains("wrong"));
        assert!(proxy.requests() <= 2, "{properties}: {}", proxy.requests());
    }
    server.stop();
}

/// squid's response for an unreachable server is reported as the proxy's, and retried.
#[test]
fn an_unreachable_server_behind_squid() {
    let proxy = Proxy::squid(RequiredAuth::Nothing);
    let (server, _directory, location) = server();
    server.stop();
    let (pushing, _source) =
        Pushing::with_feed_source(&format!("location={location} proxy={} retries=1 retry-delay=1", proxy.url()));
    pushing.play();
    let (error, details) = pushing.wait_for_error();
    assert!(error.message().contains("the proxy (squid/"), "{error:?}");
    assert_eq!(details.get::<u32>("hresult"), Ok(Hresult::ERROR_FROM_PROXY.0));
    assert_eq!(details.get::<u32>("http-status-code"), Ok(503));
    assert_eq!(details.get::<u32>("attempt"), Ok(2));
}

#[cfg(feature = "tls")]
mod tunnels {
    use test_support::authority::Authority;
    use test_support::peer::{Peer, wms};
    use wmhttp::packet::Packet;

    use super::*;

    /// https uses squid with CONNECT, with the password if squid requires one.
    #[test]
    fn https_by_connect() {
        let authority = Authority::new();
        for asks in [RequiredAuth::Nothing, RequiredAuth::Basic] {
            let proxy = Proxy::squid(asks);
            let peer = Peer::with_tls(authority.server("127.0.0.1", false));
            let (pushing, source) = Pushing::with_feed_source(&format!(
                "location={} sync=false content-length=2147483647 proxy={} {}",
                peer.location(),
                proxy.url_with_login(),
                authority.trusted()
            ));
            pushing.play();
            push_bytes(&source, media::stream(PACKETS, STEP));
            end(&source);
            let mut connection = peer.accept();
            connection.set_up(&wms(204, "one"));
            let packets = connection.until_the_end();
            connection.answer(&wms(204, "one"));
            pushing.wait_for_eos();
            let data = packets.iter().filter(|packet| matches!(packet, Packet::Data(_))).count();
            assert_eq!(data, PACKETS as usize, "{asks:?}");
            pushing.stop();
            drop(connection);
            until("the tunnel's line", || proxy.requests() > 0);
            assert_eq!(proxy.requests(), 1, "{asks:?}: one tunnel");
        }
    }

    /// A wrong password, and a proxy that does not accept Basic, are reported as permanent failures.
    #[test]
    fn a_tunnel_that_is_denied() {
        let location = "https://127.0.0.1:9/concert";
        for (asks, id) in [(RequiredAuth::Basic, "eve"), (RequiredAuth::Digest, "bob")] {
            let proxy = Proxy::squid(asks);
            let properties = format!("location={location} proxy={} proxy-id={id} proxy-pw=wrong", proxy.url());
            let (pushing, _source) = Pushing::with_feed_source(&properties);
            pushing.play();
            let (error, details) = pushing.wait_for_error();
            assert!(error.matches(gst::ResourceError::NotAuthorized), "{error:?}");
            assert_eq!(details.get::<u32>("hresult"), Ok(Hresult::PROXY_ACCESS_DENIED.0));
            assert!(error.message().contains("proxy-id"), "{error:?}");
        }
    }

    /// A proxy that rejects CONNECT, or cannot reach the server, is distinguished from both.
    #[test]
    fn a_tunnel_that_cannot_be_established() {
        let proxy = Proxy::squid(RequiredAuth::Nothing);
        let (pushing, _source) =
            Pushing::with_feed_source(&format!("location=https://127.0.0.1:9/concert proxy={} retries=0", proxy.url()));
        pushing.play();
        let (error, details) = pushing.wait_for_error();
        assert!(error.matches(gst::ResourceError::OpenWrite), "{error:?}");
        assert_eq!(details.get::<u32>("hresult"), Ok(Hresult::ERROR_FROM_PROXY.0));
    }
}
