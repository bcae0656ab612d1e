use super::*;
use crate::test_util::{self, HeaderBuilder, PacketBuilder, Payload};

/// A parser with its packets, warnings and errors.
struct Run {
    parser: Parser,
    packets: Vec<ParsedPacket>,
    error: Option<Error>,
}

impl Run {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        Self { parser: Parser::new(settings), packets: Vec::new(), error: None }
    }

    fn push(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.parser.push(Bytes::copy_from_slice(bytes.as_ref()));
        loop {
            match self.parser.next_packet() {
                Ok(Some(packet)) => self.packets.push(packet),
                Ok(None) => return self,
                Err(error) => {
                    self.error = Some(error);
                    return self;
                }
            }
        }
    }

    fn event(&mut self, event: impl FnOnce(&mut Parser)) -> &mut Self {
        event(&mut self.parser);
        self
    }

    /// Send times of the packets, in 100 ms.
    fn numbers(&self) -> Vec<u32> {
        assert_eq!(self.error, None);
        let sent = self.packets.iter().map(|parsed| parsed.packet.send_time() / 100);
        sent.collect()
    }

    /// Number of packets of each header.
    fn streams(&self) -> Vec<usize> {
        self.packets.chunk_by(|a, b| Arc::ptr_eq(&a.header, &b.header)).map(<[ParsedPacket]>::len).collect()
    }

    fn warnings(&mut self) -> Vec<Warning> {
        std::iter::from_fn(|| self.parser.take_warning()).collect()
    }
}

fn header() -> Bytes {
    HeaderBuilder::default().build()
}

fn packets(count: u32) -> Vec<u8> {
    test_util::packets(200, count).concat()
}

fn from(first: u32, end: u32) -> Vec<u32> {
    (first..end).collect()
}

#[test]
fn a_header_and_packets_are_parsed() {
    let mut run = Run::new();
    run.push(header()).push(packets(3));
    assert_eq!(run.numbers(), [0, 1, 2]);
    assert_eq!(run.streams(), [3]);
    assert!(run.packets[0].header.is_broadcast());
    assert!(run.packets[0].packet.starts_key_frame());
    assert!(!run.packets[1].packet.starts_key_frame());
    assert_eq!(run.parser.finish(), Ok(()));
    assert_eq!(run.warnings(), []);
}

#[test]
fn the_header_is_unchanged_if_the_settings_say_so() {
    let mut run = Run::with(Settings { live_header: false, padding: Padding::Keep, remove_encoder_offset: false });
    run.push(header()).push(packets(1));
    assert_eq!(run.packets[0].header.bytes(), &header());
    assert_eq!(run.packets[0].packet.len(), 200);
}

#[test]
fn data_of_known_size_ends_at_that_size() {
    for (size, count) in [(10, 10), (21, 21), (1, 1)] {
        let mut run = Run::new();
        run.push(HeaderBuilder::default().finite(size).build());
        run.push(packets(21)).push(test_util::index());
        assert_eq!(run.numbers().len(), count);
    }
    let one_byte = HeaderBuilder { data_size: 51, ..HeaderBuilder::default() };
    let mut run = Run::new();
    run.push(one_byte.build()).push(packets(5));
    assert_eq!(run.numbers(), [0]);
}

#[test]
fn an_index_ends_the_data_and_another_header_starts_a_stream() {
    for guid in [test_util::SIMPLE_INDEX, test_util::INDEX, test_util::MEDIA_OBJECT_INDEX, test_util::TIMECODE_INDEX] {
        let index = test_util::object(guid, &[0x30; 333]);
        let mut run = Run::new();
        run.push([&header()[..], &packets(4), &index, b"$E1234567890"].concat());
        assert_eq!(run.numbers(), from(0, 4));
        run.push(header()).push(packets(2));
        assert_eq!(run.streams(), [4, 2]);
        assert_eq!(run.parser.finish(), Ok(()));
        assert_eq!(run.warnings(), []);
    }
}

