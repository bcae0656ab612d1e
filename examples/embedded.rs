//! An application that contains the element, so that no plugin file is needed.
//!
//! Pushes five seconds of a test picture, with the encoder and the muxer of Debian's package gstreamer1.0-libav:
//!
//! ```sh
//! cargo run --example embedded -- http://localhost:8080/concert
//! ```

use std::error::Error;

use gst::prelude::*;

fn main() -> Result<(), Box<dyn Error>> {
    let location = std::env::args().nth(1).ok_or("usage: embedded URL")?;
    gst::init()?;
    gstasfpush::plugin_register_static()?;

    let pipeline = gst::parse::launch(
        "videotestsrc is-live=true num-buffers=125 ! video/x-raw,framerate=25/1 ! avenc_wmv2
         ! identity single-segment=true ! avmux_asf ! asfpushsink name=push",
    )?
    .downcast::<gst::Pipeline>()
    .map_err(|_| "the description is not a pipeline")?;
    let push = pipeline.by_name("push").ok_or("the pipeline has no element named push")?;
    push.set_property("location", location);

    let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
    pipeline.set_state(gst::State::Playing)?;
    let end = bus.timed_pop_filtered(gst::ClockTime::NONE, &[gst::MessageType::Eos, gst::MessageType::Error]);
    let stats = push.property::<gst::Structure>("stats");
    pipeline.set_state(gst::State::Null)?;

    match end.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => Err(error.error().into()),
        _ => {
            println!("pushed {} packets", stats.get::<u64>("packets-received")?);
            Ok(())
        }
    }
}
