//! Parses and verifies a Digest Authorization header (RFC 7616).

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

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

    /// Returns the user name: `username*` (RFC 8187), or `username` as sent.
    pub(super) fn user(&self) -> Cow<'_, str> {
        let extended = self.0.get("username*").and_then(extended_value);
        extended.map_or_else(|| Cow::Borrowed(self.get("username")), Cow::Owned)
    }

    pub(super) fn nonce(&self) -> &str {
        self.get("nonce")
    }

    /// Returns the nonce count. A response without one (RFC 2069) consumes its nonce completely.
    pub(super) fn count(&self) -> u32 {
        match self.0.get("qop") {
            Some(_) => u32::from_str_radix(self.get("nc"), 16).unwrap_or(0),
            None => u32::MAX,
        }
    }

    /// Returns whether this is a valid response of one of the users to this request.
    pub(super) fn is_valid(&self, users: &Users, line: RequestLine<'_>) -> bool {
        let algorithm = match self.0.get("algorithm") {
            Some(name) => Algorithm::parse(name),
            None => Some(Algorithm::Md5),
        };
        let Some(algorithm) = algorithm.filter(|known| users.algorithms().any(|offered| offered == *known)) else {
            return false;
        };
        // The client hashes the `uri` that it states, so that must be the target of this request.
        if self.get("realm") != users.realm() || path_of(self.get("uri")) != path_of(line.target) {
            return false;
        }
        let request = algorithm.hash()(&[line.method, self.get("uri")]);
        let counted = match self.0.get("qop") {
            None => None,
            Some("auth") => Some((self.get("nc"), self.get("cnonce"))),
            Some(_) => return false,
        };
        let hash = algorithm.hash();
        let given = self.get("response").to_ascii_lowercase();
        let is_valid = |known: &str| {
            let right = response(hash, known, self.nonce(), counted, request.reveal());
            is_same(right.reveal(), &given)
        };
        let known = users.hashes(algorithm, &self.user());
        // Compare also for an unknown user, so that it takes as long as a wrong password.
        let is_valid = known.iter().map(String::as_str).chain(known.is_empty().then_some("")).any(is_valid);
        is_valid && !known.is_empty()
    }
}

/// Decodes an extended parameter (RFC 8187, 3.2.1): `UTF-8''bj%C3%B6rn`.
fn extended_value(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_language, encoded) = rest.split_once('\'')?;
    let bytes: Cow<'_, [u8]> = percent_decode_str(encoded).into();
    if charset.eq_ignore_ascii_case("UTF-8") {
        String::from_utf8(bytes.into_owned()).ok()
    } else if charset.eq_ignore_ascii_case("ISO-8859-1") {
        Some(bytes.iter().copied().map(char::from).collect())
    } else {
        None
    }
}

/// Returns the target without scheme and host, which a proxy on the way may have removed.
fn path_of(target: &str) -> &str {
    let absolute = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
    absolute.map_or(target, |rest| rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"))
}
