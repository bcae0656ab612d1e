//! How another server is configured: a URL, or a table with one, and the credentials.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::error::ConfigError;
use super::input::read;
use wmhttp::auth::{Login, Secret};

/// A text that may contain a password: neither error messages nor `Debug` show it.
#[derive(Clone, Debug, Default)]
pub(super) struct RedactedText(pub(super) Secret);

impl<'de> Deserialize<'de> for RedactedText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The parser's own message would quote the value.
        let text = String::deserialize(deserializer).map_err(|_| D::Error::custom("expected a string in quotes"))?;
        Ok(Self(Secret::new(text)))
    }
}

/// Reads a `T` from a URL or from its table. The URL is checked later, because the parser's message would quote the
/// line, which may contain a password.
///
/// # Errors
/// If the value is neither a URL nor a table.
pub(super) fn url_or_table<'de, D: Deserializer<'de>, T: From<RedactedText> + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    struct UrlOrTable<T>(PhantomData<T>);
    impl<'de, T: From<RedactedText> + Deserialize<'de>> Visitor<'de> for UrlOrTable<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a URL, or a table with `url` in it")
        }

        fn visit_str<E: Error>(self, url: &str) -> Result<T, E> {
            Ok(T::from(RedactedText(Secret::new(url))))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_any(UrlOrTable(PhantomData))
}

/// Combines the login in the URL with the keys of the table; reads the password file. `bad` converts a cause into the
/// error.
///
/// # Errors
/// If that file cannot be read, or the keys contradict each other.
pub(super) fn login(
    in_url: Login,
    user: Option<String>,
    password: Option<RedactedText>,
    password_file: Option<&Path>,
    bad: impl Fn(&'static str) -> ConfigError,
) -> Result<Login, ConfigError> {
    if password.is_some() && password_file.is_some() {
        return Err(bad("it has both `password` and `password-file`: remove one of them"));
    }
    let mut login = in_url;
    if user.is_some() {
        login.user = user;
    }
    if let Some(RedactedText(password)) = password {
        login.password = Some(password);
    }
    if let Some(file) = password_file {
        let text = Secret::new(read(file)?);
        login.password = Some(Secret::new(text.reveal().trim_end_matches(['\r', '\n'])));
    }
    if login.password.is_some() && login.user.is_none() {
        return Err(bad("it has a password but no user: add `user = \"…\"`"));
    }
    Ok(login)
}
