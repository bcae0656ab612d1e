//! The client against scripted raw sockets, with a test for each pitfall of the HTTP library.

mod closing;
mod download;
mod proxy;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use url::Url;

use super::*;
use wmhttp::headers::{Cookies, Kind, RequestHead};
use wmhttp::via::Via;

const ACCEPTED: &[u8] = b"HTTP/1.1 204 No Content\r\nServer: Cougar/9.6\r\nContent-Length: 0\r\n\r\n";

/// A server whose behavior is a function of its listener.
struct Scripted<T> {
    url: Url,
    script: JoinHandle<T>,
}

impl<T: Send + 'static> Scripted<T> {
    fn new(script: impl FnOnce(TcpListener) -> T + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}/concert", listener.local_addr().unwrap())).unwrap();
        Self { url, script: std::thread::spawn(move || script(listener)) }
    }

    fn request(&self, kind: Kind, connection: Connection, content_length: u64) -> Request {
        let head = RequestHead {
            kind,
            accept_authentication: Vec::new(),
            authorization: Vec::new(),
            via: Via::default(),
            user_agent: "WMEncoder/12.0.0.0".to_owned(),
            content_length,
            cookies: Cookies::default(),
        };
        let body = (kind == Kind::Setup).then(Bytes::new);
        Request { url: self.url.clone(), proxy: None, head, connection, body }
    }

    fn setup(&self) -> Request {
        self.request(Kind::Setup, Connection::New, 0)
    }

    fn start(&self, content_length: u64) -> Request {
        self.request(Kind::Start, Connection::Same, content_length)
    }

    fn done(self) -> T {
        self.script.join().unwrap()
    }
}

fn client() -> Client {
    Client::new(Settings {
        connect_timeout: Duration::from_secs(10),
        stall_timeout: Duration::from_secs(10),
        local_address: None,
        dscp: None,
        tls: Tls::default(),
    })
}

fn run<T>(test: impl Future<Output = T>) -> T {
    runtime::handle().unwrap().block_on(test)
}

/// Returns the next event other than the steps of establishing a connection.
async fn next(client: &mut Client) -> TransportEvent {
    loop {
        match client.next(None).await {
            TransportEvent::Resolved | TransportEvent::Connected => {}
            other @ (TransportEvent::Room
            | TransportEvent::Response { .. }
            | TransportEvent::Lost { .. }
            | TransportEvent::Closed { .. }) => {
                return other;
            }
        }
    }
}

async fn status(client: &mut Client) -> u16 {
    match next(client).await {
        TransportEvent::Response { head, .. } => head.status,
        other @ (TransportEvent::Resolved
        | TransportEvent::Connected
        | TransportEvent::Room
        | TransportEvent::Closed { .. }
        | TransportEvent::Lost { .. }) => {
            panic!("{other:?}")
        }
    }
}

/// Polls the request so that it is sent, while no response is expected yet.
async fn under_way(client: &mut Client) {
    while let Ok(incoming) = tokio::time::timeout(Duration::from_millis(20), client.next(None)).await {
        assert!(matches!(incoming, TransportEvent::Resolved | TransportEvent::Connected), "{incoming:?}");
    }
}

/// Reads a request's head; the second part of the result is what arrived of the body with it.
fn read_head(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return (String::from_utf8(bytes).unwrap(), rest);
        }
        let read = stream.read(&mut chunk).unwrap();
        assert!(read > 0, "closed within the head");
        bytes.extend_from_slice(&chunk[..read]);
    }
}

fn accept_setup(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    read_head(&mut stream);
    stream.write_all(ACCEPTED).unwrap();
    stream
}

