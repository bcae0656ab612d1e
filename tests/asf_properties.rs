//! What must hold of the ASF parser for any bytes in any chunks.

use bytes::Bytes;
use gstasfpush::asf::fixture::{self, HeaderBuilder, PacketBuilder, Payload, Width};
use gstasfpush::asf::{Error, Header, Packet, Padding, Parser, Settings, restore};
use proptest::prelude::*;

/// All that a run of the parser gives, in a form to compare.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// Number of the header, and the bytes sent.
    units: Vec<(usize, Vec<u8>)>,
    headers: Vec<Bytes>,
    error: Option<Error>,
}

fn run(chunks: impl IntoIterator<Item = Bytes>) -> Outcome {
    let mut parser = Parser::new(Settings::default());
    let mut outcome = Outcome { units: Vec::new(), headers: Vec::new(), error: None };
    let mut current = None;
    for chunk in chunks {
        parser.push(chunk);
        loop {
            match parser.next_unit() {
                Ok(Some(unit)) => {
                    let known = current.as_ref().is_some_and(|known| std::sync::Arc::ptr_eq(known, &unit.header));
                    if !known {
                        outcome.headers.push(unit.header.bytes().clone());
                        current = Some(unit.header);
                    }
                    let sent = unit.packet.slices().concat();
                    outcome.units.push((outcome.headers.len(), sent));
                }
                Ok(None) => break,
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            }
        }
    }
    outcome.error = parser.finish().err();
    outcome
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

/// All that can follow each other in a stream.
fn stream() -> Bytes {
    let file = HeaderBuilder::default().finite(6);
    let live = HeaderBuilder::default().packet_size(512);
    let asfmux = PacketBuilder::asfmux(512, vec![Payload::new(2, &[5; 99]).key()]);
    let big = HeaderBuilder::default().object(fixture::PADDING, &[0; 70_000]);
    [
        &file.build()[..],
        &fixture::packets(200, 6).concat(),
        &fixture::index(),
        &live.build(),
        &asfmux.build(),
        &asfmux.build(),
        // Cut within a packet.
        &asfmux.build().slice(..100),
        &big.build(),
        &fixture::packets(200, 5).concat(),
        b"$E\x08\0\0\0\0\0\0\0\0\0",
    ]
    .concat()
    .into()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_gives_the_same_units(lens in prop::collection::vec(1_usize..5000, 1..40)) {
        let bytes = stream();
        let whole = run([bytes.clone()]);
        prop_assert_eq!(whole.units.len(), 13);
        prop_assert_eq!(whole.headers.len(), 3);
        prop_assert_eq!(run(cut(&bytes, &lens)), whole);
    }

    #[test]
    fn any_small_cut_gives_the_same_units(lens in prop::collection::vec(1_usize..40, 1..40)) {
        let bytes = stream();
        prop_assert_eq!(run(cut(&bytes, &lens)), run([bytes]));
    }

    #[test]
    fn flipped_bits_harm_nobody(
        flips in prop::collection::vec((0_usize..3000, 0_u8..8), 1..30),
        lens in prop::collection::vec(1_usize..3000, 1..10),
    ) {
        let mut bytes = stream().to_vec();
        for (at, bit) in flips {
            bytes[at] ^= 1 << bit;
        }
        let bytes = Bytes::from(bytes);
        let whole = run([bytes.clone()]);
        let sent: usize = whole.units.iter().map(|(_, unit)| unit.len()).sum();
        prop_assert!(sent <= bytes.len());
        prop_assert_eq!(run(cut(&bytes, &lens)), whole);
    }

    #[test]
    fn any_bytes_are_a_packet(
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
    fn sizes_and_padding_of_any_kind_survive(
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
fn every_truncation_gives_a_part_of_the_whole() {
    let bytes = stream();
    let whole = run([bytes.clone()]);
    let header = HeaderBuilder::default().build().len();
    let step = |len: usize| {
        if (5000..=72_000).contains(&len) { 997 } else { 1 }
    };
    let mut len = 0;
    while len < bytes.len() {
        let part = run([bytes.slice(..len)]);
        assert!(whole.units.starts_with(&part.units), "{len} bytes");
        assert_eq!(part.error.is_some(), len < header, "{len} bytes");
        len += step(len);
    }
}

#[test]
fn single_bytes_of_a_large_stream_take_no_longer_than_they_must() {
    let header = HeaderBuilder::default().packet_size(60_000);
    let stream = [&header.build()[..], &fixture::packets(60_000, 40).concat()].concat();
    let outcome = run(cut(&stream.into(), &[1]));
    assert_eq!((outcome.units.len(), outcome.error), (40, None));
}

#[test]
fn a_header_of_open_size_without_an_end_is_given_up() {
    let mut start = HeaderBuilder::default().build().to_vec();
    start.truncate(100);
    start[16..24].fill(0xFF);
    let chunk = Bytes::from(vec![0; 64 << 10]);
    let chunks = std::iter::once(start.into()).chain(std::iter::repeat_n(chunk, 300));
    let error = run(chunks).error;
    assert!(matches!(error, Some(Error::HeaderTooBig { .. })), "{error:?}");
}

#[test]
fn each_malformed_input_is_refused_with_object_and_byte() {
    let good = HeaderBuilder::default();
    let bytes = good.build();
    let object = bytes.len() - 50;
    let changed = |at: usize, value: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[at..at + value.len()].copy_from_slice(value);
        bytes
    };
    let size = |size: u64| changed(16, &size.to_le_bytes());
    let child = |at: usize, size: u64| changed(at + 16, &size.to_le_bytes());
    let packets = |minimum: u32, maximum: u32| changed(122, &[minimum.to_le_bytes(), maximum.to_le_bytes()].concat());
    let none = HeaderBuilder { streams: Vec::new(), ..good.clone() };
    let broken_second = [&bytes[..], &fixture::packets(200, 1).concat(), &size(29)].concat();
    let nonsense = [&bytes[..], &[0xFF; 1600]].concat();
    // A JPEG, MP4, HTML and others; then bytes of the header; then behind it.
    let cases: &[(&str, Vec<u8>, &[&str])] = &[
        ("empty", vec![], &["no ASF header", "byte 0", "Header Object"]),
        ("JPEG", b"\xFF\xD8\xFF\xE0\0\x10JFIF\0\x01\x01\0\0\0".to_vec(), &["Header Object", "byte 0", "asfmux"]),
        ("MP4", b"\0\0\0\x20ftypisom\0\0\x02\0".to_vec(), &["Header Object", "byte 0", "not ASF"]),
        ("HTML", b"<!doctype html><html>".to_vec(), &["Header Object", "byte 0", "3c 21"]),
        ("zeros", vec![0; 4000], &["Header Object", "byte 0", "00 00"]),
        ("a byte before", [&[0], &bytes[..]].concat(), &["Header Object", "byte 0", "not ASF"]),
        ("data only", fixture::packets(200, 3).concat(), &["Header Object", "byte 0", "not ASF"]),
        (
            "asf_stream",
            b"$H\x2F\x03\0\0\0\0\0\x0C\x2F\x03\x30\x26\xB2\x75".to_vec(),
            &["Header Object", "byte 0", "ffmpeg -f asf"],
        ),
        ("short MMS", b"$H\x2F".to_vec(), &["Header Object", "byte 0", "ffmpeg -f asf"]),
        ("half a header", bytes[..200].to_vec(), &["Header Object", "byte 200"]),
        ("one byte less", bytes[..bytes.len() - 1].to_vec(), &["Header Object", "no ASF header"]),
        ("size 0", size(0), &["Header Object", "byte 16", "claims 0 bytes"]),
        ("size 29", size(29), &["Header Object", "byte 16", "claims 29 bytes"]),
        ("size 2^63", size(1 << 63), &["Header Object", "byte 16", "9223372036854775808"]),
        ("size 16 MiB + 1", size((16 << 20) + 1), &["Header Object", "byte 16", "too big"]),
        ("size 2^64-2", size(u64::MAX - 1), &["Header Object", "byte 16", "too big"]),
        ("size one less", size(object as u64 - 1), &["Data Object", "missing behind", "at byte"]),
        (
            "size one more",
            [size(object as u64 + 1), vec![0; 99]].concat(),
            &["Data Object", "missing behind", "at byte"],
        ),
        ("size 30", size(30), &["File Properties Object", "byte 30", "missing"]),
        ("no Data Object", changed(object, b"data"), &["Data Object", &format!("byte {object}"), "GUID"]),
        ("first child 0", child(30, 0), &["File Properties Object", "byte 30", "claims 0 bytes"]),
        ("first child 23", child(30, 23), &["File Properties Object", "byte 30", "claims 23 bytes"]),
        ("first child too long", child(30, 1 << 20), &["File Properties Object", "byte 30", "claims 1048576"]),
        ("first child 2^64-24", child(30, u64::MAX - 23), &["File Properties Object", "byte 30", "claims"]),
        ("second child 0", child(134, 0), &["Stream Properties Object", "byte 134", "claims 0"]),
        ("short File Properties", child(30, 60), &["File Properties Object", "byte 30", "has 60 bytes"]),
        ("other File Properties", changed(30, &[0]), &["File Properties Object", "missing"]),
        ("short Stream Properties", child(180, 77), &["Stream Properties Object", "byte 180", "has 77 bytes"]),
        ("no stream", none.build().to_vec(), &["Stream Properties Object", "byte 180", "missing"]),
        ("min < max", packets(200, 201), &["File Properties Object", "byte 122", "minimum 200"]),
        ("packet size 0", packets(0, 0), &["File Properties Object", "byte 122", "maximum 0"]),
        ("packet size 9", packets(9, 9), &["File Properties Object", "byte 122", "from 16"]),
        ("packet size 65536", packets(65_536, 65_536), &["File Properties Object", "byte 122", "packet-size"]),
        (
            "Codec List too big",
            good.clone().object(fixture::CODEC_LIST, &[0; 70_000]).build().to_vec(),
            &["Header Object", "byte 16", "65527"],
        ),
        ("broken second", broken_second, &["Header Object", "byte 16", "claims 29"]),
        ("nonsense packets", nonsense, &["Data Packet", &format!("byte {}", bytes.len()), "leaky"]),
    ];
    for (name, input, parts) in cases {
        let text = match run([Bytes::copy_from_slice(input)]).error {
            Some(error) => error.to_string(),
            None => panic!("{name} was taken"),
        };
        for part in *parts {
            assert!(text.contains(part), "{name}: {text:?} does not say {part:?}");
        }
    }
}
