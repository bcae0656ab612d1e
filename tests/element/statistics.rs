//! The contents of `stats`, and when they change.

use std::time::UNIX_EPOCH;

use gst::prelude::*;
use test_support::media;
use test_support::peer::{Connection, Peer, wms};
use test_support::pipeline::{Pushing, end, push_bytes, pushing_to, until};
use wmhttp::packet::Packet;

const STEP: u32 = 40;

fn begin(peer: &Peer) -> Connection {
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    connection.packet();
    connection
}

/// Reads to the end of the next data packet, across the end of a body.
fn next_data(connection: &mut Connection) {
    loop {
        match connection.packet() {
            Some(Packet::Data(_)) => return,
            Some(_) => {}
            None => {
                connection.answer(&wms(204, "one"));
                connection.request();
            }
        }
    }
}

/// Each field in `docs/statistics.md` exists with its type, during a push and after it.
#[test]
fn every_field_exists() {
    let peer = Peer::new();
    let (pushing, source) = pushing_to(std::slice::from_ref(&peer), "content-length=30000 max-size-time=0");
    push_bytes(&source, media::stream(100, STEP));
    let mut connection = begin(&peer);
    for _ in 0..100 {
        next_data(&mut connection);
    }
    let second = u64::try_from(UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap();
    let near = |field: &str, stats: &gst::Structure| {
        let time = stats.get::<u64>(field).unwrap();
        assert!(time.abs_diff(second) < 600_000_000_000, "{field}: {time}");
    };
    let mut n = 100;
    until("the kernel's figures", || {
        push_bytes(&source, media::packet(n, STEP));
        n += 1;
        next_data(&mut connection);
        pushing.all_stats()[0].has_field("rtt")
    });
    let stats = pushing.destination_stats();
    let count = |field: &str| stats.get::<u64>(field).unwrap_or_else(|error| panic!("{field}: {error} in {stats}"));
    for field in ["connect-time", "last-activity-time"] {
        near(field, &stats);
    }
    assert!(count("packets-sent") > 100);
    // All padding of the packets, except what their own fields took.
    assert!(count("padding-bytes-saved") > 0);
    assert!(count("bytes-sent") > 100 * 900);
    assert!(count("filler-bytes-sent") > 0);
    assert!(count("rollovers") > 2 && count("requests-sent") == count("rollovers") + 2);
    assert!(count("bitrate-current") > 0 && count("bitrate-average") > 0);
    // 1,000 bytes without padding every 40 ms.
    assert!((150_000..250_000).contains(&count("bitrate-expected")), "{}", count("bitrate-expected"));
    assert!(count("state-duration") > 0 && count("connect-duration") > 0);
    assert_eq!(count("idle-timeout"), 60_000_000_000);
    assert_eq!(stats.get::<u32>("last-http-status"), Ok(204));
    assert_eq!(stats.get::<&str>("server"), Ok("Cougar/9.6.7600.16564"));
    assert_eq!(stats.get::<&str>("effective-location"), Ok(peer.location().as_str()));
    assert!(stats.get::<u64>("rtt").is_ok() && stats.get::<u32>("unsent-bytes").is_ok());
    assert_eq!(stats.get::<f64>("congestion"), Ok(0.0));
    for field in [
        "packets-uncertain",
        "packets-dropped",
        "bytes-dropped",
        "packets-queued",
        "bytes-queued",
        "time-queued",
        "reconnects",
    ] {
        assert_eq!(count(field), 0, "{field}");
    }
    assert!(!stats.has_field("disconnect-time") && !stats.has_field("last-error"));
    assert_eq!(count("packets-received"), count("packets-sent"));

    end(&source);
    connection.until_the_end();
    connection.answer(&wms(204, "one"));
    pushing.wait_for_eos();
    pushing.stop();
    let stats = pushing.destination_stats();
    near("disconnect-time", &stats);
    let lasted = stats.get::<u64>("connect-duration");
    assert!(
        lasted.is_ok() && lasted == pushing.destination_stats().get::<u64>("connect-duration"),
        "it no longer changes"
    );
}

/// After a stop in the middle of the stream nothing is connected, and the counters keep their values.
#[test]
fn a_push_that_was_stopped_is_closed() {
    let peer = Peer::new();
    let (pushing, source) = pushing_to(std::slice::from_ref(&peer), "");
    push_bytes(&source, media::stream(10, STEP));
    let mut connection = begin(&peer);
    connection.data(10);
    until("it streams", || pushing.sink.property::<bool>("connected"));
    pushing.stop();
    assert!(!pushing.sink.property::<bool>("connected"));
    assert_eq!(pushing.sink.property::<u32>("num-connected"), 0);
    let stats = pushing.destination_stats();
    assert_eq!((stats.get::<&str>("state"), stats.get::<u64>("packets-sent")), (Ok("closed"), Ok(10)));
    let lasted = stats.get::<u64>("connect-duration");
    assert!(stats.has_field("disconnect-time") && lasted.is_ok());
    assert_eq!(lasted, pushing.destination_stats().get::<u64>("connect-duration"), "it no longer changes");
}

/// Sent, dropped and queued packets add up to those received, while a server rejects, stalls, resets and returns.
#[test]
fn the_sum_holds_under_faults() {
    let peer = Peer::with_small_buffer();
    let (pushing, source) = pushing_to(
        std::slice::from_ref(&peer),
        "max-size-time=0 max-size-buffers=60 drop-policy=keyframe retry-delay=10 stall-timeout=0",
    );
    let mut fed = 0;
    let mut feed_some = |count: u32| {
        let bytes = if fed == 0 { media::stream(count, STEP) } else { media::packets(fed..fed + count, STEP) };
        push_bytes(&source, bytes);
        fed += count;
        let fed = u64::from(fed);
        until("the packets are in the buffer", || pushing.count(0, "packets-received") == fed);
        let stats = pushing.destination_stats();
        let count = |field| stats.get::<u64>(field).unwrap();
        let sum = count("packets-sent") + count("packets-dropped") + count("packets-queued");
        assert_eq!(sum, fed, "{stats}");
        assert!(stats.get::<f64>("congestion").unwrap() <= 1.0);
    };
    feed_some(20);
    let mut refusing = peer.accept();
    refusing.request();
    refusing.answer(&wms(503, "0"));
    feed_some(30);
    let mut connection = begin(&peer);
    connection.data(5);
    feed_some(200);
    connection.reset();
    feed_some(7);
    let mut connection = peer.accept();
    feed_some(333);
    connection.request();
    connection.answer(&wms(503, "0"));
    feed_some(1);
    let mut stalled = peer.accept();
    stalled.request();
    feed_some(5000);
    drop(stalled);
    feed_some(10);
    assert!(pushing.count(0, "packets-dropped") > 100);
    pushing.sink.emit_by_name::<bool>("disconnect", &[&"dest_0"]);
    feed_some(10);
}

/// `stats-update-interval` posts the statistics and emits notify, until it is 0.
#[test]
fn posted_at_intervals() {
    let peer = Peer::new();
    let (pushing, source) = pushing_to(std::slice::from_ref(&peer), "stats-update-interval=20");
    push_bytes(&source, media::stream(10, STEP));
    let (sender, notified) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    pushing.sink.connect_notify(Some("stats"), move |_, _| {
        let _ = sender.lock().unwrap().send(());
    });
    let mut connection = begin(&peer);
    connection.data(10);
    let is_stats = |message: &gst::Message| {
        message.structure().filter(|structure| structure.name() == "asfpushsink-stats").map(ToOwned::to_owned)
    };
    let complete = pushing.wait_for(|message| {
        is_stats(message).filter(|stats| {
            let destinations = stats.get::<gst::Array>("destinations").unwrap();
            destinations[0].get::<gst::Structure>().unwrap().get::<u64>("packets-sent") == Ok(10)
        })
    });
    assert_eq!(complete.get::<u64>("packets-received"), Ok(10));
    assert!(complete.has_field("average-rate"), "the base class's fields");
    notified.recv_timeout(test_support::peer::TEST_TIMEOUT).unwrap();
    pushing.sink.set_property("stats-update-interval", 0_u32);
    pushing.messages();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(pushing.messages().iter().filter_map(is_stats).count() <= 1);
}

/// Dropped packets are also reported as QOS, with the totals of sent and dropped packets.
#[test]
fn quality_of_service() {
    let peer = Peer::new();
    let (pushing, source) =
        pushing_to(std::slice::from_ref(&peer), "max-size-time=0 max-size-buffers=25 drop-policy=keyframe");
    let mut connection = peer.accept();
    connection.request();
    push_bytes(&source, media::stream(1, STEP));
    for n in 1..200 {
        push_bytes(&source, media::packet(n, STEP));
    }
    until("the packets are in the buffer", || pushing.count(0, "packets-received") == 200);
    let next_qos = || {
        pushing.wait_for(|message| {
            let gst::MessageView::Qos(qos) = message.view() else { return None };
            let (processed, dropped) = qos.stats();
            Some((processed.value(), dropped.value()))
        })
    };
    // It has not started yet, and packets that are no longer kept for it already count as dropped.
    let (processed, dropped) = next_qos();
    assert!(processed == 0 && (1..=175).contains(&dropped), "{processed}, {dropped}");
    assert_eq!((pushing.count(0, "packets-dropped"), pushing.count(0, "packets-queued")), (175, 25));
    connection.answer(&wms(204, "one"));
    connection.request();
    while next_qos() != (10, 190) {}
}

/// An unreachable server: at any moment the queued packets are those in the buffer, and the others are reported as
/// dropped; after the push nothing is queued.
#[test]
fn an_unreachable_destination_reports_its_losses() {
    let (pushing, source) = Pushing::with_feed_source(
        "location=http://127.0.0.1:9/concert drop-policy=keyframe max-size-time=0 max-size-bytes=20000 retry-delay=60000",
    );
    pushing.play();
    let sum = || {
        let stats = pushing.destination_stats();
        let [received, sent, dropped, queued] =
            ["received", "sent", "dropped", "queued"].map(|what| stats.get::<u64>(&format!("packets-{what}")).unwrap());
        assert_eq!((sent, dropped + queued), (0, received));
        (received, dropped, queued)
    };
    push_bytes(&source, media::stream(1, STEP));
    for n in 1..300 {
        push_bytes(&source, media::packet(n, STEP));
        sum();
        assert!(pushing.count(0, "bytes-queued") <= 20_000);
    }
    until("all are in the buffer", || sum().0 == 300);
    let (_, dropped, queued) = sum();
    assert!(dropped > 250 && queued > 10, "{dropped}, {queued}");
    pushing.wait_for(|message| matches!(message.view(), gst::MessageView::Qos(_)).then_some(()));
    pushing.stop();
    assert_eq!(sum(), (300, 300, 0), "after NULL");
    assert_eq!(pushing.count(0, "bytes-queued"), 0);
}

/// `retry-count` counts consecutive failures; a push that has streamed for `retry-delay` resets it.
#[test]
fn a_streaming_push_resets_the_failures() {
    let peer = Peer::new();
    let (pushing, source) = pushing_to(std::slice::from_ref(&peer), "retry-delay=50 max-size-time=0");
    let retries = || pushing.destination_stats().get::<u32>("retry-count").unwrap();
    push_bytes(&source, media::stream(1, STEP));
    let mut refused = peer.accept();
    refused.request();
    refused.answer(&wms(503, "0"));
    until("the failure is counted", || retries() == 1);
    let mut connection = begin(&peer);
    let mut n = 1;
    until("it has streamed long enough", || {
        push_bytes(&source, media::packet(n, STEP));
        n += 1;
        next_data(&mut connection);
        retries() == 0
    });
}
