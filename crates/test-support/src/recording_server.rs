//! A correct server that records which packet arrived when.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use asf::Header;
use wmhttp::Hresult;
use wmhttp::packet::Packet;

use crate::media;
use crate::peer::{Connection, wms};
use crate::server::{Server, listen};

pub struct RecordingServer {
    pub server: Server,
    pushes: Arc<Mutex<Vec<Push>>>,
}

/// The push of one connection.
#[derive(Clone, Default)]
pub struct Push {
    pub arrivals: Vec<(Instant, u32)>,
    /// `$E`(0) arrived.
    pub ended: bool,
}

impl Push {
    pub fn numbers(&self) -> Vec<u32> {
        self.arrivals.iter().map(|(_, number)| *number).collect()
    }

    /// Returns the longest time between two packets.
    pub fn longest_gap(&self) -> Duration {
        let steps = self.arrivals.iter().zip(self.arrivals.iter().skip(1));
        steps.map(|((before, _), (at, _))| *at - *before).max().unwrap_or_default()
    }
}

impl RecordingServer {
    /// Starts a server for a stream of [`media`] whose packets have `step` ms between them.
    pub fn new(step: u32) -> Self {
        let pushes: Arc<Mutex<Vec<Push>>> = Arc::default();
        let seen = Arc::clone(&pushes);
        let server = Server::start(listen(16, None), move |connection, _| watch(connection, step, &seen));
        Self { server, pushes }
    }

    /// Returns what has arrived on each connection so far.
    pub fn pushes(&self) -> Vec<Push> {
        self.pushes.lock().unwrap().clone()
    }
}

fn watch(mut connection: Connection, step: u32, pushes: &Mutex<Vec<Push>>) {
    let index = {
        let mut pushes = pushes.lock().unwrap();
        pushes.push(Push::default());
        pushes.len() - 1
    };
    let mut header = None;
    while let Some(head) = connection.try_request() {
        if head.is_setup() {
            if connection.try_answer(&wms(204, "one")).is_err() {
                return;
            }
            continue;
        }
        while let Some(packet) = connection.packet() {
            let now = Instant::now();
            match packet {
                Packet::Header(bytes) | Packet::StreamChange(bytes) => header = Some(Header::parse(bytes).unwrap()),
                Packet::Data(payload) => {
                    let number = media::number(header.as_ref().unwrap(), &payload, step);
                    pushes.lock().unwrap()[index].arrivals.push((now, number));
                }
                Packet::End(Hresult::OK) => {
                    pushes.lock().unwrap()[index].ended = true;
                    break;
                }
                Packet::End(_) | Packet::Filler(_) => {}
            }
        }
        if connection.try_answer(&wms(204, "one")).is_err() {
            return;
        }
    }
}
