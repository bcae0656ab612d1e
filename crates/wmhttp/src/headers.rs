//! Typed HTTP headers and the PushSetup body ([MS-WMHTTP] 2.2.1, 2.2.2).
//!
//! A type that is used in both directions implements writing and parsing together, so that client and server cannot
//! disagree. Header names are written in Title-Case with one value per line, because some servers compare them
//! case-sensitively.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::via::Via;

/// `X-Accept-Authentication` (H-4).
pub const X_ACCEPT_AUTHENTICATION: HeaderName = HeaderName::from_static("x-accept-authentication");
/// `Supported`: the protocol extensions of a Windows Media server ([MS-WMSP] 2.2.1.6).
pub const SUPPORTED: HeaderName = HeaderName::from_static("supported");

const PUSH_ID: &str = "push-id";
const MAX_PUSH_ID: usize = 255;
/// Maximum number of cookies besides the push-id that are kept.
const MAX_COOKIES: usize = 16;
const MAX_COOKIE_LEN: usize = 4096;

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

/// The identifier of a session (H-2). It is a credential, so `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PushId(String);

impl PushId {
    /// Returns the id that requests a new session.
    pub fn new_session() -> Self {
        Self("0".to_owned())
    }

    /// Parses an id of 1 to 255 visible characters other than `;` and `,`, which end a cookie.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=MAX_PUSH_ID).contains(&text.len());
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';' && byte != b',');
        (fits && visible).then(|| Self(text.to_owned()))
    }

    /// Returns whether this is `0`, which means that there is no session yet.
    pub fn is_new_session(&self) -> bool {
        self.0 == "0"
    }

    /// Returns the id itself. Use it only for what is sent to the peer.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PushId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_new_session() { "PushId(0)" } else { "PushId(hidden)" })
    }
}

/// The cookies of one session: the push-id and any others that the server set (H-2, H-6).
#[derive(Clone, PartialEq, Eq)]
pub struct Cookies {
    push_id: PushId,
    others: Vec<(String, String)>,
}

impl Default for Cookies {
    fn default() -> Self {
        Self { push_id: PushId::new_session(), others: Vec::new() }
    }
}

impl Cookies {
    /// Returns the session's id.
    pub fn push_id(&self) -> &PushId {
        &self.push_id
    }

    /// Creates the cookies of the session with this id, without others.
    pub fn of_session(push_id: PushId) -> Self {
        Self { push_id, others: Vec::new() }
    }

    /// Resets the push-id but keeps the other cookies.
    pub fn forget_session(&mut self) {
        self.push_id = PushId::new_session();
    }

    /// Sets the push-id but keeps the other cookies.
    pub fn set_push_id(&mut self, push_id: PushId) {
        self.push_id = push_id;
    }

