//! Ends the stream: after a given time, on a signal, or on a key press.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::pipeline::Concert;

pub(crate) struct Ending {
    at: Option<Instant>,
    signalled: Arc<AtomicBool>,
    under_way: bool,
}

impl Ending {
    /// Ends the stream after `time`, if given, or on SIGINT or SIGTERM.
    ///
    /// # Errors
    /// If the signal handlers cannot be installed.
    pub(crate) fn new(time: Option<Duration>) -> io::Result<Self> {
        let signalled = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&signalled))?;
        }
        let at = time.map(|time| Instant::now() + time);
        Ok(Self { at, signalled, under_way: false })
    }

    /// Ends the stream if the time has passed or a signal was received.
    ///
    /// # Errors
    /// As [`Ending::ask`].
    pub(crate) fn look(&mut self, concert: &Concert) -> Result<(), Box<dyn Error>> {
        if self.at.is_some_and(|at| Instant::now() >= at) {
            self.at = None;
            if !self.under_way {
                return self.ask(concert);
            }
        }
        if self.signalled.swap(false, Ordering::Relaxed) { self.ask(concert) } else { Ok(()) }
    }

    /// Ends the stream and notifies all publishing points.
    ///
    /// # Errors
    /// On the second call, which means that the user does not want to wait for the publishing points.
    pub(crate) fn ask(&mut self, concert: &Concert) -> Result<(), Box<dyn Error>> {
        if std::mem::replace(&mut self.under_way, true) {
            return Err("quit before all publishing points were notified of the end of the stream".into());
        }
        concert.end();
        Ok(())
    }
}
