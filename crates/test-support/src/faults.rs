//! What servers and networks do wrong, and when.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use wmhttp::Hresult;
use wmhttp::packet::Packet;

use crate::netns_link;
use crate::peer::{Connection, wms};
use crate::server::{Listening, Server, listen};

/// Data packets that a server takes before its fault in mid-body.
const TAKEN: usize = 20;
/// What a server that never reads leaves to its system.
const LITTLE_ROOM: usize = 16 * 1024;
/// Until the system has acknowledged what came, the end included.
const ACKNOWLEDGED: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server dies; from then on connections are refused.
    Refused,
    /// The server dies; from then on a SYN stays without answer.
    BlackHole,
    /// It accepts and closes.
    AcceptsAndCloses,
    /// It reads nothing more.
    NeverReads,
    /// It says nothing, but reads.
    Silent,
    /// It says what is no HTTP.
    Garbage,
    /// It says and takes a byte a second.
    Trickle,
    /// It answers so.
    Status(u16),
    /// RST.
    Reset,
    /// FIN.
    Fin,
    /// The cable is pulled.
    HalfOpen,
}

pub const FAULTS: [Fault; 16] = [
    Fault::Refused,
    Fault::BlackHole,
    Fault::AcceptsAndCloses,
    Fault::NeverReads,
    Fault::Silent,
    Fault::Garbage,
    Fault::Trickle,
    Fault::Status(401),
    Fault::Status(403),
    Fault::Status(404),
    Fault::Status(408),
    Fault::Status(500),
    Fault::Status(503),
    Fault::Reset,
    Fault::Fin,
    Fault::HalfOpen,
];

/// When the fault befalls the server, on each connection anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before it has a request.
    BeforeSetup,
    /// Instead of the answer to PushSetup.
    InSetup,
    /// In the body of PushStart.
    InStart,
    /// Instead of the answer at a body's end.
    AtRollOver,
    /// After `$E`(0).
    AtEos,
}

pub const MOMENTS: [Moment; 5] =
    [Moment::BeforeSetup, Moment::InSetup, Moment::InStart, Moment::AtRollOver, Moment::AtEos];

/// Why a fault at this moment is none, or another.
pub fn makes_no_sense(fault: Fault, moment: Moment) -> Option<&'static str> {
    use Moment::{AtEos, AtRollOver, BeforeSetup, InSetup, InStart};
    match (fault, moment) {
        (Fault::AcceptsAndCloses, InSetup | InStart | AtRollOver | AtEos) => {
            Some("with a request under way it is a FIN")
        }
        (Fault::Fin, BeforeSetup) => Some("it accepts and closes"),
        (Fault::Fin, AtEos) => Some("C-11: so a server ends a push"),
        (Fault::Silent, BeforeSetup) => Some("silent before a request is silent after it"),
        (Fault::Silent, InStart) => Some("so a good server takes data"),
        (Fault::Trickle, BeforeSetup) => Some("garbage, where the byte comes before a request"),
        (Fault::NeverReads, InSetup) => Some("a setup lies in the system's buffers, read or not"),
        (Fault::NeverReads, AtEos) => Some("there is nothing left to read: it is silent"),
        (Fault::Status(_), BeforeSetup) => Some("an answer before a request is garbage"),
        (Fault::Status(408), InSetup | AtRollOver | AtEos) => Some("S-2: the answer to a body that pauses"),
        _ => None,
    }
}

/// A server with a fault.
pub fn culprit(fault: Fault, moment: Moment) -> Server {
    let serve = move |connection, listening: &Arc<Listening>| live(fault, moment, connection, listening);
    if fault == Fault::HalfOpen {
        return netns_link::server_behind(serve);
    }
    let backlog = if fault == Fault::BlackHole { 0 } else { 16 };
    let room = [Fault::NeverReads, Fault::Trickle].contains(&fault).then_some(LITTLE_ROOM);
    let server = Server::start(listen(backlog, room), serve);
    if moment == Moment::BeforeSetup && fault == Fault::Refused {
        server.listening().refuse();
    }
    if moment == Moment::BeforeSetup && fault == Fault::BlackHole {
        server.listening().turn_deaf();
    }
    server
}

/// A connection's life, up to the fault.
fn live(fault: Fault, moment: Moment, mut connection: Connection, listening: &Listening) {
    if moment != Moment::BeforeSetup && !reaches(moment, fault, &mut connection) {
        return;
    }
    if moment == Moment::AtEos {
        thread::sleep(ACKNOWLEDGED);
    }
    befall(fault, connection, listening);
}

/// Serves as a good server does, until the moment has come; false where the pusher closed before.
fn reaches(moment: Moment, fault: Fault, connection: &mut Connection) -> bool {
    while let Some(head) = connection.try_request() {
        let mut data = 0;
        if head.is_setup() {
            if moment == Moment::InSetup {
                return true;
            }
        } else {
            while let Some(packet) = connection.packet() {
                data += usize::from(matches!(packet, Packet::Data(_)));
                if moment == Moment::InStart && data == TAKEN {
                    return true;
                }
                // The rest of the body lies in the system's buffers.
                if moment == Moment::AtRollOver && fault == Fault::NeverReads && connection.body_left < 5_000 {
                    return true;
                }
                if packet == Packet::End(Hresult::OK) {
                    if moment == Moment::AtEos {
                        return true;
                    }
                    break;
                }
            }
            if moment == Moment::AtRollOver && connection.body_left == 0 {
                return true;
            }
        }
        if connection.try_answer(&wms(204, "one")).is_err() {
            return false;
        }
    }
    false
}

fn befall(fault: Fault, mut connection: Connection, listening: &Listening) {
    match fault {
        Fault::Refused => {
            listening.refuse();
            connection.reset();
        }
        Fault::BlackHole => {
            connection.reset();
            listening.turn_deaf();
        }
        Fault::AcceptsAndCloses => {}
        // The pusher's end is not read either: time enough for any cell.
        Fault::NeverReads => thread::sleep(Duration::from_secs(20)),
        Fault::Silent => connection.drain(),
        Fault::Garbage => {
            if connection.try_answer("\0\u{1}\u{2}garbage\r\n\r\n").is_ok() {
                connection.drain();
            }
        }
        Fault::Trickle => {
            for byte in wms(204, "one").chars() {
                if connection.try_answer(&byte.to_string()).is_err() {
                    return;
                }
                thread::sleep(Duration::from_secs(1));
                connection.take_byte();
            }
        }
        Fault::Status(status) => {
            let answer = match status {
                503 => wms(503, "one").replacen("\r\n", "\r\nRetry-After: 1\r\n", 1),
                _ => wms(status, "one"),
            };
            if connection.try_answer(&answer).is_ok() {
                connection.drain();
            }
        }
        Fault::Reset => connection.reset(),
        Fault::Fin => {
            connection.close_writing();
            connection.drain();
        }
        Fault::HalfOpen => {
            netns_link::pull();
            connection.drain();
        }
    }
}
