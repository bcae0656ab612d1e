//! Pushes to Apache httpd, which requires a ticket of the test's own Kerberos realm.
//!
//! The library reads the realm from the environment, so the element runs in a separate process.
#![cfg(feature = "kerberos")]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;

use asf_publishing_point::{Config, PointConfig, Server};
use tempfile::TempDir;
use test_support::apache::{Apache, RequiredAuth};
use test_support::kerberos::Realm;
use test_support::media;
use test_support::pipeline::gst_launch;

/// C-5: a user with a ticket is accepted. A user without one obtains it with name and password; with a wrong password
/// this fails, and the error contains the reason.
#[test]
fn c5_tickets() {
    let realm = Realm::new();
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("stream.asf");
    fs::write(&file, media::stream(200, 40)).unwrap();
    let server = Server::spawn(Config::with_points(["concert"], &PointConfig::default())).unwrap();
    let nowhere = ("KRB5CCNAME", "FILE:/no/tickets".to_owned());
    let user = |password: &str| vec!["user-id=bob@PUSH.TEST".to_owned(), format!("user-pw={password}")];
    for (has_ticket, user, let_in) in
        [(true, vec![], true), (false, user("secret"), true), (false, user("wrong"), false), (false, vec![], false)]
    {
        let has_password = !user.is_empty();
        let apache = Apache::new(server.addr(), RequiredAuth::Kerberos(&realm), "");
        let before = server.stats("concert").unwrap().packets;
        let output = gst_launch()
            .args(["-m", "filesrc", &format!("location={}", file.display()), "!", "asfpushsink", "sync=false"])
            .args([format!("location={}", apache.location()), "eos-timeout=500".into(), "content-length=40000".into()])
            .args(&user)
            .envs(realm.environment())
            .envs((!has_ticket).then_some(nowhere.clone()))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &*String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), let_in, "{said}");
        let packets = server.stats("concert").unwrap().packets - before;
        let mut statuses = apache.requests();
        if let_in {
            assert_eq!(packets, 200, "{said}");
            // The last body is never complete.
            statuses.pop();
            assert_eq!(statuses[0], 401);
            assert!(statuses[1..].len() > 3 && statuses[1..].iter().all(|status| *status == 204), "{statuses:?}");
        } else {
            assert_eq!(packets, 0);
            let reason = if has_password { "no ticket" } else { "cannot get Kerberos credentials" };
            assert!(said.contains(&format!("Kerberos: {reason}: ")), "{said}");
            assert!(statuses.len() <= 2 && statuses.iter().all(|status| *status == 401), "{statuses:?}");
        }
    }
}
