//! The recorder of one point: a thread of its own behind a bounded queue.
//!
//! File systems stall for seconds at times. The runtime never waits for them: a disk
//! that is slower than the stream holds the pusher back for [`QUEUE_FULL_TIMEOUT`] and then
//! costs packets of the recording, and nothing else. One that does not move at all is left behind: what begins and ends
//! recordings is handed over when it moves again, and until then nothing is recorded.

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
use asf::{Header, Packet};

/// Items that wait for the disk; the largest is a packet of 64 KiB.
const QUEUE_LEN: usize = 256;
/// How long a full queue holds the pusher back.
const QUEUE_FULL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the end of a session waits for its file to be whole.
pub(crate) const SESSION_FINISH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the end of the server does.
pub(crate) const SHUTDOWN_FINISH_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause after a disk error.
const DISK_RETRY_DELAY: Duration = Duration::from_secs(5);
/// Files told of.
const MAX_FILES: usize = 256;

/// The way to a recorder thread.
pub(crate) struct Recorder {
    queue: mpsc::Sender<Item>,
    files: Arc<Mutex<Vec<PathBuf>>>,
    /// The last wait for room was in vain.
    stalled: AtomicBool,
    /// Packets that found no room.
    lost: AtomicU64,
    /// The last packet found no room.
    gap: AtomicBool,
    /// What the disk has to take first, where it did not in time; nothing is recorded until it has.
    deferred: Arc<Mutex<Option<Item>>>,
}

enum Item {
    /// The stream begins, or goes on after a break, with this header.
    Header {
        header: Arc<Header>,
        /// Where it is recorded to; `None` where it is not.
        directory: Option<PathBuf>,
        limits: RecordLimits,
    },
    Packet(RecordedPacket),
    /// The stream is over: make the file whole.
    Finish(oneshot::Sender<()>),
}

impl Recorder {
    /// Starts the thread; its first file is made with the first header.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub(crate) fn start(directory: &Path, point: &str) -> io::Result<Self> {
        let (queue, items) = mpsc::channel(QUEUE_LEN);
        let files = Arc::default();
        let worker = Worker {
            folder: Folder::new(directory, point),
            point: point.to_owned(),
            limits: RecordLimits::default(),
            files: Arc::clone(&files),
            header: None,
            recording: None,
            retry_at: None,
        };
        thread::Builder::new().name("recorder".to_owned()).spawn(move || worker.run(items))?;
        Ok(Self::new(queue, files))
    }

    fn new(queue: mpsc::Sender<Item>, files: Arc<Mutex<Vec<PathBuf>>>) -> Self {
        Self {
            queue,
            files,
            stalled: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            gap: AtomicBool::new(false),
            deferred: Arc::default(),
        }
    }

    /// A recorder whose disk does not move until what comes with it is dropped; a header finds room in its queue.
    #[cfg(test)]
    pub(crate) fn stalled() -> (Self, impl Sized) {
        let (queue, items) = mpsc::channel(1);
        (Self::new(queue, Arc::default()), items)
    }

    /// The newest files that it made and did not delete.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A stream begins. Headers are never lost: packets would end up under the wrong one.
    /// What the configuration says of recordings counts from here on.
    pub(crate) async fn header(&self, header: &Arc<Header>, config: &PointConfig) {
        let (directory, limits) = (config.record.clone(), config.record_limits);
        self.hand_over(Item::Header { header: Arc::clone(header), directory, limits }, QUEUE_FULL_TIMEOUT).await;
    }

    /// Hands over what must not be lost, now or, where the disk takes nothing for so long, when it does again.
    async fn hand_over(&self, item: Item, patience: Duration) {
        if self.deferred().is_some() {
            return self.defer(item);
        }
        match timeout(patience, self.queue.reserve()).await {
            Ok(Ok(permit)) => permit.send(item),
            // The thread is gone, which it has reported.
            Ok(Err(_)) => {}
            Err(_) => self.defer(item),
        }
    }

    /// Has the item handed over as soon as the disk moves. A later one makes an earlier one pointless: a header begins
    /// another file, and the end of the stream ends the file there is.
    fn defer(&self, item: Item) {
        self.gap.store(true, Ordering::Relaxed);
        if self.deferred().replace(item).is_some() {
            return;
        }
        tracing::error!("the disk does not respond: nothing is recorded until it does; the stream continues");
        let (queue, deferred) = (self.queue.clone(), Arc::clone(&self.deferred));
        tokio::spawn(async move {
            let permit = queue.reserve().await;
            // Locked until it is sent: no packet may come between.
            let mut deferred = deferred.lock().unwrap_or_else(PoisonError::into_inner);
            if let (Some(item), Ok(permit)) = (deferred.take(), permit) {
                permit.send(item);
            }
        });
    }

    fn deferred(&self) -> MutexGuard<'_, Option<Item>> {
        // Plain data, consistent after every statement.
        self.deferred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One packet at its full size, parsed and as bytes.
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
        let waited = self.stalled.load(Ordering::Relaxed);
        if waited || timeout(QUEUE_FULL_TIMEOUT, self.queue.send(item)).await.is_err() {
            if !self.stalled.swap(true, Ordering::Relaxed) {
                tracing::warn!("the disk is too slow: the recording misses packets");
            }
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.gap.store(true, Ordering::Relaxed);
        } else {
            self.gap.store(false, Ordering::Relaxed);
        }
    }

    /// Makes the file whole; gives when it is, or when that takes longer than `patience`: it is made whole later then.
    pub(crate) async fn finish(&self, patience: Duration) {
        let (done, finished) = oneshot::channel();
        let until = tokio::time::Instant::now() + patience;
        self.hand_over(Item::Finish(done), patience).await;
        // Dropped unanswered where the thread is gone, or a header has taken the place.
        if timeout_at(until, finished).await.is_err() {
            tracing::warn!("the recording is not complete yet: the disk is too slow");
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "packets are missing in the recording");
        }
    }
}

