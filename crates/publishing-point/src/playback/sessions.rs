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
/// Maximum number of sessions.
const MAX: usize = 65_536;

/// The sessions of players. Removing one without a stream has no effect on its player, which then gets a new one.
#[derive(Default)]
pub(crate) struct PlayerSessions(Mutex<State>);

#[derive(Default)]
struct State {
    sessions: HashMap<u32, PlayerSession>,
    swept: Option<Instant>,
}

struct PlayerSession {
    seen: Instant,
    stream: Weak<StreamControl>,
}

/// The state of a session.
pub(crate) enum SessionState {
    Nothing,
    Idle,
    Streams(Arc<StreamControl>),
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
                state.sessions.insert(id, PlayerSession { seen: now, stream: Weak::new() });
                return Some(id);
            }
        }
    }

    /// Returns the state of a session for a request with its client-id.
    pub(crate) fn look_up(&self, id: u32, now: Instant) -> SessionState {
        let mut state = self.lock();
        state.sweep(now);
        let Some(session) = state.sessions.get_mut(&id) else { return SessionState::Nothing };
        session.seen = now;
        session.stream.upgrade().map_or(SessionState::Idle, SessionState::Streams)
    }

    /// Notes that the session has a stream while `control` lives; returns `false` if it already has one.
    pub(crate) fn stream(&self, id: u32, control: &Arc<StreamControl>, now: Instant) -> bool {
        let mut state = self.lock();
        let session = state.sessions.entry(id).or_insert(PlayerSession { seen: now, stream: Weak::new() });
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
    fn sweep(&mut self, now: Instant) {
        let due = self.swept.is_none_or(|swept| now.duration_since(swept) >= SWEEP_INTERVAL);
        if !due && self.sessions.len() < MAX {
            return;
        }
        self.swept = Some(now);
        self.sessions.retain(|_, session| {
            if session.stream.strong_count() > 0 {
                session.seen = now;
            }
            now.duration_since(session.seen) < SESSION_IDLE_TIMEOUT
        });
        if self.sessions.len() >= MAX {
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
        assert!(matches!(sessions.look_up(idle, now), SessionState::Nothing));
        assert!(matches!(sessions.look_up(streams, now), SessionState::Streams(_)));
        drop(control);
        now += SWEEP_INTERVAL;
        assert!(matches!(sessions.look_up(streams, now), SessionState::Idle));
        now += SESSION_IDLE_TIMEOUT;
        assert!(matches!(sessions.look_up(streams, now), SessionState::Nothing));
        assert_eq!(sessions.lock().sessions.len(), 0);
    }

    #[test]
    fn sessions_with_a_stream_stay_if_there_are_too_many() {
        let sessions = PlayerSessions::default();
        let now = Instant::now();
        let streams = sessions.begin(now).unwrap();
        let control = control();
        assert!(sessions.stream(streams, &control, now));
        for _ in 0..MAX + 10 {
            sessions.begin(now).unwrap();
            assert!(sessions.lock().sessions.len() <= MAX);
        }
        assert!(matches!(sessions.look_up(streams, now), SessionState::Streams(_)));
    }
}
