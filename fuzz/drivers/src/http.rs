//! The server's complete HTTP layer over sockets: requests that players and encoders do not send, and pushes that
//! fail.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use asf::test_util::{self, HeaderBuilder};
use bytes::Bytes;
use wmhttp::Hresult;
use wmhttp::packet::Packet;

use super::source::Source;

/// Time-out: no operation takes this long unless the server hangs.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum size of a response; the driver stops reading a player's stream after that.
const ENOUGH: usize = 64 * 1024;
const METHODS: &[&str] =
    &["GET", "POST", "OPTIONS", "PUT", "HEAD", "CONNECT", "PRI", "get", "G\0T", "", "GETGETGETGETGETGET"];
const TARGETS: &[&str] = &[
    "/concert",
    "/concert",
    "/fresh",
    "/",
    "*",
    "/../../etc/passwd",
    "/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/%00%ff%zz%",
    "http://other.example/concert",
    "//concert//",
    "/concert?format=asf",
    "/\u{7f}",
    "concert",
    "/%E2%80%AE",
];
const VERSIONS: &[&str] = &[" HTTP/1.1", " HTTP/1.1", " HTTP/1.0", "", " HTTP/2.0", " HTTP/9.9", " HTTP/1.1 x", " ICY"];
const ENDS: &[&str] = &["\r\n", "\r\n", "\r\n", "\n", "\r", "\n\r", "\r\n\t", "\0\r\n", ""];
const LINES: &[&str] = &[
    "Host: media",
    "Content-Type: application/x-wms-pushsetup",
    "Content-Type: application/x-wms-pushstart;charset=UTF-8",
    "Content-Type: application/x-wms-LogStats",
    "User-Agent: WMEncoder/12.0.0.0",
    "User-Agent: NSPlayer/11",
    "Cookie: push-id=0",
    "Cookie: push-id=deadbeef; push-id=0; a=b;;;=",
    "Content-Length: 0",
    "Content-Length: 4",
    "Content-Length: 4, 4",
    "Content-Length: -1",
    "Content-Length: +4",
    "Content-Length: 18446744073709551616",
    "Content-Length: 2147483647",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding: \u{b}chunked",
    "Expect: 100-continue",
    "Connection: keep-alive",
    "Connection: close, upgrade",
    "Upgrade: h2c",
    "Pragma: xPlayStrm=1, version11-enabled=1",
    "Pragma: xKeepAliveInPause=1",
    "Pragma: no-cache,rate=1.000000,stream-time=0,xClientGUID={}",
    "Authorization: Basic Og==",
    "Authorization: Digest username=\"",
    "X-Accept-Authentication: Digest, Basic",
    "Range: bytes=0-18446744073709551615",
    ": nameless",
    "no colon",
    " folded",
    "X\0Y: z",
];

/// Sends the requests or the push that `data` encodes on one connection. Returns the number of requests.
///
/// # Panics
/// If the server does not respond, or its response is not HTTP.
pub fn attack(address: SocketAddr, data: &[u8]) -> usize {
    let mut source = Source(data);
    let mut stream = TcpStream::connect(address).expect("the server takes connections");
    stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("a time-out");
    if source.byte() % 8 == 7 {
        push(&mut stream, &mut source);
        return 2;
    }
    let mut bytes = Vec::new();
    let mut requests = 0;
    while requests < 8 && (requests == 0 || !source.is_empty()) {
        request(&mut source, &mut bytes);
        requests += 1;
    }
    finish(&mut stream, &bytes);
    requests
}

/// Writes one request, which may be invalid.
fn request(source: &mut Source<'_>, out: &mut Vec<u8>) {
    if source.byte() % 16 == 15 {
        out.extend_from_slice(source.piece());
        return;
    }
    let line = [source.of(METHODS), " ", source.of(TARGETS), source.of(VERSIONS), source.of(ENDS)];
    line.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
    for _ in 0..source.byte() % 12 {
        let chosen = source.byte();
        match LINES.get(usize::from(chosen)) {
            Some(line) => out.extend_from_slice(line.as_bytes()),
            None if chosen > 250 => (0..source.word() % 4096).for_each(|_| out.push(b'a' + chosen % 26)),
            None => {
                let line = LINES[usize::from(chosen) % LINES.len()].split(':').next().unwrap_or_default();
                out.extend_from_slice(line.as_bytes());
                out.extend_from_slice(b": ");
                out.extend_from_slice(source.piece());
            }
        }
        out.extend_from_slice(source.of(ENDS).as_bytes());
    }
    out.extend_from_slice(source.of(ENDS).as_bytes());
    match source.byte() % 4 {
        0 => out.extend_from_slice(source.piece()),
        1 => (0..source.byte()).for_each(|_| out.extend_from_slice(b"1;extension=\"\"\r\nx\r\n")),
        _ => {}
    }
}

