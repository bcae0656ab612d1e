//! The HTTP client below the protocol: reqwest, restricted to what [MS-WMHTTP] needs.
//!
//! A [`Client`] belongs to one destination. It has one TCP connection at a time, with one request on it. It controls
//! what a general HTTP client leaves open:
//!
//! * The session selects the connection of each request: there is one `reqwest::Client` per connection, which may
//!   connect only once (`single_connection`), because NTLM and some servers require PushSetup and PushStart on the same
//!   connection.
//! * The body of a PushStart never ends before its Content-Length (`body`), because the library would discard what it
//!   still buffers. The body stays open until the server responds or closes the connection, or the connection is shut
//!   down gracefully ([`Client::close_gracefully`]).
//! * The kernel buffers little unsent data and reports what the peer has acknowledged (`socket`), so that no packet is
//!   lost with a connection.
//! * The session selects the proxy (`proxy`). Plain HTTP requests then contain the whole URL, and https uses a tunnel.
//!   Connection statistics are those of the connection to the proxy.
//! * https is optional (`tls`). The peer then acknowledges more bytes than the requests have, so that some packets that
//!   had arrived are sent again after a lost connection, but none is lost.
//! * Kerberos tickets come from the system's library (`kerberos`).
//! * SIGPIPE is blocked in the I/O thread, and exhausted system resources cause an error instead of a panic
//!   (`runtime`).
//! * When a relay pulls a stream, the response is read as it arrives ([`download`]).

mod body;
pub mod download;
mod error;
pub mod kerberos;
pub mod proxy;
mod resolve;
pub mod runtime;
mod single_connection;
mod socket;
pub mod tls;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HeaderMap, HeaderValue};
use hyper_util::client::legacy::connect::HttpInfo;
use tokio::time::Instant;
use url::{Position, Url};

use body::Queue;
use single_connection::ConnectionInfo;
use socket::Socket;
pub use socket::Telemetry;
#[cfg(unix)]
pub use socket::tcp_info;
use tls::Tls;
use wmhttp::client::{Connection, Request, ResponseHead};
use wmhttp::failure::Cause;
use wmhttp::proxy::Proxy;

/// Maximum number of bytes that the HTTP and TLS libraries hold while the kernel takes none.
const TLS_BUFFER_BYTES: u64 = 128 * 1024;
/// Maximum size of TLS's close_notify record, in bytes. It is less than the overhead of a data packet's record.
const CLOSE_NOTIFY_BYTES: u64 = 31;
/// Maximum number of bytes of a response's body that are read so that its connection can be reused. Servers send short
/// texts; anything longer is not meant for an encoder.
const MAX_RESPONSE_BODY: usize = 64 * 1024;
/// Time limit for reading a response's body. A connection whose response takes longer is closed, which costs less than
/// the wait.
const RESPONSE_BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// The settings of connections.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time limit for name lookup and TCP connect together.
    pub connect_timeout: Duration,
    /// How long the peer may leave bytes unacknowledged; zero disables the check.
    pub stall_timeout: Duration,
    /// Local address to bind to; `None` lets the system choose.
    pub local_address: Option<IpAddr>,
    /// Differentiated Services code point of sent packets, 0 to 63; `None` leaves it to the system.
    pub dscp: Option<u8>,
    /// The TLS settings for https.
    pub tls: Tls,
}

/// An event of the current request.
#[derive(Debug)]
pub enum TransportEvent {
    /// The host's address is known; the connection is established next.
    Resolved,
    /// The connection is established.
    Connected,
    /// The body's queue has room again.
    Room,
    /// The server responded.
    Response {
        /// The head of the response.
        head: ResponseHead,
        /// See [`TransportEvent::Lost`].
        undelivered: u64,
    },
    /// The connection was lost or could not be established.
    Lost {
        /// The cause.
        cause: Cause,
        /// The system's description.
        detail: String,
        /// Number of bytes at the end of the body that the peer's TCP stack has not acknowledged.
        undelivered: u64,
    },
    /// The connection was shut down gracefully after [`Client::close_gracefully`].
    Closed {
        /// Whether the peer's TCP stack has acknowledged everything that was sent. With a proxy, the proxy is the peer.
        delivered: bool,
    },
}

/// The HTTP client of one destination; see the module documentation.
pub struct Client {
    settings: Settings,
    /// The library's client of the current connection.
    connection: Option<reqwest::Client>,
    /// What is known about the current connection, shared with the layer that makes it.
    connection_info: Arc<ConnectionInfo>,
    /// The connection uses TLS, so its byte counts are not those of the requests.
    encrypted: bool,
    /// Bytes of all requests on this connection before the current body.
    sent_before_body: u64,
    in_flight: Option<InFlightRequest>,
    /// The body of the previous request. If its response was early, the library continues to read the body until it is
    /// aborted.
    answered_body: Option<Arc<Queue>>,
    /// The connection is being shut down gracefully.
    closing: Option<Closing>,
}

