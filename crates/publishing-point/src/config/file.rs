//! The configuration as an operator writes it: a TOML file, overridden by flags.
//!
//! ```
//! use asf_publishing_point::config::file::ConfigFile;
//!
//! let file: ConfigFile = r#"
//!     listen = "[::]:8080"
//!     idle-timeout = "30s"
//!     [defaults]
//!     record = "recordings"
//!     [point.concert]
//!     [point."hall/2"]
//!     redirect = "http://other.example/hall"
//! "#.parse()?;
//! let config = file.into_config()?;
//! assert_eq!(config.points.len(), 2);
//! # Ok::<(), asf_publishing_point::config::file::ConfigError>(())
//! ```

mod limits;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, de};
use url::Url;

pub use self::limits::BoundsTable;
pub use super::error::ConfigError;
use super::input::{http_url, read};
use super::source::{RawSource, SourceConfig, SourceKeys};
use super::{Config, HeaderChange, PointConfig, Principals, SlowPlayers, relay};
use crate::admission::networks::Networks;
use crate::fault_injection::Fault;
use crate::http::tls::Tls;
use crate::points::names::{is_reserved, key};
use crate::recording::limits::RecordLimits;
use crate::status::access::StatusAccess;
use asfpush_client::packet_buffer::Limits;
use wmhttp::server::Policy;
use wmhttp::server::access::{AccessPolicy, Scheme, Users};

/// The minimum Idle-Timeout of the protocol (S-2).
const MIN_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// The minimum Inactivity-Timeout (S-3): the encoder's next request needs some of it to arrive.
const MIN_INACTIVITY_TIMEOUT: Duration = Duration::from_secs(1);

/// The configuration file. Every key is optional; flags add to it and override it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ConfigFile {
    /// [`Config::listen`]; the default is port 8080 on the loopback address.
    pub listen: Option<SocketAddr>,
    /// Maximum time that a push may be silent or disconnected, such as `60s`.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Option<Duration>,
    /// Maximum time between two requests of a session, such as `2m`.
    #[serde(with = "humantime_serde")]
    pub inactivity_timeout: Option<Duration>,
    /// An additional TLS listener.
    pub tls: Option<TlsTable>,
    /// The users file, with lines `user:realm:hash`.
    pub users: Option<PathBuf>,
    /// Authentication schemes, in order of preference.
    #[serde(deserialize_with = "each_parsed")]
    pub auth: Option<Vec<Scheme>>,
    /// What to log: a level, or directives such as `info,asf_publishing_point=debug`. A reload does not change it.
    pub log: Option<String>,
    /// The log format. A reload does not change it.
    pub log_format: Option<LogFormat>,
    /// [`Config::max_sessions`].
    pub max_sessions: Option<usize>,
    /// [`Config::max_points`].
    pub max_points: Option<usize>,
    /// [`Config::max_players`].
    pub max_players: Option<usize>,
    /// [`Config::status`]: `"loopback"`, `"everyone"` or `"off"`.
    pub status: Option<StatusAccess>,
    /// [`Config::status_listen`].
    pub status_listen: Option<SocketAddr>,
    /// [`Config::allow_push`], such as `["192.0.2.0/24", "2001:db8::/32"]`.
    pub allow_push: Option<Networks>,
    /// [`Config::allow_play`].
    pub allow_play: Option<Networks>,
    /// [`Config::drain_time`], such as `30s`.
    #[serde(with = "humantime_serde")]
    pub drain_time: Option<Duration>,
    /// [`Config::bounds`].
    pub bounds: BoundsTable,
    /// Settings of all points that do not override them.
    pub defaults: PointTable,
    /// The points, by name.
    pub point: BTreeMap<String, PointTable>,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Text lines for people.
    #[default]
    Text,
    /// One JSON object per line, for programs.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("the formats are `text` and `json`"),
        }
    }
}

/// The TLS listener and its certificate.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TlsTable {
    /// [`Tls::listen`].
    pub listen: SocketAddr,
    /// PEM file with the server's certificate, followed by its intermediate certificates.
    pub certificate: PathBuf,
    /// PEM file with the certificate's private key.
    pub key: PathBuf,
}

