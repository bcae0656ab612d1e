//! Authorization of pushes, and the opening of push sessions.

use std::sync::Arc;
use std::time::Instant;

use super::session::{self, SessionStart};
use crate::admission::authorization::{Access, Refused};
use crate::admission::networks::Networks;
use crate::config::{PointConfig, Principals};
use crate::http::connection::Connection;
use crate::points::client::Client;
use crate::points::names::{is_reserved, key, name_of, reserved};
use crate::points::publishing_point::PublishingPoint;
use crate::points::push_session::{PublishSession, SessionControl};
use crate::points::registry::{Registry, Table};
use crate::random::random_number;
use wmhttp::headers::{Directives, PushId, RequestHead};
use wmhttp::server::access::RequestLine;
use wmhttp::server::{PointLookup, Reply, ServerSession, accept, loop_refusal};

/// The part of the server that accepts pushes.
pub(crate) struct Ingest {
    pub(super) registry: Arc<Registry>,
    access: Arc<Access>,
}

/// The session, point and reply of an accepted PushSetup.
struct AcceptedSetup {
    session: ServerSession,
    point: Arc<PublishingPoint>,
    reply: Reply,
}

impl Ingest {
    /// Returns the part of a server with these points and users.
    pub(crate) fn new(registry: Arc<Registry>, access: Arc<Access>) -> Self {
        Self { registry, access }
    }

