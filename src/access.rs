//! Who may come in: tokens, JWTs, and whoever there is while none are in use.
//!
//! Tokens are in use as soon as one was ever made, revoked ones too, or an issuer of JWTs is configured. Until then
//! everyone is an operator. What came as a token is looked up by its hash, and remembered: a request with a token that was
//! verified within [`TRUSTED_FOR`] asks nobody. What is remembered is verified again every [`LOOK_EVERY`], all of it in one
//! statement, and at once when NOTIFY says that tokens have changed. A token that is not valid any more is forgotten, and
//! whoever holds a [`Caller`] that came in by it, such as an open socket, is told by [`Caller::ended`].
//!
//! So a token that is revoked lets nobody in after [`TRUSTED_FOR`], and what it has open ends within [`LOOK_EVERY`]. While
//! the database is away nobody new comes in, and what is open stays open until it can be asked, or the token expires.

mod jwt;
mod key_set;
mod passes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::jwt::Jwt;
pub use self::key_set::KeysUnreadable;
use self::passes::{Pass, Passes, Proof, Verified};
use crate::config;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::job::token;
use crate::job::viewer::Viewer;
use crate::store::Store;

/// A token is taken at its word for so long after it was verified.
pub const TRUSTED_FOR: Duration = Duration::from_secs(10);
/// How often all that is remembered is verified again.
pub const LOOK_EVERY: Duration = Duration::from_secs(4);
/// Tokens of one statement.
const VERIFY_AT_ONCE: usize = 1_000;
/// How often an issuer's keys are looked at for their age.
const KEYS_EVERY: Duration = Duration::from_secs(30);

/// The door. Cheap to clone.
#[derive(Clone)]
pub struct Access(Arc<Door>);

struct Door {
    store: Store,
    jwt: Option<Jwt>,
    in_use: AtomicBool,
    /// Of those who came in while no tokens were in use.
    without_token: Arc<Pass>,
    passes: Passes,
    turned_away: AtomicU64,
}

/// Somebody who has come in.
#[derive(Clone)]
pub struct Caller {
    /// On whose behalf they act.
    pub viewer: Viewer,
    pass: Arc<Pass>,
}

/// Why somebody does not come in.
#[derive(Debug)]
pub enum Refused {
    /// No valid token; why is not told.
    Unauthenticated,
    /// The database cannot say.
    Unavailable(Error),
}

impl Caller {
    /// What the token is known by, the same for all who hold it, and no secret; none for who came in without one.
    pub fn token(&self) -> Option<&str> {
        self.pass.name.as_deref()
    }

    /// Returns when the caller may not stay: the token was revoked or has expired.
    pub async fn ended(&self) {
        self.pass.ended.cancelled().await;
    }
}

impl Access {
    /// A door that has not looked yet whether tokens are in use.
    ///
    /// # Errors
    /// When the issuer's keys cannot be read from anywhere.
    pub fn new(store: Store, settings: &config::Access) -> std::result::Result<Access, KeysUnreadable> {
        let jwt = settings.jwt.clone().map(Jwt::new).transpose()?;
        Ok(Access(Arc::new(Door {
            store,
            in_use: AtomicBool::new(jwt.is_some()),
            jwt,
            without_token: Arc::new(Pass::default()),
            passes: Passes::default(),
            turned_away: AtomicU64::new(0),
        })))
    }

