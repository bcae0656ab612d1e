//! Writes the server's manual page and its bash completion, both generated from its command line.
//!
//! usage: cargo run --example manual -- DIRECTORY

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use asf_publishing_point::arguments::Arguments;
use clap::CommandFactory;
use clap_complete::Shell;

const SERVER: &str = "asf-publishing-point";
/// Sections that cannot be generated from the command line: examples, files, signals and the exit status.
const SECTIONS: &str = include_str!("../../../packaging/asf-publishing-point.sections.1");

fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: manual DIRECTORY")?);
    fs::create_dir_all(&directory)?;
    // Hide the option `--fault`: packaged servers are built without it, but this example is built with it for the
    // tests.
    let mut command = Arguments::command().name(SERVER).mut_arg("faults", |fault| fault.hide(true));
    let mut page = fs::File::create(directory.join(format!("{SERVER}.1")))?;
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    page.write_all(SECTIONS.as_bytes())?;
    clap_complete::generate_to(Shell::Bash, &mut command, SERVER, &directory)?;
    Ok(())
}
