//! A publishing point server: accepts pushes over [MS-WMHTTP] and serves players over [MS-WMSP].

mod logging;
mod rlimit;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

use asf_publishing_point::arguments::Arguments;
use asf_publishing_point::config::file::ConfigError;
use asf_publishing_point::{Config, Server};
use clap::Parser;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::mpsc;

/// Exit code for errors that the user can correct, as used by clap.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let fail = |error: &dyn Error, code| {
        eprintln!("asf-publishing-point: {error}");
        code
    };
    let config = match configure(&arguments) {
        Ok(config) => config,
        Err(error) => return fail(error.as_ref(), ExitCode::from(USAGE)),
    };
    match run(&arguments, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, ExitCode::FAILURE),
    }
}

/// Reads the configuration and starts logging.
fn configure(arguments: &Arguments) -> Result<Config, Box<dyn Error>> {
    let file = arguments.file()?;
    logging::start(file.log.as_deref(), file.log_format.unwrap_or_default())?;
    Ok(file.into_config()?)
}

/// Returns the signals that the program handles, as they arrive. It does not use tokio's: in a build of both crates,
/// the plugin would also have the tokio feature `signal`, which panics if its host process has no free descriptors.
fn signals() -> io::Result<mpsc::Receiver<i32>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    // Signals beyond the capacity wait in the thread; none is lost.
    let (sender, receiver) = mpsc::channel(8);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if sender.blocking_send(signal).is_err() {
                break;
            }
        }
    })?;
    Ok(receiver)
}

/// Runs the server until a signal stops it, and prints the addresses, then the statistics of the points.
#[tokio::main]
async fn run(arguments: &Arguments, config: Config) -> io::Result<()> {
    rlimit::raise_fd_limit(config.connection_limit());
    warn_if_no_points(&config);
    let mut signals = signals()?;
    let server = Server::start(config).await?;
    println_flushed(&format!("listening on http://{}", server.addr()))?;
    if let Some(address) = server.tls_addr() {
        println_flushed(&format!("listening on https://{address}"))?;
    }
    if let Some(address) = server.status_addr() {
        println_flushed(&format!("status on http://{address}"))?;
    }
    notify_systemd(&[NotifyState::Ready]);
    while signals.recv().await == Some(SIGHUP) {
        reload_config(arguments, &server);
    }
    // The unit's TimeoutStopSec may be shorter than the drain time of the configuration.
    let stop_time = u32::try_from(server.stop_time().as_micros()).unwrap_or(u32::MAX);
    notify_systemd(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(stop_time)]);
    tokio::select! {
        () = server.drain() => {}
        // A second signal skips the drain.
        () = wait_for_stop_signal(&mut signals) => {}
    }
    for (name, stats) in server.shutdown().await {
        println_flushed(&format!(
            "point {name}: sessions={} headers={} packets={} bytes={} players={}",
            stats.sessions, stats.headers, stats.packets, stats.bytes, stats.players
        ))?;
    }
    Ok(())
}

/// Waits for a signal other than SIGHUP.
async fn wait_for_stop_signal(signals: &mut mpsc::Receiver<i32>) {
    while signals.recv().await == Some(SIGHUP) {}
}

/// Reads the files again. On an error, the old configuration remains in force.
fn reload_config(arguments: &Arguments, server: &Server) {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify_systemd(&[NotifyState::Reloading, now]);
    }
    let read: Result<Config, ConfigError> = arguments.file().and_then(|file| file.into_config());
    let outcome = read.map_err(|error| error.to_string());
    match outcome.and_then(|config| server.reload(config).map_err(|error| error.to_string())) {
        Ok(()) => tracing::info!("configuration reloaded"),
        Err(error) => tracing::error!(%error, "reload failed; the old configuration remains in use"),
    }
    notify_systemd(&[NotifyState::Ready]);
}

/// Warns at the start if no point is configured, because every push would be refused.
fn warn_if_no_points(config: &Config) {
    if config.points.is_empty() {
        tracing::warn!(
            "no publishing point configured: every push is refused. Add one with --point, or as `[point.NAME]` in the \
             configuration file"
        );
    }
}

/// Reports the state of the service to systemd, if systemd has started it.
fn notify_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot report the state of the service to systemd");
    }
}

/// Prints a line and flushes it, for programs that read from a pipe.
fn println_flushed(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
