//! The recordings of a point in a folder.
//!
//! Names are `<point>-<UTC time>-<number>.asf`: they sort by creation, and files with other names are never touched.

use std::fmt::Write;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::limits::RecordLimits;

/// Precedes the two hexadecimal digits of a byte that is not safe in a file name.
const ESCAPE: &str = "_x";
/// The name of a point whose name is empty, and the separator before a digest: the escape of `-`. A `-` is never
/// escaped, so no other name contains it.
const EMPTY_NAME: &str = "_x2D";
/// Maximum bytes of a point's name in a file name. Longer names are shortened and distinguished by a digest. File
/// systems allow 255 bytes, from which the time, number and extension are taken.
const MAX_NAME_BYTES: usize = 120;
/// Bytes that remain of a name that is shortened.
const SHORTENED_NAME_BYTES: usize = 80;
/// Digits after the time.
const NUMBER_DIGITS: usize = 4;
/// Length of `20261125T001500Z`.
const TIMESTAMP_LEN: usize = 16;

/// The files of one point in a folder.
pub(crate) struct Folder {
    path: PathBuf,
    /// The beginning of their names.
    stem: String,
}

/// The time at which a file was created, as in its name, and its number among the files of that second.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RecordingKey {
    /// Sorts as text in the order of time.
    timestamp: String,
    number: u32,
}

impl Folder {
    /// Returns the files of the point `point` in this folder.
    pub(crate) fn new(path: &Path, point: &str) -> Self {
        Self { path: path.to_owned(), stem: format!("{}-", file_name(point)) }
    }

    /// Returns the path of the folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the next file; never overwrites an existing one.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(crate) fn create(&self) -> io::Result<(File, PathBuf)> {
        let newest = self.files()?.into_iter().map(|(key, _)| key).max();
        let now = timestamp(SystemTime::now());
        // Continue after the latest file, so that setting the clock back does not change the order.
        let mut key = match newest {
            Some(newest) if newest.timestamp >= now => RecordingKey { number: newest.number + 1, ..newest },
            _ => RecordingKey { timestamp: now, number: 1 },
        };
        while key.number < 10_u32.pow(NUMBER_DIGITS as u32) {
            let path = self.path.join(self.name(&key));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((file, path)),
                // Another process has created this file.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => key.number += 1,
                Err(error) => return Err(error),
            }
        }
        let name = self.name(&key);
        let text = format!(
            "all file names after {name} are in use: move recordings whose time is in the future to another directory"
        );
        Err(io::Error::new(io::ErrorKind::AlreadyExists, text))
    }

    /// Deletes the oldest files until another file fits within the limits; returns the deleted files.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(crate) fn make_room(&self, limits: &RecordLimits) -> io::Result<Vec<PathBuf>> {
        if limits.keep.is_none() && limits.max_total.is_none() {
            return Ok(Vec::new());
        }
        let mut files = self.files()?;
        files.sort();
        let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let mut total: u64 = files.iter().map(|(_, path)| size(path)).sum();
        let mut count = files.len();
        // What the existing files may have, so that the new one fits in as well.
        let max_bytes_before = limits
            .max_total
            .map_or(u64::MAX, |total| total.as_u64().saturating_sub(limits.max_size.map_or(0, |size| size.as_u64())));
        let max_count_before = limits.keep.map_or(usize::MAX, |keep| keep.saturating_sub(1));
        let mut deleted = Vec::new();
        for (_, path) in files {
            if count <= max_count_before && total <= max_bytes_before {
                break;
            }
            total -= size(&path);
            count -= 1;
            fs::remove_file(&path)?;
            deleted.push(path);
        }
        Ok(deleted)
    }

    /// Returns the existing files of the point.
    fn files(&self) -> io::Result<Vec<(RecordingKey, PathBuf)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let key = entry.file_name().to_str().and_then(|name| self.key(name));
            // Skip symbolic links: their targets do not belong to the point.
            if let Some(key) = key.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_file())) {
                files.push((key, entry.path()));
            }
        }
        Ok(files)
    }

    /// Formats a file name.
    fn name(&self, key: &RecordingKey) -> String {
        format!("{}{}-{:0NUMBER_DIGITS$}.asf", self.stem, key.timestamp, key.number)
    }

    /// Parses a file name; `None` if it is not a name of this point's recordings.
    fn key(&self, name: &str) -> Option<RecordingKey> {
        let (timestamp, number) = name.strip_prefix(&self.stem)?.strip_suffix(".asf")?.split_once('-')?;
        let is_timestamp =
            timestamp.len() == TIMESTAMP_LEN && timestamp.starts_with(|first: char| first.is_ascii_digit());
        let is_number = number.len() == NUMBER_DIGITS && number.bytes().all(|digit| digit.is_ascii_digit());
        let key = RecordingKey { timestamp: timestamp.to_owned(), number: number.parse().ok()? };
        (is_timestamp && is_number && self.name(&key) == name).then_some(key)
    }
}

