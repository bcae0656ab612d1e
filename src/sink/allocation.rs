//! What memory upstream is offered: the writer sink's AllocateDataUnit ([wmsdkidl] IWMWriterSink).
//!
//! Packets are taken as they lie in upstream's buffers. The pool gives those back as soon as the stream has them,
//! so that an encoder needs no allocation for a packet.

use bytes::Bytes;
use gst::prelude::*;

/// Bytes of a pool's buffers where the caps do not tell the stream's packet size: the largest ASF packet.
const LARGEST_PACKET: u32 = 64 * 1024;

/// Answers an ALLOCATION query with a pool of buffers that each hold one ASF packet.
///
/// Only where upstream asks for a pool for known caps: sources of bytes without caps read blocks of a size of their
/// own, which must not be cut down to a packet.
pub(super) fn answer(query: &mut gst::query::Allocation) {
    let (caps, need_pool) = query.get_owned();
    let none = gst::Allocator::NONE;
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

/// The packet size that the caps' `streamheader` tells.
fn packet_size(caps: &gst::Caps) -> Option<u32> {
    let header = stream_header(caps)?;
    u32::try_from(asf::Header::parse(header).ok()?.packet_size()).ok()
}

/// The bytes of the caps' `streamheader`, where they have one.
pub(super) fn stream_header(caps: &gst::CapsRef) -> Option<Bytes> {
    let buffers = caps.structure(0)?.get::<gst::ArrayRef>("streamheader").ok()?;
    let buffers = buffers.iter().filter_map(|buffer| buffer.get::<gst::Buffer>().ok());
    let maps = buffers.filter_map(|buffer| buffer.into_mapped_buffer_readable().ok());
    Some(Bytes::from(maps.flat_map(|map| map.to_vec()).collect::<Vec<u8>>()))
}
