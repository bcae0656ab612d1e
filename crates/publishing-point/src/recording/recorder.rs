//! The recorder of a point: a thread with a bounded queue.
//!
//! File systems sometimes stall for seconds. The runtime never waits for them: if the disk is slower than the stream,
//! the recorder delays the encoder for up to [`QUEUE_FULL_TIMEOUT`] and then drops packets from the recording only. If
//! the disk does not respond at all, the headers and ends of streams are handed over when it responds again, and until
//! then nothing is recorded.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{timeout, timeout_at};

use super::file::{RecordedPacket, Recording};
use super::folder::Folder;
use super::limits::RecordLimits;
use crate::config::PointConfig;
use crate::points::activity::PointActivity;
use asf::{Header, Packet};

/// Items that wait for the disk. The largest is a packet of 64 KiB, so that the queue takes at most 16 MiB.
const QUEUE_LEN: usize = 256;
/// Maximum time that a full queue delays the encoder.
const QUEUE_FULL_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum time that the end of a session waits for its file to be completed.
pub(crate) const SESSION_FINISH_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time that the shutdown of the server waits for its files to be completed.
pub(crate) const SHUTDOWN_FINISH_TIMEOUT: Duration = Duration::from_secs(30);

/// Delay before the next attempt after a disk error.
const DISK_RETRY_DELAY: Duration = Duration::from_secs(5);
/// Maximum number of file names kept for the statistics.
const MAX_FILES: usize = 256;

/// The handle of a recorder thread.
pub(crate) struct Recorder {
    /// The name of the point, for the log.
    point: String,
    queue: mpsc::Sender<Item>,
    files: Arc<Mutex<Vec<PathBuf>>>,
    /// Whether the last wait for a free place in the queue timed out.
    stalled: AtomicBool,
    /// Packets dropped because the queue was full.
    lost: AtomicU64,
    /// Whether the last packet was dropped.
    gap: AtomicBool,
    /// The item that the disk must accept first, if it did not do so in time. Nothing is recorded until then.
    deferred: Arc<Mutex<Option<Item>>>,
}

/// An item of the recorder's queue.
enum Item {
    /// The stream begins with this header, or continues with it after an interruption.
    Header {
        header: Arc<Header>,
        /// Directory of the recordings; `None` if the stream is not recorded.
        directory: Option<PathBuf>,
        limits: RecordLimits,
    },
    /// A packet of the current stream.
    Packet(RecordedPacket),
    /// The stream has ended: complete the file.
    Finish(oneshot::Sender<()>),
}

