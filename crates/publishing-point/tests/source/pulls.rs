//! Pulled streams equal the pushed ones.

use std::ops::Range;

use asf::test_util::HeaderBuilder;
use asf_publishing_point::{BlockingServer, Config, PointConfig, Server, SourceConfig};
use test_support::media;
use test_support::pipeline::{Pushing, end, push_bytes, until};
use test_support::puller::Puller;
use test_support::server_fixture::FFMPEG_PLAY;
use test_support::wire::Wire;
use wmhttp::server::access::{AccessPolicy, Scheme};

use crate::support::*;

const STEP: u32 = 40;

pub fn encoder(server: &BlockingServer) -> (Pushing, gst::Element) {
    let (pushing, source) =
        Pushing::with_feed_source(&format!("sync=false retry-delay=50 location=http://{}/concert", server.addr()));
    pushing.play();
    (pushing, source)
}

/// Feeds packets, with the header before the first one.
pub fn feed_some(source: &gst::Element, numbers: Range<u32>) {
    let mut bytes = if numbers.start == 0 { media::header().to_vec() } else { Vec::new() };
    bytes.extend(media::packets(numbers, STEP));
    push_bytes(source, bytes);
}

fn packets(server: &BlockingServer) -> u64 {
    server.stats("concert").unwrap().packets
}

pub fn until_pulled(server: &BlockingServer, count: u64) {
    until("the server has it", || packets(server) >= count);
}

/// A tree of three levels with both schemes: the players at its leaf receive the same as those at its root.
#[test]
fn a_chain_of_edges_gives_the_same_bytes() {
    let root = server(None);
    let (pushing, fed) = encoder(&root);
    feed_some(&fed, 0..20);
    let middle = server(source_at(&format!("mmsh://{}/concert", root.addr())));
    let leaf = server(source(middle.addr()));
    // The leaf starts with the latest key frame.
    until_pulled(&leaf, 10);
    assert_eq!((point(&leaf)["state"].as_str(), state(&leaf)), (Some("pulled"), "streaming".to_owned()));
    let everyone = [&root, &leaf];
    let players = everyone.map(|server| Puller::of(server.addr(), "concert"));
    until("the players are there", || {
        root.stats("concert").unwrap().playing == 2 && leaf.stats("concert").unwrap().playing == 1
    });
    feed_some(&fed, 20..100);
    end(&fed);
    pushing.wait_for_eos();
    let [at_root, at_leaf] = players.map(Puller::end);
    assert_eq!(at_leaf.numbers(STEP), (10..100).collect::<Vec<_>>());
    assert_eq!((&at_leaf.letters[..], &at_leaf.headers, &at_leaf.packets), ("HDE", &at_root.headers, &at_root.packets));
    until("the end is known", || status(&leaf)["ends"] == 1 && point(&leaf)["state"] == "idle");
}

/// The plain stream of an HTTP server is accepted too.
#[test]
fn a_plain_stream() {
    let root = server(None);
    let (pushing, fed) = encoder(&root);
    feed_some(&fed, 0..20);
    let edge = server(source_at(&format!("http://{}/concert?format=asf", root.addr())));
    until_pulled(&edge, 10);
    let player = Puller::of(edge.addr(), "concert");
    until("the player is there", || edge.stats("concert").unwrap().playing == 1);
    feed_some(&fed, 20..60);
    end(&fed);
    pushing.wait_for_eos();
    assert_eq!(player.end().numbers(STEP), (10..60).collect::<Vec<_>>());
}

/// A header change reaches the edge's players on their connection, or makes them connect again.
#[test]
fn a_header_change_passes() {
    for change in ["in-place", "reconnect"] {
        let origin: Config = format!("listen = '127.0.0.1:0'\n[point.concert]\nheader-change = '{change}'")
            .parse::<asf_publishing_point::config::file::ConfigFile>()
            .unwrap()
            .into_config()
            .unwrap();
        let root = Server::spawn(origin).unwrap();
        let (pushing, fed) = encoder(&root);
        feed_some(&fed, 0..20);
        let edge = server(source(root.addr()));
        until_pulled(&edge, 10);
        let player = Puller::of(edge.addr(), "concert");
        until("the player is there", || edge.stats("concert").unwrap().playing == 1);
        let other = HeaderBuilder { preroll: 4321, ..HeaderBuilder::default() }.packet_size(media::SIZE).build();
        push_bytes(&fed, [&other[..], &media::packets(0..20, STEP)].concat());
        until("the edge has the other header", || edge.stats("concert").unwrap().headers >= 2);
        until_pulled(&edge, 20);
        end(&fed);
        pushing.wait_for_eos();
        let pulled = player.end();
        assert_eq!((&pulled.letters[..], pulled.headers.len()), ("HDCHDE", 2), "{change}");
        assert_eq!(asf::Header::parse(pulled.headers[1].clone()).unwrap().preroll_ms(), 4321);
        assert_eq!(failures(&edge, "malformed"), 0, "{}", last_error(&edge));
    }
}

