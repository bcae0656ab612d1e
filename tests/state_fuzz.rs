//! Random operations on the element in several threads simultaneously: state changes, properties, actions, queries,
//! events, and valid and invalid buffers. Nothing may hang, cause a GLib critical warning, or leak.
//!
//! `STATE_FUZZ_SECONDS` sets the duration, and `STATE_FUZZ_SEED` the first seed; the scheduling of the threads remains
//! up to the system.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use asf_publishing_point::{Config, PointConfig, Server};
use gst::glib;
use gst::prelude::*;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use test_support::media;
use test_support::peer::TEST_TIMEOUT;
use test_support::pipeline::{Pushing, until};
use test_support::server::listen;

const STEP: u32 = 5;

/// The current operation of a thread, for the report if it does not return.
#[derive(Default)]
struct CurrentOperation {
    what: Mutex<String>,
    /// Number of operations.
    count: AtomicU64,
}

impl CurrentOperation {
    fn begin(&self, what: String) {
        *self.what.lock().unwrap() = what;
        self.count.fetch_add(1, Ordering::SeqCst);
    }
}

/// Performs a random operation on the element.
type Operation = fn(&mut StdRng, &Pushing, &[String], &CurrentOperation);

const OPERATIONS: [(&str, Operation); 5] = [
    ("states", change_state),
    ("properties", set_property),
    ("actions", act),
    ("events", send_event),
    ("stream", push),
];

fn change_state(random: &mut StdRng, pushing: &Pushing, _: &[String], current: &CurrentOperation) {
    use gst::State::{Null, Paused, Playing, Ready};
    let state = *[Null, Ready, Paused, Playing, Playing, Playing, Playing].choose(random).unwrap();
    current.begin(format!("{state:?}"));
    // The change may fail, with a message.
    let _ = pushing.pipeline.set_state(state);
    let rest = if random.random_range(0..4) == 0 { 500 } else { 100 };
    thread::sleep(Duration::from_millis(random.random_range(0..rest)));
}

fn set_property(random: &mut StdRng, pushing: &Pushing, locations: &[String], current: &CurrentOperation) {
    let properties = pushing.sink.list_properties();
    let property = properties.choose(random).unwrap();
    let flags = property.flags();
    current.begin(property.name().to_owned());
    if flags.contains(glib::ParamFlags::READABLE) {
        let _ = pushing.sink.property_value(property.name());
    }
    if !flags.contains(glib::ParamFlags::WRITABLE) || ["name", "parent"].contains(&property.name()) {
        return;
    }
    if let Some(value) = value_for(random, property, locations) {
        current.begin(format!("{} = {value:?}", property.name()));
        pushing.sink.set_property_from_value(property.name(), &value);
    }
    thread::sleep(Duration::from_millis(random.random_range(0..10)));
}

/// Returns a random value that the property's type allows; usually one with which a push is possible.
fn value_for(random: &mut StdRng, property: &glib::ParamSpec, locations: &[String]) -> Option<glib::Value> {
    // With AutoDestroy a push removes its publishing point, and the remaining operations would reach no server.
    if random.random_range(0..12) > 0 || property.name() == "auto-destroy" {
        return Some(match property.name() {
            "location" | "locations" => locations.choose(random).unwrap().to_value(),
            _ => property.default_value().clone(),
        });
    }
    macro_rules! number {
        ($($spec:ty),*) => {
            $(if let Some(spec) = property.downcast_ref::<$spec>() {
                let (least, most) = (spec.minimum(), spec.maximum());
                let choices = [least, most, spec.default_value(), random.random_range(least..=most)];
                return Some(choices.choose(random).unwrap().to_value());
            })*
        };
    }
    // GstBaseSink's own times: it does not accept GST_CLOCK_TIME_NONE, and the system clock of GStreamer 1.22
    // busy-waits, holding its lock, if a wait lasts centuries.
    let nanoseconds = random.random_range(0..1_000_000_000_u32);
    match property.name() {
        "render-delay" | "throttle-time" | "processing-deadline" => return Some(u64::from(nanoseconds).to_value()),
        "ts-offset" => return Some((i64::from(nanoseconds) - 500_000_000).to_value()),
        _ => {}
    }
    number!(glib::ParamSpecUInt, glib::ParamSpecInt, glib::ParamSpecUInt64, glib::ParamSpecInt64);
    let kind = property.value_type();
    if kind == bool::static_type() {
        return Some(random.random::<bool>().to_value());
    }
    if kind == String::static_type() {
        let texts =
            ["", "http://", "ftp://127.0.0.1/x", "http://[::1", "a b c", "http://127.0.0.1:9/nobody", "\u{1f3b5}"];
        let texts = texts.into_iter().chain(locations.iter().map(String::as_str));
        let texts: Vec<Option<&str>> = texts.map(Some).chain([None]).collect();
        return Some(texts.choose(random).unwrap().to_value());
    }
    if let Some(class) = glib::EnumClass::with_type(kind) {
        return class.to_value(class.values().choose(random)?.value());
    }
    if let Some(class) = glib::FlagsClass::with_type(kind) {
        let builder = class.values().iter().filter(|_| random.random());
        return builder.fold(class.builder(), |builder, value| builder.set(value.value())).build();
    }
    None
}

