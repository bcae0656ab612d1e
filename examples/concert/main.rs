//! One live encoder, any number of publishing points, and a table of how each of them takes the stream.
//!
//! ```sh
//! cargo run --example concert -- http://localhost:8080/concert http://localhost:8081/concert
//! ```
//!
//! `pipeline` is what an application does with the element, `told` what it reads from the bus,
//! `ending` when it ends; `keys` and `table` are the terminal, `plain` goes without one.

mod ending;
mod keys;
mod pipeline;
mod plain;
mod table;
mod told;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use ending::Ending;
use keys::Keys;
use pipeline::Concert;

/// Pushes one live stream to several publishing points and shows how each of them takes it
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Publishing points to push to
    #[arg(required = true, value_name = "URL")]
    locations: Vec<String>,
    /// Publishing point that the key `a` offers to add; may be given several times
    #[arg(long = "spare", value_name = "URL")]
    spares: Vec<String>,
    /// Push this ASF file in real time, in place of a test picture and its sound
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// End the stream after this time, in seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Print lines in place of the table, and take no keys
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
        // Somebody is there to try again by hand, so that a failure of all is no end.
        concert.survive_failures();
        concert.begin()?;
        ratatui::run(|terminal| table::run(terminal, &concert, Keys::new(arguments.spares), ending))
    }
}
