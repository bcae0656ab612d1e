//! The element's signals, and the implementation of its action signals.

use std::ops::ControlFlow;

use glib::subclass::signal::{Signal, SignalBuilder, SignalId, SignalType};
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::AsfPushSink;
use super::credentials;
use super::destination::Destination;
use super::enums::Status;
use super::location;
use super::stats;
use asfpush_client::publish::Command;

/// Returns all signals, including the action signals.
pub(super) fn signals() -> Vec<Signal> {
    let destination = Destination::static_type();
    vec![
        Signal::builder("status")
            .param_types([destination, Status::static_type(), u32::static_type(), gst::Structure::static_type()])
            .build(),
        credentials::signal(),
        Signal::builder("destination-added").param_types([destination]).build(),
        Signal::builder("destination-removed").param_types([destination]).build(),
        action("add", [String::static_type(), gst::Structure::static_type()])
            .return_type::<Option<Destination>>()
            .class_handler(|args| {
                let element = args.first()?.get::<AsfPushSink>().ok()?;
                let location = args.get(1)?.get::<Option<&str>>().ok().flatten();
                let options = args.get(2)?.get::<Option<gst::Structure>>().ok().flatten();
                Some(element.add(location, options.as_deref()).to_value())
            })
            .build(),
        Signal::builder(SHOULD_RECONNECT)
            .param_types([destination, gst::Structure::static_type()])
            .return_type::<bool>()
            // A single handler that returns false prevents the retry.
            .accumulator(|_, _, answer| {
                let should_continue = answer.get::<bool>().unwrap_or(true);
                if should_continue { ControlFlow::Continue(answer.clone()) } else { ControlFlow::Break(answer.clone()) }
            })
            .build(),
        action("remove", [String::static_type(), bool::static_type()])
            .return_type::<bool>()
            .class_handler(|args| {
                let element = args.first()?.get::<AsfPushSink>().ok()?;
                let name = args.get(1)?.get::<Option<&str>>().ok().flatten();
                let drain = args.get(2)?.get::<bool>().ok()?;
                Some(name.is_some_and(|name| element.remove(name, drain)).to_value())
            })
            .build(),
        action("clear", [])
            .class_handler(|args| {
                let element = args.first()?.get::<AsfPushSink>().ok()?;
                for name in element.names() {
                    element.remove(&name, false);
                }
                None
            })
            .build(),
        action("get-stats", [String::static_type()])
            .return_type::<Option<gst::Structure>>()
            .class_handler(|args| {
                let element = args.first()?.get::<AsfPushSink>().ok()?;
                let name = args.get(1)?.get::<Option<String>>().ok().flatten();
                Some(name.and_then(|name| element.stats_of(&name)).to_value())
            })
            .build(),
        command("end-session", Command::EndSession),
        command("disconnect", Command::Disconnect),
        command("reconnect", Command::Reconnect),
    ]
}

/// An action signal, which applications emit to call the element.
fn action(name: &str, params: impl IntoIterator<Item = glib::Type>) -> SignalBuilder {
    let params: Vec<SignalType> = params.into_iter().map(Into::into).collect();
    Signal::builder(name).param_types(params).action()
}

/// Creates an action signal that sends a command to the destination of this name, or to all if the name is NULL. It
/// returns true if a destination received the command.
fn command(name: &str, command: Command) -> Signal {
    action(name, [String::static_type()])
        .return_type::<bool>()
        .class_handler(move |args| {
            let element = args.first()?.get::<AsfPushSink>().ok()?;
            let name = args.get(1)?.get::<Option<String>>().ok().flatten();
            let publisher = element.imp().shared().publisher.clone();
            Some(publisher.is_some_and(|publisher| publisher.command(name.as_deref(), command)).to_value())
        })
        .build()
}

/// The signal that asks the application whether to retry.
const SHOULD_RECONNECT: &str = "should-reconnect";

/// Returns whether a handler is connected to `should-reconnect`.
pub(super) fn has_retry_handler(element: &AsfPushSink) -> bool {
    SignalId::lookup(SHOULD_RECONNECT, AsfPushSink::static_type())
        .is_some_and(|signal| glib::signal::signal_has_handler_pending(element, signal, None, false))
}

/// Returns the answer of the handlers of `should-reconnect`.
pub(super) fn should_retry(element: &AsfPushSink, destination: &Destination, error: &gst::Structure) -> bool {
    // A handler may have been disconnected meanwhile; without one the answer is yes.
    !has_retry_handler(element) || element.emit_by_name::<bool>(SHOULD_RECONNECT, &[destination, error])
}

impl AsfPushSink {
    /// Adds a destination at any time. Returns `None` and posts a WARNING if the location or an option is invalid.
    fn add(&self, location: Option<&str>, options: Option<&gst::StructureRef>) -> Option<Destination> {
        if let Err(bad) = location::parse(location) {
            gst::element_warning!(self, gst::ResourceError::Settings, ("{bad}"));
            return None;
        }
        let destination = self.imp().new_destination(location?);
        for (name, value) in options.into_iter().flat_map(|options| options.iter()) {
            if destination.find_property(name.as_str()).is_some_and(|spec| spec.value_type() == value.type_()) {
                destination.set_property_from_value(name.as_str(), value);
            } else {
                gst::element_warning!(
                    self,
                    gst::ResourceError::Settings,
                    ("destination option {name} ignored: a destination has no such property, or the value has the wrong type")
                );
            }
        }
        // Copies, because `push_to` takes the lock itself.
        let (settings, publisher) = {
            let shared = self.imp().shared();
            (shared.settings.clone(), shared.publisher.clone())
        };
        // An invalid proxy has prevented the start of the push, so that this cannot fail during one.
        let proxy = settings.proxy.config().unwrap_or_default();
        if let Some(publisher) = publisher
            && let Err(text) = self.imp().push_to(&publisher, &settings, &proxy, std::slice::from_ref(&destination))
        {
            gst::element_warning!(self, gst::ResourceError::Failed, ("{text}"));
            self.remove(&destination.name(), false);
            return None;
        }
        self.notify("num-destinations");
        Some(destination)
    }

    /// Removes the destination with this name or location; returns false if there is none. With `drain`, its queued
    /// packets are sent before the connection closes, within `eos-timeout`.
    fn remove(&self, name: &str, drain: bool) -> bool {
        let (destination, publisher, time) = {
            let mut shared = self.imp().shared();
            let location = location::split_credentials(name).location;
            let is_match = |destination: &Destination| destination.name() == name || destination.location() == location;
            let Some(index) = shared.destinations.iter().position(is_match) else { return false };
            (shared.destinations.remove(index), shared.publisher.clone(), shared.settings.eos_timeout())
        };
        if let Some(publisher) = publisher {
            publisher.remove(&destination.name(), drain.then_some(time));
        }
        self.imp().destination_removed(&destination);
        self.notify("num-destinations");
        true
    }

    /// The names of all destinations.
    fn names(&self) -> Vec<String> {
        self.imp().shared().destinations.iter().map(|destination| destination.name().to_string()).collect()
    }

    /// The statistics of one destination.
    fn stats_of(&self, name: &str) -> Option<gst::Structure> {
        self.imp().destination_stats().iter().find(|stats| stats.name == name).map(stats::destination)
    }
}
