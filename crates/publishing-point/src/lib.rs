//! A server with publishing points that accept pushes ([MS-WMHTTP]) and serve players ([MS-WMSP]).
//!
//! ```text
//!                            server, handle            start, stop, reload
//!                                   ▼
//!                               dispatch               selects the handler of a request
//!             ┌─────────────────────┼──────────────────┐
//!             ▼                     ▼                  ▼
//!          ingest                playback            status
//!  encoder ─▶ session (a task)      stream ─▶ player   JSON, metrics, page
//!             │  └ wmhttp::server   ▲
//!             ▼                     │
//!          points ─▶ publishing point ─▶ packet buffer  registry: the table of points and sessions
//!             ├ recording (a thread) ─▶ file
//!             └ relay ─▶ asfpush_client ─▶ other servers
//!          http, admission, config, fault_injection     do not depend on the parts above
//! ```
//!
//! A session owns its protocol state machine and writes into one point. Players are served from the only copy of the
//! media, the packet buffer of the point. Every queue is bounded: TCP slows down an encoder that is too fast, a player
//! that is too slow is overrun in the buffer, and a disk that is too slow loses packets of the recording.
//!
//! ```
//! use asf_publishing_point::{Config, PointConfig, Server};
//!
//! let server = Server::spawn(Config::with_points(["concert"], &PointConfig::default()))?;
//! println!("push to http://{}/concert, play mmsh://{0}/concert", server.addr());
//! assert!(!server.stats("concert").is_some_and(|stats| stats.pushing));
//! server.stop();
//! # Ok::<(), std::io::Error>(())
//! ```

mod admission;
pub mod arguments;
mod blocking;
pub mod config;
mod dispatch;
mod drain;
mod events;
#[cfg(feature = "fault-injection")]
mod fault_injection;
#[cfg(not(feature = "fault-injection"))]
#[path = "fault_injection/disabled.rs"]
mod fault_injection;
mod handle;
mod http;
mod ingest;
mod playback;
mod points;
mod random;
mod recording;
mod relay;
mod server;
mod source;
mod status;
mod urls;

pub use self::http::tls::{Tls, TlsError};
pub use admission::limits::ServerLimits;
pub use admission::networks::{NetworkError, Networks};
pub use blocking::BlockingServer;
pub use config::relay::RelayConfig;
pub use config::source::SourceConfig;
pub use config::{Config, PointConfig};
pub use fault_injection::{Fault, FaultError, Faults};
#[cfg(feature = "fault-injection")]
pub use fault_injection::{Kind, KindRow, OmittedHeader, Progress, Schedule, Trigger, kinds};
pub use handle::ServerHandle;
pub use points::publishing_point::PointStats;
pub use recording::limits::RecordLimits;
pub use relay::RelayStats;
pub use server::Server;
pub use status::access::StatusAccess;
