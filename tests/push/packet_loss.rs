//! Each packet arrives or is counted as dropped, queued or uncertain.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use gst::prelude::*;
use test_support::media;
use test_support::peer::{Connection, Peer, ours, wms};
use test_support::pipeline::{Pushing, end, push_bytes, pushing_to, until};
use wmhttp::packet::Packet;

const STEP: u32 = 40;
/// Longer than the time for which a body counts as short.
const NOT_SHORT: Duration = Duration::from_millis(2200);

/// Returns the numbers of the data packets that arrive until the encoder ends the push or closes the connection.
fn numbers_to_come(connection: &mut Connection) -> BTreeSet<u32> {
    media::numbers(&connection.until_the_end(), STEP).into_iter().collect()
}

fn count(pushing: &Pushing, field: &str) -> u64 {
    pushing.count(0, field)
}

/// C-15: a server ends without having read packets that its TCP stack has acknowledged.
#[test]
fn c15_data_unread_by_a_dead_server_is_uncertain() {
    const READ: u32 = 500;
    const UNREAD: u32 = 60;
    let peer = Peer::new();
    let (pushing, source) = pushing_to(std::slice::from_ref(&peer), "retry-delay=10 max-size-time=0");
    push_bytes(&source, media::stream(READ, STEP));
    let mut first = peer.accept();
    first.set_up(&ours(204, "one"));
    first.packet();
    first.data(READ as usize);
    thread::sleep(NOT_SHORT);
    push_bytes(&source, media::packets(READ..READ + UNREAD, STEP));
    until("all are acknowledged", || first.unread() > UNREAD as usize * 900);
    // By now the client has received the acknowledgement too.
    thread::sleep(Duration::from_millis(200));
    first.reset();
    push_bytes(&source, media::packets(READ + UNREAD..READ + UNREAD + 10, STEP));
    end(&source);
    let mut second = peer.accept();
    assert!(!second.request().is_setup(), "the session is resumed");
    let came = numbers_to_come(&mut second);
    second.answer(&ours(204, "one"));
    pushing.wait_for_eos();
    let missing = (READ..READ + UNREAD + 10).filter(|number| !came.contains(number)).count() as u64;
    let [uncertain, sent, dropped] =
        ["packets-uncertain", "packets-sent", "packets-dropped"].map(|field| count(&pushing, field));
    assert!(missing > 0, "nothing was lost: {came:?}");
    assert!((missing..sent).contains(&uncertain), "{missing} are missing, {uncertain} uncertain of {sent}");
    assert_eq!((sent, dropped), (u64::from(READ + UNREAD + 10), 0));
}

/// C-10: a server has not read all of a body when the client stops waiting for its response.
#[test]
fn c10_data_of_a_body_without_a_response_is_uncertain() {
    const PACKETS: u32 = 400;
    const READ: usize = 250;
    let peer = Peer::new();
    let (pushing, source) =
        pushing_to(std::slice::from_ref(&peer), "content-length=300000 timeout=2500 max-size-time=0");
    push_bytes(&source, media::stream(PACKETS, STEP));
    let mut first = peer.accept();
    first.set_up(&wms(204, "one"));
    first.packet();
    first.data(READ);
    let mut second = peer.accept();
    second.set_up(&wms(204, "two"));
    end(&source);
    let came = numbers_to_come(&mut second);
    second.answer(&wms(204, "two"));
    pushing.wait_for_eos();
    let missing = (READ as u32..PACKETS).filter(|number| !came.contains(number)).count() as u64;
    let [uncertain, sent, dropped] =
        ["packets-uncertain", "packets-sent", "packets-dropped"].map(|field| count(&pushing, field));
    assert!(missing > 0, "nothing was lost: {came:?}");
    assert!((missing..sent).contains(&uncertain), "{missing} are missing, {uncertain} uncertain of {sent}");
    assert_eq!((sent, dropped), (u64::from(PACKETS), 0));
}

