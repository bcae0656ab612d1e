//! The log on standard error.

use std::error::Error;
use std::io::{self, IsTerminal};

use asf_publishing_point::config::file::LogFormat;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Starts logging what `filter` selects; the default is the level info.
///
/// # Errors
/// If the filter is invalid.
pub fn start(filter: Option<&str>, format: LogFormat) -> Result<(), Box<dyn Error>> {
    let text = filter.unwrap_or("info");
    // A single word that is not a level would be taken as the name of a module, and would silence all others.
    let is_slip = |part: &&str| !part.contains('=') && part.parse::<LevelFilter>().is_err();
    if let Some(part) = text.split(',').map(str::trim).find(is_slip) {
        return Err(format!(
            "invalid value `{text}` of `log`: `{part}` is not a log level; write error, warn, info, debug or trace"
        )
        .into());
    }
    let filter = EnvFilter::try_new(text).map_err(|error| {
        format!("invalid value `{text}` of `log`: {error}; write error, warn, info, debug or trace")
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}
