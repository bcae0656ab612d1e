//! The graceful stop of a server behind a load balancer: its players first move to other servers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use crate::points::registry::Registry;

/// Time for load balancers to notice that health checks fail, before the first player is dismissed. It covers two or
/// three of their checks.
const NOTICE_TIME: Duration = Duration::from_secs(5);
/// If the total time is short, the notice takes only this part of it: a third.
const NOTICE_DIVISOR: u32 = 3;
/// Time between two steps.
const TICK: Duration = Duration::from_millis(100);

/// Makes health checks fail from now on. After a while the players' streams end one after the other, evenly distributed
/// over the rest of `time`, so that the players do not all connect to the other servers in the same second. Returns
/// when no player is left, or when the time is over.
pub(crate) async fn drain(registry: &Registry, time: Duration) {
    let started_at = Instant::now();
    let (until, notice) = (started_at + time, started_at + NOTICE_TIME.min(time / NOTICE_DIVISOR));
    registry.drain();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        if now < notice {
            continue;
        }
        let players: Vec<_> =
            registry.points().iter().flat_map(|point| point.activity().players().0).map(|(player, _)| player).collect();
        if players.is_empty() || now >= until {
            return;
        }
        let remaining: Vec<_> = players.iter().filter(|player| !player.is_dismissed()).map(Arc::clone).collect();
        let ticks_left = usize::try_from((until - now).as_millis() / TICK.as_millis()).unwrap_or(usize::MAX);
        // The last players get some ticks to read the end of their stream.
        // The number is computed again at each tick, because players also leave on their own and late ones arrive.
        let due = remaining.len().div_ceil(ticks_left.saturating_sub(2).max(1));
        for player in remaining.iter().take(due) {
            player.dismiss();
        }
    }
}
