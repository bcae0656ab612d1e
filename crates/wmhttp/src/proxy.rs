//! Selects the proxy of a request.

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
    /// The user at the proxy.
    pub login: Login,
}

/// The configured proxy. It is selected per URL, because a redirect may lead to a URL with another proxy or none.
#[derive(Clone, Default)]
pub enum ProxyConfig {
    /// No proxy.
    #[default]
    Direct,
    /// This proxy for all URLs.
    Always(Proxy),
    /// The proxy that a function returns.
    Rule(Rule),
}

/// Returns the proxy for a URL, or an error that names the invalid setting and contains no secret.
pub type Rule = Arc<dyn Fn(&Url) -> Result<Option<Proxy>, String> + Send + Sync>;

impl ProxyConfig {
    /// Returns the proxy for `url`.
    ///
    /// # Errors
    /// The user's setting that is not a valid proxy.
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

/// Returns the proxy that responded with `headers` to a request through a proxy, or `None` if the headers are those of
/// a Windows Media server.
pub(super) fn responding_proxy(headers: &HeaderMap) -> Option<String> {
    if Product::from_headers(headers).is_some() {
        return None;
    }
    let name = headers.get(SERVER).and_then(|value| value.to_str().ok());
    Some(name.map_or_else(|| "the proxy".to_owned(), |name| format!("the proxy ({name})")))
}
