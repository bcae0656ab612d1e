//! Challenges and the credentials that answer them, in virtual time.

use http::HeaderValue;

use super::*;
use crate::headers::{Cookies, Kind};
use crate::via::Via;

/// The example of RFC 7616, 3.9.1: user `Mufasa`, password `Circle of Life`.
const MUFASA_MD5: &str = "Mufasa:http-auth@example.org:3d78807defe7de2157e2b0b6573a855f\n";
const MUFASA_SHA256: &str =
    "Mufasa:http-auth@example.org:7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232\n";
const NONCE: &str = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
const MD5_RESPONSE: &str = "8ca523f5e9506fed4657c9700eebdbec";
const SHA256_RESPONSE: &str = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
const BASIC: &str = "Basic TXVmYXNhOkNpcmNsZSBvZiBMaWZl";

fn users() -> Users {
    format!("# both kinds\n\n{MUFASA_MD5}{MUFASA_SHA256}").parse().unwrap()
}

fn guard() -> Authenticator {
    Authenticator::new(AccessPolicy::new(users()))
}

/// An authenticator whose [`NONCE`] is valid.
fn asked() -> (Authenticator, Instant) {
    let (mut guard, now) = (guard(), Instant::now());
    assert!(ask(&mut guard, None, NONCE, now).is_err());
    (guard, now)
}

fn head(kind: Kind, listed: &[&str], authorization: Option<&str>) -> RequestHead {
    let value = |text| (header::AUTHORIZATION, HeaderValue::from_str(text).unwrap());
    RequestHead {
        kind,
        accept_authentication: listed.iter().map(|&name| name.to_owned()).collect(),
        user_agent: "WMEncoder/12.0.0.0".to_owned(),
        content_length: 0,
        cookies: Cookies::default(),
        authorization: authorization.map(value).into_iter().collect(),
        via: Via::default(),
    }
}

fn ask(guard: &mut Authenticator, authorization: Option<&str>, fresh: &str, now: Instant) -> Result<String, Reply> {
    let line = RequestLine { method: "GET", target: "/dir/index.html" };
    guard.admit(&head(Kind::Setup, &["Digest", "Basic"], authorization), line, fresh, &Policy::default(), now)
}

/// Authenticates with a fresh nonce that no credentials refer to.
fn admit(guard: &mut Authenticator, authorization: Option<&str>, now: Instant) -> Result<String, Reply> {
    ask(guard, authorization, "another", now)
}

#[track_caller]
fn refused(guard: &mut Authenticator, authorization: Option<&str>, now: Instant) -> Reply {
    let reply = admit(guard, authorization, now).unwrap_err();
    assert_eq!(reply.status, 401);
    reply
}

fn md5(parts: &[&str]) -> String {
    Algorithm::Md5.hash()(parts).reveal().to_owned()
}

fn challenges(reply: &Reply) -> &[String] {
    if let Outcome::Unauthorized(unauthorized) = &reply.outcome { &unauthorized.challenges } else { &[] }
}

fn is_stale(reply: &Reply) -> bool {
    challenges(reply).iter().any(|challenge| challenge.contains("stale=true"))
}

/// Mufasa's Digest credentials.
fn digest(algorithm: &str, response: &str, count: &str) -> String {
    format!(
        "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", algorithm={algorithm}, \
         nonce=\"{NONCE}\", nc={count}, cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, \
         response=\"{response}\""
    )
}

/// Correct Digest credentials with the nonce count `count`.
fn counted(count: u32) -> String {
    let count = format!("{count:08x}");
    let secret = "3d78807defe7de2157e2b0b6573a855f";
    let request = md5(&["GET", "/dir/index.html"]);
    let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
    digest("MD5", &md5(&[secret, NONCE, &count, cnonce, "auth", &request]), &count)
}

/// S-6: the example of RFC 7616 with both algorithms, and Basic.
#[test]
fn s6_right_credentials_are_accepted() {
    for authorization in
        [digest("MD5", MD5_RESPONSE, "00000001"), digest("SHA-256", SHA256_RESPONSE, "00000001"), BASIC.to_owned()]
    {
        let (mut guard, now) = asked();
        assert_eq!(admit(&mut guard, Some(&authorization), now).as_deref(), Ok("Mufasa"), "{authorization}");
    }
}