/// The request head as sent: Title-Case names, single spaces, an exact Content-Length and no chunked encoding. Its
/// length must equal the computed one, on which the number of undelivered bytes depends.
#[test]
fn head_on_the_wire() {
    let server = Scripted::new(|listener| {
        let (mut stream, _) = listener.accept().unwrap();
        let (head, _) = read_head(&mut stream);
        stream.write_all(ACCEPTED).unwrap();
        head
    });
    let mut url = server.url.clone();
    url.set_path("/a;b=c/d");
    url.set_query(Some("x=1"));
    let request = Request { url: url.clone(), ..server.setup() };
    let reckoned = head_len(&request, &head(&request).unwrap());
    run(async {
        let mut client = client();
        client.request(request);
        assert_eq!(status(&mut client).await, 204);
    });
    let head = server.done();
    assert_eq!(head.len() as u64, reckoned);
    let host = format!("127.0.0.1:{}", url.port().unwrap());
    assert_eq!(
        head,
        format!(
            "POST /a;b=c/d?x=1 HTTP/1.1\r\nContent-Type: application/x-wms-pushsetup\r\nUser-Agent: WMEncoder/12.0.0.0\r\n\
             Host: {host}\r\nContent-Length: 0\r\nCache-Control: no-cache\r\nCookie: push-id=0\r\nAccept: */*\r\n\r\n"
        )
    );
}

/// Head and body are sent in one write, because a server in the field reads only what arrives together.
#[test]
fn a_setup_is_one_write() {
    const BODY: &[u8] = b"AutoDestroy: 1\r\n";
    let server = Scripted::new(|listener| {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = [0; 4096];
        let read = stream.read(&mut all).unwrap();
        stream.write_all(ACCEPTED).unwrap();
        all[..read].to_vec()
    });
    run(async {
        let mut client = client();
        let mut request = server.request(Kind::Setup, Connection::New, BODY.len() as u64);
        request.body = Some(Bytes::from_static(BODY));
        client.request(request);
        assert_eq!(status(&mut client).await, 204);
    });
    assert!(server.done().ends_with(BODY));
}

/// Setup, start and further starts use one connection, and the bodies end exactly.
#[test]
fn one_connection_through_many_bodies() {
    const BODIES: usize = 100;
    const LENGTH: usize = 10_001;
    let server = Scripted::new(|listener| {
        let mut stream = accept_setup(&listener);
        for body in 0..BODIES {
            let (head, mut bytes) = read_head(&mut stream);
            assert!(head.contains("Content-Length: 10001\r\n") && !head.contains("Transfer-Encoding"));
            while bytes.len() < LENGTH {
                let mut chunk = vec![0; LENGTH - bytes.len()];
                let read = stream.read(&mut chunk).unwrap();
                assert!(read > 0);
                bytes.extend_from_slice(&chunk[..read]);
            }
            assert_eq!(bytes, vec![u8::try_from(body).unwrap(); LENGTH]);
            stream.write_all(ACCEPTED).unwrap();
        }
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "a second connection");
    });
    run(async {
        let mut client = client();
        client.request(server.setup());
        assert_eq!(status(&mut client).await, 204);
        for body in 0..BODIES {
            client.request(server.start(LENGTH as u64));
            for _ in 0..3 {
                client.send(Bytes::from(vec![u8::try_from(body).unwrap(); LENGTH / 3]));
            }
            client.send(Bytes::from(vec![u8::try_from(body).unwrap(); LENGTH - LENGTH / 3 * 3]));
            assert_eq!(status(&mut client).await, 204, "body {body}");
        }
        client.close();
    });
    server.done();
}

/// The last packet is never lost: the body stays open until the server, which reads slowly, responds.
#[test]
fn nothing_is_lost_at_the_end() {
    const SESSIONS: usize = 60;
    const BYTES: usize = 700_000;
    let server = Scripted::new(|listener| {
        let serve = |mut stream: TcpStream| {
            read_head(&mut stream);
            stream.write_all(ACCEPTED).unwrap();
            let (_, mut bytes) = read_head(&mut stream);
            let mut chunk = vec![0; 50_000];
            while bytes.len() < BYTES {
                std::thread::sleep(Duration::from_micros(500));
                let read = stream.read(&mut chunk).unwrap();
                assert!(read > 0, "closed after {} bytes", bytes.len());
                bytes.extend_from_slice(&chunk[..read]);
            }
            stream.write_all(ACCEPTED).unwrap();
            assert_eq!(stream.read(&mut chunk).unwrap_or(0), 0, "nothing after the end");
            bytes.len()
        };
        (0..SESSIONS).map(|_| serve(listener.accept().unwrap().0)).collect::<Vec<_>>()
    });
    run(async {
        for _ in 0..SESSIONS {
            let mut client = client();
            client.request(server.setup());
            assert_eq!(status(&mut client).await, 204);
            client.request(server.start(u64::from(u32::MAX)));
            for _ in 0..BYTES / 1400 {
                client.send(Bytes::from_static(&[7; 1400]));
            }
            assert_eq!(status(&mut client).await, 204);
            client.close();
        }
    });
    assert_eq!(server.done(), vec![BYTES; SESSIONS]);
}

