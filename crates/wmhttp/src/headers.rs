//! Typed HTTP headers and the PushSetup body ([MS-WMHTTP] 2.2.1, 2.2.2).
//!
//! A type that is used in both directions implements writing and parsing together, so that client and server cannot
//! disagree. Header names are written in Title-Case with one value per line, because some servers compare them
//! case-sensitively.

mod cookies;

use std::borrow::Cow;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::via::Via;
pub use cookies::{Cookies, PushId, set_cookie};

/// `X-Accept-Authentication` (H-4).
pub const X_ACCEPT_AUTHENTICATION: HeaderName = HeaderName::from_static("x-accept-authentication");
/// `Supported`: the protocol extensions of a Windows Media server ([MS-WMSP] 2.2.1.6).
pub const SUPPORTED: HeaderName = HeaderName::from_static("supported");

/// The two requests of the protocol (H-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// PushSetup: opens or confirms a session.
    Setup,
    /// PushStart: its body is the stream.
    Start,
}

impl Kind {
    /// Returns the media type without a charset, because some servers reject one.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Setup => "application/x-wms-pushsetup",
            Self::Start => "application/x-wms-pushstart",
        }
    }

    /// Parses a Content-Type, with or without parameters such as `;charset=UTF-8`.
    pub fn from_content_type(value: &str) -> Option<Self> {
        let media_type = value.split(';').next().unwrap_or_default().trim();
        [Self::Setup, Self::Start].into_iter().find(|kind| media_type.eq_ignore_ascii_case(kind.content_type()))
    }
}

/// The head of a PushSetup or PushStart request ([MS-WMHTTP] 2.2.2.1, 2.2.2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// PushSetup or PushStart.
    pub kind: Kind,
    /// The authentication schemes that the client supports, the preferred one first (H-4); may be empty.
    pub accept_authentication: Vec<String>,
    /// `User-Agent` (H-3).
    pub user_agent: String,
    /// `Content-Length` in bytes (C-2, C-7).
    pub content_length: u64,
    /// The session's cookies (H-2).
    pub cookies: Cookies,
    /// `Authorization` and `Proxy-Authorization`, their values marked sensitive (C-5).
    pub authorization: Vec<(HeaderName, HeaderValue)>,
    /// `Via`: the servers and proxies that the push has passed; encoders send none.
    pub via: Via,
}

impl RequestHead {
    /// Returns the headers in the order of the document's example (4.8). `host` is the value of the Host header.
    ///
    /// # Errors
    /// The name of the header whose value is not valid in HTTP.
    pub fn to_headers(&self, host: &str) -> Result<HeaderMap, &'static str> {
        let mut headers = HeaderMap::with_capacity(10);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind.content_type()));
        if !self.accept_authentication.is_empty() {
            let schemes = HeaderValue::from_str(&self.accept_authentication.join(", "));
            headers.insert(X_ACCEPT_AUTHENTICATION, schemes.map_err(|_| "X-Accept-Authentication")?);
        }
        headers.insert(header::USER_AGENT, HeaderValue::from_str(&self.user_agent).map_err(|_| "User-Agent")?);
        headers.insert(header::HOST, HeaderValue::from_str(host).map_err(|_| "Host")?);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.content_length));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::COOKIE, self.cookies.to_value().ok_or("Cookie")?);
        if let Some(via) = self.via.to_value() {
            headers.insert(header::VIA, via);
        }
        headers.extend(self.authorization.iter().cloned());
        Ok(headers)
    }

    /// Parses a request's headers, for a server.
    ///
    /// # Errors
    /// What is missing or wrong, as a sentence for the response.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, &'static str> {
        let kind = text(headers, &header::CONTENT_TYPE)
            .and_then(Kind::from_content_type)
            .ok_or("Content-Type is neither application/x-wms-pushsetup nor application/x-wms-pushstart")?;
        let user_agent = headers.get(header::USER_AGENT).map(lenient_text).ok_or("User-Agent is missing")?.into_owned();
        let content_length = match (text(headers, &header::CONTENT_LENGTH), kind) {
            (Some(length), _) => length.trim().parse().map_err(|_| "Content-Length is not a number")?,
            // Some encoders send no Content-Length with PushSetup. The request then has no body (RFC 9112, 6.3).
            (None, Kind::Setup) => 0,
            (None, Kind::Start) => return Err("Content-Length is missing"),
        };
        let cookies = Cookies::from_request(headers).ok_or("Cookie has no push-id of 1 to 255 visible characters")?;
        let accept_authentication = accepted_schemes(headers);
        let authorization = [header::AUTHORIZATION, header::PROXY_AUTHORIZATION]
            .into_iter()
            .filter_map(|name| {
                let mut value = headers.get(&name)?.clone();
                value.set_sensitive(true);
                Some((name, value))
            })
            .collect();
        let via = Via::from_headers(headers);
        Ok(Self { kind, accept_authentication, user_agent, content_length, cookies, authorization, via })
    }
}

