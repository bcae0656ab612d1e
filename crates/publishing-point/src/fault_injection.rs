//! Fault injection: faults of a publishing point for testing encoders.
//!
//! ```text
//! FAULT = KIND [":" VALUE] ["@" MOMENT] ["/" TURNS]
//! ```
//!
//! A fault is due on each request with its moment, or on those that its turns select. It then acts at that moment and
//! is logged. [`kinds`] lists the kinds.
//!
//! ```
//! use asf_publishing_point::{Fault, Progress, Trigger};
//!
//! let fault: Fault = "503:retry-after=5s@200/every:3".parse()?;
//! assert_eq!(fault.moment, Trigger::Body(Progress::Packets(200)));
//! assert_eq!(fault.to_string(), "503:retry-after=5s@200/every:3");
//! # Ok::<(), asf_publishing_point::FaultError>(())
//! ```

pub(crate) mod body_faults;
mod grammar;
pub(crate) mod request_faults;
mod schedule;
pub(crate) mod write_faults;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;

use wmhttp::headers::PushId;

pub use grammar::{FaultError, KindRow, kinds};
use schedule::Counter;
pub use schedule::Schedule;

/// A fault: its kind, when it acts, and on which requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind of fault.
    pub kind: Kind,
    /// When the fault acts within a request or its response.
    pub moment: Trigger,
    /// On which of the requests with this moment the fault acts.
    pub turns: Schedule,
}

impl Fault {
    /// Logs that the fault acts now at the point `point`.
    fn log(&self, point: &str) {
        tracing::warn!(point, fault = %self, "fault injected");
    }
}

/// The kind of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The body is not read for this time.
    Stall(Duration),
    /// This many bytes of the body are read per second.
    Slow(ByteSize),
    /// The connection is reset (RST).
    Reset,
    /// The connection is closed (FIN).
    Close,
    /// The response is not valid HTTP.
    Garbage,
    /// No response is sent.
    NoAnswer,
    /// The response is delayed by this time.
    Late(Duration),
    /// Another response is sent.
    Status {
        /// The status, 200 to 599; a 401 has a Basic challenge.
        status: u16,
        /// The Retry-After header, in whole seconds.
        retry_after: Option<Duration>,
    },
    /// Responses lack a header.
    Without(OmittedHeader),
    /// Responses set this push-id, and a PushStart with it is treated as one of the point's session.
    Cookie(PushId),
    /// Responses use HTTP/1.0, and the connection closes after each.
    Http10,
    /// Responses are sent in two pieces with a pause in between.
    SplitAnswer,
    /// An unsolicited `100 Continue` is sent before the response.
    ExtraContinue,
    /// The connection closes this long after PushSetup's response, if no request has arrived by then.
    CloseAfterSetup(Duration),
    /// The connection closes on a PushSetup with directives in its body.
    NoDirectives,
    /// The connection closes on a packet whose payload exceeds this size.
    SmallPackets(ByteSize),
    /// The connection closes on a `$F`.
    NoFiller,
    /// The connection closes on an `$E` with Reason 1.
    NoStreamChange,
}

/// A header that responses lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OmittedHeader {
    /// `Set-Cookie`; a PushStart with push-id 0 is treated as one of the point's session.
    Cookie,
    /// `Server`.
    Server,
    /// `Pragma`, and with it the Idle-Timeout.
    Pragma,
    /// `Supported`.
    Supported,
}

/// When a fault acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// At the response to a PushSetup.
    Setup,
    /// At the head of a PushStart, before its body.
    Start,
    /// In the body of a PushStart.
    Body(Progress),
    /// At the response to a PushStart whose body is complete, or ended by `$E`.
    End,
    /// At each response, [`Trigger::Setup`] and [`Trigger::End`].
    Answers,
}

/// A position in the body of a PushStart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// After this many `$D` packets; 0 is the beginning of the body.
    Packets(u64),
    /// After this many bytes.
    Bytes(ByteSize),
    /// After this time.
    Time(Duration),
}

/// The faults of a point, each with a counter of the requests that it was due on. A clone has its own counters.
#[derive(Default)]
pub struct Faults {
    list: Arc<[FaultInstance]>,
}

/// A fault of a point and the number of requests that it was due on.
struct FaultInstance {
    fault: Fault,
    turn: Counter,
}

impl Faults {
    /// Returns whether there are no faults.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the faults in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.list.iter().map(|instance| &instance.fault)
    }

    /// Returns whether a fault delays the encoder. This works only if the kernel buffers little data, because otherwise
    /// the encoder can continue to send.
    pub(crate) fn delay_encoder(&self) -> bool {
        self.iter().any(|fault| matches!(fault.kind, Kind::Stall(_) | Kind::Slow(_)))
    }

    /// Returns the faults that are due on a request, and counts the request for each fault that concerns it.
    fn due(&self, concerns: impl Fn(&Fault) -> bool) -> Vec<Fault> {
        let concerned = self.list.iter().filter(|instance| concerns(&instance.fault));
        concerned
            .filter(|instance| instance.turn.is_due(instance.fault.turns))
            .map(|instance| instance.fault.clone())
            .collect()
    }
}

impl FromIterator<Fault> for Faults {
    fn from_iter<I: IntoIterator<Item = Fault>>(faults: I) -> Self {
        Self { list: faults.into_iter().map(|fault| FaultInstance { fault, turn: Counter::default() }).collect() }
    }
}

impl Clone for Faults {
    fn clone(&self) -> Self {
        self.iter().cloned().collect()
    }
}

impl PartialEq for Faults {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(Fault::to_string)).finish()
    }
}

impl FromStr for Faults {
    type Err = FaultError;

    /// Parses a list separated by commas.
    fn from_str(text: &str) -> Result<Self, FaultError> {
        text.split(',').map(|fault| fault.trim().parse::<Fault>()).collect()
    }
}
