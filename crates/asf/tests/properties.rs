//! Properties that the ASF parser must have for any bytes in any chunks.

use std::sync::Arc;

use asf::test_util::{self, HeaderBuilder, PacketBuilder, Payload, Width};
use asf::{Error, Header, Packet, PacketBytes, Padding, ParsedPacket, Parser, Settings, restore};
use bytes::Bytes;
use proptest::prelude::*;

/// Everything that a run of the parser returns, in a comparable form.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// Number of the header, and the bytes sent.
    packets: Vec<(usize, Vec<u8>)>,
    headers: Vec<Bytes>,
    error: Option<Error>,
}

struct Run {
    parser: Parser,
    outcome: Outcome,
    header: Option<Arc<Header>>,
}

impl Run {
    fn new() -> Self {
        let outcome = Outcome { packets: Vec::new(), headers: Vec::new(), error: None };
        Self { parser: Parser::new(Settings::default()), outcome, header: None }
    }

    fn record<B: PacketBytes>(&mut self, parsed: ParsedPacket<B>) {
        if !self.header.as_ref().is_some_and(|known| Arc::ptr_eq(known, &parsed.header)) {
            self.outcome.headers.push(parsed.header.bytes().clone());
            self.header = Some(parsed.header);
        }
        let mut sent = Vec::new();
        parsed.packet.write_to(&mut sent);
        self.outcome.packets.push((self.outcome.headers.len(), sent));
    }

    fn push(&mut self, chunk: Bytes) {
        self.parser.push(chunk);
        self.take();
    }

    fn take(&mut self) {
        while self.outcome.error.is_none() {
            match self.parser.next_packet() {
                Ok(Some(parsed)) => self.record(parsed),
                Ok(None) => break,
                Err(error) => self.outcome.error = Some(error),
            }
        }
    }

    /// In the same way as the element.
    fn read(&mut self, chunk: &Bytes) {
        let mut rest = &chunk[..];
        loop {
            while self.outcome.error.is_none() {
                match self.parser.next_packet_in_place(&mut rest) {
                    Ok(Some(parsed)) => self.record(parsed),
                    Ok(None) => break,
                    Err(error) => self.outcome.error = Some(error),
                }
            }
            if rest.is_empty() || self.outcome.error.is_some() {
                break;
            }
            let (next, after) = rest.split_at(self.parser.missing_bytes().unwrap_or(rest.len()).min(rest.len()));
            match next.len() < 1000 {
                true => self.parser.push_copied(next),
                false => self.parser.push(chunk.slice_ref(next)),
            }
            self.take();
            rest = after;
        }
    }

    fn finish(mut self) -> Outcome {
        self.outcome.error = self.outcome.error.or(self.parser.finish().err());
        self.outcome
    }
}

fn run(chunks: impl IntoIterator<Item = Bytes>) -> Outcome {
    let mut run = Run::new();
    chunks.into_iter().for_each(|chunk| run.push(chunk));
    run.finish()
}

fn read(chunks: impl IntoIterator<Item = Bytes>) -> Outcome {
    let mut run = Run::new();
    chunks.into_iter().for_each(|chunk| run.read(&chunk));
    run.finish()
}

fn cut(bytes: &Bytes, lens: &[usize]) -> Vec<Bytes> {
    let mut rest = bytes.clone();
    let mut chunks = Vec::new();
    for len in lens.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        chunks.push(rest.split_to((*len).min(rest.len())));
    }
    chunks
}

