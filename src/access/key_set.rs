//! The public keys of an issuer of JWTs, a JSON Web Key Set (RFC 7517) in a file or at a URL.
//!
//! The set is read at the start, every [`REFRESH_EVERY`], and when a token names a key that is not in it, though not more
//! often than every [`REFRESH_FLOOR`], however many such tokens come. One that cannot be read leaves the last good one.
//! Keys that do not fit the configured algorithm are left out.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::{JwtAlgorithm, JwtKeys};
use crate::outbound;

/// A key that was withdrawn lets nobody in after so long.
const REFRESH_EVERY: Duration = Duration::from_secs(600);
/// Between two reads for want of a key.
const REFRESH_FLOOR: Duration = Duration::from_secs(30);
const FETCH_WITHIN: Duration = Duration::from_secs(5);
const MAX_BYTES: usize = 256 << 10;
const MAX_KEYS: usize = 100;

/// A public key.
pub struct Key {
    id: Option<String>,
    material: Material,
}

enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// Uncompressed.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// Tells keys apart, whatever they are called.
pub type Fingerprint = [u8; 32];

impl Key {
    /// True when the key's holder has signed the message.
    pub fn has_signed(&self, message: &[u8], signed: &[u8]) -> bool {
        let verified = match &self.material {
            Material::Rsa { n, e } => signature::RsaPublicKeyComponents { n, e }.verify(
                &signature::RSA_PKCS1_2048_8192_SHA256,
                message,
                signed,
            ),
            Material::P256(point) => {
                signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, signed)
            }
            Material::Ed25519(key) => {
                signature::UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signed)
            }
        };
        verified.is_ok()
    }

    /// See [`Fingerprint`].
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hash = Sha256::new();
        match &self.material {
            Material::Rsa { n, e } => {
                hash.update(e);
                hash.update(n);
            }
            Material::P256(key) | Material::Ed25519(key) => hash.update(key),
        }
        hash.finalize().into()
    }
}

/// Why a set cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the keys of the JWT issuer cannot be read: {0}")]
pub struct KeysUnreadable(String);

/// See the module.
pub struct KeySet {
    source: JwtKeys,
    algorithm: JwtAlgorithm,
    client: reqwest::Client,
    keys: RwLock<Arc<Vec<Arc<Key>>>>,
    /// When the set was read last, or could not be; held while it is read.
    read_at: Mutex<Option<Instant>>,
}

impl KeySet {
    /// A set that has not been read.
    ///
    /// # Errors
    /// When there is no client for its URL.
    pub fn new(source: JwtKeys, algorithm: JwtAlgorithm) -> Result<KeySet, KeysUnreadable> {
        // Where the issuer is, the configuration says; it may well be inside.
        let client = outbound::client(Arc::new(|_| true), FETCH_WITHIN)
            .map_err(|error| KeysUnreadable(error.to_string()))?;
        Ok(KeySet { source, algorithm, client, keys: RwLock::default(), read_at: Mutex::new(None) })
    }

    /// True when the keys are in a file.
    pub fn is_file(&self) -> bool {
        matches!(self.source, JwtKeys::File(_))
    }

    /// The key of this id; of a token that names none, the only key that there is.
    pub fn key(&self, id: Option<&str>) -> Option<Arc<Key>> {
        let keys = self.keys();
        match id {
            Some(id) => keys.iter().find(|key| key.id.as_deref() == Some(id)).cloned(),
            None => keys.first().filter(|_| keys.len() == 1).cloned(),
        }
    }

    /// True while the key is in the set.
    pub fn has(&self, fingerprint: &Fingerprint) -> bool {
        self.keys().iter().any(|key| key.fingerprint() == *fingerprint)
    }

    /// Reads the set anew for want of a key, unless that was done just now.
    pub async fn look_again(&self) {
        self.refresh(REFRESH_FLOOR).await;
    }

    /// Reads the set anew when it is old.
    pub async fn keep_fresh(&self) {
        let floor = if self.keys().is_empty() { REFRESH_FLOOR } else { REFRESH_EVERY };
        self.refresh(floor).await;
    }

