//! The client of a connection, as shown in the status and the log.

use std::net::SocketAddr;

use http::header::{self, HeaderMap};
use wmhttp::headers::lenient_text;

/// Maximum characters that are kept of a text from a client.
const MAX_TEXT: usize = 300;

/// The encoder or player on a connection.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) agent: Option<String>,
    /// The authenticated user, if any.
    pub(crate) user: Option<String>,
}

impl Client {
    /// Returns the client at `address` that sent these headers.
    pub(crate) fn of(address: SocketAddr, headers: &HeaderMap) -> Self {
        Self::new(address, headers.get(header::USER_AGENT).map(lenient_text).as_deref())
    }

    /// Returns a client with this address and User-Agent, if it sent one.
    pub(crate) fn new(address: SocketAddr, agent: Option<&str>) -> Self {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        Self { address, agent: agent.map(shortened), user: None }
    }
}

/// Shortens a text from a client to [`MAX_TEXT`] characters and removes control characters.
pub(crate) fn shortened(text: &str) -> String {
    // One character more than the limit is taken, to see whether the text must be shortened.
    let mut kept: String = text.chars().filter(|char| !char.is_control()).take(MAX_TEXT + 1).collect();
    if let Some((at, _)) = kept.char_indices().nth(MAX_TEXT) {
        kept.truncate(at);
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_clients_are_bounded() {
        assert_eq!(shortened("a\r\nb\u{7}c"), "abc");
        assert_eq!(shortened(&"ß".repeat(MAX_TEXT)), "ß".repeat(MAX_TEXT));
        assert_eq!(shortened(&"ß".repeat(70_000)), "ß".repeat(MAX_TEXT) + "…");
    }
}
