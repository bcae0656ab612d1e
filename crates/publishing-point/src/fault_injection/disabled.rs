//! Replaces fault injection in a server that is built without the cargo feature `fault-injection`: there are no faults,
//! and settings with faults are rejected.

use std::convert::Infallible;
use std::str::FromStr;

/// A fault, which cannot exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(Infallible);

/// The faults of a point: always none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(());

/// Faults cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this server is built without fault injection. Build it with the cargo feature `fault-injection`")]
pub struct FaultError;

impl Faults {
    /// Returns no faults.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        std::iter::empty()
    }
}

impl FromIterator<Fault> for Faults {
    fn from_iter<I: IntoIterator<Item = Fault>>(_: I) -> Self {
        Self(())
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(_: &str) -> Result<Self, FaultError> {
        Err(FaultError)
    }
}

impl FromStr for Faults {
    type Err = FaultError;

    fn from_str(_: &str) -> Result<Self, FaultError> {
        Err(FaultError)
    }
}

pub(crate) mod body_faults {
    use std::convert::Infallible;
    use std::future::pending;

    use bytes::Bytes;
    use tokio::sync::mpsc;

    use crate::points::push_session::BodyChunk;

    /// The faults in the body of a PushStart: none.
    pub(crate) struct BodyFaults(Infallible);

    impl BodyFaults {
        #[allow(clippy::unused_async, reason = "same signature as the enabled version")]
        pub(crate) async fn forward_chunk(&mut self, _: Bytes, _: &mpsc::Sender<BodyChunk>) -> bool {
            match self.0 {}
        }

        /// Never returns.
        pub(crate) async fn apply(_: &mut Option<Self>, _: &mpsc::Sender<BodyChunk>) -> bool {
            pending().await
        }
    }
}

pub(crate) mod request_faults {
    use std::convert::Infallible;
    use std::sync::Arc;

    use http::Request;
    use hyper::body::Incoming;

    use super::Faults;
    use super::body_faults::BodyFaults;
    use crate::http::connection::{Closed, Connection};
    use crate::http::handled::{Answer, Handled};
    use crate::points::push_session::PublishSession;
    use wmhttp::headers::PushId;
    use wmhttp::server::{Policy, Reply};

    /// The faults that are due on a request: none.
    pub(crate) struct ActiveFaults(Infallible);

    #[allow(clippy::unused_async, reason = "same signatures as the enabled versions")]
    impl ActiveFaults {
        pub(crate) fn on(_: &Faults, _: &str, _: &Arc<Connection>, _: &Request<Incoming>) -> Option<Self> {
            None
        }

        pub(crate) async fn replacement_reply(&self, _: &Policy) -> Result<Option<Reply>, Closed> {
            match self.0 {}
        }

        pub(crate) fn is_session_alias(&self, _: &PushId) -> bool {
            match self.0 {}
        }

        pub(crate) fn body_faults(&self, _: &PublishSession) -> Option<BodyFaults> {
            match self.0 {}
        }

        pub(crate) async fn reply_at_end(&self, _: &Handled, _: &Policy) -> Result<Option<Reply>, Closed> {
            match self.0 {}
        }

        pub(crate) async fn apply_to_response(&self, _: &mut Answer) {
            match self.0 {}
        }
    }
}

pub(crate) mod write_faults {
    use std::sync::Arc;

    use crate::http::io::MaybeTlsStream;

    /// The faults in the responses of a connection: none.
    #[derive(Default)]
    pub(crate) struct WriteFaults;

    /// Wraps nothing.
    pub(crate) struct FaultyStream;

    impl FaultyStream {
        /// Returns the stream unchanged.
        #[allow(clippy::new_ret_no_self, reason = "the stream needs no wrapper")]
        pub(crate) fn new(stream: MaybeTlsStream, _: Arc<WriteFaults>) -> MaybeTlsStream {
            stream
        }
    }
}