fn act(random: &mut StdRng, pushing: &Pushing, locations: &[String], current: &CurrentOperation) {
    let name = locations.choose(random).unwrap().as_str();
    let some = if random.random() { Some(name) } else { None };
    let action = *["add", "remove", "clear", "get-stats", "end-session", "disconnect", "reconnect", "queries"]
        .choose(random)
        .unwrap();
    current.begin(action.to_owned());
    match action {
        "add" => drop(pushing.sink.emit_by_name::<Option<glib::Object>>(action, &[&some, &None::<gst::Structure>])),
        "remove" => drop(pushing.sink.emit_by_name::<bool>(action, &[&some, &random.random::<bool>()])),
        "clear" => pushing.sink.emit_by_name::<()>(action, &[]),
        "get-stats" => drop(pushing.sink.emit_by_name::<Option<gst::Structure>>(action, &[&some])),
        "queries" => query(random, pushing),
        command => drop(pushing.sink.emit_by_name::<bool>(command, &[&some])),
    }
    thread::sleep(Duration::from_millis(random.random_range(0..20)));
}

fn query(random: &mut StdRng, pushing: &Pushing) {
    let pad = pushing.sink.static_pad("sink").unwrap();
    match random.random_range(0..5) {
        0 => drop(pushing.sink.query(&mut gst::query::Latency::new())),
        1 => drop(pushing.sink.query_position::<gst::ClockTime>()),
        2 => drop(pad.query_caps(None)),
        3 => drop(pushing.sink.query(&mut gst::query::Uri::new())),
        _ => drop(pad.query(&mut gst::query::Allocation::new(Some(&asf()), true))),
    }
}

fn asf() -> gst::Caps {
    gst::Caps::new_empty_simple("video/x-ms-asf")
}

fn send_event(random: &mut StdRng, pushing: &Pushing, _: &[String], current: &CurrentOperation) {
    let pad = pushing.sink.static_pad("sink").unwrap();
    let which = random.random_range(0..7);
    current.begin(format!("event {which}"));
    match which {
        0 => {
            pad.send_event(gst::event::FlushStart::new());
            pad.send_event(gst::event::FlushStop::new(random.random()));
        }
        1 => drop(
            pushing
                .sink
                .seek_simple(gst::SeekFlags::FLUSH, gst::ClockTime::from_mseconds(random.random_range(0..5000))),
        ),
        2 => drop(
            pushing
                .sink
                .send_event(gst::event::Latency::new(gst::ClockTime::from_mseconds(random.random_range(0..200)))),
        ),
        3 => drop(pushing.sink.seek_simple(gst::SeekFlags::empty(), gst::ClockTime::ZERO)),
        4 => drop(pushing.pipeline.send_event(gst::event::Reconfigure::new())),
        5 => drop(pushing.sink.send_event(gst::event::Navigation::new(gst::Structure::new_empty("none")))),
        _ => drop(pushing.messages()),
    }
    thread::sleep(Duration::from_millis(random.random_range(0..100)));
}

/// Pushes a part of the stream, invalid data, or an event between them.
fn push(random: &mut StdRng, pushing: &Pushing, _: &[String], current: &CurrentOperation) {
    let source = pushing.pipeline.by_name("feed").unwrap();
    let pad = source.static_pad("src").unwrap();
    let which = random.random_range(0..200);
    current.begin(format!("stream {which}"));
    let event = |event: gst::Event| {
        pad.push_event(event);
    };
    match which {
        0 => event(gst::event::Caps::new(&asf())),
        1 => {
            let header = gst::Buffer::from_slice(media::header());
            let caps = gst::Caps::builder("video/x-ms-asf").field("streamheader", gst::Array::new([header])).build();
            event(gst::event::Caps::new(&caps));
        }
        2 => event(gst::event::Caps::new(&gst::Caps::new_empty_simple("video/mpegts"))),
        3 => event(gst::event::Segment::new(&gst::FormattedSegment::<gst::format::Bytes>::new())),
        4 => event(gst::event::Gap::builder(gst::ClockTime::ZERO).build()),
        5 => event(gst::event::StreamStart::new("another")),
        6 => event(gst::event::Eos::new()),
        7 => event(gst::event::CustomDownstream::new(gst::Structure::new_empty("none"))),
        8 => push_bytes(&pad, (0..random.random_range(0..5000)).map(|_| random.random()).collect()),
        9..15 => push_bytes(&pad, media::header().to_vec()),
        _ => {
            // Usually the next packets; a jump of the send times makes the element wait or hurry.
            let turn = u32::try_from(current.count.load(Ordering::SeqCst)).unwrap();
            let first = if random.random_range(0..50) == 0 { random.random_range(0..10_000) } else { turn * 3 };
            let bytes = media::packets(first..first + random.random_range(1..6), STEP);
            let cut = if random.random_range(0..50) == 0 { random.random_range(0..bytes.len()) } else { bytes.len() };
            push_bytes(&pad, bytes[..cut].to_vec());
        }
    }
}

