//! Parts of the paths in the API's URLs.

/// Precedes the name of a publishing point.
pub(super) const POINTS: &str = "/api/v1/points/";
/// Stands between the name of a publishing point and that of a file it has recorded.
pub(super) const RECORDINGS: &str = "/recordings/";