/// Starts a valid push.
fn push(stream: &mut TcpStream, source: &mut Source<'_>) {
    let head = |kind: &str, id: &str, length: u32| {
        format!(
            "POST /concert HTTP/1.1\r\nHost: media\r\nContent-Type: application/x-wms-push{kind}\r\n\
             User-Agent: WMEncoder/12.0.0.0\r\nContent-Length: {length}\r\nCookie: push-id={id}\r\n\r\n"
        )
    };
    let answer = say_and_hear(stream, head("setup", "0", 0).as_bytes());
    let Some(id) = answer.split("push-id=").nth(1).and_then(|rest| rest.split_whitespace().next()) else {
        // Another encoder may be using the publishing point.
        return;
    };
    let mut bytes = head("start", id, source.of(&[1 << 31, 2000, 7])).into_bytes();
    let header = HeaderBuilder::default().packet_size(200).build();
    let mut packet = |packet: Packet| bytes.extend(packet.to_bytes().unwrap_or_default());
    if !source.byte().is_multiple_of(8) {
        packet(Packet::Header(header.clone()));
    }
    while !source.is_empty() {
        match source.byte() % 8 {
            0 => packet(Packet::Data(Bytes::copy_from_slice(source.piece()))),
            1 => packet(Packet::End(Hresult(source.byte().into()))),
            2 => packet(Packet::Filler(source.byte().into())),
            3 => packet(Packet::StreamChange(header.clone())),
            4 => {
                let mut broken = header.to_vec();
                let at = usize::from(source.word()) % broken.len();
                broken[at] ^= source.byte();
                packet(Packet::StreamChange(broken.into()));
            }
            _ => {
                let mut media = test_util::packets(200, 1).concat();
                let at = usize::from(source.byte()) % media.len();
                media[at] ^= source.byte();
                packet(Packet::Data(media.into()));
            }
        }
    }
    finish(stream, &bytes);
}

/// Sends the rest, closes the sending side, and reads until the server closes.
fn finish(stream: &mut TcpStream, bytes: &[u8]) {
    // The server may already have closed the connection, so this write may fail.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    let mut chunk = [0; 16 * 1024];
    while answer.len() < ENOUGH && !is_stream(&answer) {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(len) => answer.extend_from_slice(&chunk[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let [asked, heard] = [bytes, &answer[..]].map(String::from_utf8_lossy);
                panic!("the server neither answers nor closes: {asked:?} {heard:?}")
            }
            Err(_) => break,
        }
    }
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&answer));
}

/// Whether one of the responses is a stream for a player. Such a response may stay silent as long as its encoder may.
fn is_stream(answers: &[u8]) -> bool {
    String::from_utf8_lossy(answers).contains("x-mms-framed")
}

fn say_and_hear(stream: &mut TcpStream, bytes: &[u8]) -> String {
    stream.write_all(bytes).expect("the server reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < ENOUGH {
        let mut byte = [0];
        if stream.read(&mut byte).expect("an answer") == 0 {
            break;
        }
        head.extend_from_slice(&byte);
    }
    String::from_utf8_lossy(&head).into_owned()
}

pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        // A play request, a setup with a body, a push, and a request with both lengths as used for request smuggling.
        b"\x00\x00\x00\x00\x00\x00\x02\x00\x00\x17\x00\x00\x02".to_vec(),
        b"\x00\x00\x01\x00\x00\x00\x05\x00\x00\x01\x00\x04\x00\x06\x00\x09\x00\x00\x00\x04\r\n\r\n".to_vec(),
        b"\x07\x00\x01\x05\x00\x00\x05\x09\x01\x00\x10abcdefghijklmnop\x03\x05\x00\x00\x01\x00".to_vec(),
        b"\x00\x00\x01\x00\x00\x00\x06\x00\x00\x01\x00\x04\x00\x06\x00\x09\x00\x0f\x00\x00\x01\x03".to_vec(),
        b"\x00\x0f\x18PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"\x00\x0f\x05\x16\x03\x01\x02\x00".to_vec(),
    ]
}
