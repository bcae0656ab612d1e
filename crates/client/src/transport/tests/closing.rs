//! A graceful close after the end of a body, with and without a response.

use std::sync::mpsc;

use super::*;

const BYTES: usize = 12_000;
const LONG: Duration = Duration::from_secs(20);

/// Sends [`BYTES`] of an unfinished body, and waits until all of it is acknowledged.
async fn push(client: &mut Client, server: &Scripted<usize>) {
    client.request(server.setup());
    assert_eq!(status(client).await, 204);
    client.request(server.start(u64::from(u32::MAX)));
    client.send(Bytes::from_static(&[7; BYTES]));
    while client.is_acknowledged() != Some(true) {
        let on_the_way = tokio::time::timeout(Duration::from_millis(1), client.next(None)).await;
        assert!(!matches!(on_the_way, Ok(TransportEvent::Lost { .. })), "{on_the_way:?}");
    }
    assert_eq!(client.undelivered(), 0);
}

async fn close(client: &mut Client, grace: Duration, by: Duration) -> bool {
    client.close_gracefully(grace, Instant::now() + by);
    match next(client).await {
        TransportEvent::Closed { delivered } => delivered,
        other @ (TransportEvent::Resolved
        | TransportEvent::Connected
        | TransportEvent::Room
        | TransportEvent::Response { .. }
        | TransportEvent::Lost { .. }) => panic!("{other:?}"),
    }
}

/// The server has read nothing when the client closes, and it sends data before it reads: an ordinary close would be a
/// reset and lose the end of the body.
#[test]
fn a_server_that_sends_before_it_reads_loses_nothing() {
    let (closing, go) = mpsc::channel();
    let server = Scripted::new(move |listener| {
        let mut stream = accept_setup(&listener);
        go.recv().unwrap();
        stream.write_all(&[b'x'; 9000]).unwrap();
        let (_, mut body) = read_head(&mut stream);
        stream.read_to_end(&mut body).unwrap();
        body.len()
    });
    run(async {
        let mut client = client();
        push(&mut client, &server).await;
        closing.send(()).unwrap();
        assert!(close(&mut client, LONG, LONG).await);
    });
    assert_eq!(server.done(), BYTES);
}

/// The client waits for a silent server no longer than the grace.
#[test]
fn the_wait_for_a_silent_server_is_bounded() {
    let (closed, go) = mpsc::channel();
    let server = Scripted::new(move |listener| {
        let mut stream = accept_setup(&listener);
        go.recv().unwrap();
        let (_, mut body) = read_head(&mut stream);
        stream.read_to_end(&mut body).unwrap();
        body.len()
    });
    run(async {
        let mut client = client();
        push(&mut client, &server).await;
        assert!(close(&mut client, Duration::from_millis(20), LONG).await, "its TCP stack has acknowledged everything");
        closed.send(()).unwrap();
    });
    assert_eq!(server.done(), BYTES);
}

/// A server that has already responded still receives the rest and a graceful close.
#[test]
fn after_an_early_response_the_close_is_graceful() {
    let server = Scripted::new(move |listener| {
        let mut stream = accept_setup(&listener);
        let (_, mut body) = read_head(&mut stream);
        stream.write_all(ACCEPTED).unwrap();
        while body.len() < BYTES {
            let mut chunk = [0; 1000];
            let read = stream.read(&mut chunk).unwrap();
            assert!(read > 0, "closed after {}", body.len());
            body.extend_from_slice(&chunk[..read]);
        }
        assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0, "closed gracefully");
        body.len()
    });
    run(async {
        let mut client = client();
        client.request(server.setup());
        assert_eq!(status(&mut client).await, 204);
        client.request(server.start(u64::from(u32::MAX)));
        client.send(Bytes::from_static(&[7; BYTES]));
        assert_eq!(status(&mut client).await, 204);
        while client.is_acknowledged() != Some(true) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(close(&mut client, LONG, LONG).await);
    });
    assert_eq!(server.done(), BYTES);
}

/// If the server has stopped reading, the close waits until its time limit and reports that not everything was
/// delivered.
#[test]
fn unread_data_is_not_delivered() {
    let (closed, go) = mpsc::channel();
    let server = Scripted::new(move |listener| {
        let stream = accept_setup(&listener);
        go.recv().unwrap();
        drop(stream);
        0
    });
    run(async {
        let mut client = client();
        client.request(server.setup());
        assert_eq!(status(&mut client).await, 204);
        client.request(server.start(u64::from(u32::MAX)));
        for _ in 0..200 {
            client.send(Bytes::from_static(&[7; 65_536]));
        }
        under_way(&mut client).await;
        assert_eq!(client.is_acknowledged(), Some(false));
        let begun = Instant::now();
        assert!(!close(&mut client, Duration::ZERO, Duration::from_millis(100)).await);
        assert!(begun.elapsed() >= Duration::from_millis(100));
        closed.send(()).unwrap();
    });
    server.done();
}
