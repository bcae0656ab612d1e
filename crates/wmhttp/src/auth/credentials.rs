//! User names and passwords. Passwords never appear in `Debug` output.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

/// A string that `Debug` does not show and that is wiped from memory on drop.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a string.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Returns the string itself. Use it only for what is sent to the peer.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// A user name and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// `user`, `DOMAIN\user` or `user@REALM`.
    pub user: String,
    /// The password.
    pub password: Secret,
}

impl Credentials {
    /// Creates credentials from a user name and a password.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: Secret::new(password) }
    }
}

/// What is configured about a user: name and password, the name only, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
}

impl Login {
    /// Splits a URL into the URL without credentials and the percent-decoded user name and password in it. Any scheme
    /// that has the syntax of `http` is accepted; a string that is not a URL is returned unchanged, without
    /// credentials.
    ///
    /// Call this before parsing the URL, because a [`url::Url`] does not wipe its memory.
    pub fn split_from(text: &str) -> (Cow<'_, str>, Self) {
        // The parts are found as in the URL standard ("authority state"), except for `\` before the last `@`. The
        // standard treats it as `/`, so `http://DOMAIN\user:password@host/` would be a path on the host DOMAIN that
        // contains the password. By RFC 3986 the authority extends to the first `/`, `?` or `#`, and `\` is part of the
        // user name or password; curl does the same.
        let Some((scheme, rest)) = text.split_once(':') else { return (text.into(), Self::default()) };
        let after = rest.trim_start_matches(['/', '\\', '\t', '\n', '\r']);
        let authority = after.split(['/', '?', '#']).next().unwrap_or_default();
        let Some((login, host)) = authority.rsplit_once('@') else { return (text.into(), Self::default()) };
        // If there is no host, the text that follows must not become the host: the URL library ignores tabs and line
        // breaks, and treats `\` as `/`.
        let host = host.trim_start_matches(|c: char| c <= ' ');
        let no_host = if host.is_empty() || host.starts_with('\\') { "@" } else { "" };
        let (user, password) = login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
        let slashes = rest.strip_suffix(after).unwrap_or_default();
        let rest = after.strip_prefix(login).and_then(|rest| rest.strip_prefix('@')).unwrap_or_default();
        let user = Some(user).filter(|user| !user.is_empty()).map(|user| unescaped(user).reveal().to_owned());
        let password = password.filter(|password| !password.is_empty()).map(unescaped);
        (format!("{scheme}:{slashes}{no_host}{rest}").into(), Self { user, password })
    }

    /// Returns the credentials if both parts are known.
    pub fn credentials(&self) -> Option<Credentials> {
        Some(Credentials { user: self.user.clone()?, password: self.password.clone()? })
    }
}

/// Decodes percent escapes; each sequence that is not UTF-8 becomes U+FFFD. The buffers never reallocate, so that no
/// copy of the text is left in freed memory.
fn unescaped(text: &str) -> Secret {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    bytes.extend(percent_decode_str(text));
    let mut whole = Zeroizing::new(String::with_capacity(char::REPLACEMENT_CHARACTER.len_utf8() * bytes.len()));
    for chunk in bytes.utf8_chunks() {
        whole.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            whole.push(char::REPLACEMENT_CHARACTER);
        }
    }
    Secret(whole)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Url;

    use super::*;

    #[test]
    fn debug_shows_no_password() {
        let login = Login { user: Some("bob".to_owned()), password: Some(Secret::new("hush")) };
        let shown = format!("{login:?} {:?}", login.credentials().unwrap());
        assert!(shown.contains("bob") && !shown.contains("hush"), "{shown}");
    }

    /// The same result from the URL library.
    fn by_library(text: &str) -> Option<(Url, Login)> {
        let mut url = Url::parse(text).ok()?;
        let unescaped = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = Some(url.username()).filter(|user| !user.is_empty()).map(unescaped);
        let login = Login { user, password: url.password().map(|password| Secret::new(unescaped(password))) };
        url.set_username("").unwrap();
        url.set_password(None).unwrap();
        Some((url, login))
    }

    #[test]
    fn a_url_is_split() {
        for (text, bare, user, password) in [
            ("mms://bob:se%40cret@a:80/p;x", "mms://a:80/p;x", Some("bob"), Some("se@cret")),
            ("http:D%5Cbob@a/", "http:a/", Some("D\\bob"), None),
            ("http://bob:a:b@c@a", "http://a", Some("bob"), Some("a:b@c")),
            ("http://:hush@a?x@y", "http://a?x@y", None, Some("hush")),
            ("http://a/b:c@d", "http://a/b:c@d", None, None),
            ("http:\\\\bob:hush@a\\b", "http:\\\\a\\b", Some("bob"), Some("hush")),
            ("http://D\\bob:hush@a/b", "http://a/b", Some("D\\bob"), Some("hush")),
            ("http://bob:hu@s\\h@a\\b?c@d", "http://a\\b?c@d", Some("bob"), Some("hu@s\\h")),
            ("http://a\\b/c:d@e", "http://a\\b/c:d@e", None, None),
            ("http://b%ffob:%F0%9F%8E%B5%@a/", "http://a/", Some("b\u{fffd}ob"), Some("\u{1f3b5}%")),
            ("http:bob:hush@/a", "http:@/a", Some("bob"), Some("hush")),
            ("http:bob:hush@\\/a", "http:@\\/a", Some("bob"), Some("hush")),
            ("http:@\\a", "http:@\\a", None, None),
            ("http://bob@\t/a", "http://@\t/a", Some("bob"), None),
            ("http://bob@\r\n\\a", "http://@\r\n\\a", Some("bob"), None),
            ("bob:hush", "bob:hush", None, None),
            ("hush", "hush", None, None),
        ] {
            let (url, login) = Login::split_from(text);
            assert_eq!((url.as_ref(), login.user.as_deref()), (bare, user), "{text}");
            assert_eq!(login.password.as_ref().map(Secret::reveal), password, "{text}");
        }
    }

    #[test]
    fn a_url_without_a_host_stays_without_one() {
        for end in ["/a", "\\a", "\\/a", "\t/a", "\r\n\\a", "", " "] {
            for start in ["http:", "http://", "http://bob", "http://bob:hush"] {
                let text = format!("{start}@{end}");
                let (bare, _) = Login::split_from(&text);
                assert_eq!(Url::parse(&bare), Err(url::ParseError::EmptyHost), "{text:?} became {bare:?}");
            }
        }
    }

    /// Escapes each `\` that belongs to the user name or password.
    fn escaped(text: &str) -> String {
        let (_, rest) = text.split_once(':').unwrap();
        let after = rest.trim_start_matches(['/', '\\']);
        let end = after.find(['/', '?', '#']).unwrap_or(after.len());
        let Some(at) = after[..end].rfind('@') else { return text.to_owned() };
        let (start, login, rest) = (text.strip_suffix(after).unwrap(), &after[..at], &after[at..]);
        [start, &login.replace('\\', "%5C"), rest].concat()
    }

    proptest! {
        /// Every URL that the library accepts is split as the library would, except for `\` before `@`.
        #[test]
        fn as_the_library_would(text in "https?:[/\\\\]{0,3}([a-c:@%/?#\\\\é]|%[4-6][0-9a-f]|%ff){0,12}(a|b\\.c|\\[::1\\])?(:8)?[/?#@a]{0,5}") {
            let (bare, login) = Login::split_from(&text);
            prop_assert_eq!(Url::parse(&bare).ok().map(|url| (url, login)), by_library(&escaped(&text)));
        }
    }
}
