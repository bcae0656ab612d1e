//! Destinations that are added, controlled and removed while the pipeline plays.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use asf::Header;
use gst::prelude::*;
use test_support::media;
use test_support::peer::{Connection, Peer, unauthorized, wms};
use test_support::pipeline::{Pushing, end, push_bytes, pushing_to, status, status_nick, until};
use wmhttp::packet::Packet;

const STEP: u32 = 40;

/// Accepts a PushSetup and a PushStart, and reads `$H`.
fn begin(peer: &Peer) -> (Connection, Header) {
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    let header = header_of(&mut connection);
    (connection, header)
}

fn header_of(connection: &mut Connection) -> Header {
    let Some(Packet::Header(header)) = connection.packet() else { panic!("C-8") };
    Header::parse(header).unwrap()
}

fn numbers(connection: &mut Connection, header: &Header, count: usize) -> Vec<u32> {
    connection.data(count).iter().map(|payload| media::number(header, payload, STEP)).collect()
}

fn refuse(peer: &Peer, status: u16) {
    let mut connection = peer.accept();
    connection.request();
    connection.answer(&wms(status, "0"));
}

fn peers(count: usize) -> Vec<Peer> {
    (0..count).map(|_| Peer::new()).collect()
}

fn emit(pushing: &Pushing, action: &str, name: &str) -> bool {
    pushing.sink.emit_by_name::<bool>(action, &[&name])
}

fn remove(pushing: &Pushing, name: &str, drain: bool) -> bool {
    pushing.sink.emit_by_name::<bool>("remove", &[&name, &drain])
}

/// The queued packets are sent, then `$E`(0); later packets are not.
#[test]
fn remove_with_drain() {
    let peers = peers(2);
    let (pushing, source) = pushing_to(&peers, "max-size-time=0");
    let (mut stays, _) = begin_after(&pushing, &source, &peers[0], 40);
    let mut leaves = peers[1].accept();
    leaves.request();
    assert!(remove(&pushing, "dest_1", true));
    assert!(!remove(&pushing, "dest_1", true), "it was removed");
    assert_eq!(pushing.sink.property::<u32>("num-destinations"), 1);
    push_bytes(&source, media::packets(40..60, STEP));
    leaves.answer(&wms(204, "two"));
    leaves.request();
    let header = header_of(&mut leaves);
    assert_eq!(numbers(&mut leaves, &header, 40), (0..40).collect::<Vec<_>>());
    assert!(matches!(leaves.packet(), Some(Packet::End(reason)) if reason == wmhttp::Hresult::OK));
    leaves.answer(&wms(204, "two"));
    assert!(leaves.is_closed());
    assert_eq!(stays.data(60).len(), 60);
    end(&source);
    stays.until_the_end();
    stays.answer(&wms(204, "one"));
    pushing.wait_for_eos();
}

fn begin_after(pushing: &Pushing, source: &gst::Element, peer: &Peer, count: u32) -> (Connection, Header) {
    push_bytes(source, media::stream(count, STEP));
    until("the packets are in the buffer", || pushing.count(0, "packets-received") == u64::from(count));
    begin(peer)
}

/// Blocks the thread that reports a destination's state when it posts the status `nick`. Returns a receiver that is
/// notified then, and a sender that lets the thread continue.
fn hold_at_status(pushing: &Pushing, nick: &'static str) -> (Receiver<()>, Sender<()>) {
    let (held, is_held) = channel();
    let (resume_sender, resume_receiver) = channel();
    let (held, resume_receiver) = (Mutex::new(Some(held)), Mutex::new(resume_receiver));
    pushing.pipeline.bus().unwrap().set_sync_handler(move |_, message| {
        if status(message).is_some_and(|status| status_nick(&status) == nick)
            && let Some(held) = held.lock().unwrap().take()
        {
            held.send(()).unwrap();
            resume_receiver.lock().unwrap().recv().unwrap();
        }
        gst::BusSyncReply::Pass
    });
    (is_held, resume_sender)
}