#[test]
fn a_header_between_packets_is_another_stream_even_if_equal() {
    let mut run = Run::new();
    run.push([&header()[..], &packets(3), &header(), &packets(2)].concat());
    assert_eq!(run.streams(), [3, 2]);
    // A header alone must not wait for the bytes of a packet.
    let small = HeaderBuilder::default().packet_size(2000).build();
    run.push(&small);
    assert_eq!(run.parser.header().unwrap().packet_size(), 2000);
}

#[test]
fn a_header_inside_a_packet_truncates_the_packet() {
    for cut in 1..200 {
        let mut run = Run::new();
        run.push(header()).push(packets(2)).push(&packets(1)[..cut]);
        run.push(header()).push(packets(3));
        assert_eq!(run.error, None, "cut at {cut}");
        let lens = run.streams();
        // If the new header's start completes the packet, it is recognised too late.
        assert!(lens == [2, 3] || (cut > 170 && lens == [3, 3]), "{cut}: {lens:?}");
    }
}

#[test]
fn an_invalid_header_after_the_data_is_skipped() {
    let mut fake = header().to_vec();
    fake[30] ^= 1;
    let mut run = Run::new();
    run.push([&header()[..], &packets(2), &test_util::index(), &fake].concat());
    run.push([&header()[..], &packets(3)].concat());
    assert_eq!(run.streams(), [2, 3]);
    assert!(matches!(run.warnings()[..], [Warning::BrokenHeader(_)]));
    // Between packets it is an error.
    let mut run = Run::new();
    run.push([&header()[..], &packets(2), &fake].concat());
    assert!(matches!(run.error, Some(Error::InvalidHeader { .. })));
}

/// The 1000 hours that libav's encoders add are removed and reported once, in whatever order the streams come.
#[test]
fn a_thousand_hours_are_removed() {
    const HOURS: u32 = 3_600_000_000;
    let packet = |time| PacketBuilder::asfmux(200, vec![Payload::new(1, &[1; 20])]).send_time(time).build();
    let before = u32::MAX - 11;
    for (times, sent, is_removed) in [
        (&[0, 40, HOURS - 12, HOURS + 28, 80, HOURS][..], &[0, 40, before, 28, 80, 0][..], true),
        (&[HOURS, HOURS + 40, 46, 92], &[0, 40, 46, 92], true),
        (&[HOURS, HOURS + 40], &[0, 40], true),
        (&[0, 40_000_000, 0, u32::MAX, 10, 7_200_000], &[0, 40_000_000, 0, u32::MAX, 10, 7_200_000], false),
    ] {
        let mut run = Run::new();
        run.push(header());
        for chunk in times.iter().flat_map(|time| packet(*time)).collect::<Vec<_>>().chunks(77) {
            run.push(chunk);
        }
        let found: Vec<u32> = run.packets.iter().map(|parsed| parsed.packet.send_time()).collect();
        assert_eq!(found, sent);
        let warnings = run.warnings();
        let removed = matches!(warnings[..], [Warning::OffsetRemoved { .. }]);
        assert_eq!(removed, is_removed, "{times:?}: {warnings:?}");
        assert!(!is_removed || warnings[0].is_repaired() && says_the_remedy(&warnings[0]), "{warnings:?}");
    }
}

/// A WARNING says what to do if the sound was all written before the pictures.
#[test]
fn pictures_after_all_sound_are_reported() {
    const HOURS: u32 = 3_600_000_000;
    let packet =
        |stream, time| PacketBuilder::asfmux(200, vec![Payload::new(stream, &[1; 20])]).send_time(time).build();
    let mut run = Run::with(Settings { remove_encoder_offset: false, ..Settings::default() });
    run.push(header()).push(packet(1, 0)).push(packet(2, HOURS));
    assert_eq!((run.packets[1].packet.send_time(), run.warnings()), (HOURS, vec![]), "not examined");

    // Reported once, whatever headers follow.
    let mut run = Run::new();
    for _ in 0..2 {
        run.push(header()).push(packet(1, 0)).push(packet(1, 2900)).push(packet(1, 3000)).push(packet(2, HOURS));
    }
    let warnings = run.warnings();
    assert!(
        matches!(warnings[..], [Warning::PicturesMissing { sound_ms: 3000 }, Warning::OffsetRemoved { .. }]),
        "{warnings:?}"
    );
    let mut run = Run::new();
    let mixed = PacketBuilder::asfmux(200, vec![Payload::new(1, &[1; 20])]).send_time(4000).build();
    run.push(header()).push(mixed).push(packet(2, HOURS));
    let warnings = run.warnings();
    assert!(matches!(warnings[..], [Warning::PicturesLate { late_ms: 4000, .. }]), "{warnings:?}");
    assert!(!warnings[0].is_repaired() && says_the_remedy(&warnings[0]));
}

