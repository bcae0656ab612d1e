//! Where a reader begins in mid-stream: what it cannot decode is left out.

use bytes::BytesMut;

use super::filter::{Selected, select};
use super::layout::PayloadFacts;
use crate::{Header, StreamKind};

/// Packets after which a stream that has not shown up counts as begun: a header may describe streams that are
/// never sent, and looking for them in every packet would never end.
const MAX_PACKETS: u16 = 256;

/// Leaves out of packets, from where a reader begins or resumes in mid-stream, what cannot be decoded there.
///
/// A video stream begins with a key frame: the packet in which that begins can hold the end of older frames too,
/// as can those that follow where there are several video streams. All other streams begin with a whole media
/// object (ASF 5.2.3). One bit a stream number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartFilter {
    streams: u128,
    video: u128,
    /// Streams of which nothing is left out any more.
    begun: u128,
    /// Streams of which there was a payload since the start.
    seen: u128,
    packets: u16,
}

impl StartFilter {
    /// For a reader that begins with the next packet: no stream has begun.
    #[must_use]
    pub fn new(header: &Header) -> Self {
        let bits = |wanted: fn(StreamKind) -> bool| {
            header.streams().iter().filter(|stream| wanted(stream.kind)).fold(0, |bits, s| bits | bit(s.number))
        };
        let video = bits(|kind| kind == StreamKind::Video);
        Self { streams: bits(|_| true), video, begun: 0, seen: 0, packets: 0 }
    }

    /// For a reader that has all streams: each of them has begun.
    #[must_use]
    pub fn under_way(header: &Header) -> Self {
        let filter = Self::new(header);
        Self { begun: filter.streams, ..filter }
    }

    /// The reader resumes with the next packet after a gap: all streams begin again.
    pub fn restart(&mut self) {
        self.begin_again(u128::MAX);
    }

    /// The streams whose bits are set begin again.
    pub fn begin_again(&mut self, streams: u128) {
        self.begun &= !streams;
        self.seen = 0;
        self.packets = 0;
    }

    /// Whether a payload can be decoded; to be asked once for each of a packet, in their order.
    pub fn admits(&mut self, payload: PayloadFacts) -> bool {
        let bit = bit(payload.stream);
        self.seen |= bit;
        if payload.begins && self.is_decodable_alone(payload) {
            self.begun |= bit;
        }
        self.begun & bit != 0
    }

    /// Whether a payload is of a media object that needs no other: a key frame, or anything but video. Audio has
    /// the key frame bit always or never.
    #[must_use]
    pub fn is_decodable_alone(&self, payload: PayloadFacts) -> bool {
        payload.key || self.video & bit(payload.stream) == 0
    }

    /// To be called after each packet.
    pub fn packet_done(&mut self) {
        self.packets = self.packets.saturating_add(1);
        if self.packets >= MAX_PACKETS {
            self.begun |= self.streams & !self.seen;
        }
    }

    /// Whether nothing is left out any more.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.begun & self.streams == self.streams
    }

    /// What a packet is without that which cannot be decoded; see [`select`].
    pub fn select(&mut self, packet: &[u8], out: &mut BytesMut) -> Selected {
        let selected = select(packet, out, |payload| self.admits(payload));
        self.packet_done();
        selected
    }
}

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

    /// What is left of a packet: the stream of each payload, whether it is of a key frame, and whether that begins there.
    fn left(filter: &mut StartFilter, payloads: Vec<Payload>) -> Vec<(u8, bool, bool)> {
        let packet = PacketBuilder::asfmux(400, payloads).build();
        let left = match filter.select(&packet, &mut BytesMut::new()) {
            Selected::Whole => packet.clone(),
            Selected::Part(part) => part,
            Selected::Nothing => return Vec::new(),
        };
        assert_eq!(left.len(), packet.len());
        let mut found = Vec::new();
        let kept = select(&left, &mut BytesMut::new(), |PayloadFacts { stream, key, begins }| {
            found.push((stream, key, begins));
            true
        });
        assert_eq!(kept, Selected::Whole);
        found
    }

    #[test]
    fn each_stream_begins_with_what_can_be_decoded() {
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
        // One that has been seen, without a key frame, is waited for.
        filter.restart();
        for _ in 0..2 * MAX_PACKETS {
            assert_eq!(left(&mut filter, vec![Payload::new(3, &[4; 9]), Payload::new(1, &[5; 9])]), [(1, false, true)]);
        }
        assert!(!filter.is_done());
    }
}
