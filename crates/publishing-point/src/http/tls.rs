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
    #[error(
        "cannot use the certificate {}: {error}. The key must be that of the certificate, and the certificate must have \
         version 3: openssl req -x509 -addext subjectAltName=DNS:name makes one",
        .path.display()
    )]
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_key_of_another_certificate_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap());
        let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.path().join(name));
        fs::write(&certificate, one.cert.pem()).unwrap();
        let read = |pair: &rcgen::KeyPair| {
            fs::write(&key, pair.serialize_pem()).unwrap();
            Tls::read(([127, 0, 0, 1], 0).into(), &certificate, &key).map_err(|error| error.to_string())
        };
        assert!(read(&one.signing_key).is_ok());
        let error = read(&two.signing_key).unwrap_err();
        assert!(error.contains(&certificate.display().to_string()), "{error}");
        assert!(error.contains("The key must be that of the certificate") && error.contains("openssl req"), "{error}");
    }
}
