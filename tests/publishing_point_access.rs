//! Who may push, and where pushers are sent: the server's program against curl and plain sockets.
#![cfg(feature = "publishing-point")]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use support::curl::Curl;
use support::media;
use support::peer::PATIENCE;
use tempfile::TempDir;

/// The password is `secret`.
const MD5: &str = "bob:push:0786f66609ee7d38256a25b55563aa64\n";
const SHA256: &str = "bob:push:dbd3e616330a8d2327c01b5dea58f97d26d447f2546fc7d00d86db4d1ecb94aa\n";
const BOB: &str = "bob:secret";

/// `asf-publishing-point` in a process of its own.
struct Program {
    child: Child,
    address: String,
    directory: TempDir,
}

impl Program {
    /// Lets the users named in a file push, with these further arguments.
    fn new(users: &str, arguments: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("users");
        fs::write(&file, users).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_asf-publishing-point"))
            .args(["--listen", "127.0.0.1:0", "--point", "concert", "--log", "trace", "--users"])
            .arg(&file)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(fs::File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { child, address, directory }
    }

    fn url(&self) -> String {
        format!("http://{}/concert", self.address)
    }

    /// Sends a request's head and reads what comes until the server closes.
    fn ask(&self, head: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Ends it as an administrator does: its last words, and its log.
    fn stop(mut self) -> (String, String) {
        let ended = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(ended.success());
        let mut words = String::new();
        self.child.stdout.as_mut().unwrap().read_to_string(&mut words).unwrap();
        assert!(self.child.wait().unwrap().success());
        (words, fs::read_to_string(self.directory.path().join("log")).unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn head(kind: &str, length: u32, further: &str) -> String {
    format!(
        "POST /concert HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-wms-push{kind}\r\n\
         User-Agent: WMEncoder/12.0.0.0\r\nContent-Length: {length}\r\nCookie: push-id=0\r\n{further}\r\n"
    )
}

/// S-6: curl gets in by each scheme, on the connection that it was asked on.
#[test]
fn s6_curl_is_let_in_by_each_scheme() {
    for (users, auth, argument, algorithm) in [
        (MD5.to_owned(), "digest", "--digest", "Digest MD5"),
        (SHA256.to_owned(), "digest", "--digest", "Digest SHA-256"),
        (format!("{MD5}{SHA256}"), "basic,digest", "--anyauth", "Digest"),
        (format!("{MD5}{SHA256}"), "basic", "--anyauth", "Basic"),
        (SHA256.to_owned(), "digest,basic", "--basic", "Basic"),
    ] {
        let program = Program::new(&users, &["--auth", auth]);
        let outcome = Curl::new(&[argument, "--user", BOB]).set_up(&program.url());
        assert_eq!((outcome.status, outcome.connections), (204, 1), "{outcome:?}");
        assert!(outcome.push_id().len() >= 32);
        let asked = usize::from(argument != "--basic");
        assert_eq!(outcome.requests.len(), 1 + asked, "{outcome:?}");
        let (scheme, algorithm) = algorithm.split_once(' ').unwrap_or((algorithm, ""));
        let last = &outcome.requests[asked];
        assert!(last.contains(&format!("Authorization: {scheme} ")) && last.contains(algorithm), "{last}");
        assert_eq!(Curl::new(&[argument, "--user", "bob:Secret"]).set_up(&program.url()).status, 401);
        assert_eq!(Curl::new(&[argument, "--user", "eve:secret"]).set_up(&program.url()).status, 401);
        assert_eq!(Curl::new(&[]).set_up(&program.url()).status, 401);
    }
}

/// A whole push, PushStart with credentials too; the log shows nothing that lets others in.
#[test]
fn s6_a_whole_push_by_curl_with_digest() {
    let program = Program::new(MD5, &[]);
    let arguments = ["--digest", "--user", BOB];
    let setup = Curl::new(&arguments).set_up(&program.url());
    assert_eq!(setup.status, 204, "{setup:?}");
    let body = program.directory.path().join("body");
    fs::write(&body, media::body(300)).unwrap();
    let start = Curl::new(&arguments).start(&program.url(), setup.push_id(), &body);
    assert_eq!(start.status, 204, "{start:?}");
    assert_eq!(start.requests.len(), 2);
    let basic = Curl::new(&["--basic", "--user", BOB]).set_up(&program.url());
    assert_eq!(basic.status, 204);
    let (words, log) = program.stop();
    assert!(words.contains("point concert: sessions=2 headers=1 packets=300 "), "{words}");
    assert!(log.contains("a pusher is let in") && log.contains("user=\"bob\""), "{log}");
    let nonces = setup.headers("WWW-Authenticate").flat_map(|challenge| challenge.split("nonce=\"").nth(1));
    let secrets = nonces.filter_map(|rest| rest.split('"').next());
    for secret in secrets.chain(["secret", "0786f666", "Ym9iOnNlY3JldA", setup.push_id(), basic.push_id()]) {
        assert!(!log.contains(secret), "{secret}:\n{log}");
    }
}

/// S-10: a PushStart without credentials is answered before its body comes, and closed.
#[test]
fn s10_a_push_start_is_refused_at_once() {
    let program = Program::new(MD5, &[]);
    let answer = program.ask(&head("start", 2_147_483_647, ""));
    assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert_eq!(answer.matches("\r\nWww-Authenticate: ").count(), 2, "{answer}");
}

/// Who overheard an answer cannot use it again: the request that it belongs to was made.
#[test]
fn s6_an_answer_is_good_once() {
    let program = Program::new(MD5, &[]);
    let outcome = Curl::new(&["--digest", "--user", BOB]).set_up(&program.url());
    assert_eq!(outcome.status, 204);
    let overheard = outcome.requests[1].lines().find(|line| line.starts_with("Authorization: ")).unwrap();
    let close = "Connection: close\r\n";
    let answer = program.ask(&head("setup", 0, &format!("{overheard}\r\n{close}")));
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("stale=true"), "{answer}");
    let forged = overheard.replace("response=\"", "response=\"0");
    let answer = program.ask(&head("setup", 0, &format!("{forged}\r\n{close}")));
    assert!(answer.starts_with("HTTP/1.1 401 ") && !answer.contains("stale"), "{answer}");
}

/// S-6, H-4: the challenge names what the client lists. Players are not asked.
#[test]
fn s6_h4_who_is_asked_and_how() {
    let program = Program::new(MD5, &[]);
    for (listed, digest, basic) in
        [("Negotiate, NTLM, Digest", true, false), ("Basic", false, true), ("NTLM", true, true)]
    {
        let further = format!("X-Accept-Authentication: {listed}\r\nConnection: close\r\n");
        let answer = program.ask(&head("setup", 0, &further));
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        let challenged = |scheme| answer.contains(&format!("\r\nWww-Authenticate: {scheme} realm=\"push\""));
        assert_eq!((challenged("Digest"), challenged("Basic")), (digest, basic), "{answer}");
    }
    let player = program.ask("GET /concert HTTP/1.0\r\nUser-Agent: NSPlayer/12.0\r\n\r\n");
    assert!(player.starts_with("HTTP/1.0 503 "), "nobody pushes: {player}");
}

/// S-5: who is sent elsewhere is not asked for a password, and players of a moved point follow.
#[test]
fn s5_redirects_by_configuration() {
    let redirects = ["--redirect", "concert=http://127.0.0.1:9/x", "--proxy-redirect", "hall=http://127.0.0.1:3128"];
    let program = Program::new(MD5, &redirects);
    let answer = program.ask(&head("setup", 0, ""));
    assert!(answer.starts_with("HTTP/1.1 302 "), "{answer}");
    assert!(answer.contains("\r\nLocation: http://127.0.0.1:9/x\r\n") && answer.contains("\r\nConnection: close\r\n"));
    let answer = program.ask(&head("setup", 0, "").replace("/concert", "/hall"));
    assert!(answer.starts_with("HTTP/1.1 305 ") && answer.contains("\r\nLocation: http://127.0.0.1:3128/\r\n"));
    for pragma in ["no-cache", "xPlayStrm=1"] {
        let player =
            program.ask(&format!("GET /concert HTTP/1.0\r\nUser-Agent: NSPlayer/12.0\r\nPragma: {pragma}\r\n\r\n"));
        assert!(player.starts_with("HTTP/1.0 302 Found\r\n"), "{player}");
        assert!(player.contains("\r\nLocation: http://127.0.0.1:9/x\r\n"), "{player}");
    }
    let player = program.ask("GET /hall HTTP/1.0\r\nUser-Agent: NSPlayer/12.0\r\n\r\n");
    assert!(player.starts_with("HTTP/1.0 404 "), "{player}");
}

/// What cannot be is said at the start, with the cause.
#[test]
fn bad_arguments_are_refused() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("users");
    fs::write(&file, "bob:push:secret\n").unwrap();
    let file = file.display().to_string();
    let good = directory.path().join("good");
    fs::write(&good, MD5).unwrap();
    let good = good.display().to_string();
    for (arguments, cause) in [
        (vec!["--users", "/no/such/file"], "No such file"),
        (vec!["--users", &file], "line 1 is not user:realm:hash"),
        (vec!["--auth", "digest"], "--users"),
        (vec!["--users", &good, "--auth", "ntlm"], "`digest` and `basic`"),
        (vec!["--redirect", "concert"], "no `=`"),
        (vec!["--redirect", "concert=elsewhere"], "no URL"),
        (vec!["--proxy-redirect", "concert=ftp://host/"], "neither with http: nor with https:"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_asf-publishing-point")).args(&arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(cause), "{arguments:?}: {said}");
    }
}
