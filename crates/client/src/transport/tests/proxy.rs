//! Requests through a proxy, on the wire.

use super::*;
use wmhttp::auth::{Login, Secret};
use wmhttp::proxy::Proxy;

/// A request to a remote server through the proxy that the test simulates.
fn by(server: &Scripted<impl Send + 'static>, far: &str, request: Request) -> Request {
    let mut url = server.url.clone();
    url.set_path("/");
    let login = Login { user: Some("bob".to_owned()), password: Some(Secret::new("pass:word")) };
    Request { url: Url::parse(far).unwrap(), proxy: Some(Arc::new(Proxy { url, login })), ..request }
}

async fn lost(request: Request) -> Cause {
    let mut client = client();
    client.request(request);
    match next(&mut client).await {
        TransportEvent::Lost { cause, .. } => cause,
        other @ (TransportEvent::Resolved
        | TransportEvent::Connected
        | TransportEvent::Room
        | TransportEvent::Closed { .. }
        | TransportEvent::Response { .. }) => {
            panic!("{other:?}")
        }
    }
}

/// Plain HTTP: the request line contains the whole URL, Host is the server's, the head has the computed length, and the
/// proxy's password is not sent before a challenge. Setup and start use one connection.
#[test]
fn a_proxy_receives_the_whole_url() {
    let server = Scripted::new(|listener| {
        let (mut stream, _) = listener.accept().unwrap();
        let heads = [0, 1].map(|_| {
            let (head, _) = read_head(&mut stream);
            stream.write_all(ACCEPTED).unwrap();
            head
        });
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "a second connection");
        heads
    });
    let far = "http://far.invalid:81/a;b=c/%7Ed?x=1";
    let setup = by(&server, far, server.setup());
    let start = by(&server, far, server.start(1000));
    let reckoned = [&setup, &start].map(|request| head_len(request, &head(request).unwrap()));
    run(async {
        let mut client = client();
        client.request(setup);
        assert_eq!(status(&mut client).await, 204);
        client.request(start);
        assert_eq!(status(&mut client).await, 204);
    });
    let heads = server.done();
    for (head, reckoned) in heads.iter().zip(reckoned) {
        assert!(head.starts_with("POST http://far.invalid:81/a;b=c/%7Ed?x=1 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nHost: far.invalid:81\r\n") && !head.contains("Proxy-Authorization"), "{head}");
        assert_eq!(head.len() as u64, reckoned);
    }
}

/// The client knows exactly what the proxy's TCP stack has acknowledged.
#[test]
fn undelivered_bytes_are_known_with_a_proxy() {
    let server = Scripted::new(move |listener| {
        let mut stream = accept_setup(&listener);
        let (_, bytes) = read_head(&mut stream);
        let mut rest = vec![0; 50_000 - bytes.len()];
        stream.read_exact(&mut rest).unwrap();
        listener
    });
    let far = "http://far.invalid/concert";
    run(async {
        let mut client = client();
        client.request(by(&server, far, server.setup()));
        assert_eq!(status(&mut client).await, 204);
        client.request(by(&server, far, server.start(1_000_000)));
        client.send(Bytes::from_static(&[1; 50_000]));
        let lost = next(&mut client).await;
        assert!(matches!(lost, TransportEvent::Lost { undelivered: 0, .. }), "{lost:?}");
    });
    server.done();
}

/// https: CONNECT contains the password, because the library has no other way; each rejection has its cause.
#[cfg(feature = "tls")]
#[test]
fn https_uses_a_tunnel() {
    for (answer, expected) in [
        ("HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm=\"x\"\r\nContent-Length: 0\r\n\r\n", Cause::ProxyDenied),
        ("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", Cause::ProxyNoTunnel),
        ("no HTTP\r\n\r\n", Cause::ProxyNoTunnel),
        ("", Cause::ProxyNoTunnel),
    ] {
        let server = Scripted::new(move |listener| {
            let (mut stream, _) = listener.accept().unwrap();
            let (head, _) = read_head(&mut stream);
            stream.write_all(answer.as_bytes()).unwrap();
            head
        });
        let request = by(&server, "https://far.invalid/concert", server.setup());
        assert_eq!(run(lost(request)), expected, "{answer}");
        let head = server.done();
        assert!(head.starts_with("CONNECT far.invalid:443 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nProxy-Authorization: Basic Ym9iOnBhc3M6d29yZA==\r\n"), "{head}");
    }
}

/// An unreachable proxy is not reported as an unreachable server.
#[test]
fn causes_at_the_proxy() {
    let gone = Scripted::new(drop);
    let mut unknown = by(&gone, "http://127.0.0.1:9/concert", gone.setup());
    let refused = unknown.clone();
    let url = Url::parse("http://host.invalid:3128/").unwrap();
    unknown.proxy = Some(Arc::new(Proxy { url, login: Login::default() }));
    gone.done();
    assert_eq!(run(lost(refused.clone())), Cause::ProxyRefused);
    assert_eq!(run(lost(unknown)), Cause::ProxyNameNotFound);
    #[cfg(feature = "tls")]
    {
        let tunnel = Request { url: Url::parse("https://127.0.0.1:9/concert").unwrap(), ..refused };
        assert_eq!(run(lost(tunnel)), Cause::ProxyRefused);
    }
}
