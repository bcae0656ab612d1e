//! A terminal for a program that draws on the screen.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::pty::{Winsize, openpty};

use crate::pipeline::until;

const ROWS: NonZero<u16> = NonZero::new(30).unwrap();
const COLUMNS: NonZero<u16> = NonZero::new(80).unwrap();

/// A terminal and the program that runs on it, which ends on drop.
pub struct Terminal {
    program: Child,
    keyboard: File,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    pub fn running(program: &Path, arguments: &[&str]) -> Self {
        let size = Winsize { ws_row: ROWS.get(), ws_col: COLUMNS.get(), ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        // `setsid` makes it the program's controlling terminal, instead of the one on which the tests may run.
        let program = Command::new("setsid")
            .args(["--ctty", program.to_str().unwrap()])
            .args(arguments)
            .env("TERM", "xterm-256color")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        drop(pty.slave);
        let mut shown = File::from(pty.master);
        let keyboard = shown.try_clone().unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(ROWS, COLUMNS, 0)));
        let drawn = Arc::clone(&screen);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // An error means the end: no process has the terminal open.
            while let Ok(read @ 1..) = shown.read(&mut bytes) {
                drawn.lock().unwrap().process(&bytes[..read]);
            }
        });
        Self { program, keyboard, screen }
    }

    /// Returns the contents of the screen, line by line.
    pub fn screen(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Returns the first line that contains a bar and `text`.
    pub fn row(&self, text: &str) -> Option<String> {
        self.screen().lines().find(|line| line.contains(['░', '█']) && line.contains(text)).map(str::to_owned)
    }

    pub fn press(&self, keys: &str) {
        (&self.keyboard).write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the program exits successfully.
    pub fn wait(mut self) {
        until("the program ends", || self.program.try_wait().unwrap().is_some());
        assert!(self.program.wait().unwrap().success(), "{}", self.screen());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.screen());
        }
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
