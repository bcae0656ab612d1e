//! Pushes over TLS through nginx, a reverse proxy, to the publishing point.

use std::net::SocketAddr;

use asf_publishing_point::{BlockingServer, Config, PointConfig, Server};
use tempfile::TempDir;
use test_support::authority::Authority;
use test_support::decoded::{assert_same_frames, ffmpeg_file, recordings};
use test_support::media;
use test_support::nginx::Nginx;
use test_support::pipeline::{Pushing, end, push_bytes, push_for_four_seconds, until};
use wmhttp::Hresult;

/// Forwards a body as it arrives, and the publishing point's own Server header.
const STREAMING: &str = "proxy_pass_header Server; proxy_http_version 1.1; proxy_request_buffering off;";
/// nginx's default: a body is forwarded when it is complete.
const BUFFERING: &str = "proxy_pass_header Server; proxy_http_version 1.1; proxy_request_buffering on;";

fn point(directory: &TempDir) -> BlockingServer {
    listening(directory, Config::default().listen)
}

fn listening(directory: &TempDir, listen: SocketAddr) -> BlockingServer {
    let point = PointConfig { record: Some(directory.path().to_owned()), ..PointConfig::default() };
    Server::spawn(Config { listen, ..Config::with_points(["concert"], &point) }).unwrap()
}

fn with_feed_source(nginx: &Nginx, authority: &Authority, properties: &str) -> (Pushing, gst::Element) {
    let properties = format!("location={} sync=false {} {properties}", nginx.location(), authority.trusted());
    let (pushing, source) = Pushing::with_feed_source(&properties);
    pushing.play();
    (pushing, source)
}

/// Parses a line of nginx's log: (connection, status, the publishing point's status).
fn exchanges(nginx: &Nginx) -> Vec<(String, String, String)> {
    let fields = |line: String| {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        (words[0].clone(), words[4].clone(), words[5].clone())
    };
    nginx.requests().into_iter().map(fields).collect()
}

/// The pushed stream decodes to the same frames, in one body and in many on one connection.
#[test]
fn c10_the_pushed_stream_is_received() {
    for (length, bodies) in [(0, 1..2), (40_000, 3..100)] {
        let directory = TempDir::new().unwrap();
        let source = directory.path().join("source.wmv");
        ffmpeg_file(&source, 25);
        let server = point(&directory);
        let authority = Authority::new();
        let nginx = Nginx::new(&authority, server.addr(), STREAMING);
        let pushing = Pushing::launch(
            &format!("filesrc location={}", source.display()),
            &format!("location={} sync=false content-length={length} {}", nginx.location(), authority.trusted()),
        );
        pushing.play();
        pushing.wait_for(|message| {
            assert!(!matches!(message.view(), gst::MessageView::Warning(_)), "{message:?}");
            matches!(message.view(), gst::MessageView::Eos(_)).then_some(())
        });
        let stats = pushing.destination_stats();
        let received = server.stats("concert").unwrap();
        assert_eq!(stats.get::<u64>("packets-sent"), Ok(received.packets));
        assert_eq!((received.sessions, received.headers), (1, 1));
        server.stop();
        assert_same_frames(&source, &recordings(directory.path())[0], 0);
        until("nginx has logged all requests", || {
            exchanges(&nginx).len() as u64 == stats.get::<u64>("requests-sent").unwrap()
        });
        let exchanges = exchanges(&nginx);
        assert!(bodies.contains(&(exchanges.len() - 1)), "{exchanges:?}");
        assert!(exchanges.iter().all(|exchange| *exchange == exchanges[0]), "one connection: {exchanges:?}");
        assert_eq!((exchanges[0].1.as_str(), exchanges[0].2.as_str()), ("204", "204"));
    }
}

/// A buffering proxy forwards complete bodies only: the data of the last one is lost, and the element reports that.
#[test]
fn c7_buffered_bodies_arrive_complete() {
    let directory = TempDir::new().unwrap();
    let server = point(&directory);
    let authority = Authority::new();
    let nginx = Nginx::new(&authority, server.addr(), BUFFERING);
    let (pushing, source) =
        with_feed_source(&nginx, &authority, "content-length=20000 eos-timeout=600000 retry-delay=60000");
    let received = || server.stats("concert").unwrap().packets;
    // Too little for a complete body.
    push_bytes(&source, media::stream(10, 40));
    until("they are sent", || pushing.destination_stats().get::<u64>("packets-sent") == Ok(10));
    assert_eq!(received(), 0, "nginx holds them back");
    push_bytes(&source, (10..100).flat_map(|n| media::packet(n, 40)).collect::<Vec<u8>>());
    until("all are sent", || pushing.destination_stats().get::<u64>("packets-sent") == Ok(100));
    let rollovers = pushing.destination_stats().get::<u64>("rollovers").unwrap();
    assert!(rollovers >= 3);
    until("whole bodies", || received() > 0 && received() >= 100 - 20);
    let before = received();
    assert!(before < 100, "the last body is not complete");
    end(&source);
    let warning = pushing.wait_for(|message| {
        assert!(!matches!(message.view(), gst::MessageView::Eos(_)), "a WARNING before EOS");
        let gst::MessageView::Warning(warning) = message.view() else { return None };
        Some(warning.error())
    });
    assert!(warning.matches(gst::ResourceError::Failed), "{warning:?}");
    assert!(warning.message().contains("discards the last one"), "{warning}");
    assert!(warning.message().contains("proxy_request_buffering off"), "{warning}");
    pushing.wait_for_eos();
    pushing.stop();
    until("nginx discards the body", || exchanges(&nginx).iter().any(|(_, status, _)| status == "400"));
    let stats = server.stats("concert").unwrap();
    assert_eq!((stats.packets, stats.sessions, stats.headers), (before, 1, 1));
    assert_eq!(exchanges(&nginx).iter().filter(|(_, _, upstream)| upstream == "204").count() as u64, 1 + rollovers);
}

