//! The server: publishing points that take pushes ([MS-WMHTTP]) and serve players ([MS-WMSP]).
//!
//! ```text
//!  pusher ──▶ push ──▶ session (a task each) ──▶ point ──▶ log ──▶ player (a body each) ──▶ player
//!                        └ wmhttp::server          ├ recorder (a thread) ──▶ file
//!                                                  └ forwards ──▶ publish ──▶ other servers
//! ```
//!
//! A session owns its protocol machine and writes into one point. The point's log is the
//! only copy of the media that players are served from. Every queue is bounded: a pusher
//! is held back by TCP, a slow player is lapped by the log, a slow disk loses packets of
//! the recording.
//!
//! ```
//! use gstasfpush::point::{Config, PointConfig, Server};
//!
//! let server = Server::spawn(Config::with_points(["concert"], &PointConfig::default()))?;
//! println!("push to http://{}/concert, play mmsh://{0}/concert", server.addr());
//! assert!(!server.stats("concert").is_some_and(|stats| stats.pushing));
//! server.stop();
//! # Ok::<(), std::io::Error>(())
//! ```

mod access;
mod asx;
mod body;
mod bounds;
mod bucket;
pub mod config;
mod connection;
mod controls;
mod fault;
mod forwards;
mod frames;
mod gate;
mod networks;
mod pace;
mod play;
mod player_log;
mod porter;
mod publishing;
mod pull;
mod push;
mod recorder;
mod recording;
mod registry;
mod running;
mod selection;
mod server;
mod session;
mod slices;
mod status;
mod stream;
mod tls;
mod viewers;
mod wish;

pub use bounds::Bounds;
pub use config::forward::Forward;
pub use config::{Config, PointConfig};
pub use controls::Controls;
pub use fault::{BadFault, Fault, Faults, Kind, KindRow, Moment, Omission, Progress, Turns, kinds};
pub use forwards::ForwardStats;
pub use networks::{BadNetwork, Networks};
pub use publishing::PointStats;
pub use recording::RecordLimits;
pub use running::RunningServer;
pub use server::Server;
pub use status::StatusAccess;
pub use tls::{BadTls, Tls};
