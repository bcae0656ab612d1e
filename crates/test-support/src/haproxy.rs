//! HAProxy in front of edge servers, with the project's configuration.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::daemon::{Daemon, folder, program};

/// The address on which the project's configuration listens, and those of its edge servers.
const LISTEN: &str = "bind :8080\n";
const EDGES: [&str; 3] = ["127.0.0.1:8081", "127.0.0.1:8082", "127.0.0.1:8083"];

/// A running HAProxy with `packaging/haproxy.cfg`, in which only the ports are replaced.
pub struct HaProxy {
    daemon: Daemon,
    folder: TempDir,
}

impl HaProxy {
    /// Starts HAProxy. `connections` replaces the file's `maxconn`, which needs more descriptors than every machine
    /// allows.
    pub fn new(edges: [SocketAddr; 3], connections: usize) -> Self {
        let folder = folder();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let daemon = Daemon::start(&folder.path().join("log"), |address| {
            let mut config = fs::read_to_string(crate::root().join("packaging/haproxy.cfg")).unwrap();
            let mut replace = |from: &str, to: &str| {
                assert_eq!(config.matches(from).count(), 1, "{from} in packaging/haproxy.cfg");
                config = config.replace(from, to);
            };
            replace(LISTEN, &format!("bind {address}\n"));
            for (shipped, edge) in EDGES.iter().zip(edges) {
                replace(shipped, &edge.to_string());
            }
            fs::write(at("haproxy.cfg"), &config).unwrap();
            [
                program("haproxy"),
                "-db".to_owned(),
                "-n".to_owned(),
                connections.to_string(),
                "-f".to_owned(),
                at("haproxy.cfg"),
            ]
            .into()
        });
        Self { daemon, folder }
    }

    pub fn address(&self) -> SocketAddr {
        self.daemon.address
    }

    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Returns how often it has logged that the edge server with this index went down or came up.
    pub fn changes(&self, index: usize, to: &str) -> usize {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
        log.matches(&format!("Server edges/edge{} is {to}", index + 1)).count()
    }
}

/// Forwards connections to a server from a separate loopback address, like a household's router: players that connect
/// to it have another address than others.
pub struct Router {
    pub address: SocketAddr,
}

impl Router {
    pub fn new(source: Ipv4Addr, server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for player in listener.incoming() {
                let player = player.unwrap();
                thread::spawn(move || {
                    // If the server does not run, the player's connection is closed, as HAProxy does.
                    if let Ok(upstream) = connect_from(source, server) {
                        pass_both_ways(&player, &upstream);
                    }
                });
            }
        });
        Self { address }
    }
}

fn connect_from(source: Ipv4Addr, server: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect(&server.into())?;
    Ok(socket.into())
}

fn pass_both_ways(player: &TcpStream, upstream: &TcpStream) {
    thread::scope(|scope| {
        for (mut from, mut to) in [(player, upstream), (upstream, player)] {
            scope.spawn(move || {
                // When one direction ends, close both: neither side sends anything more.
                let _ = io::copy(&mut from, &mut to);
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
    });
}
