//! The table of publishing points and push sessions, and the current configuration.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::names::{key, name_of};
use super::publishing_point::PublishingPoint;
use super::push_session::{PublishSession, SessionControl};
use crate::config::Config;
use crate::http::connection::Connection;
use crate::recording::recorder::Recorder;
use wmhttp::headers::PushId;

/// Minimum digits of a shortened push-id. Some encoders keep only the digits that fit into a 32-bit number, which are 9
/// or 10.
const MIN_PUSH_ID_DIGITS: usize = 9;

/// The table of publishing points and push sessions. It makes no access decisions: the modules `ingest` and `playback`
/// check who may push and play.
pub(crate) struct Registry {
    /// A reload replaces it as a whole.
    config: RwLock<Arc<Config>>,
    table: Mutex<Table>,
    /// The server is about to stop, and its players are moving to other servers.
    draining: AtomicBool,
    /// Attempts to accept a connection that have failed.
    accept_failures: AtomicU64,
}

/// The contents of the registry. Code that checks and then changes something locks it with [`Registry::table`], and
/// releases it before any await.
#[derive(Default)]
pub(crate) struct Table {
    /// The points by name in lower case.
    points: HashMap<String, Arc<PublishingPoint>>,
    /// The push sessions by their id.
    sessions: HashMap<PushId, Entry>,
    /// Whether new sessions are rejected.
    stopping: bool,
}

/// A session in the table.
struct Entry {
    session: PublishSession,
    /// The name of its point in lower case.
    point: String,
}

impl Registry {
    /// Returns a registry with these points, which are those of `config`.
    pub(crate) fn new(config: Config, points: impl IntoIterator<Item = Arc<PublishingPoint>>) -> Self {
        let points = points.into_iter().map(|point| (key(point.name()), point)).collect();
        let table = Table { points, ..Table::default() };
        Self {
            config: RwLock::new(Arc::new(config)),
            table: Mutex::new(table),
            draining: AtomicBool::new(false),
            accept_failures: AtomicU64::new(0),
        }
    }