fn says_the_remedy(warning: &Warning) -> bool {
    warning.to_string().contains("identity single-segment=true")
}

#[test]
fn eight_consecutive_invalid_packets_are_an_error() {
    let mut run = Run::new();
    run.push(header()).push(packets(1)).push([0xFF; 1400]);
    assert_eq!(run.error, None);
    assert_eq!(run.packets.len(), 8);
    assert!(matches!(run.warnings()[..], [Warning::UnparsedPacket { .. }]));
    run.push(packets(1)).push([0xFF; 1600]);
    let offset = header().len() as u64 + 9 * 200;
    let lost = Error::LostAlignment { offset, packets: 8 };
    assert_eq!(run.error, Some(lost.clone()));
    assert_eq!(run.parser.next_packet().unwrap_err(), lost);
    assert_eq!(run.parser.finish(), Err(lost));
}

#[test]
fn a_partial_packet_at_the_end_is_dropped() {
    let mut run = Run::new();
    run.push(header()).push(packets(1)).push([0; 30]);
    assert_eq!(run.parser.finish(), Ok(()));
    assert!(matches!(run.warnings()[..], [Warning::PartialPacket { len: 30, .. }]));
    let mut run = Run::new();
    run.push(header()).push(packets(1)).push(b"$E\x08\0\0\0\0\0\0\0\0\0");
    assert_eq!(run.parser.finish(), Ok(()));
    assert_eq!(run.warnings(), []);
}

#[test]
fn a_partial_header_at_the_end_is_dropped() {
    for (before, len) in [(packets(1), 30), (packets(1), 16), ([packets(1), test_util::index().to_vec()].concat(), 99)]
    {
        let mut run = Run::new();
        run.push(header()).push(&before).push(&header()[..len]);
        assert_eq!(run.parser.finish(), Ok(()));
        let warnings = run.warnings();
        let at = header().len() as u64 + before.len() as u64;
        assert_eq!(warnings, [Warning::PartialHeader { offset: at, len }]);
        assert!(warnings[0].to_string().contains("ends after"), "{warnings:?}");
    }
    // A stream that ends before another one begins is complete.
    let mut run = Run::new();
    run.push(header()).push(packets(1)).event(Parser::new_stream);
    assert_eq!(run.parser.finish(), Ok(()));
    assert_eq!(run.warnings(), []);
}

#[test]
fn without_a_header_the_end_is_an_error() {
    let ended = |bytes: &[u8]| {
        let mut run = Run::new();
        run.push(bytes);
        run.parser.finish().unwrap_err()
    };
    assert_eq!(ended(b""), Error::NoHeader { received: 0 });
    assert_eq!(ended(&header()[..10]), Error::NoHeader { received: 10 });
    assert_eq!(ended(&header()[..99]), Error::NoHeader { received: 99 });
    assert!(ended(b"JFIF").is_wrong_type());
    assert_eq!(ended(b"$H"), Error::AsfStream { offset: 0 });
}

#[test]
fn a_header_of_unknown_size_ends_at_the_data_object() {
    let mut open = HeaderBuilder::default().object(test_util::PADDING, &vec![0x36; 40_000]).build().to_vec();
    open[16..24].fill(0xFF);
    for chunk in [1000, 4096, 100_000] {
        let mut run = Run::new();
        for bytes in [&open[..], &packets(2)].concat().chunks(chunk) {
            run.push(bytes);
        }
        assert_eq!(run.numbers(), [0, 1]);
        assert!(matches!(run.warnings()[..], [Warning::HeaderSizeRepaired { .. }]));
    }
}

