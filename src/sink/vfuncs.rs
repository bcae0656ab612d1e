//! What GstBaseSink has and its Rust bindings do not offer: two hooks and a call.
//!
//! `get_times`: the base class would wait for buffer timestamps, which byte streams
//! lack and which encoders spoil; the element waits by send times itself.
//! `wait_event`: called at EOS between preroll and the EOS message, which is where
//! the tail has to go out.
//! `gst_base_sink_do_preroll`: what a wait that PAUSED has broken off needs, so that PAUSED is reached.

use glib::translate::{IntoGlib, ToGlibPtr, TryFromGlib, from_glib_borrow, from_glib_none};
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::AsfPushSink;
use super::imp;

/// Puts the hooks into the element's class.
#[expect(unsafe_code, reason = "the bindings have no safe way to set these two hooks")]
pub(super) fn install(class: &mut <imp::AsfPushSink as ObjectSubclass>::Class) {
    let class: *mut _ = class;
    let class: &mut gst_base::ffi::GstBaseSinkClass = {
        // SAFETY: the element derives from GstBaseSink, so its class begins with that class;
        // class_init has it for itself.
        unsafe { &mut *class.cast() }
    };
    class.get_times = Some(get_times);
    class.wait_event = Some(wait_event);
}

/// Where the element is not PLAYING: prerolls with this buffer, which ends a change to PAUSED that is pending, and waits
/// for PLAYING. To be called where `render` may wait, that is with the preroll lock held.
///
/// # Errors
///
/// `Flushing` where there is a flush, or READY is wanted.
#[expect(unsafe_code, reason = "the bindings leave this call out")]
pub(super) fn preroll(sink: &AsfPushSink, buffer: &gst::Buffer) -> Result<(), gst::FlowError> {
    let sink: *mut gst_base::ffi::GstBaseSink = sink.upcast_ref::<gst_base::BaseSink>().to_glib_none().0;
    // SAFETY: the base class sets this under the preroll lock only, which the caller holds.
    let flushing = unsafe { (*sink).flushing };
    if flushing != glib::ffi::GFALSE {
        return Err(gst::FlowError::Flushing);
    }
    let object: *mut gst::ffi::GstBuffer = buffer.to_glib_none().0;
    // SAFETY: both are alive; a GstBuffer begins with its GstMiniObject, which the callee takes a reference of its own to.
    let flow = unsafe { gst_base::ffi::gst_base_sink_do_preroll(sink, object.cast()) };
    // SAFETY: any number is a flow return.
    unsafe { gst::FlowSuccess::try_from_glib(flow) }.map(|_| ())
}

#[expect(unsafe_code, reason = "called by C")]
unsafe extern "C" fn get_times(
    _sink: *mut gst_base::ffi::GstBaseSink,
    _buffer: *mut gst::ffi::GstBuffer,
    start: *mut gst::ffi::GstClockTime,
    end: *mut gst::ffi::GstClockTime,
) {
    // SAFETY: the base class passes two valid places.
    unsafe {
        *start = gst::ffi::GST_CLOCK_TIME_NONE;
        *end = gst::ffi::GST_CLOCK_TIME_NONE;
    }
}

#[expect(unsafe_code, reason = "called by C")]
unsafe extern "C" fn wait_event(
    sink: *mut gst_base::ffi::GstBaseSink,
    event: *mut gst::ffi::GstEvent,
) -> gst::ffi::GstFlowReturn {
    // SAFETY: the parent class is GstBaseSink's own, whose hook is set; it gets what it would have got.
    let waited = unsafe {
        let parent = imp::AsfPushSink::type_data().as_ref().parent_class().cast::<gst_base::ffi::GstBaseSinkClass>();
        (*parent).wait_event.map_or(gst::ffi::GST_FLOW_OK, |wait| wait(sink, event))
    };
    if waited != gst::ffi::GST_FLOW_OK {
        return waited;
    }
    // SAFETY: the base class calls this with an element of this class, and an event, that it holds.
    let (element, event): (_, gst::Event) =
        unsafe { (from_glib_borrow::<_, gst_base::BaseSink>(sink), from_glib_none(event)) };
    let Some(element) = element.downcast_ref::<AsfPushSink>() else { return waited };
    if event.type_() != gst::EventType::Eos {
        return waited;
    }
    // A panic must not unwind into C.
    gst::panic_to_error!(element.imp(), gst::FlowReturn::Error, {
        element.imp().drain().map_or_else(gst::FlowReturn::from, |()| gst::FlowReturn::Ok)
    })
    .into_glib()
}
