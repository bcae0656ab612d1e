//! A server that accepts any number of connections and serves each with a function of the test in a separate thread.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use crate::peer::{Connection, TEST_TIMEOUT};
use crate::pipeline::until;

/// Stops accepting connections on drop. Existing connections end when the encoder closes them.
pub struct Server {
    pub addr: SocketAddr,
    listening: Arc<Listening>,
}

/// The state that a server's threads share.
pub struct Listening {
    listener: TcpListener,
    /// No connection is accepted any more; see [`Listening::stop_accepting`].
    deaf: AtomicBool,
    /// When each connection was accepted.
    accepted: Mutex<Vec<Instant>>,
    /// Connections that fill the queue of a listener that no longer accepts any.
    queued: Mutex<Vec<TcpStream>>,
}

/// Listens on a separate loopback address, so that no other process takes the port while the server is down. With a
/// `backlog` of 0, one connection can wait; `room` limits the socket buffer for unread data.
pub fn listen(backlog: i32, room: Option<usize>) -> TcpListener {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    listen_on(SocketAddr::from((Ipv4Addr::new(127, 7, high, low), 0)), backlog, room).unwrap()
}

/// The same on a given address.
pub fn listen_on(addr: SocketAddr, backlog: i32, room: Option<usize>) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if let Some(room) = room {
        socket.set_recv_buffer_size(room)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// Listens again on an address that a previous listener may not have released yet. Accepting does not block.
pub fn listen_again(addr: SocketAddr) -> TcpListener {
    let mut listener = None;
    until("the address is free", || {
        listener = listen_on(addr, 16, None).ok();
        listener.is_some()
    });
    let listener = listener.unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// Returns the next connection of a listener whose accept does not block.
pub fn accept_on(listener: &TcpListener) -> Connection {
    let mut stream = None;
    until("a connection", || {
        stream = listener.accept().ok();
        stream.is_some()
    });
    let (stream, _) = stream.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    Connection::new(stream, None)
}

impl Server {
    pub fn start(
        listener: TcpListener,
        serve: impl Fn(Connection, &Arc<Listening>) + Clone + Send + Sync + 'static,
    ) -> Self {
        let addr = listener.local_addr().unwrap();
        let listening = Arc::new(Listening {
            listener,
            deaf: AtomicBool::default(),
            accepted: Mutex::default(),
            queued: Mutex::default(),
        });
        let accepting = Arc::clone(&listening);
        thread::spawn(move || {
            while let Ok((stream, _)) = accepting.listener.accept() {
                if accepting.deaf.load(Ordering::SeqCst) {
                    accepting.queued.lock().unwrap().push(stream);
                    return;
                }
                accepting.accepted.lock().unwrap().push(Instant::now());
                stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
                let (serve, listening) = (serve.clone(), Arc::clone(&accepting));
                thread::spawn(move || serve(Connection::new(stream, None), &listening));
            }
        });
        Self { addr, listening }
    }

    pub fn location(&self) -> String {
        format!("http://{}/concert", self.addr)
    }

    /// Returns when each connection was accepted.
    pub fn accepted(&self) -> Vec<Instant> {
        self.listening.accepted.lock().unwrap().clone()
    }

    pub fn listening(&self) -> &Listening {
        &self.listening
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listening.refuse();
    }
}

impl Listening {
    /// Refuses connections from now on.
    pub fn refuse(&self) {
        // This may have been done already.
        let _ = SockRef::from(&self.listener).shutdown(std::net::Shutdown::Both);
    }

    /// Leaves SYNs without a response from now on, by filling the listener's queue, which must be short.
    pub fn stop_accepting(&self) {
        if self.deaf.swap(true, Ordering::SeqCst) {
            return;
        }
        let addr = self.listener.local_addr().unwrap();
        // The accepting thread accepts one more connection; then the queue fills.
        let last = TcpStream::connect_timeout(&addr, TEST_TIMEOUT).unwrap();
        while self.queued.lock().unwrap().is_empty() {
            thread::sleep(Duration::from_millis(1));
        }
        self.queued.lock().unwrap().push(last);
        while let Ok(waiting) = TcpStream::connect_timeout(&addr, Duration::from_millis(300)) {
            self.queued.lock().unwrap().push(waiting);
        }
    }
}
