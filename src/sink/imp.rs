//! The implementation of GstBaseSink's virtual methods.

mod streaming;
mod vfuncs;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use glib::subclass::Signal;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;

use self::streaming::Stream;
use super::CAT;
use super::actions;
use super::allocation;
use super::bus::{BusReporter, plain_details, post_failure};
use super::destination::Destination;
use super::enums::OnError;
use super::location::{self, LocationError, URI_SCHEME, URI_SCHEMES};
use super::post_guard::PostGuard;
use super::properties::{PROPERTIES, property};
use super::settings::Settings;
use super::stats::{self, Totals, saturating_u32};
use asfpush_client::publish::stats::Stats;
use asfpush_client::publish::status::{State, StateChange};
use asfpush_client::publish::{NewDestination, Publisher};
use asfpush_client::transport::runtime;
use asfpush_client::transport::tls::Tls;
use wmhttp::Hresult;
use wmhttp::auth::Secret;
use wmhttp::failure::Failure;
use wmhttp::proxy::ProxyConfig;

/// Minimum time between QOS messages.
const QOS_INTERVAL: Duration = Duration::from_secs(1);

/// The element's state: the application's settings, and the stream that the streaming thread processes.
#[derive(Default)]
pub struct AsfPushSink {
    shared: Mutex<Shared>,
    /// The streaming thread takes the stream out while it works on it, so that it never holds a lock while waiting.
    /// Boxed, because the memory of a GObject is not aligned as the parser's search requires.
    stream: Mutex<Option<Box<Stream>>>,
    /// A destination needs a key frame, which the streaming thread requests from upstream.
    key_frame_wanted: AtomicBool,
    /// Whether PLAYING was requested, even if it is not reached yet. See [`BusReporter::announce`].
    is_playing: AtomicBool,
    /// When QOS was last posted.
    qos_posted_at: Mutex<Option<Instant>>,
    /// See [`AsfPushSink::weak`].
    weak: OnceLock<Arc<glib::WeakRef<super::AsfPushSink>>>,
}

/// What the application's threads and the streaming thread share. The lock is held for single accesses only, and never
/// while a message is posted, a signal is emitted, or a thread waits.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    /// The publishing points, `dest_0` and so on.
    pub(super) destinations: Vec<Destination>,
    /// Number of the next destination.
    next_number: u32,
    pub(super) publisher: Option<Arc<Publisher>>,
    /// Guards the posts of the current push, or of the last one.
    post_guard: Arc<PostGuard>,
    pub(super) totals: Totals,
    /// The destinations' statistics, kept after the publisher was dropped.
    last_stats: Vec<Stats>,
}

#[glib::object_subclass]
impl ObjectSubclass for AsfPushSink {
    const NAME: &'static str = "GstAsfPushSink";
    type Type = super::AsfPushSink;
    type ParentType = gst_base::BaseSink;
    type Interfaces = (gst::URIHandler, gst::ChildProxy);

    fn class_init(class: &mut Self::Class) {
        vfuncs::install(class);
    }
}

