//! Errors of the configuration.

use std::io;
use std::path::{Path, PathBuf};

use crate::http::tls::TlsError;
use wmhttp::server::access::UsersError;

/// An error of the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}{}", .path.display(), folder_hint(.path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// The text is not a valid configuration in TOML.
    #[error("{error}{}", toml_hint(.error))]
    Toml {
        /// Line, cause, and what is valid there.
        #[from]
        error: toml::de::Error,
    },
    /// The configuration file is not a valid configuration in TOML.
    #[error("{}: {error}{}", .path.display(), toml_hint(.error))]
    TomlFile {
        /// The file.
        path: PathBuf,
        /// Line, cause, and what is valid there.
        error: toml::de::Error,
    },
    /// The TLS settings are invalid.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The users file is invalid.
    #[error("{}: {error}", .path.display())]
    Users {
        /// The file.
        path: PathBuf,
        /// What is wrong in the file.
        error: UsersError,
    },
    /// A setting needs users, but no users file is configured.
    #[error("`{0}` has no effect without users: set `users` (flag `--users`) to the file of users")]
    NoUsers(&'static str),
    /// A right is granted to an unknown user.
    #[error(
        "point `{point}` grants a right to `{user}`, who is not in the users file: add the user, or correct the name"
    )]
    UnknownUser {
        /// The point.
        point: String,
        /// The name.
        user: String,
    },
    /// Everybody could end the pushes of a point.
    #[error("point `{0}`: `operate` cannot be \"everybody\": set it to \"users\" or to a list of user names")]
    OperatedByEverybody(String),
    /// The names of two points differ only in case.
    #[error("the points `{0}` and `{1}` have the same name, because case does not matter in names: rename one of them")]
    SamePoint(String, String),
    /// A `forward` of a point is invalid.
    #[error("point `{point}` has an invalid `forward`: {cause}")]
    Forward {
        /// The point.
        point: String,
        /// What is wrong.
        cause: &'static str,
    },
    /// The `source` of a point is invalid.
    #[error("point `{point}` has an invalid `source`: {cause}")]
    Source {
        /// The point.
        point: String,
        /// What is wrong.
        cause: &'static str,
    },
    /// The name of a point is a path that the server itself uses.
    #[error(
        "no point can be named `{0}`: `/api`, `/healthz`, `/metrics` and `/status` are reserved for the server; choose another name"
    )]
    ReservedName(String),
    /// The status has an address, but is switched off.
    #[error("`status-listen` has no effect if `status` is `off`: remove one of them")]
    StatusOff,
    /// A point has two redirects.
    #[error("point `{0}` has both a `redirect` and a `proxy-redirect`: remove one of them")]
    TwoRedirects(String),
    /// A limit would make recordings tiny or delete all of them.
    #[error("point `{point}`: `{key}` is less than {least}, which is too little for useful recordings: raise it")]
    RecordLimit {
        /// The point.
        point: String,
        /// The key.
        key: &'static str,
        /// Its minimum.
        least: &'static str,
    },
    /// Recordings are limited, but nothing is recorded.
    #[error("{place} has `{key}`, but nothing is recorded there: set `record` to a directory, or remove `{key}`")]
    LimitWithoutRecord {
        /// The point, or `[defaults]`.
        place: String,
        /// The key.
        key: &'static str,
    },
    /// The Idle-Timeout is too short.
    #[error("`idle-timeout` is less than 10 s, which the protocol does not allow: raise it")]
    IdleTimeout,
    /// The Inactivity-Timeout is too short.
    #[error(
        "`inactivity-timeout` is less than 1 s, so that an encoder's session would expire before its stream arrives: raise it"
    )]
    InactivityTimeout,
    /// The packet buffer of a point would have no limit.
    #[error(
        "point `{0}`: `keep-time` and `keep-bytes` are both 0 (no limit), so the whole stream would stay in memory; set one of them"
    )]
    KeepsAll(String),
    /// A limit would reject every request.
    #[error("`{key}` in `[bounds]` is less than {least}, which would reject every client: raise it")]
    Bound {
        /// The key.
        key: &'static str,
        /// Its minimum; in seconds if it is a time.
        least: usize,
    },
}

/// Names the folder at which a relative path starts.
fn folder_hint(path: &Path) -> String {
    match std::env::current_dir() {
        Ok(folder) if path.is_relative() => {
            format!(". Relative paths start at the working directory, {}", folder.display())
        }
        _ => String::new(),
    }
}

/// Returns what to write in place of a value that the TOML library rejects with a general message; empty if that
/// message suffices.
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
