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

fn config(text: &str) -> Result<Config, ConfigError> {
    text.parse::<ConfigFile>()?.into_config()
}

#[test]
fn points_override_the_defaults() {
    let users = users();
    let text = format!(
        "listen = '[::1]:0'\nusers = '{}'\nauth = ['basic']\nmax-players = 7\nidle-timeout = '1m 5s'\nstatus = 'everyone'\n\
         status-listen = '127.0.0.1:9090'\n\
         [defaults]\nrecord = 'all'\nkeep-bytes = '1MiB'\nread = 'users'\n\
         [point.concert]\nwrite = ['bob']\noperate = ['bob']\nfast-start = false\nheader-change = 'in-place'\nslow-players = 'disconnect'\n\
         [point.\"hall/2\"]\nrecord = 'hall'\nkeep-time = '2s'\nread = 'everybody'\n",
        users.path().display()
    );
    let config = config(&text).unwrap();
    assert_eq!(config.listen.to_string(), "[::1]:0");
    assert_eq!(config.max_players, 7);
    assert_eq!(config.status, StatusAccess::Everyone);
    assert_eq!(config.status_listen, Some("127.0.0.1:9090".parse().unwrap()));
    assert_eq!(config.policy.idle_timeout, Duration::from_secs(65));
    assert_eq!(config.users.unwrap().schemes, [Scheme::Basic]);
    let concert = &config.points["concert"];
    assert_eq!(concert.record.as_deref(), Some(Path::new("all")));
    assert_eq!((concert.limits.bytes, concert.limits.time), (1 << 20, Duration::from_secs(5)));
    assert_eq!(
        (&concert.write, &concert.create, &concert.read),
        (&Principals::Only(["bob".to_owned()].into()), &Principals::Users, &Principals::Users)
    );
    assert_eq!(
        (concert.fast_start, concert.header_change, concert.slow_players),
        (false, HeaderChange::InPlace, SlowPlayers::Disconnect)
    );
    assert_eq!(concert.operate, Principals::Only(["bob".to_owned()].into()));
    let hall = &config.points["hall/2"];
    assert_eq!(hall.operate, Principals::Only(BTreeSet::new()));
    assert_eq!((hall.fast_start, hall.header_change, hall.slow_players), (true, HeaderChange::Auto, SlowPlayers::Skip));
    assert_eq!(hall.record.as_deref(), Some(Path::new("hall")));
    assert_eq!((hall.limits.bytes, hall.limits.time), (1 << 20, Duration::from_secs(2)));
    assert_eq!((&hall.write, &hall.read), (&Principals::Users, &Principals::Everybody));
}

#[test]
fn recordings_and_faults_of_a_point() {
    let text = "[defaults]\nrecord = 'here'\nrecord-max-time = '1h'\nrecord-keep = 24\nfaults = ['late:1s']\n\
                [point.concert]\nrecord-max-size = '1GiB'\nrecord-keep = 3\nrecord-max-total = '5GB'\n\
                faults = ['stall:10s@5s/once', '503:retry-after=5s']\n[point.hall]\n";
    let config = config(text).unwrap();
    let limits = RecordLimits {
        max_size: Some(ByteSize::gib(1)),
        max_time: Some(Duration::from_secs(3600)),
        keep: Some(3),
        max_total: Some(ByteSize::gb(5)),
    };
    assert_eq!(config.points["concert"].record_limits, limits);
    assert_eq!(config.points["concert"].faults, "stall:10s@5s/once,503:retry-after=5s".parse().unwrap());
    assert_eq!(config.points["hall"].record_limits.keep, Some(24));
    assert_eq!(config.points["hall"].faults, "late:1s".parse().unwrap());
}

#[test]
fn an_empty_file_is_valid() {
    let config = config("").unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert!(config.points.is_empty() && config.users.is_none());
}