impl ObjectImpl for AsfPushSink {
    fn properties() -> &'static [glib::ParamSpec] {
        static SPECS: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let stats = glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                .nick("Statistics")
                .blurb("Statistics of the element and of each destination")
                .read_only()
                .build();
            let connected = glib::ParamSpecBoolean::builder("connected")
                .nick("Connected")
                .blurb("Whether at least one publishing point is receiving data")
                .read_only()
                .build();
            let number =
                |name, nick, blurb| glib::ParamSpecUInt::builder(name).nick(nick).blurb(blurb).read_only().build();
            let counts = [
                number("num-destinations", "Destinations", "Number of publishing points"),
                number(
                    "num-connected",
                    "Connected destinations",
                    "Number of publishing points that are receiving data",
                ),
            ];
            let table = PROPERTIES.iter().map(|property| property.spec.clone());
            table.chain([stats, connected]).chain(counts).collect()
        });
        SPECS.as_ref()
    }

    fn signals() -> &'static [Signal] {
        static SIGNALS: LazyLock<Vec<Signal>> = LazyLock::new(actions::signals);
        SIGNALS.as_ref()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let Some(property) = property(pspec.name()) else { return };
        let only_ready = !pspec.flags().contains(gst::PARAM_FLAG_MUTABLE_PLAYING);
        let outcome = {
            let mut shared = self.shared();
            let is_pushing = shared.publisher.is_some();
            if only_ready && is_pushing {
                Err("it can be changed only in the states NULL and READY".to_owned())
            } else {
                let outcome = (property.set)(&mut shared.settings, value);
                if !is_pushing {
                    shared.settings.record_rejection(property.spec.name(), &outcome);
                }
                outcome
            }
        };
        if let Err(first_rejection) = outcome {
            self.warn_rejected_value(pspec.name(), &first_rejection);
            return;
        }
        match pspec.name() {
            "location" | "locations" => self.rebuild_destinations(),
            "stats-update-interval" => self.set_ticker(),
            _ => {}
        }
        self.apply_settings();
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "stats" => self.stats().to_value(),
            "connected" => (self.connected() > 0).to_value(),
            "num-connected" => self.connected().to_value(),
            "num-destinations" => saturating_u32(self.shared().destinations.len()).to_value(),
            name => match property(name) {
                Some(property) => (property.get)(&self.shared().settings),
                None => pspec.default_value().clone(),
            },
        }
    }
}

impl GstObjectImpl for AsfPushSink {}

impl ElementImpl for AsfPushSink {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "ASF push sink",
                "Sink/Network",
                "Pushes live ASF to publishing points over the Windows Media HTTP Push Distribution Protocol",
                env!("CARGO_PKG_AUTHORS"),
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = gst::Caps::builder("video/x-ms-asf").build();
            gst::PadTemplate::new("sink", gst::PadDirection::Sink, gst::PadPresence::Always, &caps)
                .into_iter()
                .collect()
        });
        TEMPLATES.as_ref()
    }

    fn change_state(&self, transition: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        // GstBaseSink calls start() already on the change to READY, when the location may still change.
        if transition == gst::StateChange::ReadyToPaused {
            self.start_push(None).inspect_err(|_| self.stop_push())?;
        }
        if transition == gst::StateChange::PlayingToPaused {
            // Before the change, so that no step is announced that would keep applications waiting in PAUSED.
            self.is_playing.store(false, Ordering::SeqCst);
        }
        let result = self.parent_change_state(transition);
        if transition == gst::StateChange::PausedToPlaying && result.is_ok() {
            self.is_playing.store(true, Ordering::SeqCst);
            self.announce_steps();
        }
        if transition == gst::StateChange::PausedToReady
            || (transition == gst::StateChange::ReadyToPaused && result.is_err())
        {
            self.stop_push();
        }
        result
    }
}

impl BaseSinkImpl for AsfPushSink {
    fn unlock(&self) -> Result<(), gst::ErrorMessage> {
        self.interrupt(true);
        Ok(())
    }

    fn unlock_stop(&self) -> Result<(), gst::ErrorMessage> {
        self.interrupt(false);
        Ok(())
    }

    fn set_caps(&self, caps: &gst::Caps) -> Result<(), gst::LoggableError> {
        self.parent_set_caps(caps)?;
        // The parser uses it only if the bytes do not begin with a header.
        if let Some(header) = allocation::stream_header(caps)
            && let Some(stream) = self.stream().as_mut()
        {
            stream.stream_header(header);
        }
        Ok(())
    }

