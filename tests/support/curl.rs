//! curl as an encoder: another client's authentication, TLS and proxies in front of the protocol's requests.

use std::path::Path;
use std::process::Command;

/// What came back.
#[derive(Debug)]
pub struct Outcome {
    /// The last response's.
    pub status: u16,
    /// TCP connections made.
    pub connections: u32,
    /// The heads of all responses.
    pub heads: String,
    /// The heads of all requests.
    pub requests: Vec<String>,
}

impl Outcome {
    /// Values of a header, over all responses.
    pub fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let lines = self.heads.lines().filter_map(|line| line.split_once(": "));
        lines.filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn push_id(&self) -> &str {
        self.headers("Set-Cookie").last().unwrap().strip_prefix("push-id=").unwrap()
    }
}

/// A PushSetup; `arguments` are curl's.
pub fn set_up(url: &str, arguments: &[&str]) -> Outcome {
    post(url, "setup", "0", arguments, &["--data-binary", ""])
}

/// A PushStart whose body is a file.
pub fn start(url: &str, push_id: &str, body: &Path, arguments: &[&str]) -> Outcome {
    post(url, "start", push_id, arguments, &["--data-binary", &format!("@{}", body.display())])
}

fn post(url: &str, kind: &str, push_id: &str, arguments: &[&str], body: &[&str]) -> Outcome {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--verbose", "--noproxy", "*", "--max-time", "60"])
        .args(["--output", "/dev/null", "--write-out", "%{http_code} %{num_connects}"])
        .args(["--user-agent", "WMEncoder/12.0.0.0", "--header", "Expect:"])
        .args(["--header", &format!("Content-Type: application/x-wms-push{kind}")])
        .args(["--header", &format!("Cookie: push-id={push_id}")])
        .args(["--header", "X-Accept-Authentication: Negotiate, NTLM, Digest, Basic"])
        .args(arguments)
        .args(body)
        .arg(url)
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let (status, connections) =
        told.split_once(' ').unwrap_or_else(|| panic!("curl: {told} {log} ({:?})", output.status));
    let lines = |mark: &str| log.lines().filter_map(|line| line.strip_prefix(mark)).collect::<Vec<_>>().join("\n");
    Outcome {
        status: status.parse().unwrap(),
        connections: connections.parse().unwrap(),
        heads: lines("< "),
        requests: lines("> ").split("\n\n").map(str::to_owned).collect(),
    }
}
