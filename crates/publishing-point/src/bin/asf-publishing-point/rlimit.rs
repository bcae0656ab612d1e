//! The limit of file descriptors, and thereby of connections.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit to the maximum that the system allows. The usual limit of 1024 is below the default number of
/// players.
pub fn raise_fd_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, maximum)| setrlimit(Resource::RLIMIT_NOFILE, maximum, maximum));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise RLIMIT_NOFILE");
    }
}
