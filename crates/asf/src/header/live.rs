//! The header of a live stream.

use bytes::Bytes;

use super::objects::Objects;
use super::{FileProperties, HEADER_HEAD, Header};
use crate::guid;

impl Header {
    /// Returns this header as that of a live stream: Broadcast is set, Seekable is clear, packet counts, file size and
    /// durations are 0, the Data Object's size is 50, and the File ID does not end in 0.
    ///
    /// Players of a live stream do not need these values, and some servers find the end of the header with a search
    /// that other values mislead. The operation is idempotent.
    #[must_use]
    pub fn to_live(&self) -> Header {
        let (object, data) = self.split();
        let data_at = object.len();
        let mut bytes = self.bytes.to_vec();
        let children = object.get(HEADER_HEAD..).unwrap_or_default();
        for child in Objects::new(children, HEADER_HEAD).map_while(Result::ok) {
            if child.guid == guid::FILE_PROPERTIES && child.bytes.len() >= FileProperties::LEN {
                let fields = bytes.get_mut(child.offset..).unwrap_or_default();
                live_file_properties(fields, child.from(88).u32().unwrap_or(0));
            }
        }
        debug_assert_eq!(data.len(), super::DATA_HEAD);
        live_data_object(bytes.get_mut(data_at..).unwrap_or_default());

        let mut live = self.clone();
        live.bytes = Bytes::from(bytes);
        live.file.flags = live_flags(self.file.flags);
        live.data_size = LIVE_DATA_SIZE;
        live
    }
}

/// Data Object Size of a live stream: the object without packets.
const LIVE_DATA_SIZE: u64 = super::DATA_HEAD as u64;

/// Returns the flags of a live stream.
fn live_flags(flags: u32) -> u32 {
    (flags | FileProperties::BROADCAST) & !FileProperties::SEEKABLE
}

/// Changes the File Properties to those of a live stream. Offsets are those of ASF 3.2.
fn live_file_properties(object: &mut [u8], flags: u32) {
    make_file_id_end_in_one(object);
    const FILE_SIZE: usize = 40;
    const PACKETS: usize = 56;
    const PLAY_DURATION: usize = 64;
    const SEND_DURATION: usize = 72;
    for at in [FILE_SIZE, PACKETS, PLAY_DURATION, SEND_DURATION] {
        put(object, at, &0_u64.to_le_bytes());
    }
    put(object, 88, &live_flags(flags).to_le_bytes());
}

/// Changes the Data Object to that of a live stream. Offsets are those of ASF 5.1.
fn live_data_object(object: &mut [u8]) {
    put(object, 16, &LIVE_DATA_SIZE.to_le_bytes());
    make_file_id_end_in_one(object);
    put(object, 40, &0_u64.to_le_bytes());
}

/// Makes the File ID end in 1 if it ends in 0. It has the same offset in both objects.
fn make_file_id_end_in_one(object: &mut [u8]) {
    if let Some(last @ 0) = object.get_mut(39) {
        *last = 1;
    }
}

/// Writes a field; does nothing if it does not fit.
fn put(object: &mut [u8], at: usize, field: &[u8]) {
    if let Some(target) = object.get_mut(at..at + field.len()) {
        target.copy_from_slice(field);
    }
}
