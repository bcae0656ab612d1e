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
    viewers: HashMap<u32, Viewer>,
    swept: Option<Instant>,
}

struct Viewer {
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
            if id != 0 && !state.viewers.contains_key(&id) {
                state.viewers.insert(id, Viewer { seen: now, stream: Weak::new() });
                return Some(id);
            }
        }
    }

    /// Returns the state of a session for a request with its client-id.
    pub(crate) fn look_up(&self, id: u32, now: Instant) -> SessionState {
        let mut state = self.lock();
        state.sweep(now);
        let Some(viewer) = state.viewers.get_mut(&id) else { return SessionState::Nothing };
        viewer.seen = now;
        viewer.stream.upgrade().map_or(SessionState::Idle, SessionState::Streams)
    }

    /// Notes that the session has a stream while `control` lives; returns `false` if it already has one.
    pub(crate) fn stream(&self, id: u32, control: &Arc<StreamControl>, now: Instant) -> bool {
        let mut state = self.lock();
        let viewer = state.viewers.entry(id).or_insert(Viewer { seen: now, stream: Weak::new() });
        if viewer.stream.strong_count() > 0 {
            return false;
        }
        viewer.stream = Arc::downgrade(control);
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
        if !due && self.viewers.len() < MAX {
            return;
        }
        self.swept = Some(now);
        self.viewers.retain(|_, viewer| {
            if viewer.stream.strong_count() > 0 {
                viewer.seen = now;
            }
            now.duration_since(viewer.seen) < SESSION_IDLE_TIMEOUT
        });
        if self.viewers.len() >= MAX {
            self.viewers.retain(|_, viewer| viewer.stream.strong_count() > 0);
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
        let viewers = PlayerSessions::default();
        let mut now = Instant::now();
        let (idle, streams) = (viewers.begin(now).unwrap(), viewers.begin(now).unwrap());
        let control = control();
        assert!(viewers.stream(streams, &control, now));
        assert!(!viewers.stream(streams, &control, now));
        for _ in 0..10 {
            now += SWEEP_INTERVAL;
            viewers.begin(now).unwrap();
        }
        assert!(matches!(viewers.look_up(idle, now), SessionState::Nothing));
        assert!(matches!(viewers.look_up(streams, now), SessionState::Streams(_)));
        drop(control);
        now += SWEEP_INTERVAL;
        assert!(matches!(viewers.look_up(streams, now), SessionState::Idle));
        now += SESSION_IDLE_TIMEOUT;
        assert!(matches!(viewers.look_up(streams, now), SessionState::Nothing));
        assert_eq!(viewers.lock().viewers.len(), 0);
    }

    #[test]
    fn sessions_with_a_stream_stay_if_there_are_too_many() {
        let viewers = PlayerSessions::default();
        let now = Instant::now();
        let streams = viewers.begin(now).unwrap();
        let control = control();
        assert!(viewers.stream(streams, &control, now));
        for _ in 0..MAX + 10 {
            viewers.begin(now).unwrap();
            assert!(viewers.lock().viewers.len() <= MAX);
        }
        assert!(matches!(viewers.look_up(streams, now), SessionState::Streams(_)));
    }
}
