//! Pushes through Apache httpd, a reverse proxy with authentication, to the publishing point.

use std::fs;
use std::path::Path;

use asf_publishing_point::{BlockingServer, Config, PointConfig, Server};
use gst::prelude::*;
use tempfile::TempDir;
use test_support::apache::{Apache, PASSWORD, RequiredAuth, USER};
use test_support::curl::Curl;
use test_support::decoded::{assert_same_frames, ffmpeg_file, recordings};
use test_support::kerberos::Realm;
use test_support::media;
use test_support::pipeline::{Pushing, push_for_four_seconds, until};
use wmhttp::Hresult;

fn point(directory: &TempDir) -> BlockingServer {
    let point = PointConfig { record: Some(directory.path().to_owned()), ..PointConfig::default() };
    Server::spawn(Config::with_points(["concert"], &point)).unwrap()
}

/// Verifies what the element's tests assume about this server: it accepts curl with Basic, Digest, NTLM inside
/// Negotiate, and Kerberos, and nothing else. gss-ntlmssp 1.2 does not accept curl's own `--ntlm`, because it requires
/// a version in the first message; for Negotiate, curl uses gss-ntlmssp as well.
#[test]
fn what_apache_requires() {
    let directory = TempDir::new().unwrap();
    let server = point(&directory);
    let realm = Realm::new();
    let tickets = realm.environment();
    for (asking, challenge, right, wrong) in [
        (
            RequiredAuth::Basic,
            "Basic realm=\"push\"",
            ["--basic", "--user", "bob:secret"],
            ["--basic", "--user", "bob:wrong"],
        ),
        (
            RequiredAuth::Digest,
            "Digest realm=\"push\"",
            ["--digest", "--user", "bob:secret"],
            ["--digest", "--user", "bob:wrong"],
        ),
        (RequiredAuth::Ntlm, "Negotiate", ["--negotiate", "--user", ":"], ["--basic", "--user", "bob:secret"]),
        (
            RequiredAuth::Kerberos(&realm),
            "Negotiate",
            ["--negotiate", "--user", ":"],
            ["--basic", "--user", "bob:secret"],
        ),
    ] {
        let apache = Apache::new(server.addr(), asking, "");
        // No tickets of the system, and tickets only where they are required.
        let users = [
            ("NTLM_USER_FILE", apache.ntlm_users().display().to_string()),
            ("KRB5CCNAME", "FILE:/no/tickets".to_owned()),
        ];
        let environment = if matches!(asking, RequiredAuth::Kerberos(_)) { &tickets[..] } else { &users };
        let outcome = Curl { arguments: &right, environment }.set_up(&apache.location());
        assert_eq!((outcome.status, outcome.connections), (204, 1), "{outcome:?}");
        assert!(outcome.headers("Server").last().unwrap().starts_with("Cougar/"), "{outcome:?}");
        let outcome = Curl { arguments: &wrong, environment }.set_up(&apache.location());
        assert_eq!(outcome.status, 401, "{outcome:?}");
        let outcome = Curl::new(&[]).set_up(&apache.location());
        assert_eq!(outcome.status, 401, "{outcome:?}");
        assert!(outcome.headers("WWW-Authenticate").any(|one| one.starts_with(challenge)), "{outcome:?}");
        // Without the ticket or the password, the scheme alone is not sufficient.
        let nobody = [("NTLM_USER_FILE", "/no/users".to_owned()), ("KRB5CCNAME", "FILE:/no/tickets".to_owned())];
        let arguments = ["--negotiate", "--user", ":"];
        let outcome = Curl { arguments: &arguments, environment: &nobody }.set_up(&apache.location());
        assert_eq!(outcome.status, 401, "{outcome:?}");
    }
    assert_eq!(server.stats("concert").unwrap().sessions, 4);
}

/// A whole push with curl: Apache forwards both requests unchanged.
#[test]
fn what_apache_forwards() {
    let directory = TempDir::new().unwrap();
    let server = point(&directory);
    let apache = Apache::new(server.addr(), RequiredAuth::Digest, "");
    let bob = Curl::new(&["--digest", "--user", "bob:secret"]);
    let setup = bob.set_up(&apache.location());
    let body = directory.path().join("body");
    fs::write(&body, media::body(200)).unwrap();
    let start = bob.start(&apache.location(), setup.push_id(), &body);
    assert_eq!(start.status, 204, "{start:?}");
    let stats = server.stats("concert").unwrap();
    assert_eq!((stats.sessions, stats.headers, stats.packets), (1, 1, 200));
}

/// H-7, C-10: a stream pushed through a proxy that identifies itself decodes to the same frames, in one body and in
/// many on one connection. Apache holds the response to the end back, because its body is not complete. If earlier
/// bodies had a response, the element reports this, unless Apache detects in time that the publishing point has closed
/// the connection. Nothing is lost in either case.
#[test]
fn h7_c10_the_pushed_stream_is_received() {
    for length in [0, 40_000] {
        let directory = TempDir::new().unwrap();
        let source = directory.path().join("source.wmv");
        ffmpeg_file(&source, 25);
        let server = point(&directory);
        let apache = Apache::new(server.addr(), RequiredAuth::Nobody, "ProxyVia On");
        let pushing = Pushing::launch(
            &format!("filesrc location={}", source.display()),
            &format!("location={} sync=false content-length={length} eos-timeout=600000", apache.location()),
        );
        pushing.play();
        pushing.wait_for(|message| {
            if let gst::MessageView::Warning(warning) = message.view() {
                let text = warning.error();
                assert!(length > 0 && text.message().contains("did not confirm the end"), "{text}");
            }
            matches!(message.view(), gst::MessageView::Eos(_)).then_some(())
        });
        let stats = pushing.destination_stats();
        pushing.stop();
        let received = server.stats("concert").unwrap();
        assert_eq!(stats.get::<u64>("packets-sent"), Ok(received.packets));
        assert_eq!((received.sessions, received.headers), (1, 1));
        server.stop();
        assert_same_frames(&source, &recordings(directory.path())[0], 0);
        let requests = stats.get::<u64>("requests-sent").unwrap();
        assert_eq!(requests > 3, length > 0, "{requests}");
        until("Apache has logged all requests", || apache.requests().len() as u64 == requests);
        let mut statuses = apache.requests();
        assert_eq!(statuses.pop(), Some(400), "the last body is never complete");
        assert!(statuses.iter().all(|status| *status == 204), "{statuses:?}");
    }
}

