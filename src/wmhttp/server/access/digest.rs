//! A Digest Authorization header, read and checked (RFC 7616).

use std::collections::HashMap;

use super::Attempt;
use super::users::{Algorithm, Users, is_same};

/// The parameters of an Authorization header of the scheme Digest.
pub(super) struct Answer(HashMap<String, String>);

impl Answer {
    /// Reads what follows `Digest`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parameters = HashMap::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (name, after) = rest.split_once('=')?;
            let (value, after) = value(after.trim_start())?;
            // A name that comes twice could be read either way.
            if parameters.insert(name.trim().to_ascii_lowercase(), value).is_some() {
                return None;
            }
            rest = after.trim_start().trim_start_matches(',').trim_start();
        }
        ["username", "realm", "nonce", "uri", "response"]
            .iter()
            .all(|name| parameters.contains_key(*name))
            .then_some(Self(parameters))
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
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
    pub(super) fn is_right(&self, users: &Users, attempt: Attempt<'_>) -> bool {
        let algorithm = match self.0.get("algorithm") {
            Some(name) => Algorithm::parse(name),
            None => Some(Algorithm::Md5),
        };
        let Some(algorithm) = algorithm.filter(|known| users.algorithms().any(|offered| offered == *known)) else {
            return false;
        };
        if self.get("realm") != users.realm() || path_of(self.get("uri")) != path_of(attempt.target) {
            return false;
        }
        // Somebody unknown takes as long as a wrong password.
        let known = users.hash(algorithm, self.user());
        let request = algorithm.hash(&[attempt.method, self.get("uri")]);
        let secret = known.unwrap_or_default();
        let response = match self.0.get("qop").map(String::as_str) {
            None => algorithm.hash(&[secret, self.nonce(), &request]),
            Some("auth") => {
                algorithm.hash(&[secret, self.nonce(), self.get("nc"), self.get("cnonce"), "auth", &request])
            }
            Some(_) => return false,
        };
        is_same(&response, &self.get("response").to_ascii_lowercase()) && known.is_some()
    }
}

/// A parameter's value, quoted or not, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(',').unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return Some((value.trim_end().to_owned(), rest));
    };
    let mut value = String::new();
    let mut signs = quoted.char_indices();
    while let Some((at, sign)) = signs.next() {
        match sign {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(signs.next()?.1),
            _ => value.push(sign),
        }
    }
    None
}

/// The target without scheme and host, which a proxy in the path takes off.
fn path_of(target: &str) -> &str {
    let absolute = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
    absolute.map_or(target, |rest| rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"))
}
