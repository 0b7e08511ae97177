//! Lease tokens: what a worker over the API shows to write about a job that it holds.
//!
//! A token names the worker's registration and the lease epoch, both of which can be seen in `attempts`, and is
//! authenticated together with the job's id under a key that only the processes of jobql know. So it cannot be guessed
//! or made by others, no read is needed to check it, and it can be told from a stranger's long after its worker is gone.
//! What it allows is decided by the epoch alone, in the statement that writes.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use uuid::Uuid;

/// Bytes of the worker's id and the epoch.
const NAMED: usize = 16 + 4;
/// Bytes of the code that authenticates them: 128 bits.
const CODE: usize = 16;

/// What authenticates lease tokens.
#[derive(Clone)]
pub struct LeaseKey(Vec<u8>);

impl std::fmt::Debug for LeaseKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LeaseKey(…)")
    }
}

/// What a token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedLease {
    /// The registration that claimed the job.
    pub worker_id: Uuid,
    /// Counts the starts of the job.
    pub epoch: i32,
}

/// Why a token is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadToken {
    /// It does not look like one.
    Malformed,
    /// It was not made here, or for another job.
    Foreign,
}

impl LeaseKey {
    /// A key of these bytes.
    pub fn new(bytes: Vec<u8>) -> LeaseKey {
        LeaseKey(bytes)
    }

    /// The token of a lease on the job.
    pub fn token(&self, job_id: Uuid, lease: NamedLease) -> String {
        let mut bytes = Vec::with_capacity(NAMED + CODE);
        bytes.extend_from_slice(lease.worker_id.as_bytes());
        bytes.extend_from_slice(&lease.epoch.to_be_bytes());
        if let Some(mac) = self.mac(job_id, &bytes) {
            bytes.extend(mac.finalize().into_bytes().into_iter().take(CODE));
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a token for the job names.
    ///
    /// # Errors
    /// `Malformed`, `Foreign`.
    pub fn read(&self, job_id: Uuid, token: &str) -> Result<NamedLease, BadToken> {
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| BadToken::Malformed)?;
        let (worker_id, rest) = bytes.split_first_chunk::<16>().ok_or(BadToken::Malformed)?;
        let (epoch, code) = rest.split_first_chunk::<4>().ok_or(BadToken::Malformed)?;
        if code.len() != CODE {
            return Err(BadToken::Malformed);
        }
        let named = bytes.get(..NAMED).unwrap_or_default();
        let mac = self.mac(job_id, named).ok_or(BadToken::Foreign)?;
        mac.verify_truncated_left(code).map_err(|_| BadToken::Foreign)?;
        Ok(NamedLease { worker_id: Uuid::from_bytes(*worker_id), epoch: i32::from_be_bytes(*epoch) })
    }

    fn mac(&self, job_id: Uuid, named: &[u8]) -> Option<Hmac<Sha256>> {
        // An HMAC takes a key of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(job_id.as_bytes());
        mac.update(named);
        Some(mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_for_its_job_and_under_its_key_only() {
        let key = LeaseKey::new(vec![1; 32]);
        let (job, lease) = (Uuid::now_v7(), NamedLease { worker_id: Uuid::now_v7(), epoch: 3 });
        let token = key.token(job, lease);
        assert_eq!(token.len(), 48);
        assert_eq!(key.read(job, &token), Ok(lease));
        assert_eq!(key.read(Uuid::now_v7(), &token), Err(BadToken::Foreign));
        assert_eq!(LeaseKey::new(vec![2; 32]).read(job, &token), Err(BadToken::Foreign));
        for bad in ["", "x", &token[..47], &token[..44], &format!("{token}AAAA"), "ä", &"=".repeat(48)] {
            assert_eq!(key.read(job, bad), Err(BadToken::Malformed), "{bad}");
        }
    }

    #[test]
    fn no_bit_of_a_token_can_be_changed() {
        let key = LeaseKey::new(vec![1; 32]);
        let job = Uuid::now_v7();
        let token = key.token(job, NamedLease { worker_id: Uuid::now_v7(), epoch: 1 });
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(key.read(job, &changed), Err(BadToken::Foreign), "bit {bit}");
        }
    }
}
