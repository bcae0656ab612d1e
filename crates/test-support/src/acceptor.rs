//! A server's authentication with another implementation than the sink's: the system's GSSAPI.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tempfile::TempDir;

/// Authenticates one connection.
pub struct Acceptor {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _users: TempDir,
}

/// The result of a token.
#[derive(Debug, PartialEq, Eq)]
pub enum AuthResult {
    /// The client must answer this token.
    Continue(String),
    /// The client is authenticated as this user.
    Accepted(String),
    Refused,
}

impl Acceptor {
    /// Starts an acceptor. `scheme` is NTLM or Negotiate. `user` belongs to the domain STUDIO, unless it is a
    /// principal's name, which has no domain.
    pub fn new(scheme: &str, user: &str, password: &str) -> Self {
        let users = TempDir::new().unwrap();
        let file = users.path().join("users");
        let domain = if user.contains('@') { "" } else { "STUDIO" };
        fs::write(&file, format!("{domain}:{user}:{password}\n")).unwrap();
        // Debian's package works only with Debian's own interpreter.
        let mut process = Command::new("/usr/bin/python3")
            .args([concat!(env!("CARGO_MANIFEST_DIR"), "/src/acceptor.py"), scheme])
            .env("NTLM_USER_FILE", file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 with python3-gssapi and gss-ntlmssp: scripts/install-deps test");
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, input, output, _users: users }
    }

    /// Processes a token of the client.
    pub fn step(&mut self, token: &str) -> AuthResult {
        writeln!(self.input, "{token}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let (result, rest) = line.trim_end().split_once(' ').unwrap_or_else(|| panic!("the acceptor printed {line:?}"));
        match result {
            "continue" => AuthResult::Continue(rest.to_owned()),
            "accepted" => AuthResult::Accepted(rest.to_owned()),
            _ => AuthResult::Refused,
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
