//! The HTTP server: connections, TLS, dispatch of requests, and response bodies.

pub(crate) mod body;
pub(crate) mod buf_list;
pub(crate) mod connection;
pub(crate) mod dispatch;
pub(crate) mod io;
pub(crate) mod tls;
