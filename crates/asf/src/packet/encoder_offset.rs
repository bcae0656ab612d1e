//! Removes the 1000 hours that GStreamer's libav video encoders add to their timestamps.
//!
//! These encoders add the hours so that no timestamp is negative, and add them to their segment as well, so that the
//! running time stays right. The muxers for ASF do not take the segment into account: the times of the video streams,
//! and of packets that begin with video, are 1000 hours too large. Those of sound are not, since its encoders add
//! nothing.

use std::ops::RangeInclusive;

use super::layout::{Layout, visit_payloads};
use crate::Header;
use crate::cursor::Cursor;

/// 1000 hours in milliseconds. Times in packets have 32 bits, of which this is 84 %.
const OFFSET_MS: u32 = 3_600_000_000;
/// Smallest time that can have the offset: the first timestamp may be a little before zero.
const MIN_TIME_WITH_OFFSET_MS: u32 = OFFSET_MS - 60_000;
/// How much larger than another time a time with the offset is. The streams of a muxer are never hundreds of hours apart
/// for other reasons.
const DISTANCE_MS: RangeInclusive<u32> = OFFSET_MS / 2..=OFFSET_MS + 180 * 3_600_000;
/// Length of sound without a picture after which a stream with video is suspicious, milliseconds. A muxer alternates
/// between its streams at least once within the preroll.
const PICTURES_MISSING_MS: u32 = 3000;

/// Number of payloads that a packet can have: its count has 6 bits (ASF 5.2.3).
const MAX_PAYLOADS: usize = 63;

/// What is known of one stream.
#[derive(Clone, Copy, Debug)]
struct StreamTimes {
    number: u8,
    is_video: bool,
    /// Presentation times without the offset, the first and the latest, in milliseconds; `None` if no payload was received.
    range: Option<(u32, u32)>,
    /// Whether the latest payload had the offset.
    has_offset: bool,
}

/// Finds the streams of one header whose times have the offset, and removes it from packets.
#[derive(Debug)]
pub(crate) struct EncoderOffset {
    streams: Vec<StreamTimes>,
    /// Whether a send time had the offset.
    send_times_have_offset: bool,
    /// Whether the removal was reported.
    is_reported: bool,
    /// Whether missing pictures were reported.
    pictures_missing: bool,
}

/// Something to report, once for each header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The offset is removed from this packet and the following ones.
    Removed,
    /// The same, but the muxer has already written this much of the sound that belongs to the pictures, in milliseconds.
    Late(u32),
    /// A stream with video begins with this much sound and no picture, in milliseconds.
    PicturesMissing(u32),
}

impl EncoderOffset {
    pub(crate) fn new(header: &Header) -> Self {
        let numbers = header.streams().iter().map(|stream| stream.number);
        let streams = numbers
            .map(|number| StreamTimes { number, is_video: header.is_video(number), range: None, has_offset: false })
            .collect();
        Self { streams, send_times_have_offset: false, is_reported: false, pictures_missing: false }
    }

    /// Examines the next packet. Returns whether [`EncoderOffset::remove`] must change it, and what to report.
    pub(crate) fn examine(&mut self, packet: &Cursor<'_>) -> (bool, Option<Finding>) {
        self.try_examine(packet).unwrap_or((false, None))
    }

    /// As [`EncoderOffset::examine`]; `None` if the packet is invalid.
    fn try_examine(&mut self, packet: &Cursor<'_>) -> Option<(bool, Option<Finding>)> {
        let mut cursor = packet.clone();
        let layout = Layout::read(&mut cursor)?;
        // The times wait for the end of the packet: one that is valid only in part must not decide about a stream.
        let (mut times, mut count) = ([(0, 0); MAX_PAYLOADS], 0);
        visit_payloads(&layout, cursor, |head| {
            let time = head.presentation_time_at(&layout).and_then(|at| u32_at(packet, at));
            if let (Some(time), Some(entry)) = (time, times.get_mut(count)) {
                *entry = (head.stream(), time);
                count += 1;
            }
        })?;
        let (mut has_offset, mut finding, mut first) = (false, None, None);
        for &(stream, time) in times.get(..count).unwrap_or_default() {
            let in_payload = self.time_has_offset(stream, time);
            has_offset |= in_payload;
            let time = if in_payload { time.wrapping_sub(OFFSET_MS) } else { time };
            finding = self.record_time(stream, time, in_payload).or(finding);
            first.get_or_insert(time);
        }
        if first.is_some_and(|presentation_time| self.send_time_has_offset(layout.send_time, presentation_time)) {
            has_offset = true;
            self.send_times_have_offset = true;
            finding = finding.or(Some(Finding::Removed));
        }
        if matches!(finding, Some(Finding::Removed | Finding::Late(_)))
            && std::mem::replace(&mut self.is_reported, true)
        {
            finding = None;
        }
        Some((has_offset, finding))
    }

