//! The ASF parser: any bytes in any chunks.

use asf::test_util::{self, HeaderBuilder};
use asf::{Header, Packet, Padding, Parser, Settings, restore};
use bytes::Bytes;

use super::source::Source;

/// The first two bytes determine how the rest is split.
pub fn run(data: &[u8]) {
    let mut source = Source(data);
    let cut = usize::from(source.word()).max(1);
    let input = Bytes::copy_from_slice(source.0);
    let mut parser = Parser::new(Settings::default());
    let mut sent = 0;
    'all: for chunk in input.chunks(cut) {
        parser.push(input.slice_ref(chunk));
        loop {
            match parser.next_packet() {
                Ok(Some(unit)) => {
                    sent += unit.packet.len();
                    check(&unit.packet, &unit.header);
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    break 'all;
                }
            }
        }
        while parser.take_warning().is_some() {}
    }
    // An error at the end is allowed: it depends on the input.
    let _ = parser.finish();
    assert!(sent <= input.len(), "more came out than went in");
    if let Ok(header) = Header::parse(input.clone()) {
        // A parsed header can be parsed again, also as that of a live stream.
        let live = header.to_live();
        Header::parse(live.bytes().clone()).expect("the live header of a header is one");
    }
}

fn check(packet: &Packet, header: &Header) {
    let mut bytes = Vec::new();
    packet.write_to(&mut bytes);
    assert_eq!(bytes.len(), packet.len());
    let mut whole = Vec::new();
    if restore(&bytes, header.packet_size(), &mut whole).is_ok() {
        assert_eq!(whole.len(), header.packet_size());
        let again = Packet::parse([Bytes::from(whole), Bytes::new()], header, Padding::Keep);
        assert_eq!(again.send_time(), packet.send_time());
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let plain = HeaderBuilder::default().packet_size(200);
    let file =
        [&plain.clone().finite(3).build()[..], &test_util::packets(200, 3).concat(), &test_util::index()].concat();
    let two = [&plain.build()[..], &test_util::packets(200, 2).concat(), &plain.audio_only().build()].concat();
    [file, two].into_iter().map(|bytes| [&[100, 0], &bytes[..]].concat()).collect()
}