/// The table of one point.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PointTable {
    /// [`PointConfig::redirect`].
    #[serde(deserialize_with = "parsed_url")]
    pub redirect: Option<Url>,
    /// [`PointConfig::proxy_redirect`].
    #[serde(deserialize_with = "parsed_url")]
    pub proxy_redirect: Option<Url>,
    /// [`PointConfig::source`]: a URL, or a table with one.
    pub source: Option<RawSource>,
    /// [`SourceConfig::on_demand`](super::source::SourceConfig::on_demand): whether the source is pulled only while
    /// there are players.
    pub source_on_demand: Option<bool>,
    /// [`SourceConfig::on_demand`](super::source::SourceConfig::on_demand): how long it is pulled after the last player
    /// has left, such as `10s`.
    #[serde(with = "humantime_serde")]
    pub source_linger: Option<Duration>,
    /// [`SourceConfig::timeout`](super::source::SourceConfig::timeout), such as `15s`.
    #[serde(with = "humantime_serde")]
    pub source_timeout: Option<Duration>,
    /// [`PointConfig::forward`].
    pub forward: Option<relay::List>,
    /// [`PointConfig::record`].
    pub record: Option<PathBuf>,
    /// [`RecordLimits::max_size`], such as `1GiB`.
    pub record_max_size: Option<ByteSize>,
    /// [`RecordLimits::max_time`], such as `1h`.
    #[serde(with = "humantime_serde")]
    pub record_max_time: Option<Duration>,
    /// [`RecordLimits::keep`].
    pub record_keep: Option<usize>,
    /// [`RecordLimits::max_total`], such as `100GiB`.
    pub record_max_total: Option<ByteSize>,
    /// [`PointConfig::faults`], such as `["stall:10s/once"]`.
    #[serde(deserialize_with = "each_parsed")]
    pub faults: Option<Vec<Fault>>,
    /// Stream time kept for players, such as `5s`.
    #[serde(with = "humantime_serde")]
    pub keep_time: Option<Duration>,
    /// Bytes kept for players, such as `8MiB`.
    pub keep_bytes: Option<ByteSize>,
    /// [`PointConfig::fast_start`].
    pub fast_start: Option<bool>,
    /// [`PointConfig::header_change`]: `"auto"`, `"in-place"` or `"reconnect"`.
    pub header_change: Option<HeaderChange>,
    /// [`PointConfig::slow_players`]: `"skip"` or `"disconnect"`.
    pub slow_players: Option<SlowPlayers>,
    /// [`PointConfig::write`]: `"everybody"`, `"users"` or a list of names.
    pub write: Option<PrincipalsToml>,
    /// [`PointConfig::create`]: as `write`.
    pub create: Option<PrincipalsToml>,
    /// [`PointConfig::read`]: as `write`.
    pub read: Option<PrincipalsToml>,
    /// [`PointConfig::operate`]: `"users"` or a list of names.
    pub operate: Option<PrincipalsToml>,
    /// [`PointConfig::allow_push`].
    pub allow_push: Option<Networks>,
    /// [`PointConfig::allow_play`].
    pub allow_play: Option<Networks>,
    /// [`PointConfig::max_bitrate`].
    pub max_bitrate: Option<u64>,
}

/// Who has a right, as written in the file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected \"everybody\", \"users\" or a list of user names")]
pub enum PrincipalsToml {
    /// A word for a whole group.
    All(Everyone),
    /// These users.
    Only(BTreeSet<String>),
}

/// A word for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Everyone {
    /// Everybody, without authentication.
    Everybody,
    /// Every user.
    Users,
}

impl FromStr for ConfigFile {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Ok(parse(text)?)
    }
}

impl ConfigFile {
    /// Reads a file.
    ///
    /// # Errors
    /// If the file cannot be read or is not a valid configuration.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read(path)?;
        parse(&text).map_err(|error| ConfigError::TomlFile { path: path.to_owned(), error })
    }

    /// Converts the file into a configuration; reads the files that it names.
    ///
    /// # Errors
    /// If a file cannot be read, or settings contradict each other.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        let Config { max_sessions, max_points, max_players, .. } = Config::default();
        let policy = Policy::default();
        let idle_timeout = self.idle_timeout.unwrap_or(policy.idle_timeout);
        if idle_timeout < MIN_IDLE_TIMEOUT {
            return Err(ConfigError::IdleTimeout);
        }
        let inactivity_timeout = self.inactivity_timeout.unwrap_or(policy.inactivity_timeout);
        if inactivity_timeout < MIN_INACTIVITY_TIMEOUT {
            return Err(ConfigError::InactivityTimeout);
        }
        let users = self.users.as_deref().map(|path| access_policy(path, self.auth.clone())).transpose()?;
        if users.is_none() && self.auth.is_some() {
            return Err(ConfigError::NoUsers("auth"));
        }
        let points: BTreeMap<_, _> = self
            .point
            .into_iter()
            .map(|(name, table)| {
                Ok((name.clone(), table.into_config(&name, &self.defaults, users.as_ref(), idle_timeout)?))
            })
            .collect::<Result<_, ConfigError>>()?;
        check_names(points.keys())?;
        if let Some(key) =
            self.defaults.recording_limit().filter(|_| points.values().all(|point| point.record.is_none()))
        {
            return Err(ConfigError::LimitWithoutRecord { place: "`[defaults]`".to_owned(), key });
        }
        let status = self.status.unwrap_or_default();
        if status == StatusAccess::Off && self.status_listen.is_some() {
            return Err(ConfigError::StatusOff);
        }
        Ok(Config {
            listen: self.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080))),
            tls: self.tls.map(|tls| Tls::read(tls.listen, &tls.certificate, &tls.key)).transpose()?,
            points,
            policy: Policy { idle_timeout, inactivity_timeout, ..policy },
            users,
            max_sessions: self.max_sessions.unwrap_or(max_sessions),
            max_points: self.max_points.unwrap_or(max_points),
            max_players: self.max_players.unwrap_or(max_players),
            status,
            status_listen: self.status_listen,
            allow_push: self.allow_push,
            allow_play: self.allow_play,
            bounds: self.bounds.into_bounds()?,
            drain_time: self.drain_time.unwrap_or_default(),
        })
    }
}

