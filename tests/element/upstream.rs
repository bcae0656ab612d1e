//! Requests to upstream: key frames and allocation.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use gst::prelude::*;
use gst_base::prelude::*;
use test_support::media;
use test_support::peer::{Connection, Peer, wms};
use test_support::pipeline::{Pushing, init, push_bytes, pushing_to, until};

const STEP: u32 = 40;

/// Returns the GstForceKeyUnit events that reach the source.
fn key_frame_requests(source: &gst::Element) -> Receiver<gst::Structure> {
    let (sender, requests) = channel();
    let sender = Mutex::new(sender);
    source.static_pad("src").unwrap().add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
        if let Some(structure) = info.event().and_then(|event| event.structure())
            && structure.name() == "GstForceKeyUnit"
        {
            let _ = sender.lock().unwrap().send(structure.to_owned());
        }
        gst::PadProbeReturn::Ok
    });
    requests
}

fn begin(peer: &Peer) -> Connection {
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    connection.packet();
    connection
}

fn add(pushing: &Pushing, peer: &Peer) {
    let none: Option<gst::Structure> = None;
    pushing.sink.emit_by_name::<Option<gst::Object>>("add", &[&peer.location(), &none]).unwrap();
}

/// A destination that joins in the middle of the stream gets a key frame soon; one that is there from the start needs
/// none.
#[test]
fn a_late_destination_asks_for_a_key_frame() {
    let peers = [Peer::new(), Peer::new(), Peer::new()];
    let (pushing, source) = pushing_to(&peers[..1], "max-size-time=0");
    let requests = key_frame_requests(&source);
    push_bytes(&source, media::stream(15, STEP));
    let mut first = begin(&peers[0]);
    first.data(15);
    add(&pushing, &peers[1]);
    let mut late = peers[1].accept();
    late.request();
    assert!(requests.try_recv().is_err(), "not before it is needed");
    late.answer(&wms(204, "two"));
    late.request();
    let mut n = 15;
    let request = loop {
        push_bytes(&source, media::packet(n, STEP));
        n += 1;
        match requests.recv_timeout(std::time::Duration::from_millis(20)) {
            Ok(request) => break request,
            Err(_) => assert!(n < 1500, "no request"),
        }
    };
    assert_eq!(request.get::<u32>("count"), Ok(1));
    assert!(request.has_field("running-time") && request.has_field("all-headers"));

    pushing.sink.set_property("request-keyframe", false);
    add(&pushing, &peers[2]);
    begin(&peers[2]);
    for n in n..n + 50 {
        push_bytes(&source, media::packet(n, STEP));
    }
    until("the packets are in", || pushing.count(0, "packets-received") >= u64::from(n) + 50);
    assert!(requests.try_recv().is_err(), "request-keyframe=false");
}

/// However many destinations need a key frame, upstream is asked once per second.
#[test]
fn requests_are_few() {
    let peers: Vec<Peer> = (0..20).map(|_| Peer::new()).collect();
    let (pushing, source) = pushing_to(&peers[..1], "max-size-time=0");
    let requests = key_frame_requests(&source);
    push_bytes(&source, media::stream(15, STEP));
    let mut first = begin(&peers[0]);
    first.data(15);
    let started = std::time::Instant::now();
    let mut n = 15;
    for peer in &peers[1..] {
        add(&pushing, peer);
        begin(peer);
        push_bytes(&source, media::packet(n, STEP));
        n += 1;
    }
    until("the packets are in the buffer", || pushing.count(0, "packets-received") == u64::from(n));
    let count = requests.try_iter().count() as u64;
    let most = started.elapsed().as_secs() + 1;
    assert!((1..=most).contains(&count), "{count} requests, the limit is {most}");
}

/// Like AllocateDataUnit: a pool of buffers for one packet each, returned as soon as the packet is consumed.
#[test]
fn upstream_is_offered_a_pool() {
    init();
    let header = gst::Buffer::from_slice(media::header());
    let caps = gst::Caps::builder("video/x-ms-asf").field("streamheader", gst::Array::new([header])).build();
    let sink = gst::ElementFactory::make("asfpushsink").property("location", "http://127.0.0.1:9/p").build().unwrap();
    sink.set_state(gst::State::Ready).unwrap();
    let pad = sink.static_pad("sink").unwrap();
    pad.set_active(true).unwrap();
    let ask = |caps: Option<&gst::Caps>, need_pool| {
        let mut query = gst::query::Allocation::new(caps, need_pool);
        assert!(pad.query(query.query_mut()));
        assert!(query.allocation_params().next().is_some());
        query.allocation_pools().map(|(pool, size, _, _)| (pool.unwrap(), size)).next()
    };
    let (pool, size) = ask(Some(&caps), true).unwrap();
    assert_eq!(size, media::SIZE);
    pool.set_active(true).unwrap();
    let buffer = pool.acquire_buffer(None).unwrap();
    assert!(buffer.size() >= media::SIZE as usize);
    let unknown = gst::Caps::builder("video/x-ms-asf").build();
    assert_eq!(ask(Some(&unknown), true).unwrap().1, 65_536, "any packet fits");
    assert!(ask(Some(&caps), false).is_none(), "no pool was requested");
    assert!(ask(None, true).is_none(), "sources of blocks keep their own size");
    sink.set_state(gst::State::Null).unwrap();
}

