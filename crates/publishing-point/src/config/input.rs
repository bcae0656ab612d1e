//! Functions shared by several parts of the configuration: reading text files and parsing URLs.

use std::fs;
use std::path::Path;

use url::Url;

use super::error::ConfigError;

/// Reads a text file.
///
/// # Errors
/// If it cannot be read; the error names the file.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })
}

/// Parses the URL of a server.
///
/// # Errors
/// The cause, as a message for the user.
pub(crate) fn http_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "not a URL; write for example http://server:8080/concert")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("the URL begins neither with http: nor with https:; write for example http://server:8080/concert");
    }
    // The `url` crate ignores further slashes and would take the name of the publishing point for the host.
    if text.trim_start().split_once(':').is_some_and(|(_, rest)| rest.starts_with("///")) {
        return Err("the URL has no host; write for example http://server:8080/concert");
    }
    Ok(url)
}
