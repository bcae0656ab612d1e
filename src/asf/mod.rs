//! ASF byte streams: any chunking of bytes in, data packets with their header out.
//!
//! Pure: no clock, no lock, no log, no I/O. [`Parser`] takes the bytes and the few
//! stream events that matter, and gives [`Unit`]s. [`Header`] and [`Packet`] are
//! what [MS-WMHTTP] sends as `$H`/`$C` and `$D`. [`restore`] is the receiving side.
//!
//! "ASF n.n" in these modules names a section of the Advanced Systems Format
//! specification.

mod cursor;
mod error;
#[doc(hidden)]
pub mod fixture;
mod guid;
mod header;
mod packet;
mod parser;
mod queue;
mod search;
mod warning;

pub use error::Error;
pub use header::{Header, Stream, StreamKind};
pub use packet::{Packet, Padding, restore};
pub use parser::{Parser, Settings, Unit};
pub use warning::Warning;
