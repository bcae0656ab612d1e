//! How a stream gets into a point, whoever brings it: an encoder that pushes, or a source that is pulled.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::playback::framing;
use crate::points::publishing_point::PublishingPoint;
use crate::points::timeline::Timeline;
use asf::{Header, Packet, Padding};

/// Bytes of restored packets that share an allocation.
const PACKET_BLOCK_BYTES: usize = 64 * 1024;

/// Writes headers and packets into a point's packet buffer and its recording. This is the one place where media bytes
/// are copied.
pub(crate) struct StreamWriter {
    point: Arc<PublishingPoint>,
    header: Option<Arc<Header>>,
    timeline: Arc<Mutex<Timeline>>,
    block: BytesMut,
    /// What is not in the packet buffer yet, and as how many bytes it came.
    packets: Vec<Packet>,
    received: u64,
}

impl StreamWriter {
    pub(crate) fn new(point: Arc<PublishingPoint>) -> Self {
        Self { point, header: None, timeline: Arc::default(), block: BytesMut::new(), packets: Vec::new(), received: 0 }
    }

    /// The header of the packets that follow. One that is equal byte for byte continues the stream.
    pub(crate) async fn header(&mut self, header: Header) {
        self.flush();
        if header.packet_size() > framing::MAX_PAYLOAD {
            tracing::warn!(
                point = self.point.name(),
                packet_size = header.packet_size(),
                "packets too large for players that use MMS over HTTP, which get nothing. Lower the muxer's packet size"
            );
        }
        let (header, timeline) = self.point.begin(header);
        self.timeline = timeline;
        if let Some(recorder) = self.point.recorder() {
            recorder.header(&header, &self.point.config()).await;
        }
        self.header = Some(header);
    }

    /// Takes a data packet as it came, which [`StreamWriter::flush`] hands to the players.
    ///
    /// # Errors
    /// If it is longer than the header says, or there is no header.
    pub(crate) async fn packet(&mut self, packet: &[u8]) -> Result<(), asf::Error> {
        self.received += packet.len() as u64;
        let (packet, bytes) = self.restore(packet)?;
        if let Some(recorder) = self.point.recorder() {
            recorder.packet(&packet, &bytes).await;
        }
        self.packets.push(packet);
        Ok(())
    }

    /// Hands the packets so far to the players: one wake-up for all of them. Gives how many they are, and as how many
    /// bytes they came.
    pub(crate) fn flush(&mut self) -> (usize, u64) {
        let Some(header) = self.header.as_ref().filter(|_| !self.packets.is_empty()) else {
            return (0, 0);
        };
        let (packets, received) = (std::mem::take(&mut self.packets), std::mem::take(&mut self.received));
        let count = packets.len();
        self.point.append(header, packets, received);
        (count, received)
    }

    /// The stream is over: players and the recording get its rest and its end. Waits for the recording for `patience` at
    /// most.
    pub(crate) async fn end(&mut self, patience: Duration) {
        self.flush();
        self.header = None;
        self.point.end();
        if let Some(recorder) = self.point.recorder() {
            recorder.finish(patience).await;
        }
    }

    /// The packet at its full size, as players and files have it.
    fn restore(&mut self, packet: &[u8]) -> Result<(Packet, Bytes), asf::Error> {
        let Some(header) = &self.header else {
            // Neither protocol lets a packet come before a header.
            return Err(asf::Error::OverlongPacket { len: packet.len(), size: 0 });
        };
        let size = header.packet_size();
        if self.block.capacity() < size {
            self.block = BytesMut::with_capacity(size.max(PACKET_BLOCK_BYTES));
        }
        asf::restore(packet, size, &mut self.block)?;
        let mut bytes = self.block.split();
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner).fit(&mut bytes, Instant::now());
        let bytes = bytes.freeze();
        Ok((Packet::parse([bytes.clone(), Bytes::new()], header, Padding::Keep), bytes))
    }
}
