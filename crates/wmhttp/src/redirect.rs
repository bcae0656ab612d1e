//! Determines the URL of a session's requests: its own URL, or the target of redirects (C-4).

use http::header::{HeaderMap, LOCATION};
use url::Url;

use crate::Hresult;
use crate::auth::Login;
use crate::failure::Failure;
use crate::proxy::Proxy;

/// Maximum number of redirects that one PushSetup follows.
const MAX_HOPS: usize = 8;

/// The redirects from a session's own URL to the current one.
#[derive(Debug)]
pub(super) struct RedirectChain {
    url: Url,
    /// The proxy that a server has required for `url`.
    proxy: Option<Proxy>,
    /// The previous URLs in order, each with the proxy that was required for it. Empty before the first redirect.
    visited: Vec<(Url, Option<Proxy>)>,
}

impl RedirectChain {
    pub(super) fn new(url: Url) -> Self {
        Self { url, proxy: None, visited: Vec::new() }
    }

    /// Returns the current URL.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Returns the proxy that a server has required (305). It overrides the configured proxy.
    pub(super) fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// Returns the session's own URL.
    pub(super) fn original_url(&self) -> &Url {
        self.visited.first().map_or(&self.url, |(url, _)| url)
    }

    /// Follows a redirect with `status`. `https` is whether TLS is supported. Returns true if it leads to another
    /// server, which must not receive the old one's cookies and credentials.
    ///
    /// # Errors
    /// Why the redirect cannot be followed. The chain is unchanged then.
    pub(super) fn follow(&mut self, status: u16, headers: &HeaderMap, https: bool) -> Result<bool, Failure> {
        let next = self.resolve_location(status, headers)?;
        match next.scheme() {
            "http" => {}
            "https" if https => {}
            "https" => {
                return Err(invalid(status, format!("to {next}, but this build does not support TLS")));
            }
            other => return Err(invalid(status, format!("to a URL with the unsupported scheme {other}:"))),
        }
        let is_other_origin = next.origin() != self.url.origin();
        self.move_to(status, next, None)?;
        Ok(is_other_origin)
    }

    /// Follows a 305: its Location is a proxy, and the URL stays. The proxy receives no credentials, because those are
    /// for the proxy that the user configured.
    ///
    /// # Errors
    /// Like [`RedirectChain::follow`].
    pub(super) fn follow_to_proxy(&mut self, headers: &HeaderMap) -> Result<(), Failure> {
        const STATUS: u16 = 305;
        let mut proxy = self.resolve_location(STATUS, headers)?;
        if proxy.scheme() != "http" {
            return Err(invalid(STATUS, format!("to a proxy URL with the unsupported scheme {}:", proxy.scheme())));
        }
        // A Location may have a path, but a proxy is only a host and a port.
        proxy.set_path("/");
        proxy.set_query(None);
        self.move_to(STATUS, self.url.clone(), Some(Proxy { url: proxy, login: Login::default() }))
    }

    /// Adds a step to the chain, unless it is a loop or one too many. The chain is unchanged then.
    fn move_to(&mut self, status: u16, url: Url, proxy: Option<Proxy>) -> Result<(), Failure> {
        let shown = match &proxy {
            Some(proxy) => format!("the proxy {}", proxy.url),
            None => url.to_string(),
        };
        let current = (std::mem::replace(&mut self.url, url), std::mem::replace(&mut self.proxy, proxy));
        self.visited.push(current);
        // Checked before the number of redirects, because a loop is the more precise reason.
        let problem = if self.visited.iter().any(|(url, proxy)| (url, proxy) == (&self.url, &self.proxy)) {
            Some((
                format!("loop: {shown} was already visited"),
                "correct the redirects at the server, or set location to the publishing point's own URL",
            ))
        } else if self.visited.len() > MAX_HOPS {
            Some((
                format!("to {shown}, after {MAX_HOPS} other redirects, which is the limit"),
                "set location to the publishing point's own URL",
            ))
        } else {
            None
        };
        let Some((text, remedy)) = problem else { return Ok(()) };
        if let Some((url, proxy)) = self.visited.pop() {
            (self.url, self.proxy) = (url, proxy);
        }
        Err(Failure::redirect(status, Hresult::TOO_MANY_HOPS, text, remedy))
    }

    /// Returns the failure to report if redirects must not be followed.
    pub(super) fn refusal(&self, status: u16, headers: &HeaderMap) -> Failure {
        match self.resolve_location(status, headers) {
            Ok(proxy) if status == 305 => Failure::redirect(
                status,
                Hresult::REDIRECT_TO_PROXY,
                format!("to the proxy {proxy}"),
                "set proxy to that URL, or automatic-redirect=true",
            ),
            Ok(next) => Failure::redirect(
                status,
                Hresult::REDIRECT,
                format!("to {next}"),
                "set location to that URL, or automatic-redirect=true",
            ),
            Err(failure) => failure,
        }
    }

    /// Returns the absolute URL of a redirect, without the parts that a server must not set: credentials and a
    /// fragment.
    fn resolve_location(&self, status: u16, headers: &HeaderMap) -> Result<Url, Failure> {
        let location = headers.get(LOCATION).ok_or_else(|| invalid(status, "without a Location header".to_owned()))?;
        let next = std::str::from_utf8(location.as_bytes()).ok().and_then(|text| self.url.join(text).ok());
        let mut next = next.ok_or_else(|| invalid(status, "to a Location that is not a valid URL".to_owned()))?;
        // Both calls fail only for URLs that cannot have credentials.
        let _ = next.set_username("");
        let _ = next.set_password(None);
        next.set_fragment(None);
        Ok(next)
    }
}

fn invalid(status: u16, text: String) -> Failure {
    Failure::redirect(
        status,
        Hresult::INVALID_REDIRECT,
        text,
        "correct the redirect at the server, or set location to the publishing point's own URL",
    )
}