    /// Applies the Set-Cookie lines of a response of any status (H-6). A line with a `Max-Age` of 0 or less, or an
    /// `Expires` in the past, deletes its cookie (RFC 6265 5.3); deleting the push-id resets it.
    ///
    /// Dates are compared with the response's own `Date`, because the two clocks may differ, or with `now` if it has
    /// none.
    pub fn absorb(&mut self, response: &HeaderMap, now: SystemTime) {
        let date = response.get(header::DATE).and_then(|value| cookie_date(value.to_str().ok()?));
        let now = date.unwrap_or_else(|| {
            let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        });
        let lines = response.get_all(header::SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
        for (line, (name, value)) in lines.filter_map(|line| Some((line, cookie_pair(line.split(';').next()?)?))) {
            if is_expired(line, now) {
                if name == PUSH_ID {
                    self.forget_session();
                }
                self.others.retain(|(known, _)| known != name);
            } else if name == PUSH_ID {
                if let Some(id) = PushId::parse(value) {
                    self.push_id = id;
                }
            } else if let Some(known) = self.others.iter_mut().find(|(known, _)| known == name) {
                value.clone_into(&mut known.1);
            } else if self.others.len() < MAX_COOKIES && name.len() + value.len() <= MAX_COOKIE_LEN {
                self.others.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    /// Parses a request's Cookie header, for a server (H-2).
    pub fn from_request(request: &HeaderMap) -> Option<Self> {
        let mut push_id = None;
        let mut others = Vec::new();
        let lines = request.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        for (name, value) in lines.flat_map(|line| line.split(';')).filter_map(cookie_pair) {
            if name == PUSH_ID {
                push_id = PushId::parse(value);
            } else if others.len() < MAX_COOKIES {
                others.push((name.to_owned(), value.to_owned()));
            }
        }
        push_id.map(|push_id| Self { push_id, others })
    }

    /// Returns the value of the Cookie header, marked sensitive.
    fn to_value(&self) -> Option<HeaderValue> {
        let mut text = format!("{PUSH_ID}={}", self.push_id.0);
        for (name, value) in &self.others {
            text.push_str("; ");
            text.push_str(name);
            text.push('=');
            text.push_str(value);
        }
        sensitive(&text)
    }
}

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.others.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Cookies").field("push_id", &self.push_id).field("others", &names).finish()
    }
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Splits `name=value`.
fn cookie_pair(pair: &str) -> Option<(&str, &str)> {
    let (name, value) = pair.split_once('=')?;
    Some((name.trim(), value.trim()))
}

/// Whether the attributes of a Set-Cookie line mean that the cookie has expired (RFC 6265 5.2.1, 5.2.2, 5.3). The last
/// valid attribute of a name is used, and `Max-Age` takes precedence over `Expires`. Invalid ones are ignored.
fn is_expired(line: &str, now: i64) -> bool {
    let attribute = |wanted: &'static str| {
        let pairs = line.split(';').skip(1).filter_map(cookie_pair);
        pairs.filter(move |(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    };
    let max_age = attribute("Max-Age").filter_map(|value| {
        let digits = value.strip_prefix('-').unwrap_or(value);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| value.starts_with('-') || digits.bytes().all(|byte| byte == b'0'))
    });
    let expires = attribute("Expires").filter_map(cookie_date).map(|date| date <= now);
    max_age.last().or(expires.last()).unwrap_or(false)
}

/// Parses the date of an `Expires` attribute to seconds since 1970. Servers write it in many forms, so the time, the
/// day, the name of the month and the year are accepted in any order (RFC 6265 5.1.1).
fn cookie_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let leading_number = |token: &str, digits: std::ops::RangeInclusive<usize>| -> Option<u32> {
        let end = token.bytes().take_while(u8::is_ascii_digit).count();
        digits.contains(&end).then(|| token.get(..end)?.parse().ok()).flatten()
    };
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != ':') {
        let mut clock = token.split(':').map(|part| leading_number(part, 1..=2));
        if let (None, Some(Some(hour)), Some(Some(minute)), Some(Some(second))) =
            (time, clock.next(), clock.next(), clock.next())
        {
            time = Some((hour, minute, second));
        } else if let (None, Some(number)) = (day, leading_number(token, 1..=2)) {
            day = Some(number);
        } else if let (None, Some(index)) = (month, (0..).zip(MONTHS).find(|(_, name)| begins_with(token, name))) {
            month = Some(index.0);
        } else if let (None, Some(number)) = (year, leading_number(token, 2..=4)) {
            year = Some(number);
        }
    }
    let (hour, minute, second) = time?;
    let year = match year? {
        short @ 0..=69 => short + 2000,
        short @ 70..=99 => short + 1900,
        whole => whole,
    };
    let (day, month) = (day?, month? + 1);
    let is_valid = year >= 1601 && (1..=31).contains(&day) && hour <= 23 && minute <= 59 && second <= 59;
    // Years start in March here, so that the leap day is the last day and the lengths of the preceding months follow a
    // linear formula.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = i64::from(365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day) - 719_469;
    is_valid.then_some(days * 86_400 + i64::from(hour * 3600 + minute * 60 + second))
}

/// Whether `text` begins with `prefix`, in any case.
fn begins_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
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

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Returns whether a User-Agent starts with an encoder's product token: `WMEncoder/` and a version of the protocol,
/// with or without build and revision (H-3).
pub fn is_encoder(user_agent: &str) -> bool {
    let Some(version) = user_agent.split_whitespace().next().and_then(|token| token.strip_prefix("WMEncoder/")) else {
        return false;
    };
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

/// Returns the value of the Set-Cookie header with this push-id (H-6, S-9).
pub fn set_cookie(push_id: &PushId) -> Option<HeaderValue> {
    sensitive(&format!("{PUSH_ID}={}", push_id.0))
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

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
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

    /// H-2: up to 255 visible characters, and other cookies besides the push-id.
    #[test]
    fn h2_push_id_and_other_cookies() {
        let long = "x".repeat(255);
        assert!(PushId::parse(&long).is_some());
        assert!(PushId::parse("{A1-b2}~!").is_some());
        for bad in ["", "a b", "a;b", &"x".repeat(256), "ü", "a\u{7f}"] {
            assert_eq!(PushId::parse(bad), None, "{bad:?}");
        }
        let mut cookies = Cookies::default();
        assert_eq!(cookies.to_value().unwrap(), "push-id=0");
        cookies.absorb(
            &headers(&[("set-cookie", "push-id=4124758405; path=/"), ("set-cookie", "farm=west; Secure")]),
            SystemTime::UNIX_EPOCH,
        );
        assert_eq!(cookies.to_value().unwrap(), "push-id=4124758405; farm=west");
        let read = Cookies::from_request(&headers(&[("cookie", "farm=west; push-id=4124758405")])).unwrap();
        assert_eq!(read, cookies);
    }

    /// H-6: every response that sets the id replaces it; a response without one keeps it.
    #[test]
    fn h6_set_cookie_replaces() {
        let mut cookies = Cookies::default();
        cookies.absorb(&headers(&[("set-cookie", "push-id=1")]), SystemTime::UNIX_EPOCH);
        cookies.absorb(&headers(&[("server", "Cougar/9.5")]), SystemTime::UNIX_EPOCH);
        assert_eq!(cookies.push_id().as_str(), "1");
        cookies.absorb(&headers(&[("set-cookie", "push-id=abc")]), SystemTime::UNIX_EPOCH);
        assert_eq!(cookies.push_id().as_str(), "abc");
        cookies.absorb(&headers(&[("set-cookie", "push-id=not valid")]), SystemTime::UNIX_EPOCH);
        assert_eq!(cookies.push_id().as_str(), "abc");
    }

    /// RFC 6265 5.3: an expired cookie is deleted.
    #[test]
    fn h2_expired_cookies_are_deleted() {
        let now = httpdate::parse_http_date("Sat, 28 Nov 2026 12:00:00 GMT").unwrap();
        for (attributes, deletes) in [
            ("", false),
            ("; Max-Age=0", true),
            ("; path=/; max-age=00", true),
            ("; Max-Age=-1", true),
            ("; Max-Age=60", false),
            ("; Max-Age=", false),
            ("; Max-Age=soon", false),
            ("; Max-Age=-", false),
            ("; Max-Age=99999999999999999999", false),
            ("; Expires=Thu, 01 Jan 1970 00:00:00 GMT", true),
            ("; expires=Thu, 01-Jan-1970 00:00:01 GMT; path=/", true),
            ("; Expires=Thu, 01-Jan-70 00:00:01 GMT", true),
            ("; Expires=Thu Jan  1 00:00:00 1970", true),
            ("; Expires=Wed, 31 Dec 1969 23:59:59 GMT", true),
            ("; Expires=Sat, 28 Nov 2026 12:00:00 GMT", true),
            ("; Expires=Sat, 28 Nov 2026 12:00:01 GMT", false),
            ("; Expires=Tue, 19 Jan 2038 03:14:07 GMT", false),
            ("; Expires=Tue, 19-Jan-38 03:14:07 GMT", false),
            ("; Expires=0", false),
            ("; Expires=Thu, 32 Jan 1970 00:00:00 GMT", false),
            ("; Expires=Thu, 01 Jan 1970 24:00:00 GMT", false),
            ("; Expires=Wed, 99 Foo 1970 00:00:00 GMT", false),
            ("; Expires=1 Jan 1970", false),
            ("; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=60", false),
            ("; Expires=Tue, 19 Jan 2038 03:14:07 GMT; Max-Age=0", true),
            ("; Max-Age=0; Max-Age=60", false),
            ("; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Expires=Tue, 19 Jan 2038 03:14:07 GMT", false),
        ] {
            let mut cookies = Cookies::default();
            cookies.absorb(&headers(&[("set-cookie", "push-id=7"), ("set-cookie", "farm=west")]), now);
            let lines = [format!("farm=east{attributes}"), format!("push-id=8{attributes}")];
            let with = |line: &str| {
                let mut map = HeaderMap::new();
                map.append(header::SET_COOKIE, HeaderValue::from_str(line).unwrap());
                map
            };
            for line in &lines {
                cookies.absorb(&with(line), now);
            }
            let expected = if deletes { "push-id=0" } else { "push-id=8; farm=east" };
            assert_eq!(cookies.to_value().unwrap(), expected, "{attributes:?}");
        }
    }

    #[test]
    fn cookie_dates_are_those_of_the_calendar() {
        for date in ["Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 29 Feb 2024 23:59:59 GMT", "Sun, 01 Mar 2026 00:00:00 GMT"]
        {
            let seconds = httpdate::parse_http_date(date).unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!(cookie_date(date), i64::try_from(seconds.as_secs()).ok(), "{date}");
        }
        assert_eq!(cookie_date("Fri, 31 Dec 1999 23:59:59 GMT"), Some(946_684_799));
    }

    /// If the response has a Date, expiry is relative to the server's clock.
    #[test]
    fn h2_cookies_expire_by_the_clock_of_the_server() {
        let expires = ("set-cookie", "farm=west; Expires=Sat, 28 Nov 2026 12:00:00 GMT");
        for (date, kept) in [("Sat, 28 Nov 2026 11:59:00 GMT", true), ("Sat, 28 Nov 2026 12:01:00 GMT", false)] {
            let mut cookies = Cookies::default();
            let client_clock = if kept { "Tue, 19 Jan 2038 03:14:07 GMT" } else { "Thu, 01 Jan 1970 00:00:00 GMT" };
            cookies.absorb(&headers(&[expires, ("date", date)]), httpdate::parse_http_date(client_clock).unwrap());
            assert_eq!(cookies.others.len(), usize::from(kept), "{date}");
        }
    }

    #[test]
    fn cookies_are_bounded_and_hidden() {
        let mut cookies = Cookies::default();
        for n in 0..100 {
            let mut map = HeaderMap::new();
            map.insert(header::SET_COOKIE, HeaderValue::from_str(&format!("c{n}=v")).unwrap());
            cookies.absorb(&map, SystemTime::UNIX_EPOCH);
        }
        assert_eq!(cookies.others.len(), MAX_COOKIES);
        cookies.absorb(&headers(&[("set-cookie", "push-id=secret")]), SystemTime::UNIX_EPOCH);
        assert!(!format!("{cookies:?}").contains("secret"));
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
            authorization: vec![(header::PROXY_AUTHORIZATION, sensitive("Basic YTpi").unwrap())],
            via: Via::default().through("one"),
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
