//! The packet decoder: any bytes in any chunks.

use bytes::Bytes;
use wmhttp::Hresult;
use wmhttp::packet::{Decoder, Packet};

use super::source::Source;

/// The first two bytes determine how the rest is split.
pub fn run(data: &[u8]) {
    let mut source = Source(data);
    let cut = usize::from(source.word()).max(1);
    let input = Bytes::copy_from_slice(source.0);
    let mut decoder = Decoder::default();
    let mut taken = 0;
    'all: for chunk in input.chunks(cut) {
        decoder.push(input.slice_ref(chunk));
        loop {
            match decoder.next_packet() {
                Ok(Some(packet)) => {
                    let wire = packet.to_bytes().expect("what was read can be written");
                    let came = &input[taken..taken + wire.len()];
                    match packet {
                        Packet::Header(_) | Packet::Data(_) | Packet::End(_) => assert_eq!(wire, came),
                        // The Reason of this packet and the bytes of a filler are not compared.
                        Packet::StreamChange(_) => assert_eq!((&wire[..4], &wire[8..]), (&came[..4], &came[8..])),
                        Packet::Filler(_) => assert_eq!(wire[..4], came[..4]),
                    }
                    taken += wire.len();
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    break 'all;
                }
            }
        }
    }
    assert!(taken <= input.len());
    assert!(!decoder.is_aligned() || taken == input.len(), "bytes are lost");
}

pub fn seeds() -> Vec<Vec<u8>> {
    let packets = [
        Packet::Header(Bytes::from_static(b"head")),
        Packet::Data(Bytes::from_static(b"media")),
        Packet::End(Hresult::FALSE),
        Packet::StreamChange(Bytes::from_static(b"next")),
        Packet::Data(Bytes::from(vec![7; 300])),
        Packet::Filler(9),
        Packet::End(Hresult::OK),
    ];
    let body: Vec<u8> = packets.iter().flat_map(|packet| packet.to_bytes().expect("a seed")).collect();
    vec![[&[1, 0], &body[..]].concat(), [&[0xFF, 0xFF], &body[..]].concat(), vec![5, 0, b'$', b'D', 0, 0]]
}
