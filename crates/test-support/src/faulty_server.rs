//! A server that stalls, breaks connections, is killed and restarts, according to a random seed.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::server_process::PointProgram;

/// Faults within a body.
const BODY_FAULTS: [&str; 8] =
    ["reset", "close", "garbage", "503:retry-after=1s", "408", "stall:2s", "stall:15s", "slow:150kB"];
/// Faults of responses, and of connections between requests.
const RESPONSE_FAULTS: [&str; 17] = [
    "reset@setup",
    "reset@start",
    "reset@end",
    "close@setup",
    "close@start",
    "close@end",
    "garbage@setup",
    "garbage@end",
    "503@setup",
    "503@start",
    "no-answer@setup",
    "no-answer@end",
    "late:1s",
    "split-answer",
    "extra-100-continue",
    "http-1.0",
    "close-after-setup:50ms",
];

/// Pause after a fault, in which the server reads what its socket buffers have received meanwhile.
const RECOVERY_TIME: Duration = Duration::from_secs(2);

/// A fault, until it is healed.
enum ServerFault {
    Fault(String),
    /// The process is stopped, with its connections open.
    Stopped,
    /// The process was killed without notice.
    Killed,
    /// The process was ended in an orderly way.
    Ended,
}

/// The server with one publishing point, `concert`, which records.
pub struct FaultyServer {
    address: SocketAddr,
    recordings: PathBuf,
    /// Whether its process may end.
    is_mortal: bool,
    program: Option<PointProgram>,
    /// The current fault, and when it ends.
    fault: Option<(ServerFault, Instant)>,
    rested_at: Instant,
}

impl FaultyServer {
    /// Starts it without a fault.
    pub fn start(recordings: PathBuf, is_mortal: bool) -> Self {
        let address = SocketAddr::from((own_address(), 0));
        let rested_at = Instant::now() + RECOVERY_TIME;
        let mut server = Self { address, recordings, is_mortal, program: None, fault: None, rested_at };
        server.begin();
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}/concert", self.address)
    }

    pub fn recordings(&self) -> &PathBuf {
        &self.recordings
    }

    /// Returns its process, if it runs.
    pub fn program(&self) -> Option<&PointProgram> {
        self.program.as_ref()
    }

    pub fn has_fault(&self) -> bool {
        self.fault.is_some()
    }

    /// Returns whether a fault may start.
    pub fn is_well(&self, now: Instant) -> bool {
        self.fault.is_none() && self.rested_at <= now
    }

    /// Starts a random fault and returns its description.
    pub fn start_fault(&mut self, random: &mut StdRng, now: Instant) -> String {
        let mut seconds = |least: u64, most: u64| Duration::from_millis(random.random_range(least * 1000..most * 1000));
        let (fault_for, stop_for, down_for) = (seconds(3, 10), seconds(1, 5), seconds(0, 5));
        let packets = random.random_range(1..150);
        let fault = match random.random() {
            true => format!("{}@{packets}", BODY_FAULTS.choose(random).unwrap()),
            false => (*RESPONSE_FAULTS.choose(random).unwrap()).to_owned(),
        };
        let kinds = if self.is_mortal { 6 } else { 4 };
        let (fault, time) = match random.random_range(0..kinds) {
            0..3 => (ServerFault::Fault(fault), fault_for),
            3 => (ServerFault::Stopped, stop_for),
            4 => (ServerFault::Killed, down_for),
            _ => (ServerFault::Ended, down_for),
        };
        match &fault {
            ServerFault::Fault(fault) => self.program().unwrap().reload(&self.config(fault)),
            ServerFault::Stopped => self.program().unwrap().signal(Signal::SIGSTOP),
            ServerFault::Killed => self.program = None,
            ServerFault::Ended => drop(self.program.take().unwrap().stop()),
        }
        let what = match &fault {
            ServerFault::Fault(fault) => fault,
            ServerFault::Stopped => "stopped",
            ServerFault::Killed => "killed",
            ServerFault::Ended => "ended",
        };
        let description = format!("{what} for {} ms", time.as_millis());
        self.fault = Some((fault, now + time));
        description
    }

    /// Ends the fault if its time is over.
    pub fn pass(&mut self, now: Instant) {
        if self.fault.as_ref().is_some_and(|(_, until)| *until <= now) {
            self.end_fault();
            self.rested_at = now + RECOVERY_TIME;
        }
    }

    /// Ends the fault; a fault in a current body continues until the end of that body.
    pub fn end_fault(&mut self) {
        match self.fault.take() {
            Some((ServerFault::Fault(_), _)) => self.program().unwrap().reload(&self.config("")),
            Some((ServerFault::Stopped, _)) => self.program().unwrap().signal(Signal::SIGCONT),
            Some((ServerFault::Killed | ServerFault::Ended, _)) => self.begin(),
            None => {}
        }
    }

    /// Ends the process like an administrator; its files are complete then.
    pub fn end(&mut self) {
        self.program.take().unwrap().stop();
    }

    /// Starts the process at its previous address.
    fn begin(&mut self) {
        let program = PointProgram::configured_at(self.address, &[], &self.config(""));
        self.address = program.address;
        self.program = Some(program);
    }

    fn config(&self, fault: &str) -> String {
        let faults = if fault.is_empty() { String::new() } else { format!("'{fault}'") };
        format!(
            "idle-timeout = '10s'\n[point.concert]\nrecord = '{}'\nrecord-max-time = '30s'\nfaults = [{faults}]\n",
            self.recordings.display()
        )
    }
}

/// Returns a loopback address on which no other test listens, so that its ports stay free while a server is down.
fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let number = u8::try_from(NEXT.fetch_add(1, Ordering::Relaxed) % 64).unwrap();
    Ipv4Addr::new(127, 128 + number, high, low.max(1))
}
