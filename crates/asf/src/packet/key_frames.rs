//! Finds the video key frames that begin in a packet.

use super::layout::{Layout, visit_payloads};
use crate::Header;
use crate::cursor::Cursor;

/// Returns the video key frames that begin in a packet: stream number and presentation time in milliseconds, including
/// the preroll (ASF 5.2.3). If the packet is invalid, returns those before the error.
#[must_use]
pub fn key_frames(packet: &[u8], header: &Header) -> Vec<(u8, u32)> {
    let mut cursor = Cursor::new(packet);
    let mut found = Vec::new();
    if let Some(layout) = Layout::read(&mut cursor) {
        visit_payloads(&layout, cursor, |head| {
            if head.starts_key_frame(header) {
                found.extend(head.presentation_time(packet).map(|time| (head.stream(), time)));
            }
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::{HeaderBuilder, PacketBuilder, Payload};

    /// The builder's payloads are presented when their packet is sent.
    #[test]
    fn key_frames_are_found_in_all_forms() {
        let header = Header::parse(HeaderBuilder::default().build()).unwrap();
        let (video, audio) = (Payload::new(2, b"video"), Payload::new(1, b"audio"));
        let payloads = vec![video.clone().key().at(5), audio.key(), video.clone(), video.clone().key()];
        let several = PacketBuilder::asfmux(200, payloads).send_time(4000).build();
        assert_eq!(key_frames(&several, &header), [(2, 4000)]);
        let single = PacketBuilder::windows(200, video.clone().key()).send_time(6000).build();
        assert_eq!(key_frames(&single, &header), [(2, 6000)]);
        // In the compressed form the offset field contains the time.
        let compressed = PacketBuilder::windows(200, video.key().compressed().at(77)).build();
        assert_eq!(key_frames(&compressed, &header), [(2, 77)]);
        assert_eq!(key_frames(&several[..30], &header), []);
        assert_eq!(key_frames(&[0xFF; 9], &header), []);
    }
}
