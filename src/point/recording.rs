//! One recorded file: an ASF file that players can read at any time, and whole once finished.
//!
//! While it grows its header is that of a live stream, whose sizes mean nothing. At the
//! end the fields that tell sizes, counts and durations are written in place.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::asf::Header;

/// Bytes gathered before they go to the system.
const BUFFER: usize = 64 * 1024;
/// Files of one point before the search for a free name is given up.
const MAX_FILES: u32 = 100_000;
/// A step of the send time beyond this, milliseconds, is a splice and no passing of time.
const MAX_STEP_MS: u32 = 10_000;
/// Bytes of a Header Object before its children (ASF 3.1).
const HEADER_HEAD: usize = 30;
/// Bytes of a Data Object before its packets (ASF 5.1).
const DATA_HEAD: usize = 50;
/// The File Properties Object, 8CABDCA1-A947-11CF-8EE4-00C00C205365 (ASF 3.2).
const FILE_PROPERTIES: [u8; 16] =
    [0xa1, 0xdc, 0xab, 0x8c, 0x47, 0xa9, 0xcf, 0x11, 0x8e, 0xe4, 0x00, 0xc0, 0x0c, 0x20, 0x53, 0x65];

/// One recorded file.
pub(super) struct Recording {
    file: BufWriter<File>,
    /// The header as it was pushed: what tells one stream from another.
    pushed: Bytes,
    /// The header as it stands in the file while that grows.
    live: Bytes,
    /// Where the File Properties Object begins in it.
    properties_at: Option<usize>,
    preroll_ms: u64,
    packets: u64,
    packet_size: u64,
    last_send_time: Option<u32>,
    /// Stream time from the first packet's send time to the last one's, milliseconds.
    time_ms: u64,
    last_duration: u16,
    finished: bool,
}

impl Recording {
    /// Makes `<point>-<n>.asf` with the first free `n`, and writes the header.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn create(directory: &Path, point: &str, header: &Header) -> io::Result<(Self, PathBuf)> {
        let (file, path) = create_free(directory, &file_name(point))?;
        let live = header.to_live().bytes().clone();
        let mut file = BufWriter::with_capacity(BUFFER, file);
        file.write_all(&live)?;
        let recording = Self {
            file,
            pushed: header.bytes().clone(),
            properties_at: file_properties(&live),
            live,
            preroll_ms: header.preroll_ms(),
            packets: 0,
            packet_size: header.packet_size() as u64,
            last_send_time: None,
            time_ms: 0,
            last_duration: 0,
            finished: false,
        };
        Ok((recording, path))
    }

    /// Whether packets under this header belong into this file.
    pub(super) fn is_of(&self, header: &Header) -> bool {
        self.pushed == *header.bytes()
    }

    /// Appends a packet at its full size.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn write(&mut self, packet: &[u8], send_time: u32, duration: u16) -> io::Result<()> {
        self.file.write_all(packet)?;
        self.packets += 1;
        if let Some(step) = self.last_send_time.map(|last| send_time.wrapping_sub(last))
            && step <= MAX_STEP_MS
        {
            self.time_ms += u64::from(step);
        }
        self.last_send_time = Some(send_time);
        self.last_duration = duration;
        Ok(())
    }

    /// Hands to the system what has gathered.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// Makes the file whole: its header tells how much there is.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if !self.finished {
            self.write_header(&self.whole_header())?;
            self.finished = true;
        }
        self.file.get_ref().sync_data()
    }

    /// Takes back [`Recording::finish`] where the stream goes on after all.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn go_on(&mut self) -> io::Result<()> {
        if self.finished {
            self.write_header(&self.live.clone())?;
            self.finished = false;
        }
        Ok(())
    }

    fn write_header(&mut self, header: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(header)?;
        self.file.seek(SeekFrom::End(0))?;
        Ok(())
    }

    /// The header with what is known now. Offsets are those of ASF 3.2 and 5.1.
    fn whole_header(&self) -> Vec<u8> {
        const FILE_SIZE: usize = 40;
        const PACKETS: usize = 56;
        const PLAY_DURATION: usize = 64;
        const SEND_DURATION: usize = 72;
        const FLAGS: usize = 88;
        const DATA_SIZE: usize = 16;
        const DATA_PACKETS: usize = 40;
        /// Units of 100 ns in a millisecond.
        const PER_MS: u64 = 10_000;

        let mut header = self.live.to_vec();
        let data_at = header.len().saturating_sub(DATA_HEAD);
        let data_size = DATA_HEAD as u64 + self.packets * self.packet_size;
        let send_ms = self.time_ms + u64::from(self.last_duration);
        if let Some(at) = self.properties_at {
            put(&mut header, at + FILE_SIZE, data_at as u64 + data_size);
            put(&mut header, at + PACKETS, self.packets);
            put(&mut header, at + PLAY_DURATION, (send_ms + self.preroll_ms) * PER_MS);
            put(&mut header, at + SEND_DURATION, send_ms * PER_MS);
            if let Some(flags) = header.get_mut(at + FLAGS) {
                *flags &= !1;
            }
        }
        put(&mut header, data_at + DATA_SIZE, data_size);
        put(&mut header, data_at + DATA_PACKETS, self.packets);
        header
    }
}

fn put(header: &mut [u8], at: usize, value: u64) {
    if let Some(field) = header.get_mut(at..at + 8) {
        field.copy_from_slice(&value.to_le_bytes());
    }
}

/// Where the File Properties Object begins among the children of the Header Object.
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

/// A point's name as that of a file: no more than letters, digits, `-`, `_` and `.` inside.
fn file_name(point: &str) -> String {
    let safe = |char: char| if char.is_alphanumeric() || "-_.".contains(char) { char } else { '_' };
    let name: String = point.chars().map(safe).take(64).collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() { "point".to_owned() } else { name.to_owned() }
}

fn create_free(directory: &Path, name: &str) -> io::Result<(File, PathBuf)> {
    for n in 1..=MAX_FILES {
        let path = directory.join(format!("{name}-{n}.asf"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{MAX_FILES} recordings of {name} exist")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_directory() {
        for (point, name) in [
            ("concert", "concert"),
            ("../../etc/x", "_.._etc_x"),
            ("live/eins zwei", "live_eins_zwei"),
            ("..", "point"),
        ] {
            assert_eq!(file_name(point), name);
        }
    }
}