impl PointTable {
    /// Returns the first key that limits recordings, if any.
    fn recording_limit(&self) -> Option<&'static str> {
        let limits = [
            (self.record_max_size.is_some(), "record-max-size"),
            (self.record_max_time.is_some(), "record-max-time"),
            (self.record_keep.is_some(), "record-keep"),
            (self.record_max_total.is_some(), "record-max-total"),
        ];
        limits.into_iter().find_map(|(is_set, key)| is_set.then_some(key))
    }

    /// Converts the table; keys that it lacks are taken from `defaults`, then from the default configuration.
    fn into_config(
        self,
        name: &str,
        defaults: &Self,
        users: Option<&AccessPolicy>,
        hold_time: Duration,
    ) -> Result<PointConfig, ConfigError> {
        if self.redirect.is_some() && self.proxy_redirect.is_some() {
            return Err(ConfigError::TwoRedirects(name.to_owned()));
        }
        // Only a limit in the table of the point itself is checked for `record` here; limits in `[defaults]` are
        // checked once for all points.
        let limit = self.recording_limit();
        let keys = SourceKeys {
            on_demand: self.source_on_demand.or(defaults.source_on_demand),
            linger: self.source_linger.or(defaults.source_linger),
            timeout: self.source_timeout.or(defaults.source_timeout),
        };
        let source_error = |cause| ConfigError::Source { point: name.to_owned(), cause };
        let source = match self.source.or_else(|| defaults.source.clone()) {
            Some(_) if self.redirect.is_some() || self.proxy_redirect.is_some() => {
                return Err(source_error("the point also has a `redirect` or a `proxy-redirect`: remove one of them"));
            }
            Some(source) => Some(SourceConfig { hold_time, ..source.into_source(name, keys)? }),
            None if self.source_on_demand == Some(true) => {
                return Err(source_error(
                    "it is missing, but `source-on-demand` requires it: add a `source`, or remove `source-on-demand`",
                ));
            }
            None => None,
        };
        let kept = Limits::default();
        let keep_bytes = self.keep_bytes.or(defaults.keep_bytes);
        let limits = Limits {
            time: self.keep_time.or(defaults.keep_time).unwrap_or(kept.time),
            bytes: keep_bytes.map_or(kept.bytes, |size| usize::try_from(size.as_u64()).unwrap_or(usize::MAX)),
            ..kept
        };
        if limits.time.is_zero() && limits.bytes == 0 {
            return Err(ConfigError::KeepsAll(name.to_owned()));
        }
        let unset = PointConfig::default();
        let principals_of = |key, names: Option<PrincipalsToml>, default: &Option<PrincipalsToml>, unset| {
            names.or_else(|| default.clone()).map_or(Ok(unset), |names| principals(key, name, names, users))
        };
        let config = PointConfig {
            redirect: self.redirect.or_else(|| defaults.redirect.clone()),
            proxy_redirect: self.proxy_redirect.or_else(|| defaults.proxy_redirect.clone()),
            source,
            forward: relay::each(self.forward.or_else(|| defaults.forward.clone()).unwrap_or_default(), name)?,
            record: self.record.or_else(|| defaults.record.clone()),
            record_limits: record_limits(
                name,
                RecordLimits {
                    max_size: self.record_max_size.or(defaults.record_max_size),
                    max_time: self.record_max_time.or(defaults.record_max_time),
                    keep: self.record_keep.or(defaults.record_keep),
                    max_total: self.record_max_total.or(defaults.record_max_total),
                },
            )?,
            faults: self.faults.or_else(|| defaults.faults.clone()).into_iter().flatten().collect(),
            limits,
            fast_start: self.fast_start.or(defaults.fast_start).unwrap_or(unset.fast_start),
            header_change: self.header_change.or(defaults.header_change).unwrap_or(unset.header_change),
            slow_players: self.slow_players.or(defaults.slow_players).unwrap_or(unset.slow_players),
            write: principals_of("write", self.write, &defaults.write, unset.write)?,
            create: principals_of("create", self.create, &defaults.create, unset.create)?,
            read: principals_of("read", self.read, &defaults.read, unset.read)?,
            operate: match principals_of("operate", self.operate, &defaults.operate, unset.operate)? {
                Principals::Everybody => return Err(ConfigError::OperatedByEverybody(name.to_owned())),
                principals @ (Principals::Users | Principals::Only(_)) => principals,
            },
            allow_push: self.allow_push.or_else(|| defaults.allow_push.clone()),
            allow_play: self.allow_play.or_else(|| defaults.allow_play.clone()),
            max_bitrate: self.max_bitrate.or(defaults.max_bitrate).unwrap_or(unset.max_bitrate),
        };
        match limit.filter(|_| config.record.is_none()) {
            Some(key) => Err(ConfigError::LimitWithoutRecord { place: format!("point `{name}`"), key }),
            None => Ok(config),
        }
    }
}

