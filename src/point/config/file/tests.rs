use std::io::Write;

use tempfile::NamedTempFile;

use super::*;

/// The password is `secret`.
const USERS: &str = "bob:push:0786f66609ee7d38256a25b55563aa64\n";

fn users() -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(USERS.as_bytes()).unwrap();
    file
}

fn config(text: &str) -> Result<Config, BadConfig> {
    text.parse::<File>()?.into_config()
}

#[test]
fn a_point_says_what_differs_from_the_defaults() {
    let users = users();
    let text = format!(
        "listen = '[::1]:0'\nusers = '{}'\nauth = ['basic']\nmax-players = 7\nidle-timeout = '1m 5s'\n\
         [defaults]\nrecord = 'all'\nkeep-bytes = '1MiB'\nread = 'users'\n\
         [point.concert]\nwrite = ['bob']\nfast-start = false\nheader-change = 'in-place'\nslow-players = 'disconnect'\n\
         [point.\"hall/2\"]\nrecord = 'hall'\nkeep-time = '2s'\nread = 'everybody'\n",
        users.path().display()
    );
    let config = config(&text).unwrap();
    assert_eq!(config.listen.to_string(), "[::1]:0");
    assert_eq!(config.max_players, 7);
    assert_eq!(config.policy.idle_timeout, Duration::from_secs(65));
    assert_eq!(config.users.unwrap().schemes, [Scheme::Basic]);
    let concert = &config.points["concert"];
    assert_eq!(concert.record.as_deref(), Some(Path::new("all")));
    assert_eq!((concert.limits.bytes, concert.limits.time), (1 << 20, Duration::from_secs(5)));
    assert_eq!(
        (&concert.write, &concert.create, &concert.read),
        (&Who::Only(["bob".to_owned()].into()), &Who::Users, &Who::Users)
    );
    assert_eq!(
        (concert.fast_start, concert.header_change, concert.slow_players),
        (false, HeaderChange::InPlace, SlowPlayers::Disconnect)
    );
    let hall = &config.points["hall/2"];
    assert_eq!((hall.fast_start, hall.header_change, hall.slow_players), (true, HeaderChange::Auto, SlowPlayers::Skip));
    assert_eq!(hall.record.as_deref(), Some(Path::new("hall")));
    assert_eq!((hall.limits.bytes, hall.limits.time), (1 << 20, Duration::from_secs(2)));
    assert_eq!((&hall.write, &hall.read), (&Who::Users, &Who::Everybody));
}

#[test]
fn nothing_at_all_is_the_least_server() {
    let config = config("").unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert!(config.points.is_empty() && config.users.is_none());
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    for (text, words) in [
        ("max-player = 7", &["line 1", "unknown field `max-player`", "`max-players`"][..]),
        ("[point.concert]\nredirect = 'ftp://x'", &["line 2", "neither with http: nor with https:"]),
        ("[point.concert]\nredirect = 'x'", &["line 2", "http://server:8080/concert"]),
        ("[point.concert]\nread = 'all'", &["line 2", "\"everybody\", \"users\" or a list"]),
        ("auth = ['ntlm']", &["line 1", "`digest` and `basic`"]),
        ("auth = ['basic']", &["`auth`", "name their file by `users`"]),
        ("[point.a]\nwrite = 'users'", &["`write`", "name their file by `users`"]),
        ("idle-timeout = '9s'", &["`idle-timeout`", "10 s"]),
        ("idle-timeout = 'soon'", &["line 1"]),
        ("[point.Hall]\n[point.hall]", &["`Hall`", "`hall`"]),
        ("[point.a]\nredirect = 'http://x'\nproxy-redirect = 'http://x'", &["`a`", "leave one of them out"]),
        ("users = '/nowhere'", &["/nowhere: "]),
    ] {
        let error = config(text).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}

#[test]
fn a_right_of_an_unknown_user_is_a_slip() {
    let users = users();
    let text = format!("users = '{}'\n[point.concert]\nread = ['eve']", users.path().display());
    let error = config(&text).unwrap_err().to_string();
    assert!(error.contains("`concert`") && error.contains("`eve`"), "{error}");
}

#[test]
fn a_file_of_users_that_is_none_is_named() {
    let mut users = NamedTempFile::new().unwrap();
    users.write_all(b"bob\n").unwrap();
    let error = config(&format!("users = '{}'", users.path().display())).unwrap_err().to_string();
    assert!(error.contains(&users.path().display().to_string()) && error.contains("line 1"), "{error}");
}

#[test]
fn a_file_is_named_where_it_is_wrong() {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(b"listen = 5").unwrap();
    let error = File::read(file.path()).unwrap_err().to_string();
    assert!(error.contains(&file.path().display().to_string()) && error.contains("line 1"), "{error}");
}
