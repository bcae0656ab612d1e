//! Which publishing points and push sessions there are, and who may have them.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use http::{HeaderMap, Request};
use hyper::body::Incoming;

use super::publishing_point::{PointStats, PublishingPoint};
use crate::admission::authorization::{Access, AccessDenied, random_digits};
use crate::config::{Config, PointConfig, Principals, key};
use crate::fault_injection::ActiveFaults;
use crate::http::connection::Connection;
use crate::http::dispatch::is_allowed;
use crate::ingest::session::{self, PublishSession, SessionControl};
use crate::playback::sessions::PlayerSessions;
use crate::playback::stream::{PlayRequest, PlayerStream};
use crate::points::activity::Client;
use crate::recording::recorder::Recorder;
use crate::relay::Relays;
use crate::status::{self, ServerStatusState};
use wmhttp::headers::{Directives, PushId, RequestHead};
use wmhttp::server::access::RequestLine;
use wmhttp::server::{PointLookup, Reply, accept};

/// Which publishing points and push sessions there are.
pub(crate) struct Registry {
    /// Replaced as a whole by a reload.
    config: RwLock<Arc<Config>>,
    state: Mutex<State>,
    access: Access,
    /// Players of all points.
    playing: Arc<AtomicUsize>,
    board: ServerStatusState,
    viewers: PlayerSessions,
}

#[derive(Default)]
struct State {
    /// By name in lower case.
    points: HashMap<String, Arc<PublishingPoint>>,
    sessions: HashMap<PushId, Entry>,
    /// No new session begins.
    stopping: bool,
}

struct Entry {
    handle: PublishSession,
    /// Name of its point in lower case.
    point: String,
}

/// Why a player gets no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlayError {
    UnknownPoint,
    NotPushed,
    TooManyPlayers,
}

impl Registry {
    /// A registry with the points of `config`.
    ///
    /// # Errors
    /// Where a recorder cannot be started, or a point has a name that is reserved.
    pub(crate) fn new(config: Config) -> io::Result<Arc<Self>> {
        let mut state = State::default();
        check_names(&config)?;
        for (name, point) in &config.points {
            state.points.insert(key(name), new_point(name, &Arc::new(point.clone()))?);
        }
        let access = Access::new(config.users.clone());
        let board = ServerStatusState::new(config.status_listen.is_some());
        let config = RwLock::new(Arc::new(config));
        Ok(Arc::new(Self {
            config,
            state: Mutex::new(state),
            access,
            playing: Arc::default(),
            board,
            viewers: PlayerSessions::default(),
        }))
    }

    /// The configuration in force now: read it when you act, a reload replaces it.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes another configuration. Points that it does not name any more end, unless they were made from a
    /// template; what else goes on is not interrupted.
    ///
    /// # Errors
    /// Where a recorder for a point cannot be started, or a new one has a name that is reserved: then nothing changes.
    pub(crate) fn set_config(&self, config: Config) -> io::Result<()> {
        check_names(&config)?;
        let config = Arc::new(config);
        let mut state = self.lock();
        let mut fresh = Vec::new();
        let mut recorders = Vec::new();
        for (name, config) in &config.points {
            match state.points.get(&key(name)) {
                None => fresh.push((key(name), new_point(name, &Arc::new(config.clone()))?)),
                Some(point) if point.recorder().is_none() => {
                    recorders.extend(new_recorder(name, config)?.map(|recorder| (Arc::clone(point), recorder)));
                }
                Some(_) => {}
            }
        }
        for (point, recorder) in recorders {
            point.set_recorder(recorder);
        }
        // First: a new point that asks for users must not be there before they are.
        self.access.set_users(config.users.clone());
        let kept: HashMap<_, _> = config.points.iter().map(|(name, point)| (key(name), point)).collect();
        let before = self.config();
        for name in before.points.keys().map(|name| key(name)).filter(|name| !kept.contains_key(name)) {
            if let Some((_, entry)) = state.session_of(&name) {
                entry.handle.decide(SessionControl::Expelled(404));
            }
            if let Some(point) = state.points.remove(&name) {
                point.end();
            }
        }
        for (name, point) in &state.points {
            if let Some(config) = kept.get(name) {
                point.set_config(Arc::new((*config).clone()));
            }
        }
        state.points.extend(fresh);
        drop(state);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Whether the pusher may push to the point that `path` names, or make it from the template in `directives`.
    ///
    /// # Errors
    /// What to answer where it may not.
    pub(crate) fn admit(
        &self,
        head: &RequestHead,
        line: RequestLine<'_>,
        path: &str,
        directives: Option<&Directives>,
    ) -> Result<(), Reply> {
        let template = || directives.and_then(|directives| self.lock().template(directives).map(Arc::clone));
        let rights = match self.point(path) {
            Some(point) => vec![point.config().write.clone()],
            // Who is unknown is not told what there is.
            None => template().map_or(vec![Principals::Users], |template| {
                let template = template.config();
                vec![template.write.clone(), template.create.clone()]
            }),
        };
        self.access.pusher(head, line, &rights, &self.config().policy, path)
    }

    /// Whether the player may play at the point that `path` names. Where there is none it will be told so.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn admit_player(
        &self,
        headers: &HeaderMap,
        line: RequestLine<'_>,
        path: &str,
    ) -> Result<(), AccessDenied> {
        let Some(point) = self.point(path) else { return Ok(()) };
        self.access.player(headers, line, &point.config().read, path)
    }

