//! The signal `request-credentials`, which asks the application for credentials when a server or proxy requires them.

use std::ops::ControlFlow;

use glib::subclass::signal::Signal;
use gst::prelude::*;

use super::AsfPushSink;
use super::destination::Destination;
use wmhttp::auth::{CredentialRequest, Credentials, Target};

/// The signal's name.
const NAME: &str = "request-credentials";

/// Defines the signal. Its arguments are the destination and the request; the first answer that is not NULL is used.
pub(super) fn signal() -> Signal {
    Signal::builder(NAME)
        .param_types([Destination::static_type(), gst::Structure::static_type()])
        .return_type::<Option<gst::Structure>>()
        .accumulator(|_hint, _so_far, answer| match answer.get::<Option<gst::Structure>>() {
            Ok(Some(_)) => ControlFlow::Break(answer.clone()),
            Ok(None) | Err(_) => ControlFlow::Continue(answer.clone()),
        })
        .build()
}

/// Emits the signal, with no lock held.
pub(super) fn ask(
    element: &AsfPushSink,
    destination: &Destination,
    question: &CredentialRequest,
) -> Option<Credentials> {
    let answer = element.emit_by_name::<Option<gst::Structure>>(NAME, &[destination, &structure(question)])?;
    let text = |field| answer.get::<Option<String>>(field).ok().flatten();
    let credentials = text("user-id").zip(text("user-pw"));
    if credentials.is_none() {
        gst::warning!(
            super::CAT,
            obj = element,
            "the structure returned by {NAME} is ignored, because it lacks user-id or user-pw"
        );
    }
    credentials.map(|(user, password)| Credentials::new(user, password))
}

/// The signal's second argument.
fn structure(question: &CredentialRequest) -> gst::Structure {
    gst::Structure::builder("asfpushsink-credentials")
        .field("realm", &question.realm)
        .field("site", &question.site)
        .field("scheme", question.scheme.name())
        .field("proxy", question.target == Target::Proxy)
        .field("clear-text", question.clear_text)
        .field("attempt", question.attempt)
        .field("user-id", &question.user)
        .build()
}
