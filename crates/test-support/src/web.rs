//! A minimal HTTP client: one request on its own connection, and its response.

use std::io::Read;
use std::net::SocketAddr;

use crate::wire::Wire;

/// A response with its body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Answer {
    /// Parses what arrived on a connection until it was closed.
    pub fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("not an HTTP response: {text}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// Returns the first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Requests a URL, `http://ADDRESS/PATH`, with these additional headers, each without its line break. A `Host` among
/// them replaces the default one.
pub fn get(url: &str, headers: &[&str]) -> Answer {
    ask("GET", url, headers)
}

/// Sends another method without a body.
pub fn ask(method: &str, url: &str, headers: &[&str]) -> Answer {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    let usual = format!("Host: {host}");
    let host_line = if headers.iter().any(|line| line.starts_with("Host: ")) { None } else { Some(&*usual) };
    // HTTP/1.0, so that the body ends with the connection.
    let lines = host_line.into_iter().chain(headers.iter().copied()).map(|line| format!("{line}\r\n"));
    let mut wire = Wire::to(host.parse::<SocketAddr>().unwrap());
    wire.send(format!("{method} {path} HTTP/1.0\r\nContent-Length: 0\r\n{}\r\n", lines.collect::<String>()));
    let mut text = String::new();
    wire.0.read_to_string(&mut text).unwrap();
    Answer::read(&text)
}
