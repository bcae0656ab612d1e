//! The recorder of one point: a thread of its own behind a bounded queue.
//!
//! File systems stall for seconds at times. The runtime never waits for them: a disk
//! that is slower than the stream holds the pusher back for [`PATIENCE`] and then
//! costs packets of the recording, and nothing else.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::recording::Recording;
use crate::asf::{Header, Packet};

/// Items that wait for the disk; the largest is a packet of 64 KiB.
const QUEUE: usize = 256;
/// How long a full queue holds the pusher back.
const PATIENCE: Duration = Duration::from_secs(2);

/// The way to a recorder thread.
pub(super) struct Recorder {
    queue: mpsc::Sender<Item>,
    files: Arc<Mutex<Vec<PathBuf>>>,
    /// The last wait for room was in vain.
    stalled: AtomicBool,
    /// Packets that found no room.
    lost: AtomicU64,
}

enum Item {
    /// The stream begins, or goes on after a break, with this header.
    Header(Arc<Header>),
    Packet {
        bytes: Bytes,
        /// Milliseconds.
        send_time: u32,
        /// Milliseconds.
        duration: u16,
    },
    /// The stream is over: make the file whole.
    Finish(oneshot::Sender<()>),
}

impl Recorder {
    /// Starts the thread; its first file is made with the first header.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub(super) fn start(directory: &Path, point: &str) -> io::Result<Self> {
        let (queue, items) = mpsc::channel(QUEUE);
        let files = Arc::default();
        let worker = Worker {
            directory: directory.to_owned(),
            point: point.to_owned(),
            files: Arc::clone(&files),
            recording: None,
        };
        thread::Builder::new().name("recorder".to_owned()).spawn(move || worker.run(items))?;
        Ok(Self { queue, files, stalled: AtomicBool::new(false), lost: AtomicU64::new(0) })
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A stream begins. Headers are never lost: packets would end up under the wrong one.
    pub(super) async fn header(&self, header: &Arc<Header>) {
        // Fails only where the thread is gone, which it has reported.
        let _ = self.queue.send(Item::Header(Arc::clone(header))).await;
    }

    /// One packet at its full size, parsed and as bytes.
    pub(super) async fn packet(&self, packet: &Packet, bytes: &Bytes) {
        let item = Item::Packet { bytes: bytes.clone(), send_time: packet.send_time(), duration: packet.duration() };
        let item = match self.queue.try_send(item) {
            Ok(()) => {
                self.stalled.store(false, Ordering::Relaxed);
                return;
            }
            Err(TrySendError::Closed(_)) => return,
            Err(TrySendError::Full(item)) => item,
        };
        let waited = self.stalled.load(Ordering::Relaxed);
        if waited || tokio::time::timeout(PATIENCE, self.queue.send(item)).await.is_err() {
            if !self.stalled.swap(true, Ordering::Relaxed) {
                tracing::warn!("the disk is too slow: the recording misses packets");
            }
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Makes the file whole; gives when it is.
    pub(super) async fn finish(&self) {
        let (done, finished) = oneshot::channel();
        if self.queue.send(Item::Finish(done)).await.is_ok() {
            // Dropped unanswered only where the thread is gone.
            let _ = finished.await;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "packets are missing in the recording");
        }
    }
}

struct Worker {
    directory: PathBuf,
    point: String,
    files: Arc<Mutex<Vec<PathBuf>>>,
    /// `None` before the first header, and after a disk error until the next one.
    recording: Option<Recording>,
}

impl Worker {
    fn run(mut self, mut items: mpsc::Receiver<Item>) {
        while let Some(item) = items.blocking_recv() {
            let mut next = Some(item);
            while let Some(item) = next {
                if let Err(error) = self.take(item) {
                    self.fail(&error);
                }
                next = items.try_recv().ok();
            }
            // Nothing waits: what has come so far survives this process from here on.
            if let Err(error) = self.recording.as_mut().map_or(Ok(()), Recording::flush) {
                self.fail(&error);
            }
        }
        // The server went without a word: the file stays as it is, which players can read.
    }

    fn take(&mut self, item: Item) -> io::Result<()> {
        match item {
            Item::Header(header) => self.begin(&header),
            Item::Packet { bytes, send_time, duration } => match &mut self.recording {
                Some(recording) => recording.write(&bytes, send_time, duration),
                None => Ok(()),
            },
            Item::Finish(done) => {
                let result = self.recording.as_mut().map_or(Ok(()), Recording::finish);
                // Whoever asked may have gone.
                let _ = done.send(());
                result
            }
        }
    }

    fn begin(&mut self, header: &Header) -> io::Result<()> {
        if let Some(recording) = self.recording.as_mut().filter(|recording| recording.is_of(header)) {
            return recording.go_on();
        }
        if let Some(mut before) = self.recording.take() {
            before.finish()?;
        }
        let (recording, path) = Recording::create(&self.directory, &self.point, header)?;
        tracing::info!(point = self.point, file = %path.display(), "recording");
        self.files.lock().unwrap_or_else(PoisonError::into_inner).push(path);
        self.recording = Some(recording);
        Ok(())
    }

    fn fail(&mut self, error: &io::Error) {
        tracing::error!(point = self.point, %error, "the recording ends");
        self.recording = None;
    }
}
