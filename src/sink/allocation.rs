//! Answers allocation queries, like AllocateDataUnit of the writer sink ([wmsdkidl] IWMWriterSink).
//!
//! Packets are used directly from upstream's buffers. The pool returns those as soon as the stream has consumed them,
//! so that an encoder needs no allocation per packet.

use bytes::Bytes;
use gst::prelude::*;

/// Size in bytes of a pool's buffers if the caps do not contain the stream's packet size: that of the largest ASF
/// packet.
const LARGEST_PACKET: u32 = 64 * 1024;

/// Answers an ALLOCATION query with a pool of buffers for one ASF packet each.
///
/// Only if upstream requests a pool for known caps: sources without caps read blocks of their own size, which must not
/// be reduced to the size of a packet.
pub(super) fn answer(query: &mut gst::query::Allocation) {
    let (caps, need_pool) = query.get_owned();
    let none = gst::Allocator::NONE;
    // The default allocator and alignment: the parser reads any memory.
    query.add_allocation_param(none, gst::AllocationParams::default());
    let Some(caps) = caps.filter(|_| need_pool) else { return };
    let size = packet_size(&caps).unwrap_or(LARGEST_PACKET);
    let pool = gst::BufferPool::new();
    let mut config = pool.config();
    config.set_params(Some(&caps), size, 0, 0);
    if pool.set_config(config).is_ok() {
        query.add_allocation_pool(Some(&pool), size, 0, 0);
    }
}

/// Returns the packet size from the caps' `streamheader`.
fn packet_size(caps: &gst::Caps) -> Option<u32> {
    let header = stream_header(caps)?;
    u32::try_from(asf::Header::parse(header).ok()?.packet_size()).ok()
}

/// Returns the bytes of the caps' `streamheader`, if any.
pub(super) fn stream_header(caps: &gst::CapsRef) -> Option<Bytes> {
    let buffers = caps.structure(0)?.get::<gst::ArrayRef>("streamheader").ok()?;
    let buffers = buffers.iter().filter_map(|buffer| buffer.get::<gst::Buffer>().ok());
    let maps = buffers.filter_map(|buffer| buffer.into_mapped_buffer_readable().ok());
    Some(Bytes::from(maps.flat_map(|map| map.to_vec()).collect::<Vec<u8>>()))
}
