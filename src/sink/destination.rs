//! A destination as seen by applications: a child of the element, which can override the element's settings.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use gst::prelude::*;
use gst::subclass::prelude::*;
use url::Url;

use super::AsfPushSink;
use super::enums::DestinationState;
use super::location::{self, LocationError};
use super::properties::{DESTINATION_PROPERTIES, Property};
use super::settings::Settings;
use asfpush_client::publish::status::State;
use wmhttp::auth::Login;

/// One publishing point: its own values of the element's properties, and its connection state.
#[derive(Default)]
pub struct DestinationImp {
    inner: Mutex<Inner>,
}

/// What posts the messages about a destination during a push.
pub(super) trait Announce: Send + Sync {
    /// Posts the START of a step that began before PLAYING. Called on the I/O thread, like events, so that the START
    /// precedes the step's result.
    fn announce(&self);
}

/// The data of a destination.
struct Inner {
    element: Option<Arc<glib::WeakRef<AsfPushSink>>>,
    /// As set by the user, but without credentials.
    location: String,
    /// The parsed location. It is parsed once, because parsing takes long with thousands of destinations.
    url: Result<Url, LocationError>,
    /// Whether the user name and password came from the location.
    has_login: bool,
    state: DestinationState,
    /// Posts messages for the current push.
    reporter: Option<Weak<dyn Announce>>,
    /// The destination's own values, …
    values: Settings,
    /// … and which of them were set.
    overrides: BTreeSet<&'static str>,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            element: None,
            location: String::new(),
            url: Err(LocationError::Missing),
            has_login: false,
            state: DestinationState::default(),
            reporter: None,
            values: Settings::default(),
            overrides: BTreeSet::new(),
        }
    }
}

impl Inner {
    /// Sets the location and the credentials in it. Credentials from the previous location are removed.
    fn set_location(&mut self, text: &str) {
        let location::Parts { location, url, login } = location::split_credentials(text);
        self.location = location;
        self.url = url;
        let has_login = login != Login::default();
        if has_login {
            self.overrides.extend(LOGIN_PROPERTIES);
        } else if self.has_login {
            self.overrides.retain(|name| !LOGIN_PROPERTIES.contains(name));
        }
        if has_login || self.has_login {
            self.values.login = login;
        }
        self.has_login = has_login;
    }
}

/// The properties that the credentials in a location set.
const LOGIN_PROPERTIES: [&str; 2] = ["user-id", "user-pw"];

#[glib::object_subclass]
impl ObjectSubclass for DestinationImp {
    const NAME: &'static str = "GstAsfPushDestination";
    type Type = Destination;
    type ParentType = gst::Object;
}

impl ObjectImpl for DestinationImp {
    fn properties() -> &'static [glib::ParamSpec] {
        static SPECS: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let location = glib::ParamSpecString::builder("location")
                .nick("Location")
                .blurb("URL of the publishing point (credentials in it cannot be read back); a new value applies to the next connection")
                .readwrite()
                .mutable_playing();
            let state = glib::ParamSpecEnum::builder::<DestinationState>("state")
                .nick("State")
                .blurb("Current connection state")
                .read_only();
            let stats = glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                .nick("Statistics")
                .blurb("Statistics of this publishing point")
                .read_only();
            let text =
                |name, nick, blurb| glib::ParamSpecString::builder(name).nick(nick).blurb(blurb).read_only().build();
            let retries = glib::ParamSpecUInt::builder("retry-count")
                .nick("Retry count")
                .blurb("Number of consecutive failed attempts")
                .read_only();
            let own_specs = [
                location.build(),
                state.build(),
                stats.build(),
                text("effective-location", "Effective location", "URL of the last request, after redirects"),
                text("server", "Server", "Server header of the server's responses"),
                text("last-error", "Last error", "Last failure, with its cause and what to do about it"),
                retries.build(),
            ];
            own_specs.into_iter().chain(DESTINATION_PROPERTIES.iter().map(|property| property.spec.clone())).collect()
        });
        SPECS.as_ref()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        if pspec.name() == "location" {
            self.set_location(value.get().ok().flatten());
            return;
        }
        let Some(property) = property(pspec.name()) else { return };
        let name = property.spec.name();
        // The lock is released before each call that may post a message or notify, because handlers may read
        // properties.
        let outcome = (property.set)(&mut self.inner().values, value);
        self.record_rejection(name, &outcome);
        if outcome.is_err() {
            return;
        }
        let mut inner = self.inner();
        inner.overrides.insert(name);
        inner.has_login &= !LOGIN_PROPERTIES.contains(&name);
        drop(inner);
        if let Some(element) = self.element() {
            element.imp().apply_settings();
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let inner = self.inner();
        match pspec.name() {
            "location" => location::redacted(&inner.location).to_value(),
            "state" => inner.state.to_value(),
            name @ ("stats" | "effective-location" | "server" | "last-error" | "retry-count") => {
                drop(inner);
                self.runtime_property(name)
            }
            name => match property(name).filter(|_| inner.overrides.contains(name)) {
                Some(property) => (property.get)(&inner.values),
                None => {
                    drop(inner);
                    let element = self.element();
                    element.map_or_else(|| pspec.default_value().clone(), |element| element.property_value(name))
                }
            },
        }
    }
}

