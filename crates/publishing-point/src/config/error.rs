//! Why a configuration cannot be had.

use std::io;
use std::path::PathBuf;

use crate::http::tls::TlsError;
use wmhttp::server::access::UsersError;

/// Why a configuration cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("{}: {error}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The text is no such TOML.
    #[error("{error}{}", toml_hint(.error))]
    Toml {
        /// Line, cause, and what could stand there.
        #[from]
        error: toml::de::Error,
    },
    /// The configuration file is no such TOML.
    #[error("{}: {error}{}", .path.display(), toml_hint(.error))]
    TomlFile {
        /// The file.
        path: PathBuf,
        /// Line, cause, and what could stand there.
        error: toml::de::Error,
    },
    /// There can be no TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The file of users is none.
    #[error("{}: {error}", .path.display())]
    Users {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        error: UsersError,
    },
    /// Users are named, or must be known, and there is no file of them.
    #[error("`{0}` counts only where there are users: name their file by `users` (flag `--users`)")]
    NoUsers(&'static str),
    /// A right is for a user who does not exist.
    #[error("point `{point}` gives a right to `{user}`, who is not in the file of users")]
    UnknownUser {
        /// The point.
        point: String,
        /// The name.
        user: String,
    },
    /// Whoever comes could end a point's pushes.
    #[error("point `{0}`: `operate` cannot be \"everybody\": give it to \"users\", or to a list of them")]
    OperatedByEverybody(String),
    /// Two points whose names differ only in case.
    #[error("the points `{0}` and `{1}` are the same: names that differ only in case are equal")]
    SamePoint(String, String),
    /// A point is to be pushed on to what is no place for it.
    #[error("point `{point}` has an invalid `forward`: {cause}")]
    Forward {
        /// The point.
        point: String,
        /// What is wrong.
        cause: &'static str,
    },
    /// A point is to pull its stream from what is no place for it.
    #[error("point `{point}` has an invalid `source`: {cause}")]
    Source {
        /// The point.
        point: String,
        /// What is wrong.
        cause: &'static str,
    },
    /// A point has a path of the server's own.
    #[error(
        "no point can be named `{0}`: `/api`, `/healthz`, `/metrics` and `/status` are reserved for the server; choose another name"
    )]
    ReservedName(String),
    /// The status has an address, and nobody may see it.
    #[error("`status-listen` is of no use where `status` is `off`: leave one of them out")]
    StatusOff,
    /// A point is sent to two places.
    #[error("point `{0}` has both a `redirect` and a `proxy-redirect`: leave one of them out")]
    TwoRedirects(String),
    /// Recordings that would be crumbs, or none.
    #[error("point `{point}`: `{key}` is less than {least}, which would create a file at every moment; raise it")]
    RecordLimit {
        /// The point.
        point: String,
        /// The key.
        key: &'static str,
        /// What it is at least.
        least: &'static str,
    },
    /// Limits of recordings where nothing is recorded.
    #[error("{place} has `{key}`, but nothing is recorded there: set `record` to a directory, or leave `{key}` out")]
    LimitWithoutRecord {
        /// The point, or `[defaults]`.
        place: String,
        /// The key.
        key: &'static str,
    },
    /// Too short an Idle-Timeout.
    #[error("`idle-timeout` is less than 10 s, which the protocol does not allow")]
    IdleTimeout,
    /// Too short an Inactivity-Timeout.
    #[error("`inactivity-timeout` is less than 1 s: an encoder's session would be over before its stream comes")]
    InactivityTimeout,
    /// A point whose log would have no bound.
    #[error(
        "point `{0}`: `keep-time` and `keep-bytes` are both 0 (no limit), so the whole stream would stay in memory; set one of them"
    )]
    KeepsAll(String),
    /// A bound that leaves no room for a single request.
    #[error("`{key}` in `[bounds]` is less than {least}, which would let nobody in")]
    Bound {
        /// The key.
        key: &'static str,
        /// The least that it may be; seconds where it is a time.
        least: usize,
    },
}

/// What to write in place of a value that the TOML library rejects in its own words; empty where those suffice.
fn toml_hint(error: &toml::de::Error) -> &'static str {
    let message = error.message();
    if message.contains("expected a duration") {
        "Write a time in quotes with its unit, such as \"60s\", \"5m\" or \"1h 30m\".\n"
    } else if message.contains("expected parsable string") {
        "Write a size in quotes with its unit, such as \"500MB\" or \"1GiB\", or a number of bytes without quotes.\n"
    } else if ["must be quoted", "invalid float", "invalid integer", "expected nothing"]
        .iter()
        .any(|it| message.contains(it))
    {
        "Write names, addresses, paths, times and sizes in quotes, such as listen = \"0.0.0.0:8080\".\n"
    } else {
        ""
    }
}
