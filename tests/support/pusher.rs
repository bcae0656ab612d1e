//! A pusher of few words: the protocol's requests as bytes on a connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use gstasfpush::wmhttp::Hresult;
use gstasfpush::wmhttp::packet::Packet;

use super::media;
use super::peer::PATIENCE;

pub const END: Packet = Packet::End(Hresult::OK);

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub fn request(kind: &str, id: &str, length: usize) -> Vec<u8> {
    let head = format!(
        "POST /concert HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-wms-push{kind}\r\n\
         User-Agent: WMEncoder/12.0.0.0\r\nContent-Length: {length}\r\nCookie: push-id={id}\r\n\r\n"
    );
    head.into_bytes()
}

/// The head of an answer, with what came before it.
pub fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// All that still comes; `None` where a reset ends it.
pub fn rest(stream: &mut TcpStream) -> Option<String> {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => Some(String::from_utf8_lossy(&rest).into_owned()),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
        Err(error) => panic!("{error}"),
    }
}

pub fn id_in(head: &str) -> String {
    let cookie = head.lines().find_map(|line| line.strip_prefix("Set-Cookie: push-id="));
    cookie.unwrap_or_else(|| panic!("no push-id in {head}")).to_owned()
}

/// A session whose PushSetup has been answered, and its id.
pub fn set_up(address: SocketAddr) -> (TcpStream, String) {
    let mut stream = connect(address);
    stream.write_all(&request("setup", "0", 0)).unwrap();
    let head = head(&mut stream);
    assert!(head.contains(" 204 "), "{head}");
    let id = id_in(&head);
    (stream, id)
}

/// A PushStart and the first packets of its body, all in one write: the next would meet the reset that a read is
/// to see.
pub fn start(stream: &mut TcpStream, id: &str, packets: impl IntoIterator<Item = Packet>) {
    let mut bytes = request("start", id, 2_147_483_647);
    bytes.extend(packets.into_iter().flat_map(|packet| packet.to_bytes().unwrap()));
    stream.write_all(&bytes).unwrap();
}

pub fn send(stream: &mut TcpStream, packets: impl IntoIterator<Item = Packet>) {
    let bytes: Vec<u8> = packets.into_iter().flat_map(|packet| packet.to_bytes().unwrap()).collect();
    stream.write_all(&bytes).unwrap();
}

/// `$E`, and the answer to it.
pub fn end(stream: &mut TcpStream) {
    send(stream, [END]);
    let answer = head(stream);
    assert!(answer.contains(" 204 "), "{answer}");
}

/// A header of [`media`], and so many packets.
pub fn numbered(packets: u32) -> impl Iterator<Item = Packet> {
    [Packet::Header(media::header())].into_iter().chain((0..packets).map(|n| Packet::Data(media::packet(n, 40))))
}
