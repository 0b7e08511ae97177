//! The secret of an API token: how it is made, spelt and known again.
//!
//! It is `jobql_` and 256 random bits. What is stored and compared is its SHA-256: who reads the table learns nothing that
//! opens the door, and a look-up by hash takes as long for a near miss as for any other.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// What every secret starts with, so that people and scanners of leaked secrets can tell one.
pub const PREFIX: &str = "jobql_";
const SECRET_BYTES: usize = 32;

/// The SHA-256 of what came as a token.
pub type TokenHash = [u8; 32];

/// A token's secret. It is never shown but by [`TokenSecret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSecret(String);

impl TokenSecret {
    /// A new one, from the system's source of randomness.
    ///
    /// # Errors
    /// `Unavailable` when that has failed.
    pub fn new() -> Result<TokenSecret> {
        let mut bytes = [0; SECRET_BYTES];
        let unavailable = |_| Error::Unavailable { operation: "make a random token", source: None };
        OsRng.try_fill_bytes(&mut bytes).map_err(unavailable)?;
        Ok(TokenSecret(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The whole text, for the one who asked for it to be made.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored of it.
    pub fn hash(&self) -> TokenHash {
        hash(&self.0)
    }
}

impl std::fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenSecret(…)")
    }
}

/// The hash of a text that came as a token.
pub fn hash(text: &str) -> TokenHash {
    Sha256::digest(text).into()
}

/// True when the text may be a secret of ours; anything else need not be looked up.
pub fn is_well_formed(text: &str) -> bool {
    let decoded = text.strip_prefix(PREFIX).and_then(|secret| URL_SAFE_NO_PAD.decode(secret).ok());
    decoded.is_some_and(|bytes| bytes.len() == SECRET_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_long_and_random_and_is_not_shown() {
        let (one, other) = (TokenSecret::new().unwrap(), TokenSecret::new().unwrap());
        assert_ne!(one.expose(), other.expose());
        assert_eq!(one.expose().len(), PREFIX.len() + 43);
        assert!(is_well_formed(one.expose()));
        assert_ne!(one.hash(), other.hash());
        assert!(!format!("{one:?}").contains(one.expose()));
    }

    #[test]
    fn other_texts_are_no_secrets() {
        let secret = TokenSecret::new().unwrap();
        let short = &secret.expose()[..48];
        for text in ["", "jobql_", "x", &secret.expose()[6..], short, &format!("{}A", secret.expose())] {
            assert!(!is_well_formed(text), "{text}");
        }
    }
}
