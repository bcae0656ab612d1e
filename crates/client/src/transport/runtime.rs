//! The process's one I/O thread.

use std::future::Future;
use std::io;
use std::sync::OnceLock;

use nix::sys::signal::{SigSet, Signal};
use tokio::runtime::{Builder, Handle, Runtime};

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// Starts the runtime where it does not run yet.
///
/// # Errors
/// The system's, where no thread can be had.
pub fn handle() -> io::Result<Handle> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime.handle().clone());
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("asfpush-io")
        .enable_all()
        // hyper writes with writev, which raises SIGPIPE on a reset connection; gst-launch-1.0 and
        // other C programs would die of it.
        .on_thread_start(|| {
            let mut pipe = SigSet::empty();
            pipe.add(Signal::SIGPIPE);
            // A mask that cannot be set leaves the host's own disposition in force; nothing to undo.
            let _ = pipe.thread_block();
        })
        .build()?;
    // A thread that lost the race shuts its own runtime down in the background.
    if let Err(spare) = RUNTIME.set(runtime) {
        spare.shutdown_background();
    }
    RUNTIME.get().map(|runtime| runtime.handle().clone()).ok_or_else(|| io::Error::other("no runtime"))
}

/// Runs a task on the I/O thread.
///
/// # Errors
/// As [`handle`].
pub fn spawn(task: impl Future<Output = ()> + Send + 'static) -> io::Result<tokio::task::JoinHandle<()>> {
    Ok(handle()?.spawn(task))
}