/// Returns the names of the schemes that a client lists as supported, the preferred one first (H-4).
pub fn accepted_schemes(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(X_ACCEPT_AUTHENTICATION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|scheme| scheme.trim().to_owned())
        .filter(|scheme| !scheme.is_empty())
        .collect()
}

/// Decodes a header's value. Non-ASCII bytes are UTF-8, or Latin-1 from old clients.
pub fn lenient_text(value: &HeaderValue) -> Cow<'_, str> {
    utf8_or_latin1(value.as_bytes())
}

/// Decodes UTF-8, or Latin-1 if the bytes are not valid UTF-8.
pub(crate) fn utf8_or_latin1(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().copied().map(char::from).collect()),
    }
}

/// The value of a header, if it is visible ASCII.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Returns whether a User-Agent starts with an encoder's product token: `WMEncoder/` and a version of the protocol,
/// with or without build and revision (H-3).
pub fn is_encoder(user_agent: &str) -> bool {
    let Some(version) = user_agent.split_whitespace().next().and_then(|token| token.strip_prefix("WMEncoder/")) else {
        return false;
    };
    // The protocol has the versions 9.0, 10.0, 11.0 and 12.0 (H-3).
    let numbers: Option<Vec<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
    matches!(numbers.as_deref(), Some([9..=12, 0] | [9..=12, 0, _, _]))
}

/// The product of a Windows Media server in the `Server` header ([MS-WMSP] 2.2.1.5, H-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// Windows Media Services.
    Cougar,
    /// The built-in server of a live encoder.
    Rex,
}

impl Product {
    /// Finds the product, whatever its version, because later builds do not match the documented grammar.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let token = text(headers, &header::SERVER)?.split_whitespace().next()?;
        match token.split_once('/')?.0 {
            "Cougar" => Some(Self::Cougar),
            "Rex" => Some(Self::Rex),
            _ => None,
        }
    }
}

/// Returns the server's Idle-Timeout from `Pragma: no-cache, timeout=60000` (H-8).
pub fn idle_timeout(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get_all(header::PRAGMA)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|token| token.trim().strip_prefix("timeout=")?.parse().ok())
        .map(Duration::from_millis)
}

/// Returns the value of the Pragma header with this `timeout` (H-8).
pub fn pragma(timeout: Duration) -> String {
    format!("no-cache, timeout={}", timeout.as_millis().min(u128::from(u32::MAX)))
}

/// The body of a PushSetup (C-3): lines that end with CRLF, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// Path (absolute, percent-encoded) of the publishing point whose settings are copied to a new one.
    pub template: Option<String>,
    /// Whether the server should remove the publishing point at the end (C-18).
    pub auto_destroy: bool,
}

impl Directives {
    /// Converts a template URL or path, as written by a user, to a path.
    pub fn template_path(text: &str) -> Option<String> {
        // The host is only needed to parse a path by the rules of URLs, which percent-encodes it (C-3).
        let url = if text.starts_with('/') {
            Url::parse("http://template.invalid").ok()?.join(text).ok()?
        } else {
            Url::parse(text).ok()?
        };
        url.has_host().then(|| url.path().to_owned())
    }

    /// Returns the bytes of the body. With a template, AutoDestroy is written even if it is 0. With neither, the body
    /// is empty, because some servers close the connection on a body (receivers, HTTP 4).
    pub fn to_body(&self) -> String {
        let auto_destroy = u8::from(self.auto_destroy);
        match &self.template {
            Some(path) => format!("Template-URL: \"{path}\"\r\nAutoDestroy: {auto_destroy}\r\n"),
            None if self.auto_destroy => format!("AutoDestroy: {auto_destroy}\r\n"),
            None => String::new(),
        }
    }

