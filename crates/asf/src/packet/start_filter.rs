//! Removes payloads that a reader cannot decode because it starts in mid-stream.

use bytes::BytesMut;

use super::filter::{Selected, select};
use super::layout::PayloadInfo;
use crate::{Header, StreamKind};

/// Number of packets after which a stream without payloads counts as started. A header may describe streams that are
/// never sent, and the filter would otherwise inspect every packet for them forever.
const MAX_PACKETS: u16 = 256;

/// Removes the payloads that a reader cannot decode after it starts or resumes in mid-stream.
///
/// A video stream starts with a key frame. The packet in which the key frame begins can also contain the end of older
/// frames, and so can later packets if there are several video streams. All other streams start with a whole media
/// object (ASF 5.2.3). The bit masks have one bit per stream number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartFilter {
    /// All streams of the header.
    streams: u128,
    /// The video streams among them.
    video: u128,
    /// Streams that have started: their payloads are no longer removed.
    started: u128,
    /// Streams with at least one payload since the start.
    seen: u128,
    /// Number of packets since the start.
    packets: u16,
}

impl StartFilter {
    /// Creates a filter for a reader that starts with the next packet: no stream has started.
    #[must_use]
    pub fn new(header: &Header) -> Self {
        let bits = |wanted: fn(StreamKind) -> bool| {
            header.streams().iter().filter(|stream| wanted(stream.kind)).fold(0, |bits, s| bits | bit(s.number))
        };
        let video = bits(|kind| kind == StreamKind::Video);
        Self { streams: bits(|_| true), video, started: 0, seen: 0, packets: 0 }
    }

    /// Creates a filter for a reader that already receives all streams: each of them has started.
    #[must_use]
    pub fn already_started(header: &Header) -> Self {
        let filter = Self::new(header);
        Self { started: filter.streams, ..filter }
    }

    /// Restarts all streams, because the reader resumes with the next packet after a gap.
    pub fn restart(&mut self) {
        self.restart_streams(u128::MAX);
    }

    /// Restarts the streams whose bits are set.
    pub fn restart_streams(&mut self, streams: u128) {
        self.started &= !streams;
        self.seen = 0;
        self.packets = 0;
    }

    /// Returns whether a payload can be decoded, and records the start of its stream. Call it once for each payload of
    /// a packet, in order.
    pub fn accepts(&mut self, payload: PayloadInfo) -> bool {
        let bit = bit(payload.stream);
        self.seen |= bit;
        if payload.begins && self.is_decodable_alone(payload) {
            self.started |= bit;
        }
        self.started & bit != 0
    }

    /// Whether a payload's media object can be decoded without others: a key frame, or anything but video. For audio
    /// the key frame bit has no meaning: muxers set it always or never.
    #[must_use]
    pub fn is_decodable_alone(&self, payload: PayloadInfo) -> bool {
        payload.key || self.video & bit(payload.stream) == 0
    }

    /// Counts a packet. Call it after each packet.
    pub fn count_packet(&mut self) {
        self.packets = self.packets.saturating_add(1);
        if self.packets >= MAX_PACKETS {
            self.started |= self.streams & !self.seen;
        }
    }

    /// Whether all streams have started, so that nothing more is removed.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.started & self.streams == self.streams
    }

    /// Removes the payloads that cannot be decoded from a packet; see [`select`].
    pub fn select(&mut self, packet: &[u8], out: &mut BytesMut) -> Selected {
        let selected = select(packet, out, |payload| self.accepts(payload));
        self.count_packet();
        selected
    }
}

/// The bit of a stream number. Stream numbers have seven bits, so one of `u128` exists for each.
fn bit(number: u8) -> u128 {
    1_u128.checked_shl(number.into()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::{AUDIO_MEDIA, HeaderBuilder, PacketBuilder, Payload, VIDEO_MEDIA};

    /// Sound in stream 1, video in 2 and 3.
    fn header() -> Header {
        let streams = vec![(1, AUDIO_MEDIA), (2, VIDEO_MEDIA), (3, VIDEO_MEDIA)];
        Header::parse(HeaderBuilder { streams, ..HeaderBuilder::default() }.build()).unwrap()
    }

    /// The payloads left in a packet: stream, whether it belongs to a key frame, and whether a media object begins
    /// there.
    fn left(filter: &mut StartFilter, payloads: Vec<Payload>) -> Vec<(u8, bool, bool)> {
        let packet = PacketBuilder::asfmux(400, payloads).build();
        let left = match filter.select(&packet, &mut BytesMut::new()) {
            Selected::Whole => packet.clone(),
            Selected::Part(part) => part,
            Selected::Nothing => return Vec::new(),
        };
        assert_eq!(left.len(), packet.len());
        let mut found = Vec::new();
        let kept = select(&left, &mut BytesMut::new(), |PayloadInfo { stream, key, begins }| {
            found.push((stream, key, begins));
            true
        });
        assert_eq!(kept, Selected::Whole);
        found
    }

    #[test]
    fn each_stream_starts_at_a_decodable_payload() {
        let mut filter = StartFilter::new(&header());
        let first = vec![
            Payload::new(2, &[1; 9]).at(50),
            Payload::new(2, &[2; 9]),
            Payload::new(3, &[3; 9]),
            Payload::new(1, &[4; 9]).at(7),
            Payload::new(1, &[5; 9]),
            Payload::new(2, &[6; 9]).key(),
        ];
        assert_eq!(left(&mut filter, first), [(1, false, true), (2, true, true)]);
        assert!(!filter.is_done(), "the other video stream has no key frame yet");
        let second = vec![
            Payload::new(3, &[7; 9]).at(9),
            Payload::new(2, &[8; 9]).key().at(9),
            Payload::new(3, &[9; 9]).key().at(9),
            Payload::new(1, &[10; 9]).at(9),
        ];
        assert_eq!(
            left(&mut filter, second),
            [(2, true, false), (1, false, false)],
            "the rest of what has begun, and of nothing else"
        );
        let third = vec![Payload::new(3, &[11; 9]), Payload::new(3, &[12; 9]).key(), Payload::new(3, &[13; 9])];
        assert_eq!(left(&mut filter, third), [(3, true, true), (3, false, true)]);
        assert!(filter.is_done());
        filter.restart();
        assert_eq!(left(&mut filter, vec![Payload::new(2, &[14; 9]), Payload::new(1, &[15; 9])]), [(1, false, true)]);
        assert_eq!(left(&mut filter, vec![Payload::new(2, &[16; 9])]), []);
    }

    #[test]
    fn streams_that_are_never_sent_are_not_waited_for() {
        let mut filter = StartFilter::new(&header());
        assert_eq!(
            left(&mut filter, vec![Payload::new(1, &[1; 9]), Payload::new(2, &[2; 9]).key()]),
            [(1, false, true), (2, true, true)]
        );
        for packets in 1..MAX_PACKETS {
            assert!(!filter.is_done(), "{packets}");
            assert_eq!(left(&mut filter, vec![Payload::new(2, &[3; 9])]), [(2, false, true)]);
        }
        assert!(filter.is_done());
        // A stream that has been seen but has not had a key frame is waited for.
        filter.restart();
        for _ in 0..2 * MAX_PACKETS {
            assert_eq!(left(&mut filter, vec![Payload::new(3, &[4; 9]), Payload::new(1, &[5; 9])]), [(1, false, true)]);
        }
        assert!(!filter.is_done());
    }
}
