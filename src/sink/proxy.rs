//! Converts the properties `proxy`, `proxy-id` and `proxy-pw` to a proxy configuration.

use url::Url;

use asfpush_client::transport;
use wmhttp::auth::Login;
use wmhttp::proxy::{Proxy, ProxyConfig};

/// The values of the three properties.
#[derive(Clone, Default)]
pub(super) struct ProxySettings {
    /// The URL without credentials. `None` uses the environment; an empty string disables the proxy.
    url: Option<String>,
    /// `proxy-id` and `proxy-pw`.
    pub(super) login: Login,
}

impl std::fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxySettings").field("url", &self.redacted()).field("login", &self.login).finish()
    }
}

/// Why a proxy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProxyError {
    #[error("proxy is not a valid URL ({0}); write http://host:port")]
    Unreadable(url::ParseError),
    #[error("unsupported scheme {0}: in proxy; only http proxies are supported, write http://host:port")]
    Scheme(String),
}

impl ProxySettings {
    /// Sets the URL; credentials in it are moved to the other two properties. `host:port` without a scheme is accepted,
    /// as in the environment.
    pub(super) fn set_url(&mut self, text: Option<&str>) {
        let text = text.map(str::trim);
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            self.url = text.map(str::to_owned);
            return;
        };
        let (url, login) = transport::proxy::split_from(text);
        if login.user.is_some() {
            self.login = login;
        }
        self.url = Some(url);
    }

    /// Returns the URL in a form that may be shown, or `None` if it is invalid, because it may then contain a password
    /// anywhere.
    pub(super) fn redacted(&self) -> Option<String> {
        let text = self.url.as_deref()?;
        if text.is_empty() { Some(String::new()) } else { parse_url(text).ok().map(String::from) }
    }

    /// Returns the proxy configuration.
    ///
    /// # Errors
    /// Why the setting cannot be used.
    pub(super) fn config(&self) -> Result<ProxyConfig, ProxyError> {
        match self.url.as_deref() {
            None => Ok(transport::proxy::from_environment(self.login.clone())),
            Some("") => Ok(ProxyConfig::Direct),
            Some(text) => Ok(ProxyConfig::Always(Proxy { url: parse_url(text)?, login: self.login.clone() })),
        }
    }
}

/// Parses the proxy's URL and removes its path.
fn parse_url(text: &str) -> Result<Url, ProxyError> {
    let mut url = Url::parse(text).map_err(ProxyError::Unreadable)?;
    if url.scheme() != "http" {
        return Err(ProxyError::Scheme(url.scheme().to_owned()));
    }
    url.set_path("/");
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wmhttp::auth::Secret;

    fn set(text: &str) -> ProxySettings {
        let mut settings = ProxySettings::default();
        settings.set_url(Some(text));
        settings
    }

    #[test]
    fn credentials_are_moved_and_never_shown() {
        let settings = set("http://b%40b:se-cr%3Aet@proxy:3128/x");
        assert_eq!(settings.redacted().as_deref(), Some("http://proxy:3128/"));
        let Ok(ProxyConfig::Always(proxy)) = settings.config() else { panic!() };
        assert_eq!(proxy.url.as_str(), "http://proxy:3128/");
        assert_eq!(proxy.login, Login { user: Some("b@b".to_owned()), password: Some(Secret::new("se-cr:et")) });
        assert!(!format!("{settings:?}").contains("se-cr"));
        assert_eq!(set("http://b:se-cret@").redacted(), None);
    }

    #[test]
    fn spellings() {
        let id = |mut settings: ProxySettings| {
            settings.login.user = Some("me".to_owned());
            settings.set_url(Some("proxy:3128"));
            settings
        };
        let settings = id(ProxySettings::default());
        assert_eq!(
            (settings.redacted().as_deref(), settings.login.user.as_deref()),
            (Some("http://proxy:3128/"), Some("me"))
        );
        assert!(matches!(set("").config(), Ok(ProxyConfig::Direct)));
        assert!(matches!(ProxySettings::default().config(), Ok(ProxyConfig::Rule(_))));
        for (text, word) in
            [("socks5://proxy:1080", "socks5:"), ("https://proxy", "https:"), ("http://:80", "http://host")]
        {
            let bad = set(text).config().unwrap_err();
            assert!(bad.to_string().contains(word), "{bad}");
        }
    }
}
