//! The stream of a source, across all connections to its origin.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::recent_packets::RecentPackets;
use crate::ingest::stream_writer::StreamWriter;
use crate::points::publishing_point::PublishingPoint;
use crate::recording::recorder::SESSION_FINISH_TIMEOUT;
use asf::{Header, Padding, Parser, Settings};

/// The stream of a source.
pub(super) struct StreamInput {
    /// Writes the stream into the point.
    writer: StreamWriter,
    /// Detects packets that the origin sends again.
    recent: RecentPackets,
    /// The header of the stream, while the players have one.
    header: Option<Bytes>,
    /// When data of the stream last arrived.
    last_data_at: Option<Instant>,
    /// When the first packet arrived on this connection.
    first_packet_at: Option<Instant>,
    /// Whether a header arrived on this connection.
    has_header: bool,
    /// The parser of a stream without framing.
    parser: Option<PlainStream>,
    /// Packets since the last flush that had arrived before.
    duplicates: u64,
}

/// A stream without framing, in progress.
struct PlainStream {
    parser: Parser,
    /// The header of the previous packet, compared by identity.
    header: Option<Arc<Header>>,
}

impl StreamInput {
    /// Returns the stream of a source that has sent nothing yet.
    pub(super) fn new(point: Arc<PublishingPoint>) -> Self {
        Self {
            writer: StreamWriter::new(point),
            recent: RecentPackets::default(),
            header: None,
            last_data_at: None,
            first_packet_at: None,
            has_header: false,
            parser: None,
            duplicates: 0,
        }
    }

    /// Sets the header of the packets that follow. An equal header after a lost connection continues the stream.
    pub(super) async fn header(&mut self, header: Header) {
        self.last_data_at = Some(Instant::now());
        let known = self.header.as_ref() == Some(header.bytes());
        if !known {
            self.recent.clear();
        } else if !self.has_header {
            self.recent.reconnected();
        }
        self.has_header = true;
        self.header = Some(header.bytes().clone());
        self.writer.header(header).await;
    }

    /// Accepts a data packet.
    ///
    /// # Errors
    /// If it is longer than the packet size in the header.
    pub(super) async fn packet(&mut self, bytes: &[u8]) -> Result<(), asf::Error> {
        self.first_packet_at.get_or_insert_with(Instant::now);
        if self.recent.is_new(bytes) {
            self.writer.packet(bytes).await
        } else {
            self.duplicates += 1;
            Ok(())
        }
    }

    /// Accepts bytes of a stream without framing; returns whether its header is complete.
    ///
    /// # Errors
    /// If they are not ASF.
    pub(super) async fn plain(&mut self, bytes: Bytes) -> Result<bool, asf::Error> {
        let settings = Settings { padding: Padding::Keep, live_header: true, remove_encoder_offset: false };
        let mut plain =
            self.parser.take().unwrap_or_else(|| PlainStream { parser: Parser::new(settings), header: None });
        plain.parser.push(bytes);
        while let Some(parsed) = plain.parser.next_packet()? {
            if plain.header.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &parsed.header)) {
                self.header(Header::parse(parsed.header.bytes().clone())?).await;
                plain.header = Some(Arc::clone(&parsed.header));
            }
            let [head, first, second] = parsed.packet.slices();
            if head.is_empty() && second.is_empty() {
                self.packet(&first).await?;
            } else {
                // Copies the packet if it is split across two chunks.
                let mut whole = BytesMut::with_capacity(parsed.packet.len());
                parsed.packet.write_to(&mut whole);
                self.packet(&whole).await?;
            }
        }
        // Deviations of a stream from another server concern its operator, not the operator of this one.
        while plain.parser.take_warning().is_some() {}
        let has_header = plain.header.is_some();
        self.parser = Some(plain);
        Ok(has_header)
    }

    /// Passes the packets received so far to the players. Returns how many packets since the last call had arrived
    /// before.
    pub(super) fn flush(&mut self) -> u64 {
        if self.first_packet_at.is_some() {
            self.last_data_at = Some(Instant::now());
        }
        self.writer.flush();
        std::mem::take(&mut self.duplicates)
    }

    /// Records that the connection is lost; returns when its first packet arrived.
    pub(super) fn disconnected(&mut self) -> Option<Instant> {
        self.flush();
        self.parser = None;
        self.has_header = false;
        self.first_packet_at.take()
    }

    /// Returns whether the players have a stream.
    pub(super) fn is_open(&self) -> bool {
        self.header.is_some()
    }

    /// Returns until when the players' stream is kept for an unavailable origin: `hold_time` after its last packet.
    pub(super) fn hold_until(&self, hold_time: Duration) -> Option<Instant> {
        self.header.as_ref()?;
        self.last_data_at?.checked_add(hold_time)
    }

    /// Ends the stream.
    pub(super) async fn end(&mut self) {
        self.disconnected();
        self.recent.clear();
        self.last_data_at = None;
        if self.header.take().is_some() {
            self.writer.end(SESSION_FINISH_TIMEOUT).await;
        }
    }
}
