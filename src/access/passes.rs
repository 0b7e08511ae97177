//! The tokens that were verified lately, and those that hold something open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::key_set::Fingerprint;
use super::{Caller, TRUSTED_FOR};
use crate::job::token::TokenHash;
use crate::job::viewer::Viewer;
use crate::store::token::ValidToken;

/// Tokens that are remembered although they hold nothing open.
const IDLE_MAX: usize = 10_000;

/// What a token's holders share.
#[derive(Default)]
pub(super) struct Pass {
    /// What the token is known by.
    pub(super) name: Option<String>,
    /// Cancelled when it is not valid any more.
    pub(super) ended: CancellationToken,
}

/// What makes a token valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// A row of the database.
    Row,
    /// A signature.
    Signature(Fingerprint),
}

struct Remembered {
    viewer: Viewer,
    pass: Arc<Pass>,
    proof: Proof,
    verified_at: Instant,
    expires_at: Option<Instant>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Passes(Mutex<HashMap<TokenHash, Remembered>>);

/// A token that was found valid.
pub(super) struct Verified {
    pub(super) viewer: Viewer,
    pub(super) name: String,
    pub(super) proof: Proof,
    pub(super) expires_in: Option<Duration>,
}

impl Passes {
    /// The caller with this token, if it was verified lately.
    pub(super) fn fresh(&self, hash: &TokenHash, now: Instant) -> Option<Caller> {
        let passes = self.lock();
        let known = passes.get(hash)?;
        (known.is_recent(now) && !known.has_expired(now)).then(|| known.caller())
    }

    /// Remembers a token that was found valid, and lets its holder in.
    pub(super) fn remember(&self, hash: TokenHash, verified: Verified, now: Instant) -> Caller {
        let mut passes = self.lock();
        if passes.len() >= IDLE_MAX {
            passes.retain(|_, known| known.is_held());
        }
        let Verified { viewer, name, proof, expires_in } = verified;
        // What is open with the token goes on under the pass that it has.
        let pass = match passes.remove(&hash) {
            Some(known) if known.viewer == viewer && !known.pass.ended.is_cancelled() => known.pass,
            Some(known) => {
                known.pass.ended.cancel();
                Arc::new(Pass { name: Some(name), ended: CancellationToken::new() })
            }
            None => Arc::new(Pass { name: Some(name), ended: CancellationToken::new() }),
        };
        let known =
            Remembered { viewer, pass, proof, verified_at: now, expires_at: instant(now, expires_in) };
        let caller = known.caller();
        passes.insert(hash, known);
        caller
    }

    /// Ends what has expired, forgets what is neither fresh nor held, and gives the rest of those of rows, to be verified
    /// again. `trusts` tells whether a signature's key still counts.
    pub(super) fn review(&self, now: Instant, trusts: impl Fn(&Fingerprint) -> bool) -> Vec<TokenHash> {
        let mut passes = self.lock();
        passes.retain(|_, known| {
            let withdrawn = matches!(&known.proof, Proof::Signature(key) if !trusts(key));
            if known.has_expired(now) || withdrawn {
                known.pass.ended.cancel();
                return false;
            }
            // An idle one is not kept alive by being looked at.
            if matches!(known.proof, Proof::Signature(_)) && known.is_held() {
                known.verified_at = now;
            }
            known.is_held() || known.is_recent(now)
        });
        passes.iter().filter(|(_, known)| known.proof == Proof::Row).map(|(hash, _)| *hash).collect()
    }

