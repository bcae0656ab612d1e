//! Converts bus messages to text and figures.

use std::fmt;
use std::time::Duration;

/// An event that is shown.
pub(crate) enum Report {
    /// The counters of all publishing points.
    Rows(Vec<Row>),
    /// A state change of a push, or a warning.
    Line(String),
    /// The stream failed.
    Failed(String),
    /// The end of the stream was delivered.
    Ended,
}

/// The counters of one publishing point.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) location: String,
    pub(crate) state: String,
    /// Bit rate in bit/s.
    pub(crate) rate: u64,
    /// In packets.
    pub(crate) sent: u64,
    pub(crate) dropped: u64,
    pub(crate) queued: u64,
    /// Fraction of the limits used by the queued packets, from 0 to 1.
    pub(crate) congestion: f64,
    /// Number of consecutive failed attempts.
    pub(crate) retries: u32,
    pub(crate) rtt: Option<Duration>,
    pub(crate) last_error: Option<String>,
}

impl Report {
    /// `None` for other messages.
    pub(crate) fn of(message: &gst::Message) -> Option<Self> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the other messages are not shown")]
        match message.view() {
            gst::MessageView::Element(element) => {
                let structure = element.structure()?;
                match structure.name().as_str() {
                    "asfpushsink-stats" => rows(structure).map(Self::Rows),
                    "asfpushsink-status" => status(structure).map(Self::Line),
                    _ => None,
                }
            }
            // The warning of a state change repeats the text of its status.
            gst::MessageView::Warning(warning) => {
                let is_step = warning.details().is_some_and(|details| details.name() == "asfpushsink-status");
                (!is_step).then(|| Self::Line(format!("WARNING {}", warning.error())))
            }
            gst::MessageView::Error(error) => Some(Self::Failed(error.error().to_string())),
            gst::MessageView::Eos(_) => Some(Self::Ended),
            _ => None,
        }
    }
}

/// Reads the counters from the statistics, either of a message or of the property `stats`.
pub(crate) fn rows(stats: &gst::StructureRef) -> Option<Vec<Row>> {
    let destinations = stats.get::<gst::Array>("destinations").ok()?;
    destinations.iter().map(|stats| Row::of(&*stats.get::<gst::Structure>().ok()?)).collect()
}

impl Row {
    fn of(stats: &gst::StructureRef) -> Option<Self> {
        Some(Self {
            name: stats.get("name").ok()?,
            location: stats.get("location").ok()?,
            state: stats.get("state").ok()?,
            rate: stats.get("bitrate-current").ok()?,
            sent: stats.get("packets-sent").ok()?,
            dropped: stats.get("packets-dropped").ok()?,
            queued: stats.get("packets-queued").ok()?,
            congestion: stats.get("congestion").ok()?,
            retries: stats.get("retry-count").ok()?,
            rtt: stats.get("rtt").ok().map(Duration::from_nanos),
            last_error: stats.get("last-error").ok(),
        })
    }

    /// Round-trip time, if known.
    pub(crate) fn rtt(&self) -> String {
        self.rtt.map_or_else(|| "-".to_owned(), |rtt| format!("{:.2} ms", rtt.as_secs_f64() * 1000.0))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} kbit/s sent={} dropped={} queued={} congestion={:.0} % retries={} rtt={}",
            self.name,
            self.state,
            self.rate / 1000,
            self.sent,
            self.dropped,
            self.queued,
            self.congestion * 100.0,
            self.retries,
            self.rtt()
        )?;
        match &self.last_error {
            Some(error) => write!(f, " last error: {error}"),
            None => Ok(()),
        }
    }
}

/// Describes a state change: destination, step, result, and the next attempt.
fn status(status: &gst::StructureRef) -> Option<String> {
    let (_, step) = glib::EnumValue::from_value(status.value("status").ok()?)?;
    let text = |field| status.get::<&str>(field).ok();
    let mut line = format!("{} {} {}", text("destination")?, step.nick(), text("hresult-name")?);
    if let Ok(wait) = status.get::<u32>("retry-in") {
        line += &format!(", next attempt in {wait} ms");
    }
    if let (Some(failure), Some(remedy)) = (text("text"), text("remedy")) {
        line += &format!(": {failure}; {remedy}");
    }
    Some(line)
}