/// A changed setting and a drain reach the destination even while its command queue is full.
#[test]
fn settings_and_drain_beside_a_full_command_queue() {
    let peers = peers(1);
    let properties = format!("sync=false location={} max-size-time=0 auth-methods=basic", peers[0].location());
    let (pushing, source) = Pushing::with_feed_source(&properties);
    let (is_held, resume_sender) = hold_at_status(&pushing, "connecting");
    pushing.play();
    push_bytes(&source, media::stream(40, STEP));
    is_held.recv().unwrap();
    // Has no effect on a destination that is connecting.
    until("the queue is full", || !emit(&pushing, "reconnect", "dest_0"));
    pushing.sink.set_property("user-id", "bob");
    pushing.sink.set_property("user-pw", "hush");
    assert!(remove(&pushing, "dest_0", true));
    resume_sender.send(()).unwrap();
    let mut connection = peers[0].accept();
    connection.request();
    connection.answer(&unauthorized(&["Basic realm=\"studio\""]));
    assert_eq!(connection.request().header("Authorization"), Some("Basic Ym9iOmh1c2g="));
    connection.answer(&wms(204, "one"));
    connection.request();
    let header = header_of(&mut connection);
    assert_eq!(numbers(&mut connection, &header, 40), (0..40).collect::<Vec<_>>());
    assert!(matches!(connection.packet(), Some(Packet::End(reason)) if reason == wmhttp::Hresult::OK));
}

/// If the server stops reading, a drain ends after eos-timeout.
#[test]
fn remove_with_drain_is_bounded() {
    let peers = peers(1);
    let (pushing, source) = pushing_to(&peers, "eos-timeout=200 timeout=600000");
    push_bytes(&source, media::stream(5, STEP));
    let mut silent = peers[0].accept();
    silent.request();
    assert!(remove(&pushing, "dest_0", true));
    assert!(silent.is_closed());
}

/// `reconnect` restarts a destination that failed permanently, ended or was disconnected; the packets missed are
/// counted.
#[test]
fn reconnect_after_the_end() {
    let peers = peers(3);
    let (pushing, source) = pushing_to(&peers, "max-size-time=0");
    refuse(&peers[0], 403);
    until("the failure", || pushing.state_of(0) == "failed");
    let (mut ended, _) = begin_after(&pushing, &source, &peers[1], 15);
    let (mut kept, _) = begin(&peers[2]);
    ended.data(15);
    assert!(emit(&pushing, "end-session", "dest_1"));
    ended.until_the_end();
    ended.answer(&wms(204, "one"));
    until("the end", || pushing.state_of(1) == "closed");
    assert_eq!(pushing.count(0, "packets-dropped"), 15, "the writer does not wait for it");
    push_bytes(&source, media::packets(15..35, STEP));
    kept.data(35);
    for index in [0, 1] {
        assert!(emit(&pushing, "reconnect", &format!("dest_{index}")));
        let (mut again, header) = begin(&peers[index]);
        assert_eq!(numbers(&mut again, &header, 5), [30, 31, 32, 33, 34], "the most recent key frame");
        let stats = &pushing.all_stats()[index];
        let count = |field| stats.get::<u64>(field).unwrap();
        assert_eq!(count("packets-received"), 35);
        assert_eq!((count("packets-sent"), count("packets-dropped")), [(5, 30), (20, 15)][index]);
    }
}

/// A session that must end is not reconnected if it fails before.
#[test]
fn end_session_outlives_a_failure() {
    let peers = peers(1);
    let (pushing, source) = pushing_to(&peers, "retry-delay=10 max-size-time=0");
    push_bytes(&source, media::stream(5, STEP));
    let mut connection = peers[0].accept();
    connection.request();
    assert!(emit(&pushing, "end-session", "dest_0"));
    connection.answer(&wms(503, "0"));
    until("the end", || pushing.state_of(0) == "closed");
    assert!(peers[0].accept_within(Duration::from_millis(200)).is_none(), "no reconnect is wanted");
    assert!(emit(&pushing, "reconnect", "dest_0"));
    begin(&peers[0]);
}

