//! The faults that are due on one request of an encoder.

use std::future::pending;
use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{HeaderName, Request, Response, Version};
use hyper::body::{Body as _, Incoming};
use tokio::time::sleep;

use super::body_faults::BodyFaults;
use super::write_faults::GARBAGE;
use super::{Fault, Faults, Kind, OmittedHeader, Trigger};
use crate::http::body::Body;
use crate::http::connection::{Closed, Connection};
use crate::http::handled::{Answer, Handled};
use crate::points::push_session::PublishSession;
use wmhttp::headers::{Kind as RequestKind, PushId, SUPPORTED};
use wmhttp::server::{Policy, Reply};

/// The unsolicited interim response of the fault `extra-100-continue`.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// The challenge of an injected 401, without which clients would reject the response.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"fault\"");
/// The body of injected error responses.
const REASON: &str = "injected by a fault of this publishing point";

/// The faults that are due on one request.
pub(crate) struct ActiveFaults {
    point: String,
    request: RequestKind,
    has_directives: bool,
    due: Vec<Fault>,
    /// Push-ids that are treated as the id of the point's session.
    aliases: Vec<PushId>,
    connection: Arc<Connection>,
}

impl ActiveFaults {
    /// Returns the faults of a request; `None` if the point has no faults or the request does not belong to a push.
    pub(crate) fn on(
        faults: &Faults,
        point: &str,
        connection: &Arc<Connection>,
        request: &Request<Incoming>,
    ) -> Option<Self> {
        if faults.is_empty() {
            return None;
        }
        let content_type = request.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
        let kind = RequestKind::from_content_type(content_type)?;
        if faults.delay_encoder() {
            connection.write_faults().limit_recv_buffer();
        }
        let aliases = faults.iter().filter_map(|fault| {
            if let Kind::Cookie(id) = &fault.kind {
                return Some(id.clone());
            }
            (fault.kind == Kind::Without(OmittedHeader::Cookie)).then(PushId::new_session)
        });
        Some(Self {
            point: point.to_owned(),
            request: kind,
            has_directives: !request.body().is_end_stream(),
            due: faults.due(|fault| concerns(fault, kind)),
            aliases: aliases.collect(),
            connection: Arc::clone(connection),
        })
    }

    /// Returns the reply that is sent without handling the request, if any.
    ///
    /// # Errors
    /// If the connection must be closed.
    pub(crate) async fn replacement_reply(&self, policy: &Policy) -> Result<Option<Reply>, Closed> {
        let directives_fault = self.due.iter().find(|fault| fault.kind == Kind::NoDirectives && self.has_directives);
        if let Some(fault) = directives_fault {
            fault.log(&self.point);
            return Err(Closed);
        }
        let moment = if self.request == RequestKind::Setup { Trigger::Setup } else { Trigger::Start };
        self.end_request(moment, policy).await
    }

    /// Returns whether a PushStart with this id is treated as one of the point's session. The faults `no-cookie` and
    /// `cookie` keep the session's id from the encoder.
    pub(crate) fn is_session_alias(&self, id: &PushId) -> bool {
        self.request == RequestKind::Start && self.aliases.contains(id)
    }

    /// Returns the faults in the body of a PushStart of this session.
    pub(crate) fn body_faults(&self, session: &PublishSession) -> Option<BodyFaults> {
        let due: Vec<_> = self.due.iter().filter(|fault| matches!(fault.moment, Trigger::Body(_))).cloned().collect();
        (!due.is_empty()).then(|| BodyFaults::new(&self.point, due, &self.connection, session.clone()))
    }

    /// Returns the response that replaces the one to an accepted PushStart, if any.
    ///
    /// # Errors
    /// If the connection must be closed.
    pub(crate) async fn reply_at_end(&self, handled: &Handled, policy: &Policy) -> Result<Option<Reply>, Closed> {
        let is_end = self.request == RequestKind::Start && *handled == Handled::PushAccepted;
        if is_end { self.end_request(Trigger::End, policy).await } else { Ok(None) }
    }

