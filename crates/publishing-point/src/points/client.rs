//! Who is at the other end of a connection, as the status and the log show it.

use std::net::SocketAddr;

use http::header::{self, HeaderMap};
use wmhttp::headers::lenient_text;

/// Characters of a text from outside that are kept.
const MAX_TEXT: usize = 300;

/// The encoder or player on a connection.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) agent: Option<String>,
    /// Who it has shown to be.
    pub(crate) user: Option<String>,
}

impl Client {
    /// The client at `address` that sends these headers.
    pub(crate) fn of(address: SocketAddr, headers: &HeaderMap) -> Self {
        Self::new(address, headers.get(header::USER_AGENT).map(lenient_text).as_deref())
    }

    /// A client by its address, and its User-Agent if it sent one.
    pub(crate) fn new(address: SocketAddr, agent: Option<&str>) -> Self {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        Self { address, agent: agent.map(shortened), user: None }
    }
}

/// Text from outside: without control characters, and not longer than [`MAX_TEXT`].
pub(crate) fn shortened(text: &str) -> String {
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
    fn texts_from_outside_are_bounded() {
        assert_eq!(shortened("a\r\nb\u{7}c"), "abc");
        assert_eq!(shortened(&"ß".repeat(MAX_TEXT)), "ß".repeat(MAX_TEXT));
        assert_eq!(shortened(&"ß".repeat(70_000)), "ß".repeat(MAX_TEXT) + "…");
    }
}
