//! A GET whose answer is read as it arrives: how a relay fetches a stream.
//!
//! The connection is made as those of a push are: one for the request, by the same settings of addresses, proxies and
//! TLS. It closes when the [`Download`] is dropped. Nothing is read ahead of [`Download::chunk`] but what the HTTP
//! library reads at one time, so that a reader that is busy holds the server back.

use std::sync::Arc;

use bytes::Bytes;
use http::header::HeaderMap;
use tokio::time::Instant;
use url::Url;

use super::single_connection::{ConnectionInfo, SingleConnection};
use super::{Failed, Settings, connect, peers, prepared};
use wmhttp::failure::Cause;
use wmhttp::proxy::Proxy;

/// An answer whose head is there.
pub struct Download {
    response: reqwest::Response,
    by_proxy: bool,
}

/// Why there is no answer, or no more of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// How.
    pub cause: Cause,
    /// What the system said.
    pub detail: String,
}

impl From<Failed> for Lost {
    fn from(Failed { cause, detail }: Failed) -> Self {
        Self { cause, detail }
    }
}

impl Download {
    /// Sends a GET on a new connection, and waits for the answer's head. How long that may take is the caller's
    /// matter; the connection alone takes up to [`Settings::connect_timeout`].
    ///
    /// # Errors
    /// Where there is no connection, or no answer on it.
    pub async fn get(
        settings: &Settings,
        url: Url,
        headers: HeaderMap,
        proxy: Option<Arc<Proxy>>,
    ) -> Result<Self, Lost> {
        let connect_by = Instant::now() + settings.connect_timeout;
        let resolving = peers(&url, proxy.as_deref(), connect_by);
        let resolving = if url.scheme() == "https" { prepared(settings.tls.clone(), resolving) } else { resolving };
        let peers = resolving.await?;
        let by_proxy = proxy.is_some();
        let once = SingleConnection::new(&peers, Arc::<ConnectionInfo>::default());
        let client = connect(settings, &url, proxy.as_deref(), &peers, connect_by, once)?;
        let sent = client.get(url).headers(headers).send().await;
        let response = sent.map_err(|error| Failed::of(&error, by_proxy))?;
        Ok(Self { response, by_proxy })
    }

    /// The answer's status.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The answer's headers.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The next bytes of the body, as many as have arrived; `None` at its end. May be dropped while it waits: nothing
    /// is lost then.
    ///
    /// # Errors
    /// Where the connection breaks before the body's end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Lost> {
        Ok(self.response.chunk().await.map_err(|error| Failed::of(&error, self.by_proxy))?)
    }
}