    /// Gives the name of the user who asks, and may act at the point of this name.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn admit_operator(
        &self,
        headers: &HeaderMap,
        line: RequestLine<'_>,
        point: &str,
    ) -> Result<String, AccessDenied> {
        let point = self.point_named(point).ok_or(AccessDenied::NoRight)?;
        self.access.operator(headers, line, &point.config().operate, point.name())
    }

    /// The sessions of players.
    pub(crate) fn viewers(&self) -> &PlayerSessions {
        &self.viewers
    }

    /// Where the pushers of the point that `path` names are sent (S-5).
    pub(crate) fn redirect(&self, path: &str) -> Option<PointLookup> {
        let point = self.point(path)?.config();
        let moved = point.redirect.as_ref().map(|url| PointLookup::Moved(url.to_string()));
        moved.or_else(|| point.proxy_redirect.as_ref().map(|url| PointLookup::UseProxy(url.to_string())))
    }

    /// The faults that a push request meets, where its point has any.
    pub(crate) fn faults(&self, connection: &Arc<Connection>, request: &Request<Incoming>) -> Option<ActiveFaults> {
        let point = self.point(request.uri().path())?;
        ActiveFaults::on(&point.config().faults, point.name(), connection, request)
    }

    /// Whether any point holds pushers back on purpose.
    pub(crate) fn throttles_publishers(&self) -> bool {
        self.config().points.values().any(|point| point.faults.hold_back())
    }

    /// The id of the session at the point that `path` names.
    pub(crate) fn session_of(&self, path: &str) -> Option<PushId> {
        self.lock().session_of(&key(&name_of(path))).map(|(id, _)| id.clone())
    }

    /// Opens a session at the point that `path` names, where that can be.
    pub(crate) fn open(
        self: &Arc<Self>,
        path: &str,
        head: &RequestHead,
        directives: &Directives,
        connection: &Arc<Connection>,
    ) -> Reply {
        let config = self.config();
        let policy = &config.policy;
        let Some(fresh) = new_push_id() else {
            return Reply::error(policy, 500, "no randomness for a new session");
        };
        let name = name_of(path);
        let key = key(&name);
        let redirect = self.redirect(path);
        let mut state = self.lock();
        let template = state.template(directives).map(|template| template.config());
        let lookup = redirect.unwrap_or_else(|| state.look_up(&key, template.is_some()));
        let near = |template: &Arc<PointConfig>| is_allowed(template.allow_push.as_ref(), connection.visit().address());
        if lookup == PointLookup::FromTemplate && !template.as_ref().is_some_and(near) {
            return Reply::error(policy, 403, "your address is in none of the template's allowed networks");
        }
        if matches!(lookup, PointLookup::Exists | PointLookup::FromTemplate | PointLookup::Busy) {
            let via_pseudonym = state.points.get(&key).map(|point| point.relays().via_pseudonym());
            if let Some(reply) = head.via.refusal(via_pseudonym, policy) {
                tracing::warn!(point = name, "a push is refused that goes in a circle, or through too many relays");
                return reply;
            }
        }
        let displaced = state.session_of(&key).map(|(id, _)| id.clone());
        let full = state.sessions.len() >= config.max_sessions && displaced.is_none();
        if state.stopping || (full && matches!(lookup, PointLookup::Exists | PointLookup::FromTemplate)) {
            return Reply::error(policy, 503, "no room for another push session");
        }
        if lookup == PointLookup::FromTemplate && state.points.len() >= config.max_points {
            return Reply::error(policy, 503, "no room for another publishing point");
        }
        if lookup == PointLookup::FromTemplate && status::is_reserved(&name) {
            return Reply::error(policy, 403, &reserved(&name));
        }
        let (reception, reply) = accept(head, directives, lookup, fresh, policy, Instant::now());
        let Some(reception) = reception else {
            if let (Some(point), 400.., Some((_, text))) = (state.points.get(&key), reply.status, &reply.body) {
                point.ledger().trouble(&format!("a pusher was refused: {} {}", reply.status, text.trim_end()));
            }
            return reply;
        };
        let point = match state.points.get(&key) {
            Some(point) => Arc::clone(point),
            None => match new_point(&name, &template.unwrap_or_default()) {
                Ok(point) => Arc::clone(state.points.entry(key.clone()).or_insert(point)),
                Err(error) => {
                    tracing::error!(%error, "no recorder for a new point");
                    return Reply::error(policy, 500, "the publishing point cannot be made");
                }
            },
        };
        if let Some(entry) = displaced.and_then(|id| state.sessions.remove(&id)) {
            entry.handle.decide(SessionControl::Displaced);
        }
        tracing::info!(point = point.name(), "a push session begins");
        let pusher = point.count_session(Client::new(connection.peer(), Some(&head.user_agent)));
        point.relays().set_connection(&head.via);
        let id = reception.push_id().clone();
        let handle = session::spawn(Arc::clone(self), point, reception, connection, pusher);
        state.sessions.insert(id, Entry { handle, point: key });
        reply
    }

    /// The session with this id, at the point that `path` names.
    pub(crate) fn session(&self, id: &PushId, path: &str) -> Option<PublishSession> {
        let key = key(&name_of(path));
        let state = self.lock();
        state.sessions.get(id).filter(|entry| entry.point == key).map(|entry| entry.handle.clone())
    }

    /// The session is over; `destroy` names the point that goes with it, unless another session has it by now.
    pub(crate) fn remove_session(&self, id: &PushId, destroy: Option<&str>) {
        let mut state = self.lock();
        let was_there = state.sessions.remove(id).is_some();
        if let Some(name) = destroy.filter(|_| was_there) {
            state.points.remove(&key(name));
        }
    }

    /// The point that `path` names.
    pub(crate) fn point(&self, path: &str) -> Option<Arc<PublishingPoint>> {
        self.lock().points.get(&key(&name_of(path))).map(Arc::clone)
    }

    /// The point of this name.
    pub(crate) fn point_named(&self, name: &str) -> Option<Arc<PublishingPoint>> {
        self.lock().points.get(&key(name)).map(Arc::clone)
    }

    /// All points, in no order.
    pub(crate) fn points(&self) -> Vec<Arc<PublishingPoint>> {
        self.lock().points.values().map(Arc::clone).collect()
    }

    /// Push sessions now.
    pub(crate) fn sessions(&self) -> usize {
        self.lock().sessions.len()
    }

    /// What the server as a whole remembers for its status.
    pub(crate) fn board(&self) -> &ServerStatusState {
        &self.board
    }

    /// A new player at the point that `path` names.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn play(&self, path: &str, order: &PlayRequest) -> Result<PlayerStream, PlayError> {
        let point = self.point(path).ok_or(PlayError::UnknownPoint)?;
        if self.playing.load(Ordering::Relaxed) >= self.config().max_players {
            point.ledger().trouble("a player was refused: the server has as many as it may have");
            return Err(PlayError::TooManyPlayers);
        }
        point.play(order, &self.playing).ok_or(PlayError::NotPushed)
    }

    /// Ends the session at the point with an error status; `false` where there is none.
    pub(crate) fn disconnect_pusher(&self, point: &str, status: u16) -> bool {
        let state = self.lock();
        let session = state.session_of(&key(point));
        session.inspect(|(_, entry)| entry.handle.decide(SessionControl::Expelled(status))).is_some()
    }

    /// Takes no new session and ends all there are with 503. When they are over and their recordings
    /// whole it gives all points' names and what they have done, by name.
    pub(crate) async fn stop(&self) -> Vec<(String, PointStats)> {
        let (sessions, points) = {
            let mut state = self.lock();
            state.stopping = true;
            let sessions: Vec<_> = state.sessions.values().map(|entry| entry.handle.clone()).collect();
            (sessions, state.points.values().map(Arc::clone).collect::<Vec<_>>())
        };
        for session in &sessions {
            session.decide(SessionControl::Expelled(503));
        }
        for session in &sessions {
            session.gone().await;
        }
        for point in &points {
            point.end();
        }
        let mut all = Vec::with_capacity(points.len());
        for point in points {
            point.relays().through().await;
            if let Some(recorder) = point.recorder() {
                recorder.finish().await;
            }
            all.push((point.name().to_owned(), point.stats()));
        }
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain data, consistent after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn look_up(&self, key: &str, has_template: bool) -> PointLookup {
        if self.points.contains_key(key) {
            // A session whose pusher is gone gives way: it may be the same encoder, started anew.
            let busy = self.session_of(key).is_some_and(|(_, entry)| entry.handle.is_connected());
            return if busy { PointLookup::Busy } else { PointLookup::Exists };
        }
        if has_template && !key.is_empty() { PointLookup::FromTemplate } else { PointLookup::Missing }
    }

    /// The point whose settings a new one would get (S-8).
    fn template(&self, directives: &Directives) -> Option<&Arc<PublishingPoint>> {
        self.points.get(&key(&name_of(directives.template.as_deref()?)))
    }

    fn session_of(&self, point: &str) -> Option<(&PushId, &Entry)> {
        self.sessions.iter().find(|(_, entry)| entry.point == point)
    }
}

