//! Recordings: the recorder thread, the files it writes, and the folder it keeps.

pub(crate) mod file;
pub(crate) mod folder;
pub(crate) mod limits;
pub(crate) mod recorder;
