//! HTTP handlers of the push protocol: request heads and bodies to sessions, and their replies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::rate_limit::RateLimiter;
use super::setup::Ingest;
use crate::admission::authorization::Refused;
use crate::fault_injection::body_faults::BodyFaults;
use crate::fault_injection::request_faults::ActiveFaults;
use crate::http::body::Body;
use crate::http::connection::{Closed, Connection};
use crate::http::handled::{Answer, Handled, Refusal};
use crate::playback::asx;
use crate::points::publishing_point::PublishingPoint;
use crate::points::push_session::{BodyChunk, SessionRequest, Start};
use wmhttp::headers::{Cookies, Directives, Kind, RequestHead, is_encoder, lenient_text};
use wmhttp::server::access::RequestLine;
use wmhttp::server::{Outcome, Policy, Reply, reply_to_non_encoder, unknown_session};

/// Maximum bytes of a PushSetup's body. The text of the 413 reply contains this number.
const MAX_SETUP_BODY: usize = 8 * 1024;
/// Maximum bytes of a PushStart's body that are read and discarded after a 401; beyond that the connection closes.
const MAX_DRAINED_BODY: usize = 64 << 20;
/// Maximum time for that.
const DRAIN_TIME: Duration = Duration::from_secs(30);
/// Chunks that wait for the session. Each is the result of one read by the HTTP library.
const BODY_CHUNK_QUEUE_LEN: usize = 4;

/// Returns whether the request belongs to the push protocol.
pub(crate) fn is_push(request: &Request<Incoming>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    request.method() == Method::POST && content_type.and_then(Kind::from_content_type).is_some()
}

impl Ingest {
    /// Answers a PushSetup or PushStart.
    ///
    /// # Errors
    /// [`Closed`] if the protocol requires closing the connection without a response.
    pub(crate) async fn answer(
        &self,
        connection: &Arc<Connection>,
        request: Request<Incoming>,
    ) -> Result<Answer, Closed> {
        let faults = self
            .registry
            .point(request.uri().path())
            .and_then(|point| ActiveFaults::on(&point.config().faults, point.name(), connection, &request));
        let config = self.registry.config();
        let policy = &config.policy;
        let replacement_reply = match &faults {
            Some(faults) => faults.replacement_reply(policy).await?,
            None => None,
        };
        let mut answer = match replacement_reply {
            Some(reply) => faulty_answer(reply),
            None => match self.push(connection, request, faults.as_ref()).await {
                Ok(reply) => answer(reply.ok_or(Closed)?, None),
                Err(refused) => answer(refused.reply, refused.user),
            },
        };
        if let Some(faults) = faults {
            if let Some(reply) = faults.reply_at_end(&answer.handled, policy).await? {
                answer = faulty_answer(reply);
            }
            faults.apply_to_response(&mut answer).await;
        }
        Ok(answer)
    }

