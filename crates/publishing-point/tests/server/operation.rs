//! The server program for its operator: configuration file and reload, TLS, rights, logs, systemd.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use test_support::media;
use test_support::peer::TEST_TIMEOUT;
use test_support::pipeline::{Pushing, end, push_bytes, until};
use test_support::server_process::PointProgram;
use test_support::web::Answer;
use test_support::wire::{CONCERT, Wire};

#[cfg(feature = "interop")]
mod interop;

/// Starts a server with this configuration file. `DIR` in its text stands for the directory of the file.
fn by_file(text: &str) -> PointProgram {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("config.toml");
    write(&file, text, directory.path());
    let file = file.display().to_string();
    PointProgram::start_in(directory, &["--config", &file])
}

fn write(file: &Path, text: &str, directory: &Path) {
    fs::write(file, text.replace("DIR", &directory.display().to_string())).unwrap();
}

/// Reloads another configuration; waits until the log reports the success or the failure.
fn reload(program: &PointProgram, text: &str) {
    const SAID: [&str; 2] = ["configuration reloaded", "reload failed"];
    let count = || SAID.map(|words| program.log().matches(words).count()).iter().sum::<usize>();
    let before = count();
    write(&program.directory().join("config.toml"), text, program.directory());
    program.signal(Signal::SIGHUP);
    until("the reload", || count() > before);
}

/// Returns the status of a response to a player.
fn status_of_get(program: &PointProgram, point: &str) -> u16 {
    Answer::read(&program.ask(&format!("GET /{point} HTTP/1.0\r\nUser-Agent: NSPlayer/12.0\r\n\r\n"))).status
}

/// Starts a push by the element. The caller feeds the packets and the end.
fn pushing(location: &str, properties: &str) -> (Pushing, gst::Element) {
    let (pushing, source) = Pushing::with_feed_source(&format!("location={location} {properties}"));
    pushing.play();
    (pushing, source)
}

#[test]
fn a_reload_adds_removes_and_changes_points() {
    const STAYS: &str = "[point.concert]\n[point.hall]\n";
    let program = by_file(STAYS);
    let (stays, source) = pushing(&program.url("concert"), "sync=false");
    push_bytes(&source, media::stream(50, 10));
    until("packets", || stays.count(0, "packets-sent") == 50);
    let (goes, hall_source) = pushing(&program.url("hall"), "sync=false auto-reconnect=false");
    push_bytes(&hall_source, media::stream(50, 10));
    until("packets", || goes.count(0, "packets-sent") == 50);
    assert_eq!(status_of_get(&program, "new"), 404);

    reload(&program, "[point.concert]\n[point.new]\n[point.moved]\nredirect = 'http://127.0.0.1:9/x'\n");
    let (error, details) = goes.wait_for_error();
    assert!(error.matches(gst::ResourceError::NotFound), "{error} {details:?}");
    assert_eq!(status_of_get(&program, "hall"), 404);
    assert_eq!(status_of_get(&program, "new"), 503);
    assert_eq!(status_of_get(&program, "moved"), 302);

    // An invalid configuration changes nothing.
    reload(&program, "[point.concert]\nredirekt = 'x'\n");
    assert!(program.log().contains("unknown field `redirekt`"), "{}", program.log());
    assert_eq!(status_of_get(&program, "new"), 503);
    // A new address takes effect only at the next start.
    assert!(!program.log().contains("`status-listen` has changed"), "{}", program.log());
    reload(&program, "status-listen = '192.0.2.1:9090'\n[point.concert]\n[point.new]\n");
    assert!(program.log().contains("`status-listen` has changed"), "{}", program.log());

    push_bytes(&source, media::packets(50..100, 10));
    end(&source);
    stays.wait_for_eos();
    let (words, log) = program.stop();
    assert!(words.contains("point concert: sessions=1 headers=1 packets=100 "), "{words}{log}");
}

#[test]
fn flags_override_the_file() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("config.toml");
    // The server cannot listen on this address.
    fs::write(&file, "listen = '192.0.2.1:1'\n[point.concert]\n").unwrap();
    let file = file.display().to_string();
    let program = PointProgram::start_in(directory, &["--config", &file, "--point", "hall"]);
    for point in ["concert", "hall"] {
        assert_eq!(status_of_get(&program, point), 503);
    }
}

