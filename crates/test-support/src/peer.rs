//! A server that a test writes as a sequence of connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use wmhttp::packet::{Decoder, Packet};

/// Time limit after which a test fails; a passing test never waits for it.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A response of Windows Media Services.
pub fn wms(status: u16, push_id: &str) -> String {
    format!(
        "HTTP/1.1 {status} Said\r\nServer: Cougar/9.6.7600.16564\r\nContent-Length: 0\r\nPragma: no-cache, timeout=60000\r\n\
         Cache-Control: no-cache\r\nSet-Cookie: push-id={push_id}\r\nSupported: com.microsoft.wm.sswitch\r\n\r\n"
    )
}

/// A response of this project's server, which is known to reject unknown push-ids.
pub fn ours(status: u16, push_id: &str) -> String {
    wms(status, push_id).replace("Cougar/9.6.7600.16564", "Cougar/9.6.7600.16564 asf-publishing-point/0.1.0")
}

/// A response of a simple relay: no cookie, no Pragma.
pub fn relay(status: u16) -> String {
    format!("HTTP/1.1 {status} Said\r\nServer: Cougar/9.0\r\nContent-Length: 0\r\n\r\n")
}

/// A 401 response with `challenges`.
pub fn unauthorized(challenges: &[&str]) -> String {
    let lines: String = challenges.iter().map(|challenge| format!("WWW-Authenticate: {challenge}\r\n")).collect();
    format!(
        "HTTP/1.1 401 Unauthorized\r\nServer: Cougar/9.6.7600.16564\r\nContent-Length: 5\r\n{lines}\
         Set-Cookie: push-id=REFUSED\r\n\r\nno...",
    )
}

pub struct Peer {
    pub addr: SocketAddr,
    scheme: &'static str,
    connections: Receiver<Connection>,
    _stop: Sender<()>,
}

impl Peer {
    /// Listens on a free port.
    pub fn new() -> Self {
        Self::on("127.0.0.1:0".parse().unwrap())
    }

    /// Listens on a free port, with a small socket buffer for unread data.
    pub fn with_small_buffer() -> Self {
        Self::listening(small_buffer(), None)
    }

    /// Listens on a free port with TLS and a small socket buffer.
    pub fn with_tls_and_small_buffer(config: Arc<ServerConfig>) -> Self {
        Self::listening(small_buffer(), Some(config))
    }

    /// Listens on a free port with TLS.
    pub fn with_tls(config: Arc<ServerConfig>) -> Self {
        Self::listening(TcpListener::bind("127.0.0.1:0").unwrap(), Some(config))
    }

    /// Listens on a port that was free before, or is free again.
    pub fn on(addr: SocketAddr) -> Self {
        Self::listening(TcpListener::bind(addr).unwrap(), None)
    }

    fn listening(listener: TcpListener, tls: Option<Arc<ServerConfig>>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let addr = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let (sender, connections) = channel();
        let (stop, stopped) = channel();
        std::thread::spawn(move || {
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(false).unwrap();
                        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
                        if sender.send(Connection::new(stream, tls.as_ref())).is_err() {
                            return;
                        }
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Self { addr, scheme, connections, _stop: stop }
    }

    pub fn location(&self) -> String {
        format!("{}://{}/concert", self.scheme, self.addr)
    }

    /// Returns the next connection.
    pub fn accept(&self) -> Connection {
        self.connections.recv_timeout(TEST_TIMEOUT).expect("a connection")
    }

    /// Returns the next connection, or `None` if there is none within `time`.
    pub fn accept_within(&self, time: Duration) -> Option<Connection> {
        self.connections.recv_timeout(time).ok()
    }
}

fn small_buffer() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    socket2::SockRef::from(&listener).set_recv_buffer_size(16 * 1024).unwrap();
    listener
}

/// TCP, or TLS over TCP.
trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// One TCP connection of the encoder.
pub struct Connection {
    tcp: TcpStream,
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    decoder: Decoder,
    /// Bytes of the body that have not arrived yet.
    pub body_left: u64,
}

/// The head of a request.
#[derive(Debug)]
pub struct Head {
    pub text: String,
    pub body: String,
}

impl Head {
    pub fn is_setup(&self) -> bool {
        self.text.contains("\r\nContent-Type: application/x-wms-pushsetup\r\n")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn push_id(&self) -> &str {
        self.header("Cookie").unwrap().strip_prefix("push-id=").unwrap()
    }
}

impl Connection {
    pub fn new(tcp: TcpStream, tls: Option<&Arc<ServerConfig>>) -> Self {
        let stream = tcp.try_clone().unwrap();
        let stream: Box<dyn Stream> = match tls {
            Some(config) => Box::new(StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), stream)),
            None => Box::new(stream),
        };
        Self { tcp, stream, buffer: Vec::new(), decoder: Decoder::default(), body_left: 0 }
    }

