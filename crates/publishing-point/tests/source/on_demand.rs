//! Streams that are pulled only while there are players.

use std::time::{Duration, Instant};

use asf_publishing_point::SourceConfig;
use test_support::pipeline::{end, until};
use test_support::puller::Puller;
use test_support::server_fixture::{FFMPEG_DESCRIBE, FFMPEG_PLAY};
use test_support::wire::{Wire, play_request};

use crate::pulls::{encoder, feed_some, until_pulled};
use crate::support::*;

/// Many simultaneous players share one pull, and each gets a burst; the pull ends after the last player has left.
#[test]
fn many_players_share_one_pull() {
    let root = server(None);
    let (_pushing, fed) = encoder(&root);
    feed_some(&fed, 0..20);
    until_pulled(&root, 20);
    let edge = server(on_demand(source(root.addr())));
    assert_eq!((state(&edge), root.stats("concert").unwrap().playing), ("idle".to_owned(), 0));
    let mut players: Vec<Wire> = (0..500)
        .map(|_| {
            let mut wire = Wire::to(edge.addr());
            wire.send(play_request("concert"));
            wire
        })
        .collect();
    for wire in &mut players {
        let head = wire.head();
        assert!(head.contains(" 200 OK"), "{head}");
        assert_eq!((wire.pulled().0, wire.pulled().0), ('H', 'D'));
    }
    let stats = status(&edge);
    assert_eq!((stats["attempts"].as_u64(), stats["connects"].as_u64()), (Some(1), Some(1)), "{stats}");
    assert_eq!(root.stats("concert").unwrap().players, 1);
    drop(players);
    until("the pull has ended", || root.stats("concert").unwrap().playing == 0 && state(&edge) == "idle");
    assert!(point(&edge)["stream"].is_null());
}

/// Players often request twice, and some switch streams, so the stream is kept for a while.
#[test]
fn the_pull_lingers_after_the_last_player() {
    let root = server(None);
    let (_pushing, fed) = encoder(&root);
    feed_some(&fed, 0..20);
    until_pulled(&root, 20);
    let edge = server(SourceConfig { on_demand: Some(Duration::from_secs(60)), ..source(root.addr()) });
    for request in [FFMPEG_DESCRIBE, FFMPEG_PLAY] {
        let mut wire = Wire::to(edge.addr());
        wire.send(request);
        assert!(wire.head().contains(" 200 OK"));
    }
    assert_eq!((status(&edge)["attempts"].as_u64(), state(&edge)), (Some(1), "streaming".to_owned()));
}

/// The origin has no stream: players get an error at once, and do not make the edge try more often.
#[test]
fn players_of_a_missing_stream_get_an_error_at_once() {
    let root = server(None);
    let edge = server(SourceConfig {
        retry_delay_max: Duration::from_secs(3600),
        on_demand: Some(Duration::ZERO),
        ..source(root.addr())
    });
    let begun = Instant::now();
    for _ in 0..50 {
        let mut wire = Wire::to(edge.addr());
        wire.send(FFMPEG_PLAY);
        let response = wire.response();
        assert_eq!(response.status, 503);
    }
    // The delays grow from one second, whatever the number of players.
    let allowed = 2 + begun.elapsed().as_secs();
    assert!(failures(&edge, "no-stream") <= allowed, "{}", status(&edge));
    assert!(last_error(&edge).contains("Check that an encoder pushes to the origin"), "{}", last_error(&edge));
    assert_eq!(get(edge.addr(), "/healthz/concert").status, 503);
}

/// A HEAD request or a visit with a browser starts no pull.
#[test]
fn only_players_start_a_pull() {
    let edge = server(on_demand(source(server(None).addr())));
    let mut wire = Wire::to(edge.addr());
    wire.send("HEAD /concert?format=asf HTTP/1.0\r\nHost: x\r\n\r\n");
    wire.rest();
    assert_eq!(get(edge.addr(), "/concert").status, 200, "the ASX file");
    assert_eq!(get(edge.addr(), "/healthz/concert").status, 200);
    assert_eq!(status(&edge)["attempts"], 0);
}

#[test]
fn a_pull_from_an_on_demand_edge_counts_as_a_player() {
    let root = server(None);
    let (pushing, fed) = encoder(&root);
    feed_some(&fed, 0..20);
    until_pulled(&root, 20);
    let middle = server(on_demand(source(root.addr())));
    let edge = server(on_demand(source(middle.addr())));
    let player = Puller::of(edge.addr(), "concert");
    until("the player plays", || edge.stats("concert").unwrap().playing == 1);
    assert_eq!((middle.stats("concert").unwrap().playing, root.stats("concert").unwrap().playing), (1, 1));
    end(&fed);
    pushing.wait_for_eos();
    assert_eq!(player.end().letters, "HDE");
}
