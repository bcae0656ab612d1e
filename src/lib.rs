//! Pushes live Windows Media (ASF) from GStreamer to publishing points.
//!
//! The plugin `asfpush` has one element, `asfpushsink`: it takes ASF from any muxer or
//! file and speaks [MS-WMHTTP], the Windows Media HTTP Push Distribution Protocol. The
//! binary `asf-publishing-point` is a server for it, which players pull from.
//!
//! ```text
//!  sink (GStreamer) ─▶ publish (tokio) ─▶ transport (reqwest) ─▶ wmhttp (pure) ─▶ asf (pure) ─▶ std, bytes
//!                         │        ▲                               ▲
//!                         ▼        │                               │
//!                        log (std)─┼───────────────────────────────┤
//!                              ▲   │                               │
//!  bin/asf-publishing-point ─▶ point (hyper, tokio) ───────────────┘
//! ```
//!
//! An arrow is the only direction in which names may be used; `tests/layers.rs` keeps it so.
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
//!
//! * [`asf`]: bytes in, units out. A unit is a data packet with the header that describes it.
//! * [`wmhttp`]: the protocol as values; the pusher's and the server's state machines.
//! * [`log`]: one bounded copy of the stream, framed once, with a cursor for each reader.
//! * [`transport`]: the HTTP client, held to what the protocol needs.
//! * [`publish`]: a task for each destination, back-off, statistics.
//! * `point`: the server's publishing points; they push on to others by [`publish`].
//! * `sink`: the element; properties, events and bus messages.

pub mod asf;
pub mod log;
#[cfg(feature = "publishing-point")]
pub mod point;
pub mod publish;
mod sink;
pub mod transport;
pub mod wmhttp;

/// The log's locks; `tests/schedules.rs` has others in their place.
mod sync {
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
}

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
