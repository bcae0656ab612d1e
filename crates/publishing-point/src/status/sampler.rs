//! Samples the counters of the points.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use tokio::time::{MissedTickBehavior, interval};

use crate::points::registry::Registry;

/// Samples the counters of all points once a second, while the server exists.
pub(crate) async fn sample(registry: Weak<Registry>) {
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        let Some(registry) = registry.upgrade() else { return };
        sample_points(&registry);
    }
}

/// Samples all points at the same time.
fn sample_points(registry: &Arc<Registry>) {
    let (at, time) = (Instant::now(), SystemTime::now());
    for point in registry.points() {
        point.activity().sample(point.received(), at, time);
    }
}
