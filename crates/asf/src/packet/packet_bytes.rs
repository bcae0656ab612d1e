//! Storage for the bytes of a packet.

use bytes::{Buf, Bytes};

/// Bytes of a packet, shared or borrowed.
pub trait PacketBytes: AsRef<[u8]> + Buf {
    /// Keeps only the first `len` bytes.
    fn truncate(&mut self, len: usize);

    /// Stores bytes that were copied, because they differ from the received ones.
    fn owned(bytes: Bytes) -> Self;
}

/// Bytes that are borrowed from the caller's buffer if possible.
#[derive(Clone, Debug)]
pub enum Borrowed<'a> {
    /// In the caller's buffer.
    Slice(&'a [u8]),
    /// Kept from earlier buffers, or changed.
    Owned(Bytes),
}

impl AsRef<[u8]> for Borrowed<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Slice(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl Buf for Borrowed<'_> {
    fn remaining(&self) -> usize {
        self.as_ref().len()
    }

    fn chunk(&self) -> &[u8] {
        self.as_ref()
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Slice(bytes) => bytes.advance(count),
            Self::Owned(bytes) => bytes.advance(count),
        }
    }
}

impl PacketBytes for Borrowed<'_> {
    fn truncate(&mut self, len: usize) {
        match self {
            Self::Slice(bytes) => *bytes = bytes.get(..len).unwrap_or(bytes),
            Self::Owned(bytes) => bytes.truncate(len),
        }
    }

    fn owned(bytes: Bytes) -> Self {
        Self::Owned(bytes)
    }
}

impl PacketBytes for Bytes {
    fn truncate(&mut self, len: usize) {
        Bytes::truncate(self, len);
    }

    fn owned(bytes: Bytes) -> Self {
        bytes
    }
}
