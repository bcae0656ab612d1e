//! The generic scenarios of gst-validate, of which Debian has no package: all pairs of states, seeks, and properties in
//! each state.

use std::fs;
use std::thread;
use std::time::Duration;

use gst::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use test_support::media;
use test_support::peer::{Peer, TEST_TIMEOUT};
use test_support::pipeline::{Pushing, push_bytes, until};
use test_support::recording_server::{Push, RecordingServer};

#[cfg(feature = "interop")]
mod interop;

const STEP: u32 = 10;

const STATES: [gst::State; 4] = [gst::State::Null, gst::State::Ready, gst::State::Paused, gst::State::Playing];

/// A sequence of states in which each pair, including equal states, occurs once; begins and ends with NULL.
fn every_pair() -> Vec<gst::State> {
    let mut unused: Vec<(gst::State, gst::State)> =
        STATES.iter().flat_map(|from| STATES.iter().map(|to| (*from, *to))).collect();
    // Hierholzer's algorithm: walk until stuck, then insert the remaining cycles.
    let mut walk = vec![];
    let mut stack = vec![gst::State::Null];
    while let Some(at) = stack.last().copied() {
        match unused.iter().position(|(from, _)| *from == at) {
            Some(next) => stack.push(unused.remove(next).1),
            None => walk.extend(stack.pop()),
        }
    }
    walk.reverse();
    walk
}

/// Waits until the state is reached.
fn set_state_and_wait(pushing: &Pushing, state: gst::State) {
    let timeout = gst::ClockTime::from_nseconds(TEST_TIMEOUT.as_nanos().try_into().unwrap());
    let (change, current, pending) = pushing.pipeline.state(timeout);
    let change = change.unwrap();
    assert_ne!(change, gst::StateChangeSuccess::Async, "{state:?} is not reached: {current:?}, {pending:?}");
    assert_eq!((current, pending), (state, gst::State::VoidPending));
}

/// A file with the stream, and a server that records what arrives.
struct File {
    directory: TempDir,
    recording_server: RecordingServer,
    packets: u32,
}

impl File {
    fn new(packets: u32) -> Self {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("stream.asf"), media::stream(packets, STEP)).unwrap();
        Self { directory, recording_server: RecordingServer::new(STEP), packets }
    }

    fn source(&self) -> String {
        format!("filesrc blocksize=2000 location={}/stream.asf", self.directory.path().display())
    }

    /// Returns a pipeline of this source and the element with these properties.
    fn pushing(&self, source: &str, properties: &str) -> Pushing {
        Pushing::launch(
            source,
            &format!("location={} eos-timeout=30000 {properties}", self.recording_server.server.location()),
        )
    }

    /// Returns the numbers of the packets that arrived, on all connections in order.
    fn came(&self) -> Vec<u32> {
        self.recording_server.pushes().iter().flat_map(Push::numbers).collect()
    }

    /// Returns the numbers of all packets in the file.
    fn whole(&self) -> Vec<u32> {
        (0..self.packets).collect()
    }
}

/// Each state is reached from each other one, ten times, in a live pipeline and in others, whether the sink prerolls or
/// not, and also if the next change does not wait for the previous one.
#[test]
fn every_pair_of_states() {
    assert_eq!(every_pair().len(), STATES.len() * STATES.len() + 1);
    let file = File::new(60_000);
    let source = file.source();
    go_through_every_pair(
        &file,
        &[(&source, "async=true"), (&format!("{source} ! queue"), "async=false max-size-buffers=5")],
    );
}

/// The same for pipelines with these sources and properties of the element, which push to the server of `file`.
fn go_through_every_pair(file: &File, pipelines: &[(&str, &str)]) {
    for (source, properties) in pipelines {
        for waits in [true, false] {
            let pushing = file.pushing(source, properties);
            for _ in 0..10 {
                for state in every_pair() {
                    pushing.pipeline.set_state(state).unwrap();
                    if waits {
                        set_state_and_wait(&pushing, state);
                    }
                }
                set_state_and_wait(&pushing, gst::State::Null);
            }
            // The element still works.
            let before = file.came().len();
            pushing.play();
            until("packets", || file.came().len() > before);
            pushing.stop();
            let element = pushing.sink.downgrade();
            drop(pushing);
            until("the element is gone", || element.upgrade().is_none());
        }
    }
}

