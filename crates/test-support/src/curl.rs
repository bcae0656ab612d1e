//! curl as an encoder: the protocol's requests with another client's authentication, TLS and proxies.

use std::path::Path;
use std::process::{Command, Output};

use crate::web::Answer;

/// The result of a request.
#[derive(Debug)]
pub struct Outcome {
    /// The status of the last response.
    pub status: u16,
    /// Number of TCP connections.
    pub connections: u32,
    /// The heads of all responses.
    pub heads: String,
    /// The heads of all requests.
    pub requests: Vec<String>,
}

impl Outcome {
    fn read(output: &Output) -> Self {
        let told = String::from_utf8(output.stdout.clone()).unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        let (status, connections) =
            told.split_once(' ').unwrap_or_else(|| panic!("curl: {told} {log} ({:?})", output.status));
        let lines = |mark: &str| log.lines().filter_map(|line| line.strip_prefix(mark)).collect::<Vec<_>>().join("\n");
        Self {
            status: status.parse().unwrap(),
            connections: connections.parse().unwrap(),
            heads: lines("< "),
            requests: lines("> ").split("\n\n").map(str::to_owned).collect(),
        }
    }

    /// Returns the values of a header in all responses.
    pub fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let lines = self.heads.lines().filter_map(|line| line.split_once(": "));
        lines.filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn push_id(&self) -> &str {
        self.headers("Set-Cookie").last().unwrap().strip_prefix("push-id=").unwrap()
    }
}

/// curl's authentication options.
#[derive(Clone, Copy, Default)]
pub struct Curl<'a> {
    pub arguments: &'a [&'a str],
    pub environment: &'a [(&'static str, String)],
}

impl<'a> Curl<'a> {
    pub fn new(arguments: &'a [&'a str]) -> Self {
        Self { arguments, environment: &[] }
    }

    /// Sends a PushSetup.
    pub fn set_up(self, url: &str) -> Outcome {
        self.post(url, "setup", "0", "")
    }

    /// Sends a PushSetup for a new publishing point with the settings of another.
    pub fn set_up_from(self, url: &str, template: &str) -> Outcome {
        self.post(url, "setup", "0", &format!("Template-URL: {template}\r\n"))
    }

    /// Sends a PushStart whose body is a file.
    pub fn start(self, url: &str, push_id: &str, body: &Path) -> Outcome {
        self.post(url, "start", push_id, &format!("@{}", body.display()))
    }

    fn post(self, url: &str, kind: &str, push_id: &str, body: &str) -> Outcome {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--verbose", "--noproxy", "*", "--max-time", "60"])
            .args(["--output", "/dev/null", "--write-out", "%{http_code} %{num_connects}"])
            .args(["--user-agent", "WMEncoder/12.0.0.0", "--header", "Expect:"])
            .args(["--header", &format!("Content-Type: application/x-wms-push{kind}")])
            .args(["--header", &format!("Cookie: push-id={push_id}")])
            .args(["--header", "X-Accept-Authentication: Negotiate, NTLM, Digest, Basic"])
            .args(self.arguments)
            .args(["--data-binary", body, url])
            .envs(self.environment.iter().cloned())
            .output()
            .unwrap();
        Outcome::read(&output)
    }
}

/// Sends a GET, or another request according to the arguments.
pub fn get(url: &str, arguments: &[&str]) -> Answer {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--include", "--noproxy", "*", "--max-time", "60"])
        .args(arguments)
        .arg(url)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.is_empty(), "curl: {:?}", output.status);
    Answer::read(&text)
}
