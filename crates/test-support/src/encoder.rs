//! Minimal encoders and players, each in its own thread.

use std::io::Read;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use asf::test_util::{self, HeaderBuilder};
use bytes::Bytes;
use wmhttp::packet::Packet;

use crate::media;
use crate::wire::{END, Push, Wire};

/// Milliseconds between packets.
pub const STEP: u32 = 40;

/// Returns a header with audio and video, this title and author, for the packets of [`media`].
pub fn header(title: &str, author: &str) -> Bytes {
    let streams = vec![
        test_util::audio_properties(1, 0x161, 2, 44_100, 8000),
        test_util::video_properties(2, *b"WMV2", 320, 240),
    ];
    HeaderBuilder { streams: Vec::new(), before_streams: streams, flags: 1, ..HeaderBuilder::default() }
        .packet_size(media::SIZE)
        .object(test_util::CONTENT_DESCRIPTION, &test_util::content(title, author))
        .object(test_util::STREAM_BITRATE_PROPERTIES, &test_util::bit_rates(&[(2, 136_000)]))
        .build()
}

/// Pushes a packet every [`STEP`] until it is dropped, then ends the stream.
pub struct Encoder {
    stop: Arc<AtomicBool>,
    wire: Wire,
    thread: Option<JoinHandle<()>>,
}

impl Encoder {
    /// Pushes to this publishing point.
    pub fn start(server: SocketAddr, point: &str, agent: &str, header: Bytes) -> Self {
        Self::set_up(server, Push::to(point).agent(agent), "", header, Duration::from_millis(STEP.into()))
    }

    /// Pushes as fast as the server accepts data.
    pub fn without_pauses(server: SocketAddr, point: &str, agent: &str, header: Bytes) -> Self {
        Self::set_up(server, Push::to(point).agent(agent), "", header, Duration::ZERO)
    }

    /// Pushes to a publishing point that is created from a template and removed after the push.
    pub fn from_template(server: SocketAddr, point: &str, template: &str, agent: &str, header: Bytes) -> Self {
        let directives = format!("Template-URL: \"{template}\"\r\nAutoDestroy: 1\r\n");
        Self::set_up(server, Push::to(point).agent(agent), &directives, header, Duration::from_millis(STEP.into()))
    }

    fn set_up(server: SocketAddr, push: Push<'_>, directives: &str, header: Bytes, pause: Duration) -> Self {
        let mut wire = Wire::to(server);
        let setup = wire.setup(push, directives);
        assert_eq!(setup.status, 204, "{setup:?}");
        wire.start(push.id(&setup.push_id()), []);
        let stop = Arc::new(AtomicBool::new(false));
        let (mut feed, stopped) = (wire.another(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let data = (0_u32..).map(|n| Packet::Data(media::packet(n, STEP)));
            for packet in [Packet::Header(header)].into_iter().chain(data) {
                let bytes = packet.to_bytes().unwrap();
                if stopped.load(Ordering::Relaxed) || feed.try_send(&bytes).is_err() {
                    return;
                }
                thread::sleep(pause);
            }
        });
        Self { stop, wire, thread: Some(thread) }
    }

    /// Breaks the connection in the middle of a packet.
    pub fn break_off(mut self) {
        self.silence();
        self.wire.send(b"$D\x40\x00half");
        self.wire.0.shutdown(Shutdown::Both).unwrap();
    }

    /// Returns the status with which the server ends the push.
    pub fn termination_status(mut self) -> u16 {
        let status = self.wire.response().status;
        self.silence();
        status
    }

    fn silence(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.silence();
            // The server may have closed the connection.
            if self.wire.try_send(END.to_bytes().unwrap()).is_ok() {
                let _ = self.wire.0.read(&mut [0; 1024]);
            }
        }
    }
}

/// Plays until it is dropped.
pub struct Player {
    wire: Wire,
    thread: Option<JoinHandle<()>>,
}

impl Player {
    /// Plays this publishing point; a player that is `stuck` does not read.
    pub fn start(server: SocketAddr, point: &str, agent: &str, stuck: bool) -> Self {
        let mut wire = Wire::to(server);
        wire.send(format!("GET /{point} HTTP/1.0\r\nUser-Agent: {agent}\r\nPragma: xPlayStrm=1\r\n\r\n"));
        let mut reader = wire.another();
        let thread = (!stuck).then(|| {
            thread::spawn(move || {
                let mut bytes = [0; 16 * 1024];
                while reader.0.read(&mut bytes).is_ok_and(|len| len > 0) {}
            })
        });
        Self { wire, thread }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.wire.0.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}
