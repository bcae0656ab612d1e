//! Parsing and formatting of faults.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;

use super::{Fault, Kind, OmittedHeader, Progress, Schedule, Trigger};
use wmhttp::headers::PushId;

/// Default limit of `small-packets`: the packet limit of a known server, `$H` included.
const SMALL_PACKET: u64 = 8192;
/// Default time of `close-after-setup`: enough for the response to be sent.
const AFTER_SETUP: Duration = Duration::from_millis(200);

/// Maximum of a time: a year, which can be added to an `Instant` on every system.
const MAX_DELAY: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why a text is not a valid fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// No kind has this name.
    #[error("`{0}` is not a kind of fault; write one of: {kinds}", kinds = names())]
    UnknownKind(String),
    /// The value after `:` is missing, invalid or not allowed.
    #[error("the fault `{kind}` {problem}: write `{form}`")]
    Value {
        /// The kind's name.
        kind: String,
        /// The problem with its value.
        problem: String,
        /// The syntax of the kind.
        form: &'static str,
    },
    /// The moment after `@` is invalid, or not possible for this kind.
    #[error("`@{moment}` is not a valid moment for the fault `{kind}`: {allowed}")]
    Moment {
        /// The kind's name.
        kind: String,
        /// The text.
        moment: String,
        /// The possible moments.
        allowed: &'static str,
    },
    /// The text after `/` is invalid.
    #[error("`/{0}` is not a valid frequency: write `/once`, `/every:3`, `/chance:20%` or `/chance:20%:SEED`")]
    Turns(String),
}

/// The documentation of a kind of fault.
#[derive(Clone, Copy, Debug)]
pub struct KindRow {
    /// The syntax without moment and turns; capitals stand for a value.
    pub form: &'static str,
    /// The possible moments; the first one is the default.
    pub moments: &'static str,
    /// The effect.
    pub meaning: &'static str,
}

/// The moments of faults that break the connection, for [`KINDS`].
const BREAK: &str = "start, setup, PROGRESS, end";
/// The moments of faults that change responses, for [`KINDS`].
const ANSWERS: &str = "all responses, setup, end";
/// The moments of faults in the body of a PushStart, for [`KINDS`].
const BODY: &str = "PROGRESS";

/// The documentation of all kinds.
const KINDS: &[KindRow] = &[
    row("stall:TIME", BODY, "the server reads nothing of the body for this time"),
    row("slow:BYTES", BODY, "from this moment, the server reads this many bytes of the body per second"),
    row("reset", BREAK, "the server resets the connection (RST)"),
    row("close", BREAK, "the server closes the connection (FIN) without a response"),
    row("drop-after:PROGRESS", "none", "the same as `reset@PROGRESS`"),
    row("garbage", BREAK, "the response begins with bytes that are not HTTP"),
    row(
        "STATUS",
        "setup, start, PROGRESS, end",
        "the server responds with this status, from 200 to 599; during a body, this ends the session",
    ),
    row("STATUS:retry-after=TIME", "setup, start, PROGRESS, end", "the same as `STATUS`, with a Retry-After header"),
    row("no-answer", "end, setup", "the server sends no response; the connection stays open"),
    row("late:TIME", ANSWERS, "the server delays the response by this time"),
    row(
        "no-cookie",
        ANSWERS,
        "the response has no Set-Cookie header; a PushStart with push-id 0 then belongs to the point's session",
    ),
    row(
        "cookie:ID",
        ANSWERS,
        "the response sets this push-id instead of the session's; a PushStart with it belongs to the point's session",
    ),
    row("no-server-header", ANSWERS, "the response has no Server header"),
    row("no-pragma", ANSWERS, "the response has no Pragma header, and therefore no Idle-Timeout"),
    row("no-supported", ANSWERS, "the response has no Supported header"),
    row("http-1.0", ANSWERS, "the response uses HTTP/1.0, and the connection closes after it"),
    row("split-answer", ANSWERS, "the server sends the response in two pieces, 300 ms apart"),
    row("extra-100-continue", ANSWERS, "the server sends an unsolicited `100 Continue` before the response"),
    row(
        "close-after-setup",
        "none",
        "200 ms after the response to PushSetup, the server closes the connection if it is idle",
    ),
    row("close-after-setup:TIME", "none", "the same as `close-after-setup`, after this time"),
    row("no-directives", "none", "the server closes the connection at a PushSetup that has a body"),
    row("small-packets", "none", "the server closes the connection at a packet whose payload exceeds 8,192 bytes"),
    row("small-packets:BYTES", "none", "the same as `small-packets`, with this limit"),
    row("no-filler", "none", "the server closes the connection at a `$F` packet"),
    row("no-stream-change", "none", "the server closes the connection at an `$E` packet with Reason 1"),
];

