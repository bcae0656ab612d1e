//! Header names in letters that Title-Case does not give: `WWW-Authenticate`, which Windows Media Encoder looks for in
//! exactly these.
//!
//! hyper writes names in Title-Case, or in the letters that a head had which it has read: it keeps those in an
//! extension of that head that only it can make, and looks for the extension in each response (its documentation of
//! `preserve_header_case`). So it is given a head to read, once, whose extensions then go with each challenge. The
//! alternative, a stream that rewrites the bytes of every response on their way out, would cost every player.

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

/// A name for each challenge of a response: Basic, and Digest by two algorithms.
const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nWWW-Authenticate: a\r\nWWW-Authenticate: b\r\n\
                      WWW-Authenticate: c\r\nWWW-Authenticate: d\r\nConnection: close\r\n\r\n";

/// The extensions of a head with the names as they are to be written.
static NAMES: OnceCell<Extensions> = OnceCell::const_new();

/// Has the names of the response's challenges written `WWW-Authenticate`.
pub(crate) async fn write_challenge_names(response: &mut Response<Body>) {
    response.extensions_mut().extend(NAMES.get_or_init(read_names).await.clone());
}

async fn read_names() -> Extensions {
    let (mut near, far) = tokio::io::duplex(HEAD.len());
    let read = Arc::new(Mutex::new(Extensions::new()));
    let service = service_fn(|request: Request<Incoming>| {
        *read.lock().unwrap_or_else(PoisonError::into_inner) = request.extensions().clone();
        async { Ok::<_, Infallible>(Response::new(Body::empty())) }
    });
    // Neither fails in memory; without the names the challenges are written in Title-Case.
    let _ = near.write_all(HEAD).await;
    let mut http = http1::Builder::new();
    let serving = http.preserve_header_case(true).serve_connection(TokioIo::new(far), service);
    let mut sink = tokio::io::sink();
    tokio::select! {
        _ = serving => {}
        _ = tokio::io::copy(&mut near, &mut sink) => {}
    }
    std::mem::take(&mut *read.lock().unwrap_or_else(PoisonError::into_inner))
}
