//! User names and passwords, which no log shows.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::Url;
use zeroize::Zeroizing;

/// A text that is not shown, and is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself, for the wire only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// A user and the password that goes with the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// `user`, `DOMAIN\user` or `user@REALM`.
    pub user: String,
    /// The password.
    pub password: Secret,
}

impl Credentials {
    /// A user's credentials.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: Secret::new(password) }
    }
}

/// What is known of a user beforehand: all, a name, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
}

impl Login {
    /// A URL's user name and password, unescaped.
    pub fn in_url(url: &Url) -> Self {
        let unescaped = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = Some(url.username()).filter(|user| !user.is_empty()).map(unescaped);
        Self { user, password: url.password().map(|password| Secret::new(unescaped(password))) }
    }

    /// Takes off a URL what no request carries, and no message shows.
    pub fn strip(url: &mut Url) {
        // Both fail only for URLs that cannot have credentials.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
    }

    /// The credentials, where both parts are known.
    pub fn credentials(&self) -> Option<Credentials> {
        Some(Credentials { user: self.user.clone()?, password: self.password.clone()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_password() {
        let login = Login { user: Some("bob".to_owned()), password: Some(Secret::new("hush")) };
        let shown = format!("{login:?} {:?}", login.credentials().unwrap());
        assert!(shown.contains("bob") && !shown.contains("hush"), "{shown}");
    }
}