/// S-6: an error in any part is rejected, without revealing which part.
#[test]
fn s6_wrong_credentials_are_rejected() {
    let right = digest("MD5", MD5_RESPONSE, "00000001");
    let all = [
        right.replace("username=\"Mufasa\"", "username=\"Scar\""),
        right.replace(MD5_RESPONSE, SHA256_RESPONSE),
        right.replace(MD5_RESPONSE, ""),
        right.replace("example.org", "example.com"),
        right.replace("index.html", "other.html"),
        right.replace("nc=00000001", "nc=00000002"),
        right.replace("qop=auth", "qop=auth-int"),
        right.replace("algorithm=MD5", "algorithm=MD4"),
        right.replace("algorithm=MD5", "algorithm=SHA-256"),
        right.replace("qop=auth, ", ""),
        right.replace("\", realm", ", realm"),
        "Digest".to_owned(),
        "Digest =".to_owned(),
        "Digest username=\"".to_owned(),
        "Basic ".to_owned(),
        "Basic !!!".to_owned(),
        "Basic TXVmYXNhOkNpcmNsZSBvZiBMaWZ".to_owned(),
        // Mufasa:circle of life
        "Basic TXVmYXNhOmNpcmNsZSBvZiBsaWZl".to_owned(),
        "NTLM TlRMTVNTUAABAAAA".to_owned(),
        String::new(),
    ];
    for authorization in all {
        let (mut guard, now) = asked();
        let reply = refused(&mut guard, Some(&authorization), now);
        assert!(!is_stale(&reply), "{authorization}");
        let unasked = refused(&mut self::guard(), None, now);
        // The response is the same as to a request without credentials.
        assert_eq!((&reply.body, reply.to_headers()), (&unasked.body, unasked.to_headers()), "{authorization}");
    }
}

/// A scheme that is not offered is rejected.
#[test]
fn only_offered_schemes_are_accepted() {
    let now = Instant::now();
    let mut guard = Authenticator::new(AccessPolicy { schemes: vec![Scheme::Digest], ..AccessPolicy::new(users()) });
    let reply = ask(&mut guard, Some(BASIC), NONCE, now).unwrap_err();
    assert!(challenges(&reply).iter().all(|challenge| challenge.starts_with("Digest ")));
    assert!(admit(&mut guard, Some(&digest("MD5", MD5_RESPONSE, "00000001")), now).is_ok());
    let mut guard = Authenticator::new(AccessPolicy { schemes: vec![Scheme::Basic], ..AccessPolicy::new(users()) });
    let reply = refused(&mut guard, Some(&digest("MD5", MD5_RESPONSE, "00000001")), now);
    assert_eq!(challenges(&reply), ["Basic realm=\"http-auth@example.org\", charset=\"UTF-8\""]);
}

/// S-6, H-4: the schemes that the client lists are offered, or all if it lists none of ours.
#[test]
fn s6_h4_the_schemes_that_the_client_lists() {
    for (listed, offered) in [
        (&["Negotiate", "NTLM", "Digest"][..], &["Digest", "Digest"][..]),
        (&["basic"], &["Basic"]),
        (&["Basic", "DIGEST"], &["Digest", "Digest", "Basic"]),
        (&["NTLM"], &["Digest", "Digest", "Basic"]),
        (&[], &["Digest", "Digest", "Basic"]),
    ] {
        let line = RequestLine { method: "POST", target: "/concert" };
        let head = head(Kind::Setup, listed, None);
        let reply = guard().admit(&head, line, NONCE, &Policy::default(), Instant::now()).unwrap_err();
        let schemes: Vec<_> =
            challenges(&reply).iter().map(|challenge| challenge.split_once(' ').unwrap().0.to_owned()).collect();
        assert_eq!(schemes, offered, "{listed:?}");
        let headers = reply.to_headers();
        assert_eq!(headers.get_all("www-authenticate").iter().count(), offered.len());
    }
}