/// Formats a time as UTC seconds, as in `20261125T001500Z`.
fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string().replace(['-', ':'], "")
}

/// Encodes a point's name for a file name: ASCII letters and digits, `-`, `_` and `.`, which is never the first
/// character. The result cannot leave the folder, and different points have different results.
fn file_name(point: &str) -> String {
    let mut name = String::with_capacity(point.len());
    for (at, byte) in point.bytes().enumerate() {
        let is_safe = match byte {
            // A leading dot would mean a hidden file, the folder itself or its parent.
            b'.' => at > 0,
            // An underscore that looks like the start of an escape is escaped.
            b'_' => !begins_with_escape(point.as_bytes().get(at..).unwrap_or_default()),
            b'-' => true,
            _ => byte.is_ascii_alphanumeric(),
        };
        if is_safe {
            name.push(char::from(byte));
        } else {
            // Writing into a string never fails.
            let _ = write!(name, "{ESCAPE}{byte:02X}");
        }
    }
    if name.is_empty() {
        return EMPTY_NAME.to_owned();
    }
    if name.len() <= MAX_NAME_BYTES {
        return name;
    }
    let digest: String = Sha256::digest(point).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let cut: String = name.chars().take(SHORTENED_NAME_BYTES).collect();
    format!("{cut}{EMPTY_NAME}{digest}")
}

