//! Splits a body that arrives in chunks of any size into frames.
//!
//! A frame within one chunk is a slice of it; only a frame that spans chunks is copied. The buffer never holds more
//! than one frame and one chunk.

use bytes::{BufMut, Bytes, BytesMut};

/// The received bytes that are not yet split into frames.
#[derive(Debug, Default)]
pub(crate) struct FrameBuffer {
    /// The start of a frame whose end has not arrived yet.
    partial: BytesMut,
    chunk: Bytes,
}

impl FrameBuffer {
    /// Adds the next bytes of the body.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            let mut joined = BytesMut::with_capacity(self.chunk.len() + chunk.len());
            joined.put_slice(&self.chunk);
            joined.put_slice(&chunk);
            self.chunk = joined.freeze();
        }
    }

    /// Returns the next whole frame, or `None` if more bytes are needed. `peek` returns the total length of the frame
    /// that starts with the bytes it receives, for which `head` bytes are enough. It returns `None` if there are fewer
    /// bytes and they are valid so far.
    ///
    /// # Errors
    /// The errors of `peek`.
    pub(crate) fn next_frame<E>(
        &mut self,
        head: usize,
        peek: impl Fn(&[u8]) -> Result<Option<usize>, E>,
    ) -> Result<Option<Bytes>, E> {
        // The usual case: the whole frame is in one chunk, and no byte is copied.
        if self.partial.is_empty() {
            match peek(&self.chunk)? {
                Some(total) if self.chunk.len() >= total => return Ok(Some(self.chunk.split_to(total))),
                Some(_) | None => {}
            }
        }
        // Only the start of the frame is copied first, because its length is not known before.
        self.fill_to(head);
        let Some(total) = peek(&self.partial)? else { return Ok(None) };
        self.fill_to(total);
        if self.partial.len() < total {
            return Ok(None);
        }
        Ok(Some(self.partial.split_to(total).freeze()))
    }

    /// Whether the bytes received so far end with a frame.
    pub(crate) fn is_aligned(&self) -> bool {
        self.partial.is_empty() && self.chunk.is_empty()
    }

    /// Moves bytes from the chunk to the partial frame, until that has `total` bytes or the chunk is empty.
    fn fill_to(&mut self, total: usize) {
        let missing = total.saturating_sub(self.partial.len()).min(self.chunk.len());
        self.partial.put_slice(&self.chunk.split_to(missing));
    }
}