    /// Counts a connection that the system did not let the server accept.
    pub(crate) fn record_accept_failure(&self) {
        self.accept_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many attempts to accept a connection have failed since the start.
    pub(crate) fn accept_failures(&self) -> u64 {
        self.accept_failures.load(Ordering::Relaxed)
    }

    /// Returns the current configuration. Do not keep it, because a reload replaces it.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the configuration. Points that it no longer names end, unless they were created from a template.
    /// `new_points` are the points that are new in it; `recorders` are the recorders that existing points need from now
    /// on.
    pub(crate) fn set_config(
        &self,
        config: Config,
        new_points: Vec<Arc<PublishingPoint>>,
        recorders: Vec<(Arc<PublishingPoint>, Recorder)>,
    ) {
        let config = Arc::new(config);
        let before = self.config();
        let kept: HashMap<_, _> = config.points.iter().map(|(name, point)| (key(name), point)).collect();
        for (point, recorder) in recorders {
            point.set_recorder(recorder);
        }
        let mut table = self.table();
        // The table stays locked until all points have changed, so that no request sees a mixture. The configuration is
        // replaced afterwards: until then, new requests are checked against the old one.
        for name in before.points.keys().map(|name| key(name)).filter(|name| !kept.contains_key(name)) {
            if let Some((_, session)) = table.session_at(&name) {
                session.control(SessionControl::Terminate(404));
            }
            if let Some(point) = table.points.remove(&name) {
                point.close();
            }
        }
        for (name, point) in &table.points {
            if let Some(config) = kept.get(name) {
                point.set_config(Arc::new((*config).clone()));
            }
        }
        for point in new_points {
            table.insert_point(point);
        }
        drop(table);
        drop(kept);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Locks the table, for code that checks and changes something in one step.
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        // The data is consistent after every statement, so a poisoned lock can still be used.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the id of the session at the point of `path`.
    pub(crate) fn session_of(&self, path: &str) -> Option<PushId> {
        self.table().session_at(&key(&name_of(path))).map(|(id, _)| id.clone())
    }

    /// Returns the session with this id, at the point of `path`.
    pub(crate) fn session(&self, id: &PushId, path: &str) -> Option<PublishSession> {
        let key = key(&name_of(path));
        let table = self.table();
        table.sessions.get(id).filter(|entry| entry.point == key).map(|entry| entry.session.clone())
    }

    /// Returns the session with this id at the point of `path`. The id may be shortened if the request arrives on the
    /// connection of the session's latest request, because some encoders return only the first digits. Being on that
    /// connection proves the identity of the encoder.
    pub(crate) fn session_on(
        &self,
        id: &PushId,
        path: &str,
        connection: &Arc<Connection>,
    ) -> Option<(PushId, PublishSession)> {
        if let Some(session) = self.session(id, path) {
            return Some((id.clone(), session));
        }
        let table = self.table();
        let (known, session) = table.session_at(&key(&name_of(path)))?;
        let is_shortened = id.as_str().len() >= MIN_PUSH_ID_DIGITS && known.as_str().starts_with(id.as_str());
        (is_shortened && session.is_on(connection)).then(|| (known.clone(), session.clone()))
    }

    /// Removes a session that has ended. `destroy` names the point that AutoDestroy requests to remove ([MS-WMHTTP]
    /// 2.2.2.2). The point is removed only if it was created from a template and has no other session by now. Points in
    /// the configuration stay, because they belong to the operator and not to the encoder.
    pub(crate) fn remove_session(&self, id: &PushId, destroy: Option<&str>) {
        let config = self.config();
        let mut table = self.table();
        let existed = table.sessions.remove(id).is_some();
        let Some(name) = destroy.filter(|_| existed) else { return };
        let is_configured = config.points.keys().any(|configured| key(configured) == key(name));
        if !is_configured {
            table.points.remove(&key(name));
        }
        drop(table);
        if is_configured {
            tracing::info!(point = name, "AutoDestroy ignored: the configuration names this publishing point");
        }
    }

    /// Returns the point of `path`.
    pub(crate) fn point(&self, path: &str) -> Option<Arc<PublishingPoint>> {
        self.table().point(&key(&name_of(path))).map(Arc::clone)
    }

    /// Returns the point of this name.
    pub(crate) fn point_named(&self, name: &str) -> Option<Arc<PublishingPoint>> {
        self.table().point(&key(name)).map(Arc::clone)
    }

    /// Returns all points, in no particular order.
    pub(crate) fn points(&self) -> Vec<Arc<PublishingPoint>> {
        self.table().points.values().map(Arc::clone).collect()
    }

    /// Returns the number of push sessions.
    pub(crate) fn sessions(&self) -> usize {
        self.table().sessions.len()
    }

    /// Ends the session at the point with an error status; returns `false` if there is none.
    pub(crate) fn disconnect_pusher(&self, point: &str, status: u16) -> bool {
        let table = self.table();
        let session = table.session_at(&key(point));
        session.inspect(|(_, session)| session.control(SessionControl::Terminate(status))).is_some()
    }

    /// Makes health checks fail from now on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Returns whether the server is about to stop.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Rejects new sessions from now on; returns the current sessions and points.
    pub(crate) fn close(&self) -> (Vec<PublishSession>, Vec<Arc<PublishingPoint>>) {
        let mut table = self.table();
        table.stopping = true;
        let sessions = table.sessions.values().map(|entry| entry.session.clone()).collect();
        (sessions, table.points.values().map(Arc::clone).collect())
    }
}

impl Table {
    /// Returns the point with this [`key`].
    pub(crate) fn point(&self, key: &str) -> Option<&Arc<PublishingPoint>> {
        self.points.get(key)
    }

    /// Returns the number of points.
    pub(crate) fn points_len(&self) -> usize {
        self.points.len()
    }

    /// Adds a point. If there is one of the same name already, it stays and is returned.
    pub(crate) fn insert_point(&mut self, point: Arc<PublishingPoint>) -> Arc<PublishingPoint> {
        Arc::clone(self.points.entry(key(point.name())).or_insert(point))
    }

    /// Returns the session at the point with this [`key`].
    pub(crate) fn session_at(&self, key: &str) -> Option<(&PushId, &PublishSession)> {
        self.sessions.iter().find(|(_, entry)| entry.point == key).map(|(id, entry)| (id, &entry.session))
    }

    /// Returns the number of sessions.
    pub(crate) fn sessions_len(&self) -> usize {
        self.sessions.len()
    }

    /// Adds a session at the point with this [`key`].
    pub(crate) fn insert_session(&mut self, id: PushId, session: PublishSession, key: String) {
        self.sessions.insert(id, Entry { session, point: key });
    }

    /// Removes a session and returns it.
    pub(crate) fn remove_session(&mut self, id: &PushId) -> Option<PublishSession> {
        self.sessions.remove(id).map(|entry| entry.session)
    }

    /// Returns whether new sessions are rejected.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PointConfig;

    /// S-13: the end of a displaced session does not remove its point.
    #[test]
    fn s13_only_the_current_session_removes_the_point() {
        let config = Config::with_points(["concert"], &PointConfig::default());
        let point = PublishingPoint::create("concert", &Arc::default()).unwrap();
        let registry = Registry::new(config, [point]);
        registry.remove_session(&PushId::parse("1234").unwrap(), Some("concert"));
        assert!(registry.point("/concert").is_some());
    }
}
