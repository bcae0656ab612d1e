//! When the stream ends: in time, by a signal, or by a key.

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
    /// After `time`, where there is one, or when SIGINT or SIGTERM comes.
    ///
    /// # Errors
    /// Where the system does not let the signals be taken.
    pub(crate) fn new(time: Option<Duration>) -> io::Result<Self> {
        let signalled = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&signalled))?;
        }
        let at = time.map(|time| Instant::now() + time);
        Ok(Self { at, signalled, under_way: false })
    }

    /// Ends the stream where it is time to.
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

    /// Ends the stream; all publishing points are told of it.
    ///
    /// # Errors
    /// When asked again, which is not to wait for them.
    pub(crate) fn ask(&mut self, concert: &Concert) -> Result<(), Box<dyn Error>> {
        if std::mem::replace(&mut self.under_way, true) {
            return Err("left before all publishing points were told of the end".into());
        }
        concert.end();
        Ok(())
    }
}
