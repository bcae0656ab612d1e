//! How many descriptors, and with them connections, the process may have.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Takes as many as the system allows: shells give out 1024, which is less than the players that there may be.
pub fn raise_fd_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, maximum)| setrlimit(Resource::RLIMIT_NOFILE, maximum, maximum));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of descriptors stays as it is");
    }
}