    /// Whether no packet needs to be examined any more, since all video streams were received without the offset. Other
    /// streams have it only together with video.
    pub(crate) fn is_done(&self) -> bool {
        let is_certain = |stream: &StreamTimes| !stream.has_offset && (stream.range.is_some() || !stream.is_video);
        !self.send_times_have_offset && self.streams.iter().all(is_certain)
    }

    /// Removes the offset from a packet that was examined.
    pub(crate) fn remove(&self, packet: &mut [u8]) {
        let original = Cursor::new(packet);
        let mut cursor = original.clone();
        let Some(layout) = Layout::read(&mut cursor) else { return };
        let (mut fields, mut first) = (Vec::new(), None);
        visit_payloads(&layout, cursor, |head| {
            let Some(at) = head.presentation_time_at(&layout) else { return };
            let Some(time) = u32_at(&original, at) else { return };
            let has_offset = self.time_has_offset(head.stream(), time);
            if has_offset {
                fields.push(at);
            }
            first.get_or_insert(if has_offset { time.wrapping_sub(OFFSET_MS) } else { time });
        });
        if first.is_some_and(|presentation_time| self.send_time_has_offset(layout.send_time, presentation_time)) {
            fields.push(layout.times_at);
        }
        for at in fields {
            if let Some(field) = packet.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<4>) {
                *field = u32::from_le_bytes(*field).wrapping_sub(OFFSET_MS).to_le_bytes();
            }
        }
    }

    /// Whether a presentation time of a stream has the offset: by the times of the stream before, or for its first
    /// payload by those of another stream. If there are none, the stream is taken to begin near zero without the offset.
    fn time_has_offset(&self, number: u8, time: u32) -> bool {
        let latest = |stream: &StreamTimes| stream.range.map(|(_, latest)| latest);
        let own = self.streams.iter().find(|stream| stream.number == number);
        let known = own.and_then(latest).or_else(|| self.streams.iter().find_map(latest));
        // After 193 hours more the time wraps.
        (time >= MIN_TIME_WITH_OFFSET_MS || own.is_some_and(|own| own.has_offset))
            && DISTANCE_MS.contains(&time.wrapping_sub(known.unwrap_or(0)))
    }

    /// Takes note of a presentation time, which is without the offset, and returns what to report.
    fn record_time(&mut self, number: u8, time: u32, has_offset: bool) -> Option<Finding> {
        let stream = self.streams.iter_mut().find(|stream| stream.number == number)?;
        stream.has_offset = has_offset;
        let is_first = stream.range.is_none();
        let (first, latest) = stream.range.get_or_insert((time, time));
        // Times wrap, so the sign of the difference decides which one is later.
        if time.wrapping_sub(*latest).cast_signed() > 0 {
            *latest = time;
        }
        let (length, is_video) = (latest.wrapping_sub(*first), stream.is_video);
        if has_offset {
            let sound = self.streams.iter().find(|stream| stream.number != number && !stream.has_offset);
            let sound = sound.and_then(|stream| stream.range).map(|(_, latest)| latest);
            let late = sound.filter(|_| is_first).map_or(0, |sound| sound.wrapping_sub(time).cast_signed());
            let late = u32::try_from(late).unwrap_or(0);
            let is_late = late >= PICTURES_MISSING_MS && !self.pictures_missing;
            return Some(if is_late { Finding::Late(late) } else { Finding::Removed });
        }
        if is_video || length < PICTURES_MISSING_MS || self.pictures_missing {
            return None;
        }
        let mut video = self.streams.iter().filter(|stream| stream.is_video).peekable();
        self.pictures_missing = video.peek().is_some() && video.all(|stream| stream.range.is_none());
        self.pictures_missing.then_some(Finding::PicturesMissing(length))
    }

    /// Whether a send time has the offset, by the presentation time of the first payload. asfmux lets presentation times
    /// begin at zero, but not send times.
    fn send_time_has_offset(&self, send_time: u32, presentation_time: u32) -> bool {
        (send_time >= MIN_TIME_WITH_OFFSET_MS || self.send_times_have_offset)
            && DISTANCE_MS.contains(&send_time.wrapping_sub(presentation_time))
    }
}

