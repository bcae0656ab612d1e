//! TLS for clients that use https: the server's certificate, read from PEM files.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A TLS listener and its certificate.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The address; port 0 lets the system choose. A reload does not change it.
    pub listen: SocketAddr,
    /// The TLS configuration of new connections.
    pub(crate) config: Arc<ServerConfig>,
}

/// An error of the TLS settings, with the name of the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate file or the key file is invalid.
    #[error("cannot use {}: {error}. It must be a PEM file that contains {wanted}", .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What the file must contain.
        wanted: &'static str,
        /// The error.
        error: pem::Error,
    },
    /// The certificate and the key do not match, or have an unsupported type.
    #[error("cannot use the certificate {}: {error}. It must match the key, and both must have a supported type", .path.display())]
    Certificate {
        /// The certificate file.
        path: PathBuf,
        /// The error.
        error: rustls::Error,
    },
}

impl Tls {
    /// Reads the server's certificate, followed by its intermediate certificates, and its private key.
    ///
    /// # Errors
    /// If a file cannot be read, or the certificate and the key do not match.
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
        let private =
            PrivateKeyDer::from_pem_file(key).map_err(bad(key, "the private key of the server's certificate"))?;
        let unfit = |error| TlsError::Certificate { path: certificate.to_owned(), error };
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unfit)?
            .with_no_client_auth();
        let config = builder.with_single_cert(chain, private).map_err(unfit)?;
        Ok(Self { listen, config: Arc::new(config) })
    }
}
