//! TLS by files: a certificate chain and its key, in PEM.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{ConfigError, File, Overrides, filled};

/// What TLS is spoken with. It was read once, so it fitted at the start.
#[derive(Clone)]
pub struct Tls {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key. Whoever reads it can pass for this server: keep it readable for jobql's user only.
    pub key: PathBuf,
    at_start: Arc<ServerConfig>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("certificate", &self.certificate).field("key", &self.key).finish()
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Tls) -> bool {
        (&self.certificate, &self.key) == (&other.certificate, &other.key)
    }
}

impl Tls {
    /// What was read at the start.
    pub fn at_start(&self) -> Arc<ServerConfig> {
        self.at_start.clone()
    }

    /// Reads the files anew.
    ///
    /// # Errors
    /// What is wrong, naming the file.
    pub fn read(&self) -> Result<Arc<ServerConfig>, String> {
        read(&self.certificate, &self.key)
    }

    pub(super) fn load(file: &File, o: &Overrides) -> Result<Option<Tls>, ConfigError> {
        let path = |flag: &Option<PathBuf>, in_file: &Option<PathBuf>| match (filled(flag), filled(in_file)) {
            (Some(path), _) => Some(path.clone()),
            (None, Some(path)) => Some(file.folder().join(path)),
            (None, None) => None,
        };
        let certificate = path(&o.tls_certificate, &file.table.tls_certificate);
        match (certificate, path(&o.tls_key, &file.table.tls_key)) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => match read(&certificate, &key) {
                Ok(at_start) => Ok(Some(Tls { certificate, key, at_start })),
                Err(problem) => Err(file.error("tls_certificate, tls_key", problem)),
            },
            (Some(_), None) => Err(file.error("tls_key", "missing; a certificate needs its key")),
            (None, Some(_)) => Err(file.error("tls_certificate", "missing; a key needs its certificate")),
        }
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let in_file = |path: &Path, problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| in_file(certificate, &error))?;
    if chain.is_empty() {
        return Err(in_file(certificate, &"holds no certificate in PEM"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| in_file(key, &error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| format!("the certificate and its key do not fit: {error}"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
