//! Converts a destination's events and questions to bus messages and signals.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::actions;
use super::credentials;
use super::destination::{Announce, Destination};
use super::enums::Status as StatusEnum;
use super::location;
use super::post_guard::PostGuard;
use super::{AsfPushSink, CAT};
use asfpush_client::publish::DestinationObserver;
use asfpush_client::publish::status::{DestinationEvent, DropReason, State, StateChange, Status};
use wmhttp::Hresult;
use wmhttp::auth::{CredentialRequest, Credentials};
use wmhttp::failure::{Class, Failure};

/// Posts messages for one destination. Called on the I/O thread with no lock held.
pub(super) struct BusReporter {
    element: Arc<glib::WeakRef<AsfPushSink>>,
    destination: Destination,
    post_guard: Arc<PostGuard>,
    /// The step in progress.
    progress: Mutex<Option<OpenStep>>,
    /// Whether a WARNING or ERROR has already mentioned the URL together with the destination's name.
    is_introduced: AtomicBool,
}

/// A step for which PROGRESS messages are posted.
#[derive(Clone, Copy)]
struct OpenStep {
    code: &'static str,
    text: &'static str,
    /// Whether its START was posted. That happens only in PLAYING: applications, including gst-launch-1.0, stay in
    /// PAUSED while a step is open, and PLAYING must not depend on a server's response.
    is_announced: bool,
}

impl DestinationObserver for BusReporter {
    fn report(&self, report: DestinationEvent) {
        self.deliver(report);
    }

    fn has_retry_handler(&self) -> bool {
        self.element.upgrade().is_some_and(|element| actions::has_retry_handler(&element))
    }

    fn should_retry(&self, failure: &Failure) -> bool {
        let Some(element) = self.element.upgrade() else { return false };
        let error = with_failure(gst::Structure::builder("asfpushsink-error"), failure)
            .field("hresult", failure.hresult.0)
            .field("hresult-name", failure.hresult.to_string())
            .build();
        actions::should_retry(&element, &self.destination, &error)
    }

    fn credentials(&self, question: &CredentialRequest) -> Option<Credentials> {
        credentials::ask(&self.element.upgrade()?, &self.destination, question)
    }
}

impl Announce for BusReporter {
    fn announce(&self) {
        let Some(element) = self.element.upgrade() else { return };
        let unannounced = {
            let mut open = self.open_step();
            let unannounced = open.as_mut().filter(|step| !step.is_announced);
            unannounced.map(|step| {
                step.is_announced = true;
                *step
            })
        };
        if let Some(step) = unannounced {
            self.post_progress(&element, gst::ProgressType::Start, step.code, step.text);
        }
    }
}

impl BusReporter {
    pub(super) fn new(
        element: Arc<glib::WeakRef<AsfPushSink>>,
        destination: Destination,
        post_guard: Arc<PostGuard>,
    ) -> Self {
        let is_introduced = AtomicBool::new(false);
        Self { element, destination, post_guard, progress: Mutex::new(None), is_introduced }
    }

    /// Returns the destination's name, the first time with its URL, because `locations` may contain many.
    fn name(&self) -> String {
        if self.is_introduced.swap(true, Ordering::Relaxed) {
            return self.destination.name().to_string();
        }
        self.full_name()
    }

    /// Returns the destination's name with its URL. The report that it has failed for good always has both:
    /// gst-launch-1.0 shows an ERROR only, even if a WARNING came before.
    fn full_name(&self) -> String {
        let name = self.destination.name();
        match location::redacted(&self.destination.location()) {
            Some(location) => format!("{name} ({location})"),
            None => name.to_string(),
        }
    }