/// An invalid command line is rejected with the error and the remedy; a server without a point logs a warning.
#[test]
fn invalid_settings_are_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = listener.local_addr().unwrap().to_string();
    for (arguments, words) in [
        (&["--listen", "localhost:8080"][..], &["--listen", "0.0.0.0:8080"][..]),
        (&["--status-listen", "9090"], &["--status-listen", "0.0.0.0:8080"]),
        // The server cannot listen on this address.
        (&["--listen", "192.0.2.1:1", "--log", "verbose"], &["`verbose` is not a log level", "debug"]),
        (&["--listen", "192.0.2.1:1"], &["cannot listen on 192.0.2.1:1", "use an address of this machine"]),
        (
            &["--listen", "127.0.0.1:0", "--status-listen", &busy],
            &["cannot listen on the status address", &busy, "choose another port"],
        ),
        (
            &["--listen", "127.0.0.1:0", "--point", "a", "--record", "/dev/null/x"],
            &["cannot create", "recordings /dev/null/x"],
        ),
        // Nobody can make a file there, the superuser neither.
        (
            &["--listen", "127.0.0.1:0", "--point", "a", "--record", "/proc"],
            &["cannot write recordings to /proc", "right"],
        ),
        (&["--point", "a", "--record-keep", "5"], &["`record-keep`", "nothing is recorded", "`record`"]),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_asf-publishing-point")).args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        assert!(words.iter().all(|word| said.contains(word)), "{arguments:?}: {said}");
    }
    let (_, log) = PointProgram::start(&[]).stop();
    assert!(log.contains("no publishing point") && log.contains("--point"), "{log}");
    let (_, log) = PointProgram::start(&["--point", "concert", "--log", "info,asf_publishing_point=debug"]).stop();
    assert!(!log.contains("no publishing point"), "{log}");
}

#[test]
fn the_log_can_be_json() {
    let program = PointProgram::start(&["--point", "concert", "--log-format", "json"]);
    assert_eq!(Wire::to(program.address).setup(CONCERT, "").status, 204);
    let log = program.stop().1;
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let begins = lines.iter().find(|line| line["message"] == "push session opened").unwrap();
    assert_eq!((&begins["point"], &begins["level"]), (&"concert".into(), &"INFO".into()), "{log}");
    assert!(begins["timestamp"].as_str().unwrap().starts_with("20"), "{log}");
}

/// The program notifies systemd when it is ready, when it reloads its configuration, and when it stops.
#[test]
fn systemd_is_notified() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_asf-publishing-point"));
    let command = command.args(["--drain-time", "10m"]).env("NOTIFY_SOCKET", &path);
    let program = PointProgram::spawn(command, directory);
    let heard = || {
        let mut message = [0; 200];
        let len = socket.recv(&mut message).unwrap();
        String::from_utf8(message[..len].to_vec()).unwrap()
    };
    assert!(heard().contains("READY=1"));
    program.signal(Signal::SIGHUP);
    let reloading = heard();
    assert!(reloading.contains("RELOADING=1") && reloading.contains("MONOTONIC_USEC="), "{reloading}");
    assert!(heard().contains("READY=1"));
    program.signal(Signal::SIGTERM);
    let stopping = heard();
    assert!(stopping.contains("STOPPING=1"), "{stopping}");
    // systemd must wait for the drain time, and for the shutdown after it.
    let time = stopping.lines().find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC=")?.parse::<u64>().ok());
    assert!(time.is_some_and(|time| time > 610_000_000), "{stopping}");
}

/// The unit allows a server the drain time of the documentation's example.
#[test]
fn the_unit_allows_the_drain_time_of_the_documentation() {
    let read = |file| fs::read_to_string(test_support::root().join(file)).unwrap();
    let seconds = |text: &str, before: &str, after: &str| -> u64 {
        let (_, rest) = text.split_once(before).unwrap();
        rest.split_once(after).unwrap().0.parse().unwrap()
    };
    let drain = seconds(&read("docs/scaling.md"), "drain-time = \"", "s\"");
    let unit = read("packaging/asf-publishing-point.service");
    let stop = seconds(&unit, "\nTimeoutStopSec=", "\n");
    assert!(stop >= drain + 45, "TimeoutStopSec={stop}, drain-time={drain}s");
}
