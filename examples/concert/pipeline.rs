//! The pipeline, and operations on its publishing points while it plays.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use gst::prelude::*;

use crate::report::{self, Report, Row};

/// A test picture and its sound, encoded as they come. `scripts/install-deps demo` installs all its elements.
/// libav adds 1000 hours to the times of the picture; `single-segment` takes them off again.
const ENCODER: &str = "avmux_asf name=mux ! asfpushsink name=push \
    videotestsrc is-live=true horizontal-speed=2 ! video/x-raw,width=640,height=360,framerate=25/1 \
    ! videoconvert ! avenc_wmv2 bitrate=800000 gop-size=25 ! identity single-segment=true ! queue ! mux. \
    audiotestsrc is-live=true wave=ticks ! audio/x-raw,rate=44100,channels=2 \
    ! audioconvert ! avenc_wmav2 bitrate=96000 ! queue ! mux.";
const FILE: &str = "filesrc name=file ! asfpushsink name=push";
/// Interval between two statistics messages, in milliseconds.
const STATS_INTERVAL: u32 = 1000;

/// A stream that is pushed to one or more publishing points.
pub(crate) struct Concert {
    pipeline: gst::Pipeline,
    push: gst::Element,
    bus: gst::Bus,
}

impl Concert {
    /// Creates a stream from `file`, or from a test picture with sound.
    ///
    /// # Errors
    /// If an element is not installed.
    pub(crate) fn new(locations: &[String], file: Option<&Path>) -> Result<Self, Box<dyn Error>> {
        let description = if file.is_some() { FILE } else { ENCODER };
        let pipeline = gst::parse::launch(description).map_err(|error| {
            let remedy = "install the Debian packages gstreamer1.0-plugins-base and gstreamer1.0-libav";
            format!("cannot create the pipeline: {}; {remedy}", error.message())
        })?;
        let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| "the description is not a pipeline")?;
        if let Some(file) = file {
            file.metadata().map_err(|error| format!("cannot read {}: {error}", file.display()))?;
            pipeline.by_name("file").ok_or("the pipeline has no filesrc")?.set_property("location", file);
        }
        let push = pipeline.by_name("push").ok_or("the pipeline has no asfpushsink")?;
        push.set_property("locations", locations.join(" "));
        push.set_property("stats-update-interval", STATS_INTERVAL);
        let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
        Ok(Self { pipeline, push, bus })
    }

    /// Continues even if all publishing points have failed permanently.
    pub(crate) fn survive_failures(&self) {
        self.push.set_property_from_str("on-error", "never");
    }

    /// Starts the push. Connections are made in the background; the bus reports their progress.
    ///
    /// # Errors
    /// If the element rejects a location.
    pub(crate) fn begin(&self) -> Result<(), Box<dyn Error>> {
        if let Err(failed) = self.pipeline.set_state(gst::State::Playing) {
            let error = self.bus.pop_filtered(&[gst::MessageType::Error]).and_then(|message| Report::of(&message));
            return Err(match error {
                Some(Report::Failed(text)) => text.into(),
                Some(Report::Rows(_) | Report::Line(_) | Report::Ended) | None => failed.into(),
            });
        }
        Ok(())
    }

    /// Returns the next event from the bus, if any arrives within `wait`.
    pub(crate) fn report(&self, wait: Duration) -> Option<Report> {
        let mut wait = gst::ClockTime::try_from(wait).ok();
        loop {
            let message = self.bus.timed_pop(wait)?;
            wait = Some(gst::ClockTime::ZERO);
            if let Some(report) = Report::of(&message) {
                return Some(report);
            }
        }
    }

    /// Returns the current counters.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let stats = self.push.property::<gst::Structure>("stats");
        report::rows(&stats).unwrap_or_default()
    }

    /// Adds a publishing point. If it is invalid, the element posts a WARNING.
    pub(crate) fn add(&self, location: &str) {
        self.push.emit_by_name::<Option<gst::Object>>("add", &[&location, &None::<gst::Structure>]);
    }

    /// Removes a publishing point after its queued packets and the end of the stream were sent.
    pub(crate) fn remove(&self, name: &str) {
        self.push.emit_by_name::<bool>("remove", &[&name, &true]);
    }

    /// `disconnect`, `reconnect` or `end-session`.
    pub(crate) fn act(&self, action: &str, name: &str) {
        self.push.emit_by_name::<bool>(action, &[&name]);
    }

    /// Ends the stream. [`Report::Ended`] follows when all publishing points have been notified.
    pub(crate) fn end(&self) {
        self.pipeline.send_event(gst::event::Eos::new());
    }
}

impl Drop for Concert {
    fn drop(&mut self) {
        // The state change fails only if an element is broken, and nothing can be done about it here.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