/// S-6, S-10: the connection stays open for the next attempt ([MS-WMHTTP] 3.2.5.2).
#[test]
fn s6_s10_the_connection_stays_open() {
    for kind in [Kind::Setup, Kind::Start] {
        let line = RequestLine { method: "POST", target: "/concert" };
        let reply = guard().admit(&head(kind, &[], None), line, NONCE, &Policy::default(), Instant::now()).unwrap_err();
        assert_eq!((reply.status, reply.close), (401, false));
    }
}

/// A non-ASCII name is accepted in every encoding: `username*`, raw UTF-8, and Latin-1, which has a different hash.
#[test]
fn s6_non_ascii_names_are_accepted() {
    let latin1 = |text: &str| text.chars().map(|letter| letter as u32 as u8).collect::<Vec<u8>>();
    let hash_of = |bytes: &[u8]| {
        use md5::Digest;
        md5::Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let (utf8_hash, latin1_hash) =
        (hash_of("bj\u{f6}rn:push:secret".as_bytes()), hash_of(&latin1("bj\u{f6}rn:push:secret")));
    let users: Users = format!("bj\u{f6}rn:push:{utf8_hash}\nbj\u{f6}rn:push:{latin1_hash}\n").parse().unwrap();
    let rest = |secret: &str| {
        let response = md5(&[secret, NONCE, "00000001", "c", "auth", &md5(&["GET", "/dir/index.html"])]);
        format!(
            "realm=\"push\", uri=\"/dir/index.html\", nonce=\"{NONCE}\", nc=00000001, cnonce=\"c\", qop=auth, \
             response=\"{response}\""
        )
    };
    let raw = format!("Digest username=\"bj\u{f6}rn\", {}", rest(&utf8_hash));
    let answers = [
        format!("Digest username*=UTF-8\'\'bj%C3%B6rn, {}", rest(&utf8_hash)).into_bytes(),
        format!("Digest username*=iso-8859-1\'de\'bj%F6rn, {}", rest(&utf8_hash)).into_bytes(),
        raw.clone().into_bytes(),
        latin1(&format!("Digest username=\"bj\u{f6}rn\", {}", rest(&latin1_hash))),
        format!("Basic {}", BASE64_STANDARD.encode("bj\u{f6}rn:secret")).into_bytes(),
        format!("Basic {}", BASE64_STANDARD.encode(latin1("bj\u{f6}rn:secret"))).into_bytes(),
    ];
    let line = RequestLine { method: "GET", target: "/dir/index.html" };
    for answer in answers {
        let mut guard = Authenticator::new(AccessPolicy::new(users.clone()));
        let now = Instant::now();
        let denied = guard.authenticate(None, &[], line, NONCE, now).unwrap_err();
        assert!(denied.challenges[0].contains("charset=UTF-8"), "{denied:?}");
        let value = HeaderValue::from_bytes(&answer).unwrap();
        assert_eq!(guard.authenticate(Some(&value), &[], line, "x", now).as_deref(), Ok("bj\u{f6}rn"), "{value:?}");
    }
    let mut guard = Authenticator::new(AccessPolicy::new(users));
    let wrong = HeaderValue::from_str(&format!("Digest username*=UTF-8\'\'bj%C3%B6rn, {}", rest("x"))).unwrap();
    let denied = guard.authenticate(Some(&wrong), &[], line, NONCE, Instant::now()).unwrap_err();
    assert_eq!(denied.user.as_deref(), Some("bj\u{f6}rn"), "the claimed user, for the log");
}

/// A nonce count is valid for one request, so that recorded credentials cannot be replayed.
#[test]
fn a_nonce_count_is_valid_once() {
    let (mut guard, now) = asked();
    assert!(admit(&mut guard, Some(&counted(1)), now).is_ok());
    assert!(is_stale(&refused(&mut guard, Some(&counted(1)), now)));
    assert!(admit(&mut guard, Some(&counted(5)), now).is_ok());
    assert!(is_stale(&refused(&mut guard, Some(&counted(4)), now)));
    assert!(is_stale(&refused(&mut guard, Some(&counted(0)), now)));
    assert!(admit(&mut guard, Some(&counted(6)), now).is_ok());
}

/// Credentials without a count (RFC 2069) consume their nonce completely.
#[test]
fn credentials_without_a_count_are_valid_once() {
    let (mut guard, now) = asked();
    let request = md5(&["GET", "/dir/index.html"]);
    let response = md5(&["3d78807defe7de2157e2b0b6573a855f", NONCE, &request]);
    let old = format!(
        "Digest username=\"Mufasa\",realm=\"http-auth@example.org\",nonce=\"{NONCE}\",\
         uri=\"http://proxied/dir/index.html\",response={response}"
    );
    // The hash covers the URI as sent by the client.
    refused(&mut guard, Some(&old), now);
    let old = old.replace("http://proxied", "");
    assert!(admit(&mut guard, Some(&old), now).is_ok());
    assert!(is_stale(&refused(&mut guard, Some(&old), now)));
    assert!(is_stale(&refused(&mut guard, Some(&counted(2)), now)));
}

/// An expired or unknown nonce is reported as stale only to a client that knows the password.
#[test]
fn old_and_unknown_nonces_are_stale() {
    let (mut guard, now) = asked();
    let late = now + NONCE_LIFETIME;
    assert!(admit(&mut guard, Some(&counted(1)), late - Duration::from_millis(1)).is_ok());
    let wrong = counted(2).replace("nc=00000002", "nc=00000003");
    assert!(!is_stale(&refused(&mut guard, Some(&wrong), late)));
    assert!(is_stale(&refused(&mut guard, Some(&counted(2)), late)));
    assert!(is_stale(&refused(&mut self::guard(), Some(&counted(1)), now)));
}

/// Requests without credentials use a bounded number of nonces.
#[test]
fn the_number_of_nonces_is_bounded() {
    let (mut guard, now) = asked();
    (1..MAX_NONCES).for_each(|number| guard.nonces.issue_nonce(&number.to_string(), now + NONCE_LIFETIME));
    assert!(admit(&mut guard, Some(&counted(1)), now).is_ok());
    guard.nonces.issue_nonce("one more", now + NONCE_LIFETIME);
    assert_eq!(guard.nonces.0.len(), MAX_NONCES);
    assert!(is_stale(&refused(&mut guard, Some(&counted(2)), now)));
}

#[test]
fn files_of_users() {
    assert_eq!(MUFASA_MD5.parse::<Users>().unwrap().algorithms().collect::<Vec<_>>(), [Algorithm::Md5]);
    let other = MUFASA_MD5.replace("Mufasa", "Simba");
    let mixed: Users = format!("{MUFASA_MD5}{MUFASA_SHA256}{other}").parse().unwrap();
    assert_eq!(mixed.algorithms().collect::<Vec<_>>(), [Algorithm::Md5]);
    for (text, error) in [
        ("", UsersError::Nobody),
        ("# bob\n", UsersError::Nobody),
        ("bob:push:secret\n", UsersError::Line(1)),
        ("\nbob:push\n", UsersError::Line(2)),
        (&MUFASA_MD5.replace("Mufasa", ""), UsersError::Line(1)),
        (&MUFASA_MD5.replace("Mufasa", "a:b"), UsersError::Line(1)),
        (&MUFASA_MD5.replace('@', "\""), UsersError::Realm(1)),
        (&format!("{MUFASA_MD5}{}", other.replace("http", "xttp")), UsersError::SecondRealm(2)),
        (&format!("{MUFASA_MD5}{MUFASA_MD5}"), UsersError::Again(2)),
        (&format!("{MUFASA_SHA256}{other}"), UsersError::Divided),
    ] {
        assert_eq!(text.parse::<Users>().err(), Some(error), "{text}");
    }
}

#[test]
fn no_hash_is_shown() {
    let (guard, _) = asked();
    let shown = format!("{guard:?}");
    assert!(shown.contains("http-auth@example.org"));
    assert!(!shown.contains("3d78807d") && !shown.contains(NONCE), "{shown}");
}
