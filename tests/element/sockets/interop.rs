//! The kernel's view of the connection, from `ss` of iproute2.

use std::process::Command;

use test_support::media;
use test_support::pipeline::{push_bytes, until};

use super::*;

/// Starts a push and waits until data arrives.
fn push(server: &BlockingServer, properties: &str) -> (Pushing, gst::Element) {
    let (pushing, source) =
        Pushing::with_feed_source(&format!("location=http://{}/concert {properties}", server.addr()));
    pushing.play();
    push_bytes(&source, media::stream(1, 40));
    until("the stream arrives", || server.stats("concert").unwrap().packets > 0);
    (pushing, source)
}
/// Returns the kernel's entries of the connections to a server.
fn connections(server: &BlockingServer) -> String {
    let addr = server.addr();
    let to = ["dst", &addr.ip().to_string(), "and", "dport", "=", &format!(":{}", addr.port())].map(str::to_owned);
    let output =
        Command::new("ss").args(["-H", "-t", "-n", "--tos", "state", "established"]).args(to).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn connections_begin_at_the_bind_address() {
    let server = server();
    let _pushing = push(&server, "bind-address=127.9.9.9");
    assert!(connections(&server).contains(" 127.9.9.9:"), "{}", connections(&server));
}

#[test]
fn packets_are_marked() {
    let server = server();
    let (pushing, source) = push(&server, "qos-dscp=46");
    until("the connection is marked", || connections(&server).contains("tos:0xb8"));
    // Applies from the next connection on.
    pushing.sink.set_property("qos-dscp", 10_i32);
    assert!(pushing.sink.emit_by_name::<bool>("disconnect", &[&None::<String>]));
    pushing.wait_for_status("closed");
    assert!(pushing.sink.emit_by_name::<bool>("reconnect", &[&None::<String>]));
    push_bytes(&source, media::packets(1..10, 40));
    until("the next connection has the new mark", || connections(&server).contains("tos:0x28"));
}

#[test]
fn unmarked_by_default() {
    let server = server();
    let _pushing = push(&server, "");
    let connections = connections(&server);
    assert!(!connections.is_empty() && !connections.contains("tos:0xb8"), "{connections}");
}
