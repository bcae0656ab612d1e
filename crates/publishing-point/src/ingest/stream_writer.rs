//! Writes a stream into a point, whether an encoder pushes it or a source is pulled.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::playback::framing;
use crate::points::publishing_point::PublishingPoint;
use crate::points::timeline::Timeline;
use asf::{Header, Packet, Padding};

/// Bytes of restored packets that share an allocation. It is freed when the last of them is gone.
const PACKET_BLOCK_BYTES: usize = 64 * 1024;

/// Writes headers and packets into a point's packet buffer and its recording. Media bytes are copied only here.
pub(crate) struct StreamWriter {
    point: Arc<PublishingPoint>,
    /// The header of the packets that follow; `None` outside a stream.
    header: Option<Arc<Header>>,
    /// Adjusts the times of packets; shared with the point, because it continues in the next session.
    timeline: Arc<Mutex<Timeline>>,
    /// The unused rest of the block for restored packets.
    block: BytesMut,
    /// Packets that are not yet in the packet buffer.
    packets: Vec<Packet>,
    /// Their size in bytes as received, before padding was restored.
    received: u64,
}

impl StreamWriter {
    /// Returns a writer without a header.
    pub(crate) fn new(point: Arc<PublishingPoint>) -> Self {
        Self { point, header: None, timeline: Arc::default(), block: BytesMut::new(), packets: Vec::new(), received: 0 }
    }

    /// Sets the header of the packets that follow. A header that is equal byte for byte continues the stream.
    pub(crate) async fn header(&mut self, header: Header) {
        self.flush();
        if header.packet_size() > framing::MAX_PAYLOAD {
            tracing::warn!(
                point = self.point.name(),
                packet_size = header.packet_size(),
                limit = framing::MAX_PAYLOAD,
                "the packets are too large for MMS over HTTP: players that use it receive nothing. Lower the packet size \
                 of the muxer to the limit"
            );
        }
        let (header, timeline) = self.point.begin(header);
        self.timeline = timeline;
        if let Some(recorder) = self.point.recorder() {
            recorder.header(&header, &self.point.config()).await;
        }
        self.header = Some(header);
    }

    /// Accepts a data packet as received; [`StreamWriter::flush`] passes it to the players.
    ///
    /// # Errors
    /// If it is longer than the packet size in the header, or there is no header.
    pub(crate) async fn packet(&mut self, packet: &[u8]) -> Result<(), asf::Error> {
        self.received += packet.len() as u64;
        let (packet, bytes) = self.restore(packet)?;
        if let Some(recorder) = self.point.recorder() {
            recorder.packet(&packet, &bytes).await;
        }
        self.packets.push(packet);
        Ok(())
    }

    /// Passes the packets received so far to the players with a single wake-up. Returns their number, and their size in
    /// bytes as received.
    pub(crate) fn flush(&mut self) -> (usize, u64) {
        let Some(header) = self.header.as_ref().filter(|_| !self.packets.is_empty()) else {
            return (0, 0);
        };
        let (packets, received) = (std::mem::take(&mut self.packets), std::mem::take(&mut self.received));
        let count = packets.len();
        self.point.append(header, packets, received);
        (count, received)
    }

    /// Ends the stream: players and the recording receive the rest and its end. Waits up to `timeout` for the
    /// recording.
    pub(crate) async fn end(&mut self, timeout: Duration) {
        self.flush();
        self.header = None;
        self.point.end();
        if let Some(recorder) = self.point.recorder() {
            recorder.finish(timeout).await;
        }
    }

    /// Restores the packet to its full size, as sent to players and recorded.
    fn restore(&mut self, packet: &[u8]) -> Result<(Packet, Bytes), asf::Error> {
        let Some(header) = &self.header else {
            // Neither protocol accepts a packet before a header.
            return Err(asf::Error::OverlongPacket { len: packet.len(), size: 0 });
        };
        let size = header.packet_size();
        if self.block.capacity() < size {
            self.block = BytesMut::with_capacity(size.max(PACKET_BLOCK_BYTES));
        }
        asf::restore(packet, size, &mut self.block)?;
        let mut bytes = self.block.split();
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner).adjust(&mut bytes, Instant::now());
        let bytes = bytes.freeze();
        Ok((Packet::parse([bytes.clone(), Bytes::new()], header, Padding::Keep), bytes))
    }
}
