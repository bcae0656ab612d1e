//! Inputs that are not a valid stream, and what the error message must contain.
#![allow(clippy::indexing_slicing, reason = "tests")]

use asf::test_util::{self, HeaderBuilder};

pub struct Case {
    pub name: &'static str,
    pub input: Vec<u8>,
    /// Required parts of the error message: the object, the byte offset, the cause or the remedy.
    pub says: Vec<String>,
}

pub fn cases() -> Vec<Case> {
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
    let broken_second = [&bytes[..], &test_util::packets(200, 1).concat(), &size(29)].concat();
    let nonsense = [&bytes[..], &[0xFF; 1600]].concat();
    // First a JPEG, MP4, HTML and others; then errors in the header; then errors after it.
    let table: &[(&'static str, Vec<u8>, &[&str])] = &[
        ("empty", vec![], &["no ASF header", "byte 0", "Header Object"]),
        ("JPEG", b"\xFF\xD8\xFF\xE0\0\x10JFIF\0\x01\x01\0\0\0".to_vec(), &["Header Object", "byte 0", "asfmux"]),
        ("MP4", b"\0\0\0\x20ftypisom\0\0\x02\0".to_vec(), &["Header Object", "byte 0", "not ASF"]),
        ("HTML", b"<!doctype html><html>".to_vec(), &["Header Object", "byte 0", "3c 21"]),
        ("zeros", vec![0; 4000], &["Header Object", "byte 0", "00 00"]),
        ("a byte before", [&[0], &bytes[..]].concat(), &["Header Object", "byte 0", "not ASF"]),
        ("data only", test_util::packets(200, 3).concat(), &["Header Object", "byte 0", "not ASF"]),
        (
            "asf_stream",
            b"$H\x2F\x03\0\0\0\0\0\x0C\x2F\x03\x30\x26\xB2\x75".to_vec(),
            &["Header Object", "byte 0", "ffmpeg -f asf"],
        ),
        ("short MMS", b"$H\x2F".to_vec(), &["Header Object", "byte 0", "ffmpeg -f asf"]),
        ("half a header", bytes[..200].to_vec(), &["Header Object", "byte 200"]),
        ("one byte less", bytes[..bytes.len() - 1].to_vec(), &["Header Object", "no ASF header"]),
        ("size 0", size(0), &["Header Object", "byte 16", "says 0 bytes"]),
        ("size 29", size(29), &["Header Object", "byte 16", "says 29 bytes"]),
        ("size 2^63", size(1 << 63), &["Header Object", "byte 16", "9223372036854775808"]),
        ("size 16 MiB + 1", size((16 << 20) + 1), &["Header Object", "byte 16", "too big"]),
        ("size 2^64-2", size(u64::MAX - 1), &["Header Object", "byte 16", "too big"]),
        ("size one less", size(object as u64 - 1), &["Data Object", "missing after", "at byte"]),
        (
            "size one more",
            [size(object as u64 + 1), vec![0; 99]].concat(),
            &["Data Object", "missing after", "at byte"],
        ),
        ("size 30", size(30), &["File Properties Object", "byte 30", "missing"]),
        ("no Data Object", changed(object, b"data"), &["Data Object", &format!("byte {object}"), "GUID"]),
        ("first child 0", child(30, 0), &["File Properties Object", "byte 30", "says 0 bytes"]),
        ("first child 23", child(30, 23), &["File Properties Object", "byte 30", "says 23 bytes"]),
        ("first child too long", child(30, 1 << 20), &["File Properties Object", "byte 30", "says 1048576"]),
        ("first child 2^64-24", child(30, u64::MAX - 23), &["File Properties Object", "byte 30", "says"]),
        ("second child 0", child(134, 0), &["Stream Properties Object", "byte 134", "says 0"]),
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
            good.clone().object(test_util::CODEC_LIST, &[0; 70_000]).build().to_vec(),
            &["Header Object", "byte 16", "65527"],
        ),
        ("broken second", broken_second, &["Header Object", "byte 16", "says 29"]),
        ("nonsense packets", nonsense, &["Data Packet", &format!("byte {}", bytes.len()), "leaky"]),
    ];
    table
        .iter()
        .map(|(name, input, says)| Case {
            name,
            input: input.clone(),
            says: says.iter().map(ToString::to_string).collect(),
        })
        .collect()
}
