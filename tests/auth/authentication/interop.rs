//! NTLM and Negotiate against another implementation: the system's GSSAPI with gss-ntlmssp.

use test_support::acceptor::{Acceptor, AuthResult};

use super::*;

/// C-5: another implementation accepts NTLM and Negotiate on the same connection as PushStart: with a domain user, with
/// a principal's name, and with non-ASCII characters.
#[cfg(feature = "ntlm")]
#[test]
fn c5_ntlm_and_negotiate() {
    for (scheme, user_id, user, password) in [
        ("NTLM", "STUDIO\\bob", "bob", "hush"),
        ("Negotiate", "STUDIO\\bob", "bob", "hush"),
        ("NTLM", "bob", "bob", "hush"),
        ("NTLM", "bob@studio.invalid", "bob@studio.invalid", "hush"),
        ("Negotiate", "bob@studio.invalid", "bob@studio.invalid", "hush"),
        ("NTLM", "STUDIO\\Пётр", "Пётр", "pässwörd €"),
        ("Negotiate", "STUDIO\\jürgen", "jürgen", "пароль"),
    ] {
        let peer = Peer::new();
        let (pushing, source) = Pushing::with_feed_source(&format!("location={} sync=false", peer.location()));
        pushing.sink.set_property("user-id", user_id);
        pushing.sink.set_property("user-pw", password);
        pushing.play();
        push_bytes(&source, media::stream(PACKETS, STEP));
        end(&source);
        let mut acceptor = Acceptor::new(scheme, user, password);
        let mut connection = peer.accept();
        assert_eq!(connection.request().header("X-Accept-Authentication"), Some("Negotiate, NTLM, Digest"));
        connection.answer(&unauthorized(&[scheme]));
        let AuthResult::Continue(challenge) = acceptor.step(token(&connection.request())) else { panic!("{scheme}") };
        connection.answer(&unauthorized(&[&format!("{scheme} {challenge}")]));
        let result = acceptor.step(token(&connection.request()));
        let AuthResult::Accepted(accepted) = &result else { panic!("{scheme} {user_id}: {result:?}") };
        assert!(accepted.contains(user), "{accepted}");
        assert_eq!(accepted.contains("STUDIO"), user_id.contains("STUDIO"), "{accepted}");
        connection.answer(&wms(204, "one"));
        let start = connection.request();
        assert!(!start.is_setup() && start.header("Authorization").is_none(), "C-13: {}", start.text);
        assert_eq!(take(&mut connection), all());
        pushing.wait_for_eos();
        assert_eq!(pushing.destination_stats().get::<&str>("auth-scheme"), Ok(scheme));
    }
}

/// C-5: the same with a proxy, which authenticates the connection to it; the server behind it receives none of that.
#[test]
fn c5_ntlm_for_a_proxy() {
    let proxy = Peer::new();
    let (pushing, source) = Pushing::with_feed_source("location=http://media.invalid/concert sync=false");
    pushing.sink.set_property("proxy", format!("http://{}", proxy.addr));
    pushing.sink.set_property("proxy-id", "STUDIO\\bob");
    pushing.sink.set_property("proxy-pw", "hush");
    pushing.play();
    push_bytes(&source, media::stream(PACKETS, STEP));
    end(&source);
    let mut acceptor = Acceptor::new("NTLM", "bob", "hush");
    let asks = |challenge: &str| {
        let asks = unauthorized(&[challenge]);
        asks.replace("401 Unauthorized", "407 Asked").replace("WWW-Authenticate", "Proxy-Authenticate")
    };
    let token = |head: &Head| {
        assert!(head.text.starts_with("POST http://media.invalid/concert HTTP/1.1\r\n"), "{}", head.text);
        assert!(head.header("Authorization").is_none());
        head.header("Proxy-Authorization").unwrap().strip_prefix("NTLM ").unwrap().to_owned()
    };
    let mut connection = proxy.accept();
    assert!(connection.request().header("Proxy-Authorization").is_none(), "no authentication before a challenge");
    connection.answer(&asks("NTLM"));
    let AuthResult::Continue(challenge) = acceptor.step(&token(&connection.request())) else { panic!() };
    connection.answer(&asks(&format!("NTLM {challenge}")));
    let AuthResult::Accepted(user) = acceptor.step(&token(&connection.request())) else { panic!() };
    assert!(user.contains("bob"), "{user}");
    connection.answer(&wms(204, "one"));
    let start = connection.request();
    assert!(!start.is_setup() && start.header("Proxy-Authorization").is_none(), "C-13: {}", start.text);
    assert_eq!(take(&mut connection), all());
    pushing.wait_for_eos();
}

/// A wrong password is rejected once and is not tried again.
#[test]
fn c5_a_wrong_password() {
    let peer = Peer::new();
    let pushing = pushing(&peer, "retry-delay=1 user-id=bob user-pw=wrong");
    let mut acceptor = Acceptor::new("NTLM", "bob", "hush");
    let mut connection = peer.accept();
    connection.request();
    connection.answer(&unauthorized(&["NTLM"]));
    let AuthResult::Continue(challenge) = acceptor.step(token(&connection.request())) else { panic!() };
    connection.answer(&unauthorized(&[&format!("NTLM {challenge}")]));
    assert_eq!(acceptor.step(token(&connection.request())), AuthResult::Refused);
    connection.answer(&unauthorized(&["NTLM"]));
    let (error, _) = pushing.wait_for_error();
    assert_eq!(error.kind(), Some(gst::ResourceError::NotAuthorized));
    assert!(error.message().contains("bob") && error.message().contains("refused"), "{error}");
    assert!(connection.is_closed());
    assert!(peer.accept_within(Duration::from_millis(300)).is_none(), "never tried again");
}
