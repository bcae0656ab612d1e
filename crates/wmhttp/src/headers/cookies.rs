//! The cookies of a session, of which the push-id is one.

use std::fmt;
use std::time::SystemTime;

use http::header::{self, HeaderMap, HeaderValue};

/// The name of the cookie that identifies a session (H-2).
const PUSH_ID: &str = "push-id";
/// Maximum length of a push-id in characters (H-2).
const MAX_PUSH_ID: usize = 255;
/// Maximum number of cookies besides the push-id that are kept.
const MAX_COOKIES: usize = 16;
/// Maximum length of the name and the value of a cookie that is kept, in bytes; RFC 6265 6.1 asks browsers for this
/// much.
const MAX_COOKIE_LEN: usize = 4096;

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
    pub fn for_session(push_id: PushId) -> Self {
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
    pub fn update_from(&mut self, response: &HeaderMap, now: SystemTime) {
        let now = response.get(header::DATE).and_then(|value| date(value.to_str().ok()?)).unwrap_or(now);
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
    pub(super) fn to_value(&self) -> Option<HeaderValue> {
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

/// Returns the value of the Set-Cookie header with this push-id (H-6, S-9).
pub fn set_cookie(push_id: &PushId) -> Option<HeaderValue> {
    sensitive(&format!("{PUSH_ID}={}", push_id.0))
}

/// Returns a header value whose `Debug` output hides it.
pub(super) fn sensitive(text: &str) -> Option<HeaderValue> {
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
fn is_expired(line: &str, now: SystemTime) -> bool {
    let attribute = |wanted: &'static str| {
        let pairs = line.split(';').skip(1).filter_map(cookie_pair);
        pairs.filter(move |(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    };
    let max_age = attribute("Max-Age").filter_map(|value| value.parse::<i64>().ok()).map(|seconds| seconds <= 0);
    let expires = attribute("Expires").filter_map(date).map(|date| date <= now);
    max_age.last().or(expires.last()).unwrap_or(false)
}

/// Parses a date in one of HTTP's formats, or in that of the first cookies: `Thu, 01-Jan-1970 00:00:00 GMT`.
fn date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).or_else(|_| httpdate::parse_http_date(&text.replace('-', " "))).ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::headers;
    use super::*;

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
        cookies.update_from(
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
        cookies.update_from(&headers(&[("set-cookie", "push-id=1")]), SystemTime::UNIX_EPOCH);
        cookies.update_from(&headers(&[("server", "Cougar/9.5")]), SystemTime::UNIX_EPOCH);
        assert_eq!(cookies.push_id().as_str(), "1");
        cookies.update_from(&headers(&[("set-cookie", "push-id=abc")]), SystemTime::UNIX_EPOCH);
        assert_eq!(cookies.push_id().as_str(), "abc");
        cookies.update_from(&headers(&[("set-cookie", "push-id=not valid")]), SystemTime::UNIX_EPOCH);
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
            ("; Expires=Thursday, 01-Jan-70 00:00:01 GMT", true),
            ("; Expires=Thu Jan  1 00:00:00 1970", true),
            ("; Expires=Sat, 28 Nov 2026 12:00:00 GMT", true),
            ("; Expires=Sat, 28 Nov 2026 12:00:01 GMT", false),
            ("; Expires=Tue, 19 Jan 2038 03:14:07 GMT", false),
            ("; Expires=Tuesday, 19-Jan-38 03:14:07 GMT", false),
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
            cookies.update_from(&headers(&[("set-cookie", "push-id=7"), ("set-cookie", "farm=west")]), now);
            let lines = [format!("farm=east{attributes}"), format!("push-id=8{attributes}")];
            let with = |line: &str| {
                let mut map = HeaderMap::new();
                map.append(header::SET_COOKIE, HeaderValue::from_str(line).unwrap());
                map
            };
            for line in &lines {
                cookies.update_from(&with(line), now);
            }
            let expected = if deletes { "push-id=0" } else { "push-id=8; farm=east" };
            assert_eq!(cookies.to_value().unwrap(), expected, "{attributes:?}");
        }
    }

    /// If the response has a Date, expiry is relative to the server's clock.
    #[test]
    fn h2_cookies_expire_by_the_clock_of_the_server() {
        let expires = ("set-cookie", "farm=west; Expires=Sat, 28 Nov 2026 12:00:00 GMT");
        for (date, kept) in [("Sat, 28 Nov 2026 11:59:00 GMT", true), ("Sat, 28 Nov 2026 12:01:00 GMT", false)] {
            let mut cookies = Cookies::default();
            let client_clock = if kept { "Tue, 19 Jan 2038 03:14:07 GMT" } else { "Thu, 01 Jan 1970 00:00:00 GMT" };
            cookies.update_from(&headers(&[expires, ("date", date)]), httpdate::parse_http_date(client_clock).unwrap());
            assert_eq!(cookies.others.len(), usize::from(kept), "{date}");
        }
    }

    #[test]
    fn cookies_are_bounded_and_hidden() {
        let mut cookies = Cookies::default();
        for n in 0..100 {
            let mut map = HeaderMap::new();
            map.insert(header::SET_COOKIE, HeaderValue::from_str(&format!("c{n}=v")).unwrap());
            cookies.update_from(&map, SystemTime::UNIX_EPOCH);
        }
        assert_eq!(cookies.others.len(), MAX_COOKIES);
        cookies.update_from(&headers(&[("set-cookie", "push-id=secret")]), SystemTime::UNIX_EPOCH);
        assert!(!format!("{cookies:?}").contains("secret"));
    }
}
