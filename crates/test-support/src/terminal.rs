//! A terminal for a program that draws on one.

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
const COLUMNS: NonZero<u16> = NonZero::new(110).unwrap();

/// A terminal and the program that runs on it. Dropped, the program ends.
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
        // `setsid` makes it the program's own terminal, in place of the one that the tests may run on.
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
            // An error is the end: nobody has the terminal open any more.
            while let Ok(read @ 1..) = shown.read(&mut bytes) {
                drawn.lock().unwrap().process(&bytes[..read]);
            }
        });
        Self { program, keyboard, screen }
    }

    /// What is on the screen, line by line.
    pub fn screen(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// The first line with a bar and with `text`.
    pub fn row(&self, text: &str) -> Option<String> {
        self.screen().lines().find(|line| line.contains(['░', '█']) && line.contains(text)).map(str::to_owned)
    }

    pub fn press(&self, keys: &str) {
        (&self.keyboard).write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the program's end, by itself and well.
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
