//! The process's single I/O thread, and threads for blocking calls.
//!
//! The plugin is a guest in the process of its host application. If the system has no thread, descriptor or memory
//! left, that must be an error that a later start may not have. tokio's multi-threaded runtime and its `spawn_blocking`
//! panic in that case, and with the features `signal` and `process` every other runtime does so too. The threads are
//! therefore started here, and no crate of the workspace enables these features.

mod blocking;

use std::future::Future;
use std::io;
use std::sync::mpsc;
use std::thread;

use once_cell::sync::OnceCell;
use tokio::runtime::{Builder, Handle};

pub use blocking::{BlockingTask, spawn_blocking};

/// Set once the I/O thread runs. If it cannot be started, the cell stays empty.
static RUNTIME: OnceCell<Handle> = OnceCell::new();

/// Returns the runtime of the I/O thread, and starts the thread if necessary.
///
/// # Errors
/// The system's error if it grants no thread or no descriptors; the next call tries again.
pub fn handle() -> io::Result<Handle> {
    RUNTIME.get_or_try_init(start).cloned()
}

/// Runs a task on the I/O thread.
///
/// # Errors
/// Like [`handle`].
pub fn spawn(task: impl Future<Output = ()> + Send + 'static) -> io::Result<tokio::task::JoinHandle<()>> {
    Ok(handle()?.spawn(task))
}

/// Starts the I/O thread. The thread builds its runtime itself, because the caller may be inside a runtime of the host
/// application, where another runtime must not be dropped.
fn start() -> io::Result<Handle> {
    let (started, outcome) = mpsc::sync_channel(1);
    thread::Builder::new().name("asfpush-io".to_owned()).spawn(move || {
        block_sigpipe();
        match Builder::new_current_thread().enable_io().enable_time().build() {
            Ok(runtime) => {
                // The caller waits for this message.
                let _ = started.send(Ok(runtime.handle().clone()));
                runtime.block_on(std::future::pending::<()>());
            }
            Err(error) => drop(started.send(Err(error))),
        }
    })?;
    outcome.recv().unwrap_or_else(|_| Err(io::Error::other("the I/O thread ended during its start")))
}

/// Blocks SIGPIPE. hyper writes with writev, which raises SIGPIPE on a reset connection and would kill gst-launch-1.0
/// and other C programs. Threads that this one starts inherit the mask.
#[cfg(unix)]
fn block_sigpipe() {
    use nix::sys::signal::{SigSet, Signal};

    let mut pipe = SigSet::empty();
    pipe.add(Signal::SIGPIPE);
    // If the mask cannot be set, the host application's own disposition applies.
    let _ = pipe.thread_block();
}

/// Other systems do not have this signal.
#[cfg(not(unix))]
fn block_sigpipe() {}
