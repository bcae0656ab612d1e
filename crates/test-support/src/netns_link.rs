//! A server behind a cable that can be unplugged: in another network namespace, connected by a pair of virtual
//! interfaces.
//!
//! The namespace belongs to the server's threads only, so it and the interfaces disappear with them, however the test
//! ends.

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

/// Returns whether this process may create network namespaces.
pub fn can_create_link() -> bool {
    geteuid().is_root()
}

/// Runs one test of this program again, as root of its own namespace; fails if that fails.
pub fn rerun_as_root(test: &str) {
    let status = Command::new("unshare")
        .args(["--net", "--map-root-user", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .status()
        .expect("unshare, of util-linux");
    assert!(status.success(), "{test} in a user namespace: {status}; run it as root if those are not allowed");
}

/// Starts a server like [`Server::start`], behind a cable.
pub fn server_behind(serve: impl Fn(Connection, &Arc<Listening>) + Clone + Send + Sync + 'static) -> Server {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // One of the 32768 pairs of addresses in 198.18.0.0/15, which is reserved for network tests.
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
    // On a closed port, the connection is refused as soon as the link is up.
    let nobody = SocketAddr::from((server.addr.ip(), 9));
    until("a carrier", || {
        let refusal = TcpStream::connect_timeout(&nobody, Duration::from_millis(100)).unwrap_err();
        refusal.kind() == io::ErrorKind::ConnectionRefused
    });
    server
}

/// Must be called by a thread that serves a connection behind the cable. It interrupts all traffic without notifying
/// either side.
pub fn pull() {
    ip(&format!("link set {FAR} down"));
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip, of iproute2");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
