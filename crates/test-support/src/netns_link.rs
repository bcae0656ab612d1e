//! A server at the peer of a cable that can be pulled: another network namespace, and a pair of virtual interfaces.
//!
//! The namespace is that of the server's threads alone, so it and the interfaces are gone when they are, however the
//! test ends.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{geteuid, gettid};

use crate::peer::Connection;
use crate::pipeline::until;
use crate::server::{Listening, Server, listen_on};

/// The interface in the server's namespace.
const FAR: &str = "far";

/// Whether this process may make network namespaces.
pub fn may_lay() -> bool {
    geteuid().is_root()
}

/// Runs one test of this program anew, as root of a namespace of its own; fails where that fails.
pub fn rerun_as_root(test: &str) {
    let status = Command::new("unshare")
        .args(["--net", "--map-root-user", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .status()
        .expect("unshare, of util-linux");
    assert!(status.success(), "{test} in a user namespace: {status}; run it as root where those are not allowed");
}

/// A server as [`Server::start`] makes it, behind a cable.
pub fn server_behind(serve: impl Fn(Connection, &Arc<Listening>) + Clone + Send + Sync + 'static) -> Server {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // One of the 32768 pairs of addresses in 198.18.0.0/15, which is for tests of networks.
    let pair = (std::process::id().wrapping_mul(67).wrapping_add(number)) % 32_768;
    let address = move |offset: u32| Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + 4 * pair + offset);
    let near = format!("p{}x{number}", std::process::id());
    let (tell, told) = channel();
    let (laid, wait) = channel();
    let listening = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        tell.send(gettid()).unwrap();
        wait.recv().unwrap();
        ip(&format!("addr add {}/30 dev {FAR}", address(2)));
        ip(&format!("link set {FAR} up"));
        let listener: io::Result<TcpListener> = listen_on(SocketAddr::from((address(2), 0)), 16, None);
        Server::start(listener.unwrap(), serve)
    });
    let thread = told.recv().unwrap();
    ip(&format!("link add {near} type veth peer name {FAR} netns {thread}"));
    ip(&format!("addr add {}/30 dev {near}", address(1)));
    ip(&format!("link set {near} up"));
    laid.send(()).unwrap();
    let server = listening.join().unwrap();
    // A port where nobody listens answers by a refusal, as soon as the cable carries.
    let nobody = SocketAddr::from((server.addr.ip(), 9));
    until("a carrier", || {
        let refusal = TcpStream::connect_timeout(&nobody, Duration::from_millis(100)).unwrap_err();
        refusal.kind() == io::ErrorKind::ConnectionRefused
    });
    server
}

/// To be called by a thread that serves a connection behind the cable: nothing goes in or out any more, and nobody is
/// told.
pub fn pull() {
    ip(&format!("link set {FAR} down"));
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip, of iproute2");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