/// Returns a row of [`KINDS`].
const fn row(form: &'static str, moments: &'static str, meaning: &'static str) -> KindRow {
    KindRow { form, moments, meaning }
}

/// Returns the documentation of all kinds.
pub fn kinds() -> &'static [KindRow] {
    KINDS
}

/// Returns the syntax of all kinds, for error messages.
fn names() -> String {
    KINDS.iter().map(|row| row.form).collect::<Vec<_>>().join(", ")
}

/// The possible moments of a kind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moments {
    /// Any moment, except both responses.
    Any(Trigger),
    /// A position in the body.
    Body,
    /// One of the responses, or both.
    Answers,
    /// One of the responses; the default is the end.
    NoAnswer,
    /// Only this one, which cannot be written.
    None(Trigger),
}

impl Kind {
    fn moments(&self) -> Moments {
        match self {
            Self::Stall(_) | Self::Slow(_) => Moments::Body,
            Self::Reset | Self::Close | Self::Garbage => Moments::Any(Trigger::Start),
            Self::Status { .. } => Moments::Any(Trigger::Setup),
            Self::NoAnswer => Moments::NoAnswer,
            Self::Late(_)
            | Self::Without(_)
            | Self::Cookie(_)
            | Self::Http10
            | Self::SplitAnswer
            | Self::ExtraContinue => Moments::Answers,
            Self::CloseAfterSetup(_) | Self::NoDirectives => Moments::None(Trigger::Setup),
            Self::SmallPackets(_) | Self::NoFiller | Self::NoStreamChange => Moments::None(BEGINNING),
        }
    }
}

/// The beginning of the body.
const BEGINNING: Trigger = Trigger::Body(Progress::Packets(0));

impl Moments {
    /// Returns the moment of a fault without `@`.
    fn default_moment(self) -> Trigger {
        match self {
            Self::Any(moment) | Self::None(moment) => moment,
            Self::Body => BEGINNING,
            Self::Answers => Trigger::Answers,
            Self::NoAnswer => Trigger::End,
        }
    }

    /// Returns whether this moment may be written.
    fn allows(self, moment: Trigger) -> bool {
        match self {
            Self::Any(_) => moment != Trigger::Answers,
            Self::Body => matches!(moment, Trigger::Body(_)),
            Self::Answers | Self::NoAnswer => matches!(moment, Trigger::Setup | Trigger::End),
            Self::None(_) => false,
        }
    }

    /// Describes the possible moments, for error messages.
    fn allowed(self) -> &'static str {
        match self {
            Self::Any(_) => {
                "write `setup`, `start`, `end`, or how far into the body, in packets, bytes or time: `100`, `64kB`, `5s`"
            }
            Self::Body => "write how far into the body, in packets, bytes or time: `100`, `64kB`, `5s`",
            Self::Answers | Self::NoAnswer => "write `setup` or `end`",
            Self::None(_) => "its moment is fixed, so leave `@` out",
        }
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let (rest, turns) = text.split_once('/').map_or((text, None), |(rest, turns)| (rest, Some(turns)));
        let (rest, moment) = rest.split_once('@').map_or((rest, None), |(rest, moment)| (rest, Some(moment)));
        let (name, value) = rest.split_once(':').map_or((rest, None), |(name, value)| (name, Some(value)));
        let turns = turns.map_or(Ok(Schedule::Each), parse_turns)?;
        if name == "drop-after" {
            let progress = needed(name, value, "drop-after:PROGRESS", parse_progress)?;
            if let Some(moment) = moment {
                return Err(bad_moment(name, moment, Moments::None(Trigger::Start)));
            }
            return Ok(Self { kind: Kind::Reset, moment: Trigger::Body(progress), turns });
        }
        let kind = parse_kind(name, value)?;
        let moments = kind.moments();
        let moment = match moment {
            None => moments.default_moment(),
            Some(text) => parse_moment(text)
                .filter(|moment| moments.allows(*moment))
                .ok_or_else(|| bad_moment(name, text, moments))?,
        };
        Ok(Self { kind, moment, turns })
    }
}

