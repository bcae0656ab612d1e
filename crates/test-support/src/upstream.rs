//! A live upstream controlled by a test: it calls the element's chain function directly and measures how long that
//! takes.

use std::time::{Duration, Instant};

use gst::prelude::*;

pub struct Upstream {
    pad: gst::Pad,
}

impl Upstream {
    /// Links to the element's pad, replacing any previous upstream.
    pub fn live(sink: &gst::Element) -> Self {
        let pad = gst::Pad::builder(gst::PadDirection::Src)
            .query_function(|pad, parent, query| {
                if let gst::QueryViewMut::Latency(latency) = query.view_mut() {
                    latency.set(true, gst::ClockTime::ZERO, gst::ClockTime::NONE);
                    return true;
                }
                gst::Pad::query_default(pad, parent, query)
            })
            .build();
        let into = sink.static_pad("sink").unwrap();
        if let Some(before) = into.peer() {
            before.unlink(&into).unwrap();
        }
        pad.link(&into).unwrap();
        pad.set_active(true).unwrap();
        // The events stay on the pad if the sink does not run yet.
        pad.push_event(gst::event::StreamStart::new("live"));
        pad.push_event(gst::event::Caps::new(&gst::Caps::new_empty_simple("video/x-ms-asf")));
        pad.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
        Self { pad }
    }

    /// Pushes a buffer, and returns the result and how long that took.
    pub fn push(&self, bytes: Vec<u8>) -> (Result<gst::FlowSuccess, gst::FlowError>, Duration) {
        let buffer = gst::Buffer::from_slice(bytes);
        let begun = Instant::now();
        let flow = self.pad.push(buffer);
        (flow, begun.elapsed())
    }

    pub fn event(&self, event: gst::Event) {
        self.pad.push_event(event);
    }

    /// Pushes EOS; returns when the element has drained.
    pub fn end(&self) {
        self.pad.push_event(gst::event::Eos::new());
    }
}
