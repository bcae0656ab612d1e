//! Encoders and players of few words, as many as a test wants, each in a thread of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use gstasfpush::asf::fixture::{self, HeaderBuilder};
use gstasfpush::wmhttp::Hresult;
use gstasfpush::wmhttp::packet::Packet;

use super::media;
use super::peer::PATIENCE;

/// Milliseconds from packet to packet.
pub const STEP: u32 = 40;

/// A header of sound and picture with this title and author, for the packets of [`media`].
pub fn header(title: &str, author: &str) -> Bytes {
    let streams =
        vec![fixture::audio_properties(1, 0x161, 2, 44_100, 8000), fixture::video_properties(2, *b"WMV2", 320, 240)];
    HeaderBuilder { streams: Vec::new(), before_streams: streams, flags: 1, ..HeaderBuilder::default() }
        .packet_size(media::SIZE)
        .object(fixture::CONTENT_DESCRIPTION, &fixture::content(title, author))
        .object(fixture::STREAM_BITRATE_PROPERTIES, &fixture::bit_rates(&[(2, 136_000)]))
        .build()
}

/// Pushes a packet each [`STEP`] until it is dropped, and then ends the stream.
pub struct Encoder {
    stop: Arc<AtomicBool>,
    stream: TcpStream,
    thread: Option<JoinHandle<()>>,
}

impl Encoder {
    /// Pushes to the point at this path.
    pub fn start(server: SocketAddr, path: &str, agent: &str, header: Bytes) -> Self {
        Self::set_up(server, path, agent, "", header, Duration::from_millis(STEP.into()))
    }

    /// Pushes as fast as the server takes it.
    pub fn in_haste(server: SocketAddr, path: &str, agent: &str, header: Bytes) -> Self {
        Self::set_up(server, path, agent, "", header, Duration::ZERO)
    }

    /// Has a point made from a template, which goes with the push.
    pub fn from_template(server: SocketAddr, path: &str, template: &str, agent: &str, header: Bytes) -> Self {
        let directives = format!("Template-URL: \"{template}\"\r\nAutoDestroy: 1\r\n");
        Self::set_up(server, path, agent, &directives, header, Duration::from_millis(STEP.into()))
    }

    fn set_up(server: SocketAddr, path: &str, agent: &str, directives: &str, header: Bytes, pause: Duration) -> Self {
        let mut stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answers = BufReader::new(stream.try_clone().unwrap());
        let setup = request(path, agent, "setup", "0", directives.len() as u64) + directives;
        stream.write_all(setup.as_bytes()).unwrap();
        let (status, id) = answer(&mut answers);
        assert_eq!(status, 204);
        let id = id.unwrap();
        stream.write_all(request(path, agent, "start", &id, 2_147_483_647).as_bytes()).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (mut wire, stopped) = (stream.try_clone().unwrap(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let data = (0_u32..).map(|n| Packet::Data(media::packet(n, STEP)));
            for packet in [Packet::Header(header)].into_iter().chain(data) {
                let bytes = packet.to_bytes().unwrap();
                if stopped.load(Ordering::Relaxed) || wire.write_all(&bytes).is_err() {
                    return;
                }
                thread::sleep(pause);
            }
        });
        Self { stop, stream, thread: Some(thread) }
    }

    /// Breaks the connection in the middle of a packet.
    pub fn break_off(mut self) {
        self.silence();
        self.stream.write_all(b"$D\x40\x00half").unwrap();
        self.stream.shutdown(Shutdown::Both).unwrap();
    }

    /// The status with which the server ends the push.
    pub fn expelled(mut self) -> u16 {
        let status = answer(&mut BufReader::new(self.stream.try_clone().unwrap())).0;
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
            // The server may have gone.
            let _ = self.stream.write_all(&Packet::End(Hresult::OK).to_bytes().unwrap());
            let _ = answer(&mut BufReader::new(&self.stream));
        }
    }
}

fn request(path: &str, agent: &str, kind: &str, id: &str, length: u64) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-wms-push{kind}\r\nUser-Agent: {agent}\r\n\
         Content-Length: {length}\r\nCookie: push-id={id}\r\n\r\n"
    )
}

/// Status and push-id of a response; 0 where there is none.
fn answer(stream: &mut impl BufRead) -> (u16, Option<String>) {
    let mut lines = stream.lines().map_while(Result::ok);
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
    let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    let id = head.iter().find_map(|line| line.split_once("push-id=")).map(|(_, id)| id.to_owned());
    (status, id)
}

/// Plays until it is dropped.
pub struct Player {
    stream: TcpStream,
    thread: Option<JoinHandle<()>>,
}

impl Player {
    /// Plays the point at this path; one that is `stuck` does not read.
    pub fn start(server: SocketAddr, path: &str, agent: &str, stuck: bool) -> Self {
        let mut stream = TcpStream::connect(server).unwrap();
        let request = format!("GET {path} HTTP/1.0\r\nUser-Agent: {agent}\r\nPragma: xPlayStrm=1\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut reader = stream.try_clone().unwrap();
        let thread = (!stuck).then(|| {
            thread::spawn(move || {
                let mut bytes = [0; 16 * 1024];
                while reader.read(&mut bytes).is_ok_and(|len| len > 0) {}
            })
        });
        Self { stream, thread }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}
