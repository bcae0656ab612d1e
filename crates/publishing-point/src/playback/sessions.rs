//! The sessions of players ([MS-WMSP] 3.2): their client-ids and streams.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rand::TryRng;
use rand::rngs::SysRng;

use super::stream::StreamControl;

/// Lifetime of a session after its last request or the end of its stream. Players are informed of it.
pub(crate) const SESSION_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time between two removals of expired sessions.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum number of sessions, to bound the memory.
const MAX_SESSIONS: usize = 65_536;

/// The sessions of players. Removing one without a stream has no effect on its player, which then gets a new one.
#[derive(Default)]
pub(crate) struct PlayerSessions(Mutex<State>);

#[derive(Default)]
struct State {
    sessions: HashMap<u32, PlayerSession>,
    /// Time of the last removal of expired sessions.
    last_sweep: Option<Instant>,
}

struct PlayerSession {
    /// Time of the last request, or of a time when it had a stream.
    last_used: Instant,
    /// The control of its stream; dangling if it has none.
    stream: Weak<StreamControl>,
}

/// The state of a session.
pub(crate) enum SessionState {
    /// There is no session with this client-id.
    Unknown,
    /// The session has no stream.
    Idle,
    /// The session has a stream.
    Streaming(Arc<StreamControl>),
}

impl PlayerSessions {
    /// Creates a session; returns its client-id, which is random and not 0, or `None` if the system provides no random
    /// numbers.
    pub(crate) fn begin(&self, now: Instant) -> Option<u32> {
        let mut state = self.lock();
        state.sweep(now);
        loop {
            let id = SysRng.try_next_u32().ok()?;
            if id != 0 && !state.sessions.contains_key(&id) {
                state.sessions.insert(id, PlayerSession { last_used: now, stream: Weak::new() });
                return Some(id);
            }
        }
    }

    /// Returns the state of a session for a request with its client-id.
    pub(crate) fn look_up(&self, id: u32, now: Instant) -> SessionState {
        let mut state = self.lock();
        state.sweep(now);
        let Some(session) = state.sessions.get_mut(&id) else { return SessionState::Unknown };
        session.last_used = now;
        session.stream.upgrade().map_or(SessionState::Idle, SessionState::Streaming)
    }

    /// Records that the session has a stream until `control` is dropped. Returns `false` if it already has one.
    pub(crate) fn stream(&self, id: u32, control: &Arc<StreamControl>, now: Instant) -> bool {
        let mut state = self.lock();
        // The session may have expired since the request arrived, so it is created again.
        let session = state.sessions.entry(id).or_insert(PlayerSession { last_used: now, stream: Weak::new() });
        if session.stream.strong_count() > 0 {
            return false;
        }
        session.stream = Arc::downgrade(control);
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The data is consistent after every statement, so a poisoned lock can still be used.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Removes expired sessions, at most every [`SWEEP_INTERVAL`] unless the table is full. If it remains full, all
    /// sessions without a stream are removed.
    fn sweep(&mut self, now: Instant) {
        let due = self.last_sweep.is_none_or(|last_sweep| now.duration_since(last_sweep) >= SWEEP_INTERVAL);
        if !due && self.sessions.len() < MAX_SESSIONS {
            return;
        }
        self.last_sweep = Some(now);
        self.sessions.retain(|_, session| {
            if session.stream.strong_count() > 0 {
                session.last_used = now;
            }
            now.duration_since(session.last_used) < SESSION_IDLE_TIMEOUT
        });
        if self.sessions.len() >= MAX_SESSIONS {
            self.sessions.retain(|_, session| session.stream.strong_count() > 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use asfpush_client::packet_buffer::{Limits, PacketBuffer, ReaderOptions, StartPosition};

    fn control() -> Arc<StreamControl> {
        let cursor = PacketBuffer::new(Limits::default()).reader(StartPosition::Live, ReaderOptions::default());
        Arc::new(StreamControl::new(&cursor))
    }

    #[test]
    fn sessions_expire_a_minute_after_their_stream() {
        let sessions = PlayerSessions::default();
        let mut now = Instant::now();
        let (idle, streams) = (sessions.begin(now).unwrap(), sessions.begin(now).unwrap());
        let control = control();
        assert!(sessions.stream(streams, &control, now));
        assert!(!sessions.stream(streams, &control, now));
        for _ in 0..10 {
            now += SWEEP_INTERVAL;
            sessions.begin(now).unwrap();
        }
        assert!(matches!(sessions.look_up(idle, now), SessionState::Unknown));
        assert!(matches!(sessions.look_up(streams, now), SessionState::Streaming(_)));
        drop(control);
        now += SWEEP_INTERVAL;
        assert!(matches!(sessions.look_up(streams, now), SessionState::Idle));
        now += SESSION_IDLE_TIMEOUT;
        assert!(matches!(sessions.look_up(streams, now), SessionState::Unknown));
        assert_eq!(sessions.lock().sessions.len(), 0);
    }

    #[test]
    fn sessions_with_a_stream_stay_if_there_are_too_many() {
        let sessions = PlayerSessions::default();
        let now = Instant::now();
        let streams = sessions.begin(now).unwrap();
        let control = control();
        assert!(sessions.stream(streams, &control, now));
        for _ in 0..MAX_SESSIONS + 10 {
            sessions.begin(now).unwrap();
            assert!(sessions.lock().sessions.len() <= MAX_SESSIONS);
        }
        assert!(matches!(sessions.look_up(streams, now), SessionState::Streaming(_)));
    }
}
