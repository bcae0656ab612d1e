//! A pipeline that ends with the element, and its messages.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Once;
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::peer::{Peer, TEST_TIMEOUT};
use crate::{feed_source, leaks, media};

pub fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstasfpush::plugin_register_static().unwrap();
        feed_source::register().unwrap();
        leaks::watch();
    });
}

/// Records for the leak check which children a description's properties name.
fn record_children(sink: &gst::Element, properties: &str) {
    let children = sink.dynamic_cast_ref::<gst::ChildProxy>().unwrap();
    let names = properties.split(' ').filter_map(|word| word.split_once('='));
    for (child, _) in names.filter_map(|(name, _)| name.trim().split_once("::")) {
        leaks::leaked_by_parser(&children.child_by_name(child).unwrap());
    }
}

/// A pipeline and its bus.
pub struct Pushing {
    pub pipeline: gst::Pipeline,
    pub sink: gst::Element,
    bus: gst::Bus,
}

impl Pushing {
    /// `source ! asfpushsink properties`.
    pub fn launch(source: &str, properties: &str) -> Self {
        init();
        let pipeline = gst::parse::launch(&format!("{source} ! asfpushsink name=push {properties}")).unwrap();
        let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
        let sink = pipeline.by_name("push").unwrap();
        record_children(&sink, properties);
        let bus = pipeline.bus().unwrap();
        Self { pipeline, sink, bus }
    }

    /// Creates the element alone, for an [`Upstream`](crate::upstream::Upstream).
    pub fn bare(properties: &str) -> Self {
        init();
        let sink = gst::parse::launch(&format!("asfpushsink name=push {properties}")).unwrap();
        record_children(&sink, properties);
        let pipeline = gst::Pipeline::new();
        pipeline.add(&sink).unwrap();
        let bus = pipeline.bus().unwrap();
        Self { pipeline, sink, bus }
    }

    /// Creates a pipeline to which the test passes buffers.
    pub fn with_feed_source(properties: &str) -> (Self, gst::Element) {
        let pushing = Self::launch("feedsrc name=feed", properties);
        let feed = pushing.pipeline.by_name("feed").unwrap();
        (pushing, feed)
    }

    pub fn play(&self) {
        self.pipeline.set_state(gst::State::Playing).unwrap();
    }

    /// Waits for a message from which `wanted` returns a value; an ERROR for which it returns `None` fails the test.
    pub fn wait_for<T>(&self, mut wanted: impl FnMut(&gst::Message) -> Option<T>) -> T {
        let until = Instant::now() + TEST_TIMEOUT;
        while Instant::now() < until {
            let Some(message) = self.bus.timed_pop(gst::ClockTime::from_mseconds(100)) else { continue };
            if let Some(found) = wanted(&message) {
                return found;
            }
            if let gst::MessageView::Error(error) = message.view() {
                panic!("{} ({:?})", error.error(), error.debug());
            }
        }
        panic!("the message did not arrive");
    }

    pub fn wait_for_eos(&self) {
        self.wait_for(|message| matches!(message.view(), gst::MessageView::Eos(_)).then_some(()));
    }

    /// Waits for a status message with this nick, and returns it.
    pub fn wait_for_status(&self, nick: &str) -> gst::Structure {
        self.wait_for(|message| status(message).filter(|status| status_nick(status) == nick))
    }

    pub fn wait_for_error(&self) -> (glib::Error, gst::Structure) {
        self.wait_for(|message| {
            let gst::MessageView::Error(error) = message.view() else { return None };
            let details = error.details().unwrap_or_else(|| panic!("{error:?} has no details"));
            Some((error.error(), details.to_owned()))
        })
    }

    /// Returns the messages that are on the bus now.
    pub fn messages(&self) -> Vec<gst::Message> {
        std::iter::from_fn(|| self.bus.pop()).collect()
    }

    /// Returns the statistics of each destination.
    pub fn all_stats(&self) -> Vec<gst::Structure> {
        let stats = self.sink.property::<gst::Structure>("stats");
        let destinations = stats.get::<gst::Array>("destinations").unwrap();
        destinations.iter().map(|stats| stats.get::<gst::Structure>().unwrap()).collect()
    }

    /// Returns the messages of the next `time`.
    pub fn messages_within(&self, time: Duration) -> Vec<gst::Message> {
        let first = self.bus.timed_pop(gst::ClockTime::from_mseconds(u64::try_from(time.as_millis()).unwrap()));
        first.into_iter().chain(std::iter::from_fn(|| self.bus.pop())).collect()
    }

