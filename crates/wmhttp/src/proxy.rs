//! Proxies: which one a request goes through.

use std::fmt;
use std::sync::Arc;

use http::header::{HeaderMap, SERVER};
use url::Url;

use crate::auth::Login;
use crate::headers::Product;

/// An HTTP proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// `http://host:port/`, without credentials.
    pub url: Url,
    /// As whom to appear there.
    pub login: Login,
}

/// The user's choice. Redirects may lead to a URL for which it turns out otherwise.
#[derive(Clone, Default)]
pub enum ProxyConfig {
    /// None.
    #[default]
    Direct,
    /// This one for all URLs.
    Always(Proxy),
    /// Whatever a function says.
    Rule(Rule),
}

/// Names the proxy for a URL; an error says what was set that names none, and no secret.
pub type Rule = Arc<dyn Fn(&Url) -> Result<Option<Proxy>, String> + Send + Sync>;

impl ProxyConfig {
    /// The proxy for `url`.
    ///
    /// # Errors
    /// What the user has set that names no proxy.
    pub fn proxy_for(&self, url: &Url) -> Result<Option<Proxy>, String> {
        match self {
            Self::Direct => Ok(None),
            Self::Always(proxy) => Ok(Some(proxy.clone())),
            Self::Rule(rule) => rule(url),
        }
    }
}

impl fmt::Debug for ProxyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("Direct"),
            Self::Always(proxy) => proxy.fmt(f),
            Self::Rule(_) => f.write_str("Rule"),
        }
    }
}

/// Who answers with `headers` where a proxy is in the way: itself, where it does not look like the server.
/// `None` is the server.
pub(super) fn responding_proxy(headers: &HeaderMap) -> Option<String> {
    if Product::from_headers(headers).is_some() {
        return None;
    }
    let name = headers.get(SERVER).and_then(|value| value.to_str().ok());
    Some(name.map_or_else(|| "the proxy".to_owned(), |name| format!("the proxy ({name})")))
}