impl Recorder {
    /// Starts the thread. It creates the first file when it receives the first header. Disk errors are shown as errors
    /// of the publishing point with this `activity`.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub(crate) fn start(directory: &Path, point: &str, activity: Arc<PointActivity>) -> io::Result<Self> {
        let (queue, items) = mpsc::channel(QUEUE_LEN);
        let files = Arc::default();
        let worker = Worker {
            folder: Folder::new(directory, point),
            point: point.to_owned(),
            activity,
            limits: RecordLimits::default(),
            files: Arc::clone(&files),
            header: None,
            recording: None,
            retry_at: None,
        };
        thread::Builder::new().name("recorder".to_owned()).spawn(move || worker.run(items))?;
        Ok(Self::new(point, queue, files))
    }

    /// Returns the handle for a thread that reads this queue.
    fn new(point: &str, queue: mpsc::Sender<Item>, files: Arc<Mutex<Vec<PathBuf>>>) -> Self {
        Self {
            point: point.to_owned(),
            queue,
            files,
            stalled: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            gap: AtomicBool::new(false),
            deferred: Arc::default(),
        }
    }

    /// Returns a recorder whose disk does not respond until the second value is dropped. Its queue has space for one
    /// header.
    #[cfg(test)]
    pub(crate) fn stalled() -> (Self, impl Sized) {
        let (queue, items) = mpsc::channel(1);
        (Self::new("concert", queue, Arc::default()), items)
    }

    /// Returns the latest files that the recorder created and did not delete.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts recording a stream, with the configuration of this moment. A header is never dropped, because the packets
    /// would be recorded under the wrong one.
    pub(crate) async fn header(&self, header: &Arc<Header>, config: &PointConfig) {
        let (directory, limits) = (config.record.clone(), config.record_limits);
        self.enqueue(Item::Header { header: Arc::clone(header), directory, limits }, QUEUE_FULL_TIMEOUT).await;
    }

    /// Queues an item that must not be dropped: now, or if the queue stays full for `time_limit`, when the disk
    /// responds again.
    async fn enqueue(&self, item: Item, time_limit: Duration) {
        if self.deferred().is_some() {
            return self.defer(item);
        }
        match timeout(time_limit, self.queue.reserve()).await {
            Ok(Ok(permit)) => permit.send(item),
            // The thread has ended and has reported why.
            Ok(Err(_)) => {}
            Err(_) => self.defer(item),
        }
    }

    /// Queues the item as soon as the disk responds. A later item replaces an earlier one: a header starts another
    /// file, and the end of the stream completes the current file.
    fn defer(&self, item: Item) {
        self.gap.store(true, Ordering::Relaxed);
        if self.deferred().replace(item).is_some() {
            return;
        }
        tracing::error!(
            point = self.point,
            "the disk does not respond: nothing is recorded until it does; the stream continues. Check the disk of the \
             recordings"
        );
        let (queue, deferred) = (self.queue.clone(), Arc::clone(&self.deferred));
        tokio::spawn(async move {
            let permit = queue.reserve().await;
            // The lock is held until the item is sent, so that no packet is sent before it.
            let mut deferred = deferred.lock().unwrap_or_else(PoisonError::into_inner);
            if let (Some(item), Ok(permit)) = (deferred.take(), permit) {
                permit.send(item);
            }
        });
    }

    /// Locks the deferred item. The lock is never held across an await.
    fn deferred(&self) -> MutexGuard<'_, Option<Item>> {
        // The data is consistent after every statement, so a poisoned lock can still be used.
        self.deferred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a packet at its full size, given parsed and as bytes.
    pub(crate) async fn packet(&self, packet: &Packet, bytes: &Bytes) {
        let item = Item::Packet(RecordedPacket {
            bytes: bytes.clone(),
            send_time: packet.send_time(),
            duration: packet.duration(),
            starts_key_frame: packet.starts_key_frame(),
            after_gap: self.gap.load(Ordering::Relaxed),
        });
        let sent = match &*self.deferred() {
            Some(_) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                return;
            }
            None => self.queue.try_send(item),
        };
        let item = match sent {
            Ok(()) => {
                self.stalled.store(false, Ordering::Relaxed);
                self.gap.store(false, Ordering::Relaxed);
                return;
            }
            Err(TrySendError::Closed(_)) => return,
            Err(TrySendError::Full(item)) => item,
        };
        // Only the first packet waits for a slow disk; until the queue has space again, the others are dropped at once.
        let waited = self.stalled.load(Ordering::Relaxed);
        if waited || timeout(QUEUE_FULL_TIMEOUT, self.queue.send(item)).await.is_err() {
            if !self.stalled.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    point = self.point,
                    "the disk is too slow: packets are missing from the recording. Check the disk's load, or record to a \
                     faster disk"
                );
            }
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.gap.store(true, Ordering::Relaxed);
        } else {
            self.gap.store(false, Ordering::Relaxed);
        }
    }

    /// Completes the file; returns when it is complete or when `time_limit` has passed. In the latter case it is
    /// completed later.
    pub(crate) async fn finish(&self, time_limit: Duration) {
        let (done, finished) = oneshot::channel();
        let until = tokio::time::Instant::now() + time_limit;
        self.enqueue(Item::Finish(done), time_limit).await;
        // The sender is dropped if the thread has ended, or if a header has replaced this item.
        if timeout_at(until, finished).await.is_err() {
            tracing::warn!(
                point = self.point,
                "the disk is too slow: the recording is completed later, when the disk has written the rest"
            );
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(
                point = self.point,
                packets = lost,
                "packets are missing from the recording, because the disk was too slow"
            );
        }
    }
}

