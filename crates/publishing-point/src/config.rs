//! What a server is started with, and what a reload may change.

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

/// Connections beside those of the players and sessions allowed.
const SPARE_CONNECTIONS: usize = 256;

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address to listen on; port 0 lets the system choose. A reload does not change it.
    pub listen: SocketAddr,
    /// Where TLS is spoken besides; a reload takes another certificate, not another address.
    pub tls: Option<Tls>,
    /// Publishing points that exist from the beginning, by name: the URL's path without the leading `/`.
    /// Names that differ only in case are one.
    pub points: BTreeMap<String, PointConfig>,
    /// Timeouts and name of the push protocol.
    pub policy: Policy,
    /// Users, and how they show who they are; `None` asks nobody, and lets everybody do everything.
    pub users: Option<AccessPolicy>,
    /// Push sessions at one time, those waiting for a lost pusher included.
    pub max_sessions: usize,
    /// Publishing points at one time.
    pub max_points: usize,
    /// Players at one time, over all points.
    pub max_players: usize,
    /// Who may see the status page, the status API and the metrics.
    pub status: StatusAccess,
    /// Where these are served, and nowhere else; `None` serves them where the points are. A reload does not
    /// change it.
    pub status_listen: Option<SocketAddr>,
    /// From where anybody may push; `None` is from everywhere. A point's own networks count too.
    pub allow_push: Option<Networks>,
    /// From where anything else may be asked for; as `allow_push`.
    pub allow_play: Option<Networks>,
    /// What the server bears of those whom it does not know.
    pub bounds: ServerLimits,
    /// How long a server that is to end lets its players go elsewhere first ([`Server::drain`](crate::Server::drain)).
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
    /// A server with points of these names, all with the same settings.
    pub fn with_points<'a>(names: impl IntoIterator<Item = &'a str>, point: &PointConfig) -> Self {
        let points = names.into_iter().map(|name| (name.to_owned(), point.clone())).collect();
        Self { points, ..Self::default() }
    }

    /// Connections at one time.
    pub(crate) fn room(&self) -> usize {
        self.bounds.max_connections.unwrap_or(self.max_players + self.max_sessions + SPARE_CONNECTIONS)
    }
}

/// What one publishing point is like. A point made from a template has its template's.
#[derive(Clone, Debug)]
pub struct PointConfig {
    /// Where pushers and players are sent instead, an `http:` or `https:` URL (S-5).
    pub redirect: Option<Url>,
    /// The proxy that pushers are told to come through (S-5).
    pub proxy_redirect: Option<Url>,
    /// Where the point pulls its stream from; encoders cannot push to it then.
    pub source: Option<SourceConfig>,
    /// Where the point pushes its stream on to.
    pub forward: Vec<RelayConfig>,
    /// Directory for recordings; `None` records nothing. A reload changes it from the next header on.
    pub record: Option<PathBuf>,
    /// How long recorded files get, and how many of them stay. A reload changes it from the next header on.
    pub record_limits: RecordLimits,
    /// Faults that the point commits on purpose.
    pub faults: Faults,
    /// How much of its stream a point keeps for its players. A reload changes it from the next stream on.
    pub limits: Limits,
    /// Whether a new player gets what the point keeps from the newest key frame on in one burst; otherwise it
    /// begins at the next key frame to come.
    pub fast_start: bool,
    /// How players learn of another header in mid-stream.
    pub header_change: HeaderChange,
    /// What happens to players that lag beyond the limits.
    pub slow_players: SlowPlayers,
    /// Who may push.
    pub write: Principals,
    /// Who may make points with this one as template; they must have the right to write too.
    pub create: Principals,
    /// Who may play.
    pub read: Principals,
    /// Who may end its pushes by the status API from another machine, having shown who they are.
    pub operate: Principals,
    /// From where pushes, and new points made with this one as template, are taken; `None` is from everywhere.
    pub allow_push: Option<Networks>,
    /// From where players are served; `None` is to everywhere.
    pub allow_play: Option<Networks>,
    /// Bits a second that a pusher may send in the long run; what is beyond is held back. 0 is no limit.
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

/// Who has a right. Where the server knows no users, everybody has all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principals {
    /// Whoever comes, unasked.
    Everybody,
    /// Every user.
    Users,
    /// These users; none of them is nobody.
    Only(BTreeSet<String>),
}

impl Principals {
    /// Whether this user has the right.
    pub fn has(&self, user: &str) -> bool {
        match self {
            Self::Everybody | Self::Users => true,
            Self::Only(names) => names.contains(user),
        }
    }

    /// Whether no user has it.
    pub(crate) fn is_nobodys(&self) -> bool {
        matches!(self, Self::Only(names) if names.is_empty())
    }
}
