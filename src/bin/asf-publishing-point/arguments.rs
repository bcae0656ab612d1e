//! The command line: a configuration file, and flags laid over it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use gstasfpush::point::config::file::{BadConfig, File, LogFormat, TlsTable, http_url};
use gstasfpush::wmhttp::server::access::Scheme;
use url::Url;

/// Takes live Windows Media pushed by encoders, and serves it to players
#[derive(Parser)]
#[command(version)]
pub struct Arguments {
    /// Configuration file (TOML); flags override it. Read anew at SIGHUP
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port to listen on; port 0 lets the system choose [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Publishing point that exists from the beginning; may be given several times
    #[arg(long = "point", value_name = "NAME")]
    points: Vec<String>,
    /// Directory to record each stream in; made where it does not exist
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// How long a push may be silent, or its connection lost, 10s at least [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    idle_timeout: Option<Duration>,
    /// How long a session lives between requests [default: 2m]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    inactivity_timeout: Option<Duration>,
    /// Users, who alone may push: a file of lines `user:realm:hash`, as htdigest writes them
    ///
    /// The hash is the MD5 or the SHA-256 of `user:realm:password` in hexadecimal digits. All lines
    /// have the same realm.
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// How users may show who they are, the preferred first [default: digest,basic]
    #[arg(long = "auth", value_name = "SCHEME", value_delimiter = ',')]
    schemes: Option<Vec<Scheme>>,
    /// Send pushers and players of a point to another URL; may be given several times
    #[arg(long = "redirect", value_name = "POINT=URL", value_parser = of_point(http_url))]
    redirects: Vec<(String, Url)>,
    /// Send pushers of a point through a proxy; may be given several times
    #[arg(long = "proxy-redirect", value_name = "POINT=URL", value_parser = of_point(http_url))]
    proxy_redirects: Vec<(String, Url)>,
    /// Listen here for TLS too; needs a certificate and a key
    #[arg(long, value_name = "ADDRESS", requires = "tls_certificate", requires = "tls_key")]
    tls_listen: Option<SocketAddr>,
    /// PEM file with the server's certificate, and those that lead from it to the authority
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    tls_certificate: Option<PathBuf>,
    /// PEM file with the certificate's private key
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    tls_key: Option<PathBuf>,
    /// What to log on standard error: error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// How to log: text, or json for a JSON object a line [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

impl Arguments {
    /// The configuration file, where one is named, with the flags laid over it. Reads it anew.
    ///
    /// # Errors
    /// What is wrong in it.
    pub fn file(&self) -> Result<File, BadConfig> {
        let mut file = self.config.as_deref().map(File::read).transpose()?.unwrap_or_default();
        set(&mut file.listen, &self.listen);
        set(&mut file.idle_timeout, &self.idle_timeout);
        set(&mut file.inactivity_timeout, &self.inactivity_timeout);
        set(&mut file.users, &self.users);
        set(&mut file.auth, &self.schemes);
        set(&mut file.defaults.record, &self.record);
        for name in &self.points {
            table(&mut file.point, name);
        }
        for (name, url) in &self.redirects {
            table(&mut file.point, name).redirect = Some(url.clone());
        }
        for (name, url) in &self.proxy_redirects {
            table(&mut file.point, name).proxy_redirect = Some(url.clone());
        }
        if let (Some(listen), Some(certificate), Some(key)) = (self.tls_listen, &self.tls_certificate, &self.tls_key) {
            file.tls = Some(TlsTable { listen, certificate: certificate.clone(), key: key.clone() });
        }
        set(&mut file.log, &self.log);
        set(&mut file.log_format, &self.log_format);
        Ok(file)
    }
}

/// The table of a point; made where there is none.
fn table<'a, T: Default>(points: &'a mut BTreeMap<String, T>, name: &str) -> &'a mut T {
    points.entry(name.to_owned()).or_default()
}

fn set<T: Clone>(key: &mut Option<T>, flag: &Option<T>) {
    if flag.is_some() {
        key.clone_from(flag);
    }
}

/// Parses `POINT=VALUE`.
fn of_point<T: 'static>(
    parse: fn(&str) -> Result<T, &'static str>,
) -> impl Fn(&str) -> Result<(String, T), String> + Clone {
    move |text| {
        let (point, value) = text.split_once('=').ok_or("no `=` between the point and what follows")?;
        Ok((point.to_owned(), parse(value)?))
    }
}
