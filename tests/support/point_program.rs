//! `asf-publishing-point` in a process of its own.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::peer::PATIENCE;

/// Ends with its value.
pub struct PointProgram {
    child: Child,
    out: BufReader<ChildStdout>,
    /// Host and port.
    pub address: String,
    directory: TempDir,
}

impl PointProgram {
    /// Starts it with these arguments, on a free port of loopback.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_in(TempDir::new().unwrap(), arguments)
    }

    /// The same, with a directory for its files that holds some already.
    pub fn start_in(directory: TempDir, arguments: &[&str]) -> Self {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_asf-publishing-point")).args(arguments), directory)
    }

    /// Runs a command that is the server, or becomes it.
    pub fn spawn(command: &mut Command, directory: TempDir) -> Self {
        let mut child = command
            .args(["--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut program = Self { child, out, address: String::new(), directory };
        program.address = program.next_address("http");
        program
    }

    /// The address that it says next that it listens on.
    pub fn next_address(&mut self, scheme: &str) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").and_then(|url| url.strip_prefix(scheme));
        let address = address.and_then(|address| address.strip_prefix("://"));
        address.unwrap_or_else(|| panic!("{line}{}", self.log())).to_owned()
    }

    pub fn url(&self, point: &str) -> String {
        format!("http://{}/{point}", self.address)
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        signal::kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Sends a request and reads what comes until the server closes.
    pub fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Ends it as an administrator does: its last words, and its log.
    pub fn stop(mut self) -> (String, String) {
        self.signal(Signal::SIGTERM);
        let mut words = String::new();
        self.out.read_to_string(&mut words).unwrap();
        assert!(self.child.wait().unwrap().success());
        (words, self.log())
    }
}

impl Drop for PointProgram {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
