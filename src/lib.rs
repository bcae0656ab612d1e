//! Pushes live Windows Media (ASF) from GStreamer to publishing points.
//!
//! The plugin `asfpush` has one element, `asfpushsink`. It accepts ASF from any muxer or file and speaks [MS-WMHTTP],
//! the Windows Media HTTP Push Distribution Protocol. The binary `asf-publishing-point` is a server for it, from which
//! players pull the stream.
//!
//! ```text
//!  gst-plugin-asfpush (this crate)            asf-publishing-point (crates/publishing-point)
//!         │  GStreamer                                │  hyper, clap, toml, metrics
//!         └──────────────┬────────────────────────────┘
//!                        ▼
//!              asfpush-client (crates/client)         tokio, reqwest: packet buffer, transport, destinations
//!                        ▼
//!              asfpush-wmhttp (crates/wmhttp)         [MS-WMHTTP]: no I/O, no clock
//!                        ▼
//!              asfpush-asf (crates/asf)               bytes to packets: no I/O, no clock
//! ```
//!
//! This crate contains only the element: properties, stream input, bus messages and signals.
//!
//! An application that links the crate must register the element before it can create one:
//!
//! ```
//! use gst::prelude::*;
//!
//! gst::init()?;
//! gstasfpush::plugin_register_static()?;
//! let sink = gst::ElementFactory::make("asfpushsink")
//!     .property("location", "http://localhost:8080/concert")
//!     .build()?;
//! sink.connect("status", false, |values| {
//!     println!("{values:?}");
//!     None
//! });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod sink;

pub use plugin::plugin_register_static;

/// The plugin description that GStreamer reads from the library.
#[expect(missing_docs, reason = "the macro generates these functions for GStreamer")]
mod plugin {
    fn init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
        crate::sink::register(plugin)
    }

    gst::plugin_define!(
        asfpush,
        env!("CARGO_PKG_DESCRIPTION"),
        init,
        concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
        "MPL-2.0",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_NAME"),
        "Unknown package origin",
        env!("BUILD_REL_DATE")
    );
}