    fn fill(&mut self) -> usize {
        let mut chunk = [0; 65_536];
        let read = self.stream.read(&mut chunk).unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..read]);
        read
    }

    /// Reads the head of a request, and the body of a PushSetup.
    pub fn request(&mut self) -> Head {
        match self.try_request() {
            Some(head) => head,
            None => panic!("closed before a request: {:?}", String::from_utf8_lossy(&self.buffer)),
        }
    }

    /// Like [`Connection::request`]; `None` if the encoder closed the connection before.
    pub fn try_request(&mut self) -> Option<Head> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = self.buffer.split_off(end + 4);
                let text = String::from_utf8(std::mem::replace(&mut self.buffer, rest)).unwrap();
                let mut head = Head { text, body: String::new() };
                let length: u64 = head.header("Content-Length").expect("C-2: a Content-Length").parse().unwrap();
                if head.is_setup() {
                    while (self.buffer.len() as u64) < length {
                        assert!(self.fill() > 0);
                    }
                    let rest = self.buffer.split_off(usize::try_from(length).unwrap());
                    head.body = String::from_utf8(std::mem::replace(&mut self.buffer, rest)).unwrap();
                } else {
                    self.body_left = length;
                    self.decoder = Decoder::default();
                }
                return Some(head);
            }
            if self.fill() == 0 {
                return None;
            }
        }
    }

    /// Accepts a PushSetup and the PushStart after it on this connection.
    pub fn set_up(&mut self, answer: &str) -> Head {
        let setup = self.request();
        assert!(setup.is_setup(), "{}", setup.text);
        self.answer(answer);
        let start = self.request();
        assert!(!start.is_setup(), "{}", start.text);
        start
    }

    /// Returns the next packet of the body; `None` at its end, or if the encoder closed the connection.
    pub fn packet(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = self.decoder.next_packet().expect("P-1") {
                return Some(packet);
            }
            if self.body_left == 0 {
                assert!(self.decoder.is_aligned(), "C-9: a packet crosses the end of a body");
                return None;
            }
            if self.buffer.is_empty() && self.fill() == 0 {
                return None;
            }
            let take = usize::try_from(self.body_left).unwrap().min(self.buffer.len());
            self.body_left -= take as u64;
            let rest = self.buffer.split_off(take);
            self.decoder.push(Bytes::from(std::mem::replace(&mut self.buffer, rest)));
        }
    }

    /// Returns the payloads of the next `count` data packets.
    pub fn data(&mut self, count: usize) -> Vec<Bytes> {
        let mut data = Vec::new();
        while data.len() < count {
            match self.packet().expect("a packet") {
                Packet::Data(payload) => data.push(payload),
                other @ (Packet::Header(_) | Packet::StreamChange(_) | Packet::End(_) | Packet::Filler(_)) => {
                    panic!("{other:?} after {} data packets", data.len())
                }
            }
        }
        data
    }

    /// Returns all packets to the end of the body, the end packet last.
    pub fn until_the_end(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        while let Some(packet) = self.packet() {
            let last = matches!(packet, Packet::End(reason) if reason != wmhttp::Hresult::FALSE);
            packets.push(packet);
            if last {
                break;
            }
        }
        packets
    }

    pub fn answer(&mut self, text: &str) {
        self.try_answer(text).unwrap();
    }

    /// Sends a response to an encoder that may have closed the connection.
    pub fn try_answer(&mut self, text: &str) -> std::io::Result<()> {
        self.stream.write_all(text.as_bytes())?;
        self.stream.flush()
    }

    /// Reads and discards data until the encoder closes the connection.
    pub fn drain(&mut self) {
        while self.fill() > 0 {
            self.buffer.clear();
        }
    }

    /// Shuts down the sending side.
    pub fn close_writing(&self) {
        // The encoder may have reset the connection meanwhile.
        let _ = self.tcp.shutdown(std::net::Shutdown::Write);
    }

    /// Sets the timeout of reads.
    pub fn set_timeout(&self, timeout: Duration) {
        self.tcp.set_read_timeout(Some(timeout)).unwrap();
    }

    /// Returns the plain connection, for a test that reads the bytes itself from the start.
    pub fn into_tcp(self) -> TcpStream {
        self.tcp
    }

    /// Reads one byte if there is one.
    pub fn take_byte(&mut self) {
        self.set_timeout(Duration::from_millis(1));
        // There may be none.
        let _ = self.stream.read(&mut [0]);
    }

    /// Returns whether the encoder closes the connection without sending more.
    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && self.fill() == 0
    }

    /// Returns the number of bytes that have arrived and were not read as packets.
    pub fn unread(&self) -> usize {
        self.tcp.set_nonblocking(true).unwrap();
        let waiting = self.tcp.peek(&mut vec![0; 32 << 20]).unwrap_or(0);
        self.tcp.set_nonblocking(false).unwrap();
        self.buffer.len() + waiting
    }

    /// Resets the connection.
    pub fn reset(self) {
        socket2::SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO)).unwrap();
    }
}
