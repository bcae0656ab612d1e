//! Parts of GstBaseSink that its Rust bindings do not offer: two virtual methods and a call.
//!
//! `get_times`: the base class would wait for buffer timestamps, which byte streams do not have and which encoders
//! write incorrectly; the element itself waits by send times.
//! `wait_event`: called at EOS between preroll and the EOS message, which is when the remaining data must be sent.
//! `gst_base_sink_do_preroll`: needed after a wait that a change to PAUSED has interrupted, so that PAUSED is reached.

use glib::translate::{IntoGlib, ToGlibPtr, TryFromGlib, from_glib_borrow, from_glib_none};
use gst::prelude::*;
use gst::subclass::prelude::*;

use crate::sink::AsfPushSink;

/// Sets the virtual methods in the element's class.
#[expect(unsafe_code, reason = "the bindings have no safe way to set these two methods")]
pub(super) fn install(class: &mut <super::AsfPushSink as ObjectSubclass>::Class) {
    let class: *mut _ = class;
    let class: &mut gst_base::ffi::GstBaseSinkClass = {
        // SAFETY: the element derives from GstBaseSink, so its class structure begins with that of GstBaseSink, and
        // class_init has exclusive access to it.
        unsafe { &mut *class.cast() }
    };
    class.get_times = Some(get_times);
    class.wait_event = Some(wait_event);
}

/// If the element is not PLAYING, prerolls with this buffer, which completes a pending change to PAUSED, and waits for
/// PLAYING. Call it where `render` may wait, that is, with the preroll lock held.
///
/// # Errors
///
/// `Flushing` during a flush or a change to READY.
#[expect(unsafe_code, reason = "the bindings do not offer this call")]
pub(super) fn preroll(sink: &AsfPushSink, buffer: &gst::Buffer) -> Result<(), gst::FlowError> {
    let sink: *mut gst_base::ffi::GstBaseSink = sink.upcast_ref::<gst_base::BaseSink>().to_glib_none().0;
    // SAFETY: the base class changes this field only with the preroll lock held, which the caller holds.
    let flushing = unsafe { (*sink).flushing };
    if flushing != glib::ffi::GFALSE {
        return Err(gst::FlowError::Flushing);
    }
    let object: *mut gst::ffi::GstBuffer = buffer.to_glib_none().0;
    // SAFETY: both objects are alive. A GstBuffer begins with its GstMiniObject, and the callee takes its own reference
    // to it.
    let flow = unsafe { gst_base::ffi::gst_base_sink_do_preroll(sink, object.cast()) };
    // SAFETY: any number is a valid flow return.
    unsafe { gst::FlowSuccess::try_from_glib(flow) }.map(|_| ())
}

/// Reports no times, so that the base class does not wait.
#[expect(unsafe_code, reason = "called by C")]
unsafe extern "C" fn get_times(
    _sink: *mut gst_base::ffi::GstBaseSink,
    _buffer: *mut gst::ffi::GstBuffer,
    start: *mut gst::ffi::GstClockTime,
    end: *mut gst::ffi::GstClockTime,
) {
    // SAFETY: the base class passes two valid pointers.
    unsafe {
        *start = gst::ffi::GST_CLOCK_TIME_NONE;
        *end = gst::ffi::GST_CLOCK_TIME_NONE;
    }
}

/// Waits as the base class does, and then at EOS until the remaining data was sent.
#[expect(unsafe_code, reason = "called by C")]
unsafe extern "C" fn wait_event(
    sink: *mut gst_base::ffi::GstBaseSink,
    event: *mut gst::ffi::GstEvent,
) -> gst::ffi::GstFlowReturn {
    // SAFETY: the parent class is that of GstBaseSink, whose method is set, and it receives its original arguments.
    let waited = unsafe {
        let parent = super::AsfPushSink::type_data().as_ref().parent_class().cast::<gst_base::ffi::GstBaseSinkClass>();
        (*parent).wait_event.map_or(gst::ffi::GST_FLOW_OK, |wait| wait(sink, event))
    };
    if waited != gst::ffi::GST_FLOW_OK {
        return waited;
    }
    // SAFETY: the base class calls this with an element of this class and an event, and holds references to both.
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
