//! The user file: lines as written by `htdigest`, with hashed passwords.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use md5::Md5;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::auth::{Secret, digest};

/// The hash algorithm of a Digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Algorithm {
    Sha256,
    Md5,
}

impl Algorithm {
    /// All algorithms, the stronger one first.
    const ALL: [Self; 2] = [Self::Sha256, Self::Md5];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Md5 => "MD5",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// Number of hexadecimal digits of a hash.
    fn digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Md5 => 32,
        }
    }

    /// Returns a function that hashes parts joined by colons to lower-case hexadecimal digits.
    pub(super) fn hash(self) -> fn(&[&str]) -> Secret {
        match self {
            Self::Sha256 => digest::hash::<Sha256>,
            Self::Md5 => digest::hash::<Md5>,
        }
    }
}

/// Compares hashes in constant time, so that the duration does not reveal the position of a difference.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// Why a user file is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsersError {
    /// A line does not have the expected form.
    #[error(
        "line {0} is not user:realm:hash, where hash is the MD5 (32 digits) or SHA-256 (64) of user:realm:password"
    )]
    Line(usize),
    /// The realm contains characters that are not allowed in a challenge.
    #[error("line {0}: the realm may contain only printable ASCII, without quotes or backslashes")]
    Realm(usize),
    /// A line has a different realm from the lines before it.
    #[error("line {0}: all entries must use the same realm")]
    SecondRealm(usize),
    /// A line is a duplicate.
    #[error("line {0}: the user has another entry before; remove one of them")]
    Again(usize),
    /// The file contains no user.
    #[error("the file contains no user; add a line user:realm:hash")]
    Nobody,
    /// No algorithm has a hash for every user.
    #[error("some users have only an MD5 hash and others only a SHA-256 hash; all users need a hash of the same kind")]
    Divided,
}

/// The users that may push: their names and the hashes of their passwords.
///
/// Parsed from lines `user:realm:hash`, as written by `htdigest` with MD5; a hash of 64 digits is SHA-256, and a user
/// may have a line of each kind. A user whose name is not ASCII may have several lines of a kind, because clients hash
/// the name in UTF-8 or in their system's code page. All lines must have the same realm. Empty lines and lines that
/// begin with `#` are ignored.
#[derive(Clone)]
pub struct Users {
    realm: String,
    /// By algorithm and user name; several for a name that is not ASCII.
    hashes: HashMap<(Algorithm, String), Vec<String>>,
    /// The algorithms for which every user has a hash.
    algorithms: Vec<Algorithm>,
}

impl Users {
    pub(super) fn realm(&self) -> &str {
        &self.realm
    }

    /// Returns the algorithms to offer, the stronger one first.
    pub(super) fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.algorithms.iter().copied()
    }

    /// Returns the stored hashes of `user:realm:password`; empty for an unknown user.
    pub(super) fn hashes(&self, algorithm: Algorithm, user: &str) -> &[String] {
        self.hashes.get(&(algorithm, user.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// Whether a user name is not ASCII, so that challenges must specify the charset in which clients hash it.
    pub(super) fn has_names_beyond_ascii(&self) -> bool {
        self.hashes.keys().any(|(_, user)| !user.is_ascii())
    }

    /// Returns whether a user of this name exists.
    pub fn contains(&self, user: &str) -> bool {
        self.algorithms.first().is_some_and(|&algorithm| !self.hashes(algorithm, user).is_empty())
    }

    pub(super) fn has_password(&self, user: &str, password: &str) -> bool {
        self.algorithms.first().is_some_and(|&algorithm| {
            let given = algorithm.hash()(&[user, &self.realm, password]);
            self.hashes(algorithm, user).iter().any(|known| is_same(known, given.reveal()))
        })
    }
}

impl FromStr for Users {
    type Err = UsersError;

    fn from_str(text: &str) -> Result<Self, UsersError> {
        let mut realm = None;
        let mut hashes = HashMap::new();
        for (line, number) in text.lines().map(str::trim).zip(1..) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some([user, its_realm, hash]) = line.split(':').collect::<Vec<_>>().first_chunk::<3>().copied() else {
                return Err(UsersError::Line(number));
            };
            let algorithm = Algorithm::ALL.into_iter().find(|algorithm| algorithm.digits() == hash.len());
            let algorithm = algorithm.filter(|_| hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let Some(algorithm) = algorithm.filter(|_| !user.is_empty() && line.matches(':').count() == 2) else {
                return Err(UsersError::Line(number));
            };
            if !its_realm.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
                return Err(UsersError::Realm(number));
            }
            if *realm.get_or_insert(its_realm) != its_realm {
                return Err(UsersError::SecondRealm(number));
            }
            let of_user: &mut Vec<String> = hashes.entry((algorithm, user.to_owned())).or_default();
            if user.is_ascii() && !of_user.is_empty() {
                return Err(UsersError::Again(number));
            }
            of_user.push(hash.to_ascii_lowercase());
        }
        let realm = realm.ok_or(UsersError::Nobody)?.to_owned();
        let everybody_has =
            |algorithm: &Algorithm| hashes.keys().all(|(_, user)| hashes.contains_key(&(*algorithm, user.clone())));
        let algorithms: Vec<_> = Algorithm::ALL.into_iter().filter(everybody_has).collect();
        if algorithms.is_empty() {
            return Err(UsersError::Divided);
        }
        Ok(Self { realm, hashes, algorithms })
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("realm", &self.realm).field("hashes", &self.hashes.len()).finish()
    }
}
