//! A recording: an ASF file that players can read at any time, and that is complete once finished.
//!
//! While the file grows, its header is that of a live stream, whose size fields are not used: players read to the end
//! of the file. When the recording is finished, the size, count and duration fields are set, and an index is appended
//! after the packets. Packets are recorded unchanged with their times: the files of a stream, one after the other, are
//! the stream. Only after a gap the recording leaves out data that cannot be decoded without the missing packets.

use super::folder::Folder;
use super::limits::RecordLimits;
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use asf::{self, Header, Selected, SimpleIndex, StartFilter, StreamKind, StreamTime};

/// Bytes that are buffered before they are written to the file.
const WRITE_BUFFER_BYTES: usize = 64 * 1024;
/// Maximum stream time, in milliseconds, for which video is left out after a gap if no key frame arrives. The encoder
/// may not mark key frames.
const MAX_WAIT_FOR_KEY_FRAME_MS: u64 = 10_000;
/// Bytes of a Header Object before its children (ASF 3.1).
const HEADER_HEAD: usize = 30;
/// Bytes of a Data Object before its packets (ASF 5.1).
const DATA_HEAD: usize = 50;
/// The GUID of the File Properties Object, 8CABDCA1-A947-11CF-8EE4-00C00C205365 (ASF 3.2).
const FILE_PROPERTIES: [u8; 16] =
    [0xa1, 0xdc, 0xab, 0x8c, 0x47, 0xa9, 0xcf, 0x11, 0x8e, 0xe4, 0x00, 0xc0, 0x0c, 0x20, 0x53, 0x65];
/// Offset of the File ID in that object.
const FILE_ID: usize = 24;

/// One recording file.
pub(crate) struct Recording {
    file: BufWriter<File>,
    path: PathBuf,
    /// The header as received from the encoder, which identifies the stream.
    header: Arc<Header>,
    /// The header as written to the growing file.
    live: Bytes,
    /// Offset of the File Properties Object in the header.
    properties_at: Option<usize>,
    packets: u64,
    /// Stream time since the send time of the first packet.
    time: StreamTime,
    /// Stream time at the end of the last packet, in milliseconds.
    end_ms: u64,
    /// Set after a gap: the filter that leaves out data that cannot be decoded.
    resuming: Option<Resuming>,
    /// The indexes by the number of their video stream, which is also their order in the file.
    indexes: BTreeMap<u8, SimpleIndex>,
    finished: bool,
}

/// A file that continues after a gap in the stream.
struct Resuming {
    filter: StartFilter,
    /// Stream time at the gap, in milliseconds.
    since_ms: u64,
}

/// A packet at its full size.
pub(crate) struct RecordedPacket {
    pub(crate) bytes: Bytes,
    /// Send time in milliseconds.
    pub(crate) send_time: u32,
    /// Duration in milliseconds.
    pub(crate) duration: u16,
    /// Whether a player can start with this packet.
    pub(crate) starts_key_frame: bool,
    /// Whether packets before this one are missing.
    pub(crate) after_gap: bool,
}

