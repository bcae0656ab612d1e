//! Guards bus posts from our own threads: after `silence` returns, no post is in flight.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// The permission to post messages for one push. A bus passes a message to the element's bin without a reference to the
/// bin, which may be freed as soon as the state change that ends the push has returned. No message may be in flight
/// then.
#[derive(Default)]
pub(super) struct PostGuard {
    speakers: Mutex<ActivePosts>,
    /// Notified when a post has completed.
    spoken: Condvar,
}

#[derive(Default)]
struct ActivePosts {
    silenced: bool,
    /// The thread of each post in progress.
    speaking: Vec<ThreadId>,
}

impl PostGuard {
    /// Calls `post`, which posts messages, with no lock held; does nothing if the push is over.
    pub(super) fn post(&self, post: impl FnOnce()) {
        {
            let mut speakers = self.lock();
            if speakers.silenced {
                return;
            }
            speakers.speaking.push(thread::current().id());
        }
        let _turn = ActivePost { post_guard: self };
        post();
    }

    /// Blocks further posts and waits for those in progress.
    ///
    /// An application may stop the element from within a message handler, so a post of the calling thread is not
    /// awaited.
    pub(super) fn silence(&self) {
        let own = thread::current().id();
        let mut speakers = self.lock();
        speakers.silenced = true;
        while speakers.speaking.iter().any(|speaker| *speaker != own) {
            speakers = self.spoken.wait(speakers).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, ActivePosts> {
        self.speakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A post in progress, until it is dropped.
struct ActivePost<'a> {
    post_guard: &'a PostGuard,
}

impl Drop for ActivePost<'_> {
    fn drop(&mut self) {
        let own = thread::current().id();
        let mut speakers = self.post_guard.lock();
        if let Some(index) = speakers.speaking.iter().position(|speaker| *speaker == own) {
            speakers.speaking.swap_remove(index);
        }
        self.post_guard.spoken.notify_all();
    }
}