/// H-5: nginx's own Server header is not that of a Windows Media server; `strict-server=false` accepts it.
#[test]
fn h5_the_server_header_of_a_proxy() {
    let directory = TempDir::new().unwrap();
    let server = point(&directory);
    let authority = Authority::new();
    let nginx = Nginx::new(&authority, server.addr(), "proxy_request_buffering off;");
    let (pushing, source) = with_feed_source(&nginx, &authority, "retries=0");
    push_bytes(&source, media::stream(5, 40));
    let (error, details) = pushing.wait_for_error();
    assert!(error.message().contains("nginx"), "{error:?} {details}");
    drop(pushing);
    let (pushing, source) = with_feed_source(&nginx, &authority, "strict-server=false");
    push_bytes(&source, media::stream(5, 40));
    end(&source);
    pushing.wait_for_eos();
    assert_eq!(server.stats("concert").unwrap().packets, 5);
}

/// The publishing point behind nginx stops and restarts: the push waits for it and continues.
#[test]
fn c14_the_publishing_point_goes_down() {
    let directory = TempDir::new().unwrap();
    let authority = Authority::new();
    let first = point(&directory);
    let address = first.addr();
    let nginx = Nginx::new(&authority, address, STREAMING);
    let (pushing, source) = with_feed_source(&nginx, &authority, "retry-delay=50 retry-delay-max=100");
    push_bytes(&source, media::stream(20, 40));
    until("the push flows", || first.stats("concert").unwrap().packets == 20);
    first.kill();
    let status = pushing.wait_for_status("reconnect-start");
    assert_ne!(status.get::<u32>("hresult"), Ok(Hresult::OK.0), "{status}");
    until("nginx reports the failure", || exchanges(&nginx).iter().any(|(_, status, _)| status == "502"));
    let second = listening(&directory, address);
    pushing.wait_for_status("reconnect-end");
    push_bytes(&source, (20..40).flat_map(|n| media::packet(n, 40)).collect::<Vec<u8>>());
    end(&source);
    pushing.wait_for_eos();
    assert!(second.stats("concert").unwrap().packets >= 20, "{:?}", second.stats("concert"));
}

/// A body that lasts longer than nginx's timeouts for a response, for writing and for more of the body is forwarded
/// nevertheless, because they apply only to silence.
#[test]
fn a_body_outlasts_the_times_of_nginx() {
    let directory = TempDir::new().unwrap();
    let server = point(&directory);
    let authority = Authority::new();
    let times = "proxy_read_timeout 1s; proxy_send_timeout 1s; client_body_timeout 1s;";
    let nginx = Nginx::new(&authority, server.addr(), &format!("{STREAMING} {times}"));
    let (pushing, source) = with_feed_source(&nginx, &authority, "");
    push_for_four_seconds(&source);
    pushing.wait_for_eos();
    let received = server.stats("concert").unwrap();
    assert_eq!((received.packets, received.sessions), (40, 1));
    let stats = pushing.destination_stats();
    assert_eq!((stats.get::<u64>("requests-sent"), stats.get::<u64>("reconnects")), (Ok(2), Ok(0)), "{stats}");
}

/// C-15: nginx closes the connection when a body is silent for too long; the session is resumed without loss.
#[test]
fn c15_nginx_closes_on_silence() {
    let directory = TempDir::new().unwrap();
    let server = point(&directory);
    let authority = Authority::new();
    let nginx = Nginx::new(&authority, server.addr(), &format!("{STREAMING} client_body_timeout 1s;"));
    let (pushing, source) = with_feed_source(&nginx, &authority, "retry-delay=10");
    push_bytes(&source, media::stream(10, 40));
    pushing.wait_for_status("reconnect-start");
    push_bytes(&source, (10..20).flat_map(|n| media::packet(n, 40)).collect::<Vec<u8>>());
    end(&source);
    pushing.wait_for_eos();
    let received = server.stats("concert").unwrap();
    assert_eq!((received.packets, received.sessions, received.headers), (20, 1, 1));
    let stats = pushing.destination_stats();
    assert_eq!((stats.get::<u64>("reconnects"), stats.get::<u64>("packets-dropped")), (Ok(1), Ok(0)), "{stats}");
    until("nginx has logged it", || exchanges(&nginx).iter().any(|(_, status, _)| status == "408"));
}
