//! A receiver that does as little work as possible: it reads data and discards it.
//!
//! It listens on three ports, which it prints. The first accepts raw bytes. The second accepts HTTP, as much of it as
//! uploads need. The third is like the second, except that it neither responds to the end of a push nor closes the
//! connection then, as many servers do. All connections share one buffer, and the receiver wakes up once for data on
//! several of them.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::rc::Rc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

/// Number of bytes per read; more would not fit into the processor's cache.
const BUFFER: usize = 256 * 1024;
/// `$E` with S_OK, the end of a push.
const END_OF_PUSH: &[u8] = b"$E\x04\0\0\0\0\0";
const END_OF_CHUNKS: &[u8] = b"0\r\n\r\n";
const SETUP_ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\nServer: Cougar/9.6\r\nSet-Cookie: push-id=1\r\n\
    Pragma: no-cache, timeout=60000\r\nCache-Control: no-cache\r\nContent-Length: 0\r\n\r\n";

type Buffer = Rc<RefCell<Vec<u8>>>;

/// Serves until the standard input ends.
pub fn run() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    std::thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    LocalSet::new().block_on(&runtime, async {
        let listeners = [listen().await, listen().await, listen().await];
        let [raw, http, silent] = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
        println!("{raw} {http} {silent}");
        io::stdout().flush().unwrap();
        let buffer = Rc::new(RefCell::new(vec![0; BUFFER]));
        let [raw, http, silent] = listeners;
        let (for_raw, for_silent) = (Rc::clone(&buffer), Rc::clone(&buffer));
        spawn_local(async move {
            loop {
                let (stream, _) = raw.accept().await.unwrap();
                let buffer = Rc::clone(&for_raw);
                spawn_local(async move { while read(&stream, &buffer, |_| ()).await.is_ok() {} });
            }
        });
        spawn_local(serve(silent, for_silent, false));
        serve(http, buffer, true).await;
    });
}

async fn serve(listener: TcpListener, buffer: Buffer, confirms_end: bool) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let buffer = Rc::clone(&buffer);
        spawn_local(async move {
            let mut connection = Connection { stream, buffer, waiting: Vec::new(), confirms_end };
            while connection.exchange().await.is_ok() {}
        });
    }
}

async fn listen() -> TcpListener {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.listen(1024).unwrap()
}

/// Reads once, and passes the bytes to `look`.
async fn read<R>(stream: &TcpStream, buffer: &Buffer, look: impl FnOnce(&[u8]) -> R) -> io::Result<R> {
    loop {
        stream.readable().await?;
        let mut buffer = buffer.borrow_mut();
        match stream.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => return Ok(look(&buffer[..len])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// How a body ends.
enum Ends {
    After(u64),
    With(&'static [u8]),
}

struct Connection {
    stream: TcpStream,
    buffer: Buffer,
    /// Bytes that arrived together with the previous head.
    waiting: Vec<u8>,
    /// Whether to respond to the end of a push.
    confirms_end: bool,
}

impl Connection {
    /// Receives a request and its body, and responds.
    async fn exchange(&mut self) -> io::Result<()> {
        let head = self.head().await?;
        let value =
            |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
        let is_push = value("content-type").is_some_and(|kind| kind.starts_with("application/x-wms-pushstart"));
        let ends = match value("content-length").and_then(|length| length.parse().ok()) {
            _ if is_push => Ends::With(END_OF_PUSH),
            Some(length) => Ends::After(length),
            None if value("transfer-encoding").is_some() => Ends::With(END_OF_CHUNKS),
            None => Ends::After(0),
        };
        if value("expect").is_some() {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        self.body(ends).await?;
        if is_push && !self.confirms_end {
            // Until the encoder closes the connection.
            return read(&self.stream, &self.buffer, |_| ()).await;
        }
        self.write(SETUP_ANSWER).await
    }

    async fn head(&mut self) -> io::Result<String> {
        loop {
            let end = self.waiting.windows(4).position(|end| end == b"\r\n\r\n");
            if let Some(end) = end {
                let rest = self.waiting.split_off(end + 4);
                let head = std::mem::replace(&mut self.waiting, rest);
                return Ok(String::from_utf8_lossy(&head).to_ascii_lowercase());
            }
            let waiting = &mut self.waiting;
            read(&self.stream, &self.buffer, |bytes| waiting.extend_from_slice(bytes)).await?;
        }
    }

    async fn body(&mut self, ends: Ends) -> io::Result<()> {
        let first = std::mem::take(&mut self.waiting);
        match ends {
            Ends::After(length) => {
                let mut left = length.saturating_sub(first.len() as u64);
                while left > 0 {
                    left = left.saturating_sub(read(&self.stream, &self.buffer, |bytes| bytes.len() as u64).await?);
                }
            }
            Ends::With(mark) => {
                let mut tail = first;
                while !tail.ends_with(mark) {
                    read(&self.stream, &self.buffer, |bytes| {
                        let from = tail.len().saturating_sub(mark.len());
                        tail.drain(..from);
                        tail.extend_from_slice(&bytes[bytes.len().saturating_sub(mark.len())..]);
                    })
                    .await?;
                }
            }
        }
        Ok(())
    }

    async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
