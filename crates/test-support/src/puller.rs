//! A minimal player, which pulls one stream to its end.

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

use asf::Header;
use bytes::Bytes;

use crate::media;
use crate::wire::Wire;

/// What a player has received.
#[derive(Debug, Default)]
pub struct Pulled {
    /// The letters of its packets in order, without repetitions.
    pub letters: String,
    /// The ASF headers.
    pub headers: Vec<Bytes>,
    /// The ASF data packets.
    pub packets: Vec<Bytes>,
}

/// A running player.
pub struct Puller(JoinHandle<Vec<u8>>);

impl Puller {
    /// Plays `point`; returns when the server counts the player.
    pub fn of(server: SocketAddr, point: &str) -> Self {
        let request = format!(
            "GET /{point} HTTP/1.0\r\nHost: test\r\nUser-Agent: NSPlayer/9.0.0.2980\r\nPragma: no-cache,rate=1.000\r\n\
             Pragma: xPlayStrm=1\r\nPragma: stream-switch-count=2\r\nPragma: stream-switch-entry=ffff:1:0 ffff:2:0\r\n\r\n"
        );
        let mut wire = Wire::to(server);
        wire.send(request);
        Self(thread::spawn(move || wire.rest()))
    }

    /// Waits for the end of the stream.
    pub fn end(self) -> Pulled {
        let all = self.0.join().unwrap();
        let body = all.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        assert!(
            all.starts_with(b"HTTP/1.") && all[8..].starts_with(b" 200"),
            "{}",
            String::from_utf8_lossy(&all[..body])
        );
        let mut rest = Bytes::from(all).slice(body..);
        let mut pulled = Pulled::default();
        while !rest.is_empty() {
            let (letter, len) = (char::from(rest[1]), usize::from(u16::from_le_bytes([rest[2], rest[3]])));
            let packet = rest.split_to(4 + len);
            match letter {
                'H' => pulled.headers.push(packet.slice(12..)),
                'D' => pulled.packets.push(packet.slice(12..)),
                _ => {}
            }
            if !pulled.letters.ends_with(letter) {
                pulled.letters.push(letter);
            }
        }
        pulled
    }
}

impl Pulled {
    /// Returns the numbers of its packets, which are those of [`media::stream`] with `step` ms between them.
    pub fn numbers(&self, step: u32) -> Vec<u32> {
        let header = Header::parse(self.headers[0].clone()).unwrap();
        self.packets.iter().map(|packet| media::number(&header, packet, step)).collect()
    }
}
