//! The server as its operator has it: configuration file and reload, TLS, rights, logs, systemd.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use test_support::authority::Authority;
use test_support::curl::Curl;
use test_support::media;
use test_support::peer::PATIENCE;
use test_support::pipeline::{Pushing, end, feed, until};
use test_support::server_process::PointProgram;

/// The password of both is `secret`.
const USERS: &str = "bob:push:0786f66609ee7d38256a25b55563aa64\neve:push:1e353811dc7ee6da20d7e55c9da5a0b4\n";
const BOB: &str = "bob:secret";

/// A server by this configuration file, in whose text `DIR` is the directory that the file is in.
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

/// Has it read another configuration; waits until its log says that it did, or did not.
fn reload(program: &PointProgram, text: &str) {
    const SAID: [&str; 2] = ["configuration reloaded", "reload failed"];
    let count = || SAID.map(|words| program.log().matches(words).count()).iter().sum::<usize>();
    let before = count();
    write(&program.directory().join("config.toml"), text, program.directory());
    program.signal(Signal::SIGHUP);
    until("the reload", || count() > before);
}

/// The status that a player, or a browser, gets.
fn status_of_get(program: &PointProgram, point: &str, arguments: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--noproxy", "*", "--max-time", "60", "--output", "/dev/null"])
        .args(["--write-out", "%{http_code}", "--user-agent", "NSPlayer/12.0"])
        .args(arguments)
        .arg(program.url(point))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn set_up(program: &PointProgram, point: &str, arguments: &[&str]) -> u16 {
    Curl::new(arguments).set_up(&program.url(point)).status
}

/// A push by the element that goes on until [`end`], to each of which this many packets came.
fn pushing(location: &str, properties: &str) -> (Pushing, gst::Element) {
    let (pushing, source) = Pushing::by_hand(&format!("location={location} {properties}"));
    pushing.play();
    (pushing, source)
}

#[test]
fn points_come_go_and_change_at_a_reload() {
    const STAYS: &str = "[point.concert]\n[point.hall]\n";
    let program = by_file(STAYS);
    let (stays, source) = pushing(&program.url("concert"), "sync=false");
    feed(&source, media::stream(50, 10));
    until("packets", || stays.count(0, "packets-sent") == 50);
    let (goes, hall_source) = pushing(&program.url("hall"), "sync=false auto-reconnect=false");
    feed(&hall_source, media::stream(50, 10));
    until("packets", || goes.count(0, "packets-sent") == 50);
    assert_eq!(status_of_get(&program, "new", &[]), "404");

    reload(&program, "[point.concert]\n[point.new]\n[point.moved]\nredirect = 'http://127.0.0.1:9/x'\n");
    let (error, details) = goes.wait_for_error();
    assert!(error.matches(gst::ResourceError::NotFound), "{error} {details:?}");
    assert_eq!(status_of_get(&program, "hall", &[]), "404");
    assert_eq!(status_of_get(&program, "new", &[]), "503");
    assert_eq!(status_of_get(&program, "moved", &[]), "302");

    // What is wrong changes nothing.
    reload(&program, "[point.concert]\nredirekt = 'x'\n");
    assert!(program.log().contains("unknown field `redirekt`"), "{}", program.log());
    assert_eq!(status_of_get(&program, "new", &[]), "503");
    // Nor does another address, before the next start.
    assert!(!program.log().contains("next start"), "{}", program.log());
    reload(&program, "status-listen = '192.0.2.1:9090'\n[point.concert]\n[point.new]\n");
    assert!(program.log().contains("`status-listen` changed: restart"), "{}", program.log());

    feed(&source, media::packets(50..100, 10));
    end(&source);
    stays.wait_for_eos();
    let (words, log) = program.stop();
    assert!(words.contains("point concert: sessions=1 headers=1 packets=100 "), "{words}{log}");
}

#[test]
fn flags_override_the_file() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("config.toml");
    // It could not listen there.
    fs::write(&file, "listen = '192.0.2.1:1'\n[point.concert]\n").unwrap();
    let file = file.display().to_string();
    let program = PointProgram::start_in(directory, &["--config", &file, "--point", "hall"]);
    for point in ["concert", "hall"] {
        assert_eq!(status_of_get(&program, point, &[]), "503");
    }
}

