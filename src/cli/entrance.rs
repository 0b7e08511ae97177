//! Whether a process may serve the address that it is told to: without tokens only this machine, unless told otherwise.

use jobql::access::Access;
use jobql::config::{Config, ConfigError};
use jobql::store::Store;
use tokio::net::TcpListener;

/// The door of a process that serves the API on `listener`, or does not serve it.
///
/// # Errors
/// A `ConfigError` when other machines could reach the API and nobody would need a token, or when the keys of the JWT
/// issuer are in a file that cannot be used.
pub(super) async fn guarded(
    config: &Config,
    store: &Store,
    listener: Option<&TcpListener>,
) -> anyhow::Result<Access> {
    let keys = |error: jobql::access::KeysUnreadable| ConfigError::new("jwt_keys", error.to_string());
    let access = Access::new(store.clone(), &config.access).map_err(keys)?;
    let Some(listener) = listener else { return Ok(access) };
    access.read_keys().await.map_err(keys)?;
    access.look().await?;
    let address = listener.local_addr()?;
    if address.ip().is_loopback() || access.needs_token() {
        return Ok(access);
    }
    if !config.access.insecure {
        let problem = format!(
            "{address} can be reached from other machines, and there are no tokens, so whoever does would be an operator; \
             make a token first, with `jobql token create --scope operator`, or listen on 127.0.0.1, or say --insecure"
        );
        return Err(ConfigError::new("--listen (JOBQL_LISTEN)", problem).into());
    }
    tracing::warn!(http.address = %address, "there are no tokens: whoever reaches this address is an operator");
    Ok(access)
}