/// Everything that can occur in a stream.
fn stream() -> Bytes {
    let file = HeaderBuilder::default().finite(6);
    let live = HeaderBuilder::default().packet_size(512);
    let asfmux = PacketBuilder::asfmux(512, vec![Payload::new(2, &[5; 99]).key()]);
    let big = HeaderBuilder::default().object(test_util::PADDING, &[0; 70_000]);
    [
        &file.build()[..],
        &test_util::packets(200, 6).concat(),
        &test_util::index(),
        &live.build(),
        &asfmux.build(),
        &asfmux.build(),
        // Cut within a packet.
        &asfmux.build().slice(..100),
        &big.build(),
        &test_util::packets(200, 5).concat(),
        b"$E\x08\0\0\0\0\0\0\0\0\0",
    ]
    .concat()
    .into()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn chunks_of_any_size_give_the_same_packets(lens in prop::collection::vec(1_usize..5000, 1..40)) {
        let bytes = stream();
        let whole = run([bytes.clone()]);
        prop_assert_eq!(whole.packets.len(), 13);
        prop_assert_eq!(whole.headers.len(), 3);
        prop_assert_eq!(&run(cut(&bytes, &lens)), &whole);
        prop_assert_eq!(read(cut(&bytes, &lens)), whole);
    }

    #[test]
    fn small_chunks_give_the_same_packets(lens in prop::collection::vec(1_usize..40, 1..40)) {
        let bytes = stream();
        let whole = run([bytes.clone()]);
        prop_assert_eq!(&run(cut(&bytes, &lens)), &whole);
        prop_assert_eq!(read(cut(&bytes, &lens)), whole);
    }

    /// Complete packets are parsed without copying; the ends of some look like the start of a header.
    #[test]
    fn whole_packets_are_parsed_in_place(ends in prop::collection::vec(0_usize..17, 1..20)) {
        let header = HeaderBuilder::default().build();
        let mut packets = test_util::packets(200, ends.len() as u32).concat();
        for (packet, end) in packets.chunks_mut(200).zip(&ends) {
            packet[200 - end..].copy_from_slice(&header[..*end]);
        }
        let expected = run([[&header[..], &packets].concat().into()]);
        let mut run = Run::new();
        run.push(header.clone());
        let mut rest = &packets[..];
        let mut whole = 0;
        while let Some(parsed) = run.parser.next_packet_in_place(&mut rest).unwrap() {
            run.record(parsed);
            whole += 1;
        }
        let first_like_a_header = ends.iter().position(|end| *end == 16);
        prop_assert_eq!(whole, first_like_a_header.map_or(ends.len(), |at| at + 1));
        if first_like_a_header.is_none() {
            prop_assert_eq!(run.finish(), expected);
        }
    }

    #[test]
    fn flipped_bits_are_handled(
        flips in prop::collection::vec((0_usize..3000, 0_u8..8), 1..30),
        lens in prop::collection::vec(1_usize..3000, 1..10),
    ) {
        let mut bytes = stream().to_vec();
        for (at, bit) in flips {
            bytes[at] ^= 1 << bit;
        }
        let bytes = Bytes::from(bytes);
        let whole = run([bytes.clone()]);
        let sent: usize = whole.packets.iter().map(|(_, packet)| packet.len()).sum();
        prop_assert!(sent <= bytes.len());
        prop_assert_eq!(&run(cut(&bytes, &lens)), &whole);
        prop_assert_eq!(read(cut(&bytes, &lens)), whole);
    }

    #[test]
    fn any_bytes_can_be_parsed_as_a_packet(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        at in any::<prop::sample::Index>(),
    ) {
        let bytes = Bytes::from(bytes);
        let at = at.index(bytes.len() + 1);
        let header = Header::parse(HeaderBuilder::default().build()).unwrap();
        for padding in [Padding::Explicit, Padding::Zero, Padding::Keep] {
            let parts = [bytes.slice(..at), bytes.slice(at..)];
            let packet = Packet::parse(parts, &header, padding);
            prop_assert_eq!(packet.len() + packet.padding_removed() as usize, bytes.len());
            let mut out = Vec::new();
            packet.write_to(&mut out);
            prop_assert_eq!(out.len(), packet.len());
            let mut whole = Vec::new();
            restore(&out, bytes.len(), &mut whole).unwrap();
            prop_assert_eq!(whole.len(), bytes.len());
        }
    }

    #[test]
    fn packets_of_any_size_and_padding_are_restored(
        size in 100_usize..1500,
        used in 1_usize..60,
        kind in 0_usize..4,
        multiple in any::<bool>(),
    ) {
        let data = vec![0x42; used];
        let builder = PacketBuilder {
            size,
            padding: Width::ALL[kind],
            multiple: multiple.then_some(Width::Word),
            payloads: vec![Payload::new(1, &data)],
            filler: 0,
            ..PacketBuilder::default()
        };
        let header = Header::parse(HeaderBuilder::default().build()).unwrap();
        for padding in [Padding::Explicit, Padding::Zero] {
            let packet = Packet::parse([builder.build(), Bytes::new()], &header, padding);
            let mut whole = Vec::new();
            restore(&packet.slices().concat(), size, &mut whole).unwrap();
            prop_assert_eq!(whole.len(), size);
            let end = whole.iter().rposition(|byte| *byte != 0).unwrap_or(0);
            prop_assert!(whole[..=end].ends_with(&data));
        }
    }
}

#[test]
fn every_truncated_stream_gives_the_first_packets() {
    let bytes = stream();
    let whole = run([bytes.clone()]);
    let header = HeaderBuilder::default().build().len();
    let step = |len: usize| {
        if (5000..=72_000).contains(&len) { 997 } else { 1 }
    };
    let mut len = 0;
    while len < bytes.len() {
        let part = run([bytes.slice(..len)]);
        assert!(whole.packets.starts_with(&part.packets), "{len} bytes");
        assert_eq!(part.error.is_some(), len < header, "{len} bytes");
        len += step(len);
    }
}

#[test]
fn single_byte_chunks_take_linear_time() {
    let header = HeaderBuilder::default().packet_size(60_000);
    let stream = [&header.build()[..], &test_util::packets(60_000, 40).concat()].concat();
    let outcome = run(cut(&stream.into(), &[1]));
    assert_eq!((outcome.packets.len(), outcome.error), (40, None));
}

#[test]
fn a_header_of_unknown_size_without_an_end_is_an_error() {
    let mut start = HeaderBuilder::default().build().to_vec();
    start.truncate(100);
    start[16..24].fill(0xFF);
    let chunk = Bytes::from(vec![0; 64 << 10]);
    let chunks = std::iter::once(start.into()).chain(std::iter::repeat_n(chunk, 300));
    let error = run(chunks).error;
    assert!(matches!(error, Some(Error::HeaderTooBig { .. })), "{error:?}");
}

#[test]
fn errors_name_the_object_and_the_byte() {
    for case in test_support::malformed_asf::cases() {
        let Some(error) = run([Bytes::from(case.input)]).error else { panic!("{} was taken", case.name) };
        let text = error.to_string();
        for part in case.says {
            assert!(text.contains(&part), "{}: {text:?} does not say {part:?}", case.name);
        }
    }
}