/// A push by https arrives, a player gets it by https; a new certificate counts from the reload on, and for new
/// connections alone.
#[test]
fn tls_with_a_certificate_that_is_renewed() {
    const CONFIG: &str = "[tls]\nlisten = '127.0.0.1:0'\ncertificate = 'DIR/tls.crt'\nkey = 'DIR/tls.key'\n\
        [point.concert]\n";
    let authority = Authority::new();
    let [certificate, key] = authority.signed_files("127.0.0.1", "first");
    let directory = TempDir::new().unwrap();
    let install = |directory: &Path, certificate: &Path, key: &Path| {
        fs::copy(certificate, directory.join("tls.crt")).unwrap();
        fs::copy(key, directory.join("tls.key")).unwrap();
    };
    install(directory.path(), &certificate, &key);
    let file = directory.path().join("config.toml");
    write(&file, CONFIG, directory.path());
    let file = file.display().to_string();
    let mut program = PointProgram::start_in(directory, &["--config", &file]);
    let address = program.next_address("https");

    let location = format!("https://{address}/concert");
    let (pushing, source) = pushing(&location, &format!("sync=false {}", authority.trusted()));
    feed(&source, media::stream(100, 10));
    until("packets", || pushing.count(0, "packets-sent") == 100);

    let other = Authority::new();
    let [certificate, key] = other.signed_files("127.0.0.1", "second");
    install(program.directory(), &certificate, &key);
    let describe = |authority: &Authority| {
        let output = Command::new("curl")
            .args(["--silent", "--noproxy", "*", "--max-time", "60", "--user-agent", "NSPlayer/12.0", "--cacert"])
            .args([authority.file("ca.pem").as_os_str(), location.as_ref()])
            .output()
            .unwrap();
        (output.status.success(), output.stdout)
    };
    let (trusted, header) = describe(&authority);
    assert!(trusted && header.starts_with(b"$H"), "{header:?}");
    assert!(!describe(&other).0);
    // S-4: the ASX to one who is no encoder names the URL by which it came.
    let stranger = Command::new("curl")
        .args(["--silent", "--noproxy", "*", "--max-time", "60", "--data", "", "--user-agent", "stranger"])
        .args(["--header", "Content-Type: application/x-wms-pushsetup", "--cacert"])
        .args([authority.file("ca.pem").as_os_str(), location.as_ref()])
        .output()
        .unwrap();
    let asx = String::from_utf8(stranger.stdout).unwrap();
    assert!(asx.contains(&format!("\"{location}\"")), "{asx}");
    reload(&program, CONFIG);
    assert!(!describe(&authority).0);
    let (trusted, header) = describe(&other);
    assert!(trusted && header.starts_with(b"$H"), "{header:?}");

    // A file that is no certificate leaves the one there is.
    fs::write(program.directory().join("tls.crt"), "nothing").unwrap();
    reload(&program, CONFIG);
    assert!(program.log().contains("tls.crt: "), "{}", program.log());
    assert!(describe(&other).0);

    feed(&source, media::packets(100..200, 10));
    end(&source);
    pushing.wait_for_eos();
    let (words, log) = program.stop();
    assert!(words.contains("point concert: sessions=1 headers=1 packets=200 "), "{words}{log}");
}

/// Who speaks no TLS to the address that does, or the other way round, is refused and harms nobody.
#[test]
fn tls_and_none_do_not_mix() {
    let authority = Authority::new();
    let [certificate, key] = authority.signed_files("127.0.0.1", "one").map(|file| file.display().to_string());
    let arguments = ["--point", "concert", "--tls-listen", "127.0.0.1:0", "--tls-certificate", &certificate];
    let mut program = PointProgram::start(&[&arguments[..], &["--tls-key", &key]].concat());
    let address = program.next_address("https");
    let wrong = |url: String| {
        let arguments = ["--silent", "--insecure", "--noproxy", "*", "--max-time", "60", &url];
        !Command::new("curl").args(arguments).output().unwrap().status.success()
    };
    assert!(wrong(format!("http://{address}/concert")));
    assert!(wrong(format!("https://{}/concert", program.address)));
    assert_eq!(status_of_get(&program, "concert", &[]), "503");
}