#[test]
fn a_header_rewritten_before_it_is_complete_is_used() {
    // avmux_asf writes headers of more than 4096 bytes in this way.
    let whole = HeaderBuilder::default().object(test_util::CODEC_LIST, &vec![1; 5000]).build();
    let object = whole.len() - 50;
    let mut draft = whole.to_vec();
    draft[16..24].fill(0xFF);
    draft[400..408].fill(0xEE);
    let mut run = Run::new();
    run.event(|p| p.segment(0)).push(&draft[..4096]).push(&draft[4096..object]);
    run.event(|p| p.segment(400)).push(&whole[400..403]).push(&whole[403..408]);
    run.event(|p| p.segment(16)).push(&whole[16..24]);
    run.event(|p| p.segment(object as u64)).push(&whole[object..]);
    run.push(packets(3));
    assert_eq!(run.numbers(), from(0, 3));
    assert_eq!(run.packets[0].header.bytes().len(), whole.len());
    assert_eq!(run.packets[0].header.bytes()[400..408], whole[400..408]);
    assert_eq!(run.warnings(), []);
    // And all of it again at the end.
    run.event(|p| p.segment(400)).push(&whole[400..408]);
    run.event(|p| p.segment(object as u64)).push(&whole[object..]);
    assert_eq!(run.parser.finish(), Ok(()));
    assert_eq!(run.streams(), [3]);
}

#[test]
fn a_header_rewritten_at_the_end_is_not_another_stream() {
    let mut run = Run::new();
    run.event(|p| p.segment(0)).push(header()).push(packets(3));
    run.event(|p| p.segment(0)).push(header()).push(packets(3));
    assert_eq!(run.streams(), [3]);
    // Back at the end, parsing continues.
    let end = header().len() as u64 + 600;
    run.event(|p| p.segment(end)).push(packets(2));
    assert_eq!(run.streams(), [5]);
    // Another stream is recognised even while it is rewritten.
    run.event(|p| p.segment(70)).push([0; 64]);
    run.event(Parser::new_stream).event(|p| p.segment(9999));
    run.push(header()).push(packets(1));
    assert_eq!(run.streams(), [5, 1]);
}

#[test]
fn a_seek_continues_at_the_next_whole_packet() {
    let all = [&header()[..], &packets(9)].concat();
    let first = header().len();
    for (into, next) in [(0, 5), (1, 6), (199, 6)] {
        let mut run = Run::new();
        run.event(|p| p.segment(0)).push(&all[..first + 450]);
        let at = first + 1000 + into;
        run.event(|p| p.segment(at as u64)).push(&all[at..at + 20]).push(&all[at + 20..]);
        let wanted: Vec<u32> = [0, 1].into_iter().chain(next..9).collect();
        assert_eq!(run.numbers(), wanted);
        // After a flush, also backwards.
        run.event(Parser::discontinuity).event(|p| p.segment(first as u64 + 200));
        run.push(&all[first + 200..first + 600]);
        assert_eq!(run.numbers()[wanted.len()..], [1, 2]);
        run.event(Parser::discontinuity).event(|p| p.segment(0)).push(&all);
        assert_eq!(run.streams(), [wanted.len() + 2, 9]);
    }
}

#[test]
fn a_seek_without_a_flush_can_go_back() {
    let all = [&header()[..], &packets(9)].concat();
    let first = header().len();
    let mut run = Run::new();
    run.event(|p| p.segment(0)).push(&all[..first + 450]);
    run.event(|p| p.seek_to(first as u64 + 200)).push(&all[first + 200..first + 600]);
    assert_eq!(run.numbers(), [0, 1, 1, 2]);
    run.event(|p| p.seek_to(0)).push(&all);
    assert_eq!(run.streams(), [4, 9]);
    // To the same offset.
    run.push(&packets(1)[..100]).event(|p| p.seek_to(all.len() as u64 + 100)).push(&packets(1)[100..]);
    assert_eq!(run.streams(), [4, 10]);
}

