//! Pushes through Apache httpd, a reverse proxy that asks for credentials, to the publishing point.

use std::fs;
use std::path::Path;

use asf_publishing_point::{BlockingServer, Config, PointConfig, Server};
use gst::prelude::*;
use tempfile::TempDir;
use test_support::apache::{Apache, Asking, PASSWORD, USER};
use test_support::curl::Curl;
use test_support::decoded::{assert_same_frames, ffmpeg_file, recordings};
use test_support::kerberos::Realm;
use test_support::media;
use test_support::pipeline::{Pushing, feed_for_four_seconds, until};
use wmhttp::Hresult;

fn point(directory: &TempDir) -> BlockingServer {
    let point = PointConfig { record: Some(directory.path().to_owned()), ..PointConfig::default() };
    Server::spawn(Config::with_points(["concert"], &point)).unwrap()
}

/// curl is let in with Basic, Digest, NTLM inside Negotiate and Kerberos, and with nothing less: what the
/// tests of the element believe of this server is true. curl's own `--ntlm` is not heard by gss-ntlmssp 1.2,
/// which wants a version in the first message; Negotiate is of its own making on both sides.
#[test]
fn what_apache_asks_for() {
    let directory = TempDir::new().unwrap();
    let server = point(&directory);
    let realm = Realm::new();
    let tickets = realm.environment();
    for (asking, challenge, right, wrong) in [
        (
            Asking::Basic,
            "Basic realm=\"push\"",
            ["--basic", "--user", "bob:secret"],
            ["--basic", "--user", "bob:wrong"],
        ),
        (
            Asking::Digest,
            "Digest realm=\"push\"",
            ["--digest", "--user", "bob:secret"],
            ["--digest", "--user", "bob:wrong"],
        ),
        (Asking::Ntlm, "Negotiate", ["--negotiate", "--user", ":"], ["--basic", "--user", "bob:secret"]),
        (Asking::Kerberos(&realm), "Negotiate", ["--negotiate", "--user", ":"], ["--basic", "--user", "bob:secret"]),
    ] {
        let apache = Apache::new(server.addr(), asking, "");
        // No tickets of the system's, nor any but where they are wanted.
        let users = [
            ("NTLM_USER_FILE", apache.ntlm_users().display().to_string()),
            ("KRB5CCNAME", "FILE:/no/tickets".to_owned()),
        ];
        let environment = if matches!(asking, Asking::Kerberos(_)) { &tickets[..] } else { &users };
        let outcome = Curl { arguments: &right, environment }.set_up(&apache.location());
        assert_eq!((outcome.status, outcome.connections), (204, 1), "{outcome:?}");
        assert!(outcome.headers("Server").last().unwrap().starts_with("Cougar/"), "{outcome:?}");
        let outcome = Curl { arguments: &wrong, environment }.set_up(&apache.location());
        assert_eq!(outcome.status, 401, "{outcome:?}");
        let outcome = Curl::new(&[]).set_up(&apache.location());
        assert_eq!(outcome.status, 401, "{outcome:?}");
        assert!(outcome.headers("WWW-Authenticate").any(|one| one.starts_with(challenge)), "{outcome:?}");
        // Without the ticket, or the password, the scheme alone is not enough.
        let nobody = [("NTLM_USER_FILE", "/no/users".to_owned()), ("KRB5CCNAME", "FILE:/no/tickets".to_owned())];
        let arguments = ["--negotiate", "--user", ":"];
        let outcome = Curl { arguments: &arguments, environment: &nobody }.set_up(&apache.location());
        assert_eq!(outcome.status, 401, "{outcome:?}");
    }
    assert_eq!(server.stats("concert").unwrap().sessions, 4);
}

/// A whole push by curl: Apache passes both requests on as they are.
#[test]
fn what_apache_passes_on() {
    let directory = TempDir::new().unwrap();
    let server = point(&directory);
    let apache = Apache::new(server.addr(), Asking::Digest, "");
    let bob = Curl::new(&["--digest", "--user", "bob:secret"]);
    let setup = bob.set_up(&apache.location());
    let body = directory.path().join("body");
    fs::write(&body, media::body(200)).unwrap();
    let start = bob.start(&apache.location(), setup.push_id(), &body);
    assert_eq!(start.status, 204, "{start:?}");
    let stats = server.stats("concert").unwrap();
    assert_eq!((stats.sessions, stats.headers, stats.packets), (1, 1, 200));
}

