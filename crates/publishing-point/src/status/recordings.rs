//! Downloads of recordings, for clients that may play their point.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use http::header::{self, HeaderValue};
use http::{Method, Response, StatusCode};
use tokio::fs::File;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::paths::RECORDINGS;
use super::response::{refusal, response};
use crate::http::body::{Body, BodyStream};
use crate::http::buf_list::BufList;
use crate::points::publishing_point::PublishingPoint;

/// Maximum simultaneous downloads: each keeps a file open, and the recorder has priority on the disk.
const MAX_DOWNLOADS: usize = 16;
/// Bytes that are read from a file at a time.
const READ_BYTES: usize = 64 * 1024;
/// The content type of a recording, the same as of a stream without framing.
const CONTENT_TYPE: &str = "video/x-ms-asf";

/// Downloads of recordings, up to [`MAX_DOWNLOADS`] at the same time.
pub(super) struct Downloads(Arc<Semaphore>);

impl Default for Downloads {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_DOWNLOADS)))
    }
}

/// Splits the rest of a recording's path into the names of a point and a file.
pub(super) fn names(path: &str) -> Option<(&str, &str)> {
    path.rsplit_once(RECORDINGS).filter(|(_, file)| !file.contains('/'))
}

impl Downloads {
    /// Returns the file of this name as far as it is written. For any name, only files of the point's recorder are
    /// returned.
    pub(super) async fn answer(&self, point: &PublishingPoint, name: &str, method: &Method) -> Response<Body> {
        let unknown = || {
            refusal(
                StatusCode::NOT_FOUND,
                "no such recording; only recordings that the server has made since its start can be downloaded",
            )
        };
        let files = point.stats().recordings;
        let Some(path) = files.iter().find(|path| path.file_name().is_some_and(|file| file == name)) else {
            return unknown();
        };
        let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() else {
            let mut response = refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many downloads of recordings are in progress; try again later",
            );
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("30"));
            return response;
        };
        let (file, len) = match open(path).await {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return unknown(),
            Err(error) => {
                tracing::warn!(point = point.name(), file = name, %error, "cannot open a recording for a download");
                return refusal(StatusCode::INTERNAL_SERVER_ERROR, "the recording cannot be read");
            }
        };
        let mut response = response(StatusCode::OK, CONTENT_TYPE, "");
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
            headers.insert(header::CONTENT_DISPOSITION, value);
        }
        if method != Method::HEAD {
            *response.body_mut() = Body::Stream(Box::new(FileBody { file, remaining: len, _permit: permit }));
        }
        response
    }
}

/// Opens a file for reading; returns it with its length.
///
/// # Errors
/// The error of the system, or an error if the path is not a regular file.
async fn open(path: &Path) -> io::Result<(File, u64)> {
    // A symbolic link must not make the server read another file.
    let mut options = tokio::fs::OpenOptions::new();
    let file = options.read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path).await?;
    let metadata = file.metadata().await?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok((file, metadata.len()))
}

/// A file as the body of a response. If it cannot be read or was truncated, the body ends before its Content-Length,
/// which the client detects.
struct FileBody {
    file: File,
    /// Bytes that are still to be sent. The file may grow meanwhile, but the Content-Length is fixed.
    remaining: u64,
    _permit: OwnedSemaphorePermit,
}

impl BodyStream for FileBody {
    fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<BufList>> {
        let len = usize::try_from(self.remaining).unwrap_or(READ_BYTES).min(READ_BYTES);
        if len == 0 {
            return Poll::Ready(None);
        }
        let mut bytes = BytesMut::zeroed(len);
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(&mut self.file).poll_read(context, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => {
                tracing::warn!(%error, "download of a recording failed: cannot read the file to its end");
                Poll::Ready(None)
            }
            Poll::Ready(Ok(())) => {
                let read = buffer.filled().len();
                bytes.truncate(read);
                self.remaining -= read as u64;
                Poll::Ready((read > 0).then(|| bytes.freeze().into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_recordings() {
        assert_eq!(names("concert/recordings/a.asf"), Some(("concert", "a.asf")));
        assert_eq!(names("live/recordings/x/recordings/a.asf"), Some(("live/recordings/x", "a.asf")));
        for path in ["concert", "concert/recordings", "concert/recordings/a/b"] {
            assert_eq!(names(path), None, "{path}");
        }
    }
}