/// The state of the recorder's thread.
struct Worker {
    folder: Folder,
    point: String,
    /// The publishing point's errors, for the status.
    activity: Arc<PointActivity>,
    limits: RecordLimits,
    files: Arc<Mutex<Vec<PathBuf>>>,
    /// The header of the current stream.
    header: Option<Arc<Header>>,
    /// `None` before the first header, and after a disk error.
    recording: Option<Recording>,
    /// When to try again after an error.
    retry_at: Option<Instant>,
}

impl Worker {
    /// Records items until the queue is closed.
    fn run(mut self, mut items: mpsc::Receiver<Item>) {
        while let Some(item) = items.blocking_recv() {
            let mut next = Some(item);
            while let Some(item) = next {
                if let Err(error) = self.handle_item(item) {
                    self.on_error(&error);
                }
                next = items.try_recv().ok();
            }
            // The queue is empty. Flushing now means that the recorded packets survive a crash of this process.
            if let Err(error) = self.recording.as_mut().map_or(Ok(()), Recording::flush) {
                self.on_error(&error);
            }
        }
        // The recorder was dropped without a request to finish. Players can read the file as it is.
    }

    /// Handles one item.
    fn handle_item(&mut self, item: Item) -> io::Result<()> {
        match item {
            Item::Header { header, directory, limits } => {
                self.limits = limits;
                self.header = directory.is_some().then(|| Arc::clone(&header));
                match directory {
                    Some(directory) if directory == self.folder.path() => self.begin(&header),
                    Some(directory) => {
                        self.finish();
                        self.folder = Folder::new(&directory, &self.point);
                        self.open(&header)
                    }
                    None => {
                        self.finish();
                        Ok(())
                    }
                }
            }
            Item::Packet(packet) => self.packet(&packet),
            Item::Finish(done) => {
                self.header = None;
                let result = self.recording.as_mut().map_or(Ok(()), Recording::finish);
                // The caller may no longer wait.
                let _ = done.send(());
                result
            }
        }
    }

    /// Begins or continues a stream in the same folder.
    fn begin(&mut self, header: &Arc<Header>) -> io::Result<()> {
        if let Some(recording) = self.recording.as_mut().filter(|recording| recording.accepts_header(header)) {
            return recording.resume();
        }
        self.open(header)
    }

    /// Records a packet, in a new file if the current one is full.
    fn packet(&mut self, packet: &RecordedPacket) -> io::Result<()> {
        let is_due = match &self.recording {
            Some(recording) => recording.is_full(&self.limits, packet),
            // After an error, the recording continues with a key frame, when it is time for the next attempt.
            None => packet.starts_key_frame && self.retry_at.is_some_and(|at| at <= Instant::now()),
        };
        let after_error = is_due && self.recording.is_none();
        if let Some(header) = self.header.clone().filter(|_| is_due) {
            self.open(&header)?;
        }
        let Some(recording) = &mut self.recording else { return Ok(()) };
        if packet.after_gap || after_error {
            recording.gap();
        }
        recording.write(packet)
    }

    /// Completes and closes the current file, if any.
    fn finish(&mut self) {
        let finished = self.recording.take().map(|mut recording| recording.finish());
        if let Some(Err(error)) = finished {
            self.log_error(&error);
        }
        self.retry_at = None;
    }

    /// Completes the current file and creates the next one.
    fn open(&mut self, header: &Arc<Header>) -> io::Result<()> {
        self.finish();
        let deleted = self.folder.make_room(&self.limits).unwrap_or_else(|error| {
            tracing::warn!(point = self.point, %error, "cannot delete old recordings; check that the server may delete files in the directory");
            Vec::new()
        });
        let (recording, path) = Recording::create(&self.folder, header)?;
        tracing::info!(point = self.point, file = %path.display(), "recording started");
        self.recording = Some(recording);
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|file| !deleted.contains(file));
        if files.len() >= MAX_FILES {
            files.remove(0);
        }
        files.push(path);
        drop(files);
        for file in deleted {
            tracing::info!(point = self.point, file = %file.display(), "old recording deleted");
        }
        Ok(())
    }

    /// Closes the file after an error and schedules the next attempt.
    fn on_error(&mut self, error: &io::Error) {
        self.log_error(error);
        if let Some(false) = self.recording.take().map(Recording::repair) {
            self.discard();
        }
        self.retry_at = Some(Instant::now() + DISK_RETRY_DELAY);
    }

    /// Deletes the latest file, which has no packets.
    fn discard(&self) {
        if let Some(file) = self.files.lock().unwrap_or_else(PoisonError::into_inner).pop()
            && let Err(error) = fs::remove_file(&file)
        {
            tracing::warn!(point = self.point, file = %file.display(), %error, "cannot delete an empty recording");
        }
    }

    /// Logs an error and records it for the status.
    fn log_error(&self, error: &io::Error) {
        tracing::error!(
            point = self.point,
            %error,
            folder = %self.folder.path().display(),
            "recording ended because of an error; the push continues, and the next header or key frame starts another \
             file. To do: {}",
            remedy(error)
        );
        // Without the error's own text, which may contain a path of this machine.
        self.activity.record_error(&format!(
            "recording ended because of an error: {}; {}",
            error.kind(),
            remedy(error)
        ));
    }
}

