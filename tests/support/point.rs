//! The server's program in a process of its own, and what the system tells of that.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::peer::PATIENCE;

/// `asf-publishing-point`. Dropped, it ends; so it does with the test's process.
pub struct Program {
    child: Child,
    pub address: SocketAddr,
    directory: TempDir,
}

impl Program {
    /// Starts it with these arguments and this configuration file.
    pub fn start(arguments: &[&str], config: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("config.toml");
        fs::write(&file, config).unwrap();
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_asf-publishing-point"), "--listen", "127.0.0.1:0"])
            .arg("--config")
            .arg(&file)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(fs::File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").and_then(|address| address.parse().ok());
        let log = || fs::read_to_string(directory.path().join("log")).unwrap();
        Self { address: address.unwrap_or_else(|| panic!("{line}{}", log())), child, directory }
    }

    /// Memory that the process has in RAM, KiB.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Sends these bytes from the loopback's usual address, and reads what comes until the server closes.
    pub fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A server that closes over what it has not read resets the connection after its answer.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// It still answers.
    pub fn is_well(&self) {
        let answer = self.ask("OPTIONS / HTTP/1.1\r\nHost: media\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// Has it read this configuration, at some time from now on.
    pub fn reload(&self, config: &str) {
        fs::write(self.directory.path().join("config.toml"), config).unwrap();
        let told = Command::new("kill").args(["-HUP", &self.child.id().to_string()]).status().unwrap();
        assert!(told.success());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Ends it as an administrator does; its log.
    pub fn stop(mut self) -> String {
        let ended = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(ended.success());
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
        self.log()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