    /// Parses a body. Unknown directives are ignored (H-9).
    ///
    /// # Errors
    /// Which directive is invalid.
    pub fn from_body(body: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(body).map_err(|_| "the PushSetup body is not UTF-8")?;
        let mut directives = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("Template-URL") {
                let path = value.trim_matches('"');
                directives.template = Some(path.to_owned()).filter(|path| path.starts_with('/'));
                if directives.template.is_none() {
                    return Err("Template-URL is not an absolute path in quotes");
                }
            } else if name.eq_ignore_ascii_case("AutoDestroy") {
                directives.auto_destroy = match value {
                    "0" => false,
                    "1" => true,
                    _ => return Err("AutoDestroy is neither 0 nor 1"),
                };
            }
        }
        Ok(directives)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    /// H-1: both media types; a charset is accepted.
    #[test]
    fn h1_content_types() {
        assert_eq!(Kind::from_content_type("application/x-wms-pushsetup"), Some(Kind::Setup));
        assert_eq!(Kind::from_content_type("application/x-wms-pushstart;charset=UTF-8"), Some(Kind::Start));
        assert_eq!(Kind::from_content_type("application/x-wms-pushstart ; charset=UTF-8"), Some(Kind::Start));
        assert_eq!(Kind::from_content_type("application/x-wms-LogStats"), None);
    }

    /// H-3: the versions of the protocol, with further products after them.
    #[test]
    fn h3_user_agents() {
        for good in [
            "WMEncoder/9.0",
            "WMEncoder/11.0.5721.5145",
            "WMEncoder/12.0.0.0 asfpushsink/0.1.0",
            "WMEncoder/10.0.0.3802 a/1 b/2",
        ] {
            assert!(is_encoder(good), "{good}");
        }
        for bad in
            ["", "NSPlayer/9.0", "WMEncoder", "WMEncoder/8.0", "WMEncoder/9.1", "WMEncoder/9.0.1", "wmencoder/9.0"]
        {
            assert!(!is_encoder(bad), "{bad}");
        }
    }

    /// H-5: Cougar or Rex with any version; an ordinary web server is neither.
    #[test]
    fn h5_products() {
        for (value, expected) in [
            ("Cougar/9.01.01.3862", Some(Product::Cougar)),
            ("Cougar/9.6.7600.16564", Some(Product::Cougar)),
            ("Rex/12.0.7600.16385 extra/1", Some(Product::Rex)),
            ("nginx/1.22.1", None),
            ("Cougar", None),
        ] {
            assert_eq!(Product::from_headers(&headers(&[("server", value)])), expected, "{value}");
        }
        assert_eq!(Product::from_headers(&HeaderMap::new()), None);
    }

    /// H-8: the Idle-Timeout in a Pragma, alone or with other directives.
    #[test]
    fn h8_pragma_timeout() {
        assert_eq!(idle_timeout(&headers(&[("pragma", "no-cache, timeout=60000")])), Some(Duration::from_secs(60)));
        assert_eq!(idle_timeout(&headers(&[("pragma", "no-cache")])), None);
        assert_eq!(pragma(Duration::from_secs(60)), "no-cache, timeout=60000");
    }

    /// C-3, C-18: the PushSetup body's directives, written and parsed.
    #[test]
    fn c3_c18_directives() {
        let none = Directives::default();
        assert_eq!(none.to_body(), "");
        let destroy = Directives { template: None, auto_destroy: true };
        assert_eq!(destroy.to_body(), "AutoDestroy: 1\r\n");
        let template = Directives { template: Directives::template_path("/live/größe"), auto_destroy: false };
        assert_eq!(template.to_body(), "Template-URL: \"/live/gr%C3%B6%C3%9Fe\"\r\nAutoDestroy: 0\r\n");
        for directives in [none, destroy, template] {
            assert_eq!(Directives::from_body(directives.to_body().as_bytes()), Ok(directives));
        }
        assert_eq!(Directives::template_path("http://host:8080/a;b").as_deref(), Some("/a;b"));
        assert_eq!(Directives::template_path("no path"), None);
        assert!(Directives::from_body(b"AutoDestroy: 2\r\n").is_err());
        assert!(Directives::from_body(b"Template-URL: relative\r\n").is_err());
    }