/// After an early response, closing ends the request, although the server keeps the connection open and continues to
/// read.
#[test]
fn early_responses_stop_the_body() {
    let server = Scripted::new(|listener| {
        let mut stream = accept_setup(&listener);
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nServer: Cougar/9.6\r\nContent-Length: 4\r\n\r\nbusy").unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.read_to_end(&mut Vec::new()).map(drop)
    });
    run(async {
        let mut client = client();
        client.request(server.setup());
        assert_eq!(status(&mut client).await, 204);
        client.request(server.start(1_000_000));
        client.send(Bytes::from_static(b"media"));
        assert_eq!(status(&mut client).await, 404);
        client.close();
        let ended = tokio::task::spawn_blocking(|| server.done()).await.unwrap();
        // The connection may also be reset, which discards what the server had not read yet.
        assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    });
}

/// A lost kept connection is reported as stale, and nothing of the request is sent on another connection.
#[test]
fn a_stale_connection_is_reported() {
    let server = Scripted::new(|listener| {
        drop(accept_setup(&listener));
        listener.set_nonblocking(true).unwrap();
        std::thread::sleep(Duration::from_millis(600));
        assert!(listener.accept().is_err(), "no second connection may be made");
    });
    run(async {
        let mut client = client();
        client.request(server.setup());
        assert_eq!(status(&mut client).await, 204);
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.request(server.start(1000));
        let lost = next(&mut client).await;
        assert!(matches!(lost, TransportEvent::Lost { cause: Cause::Stale, .. }), "{lost:?}");
    });
    server.done();
}

/// A server stops reading: when the client gives up, it knows what the server's TCP stack had acknowledged.
#[test]
fn undelivered_bytes_are_known() {
    const BYTES: usize = 12_000_000;
    let (lost, given_up) = std::sync::mpsc::channel();
    let server = Scripted::new(move |listener| {
        let mut stream = accept_setup(&listener);
        let (_, bytes) = read_head(&mut stream);
        let mut received = bytes.len();
        let mut chunk = vec![0; 65_536];
        while received < 1_000_000 {
            received += stream.read(&mut chunk).unwrap();
        }
        given_up.recv().unwrap();
        // What is still in the TCP stack's queue had been acknowledged.
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        while let Ok(read @ 1..) = stream.read(&mut chunk) {
            received += read;
        }
        received as u64
    });
    let undelivered = run(async {
        let mut client = Client::new(Settings {
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_millis(700),
            local_address: None,
            dscp: None,
            tls: Tls::default(),
        });
        client.request(server.setup());
        assert_eq!(status(&mut client).await, 204);
        client.request(server.start(u64::from(u32::MAX)));
        for _ in 0..BYTES / 10_000 {
            client.send(Bytes::from_static(&[1; 10_000]));
        }
        match next(&mut client).await {
            TransportEvent::Lost { cause: Cause::Stalled, undelivered, .. } => undelivered,
            other @ (TransportEvent::Resolved
            | TransportEvent::Connected
            | TransportEvent::Room
            | TransportEvent::Response { .. }
            | TransportEvent::Closed { .. }
            | TransportEvent::Lost { .. }) => panic!("{other:?}"),
        }
    });
    lost.send(()).unwrap();
    let received = server.done();
    assert!(undelivered > 0);
    assert_eq!(received + undelivered, BYTES as u64);
}

