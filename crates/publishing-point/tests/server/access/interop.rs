//! Authentication of curl.

use test_support::curl::Curl;

use super::*;

const BOB: &str = "bob:secret";

/// S-6: curl authenticates with each scheme, on the connection on which it was challenged.
#[test]
fn s6_curl_authenticates_with_each_scheme() {
    for (users, auth, argument, algorithm) in [
        (MD5.to_owned(), "digest", "--digest", "Digest MD5"),
        (SHA256.to_owned(), "digest", "--digest", "Digest SHA-256"),
        (format!("{MD5}{SHA256}"), "basic,digest", "--anyauth", "Digest"),
        (format!("{MD5}{SHA256}"), "basic", "--anyauth", "Basic"),
        (SHA256.to_owned(), "digest,basic", "--basic", "Basic"),
    ] {
        let program = program(&users, &["--auth", auth]);
        let outcome = Curl::new(&[argument, "--user", BOB]).set_up(&program.url("concert"));
        assert_eq!((outcome.status, outcome.connections), (204, 1), "{outcome:?}");
        assert!(outcome.push_id().parse::<u64>().is_ok(), "{outcome:?}");
        let asked = usize::from(argument != "--basic");
        assert_eq!(outcome.requests.len(), 1 + asked, "{outcome:?}");
        let (scheme, algorithm) = algorithm.split_once(' ').unwrap_or((algorithm, ""));
        let last = &outcome.requests[asked];
        assert!(last.contains(&format!("Authorization: {scheme} ")) && last.contains(algorithm), "{last}");
        assert_eq!(Curl::new(&[argument, "--user", "bob:Secret"]).set_up(&program.url("concert")).status, 401);
        assert_eq!(Curl::new(&[argument, "--user", "eve:secret"]).set_up(&program.url("concert")).status, 401);
        assert_eq!(Curl::new(&[]).set_up(&program.url("concert")).status, 401);
    }
}

/// S-6: a whole push with credentials in PushStart too; the log contains no secrets.
#[test]
fn s6_a_whole_push_by_curl_with_digest() {
    let program = program(MD5, &[]);
    let arguments = ["--digest", "--user", BOB];
    let setup = Curl::new(&arguments).set_up(&program.url("concert"));
    assert_eq!(setup.status, 204, "{setup:?}");
    let body = program.directory().join("body");
    fs::write(&body, media::body(300)).unwrap();
    let start = Curl::new(&arguments).start(&program.url("concert"), setup.push_id(), &body);
    assert_eq!(start.status, 204, "{start:?}");
    assert_eq!(start.requests.len(), 2);
    let basic = Curl::new(&["--basic", "--user", BOB]).set_up(&program.url("concert"));
    assert_eq!(basic.status, 204);
    let (words, log) = program.stop();
    assert!(words.contains("point concert: sessions=2 headers=1 packets=300 "), "{words}");
    assert!(log.contains("push session opened point=\"concert\"") && log.contains("user=\"bob\""), "{log}");
    let nonces = setup.headers("WWW-Authenticate").flat_map(|challenge| challenge.split("nonce=\"").nth(1));
    let secrets = nonces.filter_map(|rest| rest.split('"').next());
    for secret in secrets.chain(["secret", "0786f666", "Ym9iOnNlY3JldA", setup.push_id(), basic.push_id()]) {
        assert!(!log.contains(secret), "{secret}:\n{log}");
    }
}

/// S-6: an overheard Digest response cannot be used again, because its request was already made.
#[test]
fn s6_a_digest_response_is_valid_once() {
    let program = program(MD5, &[]);
    let outcome = Curl::new(&["--digest", "--user", BOB]).set_up(&program.url("concert"));
    assert_eq!(outcome.status, 204);
    let overheard = outcome.requests[1].lines().find(|line| line.starts_with("Authorization: ")).unwrap();
    let close = "Connection: close\r\n";
    let answer = program.ask(&CONCERT.further(&format!("{overheard}\r\n{close}")).setup(0));
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("stale=true"), "{answer}");
    let forged = overheard.replace("response=\"", "response=\"0");
    let answer = program.ask(&CONCERT.further(&format!("{forged}\r\n{close}")).setup(0));
    assert!(answer.starts_with("HTTP/1.1 401 ") && !answer.contains("stale"), "{answer}");
}
