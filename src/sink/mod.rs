//! The element `asfpushsink`.
//!
//! `imp` implements the virtual methods of GstBaseSink, `imp::streaming` processes the stream in the streaming thread,
//! `allocation` answers allocation queries, `actions` implements signals and actions, `properties` is the table of all
//! properties, `bus` converts a destination's events to bus messages and signals, `post_guard` stops those at the end
//! of a push, `credentials` requests credentials from the application, and `pacing` computes when a packet is due.

/**
 * SECTION:element-asfpushsink
 * @title: asfpushsink
 * @short_description: pushes live Windows Media (ASF) to publishing points
 *
 * Pushes to one or several publishing points by [MS-WMHTTP], with reconnection, redirects, proxies, TLS and
 * authentication. Each step is reported by an element message and by #GstAsfPushSink::status.
 *
 * ## Example pipelines
 * |[
 * gst-launch-1.0 filesrc location=concert.wmv ! asfpushsink location=http://localhost:8080/concert
 * ]| Pushes a file in real time.
 * |[
 * gst-launch-1.0 videotestsrc num-buffers=100 ! avenc_wmv2 ! identity single-segment=true ! asfmux streamable=true ! tee name=copies ! queue ! asfpushsink location=http://localhost:8080/concert sync=false copies. ! queue ! filesink location=copy.asf
 * ]| Keeps a copy.
 */
mod actions;
mod allocation;
mod bus;
mod credentials;
mod destination;
mod enums;
mod imp;
mod location;
mod pacing;
mod post_guard;
mod properties;
mod proxy;
mod settings;
mod stats;

use std::sync::LazyLock;

use gst::prelude::*;

pub(crate) static CAT: LazyLock<gst::DebugCategory> =
    LazyLock::new(|| gst::DebugCategory::new("asfpushsink", gst::DebugColorFlags::empty(), Some("ASF push sink")));

glib::wrapper! {
    /// The element `asfpushsink`.
    pub struct AsfPushSink(ObjectSubclass<imp::AsfPushSink>)
        @extends gst_base::BaseSink, gst::Element, gst::Object,
        @implements gst::URIHandler, gst::ChildProxy;
}

/// Registers the element and its types.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    enums::register();
    destination::Destination::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    gst::Element::register(Some(plugin), "asfpushsink", gst::Rank::NONE, AsfPushSink::static_type())
}
