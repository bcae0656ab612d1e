//! TLS for https: which servers are trusted, and the client's certificate.
//!
//! The system's trust store is read again at each start, and the user can add certificates. Without the crate's feature
//! `tls` the options exist but have no effect.

#[cfg(feature = "tls")]
mod listed_certificates;

use std::fmt;
use std::sync::Arc;

#[cfg(feature = "tls")]
pub(super) use listed_certificates::describe;

/// Whether https URLs are supported.
pub const AVAILABLE: bool = cfg!(feature = "tls");

/// The user's TLS options. Files are in PEM format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Certificates to trust in addition to the system's trust store.
    pub ca_file: Option<String>,
    /// Whether server certificates are verified.
    pub validate: bool,
    /// The client's certificate and its chain up to the authority.
    pub certificate_file: Option<String>,
    /// The client's private key; if absent, it is read from `certificate_file`.
    pub private_key_file: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { ca_file: None, validate: true, certificate_file: None, private_key_file: None }
    }
}

/// The options, and what was read from their files on first use; clones share it.
#[derive(Clone, Default)]
pub struct Tls(Arc<Shared>);

#[derive(Default)]
struct Shared {
    options: Options,
    #[cfg(feature = "tls")]
    built: once_cell::sync::OnceCell<rustls::ClientConfig>,
}

/// Why the TLS options cannot be used: a sentence that names the file and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsOptionsError(String);

impl Tls {
    /// Creates the options without reading files.
    pub fn new(options: Options) -> Self {
        Self(Arc::new(Shared {
            options,
            #[cfg(feature = "tls")]
            built: once_cell::sync::OnceCell::new(),
        }))
    }

    /// Returns the options.
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// Returns the same options without what was read, because files may have changed.
    #[must_use]
    pub fn reloaded(&self) -> Self {
        Self::new(self.0.options.clone())
    }

    /// Returns whether the options contain files, which may be invalid.
    pub fn has_files(&self) -> bool {
        let Options { ca_file, certificate_file, private_key_file, .. } = &self.0.options;
        [ca_file, certificate_file, private_key_file].into_iter().any(Option::is_some)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.options.fmt(f)
    }
}

#[cfg(not(feature = "tls"))]
impl Tls {
    /// Does nothing.
    ///
    /// # Errors
    /// None.
    pub fn prepare(&self) -> Result<(), TlsOptionsError> {
        Ok(())
    }

    pub(super) fn apply(&self, builder: reqwest::ClientBuilder, _https: bool) -> reqwest::ClientBuilder {
        builder
    }
}

#[cfg(feature = "tls")]
mod with_rustls {
    use std::fs;
    use std::sync::{Arc, LazyLock};

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
    use rustls::pki_types::pem::{self, PemObject};
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
    use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
    use rustls_platform_verifier::Verifier;

