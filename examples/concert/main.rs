//! Pushes one live stream to several publishing points, and shows a table of their state.
//!
//! ```sh
//! cargo run --example concert -- http://localhost:8080/concert http://localhost:8081/concert
//! ```
//!
//! `pipeline` shows how an application uses the element, `report` how it reads the bus, and `ending` how it ends the
//! stream. `keys` and `table` implement the terminal, and `plain` the output without one.

mod ending;
mod keys;
mod pipeline;
mod plain;
mod report;
mod table;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use ending::Ending;
use keys::Keys;
use pipeline::Concert;

/// Push one live stream to several publishing points and show the state of each
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Publishing points to push to
    #[arg(required = true, value_name = "URL")]
    locations: Vec<String>,
    /// Publishing point offered by the key `a`; may be given several times
    #[arg(long = "spare", value_name = "URL")]
    spares: Vec<String>,
    /// Push this ASF file in real time instead of a test picture with sound
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// End the stream after this number of seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Print lines instead of the table, and do not read keys
    #[arg(long)]
    plain: bool,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("concert: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    gst::init()?;
    gstasfpush::plugin_register_static()?;
    let concert = Concert::new(&arguments.locations, arguments.file.as_deref())?;
    let ending = Ending::new(arguments.seconds.map(Duration::from_secs))?;
    if arguments.plain {
        concert.begin()?;
        plain::run(&concert, ending)
    } else {
        // The user can retry by hand, so the stream continues if all publishing points fail.
        concert.survive_failures();
        concert.begin()?;
        ratatui::run(|terminal| table::run(terminal, &concert, Keys::new(arguments.spares), ending))
    }
}
