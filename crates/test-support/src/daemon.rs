//! A server program installed on the system, with its own folder, for the duration of a test.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::peer::TEST_TIMEOUT;

/// Number of attempts with another port, if another process took the free one.
const ATTEMPTS: u32 = 5;

/// A program in the foreground. It ends on drop, and with the test's process.
pub struct Daemon {
    child: Child,
    pub address: SocketAddr,
}

impl Daemon {
    /// Starts the command that `command` returns for a free loopback port, and waits until it listens there. Its output
    /// goes to the file `log`.
    pub fn start(log: &Path, mut command: impl FnMut(SocketAddr) -> Vec<String>) -> Self {
        for _ in 0..ATTEMPTS {
            let address = free_address();
            let arguments = command(address);
            // If the test is killed, Drop does not run.
            let child = Command::new("setpriv")
                .args(["--pdeathsig", "TERM"])
                .args(&arguments)
                .stdin(Stdio::null())
                .stdout(File::create(log).unwrap())
                .stderr(File::options().append(true).open(log).unwrap())
                .spawn()
                .unwrap();
            let mut daemon = Self { child, address };
            if daemon.listens() {
                return daemon;
            }
        }
        panic!("the program does not start: {}", std::fs::read_to_string(log).unwrap());
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it accepts connections; returns `false` if it exited instead.
    fn listens(&mut self) -> bool {
        let until = Instant::now() + TEST_TIMEOUT;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "the program neither listens nor exits");
            if TcpStream::connect(self.address).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Daemon {
    /// Sends SIGTERM, on which a program also ends its child processes.
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let until = Instant::now() + TEST_TIMEOUT;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Creates a folder that a server's unprivileged user can read.
pub fn folder() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Returns the program's path, because server programs are not on every user's PATH.
pub fn program(name: &str) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    let found = folders.map(|folder| folder.join(name)).find(|file| file.exists());
    let found = found.ok_or_else(|| io::Error::other(format!("{name} is missing: scripts/install-deps test")));
    found.unwrap().display().to_string()
}