/// Why no point has this name.
fn reserved(name: &str) -> String {
    format!(
        "no publishing point can be named `{name}`: /api, /metrics and /status are the server's own; choose another"
    )
}

/// Whether all points can have their names.
fn check_names(config: &Config) -> io::Result<()> {
    let reserved = config.points.keys().find(|name| status::is_reserved(name));
    reserved.map_or(Ok(()), |name| Err(io::Error::new(io::ErrorKind::InvalidInput, self::reserved(name))))
}

fn new_point(name: &str, config: &Arc<PointConfig>) -> io::Result<Arc<PublishingPoint>> {
    let recorder = new_recorder(name, config)?;
    let via_pseudonym = random_digits().ok_or_else(|| io::Error::other("no randomness for a name"))?;
    let relays = Relays::new(name, via_pseudonym, config.forward.clone());
    Ok(Arc::new(PublishingPoint::new(name, Arc::clone(config), recorder, relays)))
}

fn new_recorder(name: &str, config: &PointConfig) -> io::Result<Option<Recorder>> {
    config.record.as_deref().map(|directory| Recorder::start(directory, name)).transpose()
}

/// A session's id (S-1).
fn new_push_id() -> Option<PushId> {
    PushId::parse(&random_digits()?)
}

/// The point's name in a URL's path: without the leading `/`, percent-decoded.
fn name_of(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.trim_start_matches('/').as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let decoded = after
            .first_chunk::<2>()
            .filter(|_| first == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(decoded.unwrap_or(first));
        rest = if decoded.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s1_push_ids_are_long_and_differ() {
        let (one, other) = (new_push_id().unwrap(), new_push_id().unwrap());
        assert_eq!(one.as_str().len(), 48);
        assert_ne!(one, other);
    }

    /// A session that was displaced while it came to its end takes nothing along.
    #[test]
    fn s13_a_point_goes_with_its_own_session_only() {
        let config = Config::with_points(["concert"], &PointConfig::default());
        let registry = Registry::new(config).unwrap();
        registry.remove_session(&new_push_id().unwrap(), Some("concert"));
        assert!(registry.point("/concert").is_some());
    }

    #[test]
    fn names_are_percent_decoded() {
        for (path, name) in
            [("/concert", "concert"), ("/live/gr%C3%B6%c3%9fe", "live/größe"), ("/a%2", "a%2"), ("/%zz", "%zz")]
        {
            assert_eq!(name_of(path), name);
        }
    }
}
