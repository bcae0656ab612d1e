//! A Digest Authorization header, read and checked (RFC 7616).

use super::RequestLine;
use super::users::{Algorithm, Users, is_same};
use crate::auth::challenge::Challenge;
use crate::auth::digest::response;

/// An Authorization header of the scheme Digest.
pub(super) struct Answer(Challenge);

impl Answer {
    pub(super) fn parse(text: &str) -> Option<Self> {
        Challenge::first(text).map(Self)
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).unwrap_or_default()
    }

    pub(super) fn user(&self) -> &str {
        self.get("username")
    }

    pub(super) fn nonce(&self) -> &str {
        self.get("nonce")
    }

    /// The nonce count. An answer without one, as RFC 2069 has it, uses its nonce up.
    pub(super) fn count(&self) -> u32 {
        match self.0.get("qop") {
            Some(_) => u32::from_str_radix(self.get("nc"), 16).unwrap_or(0),
            None => u32::MAX,
        }
    }

    /// Whether it is the answer of one of the users to this request.
    pub(super) fn is_right(&self, users: &Users, line: RequestLine<'_>) -> bool {
        let algorithm = match self.0.get("algorithm") {
            Some(name) => Algorithm::parse(name),
            None => Some(Algorithm::Md5),
        };
        let Some(algorithm) = algorithm.filter(|known| users.algorithms().any(|offered| offered == *known)) else {
            return false;
        };
        if self.get("realm") != users.realm() || path_of(self.get("uri")) != path_of(line.target) {
            return false;
        }
        // Somebody unknown takes as long as a wrong password.
        let known = users.hash(algorithm, self.user());
        let request = algorithm.hash()(&[line.method, self.get("uri")]);
        let counted = match self.0.get("qop") {
            None => None,
            Some("auth") => Some((self.get("nc"), self.get("cnonce"))),
            Some(_) => return false,
        };
        let hash = algorithm.hash();
        let right = response(hash, known.unwrap_or_default(), self.nonce(), counted, request.reveal());
        is_same(right.reveal(), &self.get("response").to_ascii_lowercase()) && known.is_some()
    }
}

/// The target without scheme and host, which a proxy in the path takes off.
fn path_of(target: &str) -> &str {
    let absolute = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
    absolute.map_or(target, |rest| rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"))
}