/// Returns whether the text begins with an escaped byte.
fn begins_with_escape(text: &[u8]) -> bool {
    let digits = text.strip_prefix(ESCAPE.as_bytes()).and_then(|rest| rest.first_chunk::<2>());
    digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytesize::ByteSize;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_stay_readable_if_possible() {
        for (point, name) in [
            ("concert", "concert"),
            ("Hall 2", "Hall_x202"),
            ("live/eins", "live_x2Feins"),
            ("live_eins", "live_eins"),
            ("cam_01-a.b", "cam_01-a.b"),
            ("a_x20", "a_x5Fx20"),
            ("a_xbc", "a_x5Fxbc"),
            ("a_xyz", "a_xyz"),
            ("größe", "gr_xC3_xB6_xC3_x9Fe"),
            ("a+b@c=d", "a_x2Bb_x40c_x3Dd"),
            ("../../etc/x", "_x2E._x2F.._x2Fetc_x2Fx"),
            ("..", "_x2E."),
            ("", "_x2D"),
        ] {
            assert_eq!(file_name(point), name);
        }
        let long = "a/".repeat(3000);
        assert!(file_name(&long).len() < 120);
        assert_ne!(file_name(&long), file_name(&(long.clone() + "b")));
    }

    proptest! {
        /// For any name of a point, its files are in the folder and do not belong to another point.
        #[test]
        fn hostile_names_stay_in_the_folder(
            point in ".{0,300}|[_x2D./]{0,9}",
            other in ".{0,300}|[_x2D./]{0,9}",
        ) {
            let directory = tempfile::tempdir().unwrap();
            let folder = Folder::new(directory.path(), &point);
            let (_, path) = folder.create().unwrap();
            prop_assert_eq!(path.parent(), Some(directory.path()));
            // docs/threats.md states these properties.
            let name = path.file_name().and_then(|name| name.to_str()).unwrap();
            let is_safe = |char: char| char.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&char);
            prop_assert!(name.chars().all(is_safe) && !name.starts_with('.') && name.len() < 200, "{name}");
            prop_assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
            prop_assert_eq!(folder.files().unwrap().len(), 1);
            let theirs = Folder::new(directory.path(), &other).files().unwrap().len();
            prop_assert_eq!(theirs, usize::from(point == other));
        }
    }

    #[test]
    fn known_hostile_names_stay_in_the_folder() {
        let names = [
            "../outside",
            "/etc/passwd",
            "..\\outside",
            "a\0b",
            "a\nb",
            ".",
            "..",
            ".hidden",
            "con",
            "a:b",
            "a%2Fb",
            "a/b",
            "~",
            "-rf",
            "%2E.",
            "a-20261125T001500Z-0001.asf",
            "\u{202e}gpj",
            "a~b",
            "a_x2Fb",
            "a_x2D",
            "_x2D",
            "",
        ];
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("recordings");
        fs::create_dir(&inside).unwrap();
        for name in names {
            let folder = Folder::new(&inside, name);
            folder.create().unwrap();
            assert_eq!(folder.files().unwrap().len(), 1, "{name:?}");
        }
        assert_eq!(fs::read_dir(&inside).unwrap().count(), names.len());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn names_sort_as_the_files_began() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::new(directory.path(), "concert");
        let made: Vec<PathBuf> = (0..30).map(|_| folder.create().unwrap().1).collect();
        assert!(made.is_sorted());
        assert_eq!(made.iter().collect::<BTreeSet<_>>().len(), 30);
        // The clock is set back.
        fs::write(directory.path().join("concert-29991231T235959Z-0007.asf"), "").unwrap();
        let (_, path) = folder.create().unwrap();
        assert_eq!(path, directory.path().join("concert-29991231T235959Z-0008.asf"));
        fs::write(directory.path().join("concert-29991231T235959Z-9999.asf"), "").unwrap();
        let error = folder.create().unwrap_err().to_string();
        assert!(error.contains("in the future"), "{error}");
    }

    #[test]
    fn only_the_oldest_files_of_the_point_are_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let others = [
            "concert-hall-20200101T000000Z-0001.asf",
            "concert-1.asf",
            "concert-20200101T000000Z-001.asf",
            "notes.txt",
            "concert-20200101T000000Z-0001.asf.bak",
        ];
        for name in others {
            fs::write(directory.path().join(name), [0; 100]).unwrap();
        }
        let folder = Folder::new(directory.path(), "concert");
        let made: Vec<PathBuf> = (0..6).map(|_| folder.create().unwrap().1).collect();
        for path in &made {
            fs::write(path, [0; 100]).unwrap();
        }
        let link = directory.path().join("concert-20190101T000000Z-0001.asf");
        std::os::unix::fs::symlink(directory.path().join("notes.txt"), &link).unwrap();
        let none = RecordLimits::default();
        assert_eq!(folder.make_room(&none).unwrap(), Vec::<PathBuf>::new());
        let keep = RecordLimits { keep: Some(5), ..none };
        assert_eq!(folder.make_room(&keep).unwrap(), made[..2]);
        let total = RecordLimits { max_total: Some(ByteSize(350)), max_size: Some(ByteSize(100)), ..none };
        assert_eq!(folder.make_room(&total).unwrap(), made[2..4]);
        let left = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, others.len() + 1 + 2);
    }
}