/// H-7, C-10: what was pushed through a proxy that names itself decodes as what was received, in one body
/// and in many on one connection. Apache holds the answer to the end back, since its body is not whole: where bodies before
/// were answered the element says so, unless Apache sees in time that the publishing point has closed. Nothing is lost
/// either way.
#[test]
fn h7_c10_what_was_pushed_is_received() {
    for length in [0, 40_000] {
        let directory = TempDir::new().unwrap();
        let source = directory.path().join("source.wmv");
        ffmpeg_file(&source, 25);
        let server = point(&directory);
        let apache = Apache::new(server.addr(), Asking::Nobody, "ProxyVia On");
        let pushing = Pushing::launch(
            &format!("filesrc location={}", source.display()),
            &format!("location={} sync=false content-length={length} eos-timeout=600000", apache.location()),
        );
        pushing.play();
        pushing.wait_for(|message| {
            if let gst::MessageView::Warning(warning) = message.view() {
                let text = warning.error();
                assert!(length > 0 && text.message().contains("did not come through"), "{text}");
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
        until("Apache has written all down", || apache.requests().len() as u64 == requests);
        let mut statuses = apache.requests();
        assert_eq!(statuses.pop(), Some(400), "the last body is never whole");
        assert!(statuses.iter().all(|status| *status == 204), "{statuses:?}");
    }
}

/// A push of a file, several PushStarts long.
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

/// C-5, C-13: the element is let in by each scheme: NTLM and Negotiate once on the connection, Basic and
/// Digest with each PushStart, before Apache asks again. What it pushes arrives.
#[test]
fn c5_c13_the_element_is_let_in_by_each_scheme() {
    let directory = TempDir::new().unwrap();
    let source = directory.path().join("source.wmv");
    ffmpeg_file(&source, 25);
    for (asking, methods, scheme, refusals) in [
        (Asking::Basic, "basic", "Basic", 1),
        (Asking::Digest, "basic+digest+ntlm+negotiate", "Digest", 1),
        #[cfg(feature = "ntlm")]
        (Asking::Ntlm, "ntlm", "NTLM", 2),
        #[cfg(feature = "ntlm")]
        (Asking::Ntlm, "basic+digest+ntlm+negotiate", "Negotiate", 2),
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
        until("Apache has written all down", || apache.requests().len() as u64 == requests);
        let mut statuses = apache.requests();
        statuses.pop();
        let (refused, taken) = statuses.split_at(refusals);
        assert!(taken.len() > 3 && taken.iter().all(|status| *status == 204), "{scheme}: {statuses:?}");
        assert!(refused.iter().all(|status| *status == 401), "{scheme}: {statuses:?}");
        server.stop();
        assert_same_frames(&source, &recordings(directory.path())[0], 0);
    }
}

/// C-5: a wrong password, and a server that wants a Kerberos ticket, end the push for good after one attempt.
#[test]
fn c5_the_element_is_refused() {
    let directory = TempDir::new().unwrap();
    let source = directory.path().join("source.wmv");
    ffmpeg_file(&source, 25);
    let server = point(&directory);
    let realm = Realm::new();
    for (asking, methods, requests) in [
        (Asking::Basic, "basic", 2),
        (Asking::Digest, "digest", 2),
        #[cfg(feature = "ntlm")]
        (Asking::Ntlm, "ntlm", 3),
        #[cfg(feature = "ntlm")]
        (Asking::Ntlm, "negotiate", 3),
        #[cfg(feature = "ntlm")]
        (Asking::Kerberos(&realm), "negotiate", 2),
        // Nothing that both can do.
        (Asking::Kerberos(&realm), "digest", 1),
    ] {
        let apache = Apache::new(server.addr(), asking, "");
        let pushing = pushing(&source, &apache, methods, "wrong");
        let (error, details) = pushing.wait_for_error();
        assert!(error.matches(gst::ResourceError::NotAuthorized), "{methods}: {error:?}");
        assert_eq!(details.get::<u32>("hresult"), Ok(Hresult::SERVER_ACCESS_DENIED.0), "{methods}: {details}");
        until("Apache has written all down", || apache.requests().len() >= requests);
        assert_eq!(apache.requests(), vec![401; requests], "{methods}");
    }
    assert_eq!(server.stats("concert").unwrap().sessions, 0);
}

/// A body that goes on for longer than Apache waits is passed on all the same: its times count silence only.
/// Its beginning is passed on once some of it has gathered.
#[test]
fn a_body_outlasts_the_times_of_apache() {
    let directory = TempDir::new().unwrap();
    let server = point(&directory);
    let apache = Apache::new(server.addr(), Asking::Nobody, "Timeout 1\nProxyTimeout 1");
    let (pushing, source) = Pushing::by_hand(&format!("location={} sync=false eos-timeout=500", apache.location()));
    pushing.play();
    feed_for_four_seconds(&source);
    pushing.wait_for_eos();
    let received = server.stats("concert").unwrap();
    assert_eq!((received.packets, received.sessions), (40, 1));
    let stats = pushing.destination_stats();
    assert_eq!((stats.get::<u64>("requests-sent"), stats.get::<u64>("reconnects")), (Ok(2), Ok(0)), "{stats}");
}