    /// Applies the faults that are due to a response.
    pub(crate) async fn apply_to_response(&self, answer: &mut Answer) {
        let is_accepted = answer.handled == Handled::PushAccepted;
        let response = &mut answer.response;
        for fault in &self.due {
            if let Kind::Status { status, retry_after } = fault.kind
                && response.status() == status
            {
                if let Some(time) = retry_after {
                    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(time.as_secs()));
                }
                if status == 401 {
                    response.headers_mut().entry(header::WWW_AUTHENTICATE).or_insert(CHALLENGE);
                }
            }
            let is_answers = match fault.moment {
                Trigger::Answers => true,
                Trigger::Setup => self.request == RequestKind::Setup,
                Trigger::End => self.request == RequestKind::Start,
                Trigger::Start | Trigger::Body(_) => false,
            };
            if is_answers {
                self.apply_one_to_response(fault, is_accepted, response).await;
            }
        }
    }

    /// Applies a fault to a response. Faults that act elsewhere do nothing here.
    async fn apply_one_to_response(&self, fault: &Fault, is_accepted: bool, response: &mut Response<Body>) {
        match &fault.kind {
            Kind::Late(time) => {
                fault.log(&self.point);
                sleep(*time).await;
                return;
            }
            Kind::Without(omission) => drop(response.headers_mut().remove(omission.header())),
            Kind::Cookie(id) => match HeaderValue::from_str(&format!("push-id={}", id.as_str())) {
                Ok(cookie) => drop(response.headers_mut().insert(header::SET_COOKIE, cookie)),
                Err(_) => return,
            },
            Kind::Http10 => {
                *response.version_mut() = Version::HTTP_10;
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Kind::SplitAnswer => self.connection.write_faults().split(),
            Kind::ExtraContinue => self.connection.write_faults().write_before_response(CONTINUE),
            Kind::CloseAfterSetup(time) if is_accepted => {
                let (connection, time) = (Arc::downgrade(&self.connection), *time);
                // The connection is closed only if no request has arrived in the meantime.
                let requests = self.connection.requests();
                tokio::spawn(async move {
                    sleep(time).await;
                    if let Some(connection) = connection.upgrade().filter(|it| it.requests() == requests) {
                        connection.close();
                    }
                });
            }
            Kind::CloseAfterSetup(_)
            | Kind::Stall(_)
            | Kind::Slow(_)
            | Kind::Reset
            | Kind::Close
            | Kind::Garbage
            | Kind::NoAnswer
            | Kind::Status { .. }
            | Kind::NoDirectives
            | Kind::SmallPackets(_)
            | Kind::NoFiller
            | Kind::NoStreamChange => return,
        }
        fault.log(&self.point);
    }

    /// Applies the faults that are due at this moment and end the request. Returns the reply of the first one that has
    /// a reply.
    ///
    /// # Errors
    /// If the connection must be closed.
    async fn end_request(&self, moment: Trigger, policy: &Policy) -> Result<Option<Reply>, Closed> {
        for fault in self.due.iter().filter(|fault| fault.moment == moment) {
            let reply = match fault.kind {
                Kind::Reset => {
                    fault.log(&self.point);
                    self.connection.reset();
                    return pending().await;
                }
                Kind::NoAnswer => {
                    fault.log(&self.point);
                    // The HTTP library drops this future with the connection.
                    return pending().await;
                }
                Kind::Close => {
                    fault.log(&self.point);
                    return Err(Closed);
                }
                Kind::Garbage => {
                    self.connection.write_faults().write_before_response(GARBAGE);
                    Reply::error(policy, 500, REASON)
                }
                Kind::Status { status, .. } => Reply::error(policy, status, REASON),
                Kind::Stall(_)
                | Kind::Slow(_)
                | Kind::Late(_)
                | Kind::Without(_)
                | Kind::Cookie(_)
                | Kind::Http10
                | Kind::SplitAnswer
                | Kind::ExtraContinue
                | Kind::CloseAfterSetup(_)
                | Kind::NoDirectives
                | Kind::SmallPackets(_)
                | Kind::NoFiller
                | Kind::NoStreamChange => continue,
            };
            fault.log(&self.point);
            return Ok(Some(reply));
        }
        Ok(None)
    }
}

/// Returns whether a request has the fault's moment.
fn concerns(fault: &Fault, request: RequestKind) -> bool {
    match fault.moment {
        Trigger::Setup => request == RequestKind::Setup,
        Trigger::Start | Trigger::Body(_) | Trigger::End => request == RequestKind::Start,
        Trigger::Answers => true,
    }
}

impl OmittedHeader {
    /// Returns the name of the header.
    fn header(self) -> HeaderName {
        match self {
            Self::Cookie => header::SET_COOKIE,
            Self::Server => header::SERVER,
            Self::Pragma => header::PRAGMA,
            Self::Supported => SUPPORTED,
        }
    }
}