    /// The step for which no COMPLETE, CANCELED or ERROR was posted yet.
    fn open_step(&self) -> MutexGuard<'_, Option<OpenStep>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post_progress(&self, element: &AsfPushSink, kind: gst::ProgressType, code: &str, text: &str) {
        self.post(element, gst::message::Progress::builder(kind, code, text).src(element).build());
    }

    /// Posts the messages of an event, and emits its signals.
    fn deliver(&self, report: DestinationEvent) {
        let Some(element) = self.element.upgrade() else { return };
        match report {
            DestinationEvent::StateChange(step) => self.report_state_change(&element, &step),
            DestinationEvent::Notice { destination, text, remedy } => {
                gst::warning!(CAT, obj = element, "{destination}: {text}; {remedy}");
                let details = gst::Structure::builder("asfpushsink-notice")
                    .field("destination", &destination)
                    .field("text", &text)
                    .field("remedy", remedy)
                    .build();
                let text = format!("{}: {text}; {remedy}", self.name());
                self.warn(&element, gst::ResourceError::Failed, &text, details);
            }
            DestinationEvent::KeyFrameWanted { destination } => {
                gst::debug!(CAT, obj = element, "{destination} needs a key frame");
                element.imp().set_key_frame_wanted();
            }
            DestinationEvent::Dropped { destination, reason, packets, sent, dropped } => {
                gst::warning!(
                    CAT,
                    obj = element,
                    "{destination}: {packets} packets dropped ({reason:?}), {dropped} in total, {sent} sent"
                );
                let details = gst::Structure::builder("asfpushsink-dropped")
                    .field("destination", &destination)
                    .field("packets", packets)
                    .field("packets-sent", sent)
                    .field("packets-dropped", dropped)
                    .build();
                let name = self.name();
                let (code, text) = match reason {
                    DropReason::Lag => (
                        gst::ResourceError::TooLazy,
                        format!(
                            "{name}: dropped {packets} data packet(s) because the server was disconnected, refused the \
                             push, or was too slow; check the connection, lower the bit rate, or raise max-size-time \
                             and max-size-bytes"
                        ),
                    ),
                    DropReason::Ended => (
                        gst::ResourceError::Write,
                        format!(
                            "{name}: dropped {packets} data packet(s) that were queued when the push ended; to have all \
                             packets sent, end the stream with EOS and raise eos-timeout"
                        ),
                    ),
                    DropReason::Failed => (
                        gst::ResourceError::Write,
                        format!(
                            "{name}: dropped {packets} data packet(s) that were queued when the push failed permanently; \
                             the failure that follows gives the reason and what to do"
                        ),
                    ),
                };
                self.warn(&element, code, &text, details);
                self.post_guard.post(|| element.imp().post_qos());
            }
        }
    }

    /// Logs a state change, posts its messages, and emits its signals.
    fn report_state_change(&self, element: &AsfPushSink, step: &StateChange) {
        let text = step.failure.as_ref().map(ToString::to_string);
        match &text {
            Some(text) => gst::warning!(CAT, obj = element, "{}: {:?}: {text}", step.destination, step.status),
            None => {
                gst::info!(CAT, obj = element, "{}: {:?}, {}", step.destination, step.status, step.new_state.name())
            }
        }
        self.progress(element, step, text.as_deref());
        let info = details(step);
        let message = gst::message::Element::builder(info.clone()).src(element).build();
        self.post(element, message);
        if step.old_state != step.new_state {
            // After the message, so that an application that waits for the property finds the message on the bus.
            self.destination.set_state(step.new_state);
        }
        element
            .emit_by_name::<()>("status", &[&self.destination, &StatusEnum::from(step.status), &step.hresult.0, &info]);
        // Both properties count the destinations that are streaming.
        if (step.old_state == State::Streaming) != (step.new_state == State::Streaming) {
            element.notify("connected");
            element.notify("num-connected");
        }
        let Some(failure) = &step.failure else { return };
        match step.status {
            Status::ReconnectStart => {
                let wait = step.retry_in.unwrap_or_default().as_millis();
                let Failure { text, remedy, hresult, .. } = failure;
                let text = format!("{}: {text}; {remedy}; trying again in {wait} ms", self.name());
                let debug = format!("{}: {hresult}", step.location);
                self.post_guard.post(|| {
                    gst::element_warning!(element, gst::ResourceError::Write, ("{text}"), ["{debug}"], details: info);
                });
            }
            Status::Error => {
                self.post_guard.post(|| element.imp().destination_failed(&self.full_name(), step, failure, info))
            }
            Status::Opened
            | Status::Locating
            | Status::Connecting
            | Status::Started
            | Status::Stopped
            | Status::Closed
            | Status::SourceSwitch
            | Status::ReconnectEnd => {}
        }
    }

    /// Posts a WARNING, unless the push is over.
    fn warn(&self, element: &AsfPushSink, code: gst::ResourceError, text: &str, details: gst::Structure) {
        self.post_guard.post(|| gst::element_warning!(element, code, ("{text}"), details: details));
    }

    /// Posts a message, unless the push is over.
    fn post(&self, element: &AsfPushSink, message: gst::Message) {
        // A flushing bus rejects messages, which is the application's decision.
        self.post_guard.post(|| drop(element.post_message(message)));
    }

    /// Posts PROGRESS messages. GStreamer's design allows one open step at a time.
    fn progress(&self, element: &AsfPushSink, step: &StateChange, failure: Option<&str>) {
        let post = |kind, code: &str, text: &str| self.post_progress(element, kind, code, text);
        let close = |step: OpenStep, kind, text: &str| {
            if !step.is_announced {
                post(gst::ProgressType::Start, step.code, step.text);
            }
            post(kind, step.code, text);
        };
        let open = self.open_step().take();
        if let Some(failure) = failure {
            if let Some(step) = open {
                close(step, gst::ProgressType::Error, failure);
            }
            return;
        }
        // The step that begins now, if any.
        let next = match step.status {
            Status::Connecting if step.new_state == State::Authenticating => {
                Some(("authenticate", "Authenticating with the server"))
            }
            Status::Locating => Some(("name-lookup", "Looking up the server")),
            Status::Connecting => Some(("connect", "Connecting to the server")),
            Status::Stopped => Some(("disconnect", "Closing the connection")),
            Status::Opened | Status::Started | Status::Closed => None,
            Status::Error | Status::SourceSwitch | Status::ReconnectStart | Status::ReconnectEnd => {
                *self.open_step() = open;
                return;
            }
        };
        if let Some(open) = open {
            let canceled = step.status == Status::Closed && open.code != "disconnect";
            let kind = if canceled { gst::ProgressType::Canceled } else { gst::ProgressType::Complete };
            close(open, kind, step.new_state.name());
        }
        if step.status == Status::Opened {
            post(gst::ProgressType::Start, "request", "Requesting the push session");
            post(gst::ProgressType::Complete, "request", step.new_state.name());
        }
        let is_announced = element.imp().is_playing();
        if let Some((code, text)) = next.filter(|_| is_announced) {
            post(gst::ProgressType::Start, code, text);
        }
        *self.open_step() = next.map(|(code, text)| OpenStep { code, text, is_announced });
    }
}