/// A push of a file that needs several PushStarts.
fn pushing(source: &Path, apache: &Apache, methods: &str, password: &str) -> Pushing {
    let pushing = Pushing::launch(
        &format!("filesrc location={}", source.display()),
        &format!(
            "location={} sync=false content-length=40000 eos-timeout=500 auth-methods={methods}",
            apache.location()
        ),
    );
    pushing.sink.set_property("user-id", USER);
    pushing.sink.set_property("user-pw", password);
    pushing.play();
    pushing
}

/// C-5, C-13: Apache accepts the element with each scheme: with NTLM and Negotiate once per connection, with Basic and
/// Digest in each PushStart, before a challenge. The pushed stream arrives.
#[test]
fn c5_c13_the_element_is_accepted_with_each_scheme() {
    let directory = TempDir::new().unwrap();
    let source = directory.path().join("source.wmv");
    ffmpeg_file(&source, 25);
    for (asking, methods, scheme, refusals) in [
        (RequiredAuth::Basic, "basic", "Basic", 1),
        (RequiredAuth::Digest, "basic+digest+ntlm+negotiate", "Digest", 1),
        #[cfg(feature = "ntlm")]
        (RequiredAuth::Ntlm, "ntlm", "NTLM", 2),
        #[cfg(feature = "ntlm")]
        (RequiredAuth::Ntlm, "basic+digest+ntlm+negotiate", "Negotiate", 2),
    ] {
        let directory = TempDir::new().unwrap();
        let server = point(&directory);
        let apache = Apache::new(server.addr(), asking, "");
        let pushing = pushing(&source, &apache, methods, PASSWORD);
        pushing.wait_for_eos();
        let stats = pushing.destination_stats();
        pushing.stop();
        assert_eq!(stats.get::<&str>("auth-scheme"), Ok(scheme));
        let requests = stats.get::<u64>("requests-sent").unwrap();
        until("Apache has logged all requests", || apache.requests().len() as u64 == requests);
        let mut statuses = apache.requests();
        statuses.pop();
        let (refused, taken) = statuses.split_at(refusals);
        assert!(taken.len() > 3 && taken.iter().all(|status| *status == 204), "{scheme}: {statuses:?}");
        assert!(refused.iter().all(|status| *status == 401), "{scheme}: {statuses:?}");
        server.stop();
        assert_same_frames(&source, &recordings(directory.path())[0], 0);
    }
}

/// C-5: a wrong password, and a server that requires a Kerberos ticket, end the push permanently after one attempt.
#[test]
fn c5_the_element_is_rejected() {
    let directory = TempDir::new().unwrap();
    let source = directory.path().join("source.wmv");
    ffmpeg_file(&source, 25);
    let server = point(&directory);
    let realm = Realm::new();
    for (asking, methods, requests) in [
        (RequiredAuth::Basic, "basic", 2),
        (RequiredAuth::Digest, "digest", 2),
        #[cfg(feature = "ntlm")]
        (RequiredAuth::Ntlm, "ntlm", 3),
        #[cfg(feature = "ntlm")]
        (RequiredAuth::Ntlm, "negotiate", 3),
        #[cfg(feature = "ntlm")]
        (RequiredAuth::Kerberos(&realm), "negotiate", 2),
        // No scheme that both support.
        (RequiredAuth::Kerberos(&realm), "digest", 1),
    ] {
        let apache = Apache::new(server.addr(), asking, "");
        let pushing = pushing(&source, &apache, methods, "wrong");
        let (error, details) = pushing.wait_for_error();
        assert!(error.matches(gst::ResourceError::NotAuthorized), "{methods}: {error:?}");
        assert_eq!(details.get::<u32>("hresult"), Ok(Hresult::SERVER_ACCESS_DENIED.0), "{methods}: {details}");
        until("Apache has logged all requests", || apache.requests().len() >= requests);
        assert_eq!(apache.requests(), vec![401; requests], "{methods}");
    }
    assert_eq!(server.stats("concert").unwrap().sessions, 0);
}

/// A body that lasts longer than Apache's timeouts is forwarded nevertheless, because they apply only to silence. Its
/// start is forwarded after some data has accumulated.
#[test]
fn a_body_outlasts_the_times_of_apache() {
    let directory = TempDir::new().unwrap();
    let server = point(&directory);
    let apache = Apache::new(server.addr(), RequiredAuth::Nobody, "Timeout 1\nProxyTimeout 1");
    let (pushing, source) =
        Pushing::with_feed_source(&format!("location={} sync=false eos-timeout=500", apache.location()));
    pushing.play();
    push_for_four_seconds(&source);
    pushing.wait_for_eos();
    let received = server.stats("concert").unwrap();
    assert_eq!((received.packets, received.sessions), (40, 1));
    let stats = pushing.destination_stats();
    assert_eq!((stats.get::<u64>("requests-sent"), stats.get::<u64>("reconnects")), (Ok(2), Ok(0)), "{stats}");
}