/// Returns the error about an invalid moment.
fn bad_moment(kind: &str, moment: &str, moments: Moments) -> FaultError {
    FaultError::Moment { kind: kind.to_owned(), moment: moment.to_owned(), allowed: moments.allowed() }
}

/// Parses the kind and its value, without moment and turns.
fn parse_kind(name: &str, value: Option<&str>) -> Result<Kind, FaultError> {
    if let Ok(status) = name.parse::<u16>() {
        let form = "STATUS:retry-after=TIME";
        if !(200..600).contains(&status) {
            return Err(bad_value(name, "is not a status from 200 to 599", "503"));
        }
        let retry_after = |text: &str| parse_time(text.strip_prefix("retry-after=")?);
        let retry_after = value.map(|_| needed(name, value, form, retry_after)).transpose()?;
        return Ok(Kind::Status { status, retry_after });
    }
    let time = |form| needed(name, value, form, parse_time);
    let bytes = |form| needed(name, value, form, parse_bytes);
    let valued = match name {
        "stall" => Some(Kind::Stall(time("stall:10s")?)),
        "slow" => Some(Kind::Slow(bytes("slow:64k")?)),
        "late" => Some(Kind::Late(time("late:3s")?)),
        "cookie" => Some(Kind::Cookie(needed(name, value, "cookie:0", PushId::parse)?)),
        "close-after-setup" if value.is_some() => Some(Kind::CloseAfterSetup(time("close-after-setup:5s")?)),
        "small-packets" if value.is_some() => Some(Kind::SmallPackets(bytes("small-packets:8192")?)),
        _ => None,
    };
    if let Some(kind) = valued {
        return Ok(kind);
    }
    let (kind, form) = match name {
        "reset" => (Kind::Reset, "reset"),
        "close" => (Kind::Close, "close"),
        "garbage" => (Kind::Garbage, "garbage"),
        "no-answer" => (Kind::NoAnswer, "no-answer"),
        "no-cookie" => (Kind::Without(OmittedHeader::Cookie), "no-cookie"),
        "no-server-header" => (Kind::Without(OmittedHeader::Server), "no-server-header"),
        "no-pragma" => (Kind::Without(OmittedHeader::Pragma), "no-pragma"),
        "no-supported" => (Kind::Without(OmittedHeader::Supported), "no-supported"),
        "http-1.0" => (Kind::Http10, "http-1.0"),
        "split-answer" => (Kind::SplitAnswer, "split-answer"),
        "extra-100-continue" => (Kind::ExtraContinue, "extra-100-continue"),
        "close-after-setup" => (Kind::CloseAfterSetup(AFTER_SETUP), "close-after-setup"),
        "no-directives" => (Kind::NoDirectives, "no-directives"),
        "small-packets" => (Kind::SmallPackets(ByteSize(SMALL_PACKET)), "small-packets"),
        "no-filler" => (Kind::NoFiller, "no-filler"),
        "no-stream-change" => (Kind::NoStreamChange, "no-stream-change"),
        unknown => return Err(FaultError::UnknownKind(unknown.to_owned())),
    };
    match value {
        None => Ok(kind),
        Some(_) => Err(bad_value(name, "takes no value", form)),
    }
}

