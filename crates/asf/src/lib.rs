//! Parses ASF byte streams, in chunks of any size, into data packets with their header.
//!
//! The crate uses no clock, lock, logging or I/O. [`Parser`] takes the bytes and the relevant stream events and
//! returns [`ParsedPacket`]s. [MS-WMHTTP] sends a [`Header`] as `$H` or `$C` and a [`Packet`] as `$D`. Receivers call
//! [`restore`] to bring packets back to their full size.
//!
//! "ASF n.n" in these modules names a section of the Advanced Systems Format
//! specification.
//!
//! ```
//! use bytes::Bytes;
//! use asf::test_util::{HeaderBuilder, packets};
//! use asf::{Error, Parser, Settings};
//!
//! let file = [&HeaderBuilder::default().build()[..], &packets(200, 3).concat()].concat();
//! let mut parser = Parser::new(Settings::default());
//! let mut count = 0;
//! for chunk in file.chunks(77) {
//!     parser.push(Bytes::copy_from_slice(chunk));
//!     while let Some(unit) = parser.next_packet()? {
//!         assert!(unit.packet.len() <= unit.header.packet_size());
//!         count += 1;
//!     }
//! }
//! parser.finish()?;
//! assert_eq!(count, 3);
//! # Ok::<(), Error>(())
//! ```

mod byte_queue;
mod cursor;
mod error;
mod guid;
mod header;
mod header_search;
mod index;
mod packet;
mod parser;
mod stream_time;
#[cfg(any(test, feature = "test-util"))]
pub mod test_util;
mod warning;

pub use error::Error;
pub use header::{Description, Header, Stream, StreamDescription, StreamKind};
pub use index::SimpleIndex;
pub use packet::{
    Borrowed, Packet, PacketBytes, Padding, PayloadInfo, Selected, StartFilter, key_frames, restore, select, send_time,
    shift_times,
};
pub use parser::{ParsedPacket, Parser, Settings};
pub use stream_time::StreamTime;
pub use warning::Warning;
