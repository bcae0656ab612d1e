//! An origin that stops and restarts.

use std::net::SocketAddr;
use std::time::Duration;

use asf_publishing_point::{BlockingServer, Config, Server, SourceConfig};
use test_support::media;
use test_support::pipeline::{end, push_bytes, until};
use test_support::puller::Puller;

use crate::pulls::{encoder, feed_some, until_pulled};
use crate::support::*;

const STEP: u32 = 40;

fn origin_on(listen: SocketAddr) -> BlockingServer {
    Server::spawn(Config { listen, ..config(None) }).unwrap()
}

/// The origin is killed and replaced by another with the same stream: the players keep their connection, and no packet
/// is played twice.
#[test]
fn players_keep_their_connection_while_the_origin_restarts() {
    let address = server(None).addr();
    let root = origin_on(address);
    let (pushing, fed) = encoder(&root);
    feed_some(&fed, 0..20);
    let edge = server(source(address));
    until_pulled(&edge, 10);
    let player = Puller::of(edge.addr(), "concert");
    until("the player is there", || edge.stats("concert").unwrap().playing == 1);
    feed_some(&fed, 20..50);
    until_pulled(&edge, 40);
    pushing.stop();
    root.kill();
    until("the edge notices", || point(&edge)["state"] == "waiting");
    assert_eq!(get(edge.addr(), "/healthz/concert").status, 200, "the players have their stream");
    let root = origin_on(address);
    let (pushing, fed) = encoder(&root);
    // The stream starts before the break, as from an encoder that has kept unacknowledged packets.
    push_bytes(&fed, [&media::header()[..], &media::packets(40..45, STEP)].concat());
    until("the edge is back", || state(&edge) == "streaming");
    feed_some(&fed, 45..60);
    until_pulled(&edge, 50);
    end(&fed);
    pushing.wait_for_eos();
    let pulled = player.end();
    assert_eq!(pulled.numbers(STEP), (10..60).collect::<Vec<_>>());
    assert_eq!((&pulled.letters[..], pulled.headers.len()), ("HDE", 1));
    assert_eq!(status(&edge)["duplicates"], 10, "{}", status(&edge));
}

/// If the origin is unavailable for too long, the stream ends.
#[test]
fn a_stream_ends_if_its_origin_stays_unavailable() {
    let root = server(None);
    let (_pushing, fed) = encoder(&root);
    feed_some(&fed, 0..20);
    let edge = server(SourceConfig { hold_time: Duration::from_millis(500), ..source(root.addr()) });
    until_pulled(&edge, 10);
    let player = Puller::of(edge.addr(), "concert");
    until("the player is there", || edge.stats("concert").unwrap().playing == 1);
    root.kill();
    assert_eq!(player.end().letters, "HDE");
    until("further attempts", || failures(&edge, "unreachable") > 2);
    assert_eq!(point(&edge)["state"], "idle");
}
