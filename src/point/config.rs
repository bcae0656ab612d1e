//! What a server is started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::fault::Faults;
use super::recording::RecordLimits;
use crate::log::Limits;
use crate::wmhttp::server::Policy;
use crate::wmhttp::server::access::Rights;

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address to listen on; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Publishing points that exist from the beginning: URL paths without the leading `/`.
    pub points: Vec<String>,
    /// Directory for recordings; `None` records nothing.
    pub record: Option<PathBuf>,
    /// How long recorded files get, and how many of them stay.
    pub record_limits: RecordLimits,
    /// Timeouts and name of the push protocol.
    pub policy: Policy,
    /// Who may push; `None` lets everybody. Players are not asked.
    pub rights: Option<Rights>,
    /// Points whose pushers and players are sent to another URL: (point, URL) (S-5).
    pub redirects: Vec<(String, String)>,
    /// Points whose pushers are sent through a proxy: (point, the proxy's URL) (S-5).
    pub proxy_redirects: Vec<(String, String)>,
    /// Faults that points commit on purpose: (point, faults).
    pub faults: Vec<(String, Faults)>,
    /// How much of its stream a point keeps for its players.
    pub limits: Limits,
    /// Push sessions at one time, those waiting for a lost pusher included.
    pub max_sessions: usize,
    /// Publishing points at one time.
    pub max_points: usize,
    /// Players at one time, over all points.
    pub max_players: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            points: Vec::new(),
            record: None,
            record_limits: RecordLimits::default(),
            policy: Policy::default(),
            rights: None,
            redirects: Vec::new(),
            proxy_redirects: Vec::new(),
            faults: Vec::new(),
            limits: Limits::default(),
            max_sessions: 64,
            max_points: 64,
            max_players: 1000,
        }
    }
}
