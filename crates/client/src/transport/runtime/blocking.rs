//! Threads for blocking calls: name lookup, certificate files, Kerberos tickets, and the application's callbacks.
//!
//! tokio's `spawn_blocking` panics if the system cannot start the first thread. If it cannot start a later one while
//! only the I/O thread runs, its tasks wait for ever. Here both cases are errors.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

/// Maximum number of threads; further calls wait. An unresponsive name server blocks a thread for each destination.
const MAX_THREADS: usize = 256;
/// How long a thread waits for another call before it exits. Calls come in groups, at the start of a push and after an
/// outage.
const IDLE_TIME: Duration = Duration::from_secs(10);

/// The process's threads for blocking calls.
static POOL: Pool =
    Pool { queue: Mutex::new(Queue { jobs: VecDeque::new(), threads: 0, idle: 0 }), job_added: Condvar::new() };

type Job = Box<dyn FnOnce() + Send>;

struct Pool {
    queue: Mutex<Queue>,
    job_added: Condvar,
}

struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
    /// Number of threads that wait for a call.
    idle: usize,
}

/// A call in progress: a future of its result, or `None` if the call panicked. Dropping it does not cancel the call.
pub struct BlockingTask<T>(oneshot::Receiver<T>);

impl<T> Future for BlockingTask<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.0).poll(context).map(Result::ok)
    }
}

/// Runs a call on a thread on which it may block.
///
/// # Errors
/// The system's error if no thread is idle and none can be started.
pub fn spawn_blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> io::Result<BlockingTask<T>> {
    let (sender, receiver) = oneshot::channel();
    // The caller may have dropped the receiver.
    POOL.run(Box::new(move || drop(sender.send(call()))))?;
    Ok(BlockingTask(receiver))
}

impl Pool {
    fn run(&'static self, job: Job) -> io::Result<()> {
        let mut queue = self.lock();
        queue.jobs.push_back(job);
        // An idle thread exists for each queued job, including the new one.
        if queue.jobs.len() <= queue.idle {
            self.job_added.notify_one();
            return Ok(());
        }
        if queue.threads >= MAX_THREADS {
            return Ok(());
        }
        // While the lock is held: a thread that has just started waits for it and then finds the job.
        match thread::Builder::new().name("asfpush-wait".to_owned()).spawn(|| self.work()) {
            Ok(_) => queue.threads += 1,
            // A running thread will take the job later.
            Err(_) if queue.threads > 0 => {}
            Err(error) => {
                queue.jobs.pop_back();
                return Err(error);
            }
        }
        Ok(())
    }

    /// The main loop of a thread.
    fn work(&self) {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                // The panic hook has reported it; the waiting caller gets `None`.
                let _ = catch_unwind(AssertUnwindSafe(job));
                queue = self.lock();
                continue;
            }
            queue.idle += 1;
            let waited = self.job_added.wait_timeout(queue, IDLE_TIME).unwrap_or_else(PoisonError::into_inner);
            queue = waited.0;
            queue.idle -= 1;
            // A job may have been added between the timeout and taking the lock.
            if waited.1.timed_out() && queue.jobs.is_empty() {
                queue.threads -= 1;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn wait<T>(task: BlockingTask<T>) -> Option<T> {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(task)
    }

    #[test]
    fn results_are_returned_and_threads_are_reused() {
        assert_eq!(wait(spawn_blocking(|| 7).unwrap()), Some(7));
        let names = (0..20).map(|_| wait(spawn_blocking(|| thread::current().id()).unwrap()).unwrap());
        let distinct: std::collections::HashSet<_> = names.collect();
        assert!(distinct.len() < 20, "each call started a thread");
    }

    /// Calls that wait for each other need one thread each.
    #[test]
    fn a_blocking_call_does_not_delay_others() {
        let (sender, receiver) = mpsc::channel();
        let first = spawn_blocking(move || receiver.recv().unwrap()).unwrap();
        let second = spawn_blocking(move || sender.send(3).unwrap()).unwrap();
        assert_eq!((wait(second), wait(first)), (Some(()), Some(3)));
    }

    #[test]
    fn a_panic_gives_no_result() {
        let task = spawn_blocking(|| assert!(Vec::<u8>::with_capacity(1).capacity() == 0, "expected by this test"));
        assert_eq!(wait(task.unwrap()), None);
        assert_eq!(wait(spawn_blocking(|| 1).unwrap()), Some(1));
    }
}
