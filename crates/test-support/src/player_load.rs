//! Many simultaneous players: a checksum of what each has received.

use std::hash::{DefaultHasher, Hasher};
use std::net::SocketAddr;

use asf::test_util::{HeaderBuilder, PacketBuilder, Payload};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Size of a data packet in bytes.
pub const PACKET: usize = 1450;

/// Returns the header of an audio-only stream, in which decoding can start at each packet.
pub fn header() -> Bytes {
    HeaderBuilder { flags: 1, ..HeaderBuilder::default() }.audio_only().packet_size(PACKET as u32).build()
}

/// Returns the `n`th packet; except for a few bytes it fills the packet size.
pub fn packet(n: u32) -> Bytes {
    let data = vec![n.to_le_bytes()[0] | 1; PACKET - 60];
    let payloads = vec![Payload::new(1, &data).key()];
    PacketBuilder { size: 0, payloads, ..PacketBuilder::default() }.send_time(n * 38).build()
}

/// What one player has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Hash of all bytes after the response's head. It must not depend on the chunks in which they arrive.
    pub hash: u64,
    pub bytes: u64,
}

/// Requests `target` and reads to the end of the response. `begun` is called when the head and some more has arrived.
pub async fn listen(address: SocketAddr, target: &str, begun: impl FnOnce()) -> Received {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {target} HTTP/1.0\r\nHost: x\r\nUser-Agent: audience\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut begun = Some(begun);
    let mut hasher = DefaultHasher::new();
    let mut received = Received { hash: 0, bytes: 0 };
    let mut buffer = vec![0; 16 * 1024];
    let mut head = Vec::new();
    let mut in_head = true;
    loop {
        let len = stream.read(&mut buffer).await.unwrap();
        if len == 0 {
            received.hash = hasher.finish();
            return received;
        }
        let mut bytes = &buffer[..len];
        let tail;
        if in_head {
            head.extend_from_slice(bytes);
            let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            assert!(
                head.starts_with(b"HTTP/1.") && head[8..].starts_with(b" 200"),
                "{}",
                String::from_utf8_lossy(&head)
            );
            in_head = false;
            tail = head.split_off(end + 4);
            bytes = &tail;
        }
        if let Some(begun) = begun.take_if(|_| !bytes.is_empty()) {
            begun();
        }
        hasher.write(bytes);
        received.bytes += bytes.len() as u64;
    }
}
