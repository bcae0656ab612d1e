//! The server's configuration, and which parts of it a reload changes.

mod error;
pub mod file;
pub(crate) mod input;
mod playback;
pub mod relay;
mod remote;
pub mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use self::relay::RelayConfig;
use self::source::SourceConfig;
use crate::admission::limits::ServerLimits;
use crate::admission::networks::Networks;
use crate::fault_injection::Faults;
use crate::http::tls::Tls;
use crate::recording::limits::RecordLimits;
use crate::status::access::StatusAccess;
use asfpush_client::packet_buffer::Limits;
use wmhttp::server::Policy;
use wmhttp::server::access::AccessPolicy;

pub use playback::{HeaderChange, SlowPlayers};

/// Connections allowed in addition to one for each allowed player and session, for status requests, health checks and
/// clients that are about to be rejected.
const SPARE_CONNECTIONS: usize = 256;

/// The configuration of a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address to listen on; port 0 lets the system choose. A reload does not change it.
    pub listen: SocketAddr,
    /// An additional TLS listener. A reload changes its certificate, but not its address.
    pub tls: Option<Tls>,
    /// Publishing points that exist from the start, by name: the URL's path without the leading `/`. Names that differ
    /// only in case are the same point.
    pub points: BTreeMap<String, PointConfig>,
    /// Timeouts and server name of the push protocol.
    pub policy: Policy,
    /// Users and authentication schemes. With `None`, the server asks for no credentials and everybody has all rights.
    pub users: Option<AccessPolicy>,
    /// Maximum number of push sessions, including those that wait for an encoder to reconnect.
    pub max_sessions: usize,
    /// Maximum number of publishing points.
    pub max_points: usize,
    /// Maximum number of players, over all points.
    pub max_players: usize,
    /// Who may see the status page, the status API and the metrics.
    pub status: StatusAccess,
    /// Separate address for the status, which is then served only there. With `None`, it is served with the points. A
    /// reload does not change it.
    pub status_listen: Option<SocketAddr>,
    /// Networks that may push; `None` allows all. The networks of a point apply in addition.
    pub allow_push: Option<Networks>,
    /// Networks that may make any other request; `None` allows all. The networks of a point apply in addition.
    pub allow_play: Option<Networks>,
    /// Limits for untrusted clients.
    pub bounds: ServerLimits,
    /// How long a stopping server gives its players to move to other servers ([`Server::drain`](crate::Server::drain)).
    pub drain_time: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            points: BTreeMap::new(),
            policy: Policy::default(),
            users: None,
            max_sessions: 64,
            max_points: 64,
            max_players: 1000,
            status: StatusAccess::default(),
            status_listen: None,
            allow_push: None,
            allow_play: None,
            bounds: ServerLimits::default(),
            drain_time: Duration::ZERO,
        }
    }
}

impl Config {
    /// Returns a configuration with points of these names, all with the same settings.
    pub fn with_points<'a>(names: impl IntoIterator<Item = &'a str>, point: &PointConfig) -> Self {
        let points = names.into_iter().map(|name| (name.to_owned(), point.clone())).collect();
        Self { points, ..Self::default() }
    }

    /// Returns the maximum number of connections at one time. Each needs a file descriptor.
    #[must_use]
    pub fn connection_limit(&self) -> usize {
        self.bounds.max_connections.unwrap_or(self.max_players + self.max_sessions + SPARE_CONNECTIONS)
    }
}

/// The configuration of a publishing point. A point created from a template has the configuration of its template.
#[derive(Clone, Debug)]
pub struct PointConfig {
    /// URL that encoders and players are redirected to, with the scheme `http:` or `https:` (S-5).
    pub redirect: Option<Url>,
    /// The proxy that encoders must use (S-5).
    pub proxy_redirect: Option<Url>,
    /// Where the point pulls its stream from; encoders cannot push to such a point.
    pub source: Option<SourceConfig>,
    /// The servers that the point relays its stream to.
    pub forward: Vec<RelayConfig>,
    /// Directory for recordings; `None` records nothing. A reload takes effect at the next header.
    pub record: Option<PathBuf>,
    /// Limits of the size and number of recording files. A reload takes effect at the next header.
    pub record_limits: RecordLimits,
    /// Faults that the point injects.
    pub faults: Faults,
    /// How much of its stream a point keeps for its players. A reload takes effect at the next stream.
    pub limits: Limits,
    /// Whether a new player receives the kept packets from the latest key frame on in one burst. Otherwise it starts at
    /// the next key frame.
    pub fast_start: bool,
    /// How players receive a changed header in mid-stream.
    pub header_change: HeaderChange,
    /// What happens to players that fall behind the kept packets.
    pub slow_players: SlowPlayers,
    /// Principals that may push.
    pub write: Principals,
    /// Principals that may create points with this one as template; they also need the right to write.
    pub create: Principals,
    /// Principals that may play.
    pub read: Principals,
    /// Principals that may end the point's pushes over the status API from other machines, after authentication.
    pub operate: Principals,
    /// Networks that may push, and create points with this one as template; `None` allows all.
    pub allow_push: Option<Networks>,
    /// Networks that may play; `None` allows all.
    pub allow_play: Option<Networks>,
    /// Maximum average bit rate of a push, in bits per second; the server delays what exceeds it. 0 means no limit.
    pub max_bitrate: u64,
}

impl Default for PointConfig {
    fn default() -> Self {
        Self {
            redirect: None,
            proxy_redirect: None,
            source: None,
            forward: Vec::new(),
            record: None,
            record_limits: RecordLimits::default(),
            faults: Faults::default(),
            limits: Limits::default(),
            fast_start: true,
            header_change: HeaderChange::default(),
            slow_players: SlowPlayers::default(),
            write: Principals::Users,
            create: Principals::Users,
            read: Principals::Everybody,
            operate: Principals::Only(BTreeSet::new()),
            allow_push: None,
            allow_play: None,
            max_bitrate: 0,
        }
    }
}

/// Who has a right. If the server has no users, everybody has all rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principals {
    /// Everybody, without authentication.
    Everybody,
    /// Every user.
    Users,
    /// These users; nobody if the set is empty.
    Only(BTreeSet<String>),
}

impl Principals {
    /// Returns whether this user has the right.
    pub fn has(&self, user: &str) -> bool {
        match self {
            Self::Everybody | Self::Users => true,
            Self::Only(names) => names.contains(user),
        }
    }

    /// Returns whether no user has the right.
    pub(crate) fn is_nobodys(&self) -> bool {
        matches!(self, Self::Only(names) if names.is_empty())
    }
}
