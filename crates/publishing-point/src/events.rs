//! The lines that answer an operator's questions: who pushed and played, and who was refused.
//!
//! One event is one line. Texts from clients are written as quoted strings, so that no client can forge a field or a
//! line; lines that a client can repeat are limited by address, and say how many were left out.

use std::time::{Duration, Instant};

use http::StatusCode;
use humantime::{FormattedDuration, format_duration};

use crate::admission::client_limits::Caller;
use crate::admission::limits::ServerLimits;
use crate::points::client::{Client, shortened};

/// What helps where no connection can be accepted.
pub(crate) const ACCEPT_REMEDY: &str =
    "Raise the limit of descriptors (LimitNOFILE, ulimit -n), or lower max-connections";

/// What a refused request wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Push,
    Play,
    /// An action of the status API.
    Operate,
}

/// A request of `client` for `path` was refused.
pub(crate) fn refused(caller: &Caller, wanted: Wanted, status: StatusCode, reason: &str, client: &Client, path: &str) {
    let Some(left_out) = caller.takes_log_line(Instant::now()) else { return };
    let (status, reason, path) = (status.as_u16(), shortened(reason.trim_end()), shortened(path));
    let (user, user_agent) = (client.user.as_deref(), client.agent.as_deref());
    let left_out = (left_out > 0).then_some(left_out);
    match wanted {
        Wanted::Push => {
            tracing::warn!(address = %client.address, status, reason, path, user, user_agent, left_out, "push refused");
        }
        Wanted::Play | Wanted::Operate => {
            tracing::info!(address = %client.address, status, reason, path, user, user_agent, left_out, "request refused");
        }
    }
}

/// Remembers wrong credentials, of a client that says it is `user`, for `path`, and logs them. The filter for fail2ban in
/// docs/publishing-point.md reads this line.
pub(crate) fn record_failed_login(caller: &Caller, bounds: &ServerLimits, user: Option<&str>, path: &str) {
    let now = Instant::now();
    let (user, path) = (user.map(shortened), shortened(path));
    caller.count_failed_login(user.clone(), path.clone());
    if let Some(left_out) = caller.takes_log_line(now) {
        let left_out = (left_out > 0).then_some(left_out);
        tracing::warn!(address = %caller.address(), status = 401, user, path, left_out, "login failed");
    }
    if caller.guessed(bounds, now) {
        tracing::warn!(address = %caller.address(), "address blocked for a while: too many failed logins");
    }
}

/// How long something took, in whole seconds: `1h 2m 3s`.
pub(crate) fn whole_seconds(time: Duration) -> FormattedDuration {
    format_duration(Duration::from_secs(time.as_secs()))
}

/// How long something takes, in whole milliseconds: `1s 500ms`.
pub(crate) fn whole_milliseconds(time: Duration) -> FormattedDuration {
    format_duration(Duration::from_millis(time.as_millis().try_into().unwrap_or(u64::MAX)))
}

/// An event that repeats without end while its cause lasts: it is logged once a minute, with a count.
#[derive(Debug, Default)]
pub(crate) struct Repeated {
    logged: Option<Instant>,
    left_out: u64,
}

/// Time between two lines about the same thing.
const REPEAT_INTERVAL: Duration = Duration::from_secs(60);

impl Repeated {
    /// Whether the event is to be logged now; gives how many were left out since the last line.
    pub(crate) fn takes_log_line(&mut self, now: Instant) -> Option<u64> {
        if self.logged.is_some_and(|logged| now.saturating_duration_since(logged) < REPEAT_INTERVAL) {
            self.left_out += 1;
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_logged_once_a_minute() {
        let (mut repeated, start) = (Repeated::default(), Instant::now());
        let lines: Vec<_> =
            (0..1200).filter_map(|tenth| repeated.takes_log_line(start + Duration::from_millis(100) * tenth)).collect();
        assert_eq!(lines, [0, 599]);
    }
}
