//! TLS for those who come by https: the server's certificate, read from PEM files.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// An address where TLS is spoken, and as whom.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The address; port 0 lets the system choose. A reload does not change it.
    pub listen: SocketAddr,
    /// For connections that come from now on.
    pub(crate) config: Arc<ServerConfig>,
}

/// Why there can be no TLS: names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of certificates, or that of the key, is none.
    #[error("{}: {error}: a PEM file with {wanted} is needed", .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        wanted: &'static str,
        /// What is wrong.
        error: pem::Error,
    },
    /// The certificate and the key do not go together, or are of an unknown kind.
    #[error("{}: {error}: it must belong to the key, and both be of a kind in use", .path.display())]
    Certificate {
        /// The file of certificates.
        path: PathBuf,
        /// What is wrong.
        error: rustls::Error,
    },
}

impl Tls {
    /// Reads the server's certificate, with those that lead from it to the authority behind it, and its key.
    ///
    /// # Errors
    /// Where a file cannot be read, or the two do not go together.
    pub fn read(listen: SocketAddr, certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        const CERTIFICATES: &str = "the server's certificate";
        let bad = |path: &Path, wanted| {
            let path = path.to_owned();
            move |error| TlsError::Pem { path, wanted, error }
        };
        let read = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let chain = read.map_err(bad(certificate, CERTIFICATES))?;
        if chain.is_empty() {
            return Err(bad(certificate, CERTIFICATES)(pem::Error::NoItemsFound));
        }
        let private = PrivateKeyDer::from_pem_file(key).map_err(bad(key, "its private key"))?;
        let unfit = |error| TlsError::Certificate { path: certificate.to_owned(), error };
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unfit)?
            .with_no_client_auth();
        let config = builder.with_single_cert(chain, private).map_err(unfit)?;
        Ok(Self { listen, config: Arc::new(config) })
    }
}