    fn event(&self, event: gst::Event) -> bool {
        let flushed = event.type_() == gst::EventType::FlushStop;
        let ended_stream = self.stream().take_if(|stream| flushed && stream.is_over());
        // A flush after EOS or an error makes the pipeline run again. The old sessions are over, so a new push begins.
        if ended_stream.is_some() {
            self.stop_push();
            if self.start_push(ended_stream).is_err() {
                self.stop_push();
                return false;
            }
        }
        gst::log!(CAT, imp = self, "{event:?}");
        if let Some(stream) = self.stream().as_mut() {
            #[expect(clippy::wildcard_enum_match_arm, reason = "the base class handles the other events")]
            match event.view() {
                gst::EventView::StreamStart(_) => stream.new_stream(event.seqnum()),
                gst::EventView::Segment(segment) => stream.segment(event.seqnum(), segment.segment()),
                gst::EventView::FlushStop(_) => stream.flush(),
                _ => {}
            }
        }
        self.parent_event(event)
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        // A push cannot seek. Muxers that query this then write a header that they need not rewrite.
        if let gst::QueryViewMut::Seeking(seeking) = query.view_mut() {
            let format = seeking.format();
            seeking.set(
                false,
                gst::GenericFormattedValue::none_for_format(format),
                gst::GenericFormattedValue::none_for_format(format),
            );
            return true;
        }
        BaseSinkImplExt::parent_query(self, query)
    }

    fn propose_allocation(&self, query: &mut gst::query::Allocation) -> Result<(), gst::LoggableError> {
        allocation::answer(query);
        self.parent_propose_allocation(query)
    }

    fn render(&self, buffer: &gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let mut stream = self.stream().take().ok_or(gst::FlowError::Flushing)?;
        let result = self.push_buffer(&mut stream, buffer);
        *self.stream() = Some(stream);
        result.map(|()| gst::FlowSuccess::Ok)
    }
}

impl URIHandlerImpl for AsfPushSink {
    const URI_TYPE: gst::URIType = gst::URIType::Sink;

    fn protocols() -> &'static [&'static str] {
        URI_SCHEMES
    }

    fn uri(&self) -> Option<String> {
        let url = location::parse(self.shared().settings.location.as_deref().map(Secret::reveal)).ok()?;
        Some(format!("{URI_SCHEME}{}", url.as_str().strip_prefix("http")?))
    }

    fn set_uri(&self, uri: &str) -> Result<(), glib::Error> {
        if let Err(bad) = location::parse(Some(uri)) {
            return Err(glib::Error::new(gst::URIError::BadUri, &bad.to_string()));
        }
        if self.is_pushing() {
            return Err(glib::Error::new(
                gst::URIError::BadState,
                "the URI can be changed only in the states NULL and READY",
            ));
        }
        self.shared().settings.location = Some(Arc::new(Secret::new(uri)));
        self.rebuild_destinations();
        Ok(())
    }
}

impl AsfPushSink {
    pub(super) fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stream(&self) -> MutexGuard<'_, Option<Box<Stream>>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the element's only weak reference, which all destinations share: GLib keeps the weak references to an
    /// object in a list, and searches that list for each reference that is dropped.
    pub(super) fn weak(&self) -> Arc<glib::WeakRef<super::AsfPushSink>> {
        Arc::clone(self.weak.get_or_init(|| Arc::new(self.obj().downgrade())))
    }

