//! Parses the command line: a configuration file, and flags that override it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::admission::networks::Networks;
use crate::config::file::{ConfigError, ConfigFile, LogFormat, TlsTable};
use crate::config::input::http_url;
use crate::config::relay::RawForward;
use crate::config::source::RawSource;
use crate::fault_injection::Faults;
use crate::status::access::StatusAccess;
use bytesize::ByteSize;
use clap::Parser;
use url::Url;
use wmhttp::server::access::Scheme;

/// Accept live Windows Media streams from encoders and serve them to players
#[derive(Parser)]
#[command(version)]
pub struct Arguments {
    /// Configuration file (TOML); flags override it. The server reads it again on SIGHUP
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port to listen on; port 0 lets the system choose [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    listen: Option<SocketAddr>,
    /// Publishing point to create at startup; may be given several times
    #[arg(long = "point", value_name = "NAME")]
    points: Vec<String>,
    /// Directory in which each stream is recorded; created if it does not exist
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Start a new recording file after this many bytes, e.g. 1GiB
    #[arg(long, value_name = "BYTES")]
    record_max_size: Option<ByteSize>,
    /// Start a new recording file after this much stream time, e.g. 1h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    record_max_time: Option<Duration>,
    /// Number of recordings to keep per point; older ones are deleted
    #[arg(long, value_name = "COUNT")]
    record_keep: Option<usize>,
    /// Maximum total size of the recordings of a point, e.g. 100GiB; the oldest are deleted
    #[arg(long, value_name = "BYTES")]
    record_max_total: Option<ByteSize>,
    /// Make a point misbehave, to test encoders: `concert=stall:10s@5s,503/every:3`; may be given several times
    ///
    /// A fault is `KIND[:VALUE][@MOMENT][/TURNS]`. docs/fault-injection.md lists them all.
    #[cfg_attr(not(feature = "fault-injection"), arg(hide = true))]
    #[arg(long = "fault", value_name = "POINT=FAULT,…", value_parser = of_point(|text| text.parse::<Faults>()))]
    faults: Vec<(String, Faults)>,
    /// Maximum time for which a push may be silent or disconnected, at least 10s [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    idle_timeout: Option<Duration>,
    /// Maximum time between two requests of a push session, at least 1s [default: 2m]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    inactivity_timeout: Option<Duration>,
    /// File of the users who may push (default: everybody may): lines `user:realm:hash`, as written by htdigest
    ///
    /// The hash is the MD5 or the SHA-256 of `user:realm:password` in hexadecimal digits. All lines
    /// must use the same realm.
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// Authentication schemes, in order of preference [default: digest,basic]
    #[arg(long = "auth", value_name = "SCHEME", value_delimiter = ',')]
    schemes: Option<Vec<Scheme>>,
    /// Clients that may see the status page, the status API and the metrics: loopback, everyone or off [default: loopback]
    ///
    /// The status contains the addresses of encoders and players. `loopback` means clients on this machine.
    #[arg(long, value_name = "WHO")]
    status: Option<StatusAccess>,
    /// Separate address and port for the status; by default, it is served at the address of the points
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    status_listen: Option<SocketAddr>,
    /// Networks that may push: a list such as `192.0.2.0/24,2001:db8::/32` [default: all]
    #[arg(long, value_name = "NETWORKS")]
    allow_push: Option<Networks>,
    /// Networks that may play and make any other request [default: all]
    #[arg(long, value_name = "NETWORKS")]
    allow_play: Option<Networks>,
    /// Redirect encoders and players of a point to another URL; may be given several times
    #[arg(long = "redirect", value_name = "POINT=URL", value_parser = of_point(http_url))]
    redirects: Vec<(String, Url)>,
    /// Tell encoders of a point to use a proxy; may be given several times
    #[arg(long = "proxy-redirect", value_name = "POINT=URL", value_parser = of_point(http_url))]
    proxy_redirects: Vec<(String, Url)>,
    /// Pull a point's stream from another server, http://user:password@server/point or mmsh://server/point; may be
    /// given several times
    ///
    /// Other users of this machine can see a password on the command line; write it in the configuration file
    /// instead.
    #[arg(long = "source", value_name = "POINT=URL", value_parser = of_point(unchecked))]
    sources: Vec<(String, String)>,
    /// Pull each source only while players need it
    #[arg(long)]
    source_on_demand: bool,
    /// Time in which players move to other servers before this one stops, e.g. 30s [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    drain_time: Option<Duration>,
    /// Forward a point's stream to another server, http://user:password@server/point; may be given several times
    ///
    /// Other users of this machine can see a password on the command line; write it in the configuration file
    /// instead.
    #[arg(long = "forward", value_name = "POINT=URL", value_parser = of_point(unchecked))]
    relays: Vec<(String, String)>,
    /// Additional address and port for TLS; requires a certificate and a key
    #[arg(long, value_name = "ADDRESS", value_parser = address, requires = "tls_certificate", requires = "tls_key")]
    tls_listen: Option<SocketAddr>,
    /// PEM file with the server's certificate, followed by its intermediate certificates
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    tls_certificate: Option<PathBuf>,
    /// PEM file with the certificate's private key
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    tls_key: Option<PathBuf>,
    /// Log level on standard error: error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// Log format: text, or json for one JSON object per line [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

impl Arguments {
    /// Reads the configuration file, if one is named, and applies the flags over it. Each call reads the file again.
    ///
    /// # Errors
    /// If the file cannot be read or is invalid.
    pub fn file(&self) -> Result<ConfigFile, ConfigError> {
        let mut file = self.config.as_deref().map(ConfigFile::read).transpose()?.unwrap_or_default();
        set(&mut file.listen, &self.listen);
        set(&mut file.idle_timeout, &self.idle_timeout);
        set(&mut file.inactivity_timeout, &self.inactivity_timeout);
        set(&mut file.users, &self.users);
        set(&mut file.auth, &self.schemes);
        set(&mut file.status, &self.status);
        set(&mut file.status_listen, &self.status_listen);
        set(&mut file.allow_push, &self.allow_push);
        set(&mut file.allow_play, &self.allow_play);
        set(&mut file.defaults.record, &self.record);
        set(&mut file.defaults.record_max_size, &self.record_max_size);
        set(&mut file.defaults.record_max_time, &self.record_max_time);
        set(&mut file.defaults.record_keep, &self.record_keep);
        set(&mut file.defaults.record_max_total, &self.record_max_total);
        for name in &self.points {
            table(&mut file.point, name);
        }
        for (name, url) in &self.redirects {
            table(&mut file.point, name).redirect = Some(url.clone());
        }
        for (name, url) in &self.proxy_redirects {
            table(&mut file.point, name).proxy_redirect = Some(url.clone());
        }
        for (name, url) in &self.sources {
            table(&mut file.point, name).source = Some(RawSource::from(url.as_str()));
        }
        if self.source_on_demand {
            file.defaults.source_on_demand = Some(true);
        }
        set(&mut file.drain_time, &self.drain_time);
        // Flags replace the destinations of the file instead of extending them. All lists are cleared first, because
        // several flags may name the same point.
        for (name, _) in &self.relays {
            table(&mut file.point, name).forward = None;
        }
        for (name, url) in &self.relays {
            let forward = &mut table(&mut file.point, name).forward;
            forward.get_or_insert_default().0.push(RawForward::from(url.as_str()));
        }
        for (name, faults) in &self.faults {
            table(&mut file.point, name).faults.get_or_insert_default().extend(faults.iter().cloned());
        }
        if let (Some(listen), Some(certificate), Some(key)) = (self.tls_listen, &self.tls_certificate, &self.tls_key) {
            file.tls = Some(TlsTable { listen, certificate: certificate.clone(), key: key.clone() });
        }
        set(&mut file.log, &self.log);
        set(&mut file.log_format, &self.log_format);
        Ok(file)
    }
}

/// Returns the table of a point, and creates it if it does not exist.
fn table<'a, T: Default>(points: &'a mut BTreeMap<String, T>, name: &str) -> &'a mut T {
    points.entry(name.to_owned()).or_default()
}

/// Replaces a value of the configuration file if the flag is given.
fn set<T: Clone>(key: &mut Option<T>, flag: &Option<T>) {
    if flag.is_some() {
        key.clone_from(flag);
    }
}

/// Parses an address with a port.
fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "write an IP address and a port, such as 0.0.0.0:8080 or [::]:8080")
}

/// Accepts any text. Values that may contain a password are checked later, because the argument parser would show them
/// in its error message.
fn unchecked(text: &str) -> Result<String, &'static str> {
    Ok(text.to_owned())
}

/// Parses `POINT=VALUE`.
fn of_point<T: 'static, E: Display + 'static>(
    parse: fn(&str) -> Result<T, E>,
) -> impl Fn(&str) -> Result<(String, T), String> + Clone {
    move |text| {
        let (point, value) = text.split_once('=').ok_or("expected POINT=VALUE")?;
        Ok((point.to_owned(), parse(value).map_err(|error| error.to_string())?))
    }
}