/// A buffer of the pool is returned as soon as its packet is in the packet buffer.
#[test]
fn buffers_return_to_the_pool() {
    let peer = Peer::new();
    let (pushing, source) = pushing_to(std::slice::from_ref(&peer), "");
    push_bytes(&source, media::stream(1, STEP));
    let caps = gst::Caps::builder("video/x-ms-asf").build();
    let mut query = gst::query::Allocation::new(Some(&caps), true);
    assert!(pushing.sink.static_pad("sink").unwrap().query(query.query_mut()));
    let pool = query.allocation_pools().next().unwrap().0.unwrap();
    let mut config = pool.config();
    config.set_params(Some(&caps), media::SIZE, 2, 2);
    pool.set_config(config).unwrap();
    pool.set_active(true).unwrap();
    let mut connection = begin(&peer);
    // With two buffers in total, each acquire waits until one is returned.
    for n in 1..200 {
        let mut buffer = pool.acquire_buffer(None).unwrap();
        buffer.get_mut().unwrap().copy_from_slice(0, &media::packet(n, STEP)).unwrap();
        let flow = source.emit_by_name::<gst::FlowReturn>("push-buffer", &[&buffer]);
        assert_eq!(flow, gst::FlowReturn::Ok);
    }
    assert_eq!(connection.data(200).len(), 200);
    pool.set_active(false).unwrap();
}

/// A playing pipeline whose source reports a latency of 200 to 300 ms, if it is live.
fn late(peer: &Peer, live: bool, properties: &str) -> (Pushing, gst::Element) {
    let (pushing, source) = Pushing::with_feed_source(&format!("location={} {properties}", peer.location()));
    source.set_property("is-live", live);
    source.set_property("min-latency", 200_000_000_i64);
    source.set_property("max-latency", 300_000_000_i64);
    pushing.play();
    push_bytes(&source, media::stream(2, STEP));
    until("PLAYING", || pushing.pipeline.current_state() == gst::State::Playing);
    (pushing, source)
}

/// The query is answered as by GstBaseSink: whether the sink synchronizes, and the minimum and maximum latency in
/// milliseconds.
#[test]
fn latencies() {
    let peer = Peer::new();
    for (live, properties, latency) in [
        (true, "", (true, 220, Some(300))),
        (true, "processing-deadline=0", (true, 200, Some(300))),
        (true, "render-delay=50000000", (true, 270, Some(350))),
        (true, "sync=false", (false, 0, None)),
        (false, "", (true, 0, None)),
        (false, "render-delay=50000000", (true, 50, None)),
        (false, "sync=false", (false, 0, None)),
    ] {
        let (pushing, _) = late(&peer, live, properties);
        let mut query = gst::query::Latency::new();
        assert!(pushing.pipeline.query(&mut query));
        let (synchronizes, least, most) = query.result();
        let result = (synchronizes, least.mseconds(), most.map(gst::ClockTime::mseconds));
        assert_eq!(result, latency, "live: {live}, {properties}");
    }
}

/// Live packets are sent as they arrive, whatever the pipeline's latency: nothing waits for an hour here.
#[test]
fn live_packets_do_not_wait_for_the_latency() {
    let peer = Peer::new();
    let (pushing, source) = late(&peer, true, "processing-deadline=3600000000000");
    let mut connection = begin(&peer);
    // Like an application that receives the LATENCY message. Without the maximum, which would be too low.
    source.set_property("max-latency", -1_i64);
    pushing.pipeline.recalculate_latency().unwrap();
    let sink = pushing.sink.downcast_ref::<gst_base::BaseSink>().unwrap();
    assert_eq!(sink.latency().seconds(), 3600);
    push_bytes(&source, media::packets(2..20, STEP));
    assert_eq!(connection.data(20).len(), 20);
}
