//! Faults in the body of a PushStart.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::write_faults::GARBAGE;
use super::{Fault, Kind, Progress, Trigger};
use crate::http::connection::Connection;
use crate::points::push_session::{BodyChunk, PublishSession, SessionControl};
use wmhttp::Hresult;
use wmhttp::packet::{Decoder, FRAMING_LEN, Packet};

/// Reads per second of a slowly read body.
const SLOW_READS_PER_SECOND: u64 = 20;

/// The faults in the body of one PushStart.
pub(crate) struct BodyFaults {
    point: String,
    /// The faults that have not acted yet.
    due: Vec<Fault>,
    connection: Weak<Connection>,
    session: PublishSession,
    begun: Instant,
    bytes: u64,
    packets: u64,
    /// Bytes per second, from the fault `slow` on.
    rate: Option<u64>,
    scan: Option<Scan>,
}

/// Finds the ends of packets in the chunks; used only if a fault needs them.
#[derive(Default)]
struct Scan {
    decoder: Decoder,
    /// Bytes of a packet whose end has not arrived.
    held: usize,
}

/// Whether to continue reading the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyAction {
    GoOn,
    Over,
}

impl BodyFaults {
    pub(super) fn new(point: &str, due: Vec<Fault>, connection: &Arc<Connection>, session: PublishSession) -> Self {
        let counts = |fault: &Fault| {
            fault.kind.is_about_packets() || matches!(fault.moment, Trigger::Body(Progress::Packets(1..)))
        };
        Self {
            point: point.to_owned(),
            scan: due.iter().any(counts).then(Scan::default),
            due,
            connection: Arc::downgrade(connection),
            session,
            begun: Instant::now(),
            bytes: 0,
            packets: 0,
            rate: None,
        }
    }

    /// Passes a chunk to the session and injects the faults that are due; returns `false` if the body must not be read
    /// further.
    pub(crate) async fn hand_on(&mut self, mut rest: Bytes, session: &mpsc::Sender<BodyChunk>) -> bool {
        let mut packets = self.scan.as_mut().map(|scan| scan.packets(&rest)).unwrap_or_default();
        let mut at = 0;
        while self.act(session).await == BodyAction::GoOn {
            if rest.is_empty() {
                return true;
            }
            if self.is_refused(packets.front().map(|(_, packet)| packet)) {
                return false;
            }
            let to_packet = packets.front().map_or(rest.len(), |(end, _)| end.saturating_sub(at));
            let at_once = self
                .rate
                .map_or(usize::MAX, |rate| usize::try_from(rate / SLOW_READS_PER_SECOND).unwrap_or(usize::MAX).max(1));
            let piece = rest.split_to(to_packet.min(self.to_next_byte_mark()).min(at_once).min(rest.len()));
            let len = piece.len();
            at += len;
            self.bytes += len as u64;
            if packets.front().is_some_and(|(end, _)| *end == at) {
                let data = matches!(packets.pop_front(), Some((_, Packet::Data(_))));
                self.packets += u64::from(data);
            }
            if session.send(BodyChunk::Bytes(piece)).await.is_err() {
                return false;
            }
            if let Some(rate) = self.rate {
                pause(Duration::from_secs_f64(len as f64 / rate as f64), session).await;
            }
        }
        false
    }

    /// Waits for a fault that acts at a time, and injects it; returns `false` if the body must not be read further.
    pub(crate) async fn apply(faults: &mut Option<Self>, session: &mpsc::Sender<BodyChunk>) -> bool {
        let Some(faults) = faults else { return pending().await };
        let times = faults.due.iter().filter_map(|fault| {
            let Trigger::Body(Progress::Time(time)) = fault.moment else { return None };
            Some(faults.begun + time)
        });
        let Some(next) = times.min() else { return pending().await };
        sleep_until(next).await;
        faults.act(session).await == BodyAction::GoOn
    }

    /// Injects the faults whose moment has come.
    async fn act(&mut self, session: &mpsc::Sender<BodyChunk>) -> BodyAction {
        while let Some(at) = self.due.iter().position(|due| !due.kind.is_about_packets() && self.has_come(due.moment)) {
            let fault = self.due.remove(at);
            fault.log(&self.point);
            if let Kind::Stall(time) = fault.kind {
                pause(time, session).await;
            } else if let Kind::Slow(rate) = fault.kind {
                self.rate = Some(rate.as_u64());
            } else {
                // Wait until the session has received the data, because control messages would overtake it.
                let _ = session.reserve_many(session.max_capacity()).await;
                self.end_by(&fault.kind);
                return BodyAction::Over;
            }
        }
        BodyAction::GoOn
    }

    /// Ends the request. If the session receives no status, it sees a lost connection and drops the unsent response,
    /// which closes this connection.
    fn end_by(&self, kind: &Kind) {
        let Some(connection) = self.connection.upgrade() else { return };
        if *kind == Kind::Reset {
            connection.reset();
        } else if *kind == Kind::Garbage {
            connection.wire().say_first(GARBAGE);
            self.session.control(SessionControl::Expelled(500));
        } else if let Kind::Status { status, .. } = kind {
            self.session.control(SessionControl::Expelled(*status));
        }
    }

    fn has_come(&self, moment: Trigger) -> bool {
        let Trigger::Body(progress) = moment else { return false };
        match progress {
            Progress::Packets(count) => self.packets >= count,
            Progress::Bytes(size) => self.bytes >= size.as_u64(),
            Progress::Time(time) => self.begun.elapsed() >= time,
        }
    }

    /// Returns whether a fault refuses the next packet.
    fn is_refused(&self, packet: Option<&Packet>) -> bool {
        let Some(packet) = packet else { return false };
        let fault = self.due.iter().find(|fault| {
            if let Kind::SmallPackets(limit) = fault.kind {
                return (packet.wire_len() - FRAMING_LEN) as u64 > limit.as_u64();
            }
            (fault.kind == Kind::NoFiller && matches!(packet, Packet::Filler(_)))
                || (fault.kind == Kind::NoStreamChange && *packet == Packet::End(Hresult::FALSE))
        });
        fault.inspect(|fault| fault.log(&self.point)).is_some()
    }

    /// Returns the bytes up to the position of the next fault.
    fn to_next_byte_mark(&self) -> usize {
        let marks = self.due.iter().filter_map(|fault| {
            let Trigger::Body(Progress::Bytes(size)) = fault.moment else { return None };
            size.as_u64().checked_sub(self.bytes).filter(|left| *left > 0)
        });
        marks.min().map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX))
    }
}

impl Kind {
    /// Returns whether the fault acts on certain packets, wherever they are in the body.
    fn is_about_packets(&self) -> bool {
        matches!(self, Self::SmallPackets(_) | Self::NoFiller | Self::NoStreamChange)
    }
}

impl Scan {
    /// Returns the packets that end in this chunk, each with the offset of its end. Invalid packets are left to the
    /// session.
    fn packets(&mut self, chunk: &Bytes) -> VecDeque<(usize, Packet)> {
        let mut packets = VecDeque::new();
        let mut end = 0;
        self.decoder.push(chunk.clone());
        while let Ok(Some(packet)) = self.decoder.next_packet() {
            end += packet.wire_len().saturating_sub(std::mem::take(&mut self.held));
            packets.push_back((end, packet));
        }
        self.held += chunk.len().saturating_sub(end);
        packets
    }
}

/// Waits, unless the session ends first.
async fn pause(time: Duration, session: &mpsc::Sender<BodyChunk>) {
    tokio::select! {
        () = sleep(time) => {}
        () = session.closed() => {}
    }
}