/// A flush discards an incomplete packet: its rest, which is sent again, does not begin a packet.
#[test]
fn a_flushing_seek_to_the_same_offset_finds_the_packets() {
    let all = [&header()[..], &packets(9)].concat();
    let at = header().len() + 450;
    let mut run = Run::new();
    run.event(|p| p.segment(0)).push(&all[..at]);
    run.event(Parser::discontinuity).event(|p| p.segment(at as u64)).push(&all[at..]);
    assert_eq!(run.numbers(), [0, 1, 3, 4, 5, 6, 7, 8]);
    // Twice, before any byte.
    let mut run = Run::new();
    run.event(|p| p.segment(0)).push(&all[..at + 50]);
    for _ in 0..2 {
        run.event(Parser::discontinuity).event(|p| p.segment(at as u64 + 250));
    }
    run.push(&all[at + 250..]);
    assert_eq!(run.numbers(), [0, 1, 4, 5, 6, 7, 8]);
}

#[test]
fn missing_bytes_drop_the_partial_packet() {
    let mut run = Run::new();
    run.event(Parser::discontinuity).push(header());
    run.push(&packets(2)[..250]).event(Parser::discontinuity).push(packets(1));
    assert_eq!(run.numbers(), [0, 0]);
    assert!(matches!(run.warnings()[..], [Warning::PartialPacket { len: 50, .. }]));
}

#[test]
fn another_stream_must_begin_with_a_header() {
    let mut run = Run::new();
    run.push(header()).push(packets(2)).push([1; 20]);
    run.event(Parser::new_stream).push(header()).push(packets(1));
    assert_eq!(run.streams(), [2, 1]);
    run.event(Parser::new_stream).push([7; 16]);
    assert!(run.error.as_ref().is_some_and(Error::is_wrong_type));
}

#[test]
fn the_header_in_the_caps_is_used_if_the_bytes_have_none() {
    let mut run = Run::new();
    run.event(|p| p.stream_header(header())).push(packets(3));
    assert_eq!(run.numbers(), from(0, 3));
    // In the middle of a file the packets must be found.
    let mut run = Run::new();
    let first = header().len();
    run.event(|p| p.stream_header(header()));
    run.event(|p| p.segment(first as u64 + 250)).push(&packets(5)[250..]);
    assert_eq!(run.numbers(), [2, 3, 4]);
}

#[test]
fn equal_headers_in_caps_and_bytes_are_one_stream() {
    let mut run = Run::new();
    run.event(|p| p.stream_header(header())).push(header()).push(packets(1));
    run.event(|p| p.stream_header(header())).push(packets(1));
    assert_eq!(run.streams(), [2]);
    // Also caps that arrive late.
    let mut run = Run::new();
    run.push(header()).push(packets(1));
    run.event(|p| p.stream_header(header())).push(packets(1));
    assert_eq!(run.streams(), [2]);
    // Different caps announce another stream, with or without a header in the bytes.
    let other = HeaderBuilder::default().packet_size(400).build();
    run.event(|p| p.stream_header(other)).push(test_util::packets(400, 2).concat());
    assert_eq!(run.streams(), [2, 2]);
    run.event(|p| p.stream_header(header())).push(header()).push(packets(1));
    assert_eq!(run.streams(), [2, 2, 1]);
}

#[test]
fn an_oversized_header_is_shrunk_and_reported() {
    let mut run = Run::new();
    run.push(HeaderBuilder::default().object(test_util::PADDING, &[0; 70_000]).build());
    run.push(packets(1));
    assert_eq!(run.numbers(), [0]);
    let warnings = run.warnings();
    assert!(matches!(warnings[..], [Warning::HeaderShrunk { .. }]));
    assert!(warnings[0].to_string().contains("removed: Padding"));
}

#[test]
fn packets_in_one_chunk_are_not_copied() {
    let packet = PacketBuilder::windows(200, Payload::new(1, &[1; 50])).build();
    let mut run = Run::new();
    run.push(header());
    run.parser.push(packet.clone());
    let parsed = run.parser.next_packet().unwrap().unwrap();
    assert_eq!(parsed.packet.slices()[1].as_ptr(), packet[7..].as_ptr());
}