    /// What the database says of the tokens that were asked for; one that it does not give is not valid any more.
    pub(super) fn confirm(
        &self,
        asked: &[TokenHash],
        valid: &HashMap<TokenHash, ValidToken>,
        asked_at: Instant,
    ) {
        let mut passes = self.lock();
        for hash in asked {
            let Some(known) = passes.get_mut(hash) else { continue };
            match valid.get(hash) {
                Some(token) if token.viewer == known.viewer => {
                    if known.is_held() {
                        known.verified_at = asked_at;
                    }
                    known.expires_at = instant(asked_at, token.expires_in);
                }
                _ => {
                    known.pass.ended.cancel();
                    passes.remove(hash);
                }
            }
        }
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TokenHash, Remembered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    fn caller(&self) -> Caller {
        Caller { viewer: self.viewer.clone(), pass: self.pass.clone() }
    }

    fn has_expired(&self, now: Instant) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    fn is_recent(&self, now: Instant) -> bool {
        now.duration_since(self.verified_at) < TRUSTED_FOR
    }

    /// True while somebody who came in with it is there.
    fn is_held(&self) -> bool {
        Arc::strong_count(&self.pass) > 1
    }
}

/// When that time is over; none where no instant reaches that far.
fn instant(now: Instant, expires_in: Option<Duration>) -> Option<Instant> {
    now.checked_add(expires_in?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verified(client: &str, expires_in: Option<Duration>) -> Verified {
        Verified {
            viewer: Viewer::Client(client.to_owned()),
            name: client.to_owned(),
            proof: Proof::Row,
            expires_in,
        }
    }

    fn valid(client: &str, expires_in: Option<Duration>) -> ValidToken {
        ValidToken { id: uuid::Uuid::nil(), viewer: Viewer::Client(client.to_owned()), expires_in }
    }

    const HOUR: Option<Duration> = Some(Duration::from_secs(3_600));

    #[test]
    fn a_token_is_trusted_for_a_while_and_kept_while_it_is_held() {
        let (passes, mut now) = (Passes::default(), Instant::now());
        let caller = passes.remember([1; 32], verified("a", None), now);
        drop(passes.remember([2; 32], verified("b", None), now));
        assert_eq!(passes.fresh(&[1; 32], now).unwrap().viewer, caller.viewer);
        assert!(passes.fresh(&[3; 32], now).is_none());
        now += TRUSTED_FOR;
        assert!(passes.fresh(&[1; 32], now).is_none() && passes.fresh(&[2; 32], now).is_none());
        assert_eq!(passes.review(now, |_| true), [[1; 32]], "the idle one is forgotten");
        passes.confirm(&[[1; 32]], &HashMap::from([([1; 32], valid("a", None))]), now);
        assert!(passes.fresh(&[1; 32], now).is_some());
        assert!(!caller.pass.ended.is_cancelled());
        drop(caller);
        now += TRUSTED_FOR;
        assert!(passes.review(now, |_| true).is_empty());
        assert_eq!(passes.len(), 0);
    }

    #[test]
    fn who_holds_a_token_that_is_not_valid_any_more_is_told() {
        let (passes, mut now) = (Passes::default(), Instant::now());
        let revoked = passes.remember([1; 32], verified("a", None), now);
        let other = passes.remember([2; 32], verified("b", None), now);
        let hashes = passes.review(now, |_| true);
        passes.confirm(&hashes, &HashMap::from([([2; 32], valid("b", HOUR))]), now);
        assert!(revoked.pass.ended.is_cancelled() && !other.pass.ended.is_cancelled());
        assert!(passes.fresh(&[1; 32], now).is_none());
        // It was to hold for ever, and then for an hour only.
        now += Duration::from_secs(3_601);
        assert!(passes.review(now, |_| true).is_empty() && other.pass.ended.is_cancelled());
    }

    #[test]
    fn an_expired_token_is_not_fresh() {
        let (passes, mut now) = (Passes::default(), Instant::now());
        let caller = passes.remember([1; 32], verified("a", Some(Duration::from_secs(2))), now);
        assert!(passes.fresh(&[1; 32], now).is_some());
        now += Duration::from_secs(2);
        assert!(passes.fresh(&[1; 32], now).is_none() && !caller.pass.ended.is_cancelled());
        passes.review(now, |_| true);
        assert!(caller.pass.ended.is_cancelled());
    }

    #[test]
    fn a_signature_counts_as_long_as_its_key() {
        let (passes, now) = (Passes::default(), Instant::now());
        let signed = |key: u8| Verified { proof: Proof::Signature([key; 32]), ..verified("a", HOUR) };
        let (kept, withdrawn) =
            (passes.remember([1; 32], signed(1), now), passes.remember([2; 32], signed(2), now));
        assert!(passes.review(now, |key| *key == [1; 32]).is_empty(), "the database does not know them");
        assert!(!kept.pass.ended.is_cancelled() && withdrawn.pass.ended.is_cancelled());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_held_stays() {
        let (passes, now) = (Passes::default(), Instant::now());
        let held = passes.remember([0; 32], verified("a", None), now);
        for number in 0..=IDLE_MAX as u32 {
            let mut hash = [1; 32];
            hash[..4].copy_from_slice(&number.to_be_bytes());
            drop(passes.remember(hash, verified("b", None), now));
            assert!(passes.len() <= IDLE_MAX);
        }
        assert!(passes.fresh(&[0; 32], now).is_some() && !held.pass.ended.is_cancelled());
        // Verified once more, the holder of the first is still told by the same pass.
        let again = passes.remember([0; 32], verified("a", None), now);
        assert!(Arc::ptr_eq(&held.pass, &again.pass));
        let changed = passes.remember([0; 32], verified("c", None), now);
        assert!(held.pass.ended.is_cancelled() && !changed.pass.ended.is_cancelled());
    }
}
