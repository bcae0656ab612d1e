//! What threads of ours post, and that nothing of it is under way once the element has stopped.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// The right to post for one push. A bus hands a message to the element's bin without holding the bin, which may be
/// freed as soon as the state change that ends the push is over: no message may be on its way then.
#[derive(Default)]
pub(super) struct PostGuard {
    speakers: Mutex<ActivePosts>,
    /// Told when one has spoken.
    spoken: Condvar,
}

#[derive(Default)]
struct ActivePosts {
    silenced: bool,
    /// One for each call that is under way.
    speaking: Vec<ThreadId>,
}

impl PostGuard {
    /// Calls `post`, which posts messages, with no lock held; or does not, where the push is over.
    pub(super) fn speak(&self, post: impl FnOnce()) {
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

    /// Waits for those who speak. From now on nobody does.
    ///
    /// An application that is told something may stop the element at once: its own thread is not waited for.
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

/// A call that is under way, until it is dropped.
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
