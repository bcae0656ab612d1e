//! What the server as a whole remembers for its status, and the clock that looks at the points.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use tokio::time::{MissedTickBehavior, interval};

use super::recording_sizes::RecordingSizeCache;
use crate::points::registry::Registry;

/// What the server as a whole remembers for its status.
pub(crate) struct ServerStatusState {
    started: (Instant, SystemTime),
    /// The status has an address of its own.
    pub(super) apart: bool,
    pub(super) sizer: RecordingSizeCache,
}

impl ServerStatusState {
    /// A server starts, whose status has an address of its own or not.
    pub(crate) fn new(apart: bool) -> Self {
        Self { started: (Instant::now(), SystemTime::now()), apart, sizer: RecordingSizeCache::default() }
    }

    /// When the server started.
    pub(super) fn started(&self) -> (Instant, SystemTime) {
        self.started
    }
}

/// Takes the counters of all points once a second, as long as there is a server.
pub(crate) async fn sample(registry: Weak<Registry>) {
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        let Some(registry) = registry.upgrade() else { return };
        take(&registry);
    }
}

fn take(registry: &Arc<Registry>) {
    let (at, time) = (Instant::now(), SystemTime::now());
    for point in registry.points() {
        point.ledger().sample(point.received(), at, time);
    }
}