/// The DWORD at this offset in the packet.
fn u32_at(packet: &Cursor<'_>, at: usize) -> Option<u32> {
    let mut cursor = packet.clone();
    cursor.skip(at)?;
    cursor.u32()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::send_time;
    use crate::test_util::{HeaderBuilder, PacketBuilder, Payload};

    const AUDIO: u8 = 1;
    const VIDEO: u8 = 2;

    fn offset() -> EncoderOffset {
        EncoderOffset::new(&Header::parse(HeaderBuilder::default().build()).unwrap())
    }

    fn payload(stream: u8, time: u32) -> Payload {
        Payload { time: Some(time), ..Payload::new(stream, &[stream; 20]) }
    }

    /// Examines a packet, and removes the offset if it has any. Returns the times of the packet and of its payloads, and
    /// what is to report. Checks that nothing else has changed.
    fn removed(offset: &mut EncoderOffset, send: u32, payloads: Vec<Payload>) -> (u32, Vec<u32>, Option<Finding>) {
        let builder = PacketBuilder::asfmux(400, payloads);
        let packet = builder.clone().send_time(send).build();
        // The packet is in two buffers.
        let (first, second) = packet.split_at(20);
        let (has_offset, finding) =
            if offset.is_done() { (false, None) } else { offset.examine(&Cursor::joined(first, second)) };
        let mut changed = packet.to_vec();
        if has_offset {
            offset.remove(&mut changed);
            assert_ne!(changed, packet);
        }
        let mut cursor = Cursor::new(&changed);
        let layout = Layout::read(&mut cursor).unwrap();
        let mut times = Vec::new();
        visit_payloads(&layout, cursor, |head| times.push(head.presentation_time(&changed).unwrap())).unwrap();
        let mut expected = builder.send_time(send_time(&changed).unwrap());
        for (payload, time) in expected.payloads.iter_mut().zip(&times) {
            payload.time = Some(*time);
        }
        assert!(changed == expected.build(), "only times change");
        (layout.send_time, times, finding)
    }

    /// All sound first, as asfmux writes it, the last of it in one packet with the first picture.
    #[test]
    fn the_offset_of_one_stream_is_removed() {
        let mut offset = offset();
        for time in [0, 300, 600] {
            let sound = removed(&mut offset, time, vec![payload(AUDIO, time + 5000)]);
            assert_eq!(sound, (time, vec![time + 5000], None));
        }
        let mixed = vec![payload(AUDIO, 5900), payload(VIDEO, OFFSET_MS + 5000)];
        assert_eq!(removed(&mut offset, 900, mixed), (900, vec![5900, 5000], Some(Finding::Removed)));
        let pictures = vec![payload(VIDEO, OFFSET_MS + 5040), payload(VIDEO, OFFSET_MS + 5080)];
        assert_eq!(removed(&mut offset, OFFSET_MS + 40, pictures), (40, vec![5040, 5080], None));
        assert_eq!(removed(&mut offset, 900, vec![payload(AUDIO, 5920)]), (900, vec![5920], None));
    }

    /// A compressed payload has its presentation time in the field of the offset.
    #[test]
    fn the_offset_of_compressed_payloads_is_removed() {
        let mut offset = offset();
        let pictures = vec![payload(VIDEO, OFFSET_MS + 5000).compressed(), payload(AUDIO, 5000)];
        assert_eq!(removed(&mut offset, OFFSET_MS, pictures), (0, vec![5000, 5000], Some(Finding::Removed)));
    }

    /// Video alone: avmux_asf has the offset in all times, asfmux in the send times only.
    #[test]
    fn the_offset_of_all_is_removed() {
        for first in [OFFSET_MS + 3100, 5000] {
            let mut offset = offset();
            for time in (0..400).step_by(40) {
                let picture = removed(&mut offset, OFFSET_MS + time, vec![payload(VIDEO, first + time)]);
                let presentation_time = (first % OFFSET_MS) + time;
                assert_eq!(picture, (time, vec![presentation_time], (time == 0).then_some(Finding::Removed)));
            }
        }
    }

    /// The times wrap 193 hours later.
    #[test]
    fn the_offset_is_removed_after_the_times_wrap() {
        for first in [OFFSET_MS + 5000, 5000] {
            let mut offset = offset();
            removed(&mut offset, OFFSET_MS, vec![payload(VIDEO, first)]);
            for later in (0..1_000_000_000).step_by(50_000_000) {
                let (send, presentation_time) = (OFFSET_MS.wrapping_add(later), first.wrapping_add(later));
                let picture = removed(&mut offset, send, vec![payload(VIDEO, presentation_time)]);
                assert_eq!(picture, (later, vec![later + 5000], None));
            }
        }
    }

    /// Sound that was all written before the pictures.
    #[test]
    fn pictures_that_are_late_or_missing_are_reported() {
        let mut offset = offset();
        let findings: Vec<_> =
            (0..12).filter_map(|at| removed(&mut offset, at * 500, vec![payload(AUDIO, at * 500 + 5000)]).2).collect();
        assert_eq!(findings, [Finding::PicturesMissing(3000)]);
        let (_, times, finding) = removed(&mut offset, OFFSET_MS, vec![payload(VIDEO, OFFSET_MS + 5000)]);
        assert_eq!((times, finding), (vec![5000], Some(Finding::Removed)), "the remedy was reported");

        let mut offset = self::offset();
        removed(&mut offset, 0, vec![payload(AUDIO, 5000)]);
        let mixed = vec![payload(AUDIO, 9000), payload(VIDEO, OFFSET_MS + 5000)];
        removed(&mut offset, 4000, mixed);
        let findings = [PICTURES_MISSING_MS, PICTURES_MISSING_MS - 1].map(|late| {
            let mut offset = self::offset();
            removed(&mut offset, 0, vec![payload(AUDIO, 5000 + late)]);
            removed(&mut offset, late, vec![payload(VIDEO, OFFSET_MS + 5000)]).2
        });
        assert_eq!(findings, [Some(Finding::Late(PICTURES_MISSING_MS)), Some(Finding::Removed)]);
    }

    /// Streams without the offset are never changed, however long they run, and whenever a stream begins.
    #[test]
    fn times_without_the_offset_are_unchanged() {
        for times in [
            &[(AUDIO, 0), (VIDEO, 40), (AUDIO, 40), (VIDEO, OFFSET_MS), (AUDIO, OFFSET_MS)][..],
            // A stream of pictures that begins after 1000 hours.
            &[(AUDIO, 0), (AUDIO, 1_000_000_000), (AUDIO, 2_500_000_000), (AUDIO, OFFSET_MS - 40), (VIDEO, OFFSET_MS)],
            &[(AUDIO, 0), (VIDEO, 40_000_000), (AUDIO, 40)],
            &[(AUDIO, 0), (VIDEO, u32::MAX), (AUDIO, 40)],
            &[(VIDEO, 1_000_000_000), (AUDIO, 0)],
            // Times that wrap.
            &[(VIDEO, u32::MAX - 40), (VIDEO, u32::MAX), (VIDEO, 39)],
        ] {
            let mut offset = offset();
            for &(stream, time) in times {
                let (send, presentation_time, finding) = removed(&mut offset, time, vec![payload(stream, time)]);
                assert_eq!((send, presentation_time), (time, vec![time]), "{times:?}");
                assert!(matches!(finding, None | Some(Finding::PicturesMissing(_))), "{times:?}: {finding:?}");
            }
        }
        // Some muxers write no send times.
        let mut offset = offset();
        for time in (0..30).map(|at| at * 100_000_000) {
            let packet = removed(&mut offset, 0, vec![payload(VIDEO, time)]);
            assert_eq!(packet, (0, vec![time], None));
        }
    }

    #[test]
    fn invalid_packets_are_ignored() {
        let mut offset = offset();
        let packet = PacketBuilder::asfmux(200, vec![payload(VIDEO, OFFSET_MS)]).send_time(OFFSET_MS).build();
        for bytes in [&[][..], &[0xFF; 50], &packet[..30]] {
            assert_eq!(offset.examine(&Cursor::new(bytes)), (false, None));
        }
        assert!(offset.streams.iter().all(|stream| stream.range.is_none()));
    }
}