#[test]
fn a_pull_without_the_right_is_reported() {
    let users = "bob:push:0786f66609ee7d38256a25b55563aa64\n";
    for scheme in [Scheme::Digest, Scheme::Basic] {
        let policy = AccessPolicy { schemes: vec![scheme], ..AccessPolicy::new(users.parse().unwrap()) };
        let point = PointConfig {
            read: asf_publishing_point::config::Principals::Users,
            write: asf_publishing_point::config::Principals::Everybody,
            ..PointConfig::default()
        };
        let root = Server::spawn(Config { users: Some(policy), ..Config::with_points(["concert"], &point) }).unwrap();
        let (_pushing, fed) = encoder(&root);
        feed_some(&fed, 0..20);
        let at = |login: &str| SourceConfig {
            basic_over_http: true,
            ..source_at(&format!("http://{login}@{}/concert", root.addr()))
        };
        let edge = server(at("bob:secret"));
        until_pulled(&edge, 10);
        let wrong = server(at("bob:hush%20hush"));
        until("the failure is reported", || failures(&wrong, "unauthorized") > 0);
        let shown = get(wrong.addr(), "/api/v1/status");
        let shown = String::from_utf8_lossy(shown.body.as_ref()).into_owned();
        assert!(shown.contains("Set `user` and `password-file`") && !shown.contains("hush"), "{shown}");
    }
}

/// An encoder that pushes to a point with a source is refused, with where to push instead.
#[test]
fn a_push_to_a_point_with_a_source_is_refused() {
    let edge = server(source(server(None).addr()));
    let mut wire = Wire::to(edge.addr());
    let response = wire.setup(test_support::wire::CONCERT, "");
    assert_eq!(response.status, 403);
    let text = String::from_utf8_lossy(response.body.as_ref()).into_owned();
    assert!(text.contains("`source`") && text.contains("push to that server"), "{text}");
    let errors = point(&edge)["errors"].to_string();
    assert!(errors.contains("push refused: the point has a `source`"), "{errors}");
}

/// Two points pull from each other: the player gets an error without waiting.
#[test]
fn a_loop_of_sources_is_found() {
    let one = server(None);
    let other = server(on_demand(source(one.addr())));
    one.reload(Config { listen: one.addr(), ..config(on_demand(source(other.addr()))) }).unwrap();
    let mut player = Wire::to(one.addr());
    player.send(FFMPEG_PLAY);
    let response = player.response();
    assert_eq!(response.status, 503);
    assert!(failures(&one, "loop") + failures(&other, "loop") > 0, "{} {}", status(&one), status(&other));
    let errors = format!("{} {}", point(&one)["errors"], point(&other)["errors"]);
    assert!(errors.contains("relay loop"), "{errors}");
}

/// A reload changes the source of a point and removes it.
#[test]
fn a_reload_changes_the_source() {
    let roots = [server(None), server(None)];
    let pushes = roots.each_ref().map(encoder);
    for (_, fed) in &pushes {
        feed_some(fed, 0..20);
    }
    let edge = server(None);
    for root in &roots {
        edge.reload(Config { listen: edge.addr(), ..config(source(root.addr())) }).unwrap();
        until("the stream is pulled from the new source", || {
            state(&edge) == "streaming" && root.stats("concert").unwrap().playing == 1
        });
    }
    until("the pull from the first source has ended", || roots[0].stats("concert").unwrap().playing == 0);
    edge.reload(Config { listen: edge.addr(), ..config(None) }).unwrap();
    until("nothing is pulled", || roots[1].stats("concert").unwrap().playing == 0);
    assert!(point(&edge)["source"].is_null());
    until("the stream has ended", || point(&edge)["stream"].is_null());
}