    /// Reads the issuer's keys, if there is one. A URL that does not answer now may do so later.
    ///
    /// # Errors
    /// When they are in a file that cannot be used.
    pub async fn read_keys(&self) -> std::result::Result<(), KeysUnreadable> {
        match &self.0.jwt {
            Some(jwt) if jwt.keys.is_file() => jwt.keys.read().await,
            Some(jwt) => {
                jwt.keys.keep_fresh().await;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// True when nobody comes in without a token. It stays so.
    pub fn needs_token(&self) -> bool {
        self.0.in_use.load(Ordering::Acquire)
    }

    /// Looks whether tokens are in use, and verifies again what is remembered.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn look(&self) -> Result<()> {
        let door = &*self.0;
        if !self.needs_token() && door.store.has_tokens().await? {
            door.in_use.store(true, Ordering::Release);
            door.without_token.ended.cancel();
        }
        let hashes =
            door.passes.review(Instant::now(), |key| door.jwt.as_ref().is_some_and(|jwt| jwt.keys.has(key)));
        for some in hashes.chunks(VERIFY_AT_ONCE) {
            let asked_at = Instant::now();
            let valid = door.store.valid_tokens(some).await?;
            door.passes.confirm(some, &valid, asked_at);
        }
        Ok(())
    }

    /// Looks again and again, and when it is told to, until shutdown.
    pub fn start(&self, events: &Events, tasks: &TaskTracker, shutdown: &CancellationToken) {
        let (door, mut news, stop) = (self.clone(), events.token_news(), shutdown.clone());
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    _ = news.changed() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    () = stop.cancelled() => return,
                }
                if let Some(Err(error)) = stop.run_until_cancelled(door.look()).await {
                    tracing::debug!(error = %error, "tokens could not be verified again; trying again");
                }
            }
        });
        let (door, stop) = (self.clone(), shutdown.clone());
        tasks.spawn(async move {
            let Some(jwt) = &door.0.jwt else { return };
            while stop.run_until_cancelled(tokio::time::sleep(KEYS_EVERY)).await.is_some() {
                stop.run_until_cancelled(jwt.keys.keep_fresh()).await;
            }
        });
    }

    /// How often somebody came without a valid token.
    pub fn turned_away(&self) -> u64 {
        self.0.turned_away.load(Ordering::Relaxed)
    }

    /// Lets in who may come in; `authorization` is what came as the header of this name, if any did.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn admit(&self, authorization: Option<&str>) -> std::result::Result<Caller, Refused> {
        let admitted = self.verify(authorization).await;
        if matches!(admitted, Err(Refused::Unauthenticated)) {
            self.0.turned_away.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    async fn verify(&self, authorization: Option<&str>) -> std::result::Result<Caller, Refused> {
        let door = &*self.0;
        if !self.needs_token() {
            return Ok(Caller { viewer: Viewer::Operator, pass: door.without_token.clone() });
        }
        let text = authorization.and_then(bearer).ok_or(Refused::Unauthenticated)?;
        let hash = token::hash(text);
        if let Some(caller) = door.passes.fresh(&hash, Instant::now()) {
            return Ok(caller);
        }
        let asked_at = Instant::now();
        let verified = if token::is_well_formed(text) {
            let valid = door.store.valid_tokens(&[hash]).await.map_err(Refused::Unavailable)?.remove(&hash);
            valid.map(|valid| Verified {
                viewer: valid.viewer,
                name: valid.id.to_string(),
                proof: Proof::Row,
                expires_in: valid.expires_in,
            })
        } else if let Some(jwt) = &door.jwt {
            let valid = jwt.verify(text).await;
            valid.map(|valid| Verified {
                viewer: valid.viewer,
                name: format!("jwt:{}", valid.name),
                proof: Proof::Signature(valid.signed_with),
                expires_in: Some(valid.expires_in),
            })
        } else {
            None
        };
        verified
            .map(|verified| door.passes.remember(hash, verified, asked_at))
            .ok_or(Refused::Unauthenticated)
    }
}

/// The token of `Bearer TOKEN`.
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim().split_once(' ')?;
    let token = token.trim();
    let plain = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && plain).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_stands_alone() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer(" bEaReR  abc "), Some("abc"));
        for text in
            ["", "Bearer", "Bearer ", "abc", "Basic abc", "Bearer a b", "Bearer a,Bearer b c", "Bearerabc"]
        {
            assert_eq!(bearer(text), None, "{text}");
        }
    }
}