    async fn refresh(&self, floor: Duration) {
        let mut read_at = self.read_at.lock().await;
        if read_at.is_some_and(|read_at| read_at.elapsed() < floor) {
            return;
        }
        if let Err(error) = self.read().await {
            tracing::warn!(error = %error, "the last good keys of the JWT issuer stay in use");
        }
        *read_at = Some(Instant::now());
    }

    /// Reads the set.
    ///
    /// # Errors
    /// When it is not to be had or is none; then the one before stays.
    pub async fn read(&self) -> Result<(), KeysUnreadable> {
        let text = match &self.source {
            JwtKeys::File(path) => tokio::fs::read(path)
                .await
                .map_err(|error| KeysUnreadable(format!("{}: {error}", path.display())))?,
            JwtKeys::Url(url) => {
                self.fetch(url).await.map_err(|error| KeysUnreadable(outbound::in_words(error)))??
            }
        };
        let keys = usable_keys(&text, self.algorithm)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(())
    }

    async fn fetch(&self, url: &str) -> reqwest::Result<Result<Vec<u8>, KeysUnreadable>> {
        let mut response = self.client.get(url).send().await?;
        // A redirect is no set of keys either.
        if response.status() != reqwest::StatusCode::OK {
            return Ok(Err(KeysUnreadable(format!("the answer's status is {}", response.status()))));
        }
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            text.extend_from_slice(&chunk);
            if text.len() > MAX_BYTES {
                return Ok(Err(KeysUnreadable(format!("more than {MAX_BYTES} bytes"))));
            }
        }
        Ok(Ok(text))
    }

    fn keys(&self) -> Arc<Vec<Arc<Key>>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A JSON Web Key, as far as it is looked at.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

fn usable_keys(text: &[u8], algorithm: JwtAlgorithm) -> Result<Vec<Arc<Key>>, KeysUnreadable> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    if text.len() > MAX_BYTES {
        return Err(KeysUnreadable(format!("more than {MAX_BYTES} bytes")));
    }
    let set: Set =
        serde_json::from_slice(text).map_err(|_| KeysUnreadable("not a JSON Web Key Set".to_owned()))?;
    // A key that is not understood is none of ours (RFC 7517, section 5).
    let keys = set.keys.into_iter().take(MAX_KEYS).filter_map(|key| serde_json::from_value(key).ok());
    let usable: Vec<_> = keys.filter_map(|jwk| key_of(jwk, algorithm)).map(Arc::new).collect();
    if usable.is_empty() {
        return Err(KeysUnreadable(format!("no key for {} is among them", algorithm.as_str())));
    }
    Ok(usable)
}

fn key_of(jwk: Jwk, algorithm: JwtAlgorithm) -> Option<Key> {
    let bytes = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
    if jwk.r#use.is_some_and(|r#use| r#use != "sig") || jwk.alg.is_some_and(|alg| alg != algorithm.as_str()) {
        return None;
    }
    let material = match (algorithm, jwk.kty.as_str(), jwk.crv.as_deref()) {
        (JwtAlgorithm::Rs256, "RSA", _) => {
            // Some issuers write the sign's byte, which does not belong there.
            let unsigned = |bytes: Vec<u8>| bytes.into_iter().skip_while(|byte| *byte == 0).collect();
            Material::Rsa { n: unsigned(bytes(jwk.n)?), e: unsigned(bytes(jwk.e)?) }
        }
        (JwtAlgorithm::Es256, "EC", Some("P-256")) => {
            let (x, y) = (bytes(jwk.x)?, bytes(jwk.y)?);
            if x.len() != 32 || y.len() != 32 {
                return None;
            }
            Material::P256([&[4], x.as_slice(), y.as_slice()].concat())
        }
        (JwtAlgorithm::EdDsa, "OKP", Some("Ed25519")) => Material::Ed25519(bytes(jwk.x)?),
        _ => return None,
    };
    Some(Key { id: jwk.kid, material })
}

#[cfg(test)]
mod tests;
