//! The sessions of players ([MS-WMSP] 3.2): a number each, and what streams under it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rand::TryRng;
use rand::rngs::SysRng;

use super::stream::StreamControl;

/// How long a session lives from its last request, or the end of its stream. Players are told of as much.
pub(crate) const SESSION_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time between two looks at who has gone.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// Sessions at one time.
const MAX: usize = 65_536;

/// The sessions of players. Losing one that does not stream costs nothing: its player is given another.
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

/// What there is of a session.
pub(crate) enum SessionState {
    Nothing,
    Idle,
    Streams(Arc<StreamControl>),
}

impl PlayerSessions {
    /// A new session: its client-id, random and not 0. `None` where the system has no randomness.
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

    /// A request of this session has come.
    pub(crate) fn look_up(&self, id: u32, now: Instant) -> SessionState {
        let mut state = self.lock();
        state.sweep(now);
        let Some(viewer) = state.viewers.get_mut(&id) else { return SessionState::Nothing };
        viewer.seen = now;
        viewer.stream.upgrade().map_or(SessionState::Idle, SessionState::Streams)
    }

    /// The session streams from now on, as long as `control` lives. `false` where it does so already.
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
        // Plain data, consistent after every statement.
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
    fn sessions_end_a_minute_after_their_stream() {
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
    fn those_that_stream_stay_where_there_are_too_many() {
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
