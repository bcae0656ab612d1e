//! The server: publishing points that take pushes ([MS-WMHTTP]) and serve players ([MS-WMSP]).
//!
//! ```text
//!  pusher ──▶ push ──▶ session (a task each) ──▶ point ──▶ log ──▶ player (a body each) ──▶ player
//!                        └ wmhttp::server          └ recorder (a thread) ──▶ file
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
pub mod config;
mod connection;
mod frames;
mod play;
mod player_log;
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
mod stream;
mod tls;
mod viewers;
mod wish;

pub use config::{Config, PointConfig};
pub use publishing::PointStats;
pub use running::RunningServer;
pub use server::Server;
pub use tls::{BadTls, Tls};
