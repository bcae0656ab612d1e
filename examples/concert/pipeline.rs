//! The pipeline, and what can be done to its publishing points while it plays.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use gst::prelude::*;

use crate::told::{self, Row, Told};

/// A test picture and its sound, encoded as they come.
/// libav adds 1000 hours to the times of the picture; `single-segment` takes them off again.
const ENCODER: &str = "asfmux name=mux streamable=true ! asfpushsink name=push \
    videotestsrc is-live=true horizontal-speed=2 ! video/x-raw,width=640,height=360,framerate=25/1 \
    ! videoconvert ! avenc_wmv2 bitrate=800000 gop-size=25 ! identity single-segment=true ! queue ! mux. \
    audiotestsrc is-live=true wave=ticks ! audio/x-raw,rate=44100,channels=2 \
    ! audioconvert ! avenc_wmav2 bitrate=96000 ! queue ! mux.";
const FILE: &str = "filesrc name=file ! asfpushsink name=push";
/// Milliseconds between two statistics.
const STATS_INTERVAL: u32 = 1000;

/// One stream on its way to its publishing points.
pub(crate) struct Concert {
    pipeline: gst::Pipeline,
    push: gst::Element,
    bus: gst::Bus,
}

impl Concert {
    /// A stream from `file`, or from a test picture and its sound.
    ///
    /// # Errors
    /// Where an element is not installed.
    pub(crate) fn new(locations: &[String], file: Option<&Path>) -> Result<Self, Box<dyn Error>> {
        let pipeline = gst::parse::launch(if file.is_some() { FILE } else { ENCODER })?;
        let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| "the description is no pipeline")?;
        if let Some(file) = file {
            pipeline.by_name("file").ok_or("no filesrc")?.set_property("location", file);
        }
        let push = pipeline.by_name("push").ok_or("no asfpushsink")?;
        push.set_property("locations", locations.join(" "));
        push.set_property("stats-update-interval", STATS_INTERVAL);
        let bus = pipeline.bus().ok_or("no bus")?;
        Ok(Self { pipeline, push, bus })
    }

    /// Goes on also when all publishing points have failed for good.
    pub(crate) fn survive_failures(&self) {
        self.push.set_property_from_str("on-error", "never");
    }

    /// Begins to push. Connecting goes on by itself; the bus tells of it.
    ///
    /// # Errors
    /// What the element says of a location that cannot be.
    pub(crate) fn begin(&self) -> Result<(), Box<dyn Error>> {
        if let Err(failed) = self.pipeline.set_state(gst::State::Playing) {
            let error = self.bus.pop_filtered(&[gst::MessageType::Error]).and_then(|message| Told::of(&message));
            return Err(match error {
                Some(Told::Failed(text)) => text.into(),
                Some(Told::Rows(_) | Told::Line(_) | Told::Ended) | None => failed.into(),
            });
        }
        Ok(())
    }

    /// The next thing that the bus tells, where there is one within `wait`.
    pub(crate) fn told(&self, wait: Duration) -> Option<Told> {
        let mut wait = gst::ClockTime::try_from(wait).ok();
        loop {
            let message = self.bus.timed_pop(wait)?;
            wait = Some(gst::ClockTime::ZERO);
            if let Some(told) = Told::of(&message) {
                return Some(told);
            }
        }
    }

    /// The counters as they are now.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let stats = self.push.property::<gst::Structure>("stats");
        told::rows(&stats).unwrap_or_default()
    }

    /// Adds a publishing point; where it cannot be one, a WARNING tells.
    pub(crate) fn add(&self, location: &str) {
        self.push.emit_by_name::<Option<gst::Object>>("add", &[&location, &None::<gst::Structure>]);
    }

    /// Takes a publishing point out, after what waits for it and the end of the stream.
    pub(crate) fn remove(&self, name: &str) {
        self.push.emit_by_name::<bool>("remove", &[&name, &true]);
    }

    /// `disconnect`, `reconnect` or `end-session`.
    pub(crate) fn act(&self, action: &str, name: &str) {
        self.push.emit_by_name::<bool>(action, &[&name]);
    }

    /// Ends the stream; [`Told::Ended`] follows when all have been told.
    pub(crate) fn end(&self) {
        self.pipeline.send_event(gst::event::Eos::new());
    }
}

impl Drop for Concert {
    fn drop(&mut self) {
        // Fails only for elements that are broken, and then there is nothing left to do.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
