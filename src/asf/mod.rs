//! ASF: bytes in, units out.