/// Builds the structure of the `asfpushsink-status` message, which is also the signal's last argument.
fn details(step: &StateChange) -> gst::Structure {
    let mut details = gst::Structure::builder("asfpushsink-status")
        .field("destination", &step.destination)
        .field("location", &step.location)
        .field("status", StatusEnum::from(step.status))
        .field("hresult", step.hresult.0)
        .field("hresult-name", step.hresult.to_string())
        .field("old-state", step.old_state.name())
        .field("new-state", step.new_state.name())
        .field("attempt", step.attempt);
    if let Some(failure) = &step.failure {
        details = with_failure(details, failure);
    }
    if let Some(wait) = step.retry_in {
        details = details.field("retry-in", u32::try_from(wait.as_millis()).unwrap_or(u32::MAX));
    }
    details.build()
}

/// Adds the fields that describe a failure.
fn with_failure(structure: gst::structure::Builder, failure: &Failure) -> gst::structure::Builder {
    structure
        .field("text", &failure.text)
        .field("remedy", failure.remedy)
        .field_if_some("http-status-code", failure.status().map(u32::from))
}

/// Posts the message for a destination that failed permanently: an ERROR if the element fails because of it, otherwise
/// a WARNING. `name` identifies the destination.
pub(super) fn post_failure(
    element: &AsfPushSink,
    name: &str,
    step: &StateChange,
    failure: &Failure,
    details: gst::Structure,
    is_error: bool,
) {
    let Failure { text, remedy, hresult, .. } = failure;
    let text = format!("{name}: {text}; {remedy}");
    let debug = format!("{}: {hresult}", step.location);
    let code = resource_error(failure);
    if is_error {
        gst::element_error!(element, code, ("{text}"), ["{debug}"], details: details);
    } else {
        gst::element_warning!(element, code, ("{text}"), ["{debug}"], details: details);
    }
}

/// Returns GStreamer's code for a failure.
fn resource_error(failure: &Failure) -> gst::ResourceError {
    match failure.class {
        Class::NotAuthorized => gst::ResourceError::NotAuthorized,
        Class::NotFound => gst::ResourceError::NotFound,
        Class::Busy => gst::ResourceError::Busy,
        Class::Settings => gst::ResourceError::Settings,
        Class::Open => gst::ResourceError::OpenWrite,
        Class::Write => gst::ResourceError::Write,
    }
}

/// Builds the details of an ERROR that upstream or a property caused.
pub(super) fn plain_details(hresult: Hresult) -> gst::Structure {
    gst::Structure::builder("asfpushsink-error")
        .field("hresult", hresult.0)
        .field("hresult-name", hresult.to_string())
        .build()
}