/// Returns what to do about an error of the recording.
fn remedy(error: &io::Error) -> &'static str {
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        "free disk space, or set record-keep or record-max-total, so that the server deletes old recordings"
    } else {
        "check that the directory exists, that the server may write to it, and that the disk works"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use asf::test_util::{self, HeaderBuilder};

    /// A disk that hangs delays neither the stream nor its end for long. When it responds again, it receives the latest
    /// header.
    #[tokio::test(start_paused = true)]
    async fn a_hanging_disk_does_not_block_the_stream() {
        let (queue, mut items) = mpsc::channel(1);
        let recorder = Recorder::new("concert", queue, Arc::default());
        let header = |size| Arc::new(Header::parse(HeaderBuilder::default().packet_size(size).build()).unwrap());
        let (one, other, third) = (header(200), header(300), header(400));
        let config = PointConfig { record: Some("/recordings".into()), ..PointConfig::default() };
        let bytes = test_util::packets(200, 1).remove(0);
        let packet = Packet::parse([bytes.clone(), Bytes::new()], &one, asf::Padding::Keep);
        let begun = tokio::time::Instant::now();
        recorder.header(&one, &config).await;
        recorder.packet(&packet, &bytes).await;
        for header in [&other, &third] {
            recorder.header(header, &config).await;
            recorder.packet(&packet, &bytes).await;
        }
        recorder.finish(SESSION_FINISH_TIMEOUT).await;
        recorder.header(&other, &config).await;
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert!(matches!(items.recv().await, Some(Item::Header { header, .. }) if Arc::ptr_eq(&header, &one)));
        assert!(matches!(items.recv().await, Some(Item::Header { header, .. }) if Arc::ptr_eq(&header, &other)));
        recorder.packet(&packet, &bytes).await;
        assert!(matches!(items.recv().await, Some(Item::Packet(packet)) if packet.after_gap));
    }

    /// After an error the file remains if it has packets, and is deleted if it has none.
    #[test]
    fn an_error_leaves_no_empty_file() {
        let directory = tempfile::tempdir().unwrap();
        let files = Arc::<Mutex<Vec<PathBuf>>>::default();
        let mut worker = Worker {
            folder: Folder::new(directory.path(), "concert"),
            point: "concert".to_owned(),
            activity: Arc::default(),
            limits: RecordLimits::default(),
            files: Arc::clone(&files),
            header: None,
            recording: None,
            retry_at: None,
        };
        let header = Arc::new(Header::parse(HeaderBuilder::default().packet_size(200).build()).unwrap());
        let bytes = test_util::packets(200, 1).remove(0);
        for (packets, kept) in [(0, 0), (1, 1), (0, 1)] {
            worker.open(&header).unwrap();
            for _ in 0..packets {
                let packet = RecordedPacket {
                    bytes: bytes.clone(),
                    send_time: 0,
                    duration: 0,
                    starts_key_frame: true,
                    after_gap: false,
                };
                worker.packet(&packet).unwrap();
                worker.recording.as_mut().map(Recording::flush).unwrap().unwrap();
            }
            worker.on_error(&io::ErrorKind::StorageFull.into());
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), kept);
            assert_eq!(files.lock().unwrap().len(), kept);
        }
    }
}