#[test]
fn errors_name_the_line_and_the_cause() {
    for (text, words) in [
        ("[point.concert]\nfaults = ['stall']", &["line 2", "`stall` needs a value", "`stall:10s`"][..]),
        ("[point.concert]\nrecord-max-time = '1ms'", &["point `concert`", "`record-max-time`", "1s"]),
        ("[point.concert]\nrecord-max-size = '1k'", &["`record-max-size`", "1MiB"]),
        ("[point.concert]\nrecord-keep = 0", &["`record-keep`"]),
        ("[defaults]\nrecord-max-total = 7\n[point.concert]", &["`record-max-total`", "1MiB"]),
        ("max-player = 7", &["line 1", "unknown field `max-player`", "`max-players`"]),
        ("[point.concert]\nredirect = 'ftp://x'", &["line 2", "neither with http: nor with https:"]),
        ("[point.concert]\nredirect = 'x'", &["line 2", "http://server:8080/concert"]),
        ("[point.concert]\noperate = 'everybody'", &["`concert`", "`operate`", "\"users\""]),
        ("[point.concert]\noperate = ['eve']", &["`operate`", "`--users`"]),
        ("[point.concert]\nread = 'all'", &["line 2", "\"everybody\", \"users\" or a list"]),
        ("auth = ['ntlm']", &["line 1", "`digest` and `basic`"]),
        ("auth = ['basic']", &["`auth`", "to the file of users"]),
        ("[point.a]\nwrite = 'users'", &["`write`", "to the file of users"]),
        ("idle-timeout = '9s'", &["`idle-timeout`", "10 s"]),
        ("idle-timeout = 'soon'", &["line 1"]),
        ("inactivity-timeout = '0s'", &["`inactivity-timeout`", "1 s"]),
        ("[defaults]\nkeep-time = '0s'\n[point.a]\nkeep-bytes = 0", &["`a`", "`keep-time` and `keep-bytes`"]),
        ("[point.Hall]\n[point.hall]", &["`Hall`", "`hall`"]),
        ("[point.a]\nredirect = 'http://x'\nproxy-redirect = 'http://x'", &["`a`", "remove one of them"]),
        ("[point.\"API/x\"]", &["`API/x`", "choose another name"]),
        ("status = 'all'", &["line 1", "`loopback`, `everyone`, `off`"]),
        ("status = 'off'\nstatus-listen = '127.0.0.1:9090'", &["`status-listen`", "remove one of them"]),
        ("users = '/nowhere'", &["/nowhere: "]),
    ] {
        let error = config(text).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}

#[test]
fn a_right_of_an_unknown_user_is_an_error() {
    let users = users();
    let text = format!("users = '{}'\n[point.concert]\nread = ['eve']", users.path().display());
    let error = config(&text).unwrap_err().to_string();
    assert!(error.contains("`concert`") && error.contains("`eve`"), "{error}");
}

#[test]
fn an_invalid_users_file_is_named() {
    let mut users = NamedTempFile::new().unwrap();
    users.write_all(b"bob\n").unwrap();
    let error = config(&format!("users = '{}'", users.path().display())).unwrap_err().to_string();
    assert!(error.contains(&users.path().display().to_string()) && error.contains("line 1"), "{error}");
}

#[test]
fn an_invalid_file_is_named() {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(b"listen = 5").unwrap();
    let error = ConfigFile::read(file.path()).unwrap_err().to_string();
    assert!(error.contains(&file.path().display().to_string()) && error.contains("line 1"), "{error}");
}

/// The library's message about a value is followed by an instruction.
#[test]
fn messages_say_what_to_write() {
    for (text, hint) in [
        ("idle-timeout = 60", "\"60s\""),
        ("[point.a]\nkeep-time = '5'", "\"60s\""),
        ("[point.a]\nrecord-max-size = '1 gigabyte'", "\"1GiB\""),
        ("[point.a]\nrecord-max-size = 1GiB", "in quotes"),
        ("[point.a]\nrecord = /srv/media", "in quotes"),
        ("listen = 0.0.0.0:8080", "listen = \"0.0.0.0:8080\""),
        ("status = everyone", "in quotes"),
        // The message does not quote a line that may be near a password, but includes the hint.
        ("# bob@example\nidle-timeout = 60", "\"60s\""),
    ] {
        let message = config(text).unwrap_err().to_string();
        assert!(message.contains(hint), "{text}: {message}");
    }
}

#[test]
fn limits_of_recordings_need_recordings() {
    for (text, place) in [
        ("[point.a]\nrecord-keep = 5", "point `a` has `record-keep`"),
        ("[defaults]\nrecord-max-total = '1GiB'\n[point.a]", "`[defaults]` has `record-max-total`"),
    ] {
        let message = config(text).unwrap_err().to_string();
        assert!(message.contains(place), "{message}");
    }
    assert!(config("[defaults]\nrecord-keep = 5\n[point.a]\nrecord = 'here'\n[point.b]").is_ok());
    assert!(config("[defaults]\nrecord = 'here'\n[point.a]\nrecord-keep = 5").is_ok());
}
