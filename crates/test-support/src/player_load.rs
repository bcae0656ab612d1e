//! Many simultaneous players: a checksum of what each has received, and the delay of packets.

use std::hash::{DefaultHasher, Hasher};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use asf::test_util::{HeaderBuilder, PacketBuilder, Payload};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Size of a data packet in bytes.
pub const PACKET: usize = 1450;
/// Precedes the timestamp in a packet of [`packet`].
const MARK: &[u8; 8] = b"sent at ";

/// Returns the header of an audio-only stream, in which decoding can start at each packet.
pub fn header() -> Bytes {
    HeaderBuilder { flags: 1, ..HeaderBuilder::default() }.audio_only().packet_size(PACKET as u32).build()
}

/// Returns the `n`th packet with its send time; except for a few bytes it fills the packet size.
pub fn packet(n: u32, epoch: Instant) -> Bytes {
    let mut data = vec![n.to_le_bytes()[0] | 1; PACKET - 60];
    data[..8].copy_from_slice(MARK);
    data[8..16].copy_from_slice(&u64::try_from(epoch.elapsed().as_micros()).unwrap().to_le_bytes());
    let payloads = vec![Payload::new(1, &data).key()];
    PacketBuilder { size: 0, payloads, ..PacketBuilder::default() }.send_time(n * 38).build()
}

/// What one player has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Hash of all bytes after the response's head. It must not depend on the chunks in which they arrive.
    pub hash: u64,
    pub bytes: u64,
    pub largest_delay: Duration,
}

/// Requests `target` and reads to the end of the response. `begun` is called when the head and some more has arrived.
/// With an `epoch`, the timestamps in the packets are evaluated.
pub async fn listen(address: SocketAddr, target: &str, epoch: Option<Instant>, begun: impl FnOnce()) -> Received {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {target} HTTP/1.0\r\nHost: x\r\nUser-Agent: audience\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut begun = Some(begun);
    let mut hasher = DefaultHasher::new();
    let mut received = Received { hash: 0, bytes: 0, largest_delay: Duration::ZERO };
    let mut buffer = vec![0; 16 * 1024];
    let mut head = Vec::new();
    let mut in_head = true;
    // Bytes of the body that were not evaluated yet, and how many of them do not belong to a packet.
    let mut rest = Vec::new();
    let mut skip = header().len();
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
        let Some(epoch) = epoch else { continue };
        rest.extend_from_slice(bytes);
        let mut from = skip.min(rest.len());
        skip -= from;
        while let Some(packet) = rest.get(from..from + PACKET) {
            let at = packet[..80].windows(8).position(|window| window == MARK).unwrap();
            let sent = u64::from_le_bytes(packet[at + 8..at + 16].try_into().unwrap());
            let delay = epoch.elapsed().saturating_sub(Duration::from_micros(sent));
            received.largest_delay = received.largest_delay.max(delay);
            from += PACKET;
        }
        rest.drain(..from);
    }
}
