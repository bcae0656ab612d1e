//! Faults that a publishing point commits on purpose, for whoever tests an encoder.
//!
//! ```text
//! FAULT = KIND [":" VALUE] ["@" MOMENT] ["/" TURNS]
//! ```
//!
//! A fault is due on each request that its moment names, or on those that its turns pick;
//! it then acts at that moment, and says so in the log. [`kinds`] lists the kinds.
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

/// A fault, when it acts, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: Kind,
    /// When, within a request or its answer.
    pub moment: Trigger,
    /// On which of the requests that have such a moment.
    pub turns: Schedule,
}

impl Fault {
    /// Says in the log that it acts at the point `point`, at the moment it does.
    fn log(&self, point: &str) {
        tracing::warn!(point, fault = %self, "fault injected");
    }
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing of the body is read for this time.
    Stall(Duration),
    /// So many bytes of the body are read a second.
    Slow(ByteSize),
    /// The connection is reset (RST).
    Reset,
    /// The connection is closed (FIN).
    Close,
    /// An answer that is no HTTP.
    Garbage,
    /// No answer, ever.
    NoAnswer,
    /// The answer comes so much later.
    Late(Duration),
    /// Another answer.
    Status {
        /// 200 to 599; 401 comes with a challenge of the scheme Basic.
        status: u16,
        /// The Retry-After header; told in whole seconds.
        retry_after: Option<Duration>,
    },
    /// Answers lack a header.
    Without(OmittedHeader),
    /// Answers set this push-id, and a PushStart that comes with it is taken for one of the point's session.
    Cookie(PushId),
    /// Answers are of HTTP/1.0, and the connection closes after each.
    Http10,
    /// Answers come in two pieces with a pause between.
    SplitAnswer,
    /// A `100 Continue` that nobody asked for comes before the answer.
    ExtraContinue,
    /// The connection closes so long after PushSetup's answer, where no request has come by then.
    CloseAfterSetup(Duration),
    /// The connection closes on a PushSetup with directives in its body.
    NoDirectives,
    /// The connection closes on a packet with a payload of more bytes.
    SmallPackets(ByteSize),
    /// The connection closes on a `$F`.
    NoFiller,
    /// The connection closes on an `$E` with Reason 1.
    NoStreamChange,
}

/// A header that answers lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OmittedHeader {
    /// `Set-Cookie`; a PushStart with push-id 0 is taken for one of the point's session.
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
    /// At the answer to a PushSetup.
    Setup,
    /// At the head of a PushStart, before its body.
    Start,
    /// In the body of a PushStart.
    Body(Progress),
    /// At the answer to a PushStart whose body is complete, or ended by `$E`.
    End,
    /// At each answer, [`Trigger::Setup`] and [`Trigger::End`].
    Answers,
}

/// How far into the body of a PushStart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// After so many `$D` packets; 0 is the body's beginning.
    Packets(u64),
    /// After so many bytes.
    Bytes(ByteSize),
    /// After this time.
    Time(Duration),
}

/// The faults of one point, each with the requests that it was due on so far. Clones count for themselves.
#[derive(Default)]
pub struct Faults {
    list: Arc<[FaultInstance]>,
}

struct FaultInstance {
    fault: Fault,
    turn: Counter,
}

impl Faults {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The faults, in the order they were given.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.list.iter().map(|armed| &armed.fault)
    }

    /// Whether a pusher's data is to be held back: its system must not swallow it.
    pub(crate) fn hold_back(&self) -> bool {
        self.iter().any(|fault| matches!(fault.kind, Kind::Stall(_) | Kind::Slow(_)))
    }

    /// The faults that are due on a request; each that can be is counted.
    fn due(&self, concerns: impl Fn(&Fault) -> bool) -> Vec<Fault> {
        let concerned = self.list.iter().filter(|armed| concerns(&armed.fault));
        concerned.filter(|armed| armed.turn.is_due(armed.fault.turns)).map(|armed| armed.fault.clone()).collect()
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

    /// Reads a list with commas between.
    fn from_str(text: &str) -> Result<Self, FaultError> {
        text.split(',').map(|fault| fault.trim().parse::<Fault>()).collect()
    }
}
