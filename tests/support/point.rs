//! The server's program with a configuration file, and what the system tells of its process.

use std::fs;
use std::net::SocketAddr;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::point_program::PointProgram;

/// Ends with its value.
pub struct Program {
    program: PointProgram,
    pub address: SocketAddr,
}

impl Program {
    /// Starts it with these arguments and this file.
    pub fn start(arguments: &[&str], config: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("config.toml");
        fs::write(&file, config).unwrap();
        let arguments = [&["--config", file.to_str().unwrap()], arguments].concat();
        let program = PointProgram::start_in(directory, &arguments);
        Self { address: program.address.parse().unwrap(), program }
    }

    /// Memory that the process has in RAM, KiB.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.program.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// It still answers.
    pub fn is_well(&self) {
        let answer = self.program.ask("OPTIONS / HTTP/1.1\r\nHost: media\r\nConnection: close\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// Has it read this configuration, at some time from now on.
    pub fn reload(&self, config: &str) {
        fs::write(self.program.directory().join("config.toml"), config).unwrap();
        self.program.signal(Signal::SIGHUP);
    }

    /// Ends it as an administrator does; its log.
    pub fn stop(self) -> String {
        let (_, log) = self.program.stop();
        log
    }
}