    /// Starts the push, on the change from READY to PAUSED, or after a flush with the old stream as `ended_stream`: the
    /// publisher starts to connect, without waiting.
    fn start_push(&self, ended_stream: Option<Box<Stream>>) -> Result<(), gst::StateChangeError> {
        let settings = self.shared().settings.for_new_push();
        let destinations = self.shared().destinations.clone();
        let reject = |bad: LocationError| {
            self.post_plain_error(gst::ResourceError::Settings, &bad.to_string(), bad.hresult());
            gst::StateChangeError
        };
        if destinations.is_empty() {
            return Err(reject(LocationError::Missing));
        }
        // A rejected property value must not be replaced silently by the old one.
        if let Some(rejection) =
            settings.first_rejection().or_else(|| destinations.iter().find_map(Destination::first_rejection))
        {
            let text = format!("invalid value for property {rejection}");
            self.post_plain_error(gst::ResourceError::Settings, &text, Hresult::INVALID_ARG);
            return Err(gst::StateChangeError);
        }
        // Check all locations before connecting to any of them.
        let mut over_tls = false;
        for destination in &destinations {
            over_tls |= destination.url().map_err(reject)?.scheme() == "https";
        }
        let proxy = settings.proxy.config().map_err(|bad| {
            self.post_plain_error(gst::ResourceError::Settings, &bad.to_string(), Hresult::PROXY_NOT_FOUND);
            gst::StateChangeError
        })?;
        self.prepare_tls(&settings.tls, over_tls)?;
        let publisher = Arc::new(Publisher::new(settings.limits()));
        let destinations = {
            // Before the destinations, which may report an event immediately.
            let mut shared = self.shared();
            shared.post_guard = Arc::default();
            shared.totals = Totals::default();
            shared.publisher = Some(Arc::clone(&publisher));
            // Destinations that were added meanwhile have not been started yet.
            shared.destinations.clone()
        };
        self.push_to(&publisher, &settings, &proxy, &destinations).map_err(|text| {
            self.post_plain_error(gst::ResourceError::Failed, &text, Hresult::FAIL);
            gst::StateChangeError
        })?;
        let stream = match ended_stream {
            Some(ended_stream) => ended_stream.restarted(publisher),
            None => Stream::new(publisher, settings.parser()),
        };
        *self.stream() = Some(Box::new(stream));
        self.set_ticker();
        Ok(())
    }

