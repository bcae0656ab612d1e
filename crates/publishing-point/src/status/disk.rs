//! Sizes of recordings, and free disk space. A file system may take seconds to respond; meanwhile the status has the
//! latest known values.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::points::publishing_point::PublishingPoint;

/// The values from the file system.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Disk {
    /// Bytes by file. A file without an entry does not exist, or its size is not known yet.
    pub(super) sizes: HashMap<PathBuf, u64>,
    /// Bytes that the server can still write, by directory of recordings.
    pub(super) free: HashMap<PathBuf, u64>,
}

/// Maximum time that a status request waits for the file system.
const FILE_SYSTEM_TIMEOUT: Duration = Duration::from_millis(300);

/// The latest known values.
pub(super) struct DiskCache {
    /// Replaced as a whole by each query.
    known: Arc<Mutex<Arc<Disk>>>,
    /// Limits the queries of the file system to one at a time.
    query_permit: Arc<Semaphore>,
}

impl Default for DiskCache {
    fn default() -> Self {
        Self { known: Arc::default(), query_permit: Arc::new(Semaphore::new(1)) }
    }
}

impl DiskCache {
    /// Returns the values of these points' recordings, as far as they are known in time.
    pub(super) async fn of(&self, points: &[Arc<PublishingPoint>]) -> Arc<Disk> {
        let files = points.iter().flat_map(|point| point.stats().recordings).collect();
        self.query(files, points.iter().filter_map(|point| point.config().record.clone()).collect()).await
    }

    /// Queries the file system, unless a query is in progress, and returns the latest known values.
    async fn query(&self, files: Vec<PathBuf>, directories: BTreeSet<PathBuf>) -> Arc<Disk> {
        if !(files.is_empty() && directories.is_empty())
            && let Ok(permit) = Arc::clone(&self.query_permit).try_acquire_owned()
        {
            let known = Arc::clone(&self.known);
            let query = tokio::task::spawn_blocking(move || {
                let sizes = files.into_iter().filter_map(|file| {
                    let size = std::fs::metadata(&file).ok()?.len();
                    Some((file, size))
                });
                let free = directories.into_iter().filter_map(|directory| {
                    let stat = statvfs(&directory).ok()?;
                    // The types of these fields differ between systems.
                    #[allow(clippy::useless_conversion, reason = "32 bits on some systems")]
                    let [blocks, size] = [u64::from(stat.blocks_available()), u64::from(stat.fragment_size())];
                    Some((directory, blocks.saturating_mul(size)))
                });
                let disk = Disk { sizes: sizes.collect(), free: free.collect() };
                *known.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(disk);
                drop(permit);
            });
            // If it takes too long, the next call gets the result.
            let _ = timeout(FILE_SYSTEM_TIMEOUT, query).await;
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
        let cache = DiskCache::default();
        let query = |files: [&PathBuf; 2]| {
            let directories = [folder.path().to_owned(), folder.path().join("none")];
            cache.query(files.into_iter().cloned().collect(), directories.into())
        };
        let permit = Arc::clone(&cache.query_permit).try_acquire_owned().unwrap();
        assert_eq!(*query([&there, &there]).await, Disk::default(), "another query is in progress");
        drop(permit);
        // The file system may be slow.
        while query([&there, &missing]).await.sizes.is_empty() {}
        let disk = query([&there, &missing]).await;
        assert_eq!(disk.sizes, HashMap::from([(there, 1234)]));
        assert_eq!(disk.free.keys().collect::<Vec<_>>(), [folder.path()]);
        assert!(disk.free[folder.path()] > 0);
    }
}
