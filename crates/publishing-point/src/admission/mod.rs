//! Admission of clients: limits per address, networks, and authorization.

pub(crate) mod authorization;
pub(crate) mod client_limits;
pub(crate) mod limits;
pub(crate) mod login_attempts;
pub(crate) mod networks;
pub(crate) mod token_bucket;
