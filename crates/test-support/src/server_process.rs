//! `asf-publishing-point` in a separate process.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::LazyLock;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::peer::TEST_TIMEOUT;
use crate::usage::Usage;

/// A free port.
const FREE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// The name of the configuration file in the server's directory.
const CONFIG: &str = "config.toml";

/// The process, which ends on drop.
pub struct PointProgram {
    child: Child,
    out: BufReader<ChildStdout>,
    pub address: SocketAddr,
    directory: TempDir,
}

impl PointProgram {
    /// Starts it with these arguments, on a free loopback port.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_in(TempDir::new().unwrap(), arguments)
    }

    /// Starts it with a directory that already contains files.
    pub fn start_in(directory: TempDir, arguments: &[&str]) -> Self {
        Self::spawn(Command::new(crate::server_program()).args(arguments), directory)
    }

    /// Starts it with this configuration file.
    pub fn configured(arguments: &[&str], config: &str) -> Self {
        Self::configured_at(FREE, arguments, config)
    }

    /// Starts it with this configuration file at this address.
    pub fn configured_at(address: SocketAddr, arguments: &[&str], config: &str) -> Self {
        // Keep the binary of the first start, because cargo may replace it during a long test.
        static BINARY: LazyLock<File> = LazyLock::new(|| File::open(crate::server_program()).unwrap());
        let directory = TempDir::new().unwrap();
        let file = directory.path().join(CONFIG);
        fs::write(&file, config).unwrap();
        let mut command = Command::new(format!("/proc/{}/fd/{}", std::process::id(), BINARY.as_raw_fd()));
        Self::spawn_at(address, command.arg("--config").arg(file).args(arguments), directory)
    }

    /// Writes this configuration and sends SIGHUP; the server reads it some time later.
    pub fn reload(&self, config: &str) {
        fs::write(self.directory().join(CONFIG), config).unwrap();
        self.signal(Signal::SIGHUP);
    }

    /// Runs a command that is the server or executes it.
    pub fn spawn(command: &mut Command, directory: TempDir) -> Self {
        Self::spawn_at(FREE, command, directory)
    }

    fn spawn_at(address: SocketAddr, command: &mut Command, directory: TempDir) -> Self {
        let mut child = command
            .args(["--listen", &address.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut program = Self { child, out, address, directory };
        program.address = program.next_address("http");
        program
    }

    /// Returns the next address on which it prints that it listens.
    pub fn next_address(&mut self, scheme: &str) -> SocketAddr {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").and_then(|url| url.strip_prefix(scheme));
        let address = address.and_then(|address| address.strip_prefix("://"));
        address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("{line}{}", self.log()))
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

    /// Returns the resident memory of the process in KiB.
    pub fn resident(&self) -> u64 {
        self.usage().resident
    }

    pub fn usage(&self) -> Usage {
        Usage::of(self.pid())
    }

    /// Asserts that it responds to requests.
    pub fn is_well(&self) {
        let answer = self.ask("OPTIONS / HTTP/1.1\r\nHost: media\r\nConnection: close\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// Returns its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        signal::kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Sends a request and reads until the server closes the connection.
    pub fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Ends it like an administrator, and returns its last output and its log.
    pub fn stop(self) -> (String, String) {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// Waits until it exits successfully, and returns its last output and its log.
    pub fn wait(mut self) -> (String, String) {
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
