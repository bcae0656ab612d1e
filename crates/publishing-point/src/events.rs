//! Log lines about who pushed and played, and who was refused.
//!
//! Each event is one line. Texts from clients are written as quoted strings, so that no client can forge a field or a
//! line. Lines that a client can repeat are limited per address, with the number of lines that were left out.

use std::time::{Duration, Instant};

use http::StatusCode;
use humantime::{FormattedDuration, format_duration};

use crate::admission::client_limits::Caller;
use crate::admission::limits::ServerLimits;
use crate::points::client::{Client, shortened};

/// What to do if no connection can be accepted.
pub(crate) const ACCEPT_REMEDY: &str =
    "Raise the limit of file descriptors (LimitNOFILE in the systemd unit, ulimit -n), or lower `max-connections`";

/// What a refused request asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// To push a stream.
    Push,
    /// To play a stream.
    Play,
    /// An action of the status API.
    Operate,
}

/// Logs that a request of `client` for `path` was refused.
pub(crate) fn refused(caller: &Caller, wanted: Wanted, status: StatusCode, reason: &str, client: &Client, path: &str) {
    let Some(left_out) = caller.may_log(Instant::now()) else { return };
    let (status, reason, path) = (status.as_u16(), shortened(reason.trim_end()), shortened(path));
    let (user, user_agent) = (client.user.as_deref(), client.agent.as_deref());
    let left_out = (left_out > 0).then_some(left_out);
    match wanted {
        // An encoder that is refused usually needs an operator. Players are refused often, and their users see the
        // reason.
        Wanted::Push => {
            tracing::warn!(address = %client.address, status, reason, path, user, user_agent, left_out, "push refused");
        }
        Wanted::Play | Wanted::Operate => {
            tracing::info!(address = %client.address, status, reason, path, user, user_agent, left_out, "request refused");
        }
    }
}

/// Counts and logs a failed login at `path`. `user` is the user name that the client sent. The fail2ban filter in
/// docs/publishing-point.md matches this line.
pub(crate) fn record_failed_login(caller: &Caller, bounds: &ServerLimits, user: Option<&str>, path: &str) {
    let now = Instant::now();
    let (user, path) = (user.map(shortened), shortened(path));
    caller.count_failed_login(user.clone(), path.clone());
    if let Some(left_out) = caller.may_log(now) {
        let left_out = (left_out > 0).then_some(left_out);
        tracing::warn!(address = %caller.address(), status = 401, user, path, left_out, "login failed");
    }
    if caller.record_failed_login(bounds, now) {
        tracing::warn!(address = %caller.address(), "address blocked temporarily: too many failed logins");
    }
}

/// Formats a duration in whole seconds: `1h 2m 3s`.
pub(crate) fn whole_seconds(time: Duration) -> FormattedDuration {
    format_duration(Duration::from_secs(time.as_secs()))
}

/// Formats a duration in whole milliseconds: `1s 500ms`.
pub(crate) fn whole_milliseconds(time: Duration) -> FormattedDuration {
    format_duration(Duration::from_millis(time.as_millis().try_into().unwrap_or(u64::MAX)))
}

/// An event that repeats while its cause lasts. It is logged once a minute, with a count.
#[derive(Debug, Default)]
pub(crate) struct Repeated {
    /// Time of the last line.
    logged: Option<Instant>,
    /// Events since then that were not logged.
    left_out: u64,
}

/// Time between two log lines about the same event.
const REPEAT_INTERVAL: Duration = Duration::from_secs(60);

impl Repeated {
    /// Returns whether to log the event now, and how many were left out since the last line.
    pub(crate) fn may_log(&mut self, now: Instant) -> Option<u64> {
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
    fn repeated_events_are_logged_once_a_minute() {
        let (mut repeated, start) = (Repeated::default(), Instant::now());
        let lines: Vec<_> =
            (0..1200).filter_map(|tenth| repeated.may_log(start + Duration::from_millis(100) * tenth)).collect();
        assert_eq!(lines, [0, 599]);
    }
}