/// Converts a right. All users must exist, because an unknown name is probably a typing error.
fn principals(
    key: &'static str,
    point: &str,
    names: PrincipalsToml,
    users: Option<&AccessPolicy>,
) -> Result<Principals, ConfigError> {
    match (names, users) {
        (PrincipalsToml::All(Everyone::Everybody), _) => Ok(Principals::Everybody),
        (_, None) => Err(ConfigError::NoUsers(key)),
        (PrincipalsToml::All(Everyone::Users), Some(_)) => Ok(Principals::Users),
        (PrincipalsToml::Only(names), Some(policy)) => match names.iter().find(|name| !policy.users.contains(name)) {
            Some(user) => Err(ConfigError::UnknownUser { point: point.to_owned(), user: user.clone() }),
            None => Ok(Principals::Only(names)),
        },
    }
}

/// Checks that the limits allow useful recordings.
fn record_limits(point: &str, limits: RecordLimits) -> Result<RecordLimits, ConfigError> {
    // A file of less than 1 MiB holds only seconds of a video stream.
    let least_size = ByteSize::mib(1);
    let too_low = [
        (limits.max_size.is_some_and(|size| size < least_size), "record-max-size", "1MiB"),
        (limits.max_time.is_some_and(|time| time < Duration::from_secs(1)), "record-max-time", "1s"),
        (limits.keep == Some(0), "record-keep", "1"),
        (limits.max_total.is_some_and(|size| size < least_size), "record-max-total", "1MiB"),
    ];
    match too_low.into_iter().find(|(too_low, ..)| *too_low) {
        Some((_, key, least)) => Err(ConfigError::RecordLimit { point: point.to_owned(), key, least }),
        None => Ok(limits),
    }
}

/// Checks that no name is reserved for the server, and that no two names are the same point.
fn check_names<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), ConfigError> {
    let mut known: BTreeMap<String, &str> = BTreeMap::new();
    for name in names {
        if is_reserved(name) {
            return Err(ConfigError::ReservedName(name.clone()));
        }
        if let Some(before) = known.insert(key(name), name) {
            return Err(ConfigError::SamePoint(before.to_owned(), name.clone()));
        }
    }
    Ok(())
}

/// Reads the users file.
fn access_policy(path: &Path, schemes: Option<Vec<Scheme>>) -> Result<AccessPolicy, ConfigError> {
    let users: Users = read(path)?.parse().map_err(|error| ConfigError::Users { path: path.to_owned(), error })?;
    let policy = AccessPolicy::new(users);
    Ok(AccessPolicy { schemes: schemes.unwrap_or_else(|| policy.schemes.clone()), ..policy })
}

/// Parses the text. The parser's message quotes a line of it; if the text may contain a password, the message contains
/// only the line number.
fn parse(text: &str) -> Result<ConfigFile, toml::de::Error> {
    toml::from_str(text).map_err(|error| {
        if !text.contains('@') && !text.contains("password") {
            return error;
        }
        // The library counts bytes, so the line number is the number of line breaks before that position, plus 1.
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        de::Error::custom(format!("line {line}: {}", error.message()))
    })
}

/// Deserializes the URL of a server.
fn parsed_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    http_url(&text).map(Some).map_err(de::Error::custom)
}

/// Deserializes a list of texts and parses each of them.
fn each_parsed<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let values = texts.iter().map(|text| text.parse().map_err(de::Error::custom)).collect::<Result<_, _>>()?;
    Ok(Some(values))
}

#[cfg(test)]
mod tests;
