//! Cuts frames out of a body that arrives in chunks of any size.
//!
//! A frame that lies in one chunk is a slice of it; only one that straddles chunks is copied. What is held never
//! exceeds one frame and one chunk.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of a body that are not cut into frames yet.
#[derive(Debug, Default)]
pub(crate) struct FrameBuffer {
    /// The beginning of a frame whose end has not arrived yet.
    partial: BytesMut,
    chunk: Bytes,
}

impl FrameBuffer {
    /// Takes the next bytes of the body.
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

    /// The next whole frame; `None` needs more bytes. `peek` reads the whole length of the frame that begins with
    /// the bytes it is given, of which `head` are enough for it; it gives `None` where they are fewer and still right.
    ///
    /// # Errors
    /// Those of `peek`.
    pub(crate) fn next_frame<E>(
        &mut self,
        head: usize,
        peek: impl Fn(&[u8]) -> Result<Option<usize>, E>,
    ) -> Result<Option<Bytes>, E> {
        if self.partial.is_empty() {
            match peek(&self.chunk)? {
                Some(total) if self.chunk.len() >= total => return Ok(Some(self.chunk.split_to(total))),
                Some(_) | None => {}
            }
        }
        self.fill_to(head);
        let Some(total) = peek(&self.partial)? else { return Ok(None) };
        self.fill_to(total);
        if self.partial.len() < total {
            return Ok(None);
        }
        Ok(Some(self.partial.split_to(total).freeze()))
    }

    /// Whether the bytes so peer at a frame's end.
    pub(crate) fn is_aligned(&self) -> bool {
        self.partial.is_empty() && self.chunk.is_empty()
    }

    fn fill_to(&mut self, total: usize) {
        let missing = total.saturating_sub(self.partial.len()).min(self.chunk.len());
        self.partial.put_slice(&self.chunk.split_to(missing));
    }
}
