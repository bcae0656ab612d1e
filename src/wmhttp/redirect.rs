//! Where a session's requests go: its own URL, or where servers have sent it on (C-4).

use http::header::{HeaderMap, LOCATION};
use url::Url;

use super::Hresult;
use super::verdict::Failure;

/// Redirects that one PushSetup follows.
const MAX_HOPS: usize = 8;

/// The way from a session's own URL to where its requests go now.
#[derive(Debug)]
pub(super) struct Route {
    url: Url,
    /// Where it led before, in this order.
    left: Vec<Url>,
}

impl Route {
    pub(super) fn new(url: Url) -> Self {
        Self { url, left: Vec::new() }
    }

    /// Where requests go.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// The session's own URL.
    pub(super) fn begins_at(&self) -> &Url {
        self.left.first().unwrap_or(&self.url)
    }

    /// Follows a redirect with `status`; `https` tells whether there is TLS. True where another server
    /// is reached by it, who must see nothing of this one's.
    ///
    /// # Errors
    /// Why it leads nowhere. The route stays.
    pub(super) fn follow(&mut self, status: u16, headers: &HeaderMap, https: bool) -> Result<bool, Failure> {
        let next = self.target(status, headers)?;
        match next.scheme() {
            "http" => {}
            "https" if https => {}
            "https" => {
                return Err(invalid(status, format!("to {next}, and this build has no TLS")));
            }
            other => return Err(invalid(status, format!("to a URL that begins with {other}:"))),
        }
        // Before the count, since it says more.
        if next == self.url || self.left.contains(&next) {
            return Err(Failure::redirect(
                status,
                Hresult::TOO_MANY_HOPS,
                format!("in a circle: {next} comes again"),
                "correct the redirects at the server, or set location to the publishing point's own URL",
            ));
        }
        if self.left.len() >= MAX_HOPS {
            return Err(Failure::redirect(
                status,
                Hresult::TOO_MANY_HOPS,
                format!("more than {MAX_HOPS} times, now to {next}"),
                "set location to the publishing point's own URL",
            ));
        }
        let elsewhere = next.origin() != self.url.origin();
        self.left.push(std::mem::replace(&mut self.url, next));
        Ok(elsewhere)
    }

    /// What to say where redirects are not to be followed.
    pub(super) fn refusal(&self, status: u16, headers: &HeaderMap) -> Failure {
        match self.target(status, headers) {
            Ok(next) => Failure::redirect(
                status,
                Hresult::REDIRECT,
                format!("to {next}"),
                "set location to that URL, or automatic-redirect=true",
            ),
            Err(failure) => failure,
        }
    }

    /// What a 305 means: its Location is a proxy.
    pub(super) fn proxy_refusal(&self, status: u16, headers: &HeaderMap) -> Failure {
        let proxy =
            self.target(status, headers).map_or_else(|_| "a proxy".to_owned(), |url| format!("the proxy {url}"));
        Failure::redirect(
            status,
            Hresult::REDIRECT,
            format!("to {proxy}, and proxies are not supported yet"),
            "set location to a URL that leads to the server directly",
        )
    }

    /// The URL that a redirect names, without what is none of the server's business to set.
    fn target(&self, status: u16, headers: &HeaderMap) -> Result<Url, Failure> {
        let location = headers.get(LOCATION).ok_or_else(|| invalid(status, "without a Location".to_owned()))?;
        let next = std::str::from_utf8(location.as_bytes()).ok().and_then(|text| self.url.join(text).ok());
        let mut next = next.ok_or_else(|| invalid(status, "to a Location that cannot be read as a URL".to_owned()))?;
        // Both fail only for URLs that cannot have credentials.
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