impl GstObjectImpl for DestinationImp {}

glib::wrapper! {
    /// A publishing point of the element.
    pub struct Destination(ObjectSubclass<DestinationImp>) @extends gst::Object;
}

/// The row of a property that a destination shares with the element.
fn property(name: &str) -> Option<&'static Property> {
    DESTINATION_PROPERTIES.iter().find(|property| property.spec.name() == name)
}

impl DestinationImp {
    /// Changes the location; it applies to the next connection.
    fn set_location(&self, location: Option<&str>) {
        let outcome = location::parse(location).map_err(|bad| bad.to_string());
        self.record_rejection("location", &outcome);
        if outcome.is_err() {
            return;
        }
        self.inner().set_location(location.unwrap_or_default());
        if let Some(element) = self.element() {
            element.imp().apply_settings();
        }
    }

    /// Records a rejected value and posts a WARNING. If no push is in progress, none can start until the value is
    /// corrected.
    fn record_rejection<T>(&self, property: &'static str, outcome: &Result<T, String>) {
        let element = self.element();
        if !element.as_ref().is_some_and(|element| element.imp().is_pushing()) {
            self.inner().values.record_rejection(property, outcome);
        }
        if let (Some(element), Err(why)) = (element, outcome) {
            element.imp().warn_rejected_value(&format!("{}::{property}", self.obj().name()), why);
        }
    }

    /// Returns a property that depends on the push.
    fn runtime_property(&self, name: &str) -> glib::Value {
        let all = self.element().map(|element| element.imp().destination_stats()).unwrap_or_default();
        let stats = all.into_iter().find(|stats| stats.name == self.obj().name()).unwrap_or_default();
        match name {
            "effective-location" => stats.effective_location.to_value(),
            "server" => stats.server.to_value(),
            "last-error" => stats.last_error.as_ref().map(ToString::to_string).to_value(),
            "retry-count" => stats.retry_count.to_value(),
            _ => super::stats::destination(&stats).to_value(),
        }
    }

    /// The element, as long as it exists.
    fn element(&self) -> Option<AsfPushSink> {
        self.inner().element.as_ref()?.upgrade()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Destination {
    pub(super) fn new(element: Arc<glib::WeakRef<AsfPushSink>>, name: &str, location: &str) -> Self {
        let destination: Self = glib::Object::builder().property("name", name).build();
        let mut inner = destination.imp().inner();
        inner.element = Some(element);
        inner.set_location(location);
        drop(inner);
        destination
    }

    /// Returns the location as set by the user, but without credentials.
    pub(super) fn location(&self) -> String {
        self.imp().inner().location.clone()
    }

    /// Returns the location's URL.
    pub(super) fn url(&self) -> Result<Url, LocationError> {
        self.imp().inner().url.clone()
    }

    /// Returns the first property whose last value was rejected, as `dest_N::NAME: REASON`.
    pub(super) fn first_rejection(&self) -> Option<String> {
        let first_rejection = self.imp().inner().values.first_rejection()?;
        Some(format!("{}::{first_rejection}", self.name()))
    }

    /// Returns the element's settings with this destination's own values.
    pub(super) fn settings<'a>(&self, element: &'a Settings) -> Cow<'a, Settings> {
        let inner = self.imp().inner();
        if inner.overrides.is_empty() {
            return Cow::Borrowed(element);
        }
        let mut settings = element.clone();
        for property in DESTINATION_PROPERTIES.iter().filter(|property| inner.overrides.contains(property.spec.name()))
        {
            // The value was accepted when it was set.
            let _ = (property.set)(&mut settings, &(property.get)(&inner.values));
        }
        Cow::Owned(settings)
    }

    pub(super) fn set_reporter(&self, reporter: Weak<dyn Announce>) {
        self.imp().inner().reporter = Some(reporter);
    }

    /// Returns what posts the messages of the current push, if any.
    pub(super) fn reporter(&self) -> Option<Arc<dyn Announce>> {
        self.imp().inner().reporter.as_ref()?.upgrade()
    }

    /// Sets the connection state and notifies the application.
    pub(super) fn set_state(&self, state: State) {
        self.imp().inner().state = state.into();
        self.notify("state");
    }
}
