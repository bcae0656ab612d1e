//! A certificate authority for tests.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// A certificate authority and the certificates that it signs, as files.
pub struct Authority {
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // The name differs from those of the signed certificates; otherwise OpenSSL would treat them as self-signed.
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let certificate = params.self_signed(&key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { directory, issuer: Issuer::new(params, key), certificate }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns a certificate for `name` and its key.
    pub fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Writes a certificate for `name` and its key to files, and returns their paths.
    pub fn signed_files(&self, name: &str, files: &str) -> [PathBuf; 2] {
        let (certificate, key) = self.sign(name);
        let [certificate_file, key_file] = ["crt", "key"].map(|kind| self.file(&format!("{files}.{kind}")));
        std::fs::write(&certificate_file, certificate.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        [certificate_file, key_file]
    }

    /// Returns a server's TLS configuration. With `mutual`, clients must present a certificate of this authority too.
    pub fn server(&self, name: &str, mutual: bool) -> Arc<ServerConfig> {
        let (certificate, key) = self.sign(name);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
        let config = if mutual {
            let mut roots = RootCertStore::empty();
            roots.add(self.certificate.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            config.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            config.with_no_client_auth()
        };
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Arc::new(config.with_single_cert(vec![certificate.der().clone()], key.into()).unwrap())
    }

    /// Returns `tls-ca-file` with this authority's certificate.
    pub fn trusted(&self) -> String {
        format!("tls-ca-file={}", self.file("ca.pem").display())
    }
}

/// Returns the TLS configuration of a server with a self-signed certificate for these names, marked as that of an
/// authority or not, and the certificate in PEM format.
pub fn self_signed_server(names: &[&str], is_authority: bool) -> (Arc<ServerConfig>, String) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.is_ca = if is_authority { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
    let certificate = params.self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key.into());
    (Arc::new(config.unwrap()), certificate.pem())
}
