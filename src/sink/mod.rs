//! The element `asfpushsink`.
//!
//! `imp` maps GstBaseSink's hooks onto the stream and its destinations, `streaming` is what the
//! streaming thread does, `allocation` what memory upstream is offered, `actions` what the action signals
//! do, `properties` is the one table of what can be set, `report` turns what destinations tell into bus
//! messages and signals, `voice` ends that with the push, `credentials` asks applications for them, `pacing`
//! says when a packet is due.

mod actions;
mod allocation;
mod credentials;
mod destination;
mod enums;
mod imp;
mod location;
mod pacing;
mod properties;
mod proxy;
mod report;
mod settings;
mod stats;
mod streaming;
mod vfuncs;
mod voice;

use std::sync::LazyLock;

use gst::prelude::*;

pub(crate) static CAT: LazyLock<gst::DebugCategory> =
    LazyLock::new(|| gst::DebugCategory::new("asfpushsink", gst::DebugColorFlags::empty(), Some("ASF push sink")));

glib::wrapper! {
    /// The element.
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