type Closing = Pin<Box<dyn Future<Output = bool> + Send>>;

/// The current request.
struct InFlightRequest {
    stage: RequestStage,
    /// The request, until it is sent.
    request: Option<Request>,
    /// The queue of a PushStart's body.
    body: Option<Arc<Queue>>,
    peers: Vec<SocketAddr>,
    connect_by: Instant,
}

/// How far a request has come.
enum RequestStage {
    /// The address is being resolved, and certificates are read.
    Resolving(Resolving),
    /// The library has the request, and the response is awaited.
    Waiting(Pin<Box<dyn Future<Output = Result<Answer, Failed>> + Send>>),
}

struct Answer {
    head: ResponseHead,
    /// The local address of the connection, which identifies its socket.
    local: Option<SocketAddr>,
}

struct Failed {
    cause: Cause,
    detail: String,
}

impl Client {
    /// Creates a client without a connection.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            connection: None,
            connection_info: Arc::default(),
            encrypted: false,
            sent_before_body: 0,
            in_flight: None,
            answered_body: None,
            closing: None,
        }
    }

    /// Changes the settings for the next connection.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Sends a request, whose progress [`Client::next`] returns. A request in progress is aborted.
    pub fn request(&mut self, request: Request) {
        match request.connection {
            Connection::New => self.close(),
            Connection::Same => {
                if let Some(in_flight) = self.in_flight.take() {
                    in_flight.abort();
                }
            }
        }
        let body = request.body.is_none().then(|| Queue::new(request.head.content_length));
        let connect_by = Instant::now() + self.settings.connect_timeout;
        let resolving = match request.connection {
            Connection::New => {
                let resolving = resolve_peers(&request.url, request.proxy.as_deref(), connect_by);
                if request.url.scheme() == "https" {
                    after_preparing_tls(self.settings.tls.clone(), resolving)
                } else {
                    resolving
                }
            }
            Connection::Same => Box::pin(async { Ok(Vec::new()) }),
        };
        let stage = RequestStage::Resolving(resolving);
        self.in_flight = Some(InFlightRequest { stage, request: Some(request), body, peers: Vec::new(), connect_by });
    }

    /// Appends to the body of the current PushStart.
    pub fn send(&mut self, bytes: Bytes) {
        if let Some(body) = self.body() {
            body.push(bytes);
        }
    }

    /// Returns how many bytes the body accepts now.
    pub fn room(&self) -> usize {
        self.body().map_or(0, |body| body.free())
    }

    /// Returns the value of [`Client::room`] when the queue is empty. Without a body, no amount of room is enough.
    pub fn capacity(&self) -> usize {
        self.body().map_or(usize::MAX, |body| body.capacity())
    }

    /// Returns the next event. Never returns while there is no request and no connection is being shut down. With
    /// `wanted_room`, [`TransportEvent::Room`] is also returned, once [`Client::room`] has reached that number of
    /// bytes, or [`Client::capacity`] if that is less.
    pub async fn next(&mut self, wanted_room: Option<usize>) -> TransportEvent {
        if let Some(closing) = &mut self.closing {
            let delivered = closing.await;
            self.closing = None;
            return TransportEvent::Closed { delivered };
        }
        let Some(in_flight) = &mut self.in_flight else { return std::future::pending().await };
        let body = in_flight.body.clone();
        let room = async {
            match (body, wanted_room) {
                (Some(body), Some(wanted)) => body.room(wanted).await,
                _ => std::future::pending().await,
            }
        };
        match &mut in_flight.stage {
            RequestStage::Resolving(resolving) => tokio::select! {
                resolved = resolving => match resolved {
                    Ok(peers) => {
                        in_flight.peers = peers;
                        self.start_exchange()
                    }
                    Err(failed) => self.handle_loss(failed),
                },
                () = room => TransportEvent::Room,
            },
            RequestStage::Waiting(response) => tokio::select! {
                // In this order, so that the connection is known before the response.
                biased;
                () = self.connection_info.connected.notified() => {
                    self.apply_dscp();
                    TransportEvent::Connected
                }
                answer = response => match answer {
                    Ok(answer) => self.handle_answer(answer),
                    Err(failed) => self.handle_loss(failed),
                },
                () = room => TransportEvent::Room,
            },
        }
    }

    /// Closes the connection and discards unwritten data.
    pub fn close(&mut self) {
        if let Some(in_flight) = self.in_flight.take() {
            in_flight.abort();
        }
        if let Some(body) = self.answered_body.take() {
            body.abort();
        }
        self.closing = None;
        self.connection = None;
        // A connection that is still being established keeps the old value.
        self.connection_info = Arc::default();
        self.sent_before_body = 0;
    }

    /// Closes the connection without losing sent data: the library writes what it has buffered and shuts down the
    /// sending side (TLS sends close_notify first), and input from the peer is read until it closes too, for up to
    /// `grace`. [`TransportEvent::Closed`] follows no later than `by`.
    ///
    /// If the peer has responded before the end of the body, the library closes immediately, and TLS closes without
    /// close_notify: a peer that has responded has read the request.
    pub fn close_gracefully(&mut self, grace: Duration, by: Instant) {
        let socket = self.socket().take();
        let answered_body = self.answered_body.take();
        if let Some(body) = &answered_body {
            body.abort();
        }
        // Dropping the wait for the response makes the library close.
        let body = self.in_flight.take().and_then(|in_flight| in_flight.is_sent().then_some(in_flight.body)).flatten();
        self.close();
        self.closing = Some(Box::pin(async move {
            let released = async {
                for body in answered_body.iter().chain(&body) {
                    body.released().await;
                }
            };
            let released = tokio::time::timeout_at(by, released).await.is_ok();
            match socket {
                Some(socket) => socket.finish(grace, by).await && released,
                // It is unknown what has arrived.
                None => false,
            }
        }));
    }

    /// Returns whether the peer's TCP stack has acknowledged everything that was sent; `None` if the kernel does not
    /// report it. With TLS, some bytes may still be in the library until [`Client::close_gracefully`] has completed.
    pub fn is_acknowledged(&self) -> Option<bool> {
        let telemetry = self.telemetry()?;
        Some(telemetry.outstanding == 0 && self.body().is_none_or(|body| body.unwritten() == 0))
    }

    /// Sets the code point on the connection's socket, if one is configured and the socket is known.
    fn apply_dscp(&self) {
        if let (Some(socket), Some(dscp)) = (self.socket().as_ref(), self.settings.dscp) {
            socket.set_dscp(dscp);
        }
    }

    /// Returns the kernel's statistics of the connection, if available.
    pub fn telemetry(&self) -> Option<Telemetry> {
        self.socket().as_ref()?.telemetry()
    }

    /// The connection's socket, if it was found.
    fn socket(&self) -> MutexGuard<'_, Option<Socket>> {
        self.connection_info.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queue of the current PushStart's body.
    fn body(&self) -> Option<&Arc<Queue>> {
        self.in_flight.as_ref()?.body.as_ref()
    }

    /// Starts the HTTP exchange, after the address is known.
    fn start_exchange(&mut self) -> TransportEvent {
        let Some(in_flight) = &mut self.in_flight else { return TransportEvent::Resolved };
        let Some(request) = in_flight.request.take() else { return TransportEvent::Resolved };
        let connection = match (request.connection, &self.connection) {
            (Connection::Same, Some(connection)) => Ok(connection.clone()),
            (Connection::Same, None) => Err(Failed { cause: Cause::Stale, detail: String::new() }),
            (Connection::New, _) => {
                let single =
                    single_connection::SingleConnection::new(&in_flight.peers, Arc::clone(&self.connection_info));
                connect(
                    &self.settings,
                    &request.url,
                    request.proxy.as_deref(),
                    &in_flight.peers,
                    in_flight.connect_by,
                    single,
                )
            }
        };
        let prepared = connection.and_then(|connection| {
            let head = head(&request).map_err(|what| Failed {
                cause: Cause::Other,
                detail: format!("the value of {what} is not valid in an HTTP header"),
            })?;
            Ok((connection, head))
        });
        let (connection, headers) = match prepared {
            Ok(prepared) => prepared,
            Err(failed) => return self.handle_loss(failed),
        };
        let small_body = request.body.as_ref().map_or(0, Bytes::len) as u64;
        // The kernel counts the bytes of a connection, and only those after this number belong to the body.
        self.sent_before_body += head_len(&request, &headers) + small_body;
        let body = match (&in_flight.body, request.body) {
            (Some(queue), _) => reqwest::Body::wrap(body::PushBody::new(Arc::clone(queue))),
            (None, fixed) => reqwest::Body::from(fixed.unwrap_or_default()),
        };
        self.connection = Some(connection.clone());
        self.encrypted = request.url.scheme() == "https";
        let by_proxy = request.proxy.is_some();
        in_flight.stage = RequestStage::Waiting(Box::pin(async move {
            let sent = connection.post(request.url).headers(headers).body(body).send().await;
            read_answer(sent.map_err(|error| Failed::of(&error, by_proxy))?).await
        }));
        TransportEvent::Resolved
    }

    /// Reports a response, after a last look at what the peer has acknowledged.
    fn handle_answer(&mut self, answer: Answer) -> TransportEvent {
        let undelivered = self.undelivered();
        if let Some(in_flight) = self.in_flight.take() {
            let mut socket = self.socket();
            let found_late = socket.is_none();
            if found_late {
                *socket = answer.local.and_then(|local| Socket::find_by_local_addr(local, &in_flight.peers));
            }
            drop(socket);
            if found_late {
                self.apply_dscp();
            }
            if let Some(body) = in_flight.body {
                self.sent_before_body += body.pushed();
                self.answered_body = Some(body);
            }
        }
        TransportEvent::Response { head: answer.head, undelivered }
    }

    /// Reports that the connection is lost, and closes it.
    fn handle_loss(&mut self, failed: Failed) -> TransportEvent {
        let undelivered = self.undelivered();
        self.close();
        TransportEvent::Lost { cause: failed.cause, detail: failed.detail, undelivered }
    }

    /// Returns the number of bytes at the end of the current body that have not left this process.
    pub fn unsent_bytes(&self) -> u64 {
        self.body().map_or(0, |body| body.queued() as u64)
    }

    /// Returns the number of bytes at the end of the current body that the peer's TCP stack has not acknowledged. With
    /// TLS this is an upper bound.
    pub fn undelivered(&self) -> u64 {
        let Some(body) = self.body() else { return 0 };
        // These bytes have certainly not left this process.
        let unsent = body.queued() as u64;
        let Some(telemetry) = self.telemetry() else { return unsent };
        let missing = if self.encrypted {
            let unwritten = body.unwritten() as u64;
            // The library buffers more only while the kernel accepts no more.
            let held = if telemetry.unsent > 0 || unwritten > unsent { TLS_BUFFER_BYTES } else { 0 };
            // Records are longer than their content. A close_notify is also sent to a peer that has already closed.
            unwritten + held + telemetry.outstanding.saturating_sub(CLOSE_NOTIFY_BYTES)
        } else {
            // The SYN counts as one byte.
            (self.sent_before_body + body.pushed()).saturating_sub(telemetry.acknowledged.saturating_sub(1))
        };
        missing.max(unsent).min(body.pushed())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}

