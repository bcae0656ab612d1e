//! Faults of servers and networks, and when they occur.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use wmhttp::Hresult;
use wmhttp::packet::Packet;

use crate::netns_link;
use crate::peer::{Connection, wms};
use crate::server::{Listening, Server, listen};

/// Number of data packets that a server accepts before a fault within the body.
const PACKETS_BEFORE_FAULT: usize = 20;
/// Size of the socket buffer of a server that never reads.
const SMALL_BUFFER: usize = 16 * 1024;
/// Time until the TCP stack has acknowledged everything that arrived, including the end.
const ACKNOWLEDGED: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server's process ends; later connections are refused.
    Refused,
    /// The server's host fails; later SYNs get no response.
    BlackHole,
    /// The server accepts connections and closes them.
    AcceptsAndCloses,
    /// The server stops reading.
    NeverReads,
    /// The server reads but sends nothing.
    Silent,
    /// The server sends something that is not HTTP.
    Garbage,
    /// The server reads and sends one byte per second.
    Trickle,
    /// The server responds with this status.
    Status(u16),
    /// The server resets the connection.
    Reset,
    /// The server closes the connection.
    Fin,
    /// The cable is unplugged.
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

/// When the fault occurs, on each connection again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the server has received a request.
    BeforeSetup,
    /// Instead of the response to PushSetup.
    InSetup,
    /// In the body of PushStart.
    InStart,
    /// Instead of the response at the end of a body.
    AtRollOver,
    /// After `$E`(0).
    AtEos,
}

pub const MOMENTS: [Moment; 5] =
    [Moment::BeforeSetup, Moment::InSetup, Moment::InStart, Moment::AtRollOver, Moment::AtEos];

/// Returns why a fault at this moment is not a fault, or is another one.
pub fn inapplicable_reason(fault: Fault, moment: Moment) -> Option<&'static str> {
    use Moment::{AtEos, AtRollOver, BeforeSetup, InSetup, InStart};
    match (fault, moment) {
        (Fault::AcceptsAndCloses, InSetup | InStart | AtRollOver | AtEos) => Some("during a request it is a FIN"),
        (Fault::Fin, BeforeSetup) => Some("it accepts and closes"),
        (Fault::Fin, AtEos) => Some("C-11: a server may end a push this way"),
        (Fault::Silent, BeforeSetup) => Some("the same as silence after the request"),
        (Fault::Silent, InStart) => Some("a correct server accepts data this way"),
        (Fault::Trickle, BeforeSetup) => Some("a byte before a request is garbage"),
        (Fault::NeverReads, InSetup) => Some("the setup fits into the socket buffers, whether it is read or not"),
        (Fault::NeverReads, AtEos) => Some("nothing is left to read, so it is silence"),
        (Fault::Status(_), BeforeSetup) => Some("a response before a request is garbage"),
        (Fault::Status(408), InSetup | AtRollOver | AtEos) => Some("S-2: the response to a paused body"),
        _ => None,
    }
}

/// Starts a server with a fault.
pub fn faulty_server(fault: Fault, moment: Moment) -> Server {
    let serve = move |connection, listening: &Arc<Listening>| serve_until_fault(fault, moment, connection, listening);
    if fault == Fault::HalfOpen {
        return netns_link::server_behind(serve);
    }
    let backlog = if fault == Fault::BlackHole { 0 } else { 16 };
    let room = [Fault::NeverReads, Fault::Trickle].contains(&fault).then_some(SMALL_BUFFER);
    let server = Server::start(listen(backlog, room), serve);
    if moment == Moment::BeforeSetup && fault == Fault::Refused {
        server.listening().refuse();
    }
    if moment == Moment::BeforeSetup && fault == Fault::BlackHole {
        server.listening().stop_accepting();
    }
    server
}

/// Serves a connection up to the fault.
fn serve_until_fault(fault: Fault, moment: Moment, mut connection: Connection, listening: &Listening) {
    if moment != Moment::BeforeSetup && !reaches(moment, fault, &mut connection) {
        return;
    }
    if moment == Moment::AtEos {
        thread::sleep(ACKNOWLEDGED);
    }
    apply_fault(fault, connection, listening);
}

/// Serves correctly until the moment of the fault; returns false if the encoder closed the connection before.
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
                if moment == Moment::InStart && data == PACKETS_BEFORE_FAULT {
                    return true;
                }
                // The rest of the body fits into the socket buffers.
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

fn apply_fault(fault: Fault, mut connection: Connection, listening: &Listening) {
    match fault {
        Fault::Refused => {
            listening.refuse();
            connection.reset();
        }
        Fault::BlackHole => {
            connection.reset();
            listening.stop_accepting();
        }
        Fault::AcceptsAndCloses => {}
        // The encoder's end is not read either. This time suffices for every combination.
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
