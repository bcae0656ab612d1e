//! A program that a test runs, and its output.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::pipeline::until;

/// Returns a command without the environment variables that cargo sets for tests.
fn outside_cargo(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let told = name.to_str().is_some_and(|name| name.starts_with("CARGO_") && name != "CARGO_HOME");
        if told {
            command.env_remove(name);
        }
    }
    command
}

/// A running program. On drop it ends, together with its child processes.
pub struct Program {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Program {
    /// Runs a shell command in the project's folder, without a terminal.
    pub fn shell(line: &str) -> Self {
        let mut child = outside_cargo("sh")
            .args(["-c", line])
            .current_dir(crate::root())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(vec![line.to_owned()]));
        let out: Box<dyn Read + Send> = Box::new(child.stdout.take().unwrap());
        let errors: Box<dyn Read + Send> = Box::new(child.stderr.take().unwrap());
        let readers = [out, errors].map(|stream| {
            let lines = Arc::clone(&lines);
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    lines.lock().unwrap().push(line);
                }
            })
        });
        Self { child, lines, readers: readers.into() }
    }

    /// Returns the lines so far that begin with `start`.
    pub fn lines(&self, start: &str) -> Vec<String> {
        self.lines.lock().unwrap().iter().filter(|line| line.starts_with(start)).cloned().collect()
    }

    /// Waits for a line that begins with `start`.
    pub fn wait_for(&self, start: &str) {
        until(start, || !self.lines(start).is_empty());
    }

    /// Sends SIGINT, like Ctrl-C.
    pub fn interrupt(&self) {
        self.signal(Signal::SIGINT);
    }

    pub fn signal(&self, signal: Signal) {
        killpg(self.group(), signal).unwrap();
    }

    /// Waits until the program exits successfully, and returns its output.
    pub fn output(self) -> Vec<String> {
        let (status, output) = self.end();
        assert!(status.success(), "{status}: {output:?}");
        output
    }

    /// Waits until the program exits with status 1, and returns its output.
    pub fn failed_output(self) -> Vec<String> {
        let (status, output) = self.end();
        assert_eq!(status.code(), Some(1), "{status}: {output:?}");
        output
    }

    fn end(mut self) -> (ExitStatus, Vec<String>) {
        until("the program ends", || self.child.try_wait().unwrap().is_some());
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        (self.child.wait().unwrap(), self.lines(""))
    }

    fn group(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.lines("").join("\n"));
        }
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = killpg(self.group(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}
