//! Resolves host names, and reports why that failed.

use std::net::{IpAddr, SocketAddr};

use dns_lookup::{LookupError, LookupErrorKind};
use tokio::time::Instant;
use url::{Host, Url};

use super::Failed;
use super::runtime::spawn_blocking;
use wmhttp::failure::Cause;

/// Returns the addresses of a URL's host with its port.
pub(super) async fn resolve(url: Url, by: Instant) -> Result<Vec<SocketAddr>, Failed> {
    let port = url.port_or_known_default().unwrap_or(80);
    let addresses = match url.host() {
        Some(Host::Ipv4(address)) => vec![IpAddr::from(address)],
        Some(Host::Ipv6(address)) => vec![IpAddr::from(address)],
        Some(Host::Domain(name)) => look_up(name.to_owned(), by).await?,
        None => return Err(Failed { cause: Cause::NameNotFound, detail: "the URL has no host".to_owned() }),
    };
    Ok(addresses.into_iter().map(|address| SocketAddr::from((address, port))).collect())
}

/// Asks the system's resolver, which may block for a long time.
async fn look_up(name: String, by: Instant) -> Result<Vec<IpAddr>, Failed> {
    let asked =
        spawn_blocking(move || dns_lookup::lookup_host(&name).map(Vec::from_iter)).map_err(Failed::resources)?;
    match tokio::time::timeout_at(by, asked).await {
        Ok(Some(Ok(found))) => Ok(found),
        Ok(Some(Err(error))) => Err(Failed { cause: cause(&error), detail: error.to_string() }),
        Ok(None) => Err(Failed { cause: Cause::Other, detail: "internal error during the name lookup".to_owned() }),
        Err(_) => Err(Failed { cause: Cause::NameTimeout, detail: String::new() }),
    }
}

/// Distinguishes a name service that does not respond from a name that does not exist. Other errors count as the
/// latter.
fn cause(error: &LookupError) -> Cause {
    match error.kind() {
        LookupErrorKind::Again => Cause::NameTimeout,
        LookupErrorKind::NoName
        | LookupErrorKind::NoData
        | LookupErrorKind::Fail
        | LookupErrorKind::Badflags
        | LookupErrorKind::Family
        | LookupErrorKind::Socktype
        | LookupErrorKind::Service
        | LookupErrorKind::Memory
        | LookupErrorKind::System
        | LookupErrorKind::Unknown
        | LookupErrorKind::IO => Cause::NameNotFound,
    }
}
