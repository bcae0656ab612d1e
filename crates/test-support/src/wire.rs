//! A minimal client for both protocols, which sends and receives bytes on a connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};
use wmhttp::Hresult;
use wmhttp::packet::Packet;

use crate::peer::TEST_TIMEOUT;

pub const END: Packet = Packet::End(Hresult::OK);
/// A Content-Length that is longer than any test.
pub const LONG: u64 = 2_147_483_647;

/// The head of an encoder's request.
#[derive(Clone, Copy)]
pub struct Push<'a> {
    point: &'a str,
    id: &'a str,
    agent: &'a str,
    further: &'a str,
}

impl<'a> Push<'a> {
    pub const fn to(point: &'a str) -> Self {
        Self { point, id: "0", agent: "WMEncoder/12.0.0.0 test/1", further: "" }
    }

    pub fn id(self, id: &'a str) -> Self {
        Self { id, ..self }
    }

    pub fn agent(self, agent: &'a str) -> Self {
        Self { agent, ..self }
    }

    /// Adds further lines, each with its line break.
    pub fn further(self, further: &'a str) -> Self {
        Self { further, ..self }
    }

    pub fn setup(self, length: usize) -> String {
        self.head("setup", length as u64)
    }

    pub fn start(self, length: u64) -> String {
        self.head("start", length)
    }

    fn head(self, kind: &str, length: u64) -> String {
        let Self { point, id, agent, further } = self;
        format!(
            "POST /{point} HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-wms-push{kind}\r\n\
             User-Agent: {agent}\r\nContent-Length: {length}\r\nCookie: push-id={id}\r\n{further}\r\n"
        )
    }
}

/// A push to the publishing point `concert`.
pub const CONCERT: Push<'static> = Push::to("concert");

/// Returns a player's request.
pub fn play_request(point: &str) -> String {
    format!("GET /{point} HTTP/1.1\r\nHost: test\r\nPragma: xPlayStrm=1\r\n\r\n")
}

/// Returns the push-id that a response's head sets.
pub fn push_id(head: &str) -> &str {
    let id = head.lines().find_map(|line| line.strip_prefix("Set-Cookie: push-id="));
    id.unwrap_or_else(|| panic!("no push-id in {head}"))
}

/// A connection to a server.
pub struct Wire(pub TcpStream);

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    pub fn push_id(&self) -> String {
        push_id(&self.head).to_owned()
    }
}

impl Wire {
    pub fn to(address: SocketAddr) -> Self {
        Self::patient(TcpStream::connect(address).unwrap())
    }

    /// Connects from this loopback address.
    pub fn from(source: Ipv4Addr, to: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect_timeout(&to.into(), TEST_TIMEOUT).unwrap();
        Self::patient(socket.into())
    }

    fn patient(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
        Self(stream)
    }

    /// Returns the same connection for another thread.
    pub fn another(&self) -> Self {
        Self(self.0.try_clone().unwrap())
    }

    /// Sends a PushSetup, and returns the connection and the session's id.
    pub fn set_up(address: SocketAddr, push: Push<'_>) -> (Self, String) {
        let mut wire = Self::to(address);
        let response = wire.setup(push, "");
        assert_eq!(response.status, 204, "{response:?}");
        let id = response.push_id();
        (wire, id)
    }

    /// Sends all bytes; the server may already have closed the connection.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.0.write_all(bytes.as_ref())
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// Shuts down the sending side.
    pub fn close_writing(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    pub fn packet(&mut self, packet: Packet) {
        self.send(packet.to_bytes().unwrap());
    }

    /// Sends packets in one write.
    pub fn packets(&mut self, packets: impl IntoIterator<Item = Packet>) {
        self.send(bytes_of(packets));
    }

    /// Sends a PushSetup with this body, and returns the response.
    pub fn setup(&mut self, push: Push<'_>, body: &str) -> Response {
        self.send(push.setup(body.len()) + body);
        self.response()
    }

    /// Sends a PushStart and the first packets of its body in one write. A second write could fail because of a reset
    /// that a read should report.
    pub fn start(&mut self, push: Push<'_>, packets: impl IntoIterator<Item = Packet>) {
        self.send([push.start(LONG).into_bytes(), bytes_of(packets)].concat());
    }

    /// Sends `$E` and reads the response.
    pub fn end(&mut self) {
        self.packet(END);
        let answer = self.head();
        assert!(answer.contains(" 204 "), "{answer}");
    }

    /// Reads a response, whose body has the length in Content-Length, or is absent without one.
    pub fn response(&mut self) -> Response {
        let head = self.head();
        let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
        let mut response = Response { status, head, body: Vec::new() };
        if let Some(length) = response.header("Content-Length") {
            response.body = self.take(length.parse().unwrap());
        }
        response
    }

    pub fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.take(1));
        }
        String::from_utf8(head).unwrap()
    }

    pub fn take(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Reads a packet of a pull stream: its letter, and what follows the framing header.
    pub fn pulled(&mut self) -> (char, Vec<u8>) {
        let framing = self.take(4);
        assert_eq!(framing[0], b'$');
        let len = u16::from_le_bytes([framing[2], framing[3]]);
        (char::from(framing[1]), self.take(len.into()))
    }

    /// Reads the next data packet of a pull stream: LocationId, AFFlags and ASF packet.
    pub fn pulled_data(&mut self) -> (u32, u8, Vec<u8>) {
        let (letter, payload) = self.pulled();
        assert_eq!(letter, 'D');
        assert_eq!(usize::from(u16::from_le_bytes([payload[6], payload[7]])), payload.len());
        (u32::from_le_bytes(payload[..4].try_into().unwrap()), payload[5], payload[8..].to_vec())
    }

    /// Reads everything up to the end of the connection, and whether a reset ended it.
    fn read_to_end(&mut self) -> (Vec<u8>, bool) {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => (rest, true),
            Err(error) => panic!("{error}"),
            Ok(_) => (rest, false),
        }
    }

    /// Reads everything up to a close or a reset.
    pub fn rest(&mut self) -> Vec<u8> {
        self.read_to_end().0
    }

    /// The same as text.
    pub fn rest_text(&mut self) -> String {
        String::from_utf8_lossy(&self.rest()).into_owned()
    }

    /// The same as text; `None` if a reset ends the connection.
    pub fn rest_or_reset(&mut self) -> Option<String> {
        let (rest, reset) = self.read_to_end();
        (!reset).then(|| String::from_utf8_lossy(&rest).into_owned())
    }

    pub fn is_closed(&mut self) -> bool {
        self.rest().is_empty()
    }
}

fn bytes_of(packets: impl IntoIterator<Item = Packet>) -> Vec<u8> {
    packets.into_iter().flat_map(|packet| packet.to_bytes().unwrap()).collect()
}