/// PAUSED is reached from PLAYING at any moment of the wait for a packet's time, without loss or duplicates.
#[test]
fn pauses_during_a_wait() {
    let mut random = StdRng::seed_from_u64(1);
    let file = File::new(20_000);
    let pushing = file.pushing(&file.source(), "async=true sync=true");
    pushing.play();
    set_state_and_wait(&pushing, gst::State::Playing);
    until("some packets", || file.came().len() > 5);
    for _ in 0..200 {
        thread::sleep(Duration::from_micros(random.random_range(0..20_000)));
        for state in [gst::State::Paused, gst::State::Playing] {
            pushing.pipeline.set_state(state).unwrap();
            set_state_and_wait(&pushing, state);
        }
    }
    let before = file.came().len();
    until("more packets", || file.came().len() > before + 5);
    let came = file.came();
    assert_eq!(came, &file.whole()[..came.len()]);
}

/// A byte seek to the start of the file.
fn to_the_beginning(flags: gst::SeekFlags) -> gst::Event {
    to_byte(flags, 0)
}

fn to_byte(flags: gst::SeekFlags, byte: usize) -> gst::Event {
    let start = gst::format::Bytes::from_usize(byte);
    gst::event::Seek::new(1.0, flags, gst::SeekType::Set, start, gst::SeekType::None, gst::format::Bytes::ZERO)
}

/// In the middle of the stream, with or without a flush: what had arrived is kept, and then the whole file arrives.
#[test]
fn seeks_while_it_plays() {
    for flags in [gst::SeekFlags::FLUSH, gst::SeekFlags::empty()] {
        let file = File::new(150);
        let pushing = file.pushing(&file.source(), "");
        pushing.play();
        until("some packets", || file.came().len() > 20);
        assert!(pushing.sink.send_event(to_the_beginning(flags)), "{flags:?}");
        pushing.wait_for_eos();
        let came = file.came();
        let (before, after) = came.split_at(came.len() - 150);
        assert!((20..150).contains(&before.len()), "{flags:?}: {}", before.len());
        assert_eq!(before, &file.whole()[..before.len()], "{flags:?}");
        assert_eq!(after, file.whole(), "{flags:?}");
    }
}

/// To a packet in the middle, and into a packet: whole packets arrive from there on.
#[test]
fn seeks_into_the_middle() {
    for (into_packet, first) in [(0, 100), (333, 101)] {
        let file = File::new(150);
        let pushing = file.pushing(&file.source(), "");
        pushing.play();
        until("some packets", || file.came().len() > 20);
        let byte = media::header().len() + 100 * media::SIZE as usize + into_packet;
        assert!(pushing.sink.send_event(to_byte(gst::SeekFlags::FLUSH, byte)));
        pushing.wait_for_eos();
        let came = file.came();
        let after: Vec<u32> = (first..150).collect();
        let (before, last) = came.split_at(came.len() - after.len());
        assert_eq!(last, after);
        assert_eq!(before, &file.whole()[..before.len()]);
    }
}

/// Before anything was pushed: the whole file arrives, once.
#[test]
fn seeks_before_it_plays() {
    let cases = [
        (gst::State::Ready, gst::SeekFlags::FLUSH),
        (gst::State::Ready, gst::SeekFlags::empty()),
        // In PAUSED, a non-flushing seek in the source waits until the current data is consumed, that is, for PLAYING.
        (gst::State::Paused, gst::SeekFlags::FLUSH),
    ];
    for (state, flags) in cases {
        {
            let file = File::new(50);
            let pushing = file.pushing(&file.source(), "");
            pushing.pipeline.set_state(state).unwrap();
            set_state_and_wait(&pushing, state);
            // In READY, the source may reject it.
            pushing.sink.send_event(to_the_beginning(flags));
            pushing.play();
            pushing.wait_for_eos();
            assert_eq!(file.came(), file.whole(), "{state:?}, {flags:?}");
        }
    }
}

/// After the end, a flushing seek begins a new push.
#[test]
fn seeks_after_the_end() {
    let file = File::new(30);
    let pushing = file.pushing(&file.source(), "");
    pushing.play();
    for _ in 0..3 {
        pushing.wait_for_eos();
        assert!(pushing.sink.send_event(to_the_beginning(gst::SeekFlags::FLUSH)));
    }
    pushing.wait_for_eos();
    let pushes = file.recording_server.pushes();
    assert_eq!(pushes.len(), 4);
    for push in pushes {
        assert!(push.ended);
        assert_eq!(push.numbers(), file.whole());
    }
}

/// Also into the middle, because the header is known.
#[test]
fn seeks_into_the_middle_after_the_end() {
    let file = File::new(30);
    let pushing = file.pushing(&file.source(), "");
    pushing.play();
    pushing.wait_for_eos();
    let byte = media::header().len() + 10 * media::SIZE as usize + 333;
    assert!(pushing.sink.send_event(to_byte(gst::SeekFlags::FLUSH, byte)));
    pushing.wait_for_eos();
    let pushes = file.recording_server.pushes();
    assert_eq!(pushes.len(), 2);
    assert!(pushes[1].ended);
    assert_eq!(pushes[1].numbers(), (11..30).collect::<Vec<_>>());
}

