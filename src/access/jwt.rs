//! JWTs of one configured issuer.
//!
//! The algorithm is pinned: a token's header can only agree with it. Issuer, audience and an expiry must be there and right.
//! Who asks is told no reason; all that is wrong is UNAUTHENTICATED.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::key_set::{Fingerprint, KeySet, KeysUnreadable};
use crate::config::JwtIssuer;
use crate::job::submission::checked_id;
use crate::job::viewer::{Viewer, WorkerScope};

/// Longest token that is looked at.
const MAX_BYTES: usize = 16 << 10;
/// Kinds of one worker.
const MAX_KINDS: usize = 200;
/// A token that lies further ahead is as good as one for ever, which no instant of this process holds.
const MAX_EXPIRY: Duration = Duration::from_secs(10 * 366 * 86_400);

/// See the module.
pub struct Jwt {
    issuer: JwtIssuer,
    pub(super) keys: KeySet,
}

/// A token that is valid.
pub struct ValidJwt {
    /// On whose behalf its holder acts.
    pub viewer: Viewer,
    /// The client, or what it is known by; no secret.
    pub name: String,
    /// How long it is valid still.
    pub expires_in: Duration,
    /// What it was signed with.
    pub signed_with: Fingerprint,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood; none are.
    crit: Option<Value>,
}

impl Jwt {
    /// The issuer, whose keys have not been read.
    ///
    /// # Errors
    /// As [`KeySet::new`].
    pub fn new(issuer: JwtIssuer) -> Result<Jwt, KeysUnreadable> {
        Ok(Jwt { keys: KeySet::new(issuer.keys.clone(), issuer.algorithm)?, issuer })
    }

    /// The token, if it is valid.
    pub async fn verify(&self, token: &str) -> Option<ValidJwt> {
        let mut parts = token.split('.');
        let (header, claims, signed) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || token.len() > MAX_BYTES {
            return None;
        }
        let Header { alg, kid, crit } = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        if alg != self.issuer.algorithm.as_str() || crit.is_some() {
            return None;
        }
        let key = match self.keys.key(kid.as_deref()) {
            Some(key) => key,
            None => {
                self.keys.look_again().await;
                self.keys.key(kid.as_deref())?
            }
        };
        let message = token.get(..header.len() + 1 + claims.len())?;
        if !key.has_signed(message.as_bytes(), &URL_SAFE_NO_PAD.decode(signed).ok()?) {
            return None;
        }
        let claims: Map<String, Value> =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        let (viewer, name) = self.viewer(&claims)?;
        Some(ValidJwt {
            viewer,
            name,
            expires_in: self.expires_in(&claims, now)?,
            signed_with: key.fingerprint(),
        })
    }

    /// How long these claims hold still; none when they do not.
    fn expires_in(&self, claims: &Map<String, Value>, now: Duration) -> Option<Duration> {
        let leeway = self.issuer.leeway.as_secs_f64();
        let is_audience = |value: &Value| value.as_str() == Some(self.issuer.audience.as_str());
        let for_us = match claims.get("aud")? {
            Value::Array(audiences) => audiences.iter().any(is_audience),
            audience => is_audience(audience),
        };
        let begun = match claims.get("nbf") {
            None => true,
            Some(from) => from.as_f64()? <= now.as_secs_f64() + leeway,
        };
        let left = claims.get("exp")?.as_f64()? + leeway - now.as_secs_f64();
        if !for_us || !begun || claims.get("iss")?.as_str()? != self.issuer.issuer || left <= 0.0 {
            return None;
        }
        Some(Duration::try_from_secs_f64(left).unwrap_or(MAX_EXPIRY).min(MAX_EXPIRY))
    }

    fn viewer(&self, claims: &Map<String, Value>) -> Option<(Viewer, String)> {
        let name = claims.get(&self.issuer.client_claim)?.as_str()?.to_owned();
        let name = checked_id("client", name).ok()?;
        let scope = match &self.issuer.scope_claim {
            None => "client",
            Some(claim) => match claims.get(claim) {
                None => "client",
                Some(scope) => scope.as_str()?,
            },
        };
        let viewer = match scope {
            "client" => Viewer::Client(name.clone()),
            "operator" => Viewer::Operator,
            "worker" => {
                let kinds = claims.get("kinds")?.as_array()?;
                let kinds: Option<Vec<String>> =
                    kinds.iter().map(|kind| checked_id("kinds", kind.as_str()?.to_owned()).ok()).collect();
                let kinds = kinds.filter(|kinds| (1..=MAX_KINDS).contains(&kinds.len()))?;
                Viewer::Worker(Arc::new(WorkerScope {
                    token: format!("jwt:{name}"),
                    name: name.clone(),
                    kinds,
                }))
            }
            _ => return None,
        };
        Some((viewer, name))
    }
}

#[cfg(test)]
mod tests;
