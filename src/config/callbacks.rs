//! Callbacks: the secrets that sign them, and the hosts that may be reached although they are not public.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What Standard Webhooks puts before a secret.
const PREFIX: &str = "whsec_";

/// A key of 24 to 64 bytes, spelt `whsec_` and base64. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct CallbackSecret(Vec<u8>);

impl CallbackSecret {
    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for CallbackSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallbackSecret(…)")
    }
}

impl std::str::FromStr for CallbackSecret {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<CallbackSecret, Self::Err> {
        let refused = "not a secret; allowed is whsec_ and 24 to 64 bytes in base64, as `echo whsec_$(openssl rand \
                       -base64 32)` makes one";
        let key = text.trim().strip_prefix(PREFIX).and_then(|encoded| STANDARD.decode(encoded).ok());
        key.filter(|key| (24..=64).contains(&key.len())).map(CallbackSecret).ok_or(refused)
    }
}

/// How callbacks are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callbacks {
    /// Signs them; none by default, and then no job may have one.
    pub secret: Option<CallbackSecret>,
    /// Signs them too while receivers are moved from one secret to the other; none by default.
    pub previous_secret: Option<CallbackSecret>,
    /// Hosts, as they stand in URLs, that may be reached by http and at addresses that are not public; none by default.
    /// Whoever may submit can make this process send to them.
    pub hosts: Vec<String>,
}

impl Callbacks {
    /// What signs them, the present secret first.
    pub fn secrets(&self) -> impl Iterator<Item = &CallbackSecret> {
        self.secret.iter().chain(&self.previous_secret)
    }
}