fn push_bytes(pad: &gst::Pad, bytes: Vec<u8>) {
    // Stopping the pipeline removes the sticky events.
    if pad.sticky_event::<gst::event::Segment>(0).is_none() {
        pad.push_event(gst::event::StreamStart::new("fuzz"));
        pad.push_event(gst::event::Caps::new(&asf()));
        pad.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
        // Flushing, if it has not started yet.
        let _ = pad.push(gst::Buffer::from_slice(media::header()));
    }
    if pad.push(gst::Buffer::from_slice(bytes)).is_err() {
        // Flushing, at EOS or in error, until another thread changes that.
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs the operations until the time is over. If a thread does not return, the process exits.
fn treat(pushing: &Pushing, locations: &[String], seed: u64, time: Duration) {
    let until = Instant::now() + time;
    let current: Vec<CurrentOperation> = OPERATIONS.iter().map(|_| CurrentOperation::default()).collect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let threads: Vec<_> = OPERATIONS
            .iter()
            .zip(&current)
            .zip(seed..)
            .map(|(((_, operation), current), seed)| {
                scope.spawn(move || {
                    let mut random = StdRng::seed_from_u64(seed);
                    while Instant::now() < until {
                        operation(&mut random, pushing, locations, current);
                    }
                })
            })
            .collect();
        scope.spawn(|| watch(&current, &over));
        let (streaming, others) = threads.split_last().unwrap();
        until_finished(others);
        // Interrupts threads that wait in the element for the preroll or for room.
        pushing.stop();
        until_finished(std::slice::from_ref(streaming));
        over.store(true, Ordering::SeqCst);
    });
    for ((name, _), current) in OPERATIONS.iter().zip(&current) {
        println!("{name}: {}", current.count.load(Ordering::SeqCst));
        assert!(current.count.load(Ordering::SeqCst) > 10, "{name}");
    }
}

fn until_finished(threads: &[thread::ScopedJoinHandle<'_, ()>]) {
    while !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
        thread::sleep(Duration::from_millis(10));
    }
}

fn watch(current: &[CurrentOperation], over: &AtomicBool) {
    let counts = || current.iter().map(|current| current.count.load(Ordering::SeqCst)).sum::<u64>();
    let (mut seen, mut since) = (counts(), Instant::now());
    while !over.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(50));
        let now = counts();
        if now != seen {
            (seen, since) = (now, Instant::now());
        } else if since.elapsed() > 2 * TEST_TIMEOUT {
            let what: Vec<_> = current.iter().map(|current| current.what.lock().unwrap().clone()).collect();
            eprintln!("hangs: {what:?}");
            std::process::abort();
        }
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn entries(folder: &str) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn random_treatment_by_several_threads() {
    let time = Duration::from_secs(number("STATE_FUZZ_SECONDS", 15));
    let seed = number("STATE_FUZZ_SEED", 1);
    println!("seed {seed}, {time:?}");
    let config = || Config::with_points(["concert", "hall"], &PointConfig::default());
    let servers = [Server::spawn(config()).unwrap(), Server::spawn(config()).unwrap()];
    // A server that never accepts connections.
    let deaf = listen(0, None);
    let urls =
        servers.iter().flat_map(|server| ["concert", "hall"].map(|point| format!("http://{}/{point}", server.addr())));
    let locations: Vec<String> = urls.chain([format!("http://{}/x", deaf.local_addr().unwrap())]).collect();

    // A critical warning of GLib ends the process.
    test_support::pipeline::init();
    glib::log_set_always_fatal(glib::LogLevels::LEVEL_CRITICAL | glib::LogLevels::LEVEL_ERROR);
    let one_push = |seed, time| {
        let (pushing, _) = Pushing::with_feed_source(&format!("location={}", locations[0]));
        treat(&pushing, &locations, seed, time);
        pushing.sink.downgrade()
    };
    let gone = |weak: glib::WeakRef<gst::Element>| until("the element is gone", || weak.upgrade().is_none());
    gone(one_push(seed, Duration::from_secs(2)));
    let settled = [entries("/proc/self/fd"), entries("/proc/self/task")];
    gone(one_push(seed + OPERATIONS.len() as u64, time));
    let packets =
        servers.iter().flat_map(|server| ["concert", "hall"].map(|point| server.stats(point).unwrap().packets));
    let packets: u64 = packets.sum();
    println!("packets that arrived: {packets}");
    assert!(packets > 20, "{packets}");
    until("descriptors and threads as before", || {
        let [descriptors, threads] = [entries("/proc/self/fd"), entries("/proc/self/task")];
        descriptors <= settled[0] + 2 && threads <= settled[1] + 2
    });
}
