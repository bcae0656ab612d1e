//! The HTTP server: connections, TLS, and response bodies. It does not depend on the push and pull protocols.

pub(crate) mod body;
pub(crate) mod buf_list;
pub(crate) mod connection;
pub(crate) mod handled;
pub(crate) mod header_case;
pub(crate) mod hygiene;
pub(crate) mod io;
pub(crate) mod listen;
pub(crate) mod open_socket;
pub(crate) mod streaming;
pub(crate) mod tls;
