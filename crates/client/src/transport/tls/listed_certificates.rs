//! Accepts servers whose own certificate is in `tls-ca-file`.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

/// Trusts what `inner` trusts, and also a server certificate in `listed`, even if it is marked as the certificate of an
/// authority. `openssl req -x509` marks all self-signed certificates that way.
#[derive(Debug)]
pub(super) struct ListedCertificates {
    pub(super) inner: Arc<dyn ServerCertVerifier>,
    pub(super) listed: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for ListedCertificates {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The library checks the validity period before this error.
            Err(error) if is_authority(&error) && self.listed.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Returns the library's private reason for rejecting a certificate, which has no text of its own.
fn reason(error: &Error) -> Option<&webpki::Error> {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return None };
    other.0.downcast_ref()
}

/// Whether a certificate was rejected because it is that of an authority.
fn is_authority(error: &Error) -> bool {
    matches!(reason(error), Some(webpki::Error::CaUsedAsEndEntity))
}

/// Describes TLS errors that are typical of manually created certificates.
pub(in crate::transport) fn describe(error: &Error) -> String {
    /// For certificates without names, for example X.509 v1, which has no field for them.
    const NO_NAMES: &str = "the certificate names no host: it has no subjectAltName, and its common name does not count; \
                            make one with openssl req -x509 -addext subjectAltName=DNS:name,IP:address";
    if let Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) = error
        && presented.is_empty()
    {
        return NO_NAMES.to_owned();
    }
    match reason(error) {
        Some(webpki::Error::UnsupportedCertVersion) => NO_NAMES.to_owned(),
        Some(webpki::Error::CaUsedAsEndEntity) => {
            "the certificate belongs to a certificate authority (basicConstraints CA:TRUE); add it to tls-ca-file to trust this server"
                .to_owned()
        }
        Some(_) | None => error.to_string(),
    }
}