struct Worker {
    folder: Folder,
    point: String,
    limits: RecordLimits,
    files: Arc<Mutex<Vec<PathBuf>>>,
    /// That of the stream under way.
    header: Option<Arc<Header>>,
    /// `None` before the first header, and after a disk error.
    recording: Option<Recording>,
    /// When to try again after an error.
    retry_at: Option<Instant>,
}

impl Worker {
    fn run(mut self, mut items: mpsc::Receiver<Item>) {
        while let Some(item) = items.blocking_recv() {
            let mut next = Some(item);
            while let Some(item) = next {
                if let Err(error) = self.take(item) {
                    self.on_error(&error);
                }
                next = items.try_recv().ok();
            }
            // Nothing waits: what has come so far survives this process from here on.
            if let Err(error) = self.recording.as_mut().map_or(Ok(()), Recording::flush) {
                self.on_error(&error);
            }
        }
        // The server went without a word: the file stays as it is, which players can read.
    }

    fn take(&mut self, item: Item) -> io::Result<()> {
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
                // Whoever asked may have gone.
                let _ = done.send(());
                result
            }
        }
    }

    fn begin(&mut self, header: &Arc<Header>) -> io::Result<()> {
        if let Some(recording) = self.recording.as_mut().filter(|recording| recording.is_of(header)) {
            return recording.go_on();
        }
        self.open(header)
    }

    fn packet(&mut self, packet: &RecordedPacket) -> io::Result<()> {
        let is_due = match &self.recording {
            Some(recording) => recording.is_full(&self.limits, packet),
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

    /// Ends the file there is, if any, for good.
    fn finish(&mut self) {
        let finished = self.recording.take().map(|mut before| before.finish());
        if let Some(Err(error)) = finished {
            self.log_error(&error);
        }
        self.retry_at = None;
    }

    /// Ends the file there is, and makes the next.
    fn open(&mut self, header: &Arc<Header>) -> io::Result<()> {
        self.finish();
        let deleted = self.folder.make_room(&self.limits).unwrap_or_else(|error| {
            tracing::warn!(point = self.point, %error, "old recordings cannot be deleted");
            Vec::new()
        });
        let (recording, path) = Recording::create(&self.folder, header)?;
        tracing::info!(point = self.point, file = %path.display(), "recording");
        self.recording = Some(recording);
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|file| !deleted.contains(file));
        if files.len() >= MAX_FILES {
            files.remove(0);
        }
        files.push(path);
        drop(files);
        for file in deleted {
            tracing::info!(point = self.point, file = %file.display(), "an old recording is deleted");
        }
        Ok(())
    }

    fn on_error(&mut self, error: &io::Error) {
        self.log_error(error);
        if let Some(false) = self.recording.take().map(Recording::salvage) {
            self.discard();
        }
        self.retry_at = Some(Instant::now() + DISK_RETRY_DELAY);
    }

    /// Deletes the newest file, into which nothing came.
    fn discard(&self) {
        if let Some(file) = self.files.lock().unwrap_or_else(PoisonError::into_inner).pop()
            && let Err(error) = fs::remove_file(&file)
        {
            tracing::warn!(point = self.point, file = %file.display(), %error, "an empty recording cannot be deleted");
        }
    }

    fn log_error(&self, error: &io::Error) {
        tracing::error!(
            point = self.point,
            %error,
            folder = %self.folder.path().display(),
            "recording ended, the push continues; the next header or key frame starts another file: {}",
            remedy(error)
        );
    }
}

/// What helps against an error of a recording's.
fn remedy(error: &io::Error) -> &'static str {
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        "make room, or let the server do so by record-keep or record-max-total"
    } else {
        "check that the directory exists, that the server may write to it, and that the disk works"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use asf::test_util::{self, HeaderBuilder};

    /// A disk that does not move holds neither the stream nor its end up; when it moves again it gets what counts then.
    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_holds_nothing_up() {
        let (queue, mut items) = mpsc::channel(1);
        let recorder = Recorder::new(queue, Arc::default());
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

    /// A file that an error ends stays where packets are in it, and only there.
    #[test]
    fn an_error_leaves_no_empty_file() {
        let directory = tempfile::tempdir().unwrap();
        let files = Arc::<Mutex<Vec<PathBuf>>>::default();
        let mut worker = Worker {
            folder: Folder::new(directory.path(), "concert"),
            point: "concert".to_owned(),
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