    /// Handles a PushSetup or PushStart. Returns `None` if the session ended without a response, so that the connection
    /// must be closed.
    ///
    /// # Errors
    /// The reply to a refused request, and its user.
    async fn push(
        &self,
        connection: &Arc<Connection>,
        request: Request<Incoming>,
        faults: Option<&ActiveFaults>,
    ) -> Result<Option<Reply>, Box<Refused>> {
        let registry = &self.registry;
        let config = registry.config();
        let policy = &config.policy;
        let agent = request.headers().get(header::USER_AGENT).map(lenient_text);
        if !agent.as_deref().is_some_and(is_encoder) {
            return Err(reply_to_non_encoder(policy, &asx::url_of(&request, connection.scheme())).into());
        }
        if let Some(text) = missing_length(&request) {
            return Err(Reply::error(policy, 411, text).into());
        }
        let mut head = RequestHead::from_headers(request.headers()).map_err(|text| Reply::error(policy, 400, text))?;
        let path = request.uri().path().to_owned();
        if faults.is_some_and(|faults| faults.is_session_alias(head.cookies.push_id())) {
            head.cookies = registry.session_of(&path).map_or(head.cookies, Cookies::for_session);
        }
        let id = head.cookies.push_id().clone();
        let (request, body) = request.into_parts();
        let target = request.uri.to_string();
        let line = RequestLine { method: request.method.as_str(), target: &target };
        match head.kind {
            Kind::Setup => {
                // The body is read in any case, because the connection stays open.
                let body = timeout(config.bounds.setup_timeout, setup_body(body))
                    .await
                    .map_err(|_| Reply::error(policy, 408, "timeout while reading the PushSetup body"))?
                    .ok_or_else(|| {
                        Reply::error(policy, 413, "the PushSetup body is incomplete, or longer than 8192 bytes")
                    })?;
                let directives = Directives::from_body(&body).map_err(|text| Reply::error(policy, 400, text))?;
                // A redirected encoder need not authenticate here.
                let user = if registry.point(&path).is_none_or(|point| point.redirect().is_none()) {
                    self.authorize(&head, line, &path, Some(&directives))?
                } else {
                    None
                };
                if id.is_new_session() {
                    let reply = self.open(&path, &head, &directives, connection, user.clone()).await;
                    return reply.map(Some).map_err(|reply| Box::new(Refused { reply, user }));
                }
                let session = registry.session(&id, &path).ok_or_else(|| unknown_session(policy))?;
                if !session.belongs_to(user.as_deref()) {
                    return Err(Box::new(Refused { reply: other_users_session(policy), user }));
                }
                let (answer, reply) = oneshot::channel();
                let connection = Arc::downgrade(connection);
                session.request(SessionRequest::SetUpAgain { directives, connection, answer }).await;
                Ok(Some(reply.await.unwrap_or_else(|_| unknown_session(policy))))
            }
            Kind::Start => {
                let session = registry.session_on(&id, &path, connection);
                let is_authorized = head.authorization.iter().any(|(name, _)| name == header::AUTHORIZATION);
                // Windows Media Encoder authenticates only at PushSetup. After that, the connection and the push-id
                // identify it.
                let is_identified = session.as_ref().is_some_and(|(_, session)| {
                    !is_authorized && session.is_on(connection) && self.owner_may_push(session, &path)
                });
                let user = if is_identified {
                    session.as_ref().and_then(|(_, session)| session.owner().map(str::to_owned))
                } else {
                    match self.authorize(&head, line, &path, None) {
                        Ok(user) => user,
                        Err(refused) => {
                            // The connection stays open for the request with credentials, so the rest of this body must
                            // be read first.
                            if !refused.reply.close {
                                tokio::spawn(timeout(DRAIN_TIME, drain(body)));
                            }
                            return Err(refused);
                        }
                    }
                };
                let (id, session) = session.ok_or_else(|| unknown_session(policy))?;
                if !session.belongs_to(user.as_deref()) {
                    return Err(Box::new(Refused { reply: other_users_session(policy), user }));
                }
                head.cookies = Cookies::for_session(id);
                let (to_session, chunks) = mpsc::channel(BODY_CHUNK_QUEUE_LEN);
                let (answer, reply) = oneshot::channel();
                let start = Start { head, connection: Arc::downgrade(connection), chunks, answer };
                session.request(SessionRequest::Start(start)).await;
                let faults = faults.and_then(|faults| faults.body_faults(&session));
                // The body has its own task, because the response may be sent before the body is complete.
                tokio::spawn(forward_body(body, to_session, faults, registry.point(&path)));
                Ok(reply.await.ok())
            }
        }
    }
}

/// Returns why a request without a Content-Length is refused (C-2, C-7). A PushSetup without one has no body (RFC 9112,
/// 6.3), unless it is chunked.
fn missing_length(request: &Request<Incoming>) -> Option<&'static str> {
    let headers = request.headers();
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if headers.contains_key(header::TRANSFER_ENCODING) {
        Some("a push must have a Content-Length header and no Transfer-Encoding header")
    } else if headers.contains_key(header::CONTENT_LENGTH) {
        None
    } else {
        let is_start = content_type.and_then(Kind::from_content_type) == Some(Kind::Start);
        is_start.then_some("a PushStart must have a Content-Length header")
    }
}