/// Nor does it begin a new session for another header.
#[test]
fn end_session_outlives_a_header_change() {
    let peers = peers(1);
    let (pushing, source) = pushing_to(&peers, "header-change=reconnect max-size-time=0");
    let (mut connection, _) = begin_after(&pushing, &source, &peers[0], 5);
    connection.data(5);
    push_bytes(&source, media::stream(5, STEP));
    connection.until_the_end();
    assert!(emit(&pushing, "end-session", "dest_0"));
    connection.answer(&wms(204, "one"));
    let mut next = peers[0].accept();
    next.request();
    next.answer(&wms(204, "two"));
    assert!(next.is_closed(), "a session without data");
    until("the end", || pushing.state_of(0) == "closed");
}

/// `should-reconnect` is emitted with the failure, and may prevent the retry.
#[test]
fn should_reconnect_may_prevent_a_retry() {
    let peers = peers(1);
    let (pushing, _source) = pushing_to(&peers, "retry-delay=10 on-error=never");
    let (sender, asked) = channel();
    pushing.sink.connect("should-reconnect", false, move |values| {
        let destination = values[1].get::<gst::Object>().unwrap().name().to_string();
        let error = values[2].get::<gst::Structure>().unwrap();
        sender.send((destination, error.get::<u32>("http-status-code").unwrap())).unwrap();
        Some(false.to_value())
    });
    refuse(&peers[0], 503);
    let failed = pushing.wait_for_status("error");
    assert_eq!(failed.get::<&str>("new-state"), Ok("failed"));
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), [("dest_0".to_owned(), 503)]);
    assert!(peers[0].accept_within(Duration::from_millis(200)).is_none());
}

/// A blocking handler does not delay other destinations, and may change its destination's location.
#[test]
fn should_reconnect_may_wait_and_change_the_location() {
    let all = peers(3);
    let (pushing, source) = pushing_to(&all[..2], "retry-delay=10 max-size-time=0");
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let elsewhere = all[2].location();
    pushing.sink.connect("should-reconnect", false, move |values| {
        let _ = released.lock().unwrap().recv();
        values[1].get::<gst::Object>().unwrap().set_property("location", &elsewhere);
        Some(true.to_value())
    });
    refuse(&all[0], 503);
    push_bytes(&source, media::stream(30, STEP));
    let (mut good, _) = begin(&all[1]);
    assert_eq!(good.data(30).len(), 30, "while the handler waits");
    release.send(()).unwrap();
    let (mut moved, _) = begin(&all[2]);
    assert_eq!(moved.data(30).len(), 30);
    assert_eq!(pushing.child(0).property::<String>("location"), all[2].location());
    assert_eq!(pushing.child(0).property::<String>("effective-location"), all[2].location());
    assert_eq!(pushing.all_stats()[0].get::<String>("location").unwrap(), all[2].location());
}

/// Each destination may lag as far as its own limits allow.
#[test]
fn each_destination_has_its_own_limits() {
    let peers = peers(3);
    let (pushing, source) = pushing_to(
        &peers,
        "max-size-time=0 max-size-buffers=25 drop-policy=keyframe dest_1::max-size-buffers=15 dest_2::max-size-buffers=45",
    );
    let mut waiting: Vec<Connection> = peers.iter().map(Peer::accept).collect();
    for connection in &mut waiting {
        connection.request();
    }
    push_bytes(&source, media::stream(1, STEP));
    for n in 1..48 {
        push_bytes(&source, media::packet(n, STEP));
    }
    until("all in the log", || pushing.count(2, "packets-received") == 48);
    let firsts = waiting.iter_mut().map(|connection| {
        connection.answer(&wms(204, "one"));
        connection.request();
        let header = header_of(connection);
        numbers(connection, &header, 1)[0]
    });
    // A destination that lagged too far continues at the most recent key frame, another one at the next packet.
    assert_eq!(firsts.collect::<Vec<_>>(), [40, 40, 40]);
    assert_eq!(pushing.count(2, "packets-dropped"), 40, "45 are fewer than 48");
    assert_eq!(pushing.child(1).property::<u32>("max-size-buffers"), 15);
}