/// Parses a required value. `form` is the syntax of the kind, for the error.
fn needed<T>(
    kind: &str,
    value: Option<&str>,
    form: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, FaultError> {
    let value = value.ok_or_else(|| bad_value(kind, "needs a value", form))?;
    parse(value).ok_or_else(|| bad_value(kind, &format!("does not take the value `{value}`"), form))
}

/// Returns the error about an invalid value.
fn bad_value(kind: &str, problem: &str, form: &'static str) -> FaultError {
    FaultError::Value { kind: kind.to_owned(), problem: problem.to_owned(), form }
}

/// Parses a time of at most [`MAX_DELAY`].
fn parse_time(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok().filter(|time| *time <= MAX_DELAY)
}

/// Parses a number of bytes, at least one, because reading nothing is the fault `stall`.
fn parse_bytes(text: &str) -> Option<ByteSize> {
    text.parse::<ByteSize>().ok().filter(|size| size.as_u64() > 0)
}

/// Parses a position in the body.
fn parse_progress(text: &str) -> Option<Progress> {
    // A number without a unit counts packets. Times are tried before sizes, because `1m` is a minute and not a
    // megabyte.
    let packets = text.parse().ok().map(Progress::Packets);
    let time = || parse_time(text).map(Progress::Time);
    packets.or_else(time).or_else(|| text.parse().ok().map(Progress::Bytes))
}

/// Parses the text after `@`.
fn parse_moment(text: &str) -> Option<Trigger> {
    match text {
        "setup" => Some(Trigger::Setup),
        "start" => Some(Trigger::Start),
        "end" => Some(Trigger::End),
        progress => parse_progress(progress).map(Trigger::Body),
    }
}

/// Parses the text after `/`.
fn parse_turns(text: &str) -> Result<Schedule, FaultError> {
    let turns = || {
        let (word, value) = text.split_once(':').map_or((text, None), |(word, value)| (word, Some(value)));
        match (word, value) {
            ("once", None) => Some(Schedule::Once),
            ("every", Some(step)) => step.parse().ok().filter(|step| *step > 0).map(Schedule::Every),
            ("chance", Some(value)) => {
                let (percent, seed) = value.split_once(':').unwrap_or((value, "0"));
                let percent = percent.strip_suffix('%')?.parse().ok().filter(|percent| *percent <= 100)?;
                Some(Schedule::Chance { percent, seed: seed.parse().ok()? })
            }
            _ => None,
        }
    };
    turns().ok_or_else(|| FaultError::Turns(text.to_owned()))
}

impl fmt::Display for Fault {
    /// Writes the fault so that it can be parsed again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if self.moment != self.kind.moments().default_moment() {
            write!(f, "@{}", self.moment)?;
        }
        write!(f, "{}", self.turns)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |time: &Duration| humantime::format_duration(*time).to_string();
        match self {
            Self::Stall(length) => write!(f, "stall:{}", time(length)),
            Self::Slow(rate) => write!(f, "slow:{}", rate.as_u64()),
            Self::Reset => f.write_str("reset"),
            Self::Close => f.write_str("close"),
            Self::Garbage => f.write_str("garbage"),
            Self::NoAnswer => f.write_str("no-answer"),
            Self::Late(length) => write!(f, "late:{}", time(length)),
            Self::Status { status, retry_after: None } => write!(f, "{status}"),
            Self::Status { status, retry_after: Some(wait) } => write!(f, "{status}:retry-after={}", time(wait)),
            Self::Without(OmittedHeader::Cookie) => f.write_str("no-cookie"),
            Self::Without(OmittedHeader::Server) => f.write_str("no-server-header"),
            Self::Without(OmittedHeader::Pragma) => f.write_str("no-pragma"),
            Self::Without(OmittedHeader::Supported) => f.write_str("no-supported"),
            Self::Cookie(id) => write!(f, "cookie:{}", id.as_str()),
            Self::Http10 => f.write_str("http-1.0"),
            Self::SplitAnswer => f.write_str("split-answer"),
            Self::ExtraContinue => f.write_str("extra-100-continue"),
            Self::CloseAfterSetup(length) => write!(f, "close-after-setup:{}", time(length)),
            Self::NoDirectives => f.write_str("no-directives"),
            Self::SmallPackets(limit) => write!(f, "small-packets:{}", limit.as_u64()),
            Self::NoFiller => f.write_str("no-filler"),
            Self::NoStreamChange => f.write_str("no-stream-change"),
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup => f.write_str("setup"),
            Self::Start => f.write_str("start"),
            Self::Body(Progress::Packets(count)) => write!(f, "{count}"),
            Self::Body(Progress::Bytes(size)) => write!(f, "{}B", size.as_u64()),
            Self::Body(Progress::Time(time)) => write!(f, "{}", humantime::format_duration(*time)),
            Self::End => f.write_str("end"),
            Self::Answers => f.write_str("answers"),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Each => Ok(()),
            Self::Once => f.write_str("/once"),
            Self::Every(step) => write!(f, "/every:{step}"),
            Self::Chance { percent, seed: 0 } => write!(f, "/chance:{percent}%"),
            Self::Chance { percent, seed } => write!(f, "/chance:{percent}%:{seed}"),
        }
    }
}

#[cfg(test)]
mod tests;