impl InFlightRequest {
    /// Whether the library has received the request.
    fn is_sent(&self) -> bool {
        matches!(self.stage, RequestStage::Waiting(_))
    }

    fn abort(&self) {
        if let Some(body) = &self.body {
            body.abort();
        }
    }
}

impl Failed {
    /// Creates the failure for a thread that the system could not start.
    fn resources(error: io::Error) -> Self {
        Self { cause: Cause::Resources, detail: error.to_string() }
    }

    fn of(error: &reqwest::Error, by_proxy: bool) -> Self {
        let (cause, detail) = error::classify(error, by_proxy);
        Self { cause, detail }
    }
}

type Resolving = Pin<Box<dyn Future<Output = Result<Vec<SocketAddr>, Failed>> + Send>>;

/// Resolves the addresses to connect to: the server's, or the proxy's.
fn resolve_peers(url: &Url, proxy: Option<&Proxy>, by: Instant) -> Resolving {
    match proxy {
        None => Box::pin(resolve::resolve(url.clone(), by)),
        Some(proxy) => {
            let resolving = resolve::resolve(proxy.url.clone(), by);
            Box::pin(
                async move { resolving.await.map_err(|failed| Failed { cause: failed.cause.at_proxy(), ..failed }) },
            )
        }
    }
}