    /// Reports unusable TLS files before connecting, and warns if verification is disabled.
    fn prepare_tls(&self, tls: &Tls, https: bool) -> Result<(), gst::StateChangeError> {
        if https || tls.has_files() {
            tls.prepare().map_err(|bad| {
                self.post_plain_error(gst::ResourceError::Settings, &bad.to_string(), Hresult::INVALID_ARG);
                gst::StateChangeError
            })?;
        }
        if !tls.options().validate {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Settings,
                ("TLS certificate validation is disabled. Set tls-validation=true; use tls-ca-file to trust a private authority")
            );
        }
        Ok(())
    }

    /// Starts to push to destinations.
    pub(super) fn push_to(
        &self,
        publisher: &Publisher,
        settings: &Settings,
        proxy: &ProxyConfig,
        destinations: &[Destination],
    ) -> Result<(), String> {
        let post_guard = Arc::clone(&self.shared().post_guard);
        let mut prepared = Vec::with_capacity(destinations.len());
        for destination in destinations {
            let url = destination.url().map_err(|bad| bad.to_string())?;
            let observer = Arc::new(BusReporter::new(self.weak(), destination.clone(), Arc::clone(&post_guard)));
            let reporter = Arc::downgrade(&observer);
            destination.set_reporter(reporter);
            let settings = destination.settings(settings).destination(url, proxy);
            prepared.push(NewDestination { name: destination.name().into(), settings, observer });
        }
        publisher.add_all(prepared).map_err(|error| {
            format!("failed to start the I/O thread: {error}. Check the process's limits (ulimit -u, ulimit -n)")
        })
    }

    /// Posts, on reaching PLAYING, the steps that began in PAUSED and are still in progress.
    fn announce_steps(&self) {
        let element = self.weak();
        // This can fail only if there is no push, and then there is no step to announce.
        let _ = runtime::spawn(async move {
            let Some(destinations) = element.upgrade().map(|element| element.imp().shared().destinations.clone())
            else {
                return;
            };
            for reporter in destinations.iter().filter_map(Destination::reporter) {
                reporter.announce();
            }
        });
    }

    /// Whether PLAYING was reached, so that PROGRESS messages may be posted as steps begin.
    pub(super) fn is_playing(&self) -> bool {
        self.is_playing.load(Ordering::SeqCst)
    }

    /// Creates the destinations of `location` and `locations`.
    fn rebuild_destinations(&self) {
        let settings = self.shared().settings.clone();
        let removed = std::mem::take(&mut self.shared().destinations);
        for destination in removed {
            self.destination_removed(&destination);
        }
        self.shared().next_number = 0;
        for location in settings.locations() {
            self.new_destination(location);
        }
        self.obj().notify("num-destinations");
    }

    /// Creates a destination as a child of the element.
    pub(super) fn new_destination(&self, location: &str) -> Destination {
        let mut shared = self.shared();
        let destination = Destination::new(self.weak(), &format!("dest_{}", shared.next_number), location);
        shared.next_number += 1;
        shared.destinations.push(destination.clone());
        drop(shared);
        self.obj().child_added(&destination, &destination.name());
        self.obj().emit_by_name::<()>("destination-added", &[&destination]);
        destination
    }

    /// Notifies the application that a child was removed.
    pub(super) fn destination_removed(&self, destination: &Destination) {
        self.obj().child_removed(destination, &destination.name());
        self.obj().emit_by_name::<()>("destination-removed", &[destination]);
    }

    /// Applies changed settings to the running destinations.
    pub(super) fn apply_settings(&self) {
        let (settings, publisher, destinations) = {
            let shared = self.shared();
            (shared.settings.clone(), shared.publisher.clone(), shared.destinations.clone())
        };
        let Some(publisher) = publisher else { return };
        publisher.set_limits(settings.limits());
        let proxy = settings.proxy.config().unwrap_or_default();
        // A map, because there may be thousands of destinations.
        let by_name: HashMap<_, _> = destinations.iter().map(|destination| (destination.name(), destination)).collect();
        publisher.update(|name, running| {
            if let Some(destination) = by_name.get(name) {
                let url = destination.url().unwrap_or_else(|_| running.session.url.clone());
                *running = destination.settings(&settings).destination(url, &proxy);
            }
        });
    }

    /// Handles a destination that failed permanently; `on-error` decides whether that is an ERROR.
    pub(super) fn destination_failed(
        &self,
        name: &str,
        step: &StateChange,
        failure: &Failure,
        details: gst::Structure,
    ) {
        let (policy, publisher, destinations) = {
            let shared = self.shared();
            (shared.settings.on_error, shared.publisher.clone(), shared.destinations.len())
        };
        let all_failed = publisher.is_some_and(|publisher| {
            // While the push starts, the publisher has fewer destinations than the element.
            publisher.all_are(State::Failed, destinations)
        });
        let is_error = match policy {
            OnError::FailAny => true,
            OnError::FailAll => all_failed,
            OnError::Never => false,
        };
        post_failure(&self.obj(), name, step, failure, details, is_error);
    }

    /// Stops the push, on the change from PAUSED to READY: closes the connections, without `$E` unless the end of the
    /// stream was reached.
    fn stop_push(&self) {
        *self.stream() = None;
        let (publisher, post_guard) = {
            let mut shared = self.shared();
            (shared.publisher.take(), Arc::clone(&shared.post_guard))
        };
        if let Some(publisher) = publisher {
            let stats = publisher.stats().into_iter().map(Stats::after_removal).collect();
            // Applications read statistics after the end, when the publisher no longer exists.
            self.shared().last_stats = stats;
        }
        // The last step: it waits for threads that are posting, which may need the lock of the shared data.
        post_guard.close();
    }

    /// Interrupts the streaming thread's waits, or allows them again.
    fn interrupt(&self, interrupted: bool) {
        let publisher = self.shared().publisher.clone();
        if let Some(publisher) = publisher {
            publisher.interrupt(interrupted);
        }
    }

    /// Posts a WARNING that a property keeps its value, if the element has a bus.
    pub(super) fn warn_rejected_value(&self, property: &str, why: &str) {
        gst::element_imp_warning!(self, gst::ResourceError::Settings, ("property {property} not changed: {why}"));
    }

    /// Returns whether a push is in progress.
    pub(super) fn is_pushing(&self) -> bool {
        self.shared().publisher.is_some()
    }

    /// Posts an ERROR that no destination has caused.
    pub(super) fn post_plain_error(&self, code: gst::ResourceError, text: &str, hresult: Hresult) {
        gst::element_imp_error!(self, code, ("{text}"), ["{hresult}"], details: plain_details(hresult));
    }

    /// Returns the statistics of each destination, or those of the last push if none is in progress.
    pub(super) fn destination_stats(&self) -> Vec<Stats> {
        let (publisher, last) = {
            let shared = self.shared();
            (shared.publisher.clone(), shared.last_stats.clone())
        };
        publisher.map_or(last, |publisher| publisher.stats())
    }

    /// The value of the property `stats`.
    fn stats(&self) -> gst::Structure {
        let totals = self.shared().totals;
        let base = self.obj().upcast_ref::<gst_base::BaseSink>().stats();
        stats::structure(&base, &totals, &self.destination_stats())
    }

    /// Posts statistics at each `stats-update-interval`.
    fn set_ticker(&self) {
        let (publisher, post_guard, interval) = {
            let shared = self.shared();
            (shared.publisher.clone(), Arc::clone(&shared.post_guard), shared.settings.stats_interval())
        };
        let Some(publisher) = publisher else { return };
        let element = self.obj().downgrade();
        let set = publisher.set_ticker(interval, move || {
            let Some(element) = element.upgrade() else { return };
            let mut stats = element.imp().stats();
            stats.set_name("asfpushsink-stats");
            // A flushing bus rejects messages, which is the application's decision.
            post_guard.post(|| drop(element.post_message(gst::message::Element::builder(stats).src(&element).build())));
            element.notify("stats");
        });
        if let Err(error) = set {
            gst::warning!(
                CAT,
                imp = self,
                "asfpushsink-stats messages will not be posted, because the I/O thread cannot be started: {error}"
            );
        }
    }

    /// Posts the total number of dropped packets, at most once per second.
    pub(super) fn post_qos(&self) {
        let now = Instant::now();
        {
            let mut posted = self.qos_posted_at.lock().unwrap_or_else(PoisonError::into_inner);
            if posted.is_some_and(|at| now.saturating_duration_since(at) < QOS_INTERVAL) {
                return;
            }
            *posted = Some(now);
        }
        let stats = self.destination_stats();
        let sent = stats.iter().map(|stats| stats.packets_sent).sum::<u64>();
        let dropped = stats.iter().map(|stats| stats.packets_dropped).sum::<u64>();
        let element = self.obj();
        let message = gst::message::Qos::builder(true)
            .running_time(element.current_running_time())
            .stats(
                gst::GenericFormattedValue::from(gst::format::Buffers::from_u64(sent)),
                gst::GenericFormattedValue::from(gst::format::Buffers::from_u64(dropped)),
            )
            .src(&*element)
            .build();
        let _ = element.post_message(message);
    }

    /// Requests a key frame; the streaming thread asks upstream when the next packet arrives.
    pub(super) fn set_key_frame_wanted(&self) {
        self.key_frame_wanted.store(true, Ordering::Relaxed);
    }

    /// The flag that [`AsfPushSink::set_key_frame_wanted`] sets.
    pub(super) fn key_frame_wanted(&self) -> &AtomicBool {
        &self.key_frame_wanted
    }

    /// The number of destinations that are receiving data.
    fn connected(&self) -> u32 {
        let publisher = self.shared().publisher.clone();
        // After a push nothing is connected.
        saturating_u32(publisher.map_or(0, |publisher| publisher.count(State::Streaming)))
    }
}

impl ChildProxyImpl for AsfPushSink {
    fn child_by_index(&self, index: u32) -> Option<glib::Object> {
        let index = usize::try_from(index).ok()?;
        self.shared().destinations.get(index).map(|destination| destination.clone().upcast())
    }

    fn child_by_name(&self, name: &str) -> Option<glib::Object> {
        let shared = self.shared();
        let found = shared.destinations.iter().find(|destination| destination.name() == name);
        found.map(|destination| destination.clone().upcast())
    }

    fn children_count(&self) -> u32 {
        saturating_u32(self.shared().destinations.len())
    }
}
