//! The program `asf-publishing-point`, with a point `concert`.

use std::net::SocketAddr;

use super::program::Program;

pub struct Point {
    pub program: Program,
    pub address: SocketAddr,
}

impl Point {
    /// Starts it behind `prefix`, which replaces the shell by it, and waits until it listens.
    pub fn start(prefix: &str, arguments: &str) -> Self {
        let program = Program::shell(&command(prefix, arguments));
        program.wait_for("listening on http://");
        let address = program.lines("listening on http://")[0]["listening on http://".len()..].parse().unwrap();
        Self { program, address }
    }
}

/// Its command line.
pub fn command(prefix: &str, arguments: &str) -> String {
    let binary = env!("CARGO_BIN_EXE_asf-publishing-point");
    format!("{prefix} {binary} --listen 127.0.0.1:0 --point concert {arguments}")
}
