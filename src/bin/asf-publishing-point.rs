//! A publishing point: takes pushes over [MS-WMHTTP], serves players over [MS-WMSP].

use std::error::Error;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use gstasfpush::point::{Config, Server};
use gstasfpush::wmhttp::server::Policy;
use gstasfpush::wmhttp::server::access::{Rights, Scheme, Users};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use url::Url;

/// Takes live Windows Media pushed by encoders, and serves it to players
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Address and port to listen on; port 0 lets the system choose
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Publishing point that exists from the beginning; may be given several times
    #[arg(long = "point", value_name = "NAME")]
    points: Vec<String>,
    /// Directory to record each stream in; made where it does not exist
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// How long a push may be silent, or its connection lost, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(10_000..))]
    idle_timeout_ms: u64,
    /// How long a session lives between requests, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 120_000)]
    inactivity_timeout_ms: u64,
    /// Only those named in this file may push: lines `user:realm:hash`, as htdigest writes them
    ///
    /// The hash is the MD5 or the SHA-256 of `user:realm:password` in hexadecimal digits. All lines
    /// have the same realm. Players are not asked.
    #[arg(long, value_name = "FILE", value_parser = users)]
    users: Option<Users>,
    /// How pushers may show who they are, the preferred first
    #[arg(
        long = "auth",
        value_name = "SCHEME",
        value_delimiter = ',',
        default_value = "digest,basic",
        requires = "users"
    )]
    schemes: Vec<Scheme>,
    /// Send pushers and players of a point to another URL; may be given several times
    #[arg(long = "redirect", value_name = "POINT=URL", value_parser = redirect)]
    redirects: Vec<(String, String)>,
    /// Send pushers of a point through a proxy; may be given several times
    #[arg(long = "proxy-redirect", value_name = "POINT=URL", value_parser = redirect)]
    proxy_redirects: Vec<(String, String)>,
    /// What to log on standard error: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: EnvFilter,
}

fn redirect(text: &str) -> Result<(String, String), &'static str> {
    let (point, url) = text.split_once('=').ok_or("no `=` between the point and the URL")?;
    let url = Url::parse(url).map_err(|_| "what follows `=` is no URL")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("the URL begins neither with http: nor with https:");
    }
    Ok((point.to_owned(), url.into()))
}

fn users(file: &str) -> Result<Users, Box<dyn Error + Send + Sync>> {
    Ok(fs::read_to_string(file)?.parse::<Users>()?)
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let config = Config {
        listen: arguments.listen,
        points: arguments.points,
        record: arguments.record,
        policy: Policy {
            idle_timeout: Duration::from_millis(arguments.idle_timeout_ms),
            inactivity_timeout: Duration::from_millis(arguments.inactivity_timeout_ms),
            ..Policy::default()
        },
        rights: arguments.users.map(|users| Rights { schemes: arguments.schemes, ..Rights::new(users) }),
        redirects: arguments.redirects,
        proxy_redirects: arguments.proxy_redirects,
        ..Config::default()
    };
    let colours = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(arguments.log).with_writer(io::stderr).with_ansi(colours).init();

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = Server::start(config).await?;
    say(&format!("listening on http://{}", server.local_addr()))?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    for (name, stats) in server.shutdown().await {
        say(&format!(
            "point {name}: sessions={} headers={} packets={} bytes={} players={}",
            stats.sessions, stats.headers, stats.packets, stats.bytes, stats.players
        ))?;
    }
    Ok(())
}

/// Whole lines at once, for those who read them from a pipe.
fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
