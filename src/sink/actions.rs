//! The element's signals, and what its action signals do.

use glib::subclass::signal::{Signal, SignalBuilder, SignalType};
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::AsfPushSink;
use super::credentials;
use super::destination::Destination;
use super::enums::Status;
use super::location;
use super::stats;
use crate::publish::Command;

/// All signals; actions are marked as such.
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
                let location = args.get(1)?.get::<Option<String>>().ok().flatten();
                let options = args.get(2)?.get::<Option<gst::Structure>>().ok().flatten();
                Some(element.add(location.as_deref(), options.as_deref()).to_value())
            })
            .build(),
        action("remove", [String::static_type()])
            .return_type::<bool>()
            .class_handler(|args| on_one(args, |element, name| element.remove(name)))
            .build(),
        action("clear", [])
            .class_handler(|args| {
                let element = args.first()?.get::<AsfPushSink>().ok()?;
                for name in element.names() {
                    element.remove(&name);
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

fn action(name: &str, params: impl IntoIterator<Item = glib::Type>) -> SignalBuilder {
    let params: Vec<SignalType> = params.into_iter().map(Into::into).collect();
    Signal::builder(name).param_types(params).action()
}

fn on_one(args: &[glib::Value], act: impl Fn(&AsfPushSink, &str) -> bool) -> Option<glib::Value> {
    let element = args.first()?.get::<AsfPushSink>().ok()?;
    let name = args.get(1)?.get::<Option<String>>().ok().flatten();
    Some(name.is_some_and(|name| act(&element, &name)).to_value())
}

/// An action on the destination named, or on all where the name is NULL; true where one was asked.
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

impl AsfPushSink {
    /// Adds a destination at any time; `None` where it cannot be pushed to, which a WARNING tells.
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
                gst::element_warning!(self, gst::ResourceError::Settings, ("a destination has no {name} of this type"));
            }
        }
        let (settings, publisher) = {
            let shared = self.imp().shared();
            (shared.settings.clone(), shared.publisher.clone())
        };
        if let Some(publisher) = publisher
            && let Err(text) = self.imp().push_to(&publisher, &settings, &destination)
        {
            gst::element_warning!(self, gst::ResourceError::Failed, ("{text}"));
            self.remove(&destination.name());
            return None;
        }
        self.emit_by_name::<()>("destination-added", &[&destination]);
        self.notify("num-destinations");
        Some(destination)
    }

    /// Takes a destination out, named by its name or its location; false where there is none.
    fn remove(&self, name: &str) -> bool {
        let (destination, publisher) = {
            let mut shared = self.imp().shared();
            let (location, _) = location::without_login(name);
            let is_it = |destination: &Destination| destination.name() == name || destination.location() == location;
            let Some(index) = shared.destinations.iter().position(is_it) else { return false };
            (shared.destinations.remove(index), shared.publisher.clone())
        };
        if let Some(publisher) = publisher {
            publisher.remove(&destination.name());
        }
        self.child_removed(&destination, &destination.name());
        self.emit_by_name::<()>("destination-removed", &[&destination]);
        self.notify("num-destinations");
        true
    }

    fn names(&self) -> Vec<String> {
        self.imp().shared().destinations.iter().map(|destination| destination.name().to_string()).collect()
    }

    fn stats_of(&self, name: &str) -> Option<gst::Structure> {
        let publisher = self.imp().shared().publisher.clone()?;
        publisher.stats().iter().find(|stats| stats.name == name).map(stats::destination)
    }
}