/// An unsupported seek is rejected and changes nothing: a push cannot go back in time.
#[test]
fn unsupported_seeks() {
    let file = File::new(100);
    let pushing = file.pushing(&file.source(), "");
    pushing.play();
    until("some packets", || file.came().len() > 20);
    // A byte source does not answer queries about time seeks; the sink answers no to muxers, which query its pad.
    assert!(!pushing.pipeline.query(&mut gst::query::Seeking::new(gst::Format::Time)));
    for format in [gst::Format::Time, gst::Format::Bytes] {
        let mut query = gst::query::Seeking::new(format);
        assert!(pushing.sink.static_pad("sink").unwrap().query(&mut query));
        assert!(!query.result().0, "{query:?}");
    }
    for flags in [gst::SeekFlags::FLUSH, gst::SeekFlags::KEY_UNIT, gst::SeekFlags::SEGMENT] {
        assert!(pushing.pipeline.seek_simple(flags, gst::ClockTime::ZERO).is_err(), "{flags:?}");
    }
    pushing.wait_for_eos();
    assert_eq!(file.came(), file.whole());
}

/// Returns a value other than the current one, in the form in which it will be read.
fn another(property: &glib::ParamSpec) -> glib::Value {
    macro_rules! number {
        ($($spec:ty),*) => {
            $(if let Some(spec) = property.downcast_ref::<$spec>() {
                return (spec.default_value() + 1).to_value();
            })*
        };
    }
    number!(glib::ParamSpecUInt, glib::ParamSpecInt, glib::ParamSpecUInt64);
    if let Some(spec) = property.downcast_ref::<glib::ParamSpecBoolean>() {
        return (!spec.default_value()).to_value();
    }
    if let Some(class) = glib::EnumClass::with_type(property.value_type()) {
        let default = glib::EnumValue::from_value(property.default_value()).unwrap().1.value();
        let other = class.values().iter().find(|value| value.value() != default).unwrap();
        return class.to_value(other.value()).unwrap();
    }
    if let Some(class) = glib::FlagsClass::with_type(property.value_type()) {
        return class.builder().set_by_nick("basic").build().unwrap();
    }
    let text = match property.name() {
        "user-agent" => "WMEncoder/11.0.0.0 another",
        "bind-address" => "127.0.0.2",
        "location" | "locations" | "proxy" => "http://127.0.0.1:9/",
        _ => "/another",
    };
    text.to_value()
}

fn same(one: &glib::Value, other: &glib::Value) -> bool {
    format!("{one:?}") == format!("{other:?}")
}

/// Sets each property in each state: it changes if its flags allow that, otherwise it keeps the old value.
#[test]
fn every_property_in_every_state() {
    let peer = Peer::new();
    let properties: Vec<glib::ParamSpec> = {
        let (pushing, _) = Pushing::with_feed_source("");
        let kind = pushing.sink.type_();
        let own = pushing.sink.list_properties().to_vec().into_iter().filter(move |spec| spec.owner_type() == kind);
        own.filter(|spec| spec.flags().contains(glib::ParamFlags::WRITABLE)).collect()
    };
    assert!(properties.len() > 35, "{}", properties.len());
    let mut refused = 0;
    for property in &properties {
        let name = property.name();
        let any_time = property.flags().contains(gst::PARAM_FLAG_MUTABLE_PLAYING);
        for state in STATES {
            let (pushing, source) = Pushing::with_feed_source(&format!("location={} eos-timeout=1", peer.location()));
            push_bytes(&source, media::stream(3, STEP));
            pushing.pipeline.set_state(state).unwrap();
            set_state_and_wait(&pushing, state);
            let value = another(property);
            if !property.flags().contains(glib::ParamFlags::READABLE) {
                pushing.sink.set_property_from_value(name, &value);
                continue;
            }
            let before = pushing.sink.property_value(name);
            assert!(!same(&before, &value), "{name} is already {value:?}");
            pushing.sink.set_property_from_value(name, &value);
            let changes = any_time || state <= gst::State::Ready;
            refused += u32::from(!changes);
            let expected = if changes { &value } else { &before };
            let is = pushing.sink.property_value(name);
            assert!(same(&is, expected), "{name} in {state:?}: {is:?}, not {expected:?}");
            assert_eq!(pushing.pipeline.current_state(), state, "{name}");
        }
    }
    assert!(refused > 20, "{refused}");
}
