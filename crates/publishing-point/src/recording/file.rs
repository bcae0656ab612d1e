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
/// Offset of the File ID in the File Properties Object.
const FILE_ID_AT: usize = 24;

/// One recording file.
pub(crate) struct Recording {
    file: BufWriter<File>,
    path: PathBuf,
    /// The header as received from the encoder, which identifies the stream.
    header: Arc<Header>,
    /// The header as written while the file grows: that of a live stream.
    live_header: Bytes,
    /// Offset of the File Properties Object in the header.
    properties_at: Option<usize>,
    /// Packets in the file.
    packets: u64,
    /// Stream time since the send time of the first packet.
    time: StreamTime,
    /// Stream time at the end of the last packet, in milliseconds.
    end_ms: u64,
    /// The recovery after a gap; `None` while all packets are recorded.
    gap_recovery: Option<GapRecovery>,
    /// The indexes by the number of their video stream, which is also their order in the file.
    indexes: BTreeMap<u8, SimpleIndex>,
    /// Whether the file has its final header and its index.
    finished: bool,
}

/// The search for decodable data after a gap in the stream.
struct GapRecovery {
    /// Leaves out data that cannot be decoded without the missing packets.
    filter: StartFilter,
    /// Stream time at the gap, in milliseconds.
    gap_ms: u64,
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
        let live_header = header.to_live().bytes().clone();
        let mut file = BufWriter::with_capacity(WRITE_BUFFER_BYTES, file);
        // If the disk has no space for a header, it has none for a recording. Deleting the file prevents many empty
        // files.
        file.write_all(&live_header).and_then(|()| file.flush()).inspect_err(|_| drop(fs::remove_file(&path)))?;
        let video = header.streams().iter().filter(|stream| stream.kind == StreamKind::Video);
        let recording = Self {
            file,
            path: path.clone(),
            indexes: video.map(|stream| (stream.number, SimpleIndex::default())).collect(),
            header: Arc::clone(header),
            properties_at: file_properties(&live_header),
            live_header,
            packets: 0,
            time: StreamTime::default(),
            end_ms: 0,
            gap_recovery: None,
            finished: false,
        };
        Ok((recording, path))
    }

    /// Returns whether packets under this header belong to this file; `false` also if the file was moved or deleted.
    pub(crate) fn accepts_header(&self, header: &Header) -> bool {
        self.header.bytes() == header.bytes() && self.exists()
    }

    /// Returns whether the file still exists under its path.
    fn exists(&self) -> bool {
        // The device and inode number identify a file, whatever its path.
        let id = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let (open_file, at_path) = (self.file.get_ref().metadata(), fs::metadata(&self.path));
        open_file.is_ok_and(|open_file| at_path.is_ok_and(|at_path| id(open_file) == id(at_path)))
    }

    /// Returns whether this packet must be the first of another file.
    pub(crate) fn is_full(&self, limits: &RecordLimits, packet: &RecordedPacket) -> bool {
        self.packets > 0 && limits.is_full(self.data_end(), self.time.elapsed_ms(), packet.starts_key_frame)
    }

    /// Records that packets are missing before the next one. Data that depends on them or on earlier packets is left
    /// out, so that each video stream continues with a key frame.
    pub(crate) fn gap(&mut self) {
        self.gap_recovery =
            Some(GapRecovery { filter: StartFilter::new(&self.header), gap_ms: self.time.elapsed_ms() });
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

    /// Returns the part of a packet that can be decoded with what the file contains.
    fn decodable(&mut self, packet: &[u8]) -> Selected {
        let now = self.time.elapsed_ms();
        let is_over = |gap_recovery: &mut GapRecovery| {
            gap_recovery.filter.is_done() || now - gap_recovery.gap_ms >= MAX_WAIT_FOR_KEY_FRAME_MS
        };
        self.gap_recovery.take_if(is_over);
        match &mut self.gap_recovery {
            Some(gap_recovery) => gap_recovery.filter.select(packet, &mut BytesMut::new()),
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
            self.write_header(&self.final_header(self.packets, index.len()))?;
            self.finished = true;
        }
        self.file.get_ref().sync_data()
    }

    /// Undoes [`Recording::finish`] if the stream continues. Its send times may then restart.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(crate) fn resume(&mut self) -> io::Result<()> {
        if self.finished {
            self.file.get_ref().set_len(self.data_end())?;
            self.write_header(&self.live_header.clone())?;
            self.finished = false;
            self.time.discontinuity();
            self.gap();
        }
        Ok(())
    }

    /// Repairs a file after a write error as far as possible: sets its header to the packets that were written. Returns
    /// whether there are any.
    pub(crate) fn repair(self) -> bool {
        let (packets, packet_size, head) = (self.packets, self.packet_size(), self.live_header.len() as u64);
        // Data that is still buffered could not be written.
        let header = |packets| self.final_header(packets, 0);
        let file = self.file.get_ref();
        let Ok(len) = file.metadata().map(|metadata| metadata.len()) else { return true };
        let written = (len.saturating_sub(head) / packet_size).min(packets);
        let header = header(written);
        // A partly written packet is cut off. Errors are ignored, because the disk has failed already.
        let _ = file.set_len(head + written * packet_size);
        // The buffered data is dropped without another attempt to write it.
        let (mut file, _) = self.file.into_parts();
        let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&header));
        written > 0
    }

    /// Returns the size of each packet in bytes.
    fn packet_size(&self) -> u64 {
        self.header.packet_size() as u64
    }

    /// Returns the size of the file without its index, in bytes.
    fn data_end(&self) -> u64 {
        self.live_header.len() as u64 + self.packets * self.packet_size()
    }

    /// Overwrites the header, whose size never changes, and returns to the end of the file.
    fn write_header(&mut self, header: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(header)?;
        self.file.seek(SeekFrom::End(0))?;
        Ok(())
    }

    /// Returns an index of each video stream, as far as key frames were received.
    fn index(&self) -> Vec<u8> {
        let file_id = self.properties_at.and_then(|at| self.live_header.get(at + FILE_ID_AT..)?.first_chunk());
        let Some(file_id) = file_id.filter(|_| self.indexes.values().any(|index| !index.is_empty())) else {
            return Vec::new();
        };
        self.indexes.values().flat_map(|index| index.to_object(file_id)).collect()
    }

    /// Returns the header with the final sizes. The offsets are those of ASF 3.2 and 5.1.
    fn final_header(&self, packets: u64, index_len: usize) -> Vec<u8> {
        const FILE_SIZE_AT: usize = 40;
        const PACKETS_AT: usize = 56;
        const PLAY_DURATION_AT: usize = 64;
        const SEND_DURATION_AT: usize = 72;
        const FLAGS_AT: usize = 88;
        const BROADCAST: u8 = 1;
        const SEEKABLE: u8 = 2;
        const DATA_SIZE_AT: usize = 16;
        const DATA_PACKETS_AT: usize = 40;
        /// Units of 100 ns in a millisecond.
        const UNITS_PER_MS: u64 = 10_000;

        let mut header = self.live_header.to_vec();
        let data_at = header.len().saturating_sub(DATA_HEAD);
        let data_size = DATA_HEAD as u64 + packets * self.packet_size();
        let send_ms = self.end_ms;
        if let Some(at) = self.properties_at {
            put_u64(&mut header, at + FILE_SIZE_AT, data_at as u64 + data_size + index_len as u64);
            put_u64(&mut header, at + PACKETS_AT, packets);
            // The play duration includes the preroll, the send duration does not (ASF 3.2).
            put_u64(&mut header, at + PLAY_DURATION_AT, (send_ms + self.header.preroll_ms()) * UNITS_PER_MS);
            put_u64(&mut header, at + SEND_DURATION_AT, send_ms * UNITS_PER_MS);
            if let Some(flags) = header.get_mut(at + FLAGS_AT) {
                *flags &= !BROADCAST;
                if index_len > 0 || !self.header.has_video() {
                    *flags |= SEEKABLE;
                }
            }
        }
        put_u64(&mut header, data_at + DATA_SIZE_AT, data_size);
        put_u64(&mut header, data_at + DATA_PACKETS_AT, packets);
        header
    }
}

/// Writes a little-endian number at an offset; does nothing beyond the end.
fn put_u64(header: &mut [u8], at: usize, value: u64) {
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
        // Every object has a GUID and a size, 24 bytes together; a smaller size must not stop the search from
        // advancing.
        at = at.checked_add(size.max(24))?;
    }
}
