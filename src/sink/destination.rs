//! A destination as applications see it.

use std::sync::{Mutex, PoisonError};

use gst::prelude::*;
use gst::subclass::prelude::*;

/// What the `status` signal names: a GstObject with the destination's name and location.
#[derive(Default, glib::Properties)]
#[properties(wrapper_type = Destination)]
pub struct DestinationImp {
    #[property(get, nick = "Location", blurb = "The publishing point's URL, without credentials")]
    location: Mutex<String>,
    #[property(get, nick = "State", blurb = "Where the push to this publishing point stands")]
    state: Mutex<String>,
}

#[glib::object_subclass]
impl ObjectSubclass for DestinationImp {
    const NAME: &'static str = "GstAsfPushDestination";
    type Type = Destination;
    type ParentType = gst::Object;
}

#[glib::derived_properties]
impl ObjectImpl for DestinationImp {}
impl GstObjectImpl for DestinationImp {}

glib::wrapper! {
    /// One publishing point of the element.
    pub struct Destination(ObjectSubclass<DestinationImp>) @extends gst::Object;
}

impl Destination {
    pub(super) fn new(name: &str, location: &str) -> Self {
        let destination: Self = glib::Object::builder().property("name", name).build();
        let own = destination.imp();
        location.clone_into(&mut own.location.lock().unwrap_or_else(PoisonError::into_inner));
        "idle".clone_into(&mut own.state.lock().unwrap_or_else(PoisonError::into_inner));
        destination
    }

    /// Sets where the push stands and tells those who listen.
    pub(super) fn set_state(&self, state: &str) {
        state.clone_into(&mut self.imp().state.lock().unwrap_or_else(PoisonError::into_inner));
        self.notify_state();
    }
}
