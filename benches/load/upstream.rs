//! Drives a sink without upstream elements, by calling its chain function directly.

use std::time::Duration;

use gst::prelude::*;

/// The sink, its pipeline, and the pad that pushes to it.
pub struct Upstream {
    pipeline: gst::Pipeline,
    pad: gst::Pad,
    pub sink: gst::Element,
}

impl Upstream {
    /// Creates and plays a sink from its gst-launch-1.0 description. GStreamer must be initialized. `live` is what
    /// upstream reports in a latency query.
    pub fn to(sink: &str, live: bool) -> Self {
        let sink = gst::parse::launch(sink).unwrap();
        let pipeline = gst::Pipeline::new();
        pipeline.add(&sink).unwrap();
        let pad = gst::Pad::builder(gst::PadDirection::Src)
            .query_function(move |pad, parent, query| {
                if let gst::QueryViewMut::Latency(latency) = query.view_mut() {
                    latency.set(live, gst::ClockTime::ZERO, gst::ClockTime::NONE);
                    return true;
                }
                gst::Pad::query_default(pad, parent, query)
            })
            .build();
        pad.link(&sink.static_pad("sink").unwrap()).unwrap();
        pad.set_active(true).unwrap();
        pad.push_event(gst::event::StreamStart::new("measured"));
        pad.push_event(gst::event::Caps::new(&gst::Caps::new_empty_simple("video/x-ms-asf")));
        pad.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
        pipeline.set_state(gst::State::Playing).unwrap();
        Self { pipeline, pad, sink }
    }

    pub fn push(&self, buffer: gst::Buffer) {
        self.pad.push(buffer).unwrap();
    }

    /// Waits until data flows.
    pub fn wait_until_connected(&self) {
        while !self.sink.property::<bool>("connected") {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
