//! Guards bus posts from our own threads: after `close` returns, no post is in flight.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// The permission to post messages for one push. A bus passes a message to the element's bin without a reference to the
/// bin, which may be freed as soon as the state change that ends the push has returned. No message may be in flight
/// then.
#[derive(Default)]
pub(super) struct PostGuard {
    posts: Mutex<ActivePosts>,
    /// Notified when a post has completed.
    post_done: Condvar,
}

/// The posts in progress.
#[derive(Default)]
struct ActivePosts {
    /// No further post may begin.
    is_closed: bool,
    /// The thread of each post in progress.
    threads: Vec<ThreadId>,
}

impl PostGuard {
    /// Calls `post`, which posts messages, with no lock held; does nothing if the push is over.
    pub(super) fn post(&self, post: impl FnOnce()) {
        {
            let mut posts = self.lock();
            if posts.is_closed {
                return;
            }
            posts.threads.push(thread::current().id());
        }
        let _active = ActivePost { post_guard: self };
        post();
    }

    /// Blocks further posts and waits for those in progress.
    ///
    /// An application may stop the element from within a message handler, so a post of the calling thread is not
    /// awaited.
    pub(super) fn close(&self) {
        let own = thread::current().id();
        let mut posts = self.lock();
        posts.is_closed = true;
        while posts.threads.iter().any(|thread_id| *thread_id != own) {
            posts = self.post_done.wait(posts).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, ActivePosts> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A post in progress, until it is dropped.
struct ActivePost<'a> {
    post_guard: &'a PostGuard,
}

impl Drop for ActivePost<'_> {
    fn drop(&mut self) {
        let own = thread::current().id();
        let mut posts = self.post_guard.lock();
        if let Some(index) = posts.threads.iter().position(|thread_id| *thread_id == own) {
            posts.threads.swap_remove(index);
        }
        self.post_guard.post_done.notify_all();
    }
}