/// Reads the certificates first, if that has not happened yet. This blocks, because they are files, possibly many.
fn after_preparing_tls(tls: Tls, then: Resolving) -> Resolving {
    Box::pin(async move {
        match runtime::spawn_blocking(move || tls.prepare()).map_err(Failed::resources)?.await {
            Some(Ok(())) => then.await,
            Some(Err(bad)) => Err(Failed { cause: Cause::Tls, detail: bad.to_string() }),
            None => {
                Err(Failed { cause: Cause::Other, detail: "internal error while reading the certificates".to_owned() })
            }
        }
    })
}

fn family(is_v4: bool) -> &'static str {
    if is_v4 { "IPv4" } else { "IPv6" }
}

/// Returns the `peers` that can be reached from `local`: the library does not bind a socket of another address family.
fn reachable(peers: &[SocketAddr], local: Option<IpAddr>) -> Result<Vec<SocketAddr>, Failed> {
    let fits = |peer: &SocketAddr| local.is_none_or(|local| local.is_ipv4() == peer.is_ipv4());
    let reachable: Vec<SocketAddr> = peers.iter().copied().filter(fits).collect();
    match local {
        Some(local) if reachable.is_empty() && !peers.is_empty() => Err(Failed {
            cause: Cause::LocalAddress,
            detail: format!(
                "{local} is an {} address, but the server has {} addresses only",
                family(local.is_ipv4()),
                family(!local.is_ipv4())
            ),
        }),
        Some(_) | None => Ok(reachable),
    }
}