    /// H-9: unknown headers, tokens, directives and products change nothing.
    #[test]
    fn h9_unknown_headers_and_directives_are_ignored() {
        let known = [
            ("content-type", "application/x-wms-pushstart"),
            ("user-agent", "WMEncoder/12.0.0.0"),
            ("content-length", "0"),
            ("cookie", "push-id=1"),
        ];
        let unknown = [
            ("content-type", "application/x-wms-pushstart; charset=UTF-8; x=y"),
            ("user-agent", "WMEncoder/12.0.0.0 new/1 (words)"),
            ("content-length", "0"),
            ("cookie", "$Version=1; push-id=1"),
            ("x-new", "thing"),
            ("pragma", "new=1"),
            ("expect", "100-continue"),
        ];
        let [known, unknown] = [&known[..], &unknown].map(|lines| RequestHead::from_headers(&headers(lines)).unwrap());
        assert_eq!(known.cookies.push_id(), unknown.cookies.push_id());
        assert_eq!((known.kind, known.content_length), (unknown.kind, unknown.content_length));
        assert!(is_encoder(&unknown.user_agent));
        let answer =
            headers(&[("pragma", "new=1, timeout=60000, x"), ("server", "Cougar/99.9 new/1"), ("x-new", "thing")]);
        assert_eq!(idle_timeout(&answer), Some(Duration::from_secs(60)));
        assert_eq!(Product::from_headers(&answer), Some(Product::Cougar));
        let body = b"New-Thing: 1\r\nAutoDestroy: 1\r\nno directive\r\n";
        assert_eq!(Directives::from_body(body), Ok(Directives { template: None, auto_destroy: true }));
    }

    /// H-4, C-2: a request head that is written and parsed again is unchanged.
    #[test]
    fn h4_c2_request_head_both_ways() {
        let head = RequestHead {
            kind: Kind::Start,
            accept_authentication: vec!["Negotiate".into(), "NTLM".into(), "Digest".into()],
            user_agent: "WMEncoder/12.0.0.0".into(),
            content_length: 2_147_483_647,
            cookies: Cookies::default(),
            authorization: vec![(header::PROXY_AUTHORIZATION, cookies::sensitive("Basic YTpi").unwrap())],
            via: Via::default().with_hop("one"),
        };
        let headers = head.to_headers("media:8080").unwrap();
        assert_eq!(RequestHead::from_headers(&headers), Ok(head));
        for missing in [header::CONTENT_TYPE, header::USER_AGENT, header::CONTENT_LENGTH, header::COOKIE] {
            let mut headers = headers.clone();
            headers.remove(missing);
            assert!(RequestHead::from_headers(&headers).is_err());
        }
    }

    /// A PushSetup without Content-Length has no body (RFC 9112, 6.3).
    #[test]
    fn c2_a_setup_without_content_length_is_empty() {
        let lines = [
            ("content-type", Kind::Setup.content_type()),
            ("user-agent", "WMEncoder/12.0.0.0"),
            ("cookie", "push-id=0"),
        ];
        assert_eq!(RequestHead::from_headers(&headers(&lines)).map(|head| head.content_length), Ok(0));
    }

    /// A non-ASCII User-Agent is accepted, in UTF-8 and in Latin-1.
    #[test]
    fn h3_a_non_ascii_user_agent_is_accepted() {
        for bytes in ["WMEncoder/12.0.0.0 Bj\u{f6}rn".as_bytes(), b"WMEncoder/12.0.0.0 Bj\xf6rn"] {
            let mut headers = headers(&[("content-type", Kind::Setup.content_type()), ("cookie", "push-id=0")]);
            headers.insert(header::USER_AGENT, HeaderValue::from_bytes(bytes).unwrap());
            let head = RequestHead::from_headers(&headers).unwrap();
            assert!(is_encoder(&head.user_agent));
            assert_eq!(head.user_agent, "WMEncoder/12.0.0.0 Bj\u{f6}rn");
        }
    }
}
