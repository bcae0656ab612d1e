//! A GET whose response is read as it arrives, with which a relay pulls a stream.
//!
//! The connection is established as for a push: one connection per request, with the same settings for addresses,
//! proxies and TLS. It closes when the [`Download`] is dropped. Nothing is read in advance of [`Download::chunk`]
//! except what the HTTP library reads at once, so that a slow reader slows down the server.

use std::sync::Arc;

use bytes::Bytes;
use http::header::HeaderMap;
use tokio::time::Instant;
use url::Url;

use super::single_connection::{ConnectionInfo, SingleConnection};
use super::{Failed, Settings, after_preparing_tls, connect, resolve_peers};
use wmhttp::failure::Cause;
use wmhttp::proxy::Proxy;

/// A response whose head has arrived.
pub struct Download {
    response: reqwest::Response,
    by_proxy: bool,
}

/// Why no response arrived, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The cause.
    pub cause: Cause,
    /// The system's description.
    pub detail: String,
}

impl From<Failed> for Lost {
    fn from(Failed { cause, detail }: Failed) -> Self {
        Self { cause, detail }
    }
}

impl Download {
    /// Sends a GET on a new connection and waits for the head of the response. The caller must limit that time; only
    /// establishing the connection is limited to [`Settings::connect_timeout`].
    ///
    /// # Errors
    /// The connection could not be established, or was lost before the response.
    pub async fn get(
        settings: &Settings,
        url: Url,
        headers: HeaderMap,
        proxy: Option<Arc<Proxy>>,
    ) -> Result<Self, Lost> {
        let connect_by = Instant::now() + settings.connect_timeout;
        let resolving = resolve_peers(&url, proxy.as_deref(), connect_by);
        let resolving =
            if url.scheme() == "https" { after_preparing_tls(settings.tls.clone(), resolving) } else { resolving };
        let peers = resolving.await?;
        let by_proxy = proxy.is_some();
        let single = SingleConnection::new(&peers, Arc::<ConnectionInfo>::default());
        let client = connect(settings, &url, proxy.as_deref(), &peers, connect_by, single)?;
        let sent = client.get(url).headers(headers).send().await;
        let response = sent.map_err(|error| Failed::of(&error, by_proxy))?;
        Ok(Self { response, by_proxy })
    }

    /// Returns the status of the response.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Returns the headers of the response.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Returns the bytes of the body that have arrived, or `None` at its end. The future may be dropped while it waits,
    /// without losing bytes.
    ///
    /// # Errors
    /// The connection was lost before the end of the body.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Lost> {
        Ok(self.response.chunk().await.map_err(|error| Failed::of(&error, self.by_proxy))?)
    }
}
