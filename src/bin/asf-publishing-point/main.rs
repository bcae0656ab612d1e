//! A publishing point: takes pushes over [MS-WMHTTP], serves players over [MS-WMSP].

mod arguments;
mod descriptors;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use arguments::Arguments;
use clap::Parser;
use gstasfpush::point::{Config, Server};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match arguments.configuration() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("asf-publishing-point: {error}");
            return ExitCode::from(2);
        }
    };
    match run(arguments, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("asf-publishing-point: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(arguments: Arguments, config: Config) -> io::Result<()> {
    let colours = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(arguments.log.clone()).with_writer(io::stderr).with_ansi(colours).init();

    let mut terminate = signal(SignalKind::terminate())?;
    let mut reload = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    descriptors::take_all();
    let server = Server::start(config).await?;
    say(&format!("listening on http://{}", server.local_addr()))?;
    if let Some(address) = server.tls_addr() {
        say(&format!("listening on https://{address}"))?;
    }
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = reload.recv() => reread(&arguments, &server),
        }
    }
    for (name, stats) in server.shutdown().await {
        say(&format!(
            "point {name}: sessions={} headers={} packets={} bytes={} players={}",
            stats.sessions, stats.headers, stats.packets, stats.bytes, stats.players
        ))?;
    }
    Ok(())
}

/// Reads the files again. Where something is wrong in them all stays as it is.
fn reread(arguments: &Arguments, server: &Server) {
    let outcome = arguments.configuration().map_err(|error| error.to_string());
    match outcome.and_then(|config| server.reload(config).map_err(|error| error.to_string())) {
        Ok(()) => tracing::info!("the configuration is read anew"),
        Err(error) => tracing::error!(%error, "the configuration stays as it was"),
    }
}

/// Whole lines at once, for those who read them from a pipe.
fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
