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
    writer: StreamWriter,
    recent: RecentPackets,
    /// The header of the stream, while the players have one.
    header: Option<Bytes>,
    /// When data of the stream last arrived.
    last: Option<Instant>,
    /// When the first packet arrived on this connection.
    streamed: Option<Instant>,
    /// Whether a header arrived on this connection.
    begun: bool,
    /// The parser of a stream without framing.
    parser: Option<PlainStream>,
    duplicates: u64,
}

struct PlainStream {
    parser: Parser,
    /// The header of the previous packet, compared by identity.
    header: Option<Arc<Header>>,
}

impl StreamInput {
    pub(super) fn new(point: Arc<PublishingPoint>) -> Self {
        Self {
            writer: StreamWriter::new(point),
            recent: RecentPackets::default(),
            header: None,
            last: None,
            streamed: None,
            begun: false,
            parser: None,
            duplicates: 0,
        }
    }

    /// Sets the header of the packets that follow. An equal header after a lost connection continues the stream.
    pub(super) async fn header(&mut self, header: Header) {
        self.last = Some(Instant::now());
        let known = self.header.as_ref() == Some(header.bytes());
        if !known {
            self.recent.clear();
        } else if !self.begun {
            self.recent.reconnected();
        }
        self.begun = true;
        self.header = Some(header.bytes().clone());
        self.writer.header(header).await;
    }

    /// Accepts a data packet.
    ///
    /// # Errors
    /// If it is longer than the packet size in the header.
    pub(super) async fn packet(&mut self, bytes: &[u8]) -> Result<(), asf::Error> {
        self.streamed.get_or_insert_with(Instant::now);
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
        while let Some(unit) = plain.parser.next_packet()? {
            if plain.header.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &unit.header)) {
                self.header(Header::parse(unit.header.bytes().clone())?).await;
                plain.header = Some(Arc::clone(&unit.header));
            }
            let [head, first, second] = unit.packet.slices();
            if head.is_empty() && second.is_empty() {
                self.packet(&first).await?;
            } else {
                // Copies the packet if it is split across two chunks.
                let mut whole = BytesMut::with_capacity(unit.packet.len());
                unit.packet.write_to(&mut whole);
                self.packet(&whole).await?;
            }
        }
        while plain.parser.take_warning().is_some() {}
        let begun = plain.header.is_some();
        self.parser = Some(plain);
        Ok(begun)
    }

    /// Hands the packets received so far to the players. Returns how many packets since the last call had arrived
    /// before.
    pub(super) fn flush(&mut self) -> u64 {
        if self.streamed.is_some() {
            self.last = Some(Instant::now());
        }
        self.writer.flush();
        std::mem::take(&mut self.duplicates)
    }

    /// Notes that the connection is lost; returns when its first packet arrived.
    pub(super) fn disconnected(&mut self) -> Option<Instant> {
        self.flush();
        self.parser = None;
        self.begun = false;
        self.streamed.take()
    }

    /// Returns whether the players have a stream.
    pub(super) fn is_open(&self) -> bool {
        self.header.is_some()
    }

    /// Returns until when the players' stream is kept for an unavailable origin: `hold_time` after its last packet.
    pub(super) fn held_until(&self, hold_time: Duration) -> Option<Instant> {
        self.header.as_ref()?;
        self.last?.checked_add(hold_time)
    }

    /// Ends the stream.
    pub(super) async fn end(&mut self) {
        self.disconnected();
        self.recent.clear();
        self.last = None;
        if self.header.take().is_some() {
            self.writer.end(SESSION_FINISH_TIMEOUT).await;
        }
    }
}
