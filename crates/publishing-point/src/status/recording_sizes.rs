//! How large the recordings are. A file system may take seconds to tell: whoever asks meanwhile gets what was
//! told last.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Bytes by file; one that is missing is not there, or not known yet.
pub(super) type Sizes = HashMap<PathBuf, u64>;

/// How long is waited for the file system.
const FILE_SYSTEM_TIMEOUT: Duration = Duration::from_millis(300);

/// The sizes that were told last.
pub(super) struct RecordingSizeCache {
    known: Arc<Mutex<Arc<Sizes>>>,
    /// One question at a time.
    asking: Arc<Semaphore>,
}

impl Default for RecordingSizeCache {
    fn default() -> Self {
        Self { known: Arc::default(), asking: Arc::new(Semaphore::new(1)) }
    }
}

impl RecordingSizeCache {
    /// The sizes of these files, as far as they are known soon.
    pub(super) async fn sizes(&self, files: Vec<PathBuf>) -> Arc<Sizes> {
        if let Some(turn) = Some(Arc::clone(&self.asking)).filter(|_| !files.is_empty())
            && let Ok(turn) = turn.try_acquire_owned()
        {
            let known = Arc::clone(&self.known);
            let asked = tokio::task::spawn_blocking(move || {
                let sizes = files.into_iter().filter_map(|file| {
                    let size = std::fs::metadata(&file).ok()?.len();
                    Some((file, size))
                });
                *known.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(sizes.collect());
                drop(turn);
            });
            // Too late is what the next one gets.
            let _ = timeout(FILE_SYSTEM_TIMEOUT, asked).await;
        }
        Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sizes_are_those_of_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let (there, missing) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&there, [0; 1234]).unwrap();
        let sizer = RecordingSizeCache::default();
        let turn = Arc::clone(&sizer.asking).try_acquire_owned().unwrap();
        assert!(sizer.sizes(vec![there.clone()]).await.is_empty(), "somebody else asks");
        drop(turn);
        // The file system may be slow.
        while sizer.sizes(vec![there.clone(), missing.clone()]).await.is_empty() {}
        assert_eq!(*sizer.sizes(vec![there.clone(), missing]).await, HashMap::from([(there, 1234)]));
    }
}
