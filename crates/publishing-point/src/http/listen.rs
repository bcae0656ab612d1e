//! How the server begins to listen on an address.

use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// What the operator can do about an error.
const REMEDIES: [(ErrorKind, &str); 3] = [
    (ErrorKind::AddrInUse, "stop the program that uses this port, or choose another port"),
    (ErrorKind::PermissionDenied, "choose a port above 1023, or grant the capability CAP_NET_BIND_SERVICE"),
    (ErrorKind::AddrNotAvailable, "use an address of this machine, or 0.0.0.0 for all of them"),
];

/// Listens on `address`; an error calls it `name`.
///
/// # Errors
/// The error of the system, with the address and a remedy.
pub(crate) async fn listen(address: SocketAddr, name: impl Display) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let remedy = REMEDIES.iter().find(|(kind, _)| *kind == error.kind());
        let remedy = remedy.map_or_else(String::new, |(_, remedy)| format!("; {remedy}"));
        io::Error::new(error.kind(), format!("cannot listen on {name}: {error}{remedy}"))
    })
}
