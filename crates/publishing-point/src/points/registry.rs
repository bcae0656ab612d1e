//! The table of publishing points and push sessions, and the configuration in force.

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

/// Digits of a push-id that is cut short: what fits a number of 32 bits.
const LEAST_PUSH_ID_DIGITS: usize = 9;

/// The table of publishing points and push sessions. It decides nothing: who may push is decided where encoders push
/// in, who may play where players are served.
pub(crate) struct Registry {
    /// Replaced as a whole by a reload.
    config: RwLock<Arc<Config>>,
    table: Mutex<Table>,
    /// The server is about to end, and lets its players go elsewhere.
    draining: AtomicBool,
    /// Attempts to accept a connection that have failed.
    accept_failures: AtomicU64,
}

/// The rows. Whoever has to look and then act takes the table with [`Registry::table`], and lets go of it before any
/// wait.
#[derive(Default)]
pub(crate) struct Table {
    /// By name in lower case.
    points: HashMap<String, Arc<PublishingPoint>>,
    sessions: HashMap<PushId, Entry>,
    /// No new session begins.
    stopping: bool,
}

struct Entry {
    session: PublishSession,
    /// Name of its point in lower case.
    point: String,
}

impl Registry {
    /// A registry with these points, which are those of `config`.
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

    /// How many attempts to accept a connection have failed since the start.
    pub(crate) fn accept_failures(&self) -> u64 {
        self.accept_failures.load(Ordering::Relaxed)
    }

    /// The configuration in force now: read it when you act, a reload replaces it.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the configuration. Points that it no longer names end, unless they were made from a template; `fresh`
    /// are those that only it names, `recorders` those that other points need from now on.
    pub(crate) fn set_config(
        &self,
        config: Config,
        fresh: Vec<Arc<PublishingPoint>>,
        recorders: Vec<(Arc<PublishingPoint>, Recorder)>,
    ) {
        let config = Arc::new(config);
        let before = self.config();
        let kept: HashMap<_, _> = config.points.iter().map(|(name, point)| (key(name), point)).collect();
        for (point, recorder) in recorders {
            point.set_recorder(recorder);
        }
        let mut table = self.table();
        for name in before.points.keys().map(|name| key(name)).filter(|name| !kept.contains_key(name)) {
            if let Some((_, session)) = table.session_at(&name) {
                session.control(SessionControl::Expelled(404));
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
        for point in fresh {
            table.insert_point(point);
        }
        drop(table);
        drop(kept);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// The rows, for who looks and acts at once.
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        // Plain data, consistent after every statement.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of the session at the point that `path` names.
    pub(crate) fn session_of(&self, path: &str) -> Option<PushId> {
        self.table().session_at(&key(&name_of(path))).map(|(id, _)| id.clone())
    }

    /// The session with this id, at the point that `path` names.
    pub(crate) fn session(&self, id: &PushId, path: &str) -> Option<PublishSession> {
        let key = key(&name_of(path));
        let table = self.table();
        table.sessions.get(id).filter(|entry| entry.point == key).map(|entry| entry.session.clone())
    }

    /// The session that this id names at the point that `path` names, where it may have been cut short: on the
    /// connection of the session's latest request, which is a proof of its own, clumsy encoders send back the first
    /// digits only.
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
        let is_cut_short = id.as_str().len() >= LEAST_PUSH_ID_DIGITS && known.as_str().starts_with(id.as_str());
        (is_cut_short && session.is_on(connection)).then(|| (known.clone(), session.clone()))
    }

    /// Removes a session that has ended. `destroy` names the point that its AutoDestroy asks to remove ([MS-WMHTTP]
    /// 2.2.2.2): only a point that a push made from a template, and only if no other session has it by now. A point
    /// that the configuration names stays, since it is the operator's and not the encoder's.
    pub(crate) fn remove_session(&self, id: &PushId, destroy: Option<&str>) {
        let config = self.config();
        let mut table = self.table();
        let was_there = table.sessions.remove(id).is_some();
        let Some(name) = destroy.filter(|_| was_there) else { return };
        let is_configured = config.points.keys().any(|configured| key(configured) == key(name));
        if !is_configured {
            table.points.remove(&key(name));
        }
        drop(table);
        if is_configured {
            tracing::info!(point = name, "AutoDestroy ignored: the configuration names this publishing point");
        }
    }

    /// The point that `path` names.
    pub(crate) fn point(&self, path: &str) -> Option<Arc<PublishingPoint>> {
        self.table().point(&key(&name_of(path))).map(Arc::clone)
    }

    /// The point of this name.
    pub(crate) fn point_named(&self, name: &str) -> Option<Arc<PublishingPoint>> {
        self.table().point(&key(name)).map(Arc::clone)
    }

    /// All points, in no order.
    pub(crate) fn points(&self) -> Vec<Arc<PublishingPoint>> {
        self.table().points.values().map(Arc::clone).collect()
    }

    /// Push sessions now.
    pub(crate) fn sessions(&self) -> usize {
        self.table().sessions.len()
    }

    /// Ends the session at the point with an error status; `false` if it has none.
    pub(crate) fn disconnect_pusher(&self, point: &str, status: u16) -> bool {
        let table = self.table();
        let session = table.session_at(&key(point));
        session.inspect(|(_, session)| session.control(SessionControl::Expelled(status))).is_some()
    }

    /// From now on health checks fail.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the server is about to end.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Admits no new session from now on; gives the sessions and points of this moment.
    pub(crate) fn close(&self) -> (Vec<PublishSession>, Vec<Arc<PublishingPoint>>) {
        let mut table = self.table();
        table.stopping = true;
        let sessions = table.sessions.values().map(|entry| entry.session.clone()).collect();
        (sessions, table.points.values().map(Arc::clone).collect())
    }
}

impl Table {
    /// The point under this [`key`].
    pub(crate) fn point(&self, key: &str) -> Option<&Arc<PublishingPoint>> {
        self.points.get(key)
    }

    pub(crate) fn points_len(&self) -> usize {
        self.points.len()
    }

    /// Adds a point; one of the same name stays and is given instead.
    pub(crate) fn insert_point(&mut self, point: Arc<PublishingPoint>) -> Arc<PublishingPoint> {
        Arc::clone(self.points.entry(key(point.name())).or_insert(point))
    }

    /// The session at the point under this [`key`].
    pub(crate) fn session_at(&self, key: &str) -> Option<(&PushId, &PublishSession)> {
        self.sessions.iter().find(|(_, entry)| entry.point == key).map(|(id, entry)| (id, &entry.session))
    }

    pub(crate) fn sessions_len(&self) -> usize {
        self.sessions.len()
    }

    /// Adds a session at the point under this [`key`].
    pub(crate) fn insert_session(&mut self, id: PushId, session: PublishSession, key: String) {
        self.sessions.insert(id, Entry { session, point: key });
    }

    pub(crate) fn remove_session(&mut self, id: &PushId) -> Option<PublishSession> {
        self.sessions.remove(id).map(|entry| entry.session)
    }

    /// Whether no new session may begin.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PointConfig;

    /// A session that was displaced while it came to its end takes nothing along.
    #[test]
    fn s13_a_point_goes_with_its_own_session_only() {
        let config = Config::with_points(["concert"], &PointConfig::default());
        let point = PublishingPoint::create("concert", &Arc::default()).unwrap();
        let registry = Registry::new(config, [point]);
        registry.remove_session(&PushId::parse("1234").unwrap(), Some("concert"));
        assert!(registry.point("/concert").is_some());
    }
}
