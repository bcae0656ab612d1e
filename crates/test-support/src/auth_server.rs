//! A server that accepts a push only after authentication.

use crate::acceptor::{Acceptor, AuthResult};
use crate::peer::{Connection, Head, unauthorized, wms};

fn scheme_and_token(head: &Head) -> (String, String) {
    let (scheme, token) = head.header("Authorization").unwrap().split_once(' ').unwrap();
    (scheme.to_owned(), token.to_owned())
}

/// Accepts a push authenticated with `scheme`, and returns the secrets that were sent over the network.
pub fn serve(connection: &mut Connection, scheme: &str, password: &str, push_id: &str) -> Vec<String> {
    let mut secrets = Vec::new();
    let challenge = match scheme {
        "Basic" => "Basic realm=\"live\"".to_owned(),
        "Digest" => "Digest realm=\"live\", nonce=\"SERVERNONCE\", qop=auth, opaque=\"OPAQUE\"".to_owned(),
        other => other.to_owned(),
    };
    connection.request();
    connection.answer(&unauthorized(&[&challenge]));
    let mut note = |head: &Head| {
        let (used, token) = scheme_and_token(head);
        assert_eq!(used, scheme);
        secrets.push(token.clone());
        token
    };
    if scheme == "NTLM" || scheme == "Negotiate" {
        let mut acceptor = Acceptor::new(scheme, "bob", password);
        let AuthResult::Continue(challenge) = acceptor.step(&note(&connection.request())) else { panic!() };
        connection.answer(&unauthorized(&[&format!("{scheme} {challenge}")]));
        let accepted = acceptor.step(&note(&connection.request()));
        assert!(matches!(accepted, AuthResult::Accepted(_)), "{accepted:?}");
        connection.answer(&wms(204, push_id));
        connection.request();
    } else {
        note(&connection.request());
        connection.answer(&wms(204, push_id));
        note(&connection.request());
    }
    connection.until_the_end();
    connection.answer(&wms(204, push_id));
    if scheme == "Digest" {
        let response = secrets.iter().map(|value| value.split("response=\"").nth(1).unwrap()[..32].to_owned());
        secrets = response.collect();
    }
    secrets
}