impl Recording {
    /// Creates the next file of the folder and writes the header.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(crate) fn create(folder: &Folder, header: &Arc<Header>) -> io::Result<(Self, PathBuf)> {
        let (file, path) = folder.create()?;
        let live = header.to_live().bytes().clone();
        let mut file = BufWriter::with_capacity(WRITE_BUFFER_BYTES, file);
        // If the disk has no space for a header, it has none for a recording. Deleting the file prevents many empty
        // files.
        file.write_all(&live).and_then(|()| file.flush()).inspect_err(|_| drop(fs::remove_file(&path)))?;
        let video = header.streams().iter().filter(|stream| stream.kind == StreamKind::Video);
        let recording = Self {
            file,
            path: path.clone(),
            indexes: video.map(|stream| (stream.number, SimpleIndex::default())).collect(),
            header: Arc::clone(header),
            properties_at: file_properties(&live),
            live,
            packets: 0,
            time: StreamTime::default(),
            end_ms: 0,
            resuming: None,
            finished: false,
        };
        Ok((recording, path))
    }

    /// Returns whether packets under this header belong to this file; `false` if the file was moved or deleted.
    pub(crate) fn is_of(&self, header: &Header) -> bool {
        self.header.bytes() == header.bytes() && self.is_there()
    }

    /// Returns whether the file still exists under its path.
    fn is_there(&self) -> bool {
        let place = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let (ours, there) = (self.file.get_ref().metadata(), fs::metadata(&self.path));
        ours.is_ok_and(|ours| there.is_ok_and(|there| place(ours) == place(there)))
    }

    /// Returns whether this packet must be the first of another file.
    pub(crate) fn is_full(&self, limits: &RecordLimits, packet: &RecordedPacket) -> bool {
        self.packets > 0 && limits.is_full(self.data_end(), self.time.elapsed_ms(), packet.starts_key_frame)
    }

    /// Notes that packets are missing before the next one. Data that depends on them or on earlier packets is left out,
    /// so that each video stream continues with a key frame.
    pub(crate) fn gap(&mut self) {
        self.resuming = Some(Resuming { filter: StartFilter::new(&self.header), since_ms: self.time.elapsed_ms() });
    }

    /// Appends a packet, or the part of it that can be decoded.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(crate) fn write(&mut self, packet: &RecordedPacket) -> io::Result<()> {
        let at = self.time.packet(packet.send_time);
        let bytes = match self.decodable(&packet.bytes) {
            Selected::Whole => packet.bytes.clone(),
            Selected::Part(part) => part,
            Selected::Nothing => return Ok(()),
        };
        self.file.write_all(&bytes)?;
        if packet.starts_key_frame && !self.indexes.is_empty() {
            let number = u32::try_from(self.packets).unwrap_or(u32::MAX);
            for (stream, time) in asf::key_frames(&bytes, &self.header) {
                if let Some(index) = self.indexes.get_mut(&stream) {
                    index.add(time, number);
                }
            }
        }
        self.packets += 1;
        self.end_ms = self.end_ms.max(at + u64::from(packet.duration));
        Ok(())
    }

    fn decodable(&mut self, packet: &[u8]) -> Selected {
        let now = self.time.elapsed_ms();
        let over =
            |resuming: &mut Resuming| resuming.filter.is_done() || now - resuming.since_ms >= MAX_WAIT_FOR_KEY_FRAME_MS;
        self.resuming.take_if(over);
        match &mut self.resuming {
            Some(resuming) => resuming.filter.select(packet, &mut BytesMut::new()),
            None => Selected::Whole,
        }
    }

    /// Writes buffered data to the file.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// Completes the file with an index after the packets and the final sizes in the header, and syncs it to disk.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if !self.finished {
            let index = self.index();
            self.file.write_all(&index)?;
            self.write_header(&self.whole_header(self.packets, index.len()))?;
            self.finished = true;
        }
        self.file.get_ref().sync_data()
    }

    /// Undoes [`Recording::finish`] if the stream continues. Its send times may then restart.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(crate) fn go_on(&mut self) -> io::Result<()> {
        if self.finished {
            self.file.get_ref().set_len(self.data_end())?;
            self.write_header(&self.live.clone())?;
            self.finished = false;
            self.time.splice();
            self.gap();
        }
        Ok(())
    }

    /// Repairs a file after a write error as far as possible: sets its header to the packets that were written. Returns
    /// whether there are any.
    pub(crate) fn salvage(self) -> bool {
        let (packets, packet_size, head) = (self.packets, self.packet_size(), self.live.len() as u64);
        // Data that is still buffered could not be written.
        let header = |packets| self.whole_header(packets, 0);
        let file = self.file.get_ref();
        let Ok(len) = file.metadata().map(|metadata| metadata.len()) else { return true };
        let written = (len.saturating_sub(head) / packet_size).min(packets);
        let header = header(written);
        let _ = file.set_len(head + written * packet_size);
        let (mut file, _) = self.file.into_parts();
        let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&header));
        written > 0
    }

    fn packet_size(&self) -> u64 {
        self.header.packet_size() as u64
    }

    /// Returns the size of the file without its index, in bytes.
    fn data_end(&self) -> u64 {
        self.live.len() as u64 + self.packets * self.packet_size()
    }

    fn write_header(&mut self, header: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(header)?;
        self.file.seek(SeekFrom::End(0))?;
        Ok(())
    }

    /// Returns an index of each video stream, as far as key frames were received.
    fn index(&self) -> Vec<u8> {
        let file_id = self.properties_at.and_then(|at| self.live.get(at + FILE_ID..)?.first_chunk());
        let Some(file_id) = file_id.filter(|_| self.indexes.values().any(|index| !index.is_empty())) else {
            return Vec::new();
        };
        self.indexes.values().flat_map(|index| index.to_object(file_id)).collect()
    }

    /// Returns the header with the final sizes. The offsets are those of ASF 3.2 and 5.1.
    fn whole_header(&self, packets: u64, index_len: usize) -> Vec<u8> {
        const FILE_SIZE: usize = 40;
        const PACKETS: usize = 56;
        const PLAY_DURATION: usize = 64;
        const SEND_DURATION: usize = 72;
        const FLAGS: usize = 88;
        const BROADCAST: u8 = 1;
        const SEEKABLE: u8 = 2;
        const DATA_SIZE: usize = 16;
        const DATA_PACKETS: usize = 40;
        /// Units of 100 ns in a millisecond.
        const PER_MS: u64 = 10_000;

        let mut header = self.live.to_vec();
        let data_at = header.len().saturating_sub(DATA_HEAD);
        let data_size = DATA_HEAD as u64 + packets * self.packet_size();
        let send_ms = self.end_ms;
        if let Some(at) = self.properties_at {
            put(&mut header, at + FILE_SIZE, data_at as u64 + data_size + index_len as u64);
            put(&mut header, at + PACKETS, packets);
            put(&mut header, at + PLAY_DURATION, (send_ms + self.header.preroll_ms()) * PER_MS);
            put(&mut header, at + SEND_DURATION, send_ms * PER_MS);
            if let Some(flags) = header.get_mut(at + FLAGS) {
                *flags &= !BROADCAST;
                if index_len > 0 || !self.header.has_video() {
                    *flags |= SEEKABLE;
                }
            }
        }
        put(&mut header, data_at + DATA_SIZE, data_size);
        put(&mut header, data_at + DATA_PACKETS, packets);
        header
    }
}

fn put(header: &mut [u8], at: usize, value: u64) {
    if let Some(field) = header.get_mut(at..at + 8) {
        field.copy_from_slice(&value.to_le_bytes());
    }
}

/// Returns the offset of the File Properties Object among the children of the Header Object.
fn file_properties(header: &[u8]) -> Option<usize> {
    let mut at = HEADER_HEAD;
    loop {
        let (guid, rest) = header.get(at..)?.split_first_chunk::<16>()?;
        if *guid == FILE_PROPERTIES {
            return Some(at);
        }
        let size = usize::try_from(u64::from_le_bytes(*rest.first_chunk()?)).ok()?;
        at = at.checked_add(size.max(24))?;
    }
}