/// `sync-method` decides where a late-joining destination starts.
#[test]
fn sync_methods() {
    for (method, expected) in [("latest", 25), ("next-keyframe", 30), ("latest-keyframe", 20)] {
        let all = peers(2);
        let (pushing, source) = pushing_to(&all[..1], "max-size-time=0");
        let (mut first, _) = begin_after(&pushing, &source, &all[0], 25);
        first.data(25);
        pushing.sink.set_property_from_str("sync-method", method);
        let none: Option<gst::Structure> = None;
        pushing.sink.emit_by_name::<Option<gst::Object>>("add", &[&all[1].location(), &none]).unwrap();
        push_bytes(&source, media::packets(25..35, STEP));
        let (mut late, header) = begin(&all[1]);
        assert_eq!(numbers(&mut late, &header, 1), [expected], "{method}");
    }
}

/// drop-policy=disconnect disconnects as soon as the limit is exceeded, not when the server reads again.
#[test]
fn disconnect_on_overrun() {
    let peer = Peer::with_small_buffer();
    let (pushing, source) = pushing_to(
        std::slice::from_ref(&peer),
        "max-size-time=0 max-size-bytes=2000000 drop-policy=disconnect stall-timeout=600000 retry-delay=10",
    );
    push_bytes(&source, media::stream(1, STEP));
    let (mut stalled, _) = begin(&peer);
    // More than the connection's buffers and the limit together.
    let mut n = 1;
    while peer_is_alone(&pushing) {
        push_bytes(&source, media::packets(n..n + 500, STEP));
        n += 500;
        assert!(n < 100_000, "the limit has no effect");
    }
    let (mut again, header) = begin(&peer);
    assert_eq!(numbers(&mut again, &header, 1)[0] % 10, 0, "a key frame");
    assert!(stalled.data(1).len() == 1);
    let stats = pushing.destination_stats();
    let count = |field| stats.get::<u64>(field).unwrap();
    assert!(count("packets-dropped") > 0);
    assert_eq!(
        count("packets-sent") + count("packets-dropped") + count("packets-queued"),
        count("packets-received"),
        "{stats}"
    );
}

fn peer_is_alone(pushing: &Pushing) -> bool {
    std::thread::sleep(Duration::from_millis(5));
    pushing.count(0, "reconnects") == 0 && pushing.state_of(0) == "streaming"
}

/// Setting locations, adding and removing emit the signals of the element.
#[test]
fn added_and_removed_children_are_signalled() {
    test_support::pipeline::init();
    let sink = gst::ElementFactory::make("asfpushsink").build().unwrap();
    let (sender, heard) = channel();
    for signal in ["destination-added", "destination-removed"] {
        let sender = Mutex::new(sender.clone());
        sink.connect(signal, false, move |values| {
            let name = values[1].get::<gst::Object>().unwrap().name();
            sender.lock().unwrap().send(format!("{} {name}", &signal[12..])).unwrap();
            None
        });
    }
    sink.set_property("locations", "http://a/p http://b/p");
    sink.emit_by_name::<Option<gst::Object>>("add", &[&"http://c/p", &None::<gst::Structure>]).unwrap();
    assert!(sink.emit_by_name::<bool>("remove", &[&"http://b/p", &true]));
    sink.emit_by_name::<()>("clear", &[]);
    let heard: Vec<String> = heard.try_iter().collect();
    assert_eq!(
        heard,
        ["added dest_0", "added dest_1", "added dest_2", "removed dest_1", "removed dest_0", "removed dest_2"]
    );
}

/// An invalid location is rejected, and the old one is kept.
#[test]
fn a_destination_rejects_an_invalid_location() {
    let peers = peers(1);
    let (pushing, _source) = pushing_to(&peers, "");
    let child = pushing.child(0);
    child.set_property("location", "rtsp://elsewhere/p");
    assert_eq!(child.property::<String>("location"), peers[0].location());
    let mut connection = peers[0].accept();
    connection.request();
    connection.answer(&wms(403, "0"));
    pushing.wait_for(|message| {
        let error = matches!(message.view(), gst::MessageView::Error(_));
        let failed = test_support::pipeline::status(message).filter(|status| status_nick(status) == "error");
        (error || failed.is_some()).then_some(())
    });
    assert!(child.property::<String>("last-error").contains("403"));
    assert_eq!(child.property::<String>("server"), "Cougar/9.6.7600.16564");
}
