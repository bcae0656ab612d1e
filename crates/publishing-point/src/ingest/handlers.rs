//! The push protocol's requests over HTTP: heads and bodies to and from sessions.

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
use crate::fault_injection::body_faults::BodyFaults;
use crate::fault_injection::request_faults::ActiveFaults;
use crate::http::body::Body;
use crate::http::connection::{Closed, Connection};
use crate::http::handled::{Answer, Handled};
use crate::playback::asx;
use crate::points::publishing_point::PublishingPoint;
use crate::points::push_session::{BodyChunk, SessionRequest, Start};
use wmhttp::headers::{Cookies, Directives, Kind, RequestHead, is_encoder};
use wmhttp::server::access::RequestLine;
use wmhttp::server::{Outcome, Reply, reply_to_non_encoder, unknown_session};

/// Bytes of a PushSetup's body.
const MAX_SETUP: usize = 8 * 1024;
/// Chunks that wait for the session; each is what the HTTP library read at one time.
const BODY_CHUNK_QUEUE_LEN: usize = 4;

/// Whether the request is of the push protocol.
pub(crate) fn is_push(request: &Request<Incoming>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    request.method() == Method::POST && content_type.and_then(Kind::from_content_type).is_some()
}

impl Ingest {
    /// Answers a PushSetup or PushStart.
    ///
    /// # Errors
    /// [`Closed`] where the protocol wants the connection closed without an answer.
    pub(crate) async fn answer(
        &self,
        connection: &Arc<Connection>,
        request: Request<Incoming>,
    ) -> Result<Answer, Closed> {
        let acting = self
            .registry
            .point(request.uri().path())
            .and_then(|point| ActiveFaults::on(&point.config().faults, point.name(), connection, &request));
        let config = self.registry.config();
        let policy = &config.policy;
        let instead = match &acting {
            Some(acting) => acting.instead(policy).await?,
            None => None,
        };
        let reply = match instead {
            Some(reply) => reply,
            None => match self.push(connection, request, acting.as_ref()).await {
                Ok(reply) => reply.ok_or(Closed)?,
                Err(reply) => reply,
            },
        };
        let Some(acting) = acting else { return Ok(answer(reply)) };
        let mut answer = answer(acting.change(reply, policy).await?);
        acting.distort(&mut answer.response).await;
        Ok(answer)
    }

    async fn push(
        &self,
        connection: &Arc<Connection>,
        request: Request<Incoming>,
        acting: Option<&ActiveFaults>,
    ) -> Result<Option<Reply>, Reply> {
        let registry = &self.registry;
        let config = registry.config();
        let policy = &config.policy;
        let agent = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        if !agent.is_some_and(is_encoder) {
            return Err(reply_to_non_encoder(policy, &asx::url_of(&request, connection.scheme())));
        }
        let mut head = RequestHead::from_headers(request.headers()).map_err(|text| Reply::error(policy, 400, text))?;
        let path = request.uri().path().to_owned();
        if acting.is_some_and(|acting| acting.takes_for_session(head.cookies.push_id())) {
            head.cookies = registry.session_of(&path).map_or(head.cookies, Cookies::of_session);
        }
        let id = head.cookies.push_id().clone();
        let (request, body) = request.into_parts();
        let target = request.uri.to_string();
        let line = RequestLine { method: request.method.as_str(), target: &target };
        match head.kind {
            Kind::Setup => {
                // Read in any case, since the connection stays open.
                let body = timeout(config.bounds.setup_timeout, setup_body(body))
                    .await
                    .map_err(|_| Reply::error(policy, 408, "the PushSetup body takes too long"))?
                    .ok_or_else(|| {
                        Reply::error(policy, 413, "the PushSetup body is cut off, or longer than 8192 bytes")
                    })?;
                let directives = Directives::from_body(&body).map_err(|text| Reply::error(policy, 400, text))?;
                // An encoder that is sent elsewhere need not show who it is here.
                if registry.point(&path).is_none_or(|point| point.redirect().is_none()) {
                    self.authorize(&head, line, &path, Some(&directives))?;
                }
                if id.is_new_session() {
                    return self.open(&path, &head, &directives, connection).await.map(Some);
                }
                let session = registry.session(&id, &path).ok_or_else(|| unknown_session(policy))?;
                let (answer, reply) = oneshot::channel();
                let connection = Arc::downgrade(connection);
                session.request(SessionRequest::SetUpAgain { directives, connection, answer }).await;
                Ok(Some(reply.await.unwrap_or_else(|_| unknown_session(policy))))
            }
            Kind::Start => {
                self.authorize(&head, line, &path, None)?;
                let session = registry.session(&id, &path).ok_or_else(|| unknown_session(policy))?;
                let (to_session, chunks) = mpsc::channel(BODY_CHUNK_QUEUE_LEN);
                let (answer, reply) = oneshot::channel();
                let start = Start { head, connection: Arc::downgrade(connection), chunks, answer };
                session.request(SessionRequest::Start(start)).await;
                let faults = acting.and_then(|acting| acting.in_body(&session));
                // A task of its own, since the answer may go out before the body is complete.
                tokio::spawn(pump(body, to_session, faults, registry.point(&path)));
                Ok(reply.await.ok())
            }
        }
    }
}

/// The whole body, or `None` where it is too long or breaks off.
async fn setup_body(mut body: Incoming) -> Option<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.ok()?.into_data() {
            if whole.len() + data.len() > MAX_SETUP {
                return None;
            }
            whole.extend_from_slice(&data);
        }
    }
    Some(whole.freeze())
}

/// Hands a PushStart's body to its session until the body ends or the session wants no more. Where the
/// body breaks off the session sees the channel end without [`BodyChunk::End`].
async fn pump(
    mut body: Incoming,
    session: mpsc::Sender<BodyChunk>,
    mut faults: Option<BodyFaults>,
    point: Option<Arc<PublishingPoint>>,
) {
    let mut pace = RateLimiter::new();
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = session.closed() => return,
            go_on = BodyFaults::strike(&mut faults, &session) => if go_on { continue } else { return },
        };
        let chunk = match frame {
            None => BodyChunk::End,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => BodyChunk::Bytes(bytes),
                // Trailers: nothing of the stream.
                Err(_) => continue,
            },
            Some(Err(_)) => return,
        };
        let wait = match (&chunk, &point) {
            (BodyChunk::Bytes(bytes), Some(point)) => {
                pace.wait(bytes.len(), point.config().max_bitrate, point.name(), Instant::now())
            }
            (BodyChunk::Bytes(_), None) | (BodyChunk::End, _) => Duration::ZERO,
        };
        let chunk = match (&mut faults, chunk) {
            (Some(faults), BodyChunk::Bytes(bytes)) => {
                if faults.hand_on(bytes, &session).await {
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
        // The session is not kept waiting for what has come, and one that wants no more ends the wait.
        if !wait.is_zero() && timeout(wait, session.closed()).await.is_ok() {
            return;
        }
    }
}

/// A reply of the protocol as HTTP, and what it says of the request.
pub(crate) fn answer(reply: Reply) -> Answer {
    let handled = match reply.outcome {
        Outcome::Accepted => Handled::PushAccepted,
        Outcome::Refused => Handled::Plain,
        Outcome::Unauthorized { stale } => Handled::Unauthorized { stale },
    };
    let headers = reply.to_headers();
    let body = reply.body.map_or_else(Body::empty, |(_, text)| Body::full(text));
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = headers;
    Answer::new(handled, response)
}
