//! A source to which a test passes buffers. It replaces `appsrc`, which is not in the packages that a build requires.

use std::collections::VecDeque;
use std::sync::{Condvar, LazyLock, Mutex};

use glib::subclass::Signal;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_src::CreateSuccess;
use gst_base::subclass::prelude::*;

/// The factory name of the element.
pub const FACTORY: &str = "feedsrc";

/// The queued buffers, and what the source reports.
#[derive(Default)]
struct State {
    buffers: VecDeque<gst::Buffer>,
    ended: bool,
    flushing: bool,
    caps: Option<gst::Caps>,
    format: Option<gst::Format>,
    min_latency: Option<gst::ClockTime>,
    max_latency: Option<gst::ClockTime>,
}

#[derive(Default)]
pub struct FeedSource {
    state: Mutex<State>,
    changed: Condvar,
}

glib::wrapper! {
    pub struct FeedSrc(ObjectSubclass<FeedSource>)
        @extends gst_base::PushSrc, gst_base::BaseSrc, gst::Element, gst::Object;
}

/// Registers the element in this process.
pub fn register() -> Result<(), glib::BoolError> {
    gst::Element::register(None, FACTORY, gst::Rank::NONE, FeedSrc::static_type())
}

impl FeedSource {
    /// Changes the state and wakes up the streaming thread.
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    fn push(&self, buffer: gst::Buffer) -> gst::FlowReturn {
        let mut state = self.state.lock().unwrap();
        if state.flushing || state.ended {
            return if state.flushing { gst::FlowReturn::Flushing } else { gst::FlowReturn::Eos };
        }
        state.buffers.push_back(buffer);
        self.changed.notify_all();
        gst::FlowReturn::Ok
    }
}

#[glib::object_subclass]
impl ObjectSubclass for FeedSource {
    const NAME: &'static str = "AsfPushTestFeedSrc";
    type Type = FeedSrc;
    type ParentType = gst_base::PushSrc;
}

impl ObjectImpl for FeedSource {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            vec![
                glib::ParamSpecBoxed::builder::<gst::Caps>("caps").build(),
                glib::ParamSpecEnum::builder_with_default("format", gst::Format::Bytes).build(),
                glib::ParamSpecBoolean::builder("is-live").build(),
                glib::ParamSpecInt64::builder("min-latency").minimum(-1).default_value(-1).build(),
                glib::ParamSpecInt64::builder("max-latency").minimum(-1).default_value(-1).build(),
            ]
        });
        &PROPERTIES
    }

    /// For code that reads every property, such as a pipeline dump.
    fn property(&self, _id: usize, spec: &glib::ParamSpec) -> glib::Value {
        let state = self.state.lock().unwrap();
        let latency = |time: Option<gst::ClockTime>| time.map_or(-1, |time| i64::try_from(time.nseconds()).unwrap());
        match spec.name() {
            "caps" => state.caps.to_value(),
            "format" => state.format.unwrap_or(gst::Format::Bytes).to_value(),
            "is-live" => self.obj().is_live().to_value(),
            "min-latency" => latency(state.min_latency).to_value(),
            "max-latency" => latency(state.max_latency).to_value(),
            other => panic!("{FACTORY} has no property {other}"),
        }
    }

    fn set_property(&self, _id: usize, value: &glib::Value, spec: &glib::ParamSpec) {
        let latency = || u64::try_from(value.get::<i64>().unwrap()).ok().map(gst::ClockTime::from_nseconds);
        match spec.name() {
            "caps" => self.change(|state| state.caps = value.get().unwrap()),
            "format" => {
                let format = value.get().unwrap();
                self.change(|state| state.format = Some(format));
                self.obj().set_format(format);
            }
            "is-live" => self.obj().set_live(value.get().unwrap()),
            "min-latency" => self.change(|state| state.min_latency = latency()),
            "max-latency" => self.change(|state| state.max_latency = latency()),
            other => panic!("{FACTORY} has no property {other}"),
        }
    }

    fn signals() -> &'static [Signal] {
        static SIGNALS: LazyLock<Vec<Signal>> = LazyLock::new(|| {
            let push = Signal::builder("push-buffer").param_types([gst::Buffer::static_type()]);
            let end = Signal::builder("end-of-stream");
            vec![
                push.return_type::<gst::FlowReturn>()
                    .action()
                    .class_handler(|values| {
                        let source = values[0].get::<FeedSrc>().unwrap();
                        Some(source.imp().push(values[1].get().unwrap()).to_value())
                    })
                    .build(),
                end.return_type::<gst::FlowReturn>()
                    .action()
                    .class_handler(|values| {
                        let source = values[0].get::<FeedSrc>().unwrap();
                        source.imp().change(|state| state.ended = true);
                        Some(gst::FlowReturn::Ok.to_value())
                    })
                    .build(),
            ]
        });
        &SIGNALS
    }

    fn constructed(&self) {
        self.parent_constructed();
        self.obj().set_format(gst::Format::Bytes);
    }
}

impl GstObjectImpl for FeedSource {}

impl ElementImpl for FeedSource {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Test feed",
                "Source",
                "Outputs the buffers that a test passes to it",
                "The tests",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let any = gst::Caps::new_any();
            vec![gst::PadTemplate::new("src", gst::PadDirection::Src, gst::PadPresence::Always, &any).unwrap()]
        });
        &TEMPLATES
    }
}

impl BaseSrcImpl for FeedSource {
    fn start(&self) -> Result<(), gst::ErrorMessage> {
        self.change(|state| state.flushing = false);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        self.change(|state| {
            state.flushing = true;
            state.ended = false;
            state.buffers.clear();
        });
        Ok(())
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn unlock(&self) -> Result<(), gst::ErrorMessage> {
        self.change(|state| state.flushing = true);
        Ok(())
    }

    fn unlock_stop(&self) -> Result<(), gst::ErrorMessage> {
        self.change(|state| state.flushing = false);
        Ok(())
    }

    fn negotiate(&self) -> Result<(), gst::LoggableError> {
        let caps = self.state.lock().unwrap().caps.clone();
        match caps {
            Some(caps) => self.obj().set_caps(&caps).map_err(gst::LoggableError::from),
            None => Ok(()),
        }
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        if let gst::QueryViewMut::Latency(latency) = query.view_mut() {
            let state = self.state.lock().unwrap();
            latency.set(self.obj().is_live(), state.min_latency.unwrap_or(gst::ClockTime::ZERO), state.max_latency);
            return true;
        }
        BaseSrcImplExt::parent_query(self, query)
    }
}

impl PushSrcImpl for FeedSource {
    fn create(&self, _buffer: Option<&mut gst::BufferRef>) -> Result<CreateSuccess, gst::FlowError> {
        let mut state = self.state.lock().unwrap();
        loop {
            if state.flushing {
                return Err(gst::FlowError::Flushing);
            }
            if let Some(buffer) = state.buffers.pop_front() {
                return Ok(CreateSuccess::NewBuffer(buffer));
            }
            if state.ended {
                return Err(gst::FlowError::Eos);
            }
            state = self.changed.wait(state).unwrap();
        }
    }
}
