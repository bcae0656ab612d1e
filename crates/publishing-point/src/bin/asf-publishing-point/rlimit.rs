//! How many file descriptors, and therefore connections, the process may have.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors that the server needs beside those of its connections: listeners, recordings, sources and the runtime.
const SPARE_DESCRIPTORS: u64 = 64;

/// Raises the limit to the highest one that the system allows, because shells set 1024, which is less than the number
/// of players that may come; warns if it is still too low for `connections`.
pub fn raise_fd_limit(connections: usize) {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, maximum)| setrlimit(Resource::RLIMIT_NOFILE, maximum, maximum).map(|()| maximum));
    match raised {
        Ok(limit) if limit < u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(SPARE_DESCRIPTORS) => {
            tracing::warn!(
                limit,
                connections,
                "the limit of file descriptors is too low for the configured number of connections. Raise it (LimitNOFILE in \
                 the systemd unit, ulimit -Hn), or lower `max-players` or `max-connections`"
            )
        }
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of file descriptors (RLIMIT_NOFILE); the server may accept fewer connections than configured")
        }
    }
}