/// With `drop-policy=block`, which `auto` selects for files, a reset loses nothing, however fast upstream is, whatever
/// the server has read by then, and however much of it only its TCP stack has: a stream of 12 s, pushed as fast as
/// possible.
#[test]
fn a_reset_loses_nothing_if_upstream_is_blocked() {
    const PACKETS: u32 = 768;
    const STEP: u32 = 16;
    let push = |policy: &str, peer: &Peer, read: u32| {
        let (pushing, source) =
            Pushing::with_feed_source(&format!("location={} sync=false retry-delay=10 {policy}", peer.location()));
        pushing.play();
        push_bytes(&source, media::stream(PACKETS, STEP));
        end(&source);
        let mut first = peer.accept();
        first.set_up(&wms(204, "one"));
        first.packet();
        let before: Vec<Packet> = first.data(read as usize).into_iter().map(Packet::Data).collect();
        // As much as arrives without being read.
        until("the rest waits", || first.unread() > 0 || count(&pushing, "packets-sent") == u64::from(read));
        first.reset();
        let mut second = peer.accept();
        if second.request().is_setup() {
            second.answer(&wms(204, "two"));
            second.request();
        }
        let after = second.until_the_end();
        second.answer(&wms(204, "two"));
        pushing.wait_for_eos();
        let came: BTreeSet<u32> = [before, after].iter().flat_map(|packets| media::numbers(packets, STEP)).collect();
        let missing: Vec<u32> = (0..PACKETS).filter(|number| !came.contains(number)).collect();
        assert!(missing.is_empty(), "{policy}, reset after {read}: {missing:?} are missing");
        let [sent, dropped] = ["packets-sent", "packets-dropped"].map(|field| count(&pushing, field));
        assert_eq!((sent, dropped), (u64::from(PACKETS), 0), "{policy}, reset after {read}");
    };
    thread::scope(|scope| {
        for policy in ["", "drop-policy=block"] {
            for read in [0, 1, 40, 150, 300] {
                scope.spawn(move || push(policy, &Peer::new(), read));
                scope.spawn(move || push(policy, &Peer::with_small_buffer(), read));
            }
        }
    });
}

/// Data that is still in the process at an application's `disconnect` is sent on the next connection.
#[test]
fn data_left_by_a_disconnect_is_sent_again() {
    const PACKETS: u32 = 5000;
    let peer = Peer::with_small_buffer();
    let (pushing, source) = pushing_to(std::slice::from_ref(&peer), "max-size-time=0 max-size-bytes=0 stall-timeout=0");
    push_bytes(&source, media::stream(PACKETS, STEP));
    let mut first = peer.accept();
    first.set_up(&ours(204, "one"));
    let mut sent = 0;
    until("the pipe is full", || {
        thread::sleep(Duration::from_millis(500));
        let before = std::mem::replace(&mut sent, count(&pushing, "packets-sent"));
        sent > 100 && sent == before
    });
    assert!(pushing.sink.emit_by_name::<bool>("disconnect", &[&"dest_0"]));
    until("it is closed", || pushing.state_of(0) == "closed");
    let mut came = numbers_to_come(&mut first);
    let [queued, uncertain, sent_by_now] =
        ["packets-queued", "packets-uncertain", "packets-sent"].map(|field| count(&pushing, field));
    assert!(sent_by_now < sent, "{sent_by_now} of {sent} have left the process");
    assert!(
        came.len() as u64 + uncertain >= sent_by_now,
        "{} of {sent_by_now} arrived, {uncertain} uncertain",
        came.len()
    );
    assert_eq!(sent_by_now + queued, u64::from(PACKETS));
    end(&source);
    assert!(pushing.sink.emit_by_name::<bool>("reconnect", &[&"dest_0"]));
    let mut second = peer.accept();
    second.request();
    came.append(&mut numbers_to_come(&mut second));
    second.answer(&ours(204, "one"));
    pushing.wait_for_eos();
    assert!(u64::from(PACKETS) - came.len() as u64 <= uncertain, "{} arrived, {uncertain} uncertain", came.len());
    assert_eq!(count(&pushing, "packets-sent"), u64::from(PACKETS));
}

/// drop-policy=disconnect: data that the stalled connection has not delivered counts as not sent.
#[test]
fn undelivered_data_counts_as_not_sent() {
    let peer = Peer::with_small_buffer();
    let (pushing, source) = pushing_to(
        std::slice::from_ref(&peer),
        "drop-policy=disconnect max-size-time=0 max-size-buffers=100 stall-timeout=0 retry-delay=60000",
    );
    push_bytes(&source, media::stream(1, STEP));
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    until("it streams", || pushing.state_of(0) == "streaming");
    let mut fed = 1;
    until("it is disconnected", || {
        push_bytes(&source, media::packets(fed..fed + 100, STEP));
        fed += 100;
        matches!(pushing.state_of(0).as_str(), "reconnecting" | "locating" | "connecting")
    });
    let [sent, uncertain] = ["packets-sent", "packets-uncertain"].map(|field| count(&pushing, field));
    let came = numbers_to_come(&mut connection).len() as u64;
    assert!(sent <= came + uncertain, "{sent} sent, {uncertain} of them uncertain, {came} arrived");
    assert!(uncertain < 300, "{uncertain}");
}
