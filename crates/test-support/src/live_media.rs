//! Media encoded with ffmpeg, pushed at about its own rate.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use asf::{Padding, Parser, Settings};
use asf_publishing_point::BlockingServer;
use bytes::Bytes;
use wmhttp::Hresult;
use wmhttp::packet::Packet;

use crate::pipeline::until;
use crate::wire::{CONCERT, Wire};

/// An ASF file written by ffmpeg, split into packets as an encoder does.
pub struct Media {
    pub directory: tempfile::TempDir,
    pub file: PathBuf,
    pub header: Bytes,
    /// Send time in milliseconds, and the packet without its padding.
    pub packets: Vec<(u32, Bytes)>,
}

impl Media {
    pub fn of(seconds: u32) -> Self {
        Self::showing("testsrc=size=176x144:rate=15", seconds)
    }

    /// Creates a file with the pictures of a libavfilter source.
    pub fn showing(source: &str, seconds: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("source.asf");
        let status = Command::new("ffmpeg")
            .args(["-v", "error", "-f", "lavfi", "-i", source])
            .args(["-f", "lavfi", "-i", &format!("sine=duration={seconds}")])
            .args(["-c:v", "wmv2", "-g", "15", "-b:v", "200k", "-c:a", "wmav2", "-f", "asf"])
            .args(["-t", &seconds.to_string()])
            .arg(&file)
            .status()
            .unwrap();
        assert!(status.success());
        let mut parser =
            Parser::new(Settings { padding: Padding::Explicit, live_header: true, remove_encoder_offset: false });
        parser.push(std::fs::read(&file).unwrap().into());
        let mut packets = Vec::new();
        while let Some(unit) = parser.next_packet().unwrap() {
            packets.push((unit.packet.send_time(), unit.packet.slices().concat().into()));
        }
        let header = parser.header().unwrap().bytes().clone();
        Self { directory, file, header, packets }
    }

    pub fn push(&self, server: &BlockingServer) -> Wire {
        let mut wire = Wire::to(server.addr());
        let id = wire.setup(CONCERT, "").push_id();
        wire.start(CONCERT.id(&id), []);
        wire.packet(Packet::Header(self.header.clone()));
        wire
    }
}

/// Returns the checksums of all frames that ffmpeg decodes.
pub fn frames(file: &Path) -> Vec<String> {
    let output =
        Command::new("ffmpeg").args(["-v", "error", "-i"]).arg(file).args(["-f", "framemd5", "-"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

pub fn checksum(line: &str) -> String {
    line.rsplit(',').next().unwrap().trim().to_owned()
}

/// Pushes repeatedly at about the stream's own rate until it is dropped.
pub struct Broadcast {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Broadcast {
    pub fn of(media: &Media, server: &BlockingServer) -> Self {
        let mut wire = media.push(server);
        let packets = media.packets.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let begin = Instant::now();
            for (send_time, packet) in packets {
                let due = Duration::from_millis(send_time.into());
                while begin.elapsed() < due && !stopped.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(10));
                }
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                wire.packet(Packet::Data(packet));
            }
            wire.packet(Packet::End(Hresult::OK));
            // The response does not matter: the end was sent.
            let _ = wire.rest();
        });
        until("the stream", || server.stats("concert").unwrap().packets > 10);
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Broadcast {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}