/// Each point says who may push, make others from it, and play.
#[test]
fn s6_s8_rights_of_each_point() {
    let directory = TempDir::new().unwrap();
    let users = directory.path().join("users");
    fs::write(&users, USERS).unwrap();
    let file = directory.path().join("config.toml");
    let text = "users = 'DIR/users'\n\
        [point.open]\nwrite = 'everybody'\n\
        [point.bobs]\nwrite = ['bob']\nread = ['bob']\n\
        [point.template]\ncreate = ['bob']\n\
        [point.users]\nread = 'users'\n";
    write(&file, text, directory.path());
    let file = file.display().to_string();
    let program = PointProgram::start_in(directory, &["--config", &file]);
    let (nobody, bob, eve) = (&[][..], &["--digest", "--user", BOB][..], &["--digest", "--user", "eve:secret"][..]);

    assert_eq!(set_up(&program, "open", nobody), 204);
    assert_eq!([nobody, eve, bob].map(|who| set_up(&program, "bobs", who)), [401, 403, 204]);
    assert_eq!(set_up(&program, "template", eve), 204);
    // Who is unknown is not told what there is.
    assert_eq!([nobody, bob].map(|who| set_up(&program, "nowhere", who)), [401, 404]);
    let template = |who: &[&str], template: &str| {
        let url = program.url(&format!("made-{template}"));
        Curl::new(who).set_up_from(&url, &format!("/{template}")).status
    };
    assert_eq!([nobody, eve, bob].map(|who| template(who, "template")), [401, 403, 204]);
    assert_eq!(template(eve, "bobs"), 403);

    assert_eq!([nobody, eve, bob].map(|who| status_of_get(&program, "open", who)), ["503"; 3]);
    assert_eq!([nobody, eve, bob].map(|who| status_of_get(&program, "bobs", who)), ["401", "403", "503"]);
    assert_eq!([nobody, eve, bob].map(|who| status_of_get(&program, "users", who)), ["401", "503", "503"]);
    let basic = ["--basic", "--user", BOB];
    assert_eq!(status_of_get(&program, "bobs", &basic), "503");
}

/// A command line that cannot be is refused with what is wrong and what to write; a server without a point says so.
#[test]
fn what_cannot_be_is_said() {
    for (arguments, words) in [
        (&["--listen", "localhost:8080"][..], &["--listen", "0.0.0.0:8080"][..]),
        (&["--status-listen", "9090"], &["--status-listen", "0.0.0.0:8080"]),
        // It could not listen there.
        (&["--listen", "192.0.2.1:1", "--log", "verbose"], &["`verbose` is no level", "debug"]),
        (&["--listen", "127.0.0.1:0", "--point", "a", "--record", "/dev/null/x"], &["recordings /dev/null/x", "made"]),
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
    assert_eq!(set_up(&program, "concert", &[]), 204);
    let log = program.stop().1;
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let begins = lines.iter().find(|line| line["message"] == "push session opened").unwrap();
    assert_eq!((&begins["point"], &begins["level"]), (&"concert".into(), &"INFO".into()), "{log}");
    assert!(begins["timestamp"].as_str().unwrap().starts_with("20"), "{log}");
}

/// systemd hears when the service is ready, reads its configuration anew, and ends.
#[test]
fn systemd_is_told() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_asf-publishing-point"));
    let program = PointProgram::spawn(command.env("NOTIFY_SOCKET", &path), directory);
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
    assert!(heard().contains("STOPPING=1"));
}

/// systemd of this system understands the unit, and finds little to object to.
#[test]
fn the_unit_is_in_order() {
    let directory = TempDir::new().unwrap();
    let text = fs::read_to_string(test_support::root().join("packaging/asf-publishing-point.service")).unwrap();
    let unit = directory.path().join("asf-publishing-point.service");
    fs::write(&unit, text.replace("/usr/bin/asf-publishing-point", env!("CARGO_BIN_EXE_asf-publishing-point")))
        .unwrap();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("asf-publishing-point.service"), "{said}");
    let arguments = ["security", "--offline=true", "--threshold=20"];
    let output = Command::new("systemd-analyze").args(arguments).arg(&unit).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
