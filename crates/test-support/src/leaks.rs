//! Makes a test program fail if objects of GStreamer are still alive when it exits. They are counted by GStreamer's own
//! leaks tracer.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use gst::prelude::*;

/// Environment variable with the whole number of seconds to wait for objects that other threads release.
pub const TIMEOUT_VARIABLE: &str = "LEAKS_PATIENCE";

static TRACER: OnceLock<gst::Object> = OnceLock::new();
/// The tracer's output since it was last queried.
static OUTPUT: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Starts counting objects.
pub fn watch() {
    let factories = gst::TracerFactory::factories();
    let factory = factories.iter().find(|factory| factory.name() == "leaks").expect("GStreamer's core tracers");
    let factory = factory.clone().load().unwrap().downcast::<gst::TracerFactory>().unwrap();
    let tracer = glib::Object::with_type(factory.tracer_type()).downcast().unwrap();
    TRACER.set(tracer).expect("one watch");
    #[expect(unsafe_code, reason = "a test program's exit has no other hook")]
    // SAFETY: the function belongs to this program and does not unwind.
    let refused = unsafe { nix::libc::atexit(at_exit) };
    assert_eq!(refused, 0);
}

fn output() -> MutexGuard<'static, Vec<String>> {
    OUTPUT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Objects that other code leaks: the type of that code, the types of the objects, and why.
const KNOWN_LEAKS: [(&str, &[&str], &str); 4] = [
    (
        "GstAsfMux",
        &["GstBuffer", "GstMemory"],
        "asfmux does not release data queued for its next packet when it is stopped",
    ),
    (
        "avmux_asf",
        &["avmux_asf", "GstPad", "GstCollectPads"],
        "it keeps a reference to itself, and thus to its children",
    ),
    ("GstPlaySink", &["GstVolume", "GstPad"], "playbin keeps its volume element if the sink has none"),
    ("GstTypeFindElement", &["GstCaps"], "constants of typefind functions, created on first use"),
];

/// Addresses of the children named in a pipeline description: GStreamer 1.22 never releases them.
static LEAKED_BY_PARSER: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Records that the parser of pipeline descriptions has set a property of this child.
pub fn leaked_by_parser(child: &glib::Object) {
    LEAKED_BY_PARSER.lock().unwrap().push(format!("{:p}", child.as_ptr()));
}

/// Returns whether code that runs in this program is known to leak such objects.
fn is_known_leak(type_name: &str) -> bool {
    KNOWN_LEAKS.iter().any(|(whose, types, _)| types.contains(&type_name) && glib::Type::from_name(*whose).is_some())
}

/// Returns the live objects as described by the tracer. It returns the objects themselves too, but without a reference.
fn alive() -> Vec<String> {
    let Some(tracer) = TRACER.get() else { return Vec::new() };
    output().clear();
    tracer.emit_by_name::<()>("log-live-objects", &[]);
    std::mem::take(&mut *output())
}

/// Returns whether an object of this type belongs to GStreamer's registry, which is never released.
fn is_of_registry(type_name: &str) -> bool {
    let registered = [gst::PluginFeature::static_type(), gst::Plugin::static_type()];
    glib::Type::from_name(type_name).is_some_and(|of| registered.iter().any(|registered| of.is_a(*registered)))
}

/// Returns the text after `name` in a line of the tracer.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split_once(name)?.1.split(',').next()
}

fn collect_output() {
    // The tests no longer read the log at this point.
    gst::log::remove_default_log_function();
    if let Some(category) = gst::DebugCategory::get("GST_TRACER") {
        category.set_threshold(gst::DebugLevel::Trace);
    }
    let leaked_by_parser = std::mem::take(&mut *LEAKED_BY_PARSER.lock().unwrap());
    gst::log::add_log_function(move |category, _, _, _, _, _, message| {
        let text = message.get().map(|text| text.to_string()).unwrap_or_default();
        if category.name() != "GST_TRACER" {
            return;
        }
        let Some(type_name) = field(&text, "object-alive, type-name=(string)") else { return };
        let address = field(&text, "address=(gpointer)").unwrap_or_default();
        let is_expected =
            is_of_registry(type_name) || is_known_leak(type_name) || leaked_by_parser.iter().any(|of| of == address);
        if !is_expected {
            output().push(text);
        }
    });
}

extern "C" fn at_exit() {
    collect_output();
    let timeout = std::env::var(TIMEOUT_VARIABLE).map_or(30, |seconds| seconds.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(timeout);
    let mut left = alive();
    while !left.is_empty() && Instant::now() < until {
        sleep(Duration::from_millis(20));
        left = alive();
    }
    if !left.is_empty() {
        eprintln!("{} GStreamer objects leaked:\n{}", left.len(), left.join("\n"));
        #[expect(unsafe_code, reason = "an exit within an exit")]
        // SAFETY: no code of this program runs afterwards.
        unsafe {
            nix::libc::_exit(101)
        }
    }
}
