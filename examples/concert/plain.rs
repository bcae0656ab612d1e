//! Output without a terminal: a line for each event, and one per second for each publishing point.

use std::error::Error;
use std::io::{self, Write};
use std::time::Duration;

use crate::ending::Ending;
use crate::pipeline::Concert;
use crate::report::Report;

/// Maximum delay in noticing a signal or the end time.
const PATIENCE: Duration = Duration::from_millis(100);

/// Prints until the stream has ended.
///
/// # Errors
/// If the pipeline fails, or if printing fails.
pub(crate) fn run(concert: &Concert, mut ending: Ending) -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout();
    loop {
        match concert.report(PATIENCE) {
            Some(Report::Rows(rows)) => rows.iter().try_for_each(|row| writeln!(out, "{row}"))?,
            Some(Report::Line(line)) => writeln!(out, "{line}")?,
            Some(Report::Failed(text)) => return Err(text.into()),
            Some(Report::Ended) => break,
            None => {}
        }
        ending.look(concert)?;
    }
    concert.rows().iter().try_for_each(|row| writeln!(out, "{row}"))?;
    Ok(())
}
