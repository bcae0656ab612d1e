//! Finds the cause of a failed request in the library's error chain.

use std::error::Error;
use std::io;

use super::proxy;
use super::single_connection::ConnectionLost;
use wmhttp::failure::Cause;

/// Returns the cause and the innermost error text. `by_proxy` is whether the connection was to a proxy.
pub(super) fn classify(error: &reqwest::Error, by_proxy: bool) -> (Cause, String) {
    let (cause, detail) = classify_chain(error);
    (if by_proxy { cause.at_proxy() } else { cause }, detail)
}

fn classify_chain(error: &reqwest::Error) -> (Cause, String) {
    let mut chain = Vec::new();
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        chain.push(error);
        next = error.source();
    }
    let chain = || chain.iter().copied();
    let detail = chain().last().map(ToString::to_string).unwrap_or_default();
    // The checks go from the most specific evidence to the least: our own error, the library's own classification, then
    // the errors that caused it.
    if chain().any(|error| error.is::<ConnectionLost>()) {
        return (Cause::Stale, detail);
    }
    if error.is_connect() && error.is_timeout() {
        return (Cause::ConnectTimeout, String::new());
    }
    if let Some(cause) = chain().find_map(proxy::tunnel_cause) {
        return (cause, detail);
    }
    #[cfg(feature = "tls")]
    if let Some(tls) = chain().find_map(tls_cause) {
        return tls;
    }
    let hyper = chain().filter_map(|error| error.downcast_ref::<hyper::Error>()).find_map(hyper_cause);
    let io =
        chain().filter_map(|error| error.downcast_ref::<io::Error>()).find_map(|io| io_cause(io, error.is_connect()));
    // The system's error is more precise than the HTTP library's summary of it.
    (io.or(hyper).unwrap_or(Cause::Other), detail)
}

/// TLS errors are nested in several I/O errors, whose `source` skips them.
#[cfg(feature = "tls")]
fn tls_cause(error: &(dyn Error + 'static)) -> Option<(Cause, String)> {
    let mut inner = error.downcast_ref::<io::Error>()?.get_ref()?;
    while let Some(next) = inner.downcast_ref::<io::Error>() {
        inner = next.get_ref()?;
    }
    let tls = inner.downcast_ref::<rustls::Error>()?;
    let cause = if matches!(tls, rustls::Error::InvalidCertificate(_)) { Cause::Untrusted } else { Cause::Tls };
    Some((cause, super::tls::describe(tls)))
}

fn hyper_cause(error: &hyper::Error) -> Option<Cause> {
    if error.is_parse() {
        Some(Cause::NotHttp)
    } else if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        Some(Cause::Closed)
    } else {
        None
    }
}

/// Whether the process or the system has reached its limit of descriptors or memory. The standard library has an error
/// kind only for the latter.
fn is_exhausted(error: &io::Error) -> bool {
    #[cfg(unix)]
    let by_code = matches!(error.raw_os_error(), Some(nix::libc::EMFILE | nix::libc::ENFILE | nix::libc::ENOBUFS));
    // WSAEMFILE, WSAENOBUFS
    #[cfg(windows)]
    let by_code = matches!(error.raw_os_error(), Some(10_024 | 10_055));
    #[cfg(not(any(unix, windows)))]
    let by_code = false;
    by_code || error.kind() == io::ErrorKind::OutOfMemory
}

fn io_cause(error: &io::Error, connecting: bool) -> Option<Cause> {
    use io::ErrorKind as Kind;
    if is_exhausted(error) {
        return Some(Cause::Resources);
    }
    // `io::ErrorKind` is non-exhaustive, so the caller handles all other kinds.
    #[expect(clippy::wildcard_enum_match_arm, reason = "io::ErrorKind is non-exhaustive")]
    match error.kind() {
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => Some(Cause::Reset),
        Kind::NetworkUnreachable | Kind::HostUnreachable | Kind::NetworkDown if connecting => Some(Cause::Unreachable),
        Kind::AddrNotAvailable if connecting => Some(Cause::LocalAddress),
        Kind::TimedOut if connecting => Some(Cause::ConnectTimeout),
        Kind::TimedOut => Some(Cause::Stalled),
        Kind::UnexpectedEof => Some(Cause::Closed),
        _ if connecting => Some(Cause::Refused),
        _ => None,
    }
}
