//! Writes `WWW-Authenticate` with this capitalization, which Title-Case does not produce. Windows Media Encoder
//! requires exactly this spelling.
//!
//! hyper writes names in Title-Case, or with the capitalization of a head that it has read: it keeps the names in an
//! extension of that head, which only hyper can create, and uses this extension if a response has it (see its
//! documentation of `preserve_header_case`). Therefore hyper parses a prepared head once, and each challenge gets the
//! extensions of that head. The alternative, a stream that rewrites the bytes of every response, would slow down every
//! player.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Extensions, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::sync::OnceCell;

use super::body::Body;

/// A name for each challenge of a response: Basic, and Digest with several algorithms.
const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nWWW-Authenticate: a\r\nWWW-Authenticate: b\r\n\
                      WWW-Authenticate: c\r\nWWW-Authenticate: d\r\nConnection: close\r\n\r\n";

/// The extensions of a head with the names as they must be written.
static NAMES: OnceCell<Extensions> = OnceCell::const_new();

/// Makes hyper write the names of the response's challenges as `WWW-Authenticate`.
pub(crate) async fn write_challenge_names(response: &mut Response<Body>) {
    response.extensions_mut().extend(NAMES.get_or_init(read_names).await.clone());
}

/// Makes hyper parse [`HEAD`] over a connection in memory, and returns the extensions of that head.
async fn read_names() -> Extensions {
    let (mut client_end, server_end) = tokio::io::duplex(HEAD.len());
    let read = Arc::new(Mutex::new(Extensions::new()));
    let service = service_fn(|request: Request<Incoming>| {
        *read.lock().unwrap_or_else(PoisonError::into_inner) = request.extensions().clone();
        async { Ok::<_, Infallible>(Response::new(Body::empty())) }
    });
    // Neither fails in memory. Without the names, challenges would be written in Title-Case.
    let _ = client_end.write_all(HEAD).await;
    let mut http = http1::Builder::new();
    let serving = http.preserve_header_case(true).serve_connection(TokioIo::new(server_end), service);
    let mut sink = tokio::io::sink();
    // The response must be read, because hyper waits until it can write it. Whichever side ends first, the head was
    // parsed before.
    tokio::select! {
        _ = serving => {}
        _ = tokio::io::copy(&mut client_end, &mut sink) => {}
    }
    std::mem::take(&mut *read.lock().unwrap_or_else(PoisonError::into_inner))
}