/// The same on a connection that begins with a PushStart, as for a resume.
#[test]
fn undelivered_bytes_are_known_without_a_setup() {
    let server = Scripted::new(|listener| {
        let (mut stream, _) = listener.accept().unwrap();
        let (_, bytes) = read_head(&mut stream);
        let mut rest = vec![0; 50_000 - bytes.len()];
        stream.read_exact(&mut rest).unwrap();
        listener
    });
    run(async {
        let mut client = client();
        client.request(server.request(Kind::Start, Connection::New, 1_000_000));
        client.send(Bytes::from_static(&[1; 50_000]));
        let lost = next(&mut client).await;
        assert!(matches!(lost, TransportEvent::Lost { undelivered: 0, .. }), "{lost:?}");
    });
    server.done();
}

/// The causes of failure are distinguished.
#[test]
fn causes() {
    type Script = fn(TcpListener);
    let scripts: [(Script, &[Cause]); 4] = [
        (|listener| drop(listener.accept().unwrap()), &[Cause::Closed, Cause::Reset]),
        (
            |listener| {
                let (mut stream, _) = listener.accept().unwrap();
                read_head(&mut stream);
            },
            &[Cause::Closed],
        ),
        (
            |listener| {
                let (mut stream, _) = listener.accept().unwrap();
                read_head(&mut stream);
                stream.write_all(b"220 mail.example.com ESMTP\r\n\r\n").unwrap();
                let _ = stream.read(&mut [0; 16]);
            },
            &[Cause::NotHttp],
        ),
        (
            |listener| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0; 10]).unwrap();
            },
            &[Cause::Reset],
        ),
    ];
    for (index, (script, expected)) in scripts.into_iter().enumerate() {
        let server = Scripted::new(script);
        let request = server.setup();
        let lost = run(async {
            let mut client = client();
            client.request(request);
            next(&mut client).await
        });
        let TransportEvent::Lost { cause, .. } = lost else { panic!("{index}: {lost:?}") };
        assert!(expected.contains(&cause), "{index}: {cause:?}");
        server.done();
    }

    let server = Scripted::new(drop);
    let refused = server.setup();
    server.done();
    let unknown = Request { url: Url::parse("http://host.invalid/concert").unwrap(), ..refused.clone() };
    for (request, expected) in [(refused, Cause::Refused), (unknown, Cause::NameNotFound)] {
        let lost = run(async {
            let mut client = client();
            client.request(request);
            next(&mut client).await
        });
        assert!(matches!(lost, TransportEvent::Lost { cause, .. } if cause == expected), "{lost:?}");
    }
}

/// A server that stops reading is reported after the stall timeout.
#[test]
fn a_stall_is_reported() {
    let server = Scripted::new(|listener| {
        let stream = accept_setup(&listener);
        let (wait, waiting) = std::sync::mpsc::channel::<()>();
        (stream, wait, waiting)
    });
    run(async {
        let mut client = Client::new(Settings {
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_millis(500),
            local_address: None,
            dscp: None,
            tls: Tls::default(),
        });
        client.request(server.setup());
        assert_eq!(status(&mut client).await, 204);
        client.request(server.start(u64::from(u32::MAX)));
        for _ in 0..200 {
            client.send(Bytes::from(vec![0; 65_536]));
        }
        let lost = next(&mut client).await;
        assert!(matches!(lost, TransportEvent::Lost { cause: Cause::Stalled, .. }), "{lost:?}");
    });
    drop(server.done());
}

/// The kernel reports the connection's statistics and buffers little unsent data.
#[test]
fn the_kernel_buffers_little() {
    let server = Scripted::new(|listener| (accept_setup(&listener), listener));
    run(async {
        let mut client = client();
        client.request(server.setup());
        assert_eq!(status(&mut client).await, 204);
        client.request(server.start(u64::from(u32::MAX)));
        under_way(&mut client).await;
        let mut pushed = 0;
        while client.room() > 0 && pushed < 64 * 1024 * 1024 {
            client.send(Bytes::from(vec![0; 16_384]));
            pushed += 16_384;
            under_way(&mut client).await;
        }
        let telemetry = client.telemetry().unwrap();
        assert!(telemetry.rtt > 0);
        assert!(telemetry.unsent < 1_000_000, "{telemetry:?}");
        assert!(client.room() == 0);
    });
    drop(server.done());
}