    /// Returns the statistics of the only destination.
    pub fn destination_stats(&self) -> gst::Structure {
        self.all_stats().into_iter().next().unwrap()
    }

    /// Returns a counter of the destination with this index.
    pub fn count(&self, index: usize, field: &str) -> u64 {
        self.all_stats()[index].get::<u64>(field).unwrap()
    }

    /// Returns the state of the destination with this index.
    pub fn state_of(&self, index: usize) -> String {
        self.all_stats()[index].get::<String>("state").unwrap()
    }

    /// Returns the destination with this index, as a child of the element.
    pub fn child(&self, index: u32) -> glib::Object {
        self.sink.dynamic_cast_ref::<gst::ChildProxy>().unwrap().child_by_index(index).unwrap()
    }

    pub fn stop(&self) {
        self.pipeline.set_state(gst::State::Null).unwrap();
    }
}

/// Creates a playing pipeline that pushes what the test passes to it to several servers, without waiting for
/// timestamps.
pub fn pushing_to(peers: &[Peer], properties: &str) -> (Pushing, gst::Element) {
    let locations = peers.iter().map(Peer::location).collect::<Vec<_>>().join(",");
    let (pushing, source) = Pushing::with_feed_source(&format!("sync=false locations=\"{locations}\" {properties}"));
    pushing.play();
    (pushing, source)
}

/// The same with one server.
pub fn pushing_to_one(properties: &str) -> (Peer, Pushing, gst::Element) {
    let peer = Peer::new();
    let (pushing, source) = Pushing::with_feed_source(&format!("location={} sync=false {properties}", peer.location()));
    pushing.play();
    (peer, pushing, source)
}

impl Drop for Pushing {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

pub fn status(message: &gst::Message) -> Option<gst::Structure> {
    let structure = message.structure()?;
    (structure.name() == "asfpushsink-status").then(|| structure.to_owned())
}

pub fn status_nick(status: &gst::Structure) -> String {
    let value = status.value("status").unwrap();
    glib::EnumValue::from_value(value).unwrap().1.nick().to_owned()
}

/// Passes bytes to a source of [`Pushing::by_hand`].
pub fn push_bytes(source: &gst::Element, bytes: impl AsRef<[u8]> + Send + 'static) {
    let flow = source.emit_by_name::<gst::FlowReturn>("push-buffer", &[&gst::Buffer::from_slice(bytes)]);
    assert_eq!(flow, gst::FlowReturn::Ok);
}

pub fn end(source: &gst::Element) {
    let flow = source.emit_by_name::<gst::FlowReturn>("end-of-stream", &[]);
    assert_eq!(flow, gst::FlowReturn::Ok);
}

/// Passes a header and 40 packets to such a source, one every 100 ms, and then EOS.
pub fn push_for_four_seconds(source: &gst::Element) {
    push_bytes(source, media::stream(1, 40));
    for n in 1..40 {
        std::thread::sleep(Duration::from_millis(100));
        push_bytes(source, media::packet(n, 40));
    }
    end(source);
}

/// Waits until `condition` holds.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns a folder that contains only the plugin built with this test. The one in cargo's output folder is as old as
/// the last `cargo build`.
pub fn plugin_folder() -> PathBuf {
    let built = std::env::current_exe().unwrap().with_file_name("libgstasfpush.so");
    assert!(built.exists(), "{} was not built with the tests", built.display());
    let folder = built.ancestors().nth(2).unwrap().join("plugin-of-the-tests");
    fs::create_dir_all(&folder).unwrap();
    let plugin = folder.join("libgstasfpush.so");
    // A copied target folder contains a link to the original.
    if fs::read_link(&plugin).is_ok_and(|target| target != built) {
        let _ = fs::remove_file(&plugin);
    }
    match symlink(&built, plugin) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => panic!("{error}"),
        Ok(()) | Err(_) => folder,
    }
}

/// Returns gst-launch-1.0 with that plugin.
pub fn gst_launch() -> Command {
    with_plugin(Command::new("gst-launch-1.0"))
}

/// Returns ges-launch-1.0 with that plugin. It is killed after two minutes.
pub fn ges_launch() -> Command {
    let mut command = with_plugin(Command::new("timeout"));
    command.args(["--kill-after=1", "120", "ges-launch-1.0"]);
    command
}

fn with_plugin(mut command: Command) -> Command {
    let plugin = plugin_folder();
    command.env("GST_PLUGIN_PATH", &plugin).env("GST_REGISTRY", plugin.join("registry.bin"));
    command
}
