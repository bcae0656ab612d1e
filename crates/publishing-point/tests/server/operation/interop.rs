//! The server as operated with curl and systemd.

use std::process::Command;

use test_support::authority::Authority;
use test_support::curl::Curl;

use super::*;

/// The password of both users is `secret`.
const USERS: &str = "bob:push:0786f66609ee7d38256a25b55563aa64\neve:push:1e353811dc7ee6da20d7e55c9da5a0b4\n";

const BOB: &str = "bob:secret";

/// Returns the status that curl receives as a player, with these arguments.
fn curl_gets(program: &PointProgram, point: &str, arguments: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--noproxy", "*", "--max-time", "60", "--output", "/dev/null"])
        .args(["--write-out", "%{http_code}", "--user-agent", "NSPlayer/12.0"])
        .args(arguments)
        .arg(program.url(point))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn curl_sets_up(program: &PointProgram, point: &str, arguments: &[&str]) -> u16 {
    Curl::new(arguments).set_up(&program.url(point)).status
}
/// A push over https arrives, and a player receives it over https. A new certificate is used after the reload, and for
/// new connections only.
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
    push_bytes(&source, media::stream(100, 10));
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
    // S-4: the ASX file for a client that is not an encoder has the URL of the request.
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

    // An invalid certificate file does not replace the current certificate.
    fs::write(program.directory().join("tls.crt"), "nothing").unwrap();
    reload(&program, CONFIG);
    assert!(program.log().contains("tls.crt: "), "{}", program.log());
    assert!(describe(&other).0);

    push_bytes(&source, media::packets(100..200, 10));
    end(&source);
    pushing.wait_for_eos();
    let (words, log) = program.stop();
    assert!(words.contains("point concert: sessions=1 headers=1 packets=200 "), "{words}{log}");
}

/// A client without TLS on the TLS address, and one with TLS on the plain address, are refused without harm to others.
#[test]
fn tls_and_plain_http_do_not_mix() {
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
    assert_eq!(status_of_get(&program, "concert"), 503);
}

/// S-6, S-8: each point configures who may push, use it as a template, and play.
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

    assert_eq!(curl_sets_up(&program, "open", nobody), 204);
    assert_eq!([nobody, eve, bob].map(|who| curl_sets_up(&program, "bobs", who)), [401, 403, 204]);
    assert_eq!(curl_sets_up(&program, "template", eve), 204);
    // Clients that are not authenticated do not learn which points exist.
    assert_eq!([nobody, bob].map(|who| curl_sets_up(&program, "nowhere", who)), [401, 404]);
    let template = |who: &[&str], template: &str| {
        let url = program.url(&format!("made-{template}"));
        Curl::new(who).set_up_from(&url, &format!("/{template}")).status
    };
    assert_eq!([nobody, eve, bob].map(|who| template(who, "template")), [401, 403, 204]);
    assert_eq!(template(eve, "bobs"), 403);

    assert_eq!([nobody, eve, bob].map(|who| curl_gets(&program, "open", who)), ["503"; 3]);
    assert_eq!([nobody, eve, bob].map(|who| curl_gets(&program, "bobs", who)), ["401", "403", "503"]);
    assert_eq!([nobody, eve, bob].map(|who| curl_gets(&program, "users", who)), ["401", "503", "503"]);
    let basic = ["--basic", "--user", BOB];
    assert_eq!(curl_gets(&program, "bobs", &basic), "503");
}

/// systemd accepts the units, and rates their security as good.
#[test]
fn the_units_are_valid_and_secure() {
    assert_valid_and_secure("asf-publishing-point.service", "asf-publishing-point.service");
    assert_valid_and_secure("asf-publishing-point@.service", "asf-publishing-point@edge1.service");
}

/// The template unit has the same sandbox as the unit without instances.
#[test]
fn the_units_have_the_same_sandbox() {
    let sandbox = |name: &str| {
        let text = fs::read_to_string(test_support::root().join("packaging").join(name)).unwrap();
        let (_, rest) = text.split_once("\nWorkingDirectory=").unwrap();
        let (sandbox, _) = rest.split_once("\n[Install]").unwrap();
        sandbox.split_once('\n').unwrap().1.to_owned()
    };
    assert_eq!(sandbox("asf-publishing-point@.service"), sandbox("asf-publishing-point.service"));
}

fn assert_valid_and_secure(file: &str, name: &str) {
    let directory = TempDir::new().unwrap();
    let text = fs::read_to_string(test_support::root().join("packaging").join(file)).unwrap();
    let unit = directory.path().join(name);
    fs::write(&unit, text.replace("/usr/bin/asf-publishing-point", env!("CARGO_BIN_EXE_asf-publishing-point")))
        .unwrap();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("asf-publishing-point"), "{said}");
    let arguments = ["security", "--offline=true", "--threshold=20"];
    let output = Command::new("systemd-analyze").args(arguments).arg(&unit).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