    use super::listed_certificates::ListedCertificates;
    use super::{Options, Tls, TlsOptionsError};

    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(ring::default_provider()));

    impl Tls {
        /// Reads the files of the options, if that has not happened yet.
        ///
        /// # Errors
        /// The file that cannot be used, and why.
        pub fn prepare(&self) -> Result<(), TlsOptionsError> {
            self.config().map(drop)
        }

        fn config(&self) -> Result<&ClientConfig, TlsOptionsError> {
            // A failure is not cached: the file may be corrected, or a descriptor available, by the next connection.
            self.0.built.get_or_try_init(|| build(&self.0.options))
        }

        /// Configures TLS for a connection's client. For plain HTTP it uses an empty configuration, because the library
        /// would otherwise read the system's trust store for each connection.
        pub(in crate::transport) fn apply(
            &self,
            builder: reqwest::ClientBuilder,
            https: bool,
        ) -> reqwest::ClientBuilder {
            let config = if https { self.config().ok().cloned() } else { None };
            match config.or_else(|| EMPTY_TLS_CONFIG.clone()) {
                Some(config) => builder.tls_backend_preconfigured(config),
                None => builder,
            }
        }
    }

    /// The configuration of connections without TLS, which trusts no server. It is created only once because it
    /// allocates a session cache.
    static EMPTY_TLS_CONFIG: LazyLock<Option<ClientConfig>> = LazyLock::new(|| {
        let config = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER)).with_safe_default_protocol_versions();
        Some(config.ok()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
    });

    /// Reads the files of the options and creates the library's configuration.
    fn build(options: &Options) -> Result<ClientConfig, TlsOptionsError> {
        let Options { ca_file, validate, certificate_file, private_key_file } = options;
        let verifier: Arc<dyn ServerCertVerifier> = match (validate, ca_file) {
            (false, _) => Arc::new(NoVerification),
            (true, None) => Arc::new(Verifier::new(Arc::clone(&PROVIDER)).map_err(|error| {
                TlsOptionsError(format!(
                    "cannot read the system's trusted certificates ({error}); install ca-certificates, or set tls-ca-file"
                ))
            })?),
            (true, Some(file)) => {
                let listed = certificates("tls-ca-file", file)?;
                let verifier = Verifier::new_with_extra_roots(listed.clone(), Arc::clone(&PROVIDER));
                let inner = Arc::new(verifier.map_err(|error| {
                    TlsOptionsError(format!(
                        "tls-ca-file {file} contains an unusable certificate ({error}); replace that certificate, or set tls-ca-file to another file"
                    ))
                })?);
                Arc::new(ListedCertificates { inner, listed })
            }
        };
        let config = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_safe_default_protocol_versions()
            .map_err(|error| {
                TlsOptionsError(format!("internal error: cannot set up TLS ({error}); rebuild the plugin"))
            })?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        match (certificate_file, private_key_file) {
            (None, None) => Ok(config.with_no_client_auth()),
            (None, Some(_)) => Err(TlsOptionsError(
                "tls-private-key-file is set without a certificate; set tls-certificate-file too".to_owned(),
            )),
            (Some(file), key_file) => {
                let own = certificates("tls-certificate-file", file)?;
                let key = match key_file {
                    Some(key_file) => private_key("tls-private-key-file", key_file)?,
                    None => private_key("tls-certificate-file", file)?,
                };
                config.with_client_auth_cert(own, key).map_err(|error| {
                    TlsOptionsError(format!(
                        "tls-certificate-file {file} and its private key cannot be used ({error}); set a certificate and key that belong together"
                    ))
                })
            }
        }
    }

    /// Reads a file that a property names.
    fn read(property: &str, file: &str) -> Result<Vec<u8>, TlsOptionsError> {
        fs::read(file).map_err(|error| {
            TlsOptionsError(format!("{property} {file} cannot be read ({error}); check the path and the permissions"))
        })
    }

    /// Reads the certificates in a PEM file.
    fn certificates(property: &str, file: &str) -> Result<Vec<CertificateDer<'static>>, TlsOptionsError> {
        let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&read(property, file)?).collect();
        let found = found
            .map_err(|error| TlsOptionsError(format!("{property} {file} is not a valid PEM file ({error}); convert it to PEM, for example with openssl x509 -inform DER")))?;
        if found.is_empty() {
            return Err(TlsOptionsError(format!(
                "{property} {file} contains no certificate; set it to a PEM file with a BEGIN CERTIFICATE section"
            )));
        }
        Ok(found)
    }

    /// Reads the private key in a PEM file.
    fn private_key(property: &str, file: &str) -> Result<PrivateKeyDer<'static>, TlsOptionsError> {
        PrivateKeyDer::from_pem_slice(&read(property, file)?).map_err(|_| {
            TlsOptionsError(format!(
                "{property} {file} contains no private key; set tls-private-key-file to a PEM file with an unencrypted private key"
            ))
        })
    }

    /// Accepts any certificate: `tls-validation=false`.
    #[derive(Debug)]
    struct NoVerification;

    impl ServerCertVerifier for NoVerification {
        fn verify_server_cert(
            &self,
            _end_entity: &CertificateDer<'_>,
            _intermediates: &[CertificateDer<'_>],
            _server_name: &ServerName<'_>,
            _ocsp_response: &[u8],
            _now: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls12_signature(message, certificate, signed, &PROVIDER.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls13_signature(message, certificate, signed, &PROVIDER.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            PROVIDER.signature_verification_algorithms.supported_schemes()
        }
    }
}
