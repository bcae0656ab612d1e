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

/// Reads per second of a slowly read body: enough for an even flow without a timer for each packet.
const SLOW_READS_PER_SECOND: u64 = 20;

/// The faults in the body of one PushStart.
pub(crate) struct BodyFaults {
    point: String,
    /// The faults that have not acted yet.
    due: Vec<Fault>,
    /// Not owned, so that the faults do not keep a closed connection alive.
    connection: Weak<Connection>,
    session: PublishSession,
    started_at: Instant,
    /// Bytes passed to the session so far.
    bytes: u64,
    /// `$D` packets passed to the session so far; counted only with a scanner.
    packets: u64,
    /// Bytes per second, from the fault `slow` on.
    rate: Option<u64>,
    /// Finds packets; `None` if no fault needs them.
    scanner: Option<PacketScanner>,
}

/// Finds the ends of packets in the chunks; used only if a fault needs them.
#[derive(Default)]
struct PacketScanner {
    decoder: Decoder,
    /// Bytes of a packet whose end has not arrived.
    held: usize,
}

/// Whether to continue reading the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyAction {
    /// The body is read further.
    Continue,
    /// The body must not be read further.
    Stop,
}

impl BodyFaults {
    /// Returns the faults of a body that begins now.
    pub(super) fn new(point: &str, due: Vec<Fault>, connection: &Arc<Connection>, session: PublishSession) -> Self {
        let counts = |fault: &Fault| {
            fault.kind.is_about_packets() || matches!(fault.moment, Trigger::Body(Progress::Packets(1..)))
        };
        Self {
            point: point.to_owned(),
            scanner: due.iter().any(counts).then(PacketScanner::default),
            due,
            connection: Arc::downgrade(connection),
            session,
            started_at: Instant::now(),
            bytes: 0,
            packets: 0,
            rate: None,
        }
    }

    /// Passes a chunk to the session and injects the faults that are due. The chunk is split wherever a fault is due
    /// within it, so that each fault acts at its exact position. Returns `false` if the body must not be read further.
    pub(crate) async fn forward_chunk(&mut self, mut rest: Bytes, session: &mpsc::Sender<BodyChunk>) -> bool {
        let mut packets = self.scanner.as_mut().map(|scanner| scanner.packets(&rest)).unwrap_or_default();
        let mut at = 0;
        while self.apply_due(session).await == BodyAction::Continue {
            if rest.is_empty() {
                return true;
            }
            if self.is_refused(packets.front().map(|(_, packet)| packet)) {
                return false;
            }
            // Each piece ends at the next packet, fault or read of a slow body, whichever is first.
            let to_packet = packets.front().map_or(rest.len(), |(end, _)| end.saturating_sub(at));
            let at_once = self
                .rate
                .map_or(usize::MAX, |rate| usize::try_from(rate / SLOW_READS_PER_SECOND).unwrap_or(usize::MAX).max(1));
            let piece = rest.split_to(to_packet.min(self.bytes_to_next_fault()).min(at_once).min(rest.len()));
            let len = piece.len();
            at += len;
            self.bytes += len as u64;
            if packets.front().is_some_and(|(end, _)| *end == at) {
                // Only `$D` packets count, as in the progress of a fault.
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
            Some(faults.started_at + time)
        });
        let Some(next) = times.min() else { return pending().await };
        sleep_until(next).await;
        faults.apply_due(session).await == BodyAction::Continue
    }

    /// Injects the faults whose moment has come.
    async fn apply_due(&mut self, session: &mpsc::Sender<BodyChunk>) -> BodyAction {
        // Faults about packets are not due at a position; `is_refused` checks them for each packet.
        while let Some(at) = self.due.iter().position(|due| !due.kind.is_about_packets() && self.is_reached(due.moment))
        {
            let fault = self.due.remove(at);
            fault.log(&self.point);
            if let Kind::Stall(time) = fault.kind {
                pause(time, session).await;
            } else if let Kind::Slow(rate) = fault.kind {
                self.rate = Some(rate.as_u64());
            } else {
                // Wait until the session has received the data, because control messages would overtake it.
                let _ = session.reserve_many(session.max_capacity()).await;
                self.end_request_with(&fault.kind);
                return BodyAction::Stop;
            }
        }
        BodyAction::Continue
    }

    /// Ends the request. For a fault without a status, the session sees a lost connection and drops the response that
    /// it has not sent, which closes this connection.
    fn end_request_with(&self, kind: &Kind) {
        let Some(connection) = self.connection.upgrade() else { return };
        if *kind == Kind::Reset {
            connection.reset();
        } else if *kind == Kind::Garbage {
            connection.write_faults().write_before_response(GARBAGE);
            self.session.control(SessionControl::Terminate(500));
        } else if let Kind::Status { status, .. } = kind {
            self.session.control(SessionControl::Terminate(*status));
        }
    }

    /// Returns whether the body has reached this position.
    fn is_reached(&self, moment: Trigger) -> bool {
        let Trigger::Body(progress) = moment else { return false };
        match progress {
            Progress::Packets(count) => self.packets >= count,
            Progress::Bytes(size) => self.bytes >= size.as_u64(),
            Progress::Time(time) => self.started_at.elapsed() >= time,
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
    fn bytes_to_next_fault(&self) -> usize {
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

impl PacketScanner {
    /// Returns the packets that end in this chunk, each with the offset of its end. Invalid packets are left to the
    /// session.
    fn packets(&mut self, chunk: &Bytes) -> VecDeque<(usize, Packet)> {
        let mut packets = VecDeque::new();
        let mut end = 0;
        self.decoder.push(chunk.clone());
        while let Ok(Some(packet)) = self.decoder.next_packet() {
            // Bytes of this packet that came in earlier chunks do not count towards its end in this chunk.
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
