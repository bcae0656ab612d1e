//! Downloading a stream.

use std::io::ErrorKind;

use super::*;
use crate::transport::download::{Download, Lost};

fn settings() -> Settings {
    client().settings.clone()
}

async fn get(url: Url) -> Result<Download, Lost> {
    let headers = HeaderMap::from_iter([(http::header::PRAGMA, HeaderValue::from_static("xPlayStrm=1"))]);
    Download::get(&settings(), url, headers, None).await
}

/// HTTP/1.0 without a Content-Length: the body ends when the connection closes.
#[test]
fn a_body_is_read_as_it_arrives() {
    let server = Scripted::new(|listener| {
        let (mut stream, _) = listener.accept().unwrap();
        let (head, _) = read_head(&mut stream);
        stream.write_all(b"HTTP/1.0 200 OK\r\nServer: Rex/9.0\r\nPragma: a\r\nPragma: b\r\n\r\nfirst").unwrap();
        // The server sends the rest only after the client has read the first part.
        let mut again = [0];
        let (mut other, _) = listener.accept().unwrap();
        other.read_exact(&mut again).unwrap();
        stream.write_all(b"second").unwrap();
        head
    });
    let head = run(async {
        let mut download = get(server.url.clone()).await.unwrap();
        assert_eq!((download.status(), download.headers().get_all("pragma").iter().count()), (200, 2));
        assert_eq!(download.chunk().await.unwrap().unwrap(), "first");
        let mut other = TcpStream::connect(server.url.socket_addrs(|| None).unwrap()[0]).unwrap();
        other.write_all(b"x").unwrap();
        assert_eq!(download.chunk().await.unwrap().unwrap(), "second");
        assert_eq!(download.chunk().await.unwrap(), None);
        server.done()
    });
    assert!(head.starts_with("GET /concert HTTP/1.1\r\n") && head.contains("Pragma: xPlayStrm=1\r\n"), "{head}");
}

#[test]
fn a_broken_body_and_an_unreachable_server_are_distinguished() {
    let server = Scripted::new(|listener| {
        let (mut stream, _) = listener.accept().unwrap();
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort").unwrap();
    });
    let url = server.url.clone();
    run(async {
        let mut download = get(url.clone()).await.unwrap();
        assert_eq!(download.chunk().await.unwrap().unwrap(), "short");
        assert_eq!(download.chunk().await.unwrap_err().cause, Cause::Closed);
        server.done();
        assert_eq!(get(url).await.err().unwrap().cause, Cause::Refused);
    });
}

/// Dropping a download closes its connection, even while it waits.
#[test]
fn dropping_a_download_closes_its_connection() {
    let server = Scripted::new(|listener| {
        let (mut stream, _) = listener.accept().unwrap();
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nbytes").unwrap();
        let end = stream.read(&mut [0; 16]);
        end.map_err(|error| error.kind())
    });
    let end = run(async {
        let mut download = get(server.url.clone()).await.unwrap();
        assert_eq!(download.chunk().await.unwrap().unwrap(), "bytes");
        assert!(tokio::time::timeout(Duration::from_millis(20), download.chunk()).await.is_err());
        drop(download);
        tokio::task::spawn_blocking(|| server.done()).await.unwrap()
    });
    assert!(matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)), "{end:?}");
}
