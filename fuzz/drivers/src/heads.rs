//! Parsers of HTTP heads and of the users file.

use std::time::{Duration, Instant, SystemTime};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use wmhttp::headers::{Cookies, Directives, Product, RequestHead, idle_timeout, is_encoder};
use wmhttp::server::Policy;
use wmhttp::server::access::{AccessPolicy, Authenticator, RequestLine, Users};

use super::source::Source;

const NAMES: [HeaderName; 10] = [
    header::CONTENT_TYPE,
    header::USER_AGENT,
    header::CONTENT_LENGTH,
    header::COOKIE,
    header::SET_COOKIE,
    header::AUTHORIZATION,
    header::PRAGMA,
    header::SERVER,
    HeaderName::from_static("x-accept-authentication"),
    header::VIA,
];
/// The password is `secret`.
const USERS: &str = "bob:push:0786f66609ee7d38256a25b55563aa64\n";

/// Lines: the first byte of each is the header's name, the rest its value.
pub fn run(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(64) {
        let mut source = Source(line);
        let name = NAMES[usize::from(source.byte()) % NAMES.len()].clone();
        if let Ok(value) = HeaderValue::from_bytes(source.0) {
            headers.append(name, value);
        }
    }
    let mut cookies = Cookies::default();
    cookies.update_from(&headers, SystemTime::UNIX_EPOCH);
    assert!(cookies.push_id().as_str().len() <= 255);
    let _ = (Product::from_headers(&headers), idle_timeout(&headers));
    if let Ok(head) = RequestHead::from_headers(&headers) {
        let _ = is_encoder(&head.user_agent);
        // Some heads cannot be sent. Those that can are read back unchanged.
        if let Ok(again) = head.to_headers("host") {
            let again = RequestHead::from_headers(&again).expect("what was written can be read");
            assert_eq!((again.kind, again.content_length), (head.kind, head.content_length));
            assert_eq!(again.cookies.push_id(), head.cookies.push_id());
        }
        let mut guard = Authenticator::new(AccessPolicy::new(USERS.parse().expect("the users")));
        let line = RequestLine { method: "POST", target: "/concert" };
        let (policy, now) = (Policy::default(), Instant::now());
        for at in [now, now + Duration::from_secs(1000)] {
            if let Ok(user) = guard.admit(&head, line, "0123456789", &policy, at) {
                // The fuzzer cannot guess a valid Digest response, but it may find the right password for Basic.
                assert_eq!(user, "bob");
            }
        }
    }
    if let Ok(directives) = Directives::from_body(data) {
        assert!(directives.template.as_deref().is_none_or(|path| path.starts_with('/')));
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = text.parse::<Users>();
        let _ = Directives::template_path(text);
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let head: &[&[u8]] = &[
        b"\x00application/x-wms-pushsetup;charset=UTF-8",
        b"\x01WMEncoder/12.0.7600.16385",
        b"\x022147483647",
        b"\x03push-id=0; a=b",
        b"\x04push-id=4294967295; Path=/",
        b"\x05Basic Ym9iOnNlY3JldA==",
        b"\x06no-cache, timeout=60000",
        b"\x07Cougar/9.6.7600.16564",
        b"\x08Negotiate, NTLM, Digest",
    ];
    let digest: &[&[u8]] = &[
        b"\x00application/x-wms-pushstart",
        b"\x01WMEncoder/9.0",
        b"\x028",
        b"\x03push-id=0",
        b"\x05Digest username=\"bob\", realm=\"push\", nonce=\"0123456789\", uri=\"/concert\", qop=auth, nc=00000001, \
          cnonce=\"x\\\"y\", algorithm=MD5, response=\"00000000000000000000000000000000\"",
    ];
    vec![
        head.join(&b'\n'),
        digest.join(&b'\n'),
        USERS.into(),
        b"Template-URL: \"/a%20b\"\r\nAutoDestroy: 1\r\n".to_vec(),
        b"http://user:pw@[::1]:8080/a/../b".to_vec(),
    ]
}