/// Creates an HTTP client that makes one connection, to one of `peers`.
fn connect(
    settings: &Settings,
    url: &Url,
    proxy: Option<&Proxy>,
    peers: &[SocketAddr],
    connect_by: Instant,
    single: single_connection::SingleConnection,
) -> Result<reqwest::Client, Failed> {
    let peers = reachable(peers, settings.local_address)?;
    #[cfg(target_os = "linux")]
    let stall_timeout = (!settings.stall_timeout.is_zero()).then_some(settings.stall_timeout);
    // The library has no limit of zero. The name lookup has already used a part of the time.
    let left = connect_by.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let https = url.scheme() == "https";
    let builder = settings.tls.apply(reqwest::Client::builder(), https);
    // On other systems, the session's timeouts detect a server that accepts no data.
    #[cfg(target_os = "linux")]
    let builder = builder.tcp_user_timeout(stall_timeout);
    let host = proxy.map_or(url, |proxy| &proxy.url).host_str();
    proxy::apply(builder, proxy, https)
        .http1_only()
        // Servers in the field compare header names by case (receivers, HTTP 1), and send responses that break the
        // rules of HTTP in ways that a strict parser would reject.
        .http1_title_case_headers()
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
        .http1_allow_spaces_after_header_name_in_responses(true)
        // The session decides about redirects, retries and connections; the library must not.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .pool_idle_timeout(None)
        .pool_max_idle_per_host(1)
        .connect_timeout(left)
        .local_address(settings.local_address)
        .resolve_to_addrs(host.unwrap_or_default(), &peers)
        .connector_layer(single)
        .build()
        .map_err(|error| Failed::of(&error, proxy.is_some()))
}

/// Builds the headers of a request. The library would add Host and Accept itself; they are set here so that the length
/// of the head is known.
fn head(request: &Request) -> Result<HeaderMap, &'static str> {
    let host = request.url.host_str().unwrap_or_default();
    let host = match request.url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let mut headers = request.head.to_headers(&host)?;
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    Ok(headers)
}

/// Returns the size of a request's head in bytes. The request line to a proxy for plain HTTP contains the whole URL.
fn head_len(request: &Request, headers: &HeaderMap) -> u64 {
    let Request { url, proxy, .. } = request;
    let origin = if proxy.is_some() && url.scheme() == "http" { url[..Position::BeforePath].len() } else { 0 };
    let target = origin + url[Position::BeforePath..Position::AfterQuery].len();
    let request_line = "POST ".len() + target + " HTTP/1.1\r\n".len();
    let lines: usize = headers.iter().map(|(name, value)| name.as_str().len() + 2 + value.len() + 2).sum();
    (request_line + lines + 2) as u64
}

/// Reads the head of a response, and its body if that is short.
async fn read_answer(mut response: reqwest::Response) -> Result<Answer, Failed> {
    let local = response.extensions().get::<HttpInfo>().map(HttpInfo::local_addr);
    let mut keep_alive = keeps_alive(response.version(), response.headers());
    let head = (response.status().as_u16(), response.headers().clone());
    let read = async {
        let mut seen = 0;
        while let Ok(Some(chunk)) = response.chunk().await {
            seen += chunk.len();
            if seen > MAX_RESPONSE_BODY {
                return false;
            }
        }
        true
    };
    keep_alive &= tokio::time::timeout(RESPONSE_BODY_TIMEOUT, read).await.unwrap_or(false);
    let (status, headers) = head;
    Ok(Answer { head: ResponseHead { status, headers, keep_alive }, local })
}

/// Whether the connection may be used again, by its version and the Connection header (RFC 9112 9.3).
fn keeps_alive(version: http::Version, headers: &HeaderMap) -> bool {
    let has_token = |token: &str| {
        headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|value| value.trim().eq_ignore_ascii_case(token))
    };
    if version < http::Version::HTTP_11 { has_token("keep-alive") } else { !has_token("close") }
}

#[cfg(test)]
mod tests;
