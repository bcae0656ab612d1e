//! What a packet's bytes lie in.

use bytes::{Buf, Bytes};

/// Bytes of a packet: shared, or borrowed from somebody who keeps them.
pub trait PacketBytes: AsRef<[u8]> + Buf {
    /// Lets go of the bytes behind the first `len`.
    fn truncate(&mut self, len: usize);
}

/// Bytes where they were found.
#[derive(Clone, Debug)]
pub enum Borrowed<'a> {
    /// In the memory that was given to be read.
    Here(&'a [u8]),
    /// In what was kept of the memory before.
    Kept(Bytes),
}

impl AsRef<[u8]> for Borrowed<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Here(bytes) => bytes,
            Self::Kept(bytes) => bytes,
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
            Self::Here(bytes) => bytes.advance(count),
            Self::Kept(bytes) => bytes.advance(count),
        }
    }
}

impl PacketBytes for Borrowed<'_> {
    fn truncate(&mut self, len: usize) {
        match self {
            Self::Here(bytes) => *bytes = bytes.get(..len).unwrap_or(bytes),
            Self::Kept(bytes) => bytes.truncate(len),
        }
    }
}

impl PacketBytes for Bytes {
    fn truncate(&mut self, len: usize) {
        Bytes::truncate(self, len);
    }
}
