//! The process's one I/O thread, and threads for calls that block.
//!
//! The plugin is a guest in its host's process. Whatever the system refuses (a thread, a descriptor, memory for a
//! stack) becomes an error that the next start may not meet again. tokio's multi-threaded runtime and its
//! `spawn_blocking` panic there, and with its features `signal` and `process` so does every other runtime:
//! the threads are therefore started here, and no crate of the workspace has these features.

mod blocking;

use std::future::Future;
use std::io;
use std::sync::mpsc;
use std::thread;

use once_cell::sync::OnceCell;
use tokio::runtime::{Builder, Handle};

pub use blocking::{BlockingTask, spawn_blocking};

/// Set once the I/O thread runs; a start that failed leaves it empty.
static RUNTIME: OnceCell<Handle> = OnceCell::new();

/// The runtime of the I/O thread, which is started where it does not run yet.
///
/// # Errors
/// The system's error if it grants no thread or no descriptors; the next call tries again.
pub fn handle() -> io::Result<Handle> {
    RUNTIME.get_or_try_init(start).cloned()
}

/// Runs a task on the I/O thread.
///
/// # Errors
/// As [`handle`].
pub fn spawn(task: impl Future<Output = ()> + Send + 'static) -> io::Result<tokio::task::JoinHandle<()>> {
    Ok(handle()?.spawn(task))
}

/// Starts the I/O thread. It builds its runtime itself, since the caller may be in a runtime of the host's, where none
/// may be dropped again.
fn start() -> io::Result<Handle> {
    let (started, outcome) = mpsc::sync_channel(1);
    thread::Builder::new().name("asfpush-io".to_owned()).spawn(move || {
        block_sigpipe();
        match Builder::new_current_thread().enable_io().enable_time().build() {
            Ok(runtime) => {
                // The caller waits for it.
                let _ = started.send(Ok(runtime.handle().clone()));
                runtime.block_on(std::future::pending::<()>());
            }
            Err(error) => drop(started.send(Err(error))),
        }
    })?;
    outcome.recv().unwrap_or_else(|_| Err(io::Error::other("the I/O thread ended while it started")))
}

/// hyper writes with writev, which raises SIGPIPE on a reset connection; gst-launch-1.0 and other C programs would die
/// of it. Threads that this one starts inherit the mask.
#[cfg(unix)]
fn block_sigpipe() {
    use nix::sys::signal::{SigSet, Signal};

    let mut pipe = SigSet::empty();
    pipe.add(Signal::SIGPIPE);
    // A mask that cannot be set leaves the host's own disposition in force; nothing to undo.
    let _ = pipe.thread_block();
}

/// There is no such signal.
#[cfg(not(unix))]
fn block_sigpipe() {}