    /// Returns the user who may push to the point of `path`, or create it from the template in `directives`; `None` if
    /// no authentication is required.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn authorize(
        &self,
        head: &RequestHead,
        line: RequestLine<'_>,
        path: &str,
        directives: Option<&Directives>,
    ) -> Result<Option<String>, Box<Refused>> {
        let rights = self.rights(path, directives);
        self.access.pusher(head, line, &rights, &self.registry.config().policy)
    }

    /// Returns whether the user that opened this session may still push to the point of `path`.
    pub(super) fn owner_may_push(&self, session: &PublishSession, path: &str) -> bool {
        session.owner().is_some_and(|owner| self.access.still_has(owner, &self.rights(path, None)))
    }

    /// Returns the rights that a push needs.
    fn rights(&self, path: &str, directives: Option<&Directives>) -> Vec<Principals> {
        let template = || directives.and_then(|directives| self.template(directives));
        match self.registry.point(path) {
            Some(point) => vec![point.config().write.clone()],
            // Clients that are not authenticated do not learn which points exist.
            None => template().map_or(vec![Principals::Users], |template| {
                let template = template.config();
                vec![template.write.clone(), template.create.clone()]
            }),
        }
    }

    /// Opens a session at the point of `path`, and creates the point if it comes from a template.
    ///
    /// # Errors
    /// The refusal.
    pub(super) async fn open(
        &self,
        path: &str,
        head: &RequestHead,
        directives: &Directives,
        connection: &Arc<Connection>,
        user: Option<String>,
    ) -> Result<Reply, Reply> {
        let config = self.registry.config();
        let policy = &config.policy;
        let new_id = new_push_id()
            .ok_or_else(|| Reply::error(policy, 500, "internal error: no random numbers available for a session"))?;
        let name = name_of(path);
        if let Some(reply) = self.source_refusal(&name, directives) {
            return Err(reply);
        }
        let new_point = match self.template_for(&name, directives, connection)? {
            Some(template) => Some(self.create_point(&name, template).await?),
            None => None,
        };
        if let Some(reply) = self.loop_refusal(&name, new_point.as_ref(), head) {
            return Err(reply);
        }
        let key = key(&name);
        // From here to `insert_session`, the table stays locked, so that two encoders cannot open the same point at
        // once. Everything that waits was done before.
        let mut table = self.registry.table();
        let AcceptedSetup { session, point, reply } =
            match self.admit(&mut table, &key, new_point, head, directives, new_id) {
                Ok(accepted) => accepted,
                Err(reply) => {
                    drop(table);
                    if let (Some(point), 400.., Some((_, text))) =
                        (self.registry.point_named(&name), reply.status, &reply.body)
                    {
                        point.activity().record_error(&format!("push refused: {} {}", reply.status, text.trim_end()));
                    }
                    return Err(reply);
                }
            };
        let id = session.push_id().clone();
        let client = Client { user: user.clone(), ..Client::new(connection.peer(), Some(&head.user_agent)) };
        let start = SessionStart {
            pusher: point.count_session(client.clone()),
            point: Arc::clone(&point),
            session,
            owner: user.map(Arc::from),
            on_end: {
                let (registry, point, id) = (Arc::clone(&self.registry), Arc::clone(&point), id.clone());
                Box::new(move |destroy| registry.remove_session(&id, destroy.then(|| point.name())))
            },
        };
        let handle = session::spawn(start, connection);
        table.insert_session(id, handle, key);
        drop(table);
        let (address, user, user_agent) = (client.address, client.user, client.agent);
        tracing::info!(point = point.name(), %address, user, user_agent, "push session opened");
        point.relays().set_via(&head.via);
        Ok(reply)
    }

    /// Admits a PushSetup by the state of the table and the request, and displaces a session whose encoder is not
    /// connected.
    ///
    /// # Errors
    /// The refusal.
    fn admit(
        &self,
        table: &mut Table,
        key: &str,
        new_point: Option<Arc<PublishingPoint>>,
        head: &RequestHead,
        directives: &Directives,
        new_id: PushId,
    ) -> Result<AcceptedSetup, Reply> {
        let config = self.registry.config();
        let policy = &config.policy;
        let known = table.point(key).map(Arc::clone);
        let before = table.session_at(key).map(|(id, session)| (id.clone(), session.is_connected()));
        let lookup = match (&known, &new_point) {
            // A session whose encoder is not connected is displaced, because the new request may come from the same
            // encoder after a restart.
            (Some(point), _) => point.redirect().unwrap_or(match before {
                Some((_, true)) => PointLookup::Busy,
                Some((_, false)) | None => PointLookup::Exists,
            }),
            (None, Some(_)) => PointLookup::FromTemplate,
            (None, None) => PointLookup::Missing,
        };
        // A new session in place of the point's present one needs no further place.
        let full = table.sessions_len() >= config.max_sessions && before.is_none();
        if table.is_stopping() || (full && matches!(lookup, PointLookup::Exists | PointLookup::FromTemplate)) {
            return Err(Reply::error(policy, 503, "the push session limit of this server is reached"));
        }
        if lookup == PointLookup::FromTemplate && table.points_len() >= config.max_points {
            return Err(Reply::error(policy, 503, "the publishing point limit of this server is reached"));
        }
        let (session, reply) = accept(head, directives, lookup, new_id, policy, Instant::now());
        let Some((session, point)) = session.zip(known.or(new_point)) else { return Err(reply) };
        let point = table.insert_point(point);
        if let Some(session) = before.and_then(|(id, _)| table.remove_session(&id)) {
            session.control(SessionControl::Displaced);
        }
        Ok(AcceptedSetup { session, point, reply })
    }

    /// Returns the refusal of a push to a point that pulls its stream, or would do so when created from its template.
    fn source_refusal(&self, name: &str, directives: &Directives) -> Option<Reply> {
        let point = self.registry.point_named(name).or_else(|| self.template(directives))?;
        point.config().source.as_ref()?;
        point.activity().record_error("push refused: the point has a `source`");
        let text = "this publishing point pulls its stream from another server (`source` in its configuration): push to \
                    that server, or to another publishing point, or remove `source`";
        Some(Reply::error(&self.registry.config().policy, 403, text))
    }

    /// Returns the settings of a point that must first be created from a template.
    ///
    /// # Errors
    /// The refusal, if it cannot be created.
    fn template_for(
        &self,
        name: &str,
        directives: &Directives,
        connection: &Connection,
    ) -> Result<Option<Arc<PointConfig>>, Reply> {
        let policy = &self.registry.config().policy;
        if key(name).is_empty() || self.registry.point_named(name).is_some() {
            return Ok(None);
        }
        let Some(template) = self.template(directives).map(|template| template.config()) else { return Ok(None) };
        if !Networks::allow(template.allow_push.as_ref(), connection.permit().address()) {
            return Err(Reply::error(policy, 403, "your address is not in a network that the template allows"));
        }
        if is_reserved(name) {
            return Err(Reply::error(policy, 403, &reserved(name)));
        }
        Ok(Some(template))
    }

    /// Returns the point whose settings a new point would get (S-8).
    fn template(&self, directives: &Directives) -> Option<Arc<PublishingPoint>> {
        self.registry.point_named(&name_of(directives.template.as_deref()?))
    }

    /// Creates a point without blocking the runtime, because its recorder is a thread.
    async fn create_point(&self, name: &str, config: Arc<PointConfig>) -> Result<Arc<PublishingPoint>, Reply> {
        let owned = name.to_owned();
        let created = tokio::task::spawn_blocking(move || PublishingPoint::create(&owned, &config)).await;
        // Fails only if the task panicked or the runtime ends.
        created.unwrap_or_else(|error| Err(error.into())).map_err(|error| {
            tracing::error!(point = name, %error, "cannot create the publishing point");
            Reply::error(&self.registry.config().policy, 500, "internal error: cannot create the publishing point")
        })
    }

    /// Returns the refusal of a push that has passed this point before, or too many relays.
    fn loop_refusal(&self, name: &str, new_point: Option<&Arc<PublishingPoint>>, head: &RequestHead) -> Option<Reply> {
        let known = self.registry.point_named(name);
        if known.as_ref().or(new_point).is_none_or(|point| point.redirect().is_some()) {
            return None;
        }
        let via_pseudonym = known.as_ref().map(|point| point.relays().via_pseudonym());
        loop_refusal(&head.via, via_pseudonym, &self.registry.config().policy)
    }
}

/// Returns the id of a new session (S-1): 64 random bits as a decimal number, because some encoders accept only digits.
fn new_push_id() -> Option<PushId> {
    PushId::parse(&random_number()?)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn s1_push_ids_are_random_numbers() {
        let ids: HashSet<String> = (0..1000).map(|_| new_push_id().unwrap().as_str().to_owned()).collect();
        assert_eq!(ids.len(), 1000);
        let numbers: Vec<u64> = ids.iter().map(|id| id.parse().unwrap()).collect();
        for bit in 0..64 {
            let set = numbers.iter().filter(|number| *number >> bit & 1 == 1).count();
            assert!((350..650).contains(&set), "bit {bit} is set in {set} of 1000");
        }
    }
}
