//! Pushes live Windows Media (ASF) from GStreamer to publishing points.
//!
//! The plugin `asfpush` has one element, `asfpushsink`: it takes ASF from any muxer or
//! file and speaks [MS-WMHTTP], the Windows Media HTTP Push Distribution Protocol. The
//! binary `asf-publishing-point` is a server for it, which players pull from.
//!
//! ```text
//!  gst-plugin-asfpush (this crate)            asf-publishing-point (crates/publishing-point)
//!         │  GStreamer                                │  hyper, clap, toml, metrics
//!         └──────────────┬────────────────────────────┘
//!                        ▼
//!              asfpush-client (crates/client)         tokio, reqwest: packet buffer, transport, destinations
//!                        ▼
//!              asfpush-wmhttp (crates/wmhttp)         [MS-WMHTTP] as values: no I/O, no clock
//!                        ▼
//!              asfpush-asf (crates/asf)               bytes to packets: no I/O, no clock
//! ```
//!
//! Everything in this crate is the element: properties, stream input, bus messages and signals.
//!
//! In an application that links the crate, the element is there once it is registered:
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

/// What GStreamer reads of the library.
#[expect(missing_docs, reason = "the macro's functions are GStreamer's")]
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