/// Returns the response to a user that uses the push-id of another user.
fn other_users_session(policy: &Policy) -> Reply {
    Reply::error(policy, 403, "this push session belongs to another user")
}

/// Reads and discards a body, so that the connection can carry the next request.
async fn drain(mut body: Incoming) {
    let mut left = MAX_DRAINED_BODY;
    while let Some(Ok(frame)) = body.frame().await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// Returns the whole body; `None` if it is too long or incomplete.
async fn setup_body(mut body: Incoming) -> Option<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.ok()?.into_data() {
            if whole.len() + data.len() > MAX_SETUP_BODY {
                return None;
            }
            whole.extend_from_slice(&data);
        }
    }
    Some(whole.freeze())
}

/// Passes a PushStart's body to its session until the body or the session ends. If the body is incomplete, the channel
/// closes without [`BodyChunk::End`].
async fn forward_body(
    mut body: Incoming,
    session: mpsc::Sender<BodyChunk>,
    mut faults: Option<BodyFaults>,
    point: Option<Arc<PublishingPoint>>,
) {
    let mut rate_limiter = RateLimiter::new();
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = session.closed() => return,
            continues = BodyFaults::apply(&mut faults, &session) => if continues { continue } else { return },
        };
        let chunk = match frame {
            None => BodyChunk::End,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => BodyChunk::Bytes(bytes),
                // Trailers are not part of the stream.
                Err(_) => continue,
            },
            Some(Err(_)) => return,
        };
        let wait = match (&chunk, &point) {
            (BodyChunk::Bytes(bytes), Some(point)) => {
                rate_limiter.wait(bytes.len(), point.config().max_bitrate, point.name(), Instant::now())
            }
            (BodyChunk::Bytes(_), None) | (BodyChunk::End, _) => Duration::ZERO,
        };
        let chunk = match (&mut faults, chunk) {
            (Some(faults), BodyChunk::Bytes(bytes)) => {
                if faults.forward_chunk(bytes, &session).await {
                    continue;
                } else {
                    return;
                }
            }
            (_, chunk) => chunk,
        };
        let last = matches!(chunk, BodyChunk::End);
        if session.send(chunk).await.is_err() || last {
            return;
        }
        // The session has already received the data and does not wait. If it ends, so does this wait.
        if !wait.is_zero() && timeout(wait, session.closed()).await.is_ok() {
            return;
        }
    }
}

/// Returns the response of an injected fault, which is already logged.
fn faulty_answer(reply: Reply) -> Answer {
    Answer { handled: Handled::Plain, ..answer(reply, None) }
}

/// Converts a reply of the protocol to HTTP, with the result of the request of this user.
pub(crate) fn answer(reply: Reply, user: Option<String>) -> Answer {
    let headers = reply.to_headers();
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = reply.body.map(|(_, text)| text);
    let handled = match reply.outcome {
        Outcome::Accepted => Handled::PushAccepted,
        // The session logs its own end.
        Outcome::SessionEnded => Handled::Plain,
        Outcome::Refused => {
            let reason = match &text {
                // A player received an ASX file instead of an error.
                Some(_) if status.is_success() => "the User-Agent is not a supported WMEncoder".to_owned(),
                Some(text) => text.clone(),
                None => status.canonical_reason().unwrap_or("refused").to_owned(),
            };
            Handled::Refused(Refusal { reason: reason.into(), user })
        }
        Outcome::Unauthorized(denied) => Handled::Unauthorized { stale: denied.stale, user: denied.user },
    };
    let mut response = Response::new(text.map_or_else(Body::empty, Body::full));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Answer::new(handled, response)
}
