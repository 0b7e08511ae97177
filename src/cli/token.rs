//! `jobql token`: makes, lists and revokes API tokens.
//!
//! The secret is printed to standard output, once and alone, so that a script can take it; what is said about it goes to
//! standard error. Nothing takes a secret as an argument, where other users of the machine could read it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand, ValueEnum};
use entity::api_token;
use jobql::config::{Config, ConfigError};
use jobql::job::submission::checked_id;
use jobql::job::token::TokenSecret;
use jobql::postgres;
use jobql::store::Store;
use jobql::store::token::{NewToken, Revocation, TokenHolder};
use serde_json::json;
use uuid::Uuid;

/// Longest time that a token may be asked to hold.
const MAX_DAYS: u64 = 36_500;

/// What to do about tokens.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token and print its secret, which is not shown again
    Create(Create),
    /// List all tokens, revoked and expired ones too, without their secrets
    List {
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token for good; what is open with it is closed within seconds
    Revoke {
        /// The id, as `token list` shows it
        id: Uuid,
    },
}

/// A token to be made.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "The token")]
pub(super) struct Create {
    /// What it lets its holder do
    #[arg(long, value_enum)]
    scope: Scope,
    /// The client whose jobs they are; for the scope client
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// A kind that it may work on; for the scope worker, may be repeated
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// What people call it
    #[arg(long, value_name = "TEXT", default_value = "")]
    name: String,
    /// How long it is valid, as 90s, 30m, 12h, 30d [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    expires_in: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scope {
    /// Submit jobs, and see and change those of its client id
    Client,
    /// See the jobs of its kinds, and work on them
    Worker,
    /// Everything
    Operator,
}

/// Does what is asked, on the database of the configuration, whose tables are brought up to date first.
pub(super) async fn run(config: Config, command: TokenCommand) -> anyhow::Result<()> {
    let new_token = match &command {
        TokenCommand::Create(create) => Some(create.checked(&config)?),
        TokenCommand::List { .. } | TokenCommand::Revoke { .. } => None,
    };
    let database = postgres::open(&config).await?;
    let done = match super::migrate(&database).await {
        Ok(()) => {
            let store = Store::of(&database);
            let done = match (&command, new_token) {
                (TokenCommand::Create(_), Some(new_token)) => create(&store, new_token).await,
                (TokenCommand::Create(_), None) => Ok(()),
                (TokenCommand::List { json }, _) => list(&store, *json).await,
                (TokenCommand::Revoke { id }, _) => revoke(&store, *id).await,
            };
            store.close().await;
            done
        }
        Err(error) => Err(error),
    };
    database.close().await;
    done
}

async fn create(store: &Store, new_token: NewToken) -> anyhow::Result<()> {
    let secret = TokenSecret::new()?;
    let is_first = !store.has_tokens().await?;
    let token = store.create_token(new_token, secret.hash()).await?;
    let until = token.expires_at.map_or_else(|| "for ever".to_owned(), |at| format!("until {}", shown(at)));
    eprintln!("made token {} for {}, valid {until}; the secret is not shown again", token.id, holder(&token));
    if is_first {
        eprintln!("this is the first one: from now on nobody comes in without a token");
    }
    print(&format!("{}\n", secret.expose()))
}

async fn list(store: &Store, as_json: bool) -> anyhow::Result<()> {
    let (tokens, now) = store.tokens().await?;
    if as_json {
        let tokens: Vec<_> = tokens.iter().map(|token| as_object(token, now)).collect();
        return print(&format!("{}\n", serde_json::to_string_pretty(&tokens)?));
    }
    let mut table =
        format!("{:36}  {:8}  {:20}  {:20}  {:20}  NAME\n", "ID", "STATE", "CREATED", "EXPIRES", "FOR");
    for token in &tokens {
        let expires = token.expires_at.map_or_else(|| "never".to_owned(), shown);
        let (state, created, holder) = (state(token, now), shown(token.created_at), holder(token));
        writeln!(table, "{}  {state:8}  {created:20}  {expires:20}  {holder:20}  {}", token.id, token.name)?;
    }
    print(&table)
}

async fn revoke(store: &Store, id: Uuid) -> anyhow::Result<()> {
    match store.revoke_token(id).await? {
        Revocation::Revoked => eprintln!("revoked token {id}; what is open with it is closed within seconds"),
        Revocation::WasRevoked => eprintln!("token {id} was revoked before"),
    }
    Ok(())
}

impl Create {
    fn checked(&self, config: &Config) -> Result<NewToken, ConfigError> {
        let refused = |flag: &str, problem: String| ConfigError::new(flag, problem);
        if self.client_id.is_some() && self.scope != Scope::Client {
            return Err(refused("--client-id", "is for the scope client only".to_owned()));
        }
        if !self.kinds.is_empty() && self.scope != Scope::Worker {
            return Err(refused("--kind", "is for the scope worker only".to_owned()));
        }
        if self.name.chars().count() > 128 || self.name.chars().any(char::is_control) {
            return Err(refused(
                "--name",
                "allowed are at most 128 characters, no control characters".to_owned(),
            ));
        }
        let holder = match self.scope {
            Scope::Operator => TokenHolder::Operator,
            Scope::Client => {
                let given = self.client_id.clone();
                let given = given
                    .ok_or_else(|| refused("--client-id", "missing; a client's token needs it".to_owned()))?;
                let checked = checked_id("client id", given);
                TokenHolder::Client(checked.map_err(|error| refused("--client-id", error.to_string()))?)
            }
            Scope::Worker => {
                if self.kinds.is_empty() {
                    return Err(refused("--kind", "missing; a worker's token needs one or more".to_owned()));
                }
                if let Some(unknown) = self.kinds.iter().find(|kind| config.kinds.get(kind).is_none()) {
                    let known: Vec<&str> = config.kinds.iter().map(|kind| kind.name.as_str()).collect();
                    let problem =
                        format!("the configuration has no kind {unknown:?}; it has {}", known.join(", "));
                    return Err(refused("--kind", problem));
                }
                let mut kinds = self.kinds.clone();
                kinds.sort_unstable();
                kinds.dedup();
                TokenHolder::Worker(kinds)
            }
        };
        Ok(NewToken { name: self.name.clone(), holder, expires_in: self.expires_in })
    }
}

fn holder(token: &api_token::Model) -> String {
    match (&token.client_id, &token.kinds) {
        (Some(client_id), _) => format!("client {client_id}"),
        (None, Some(kinds)) => format!("worker of {}", kinds.join(", ")),
        (None, None) => "operator".to_owned(),
    }
}

fn state(token: &api_token::Model, now: DateTime<Utc>) -> &'static str {
    if token.revoked_at.is_some() {
        "revoked"
    } else if token.expires_at.is_some_and(|expires_at| expires_at <= now) {
        "expired"
    } else {
        "valid"
    }
}

fn as_object(token: &api_token::Model, now: DateTime<Utc>) -> serde_json::Value {
    json!({
        "id": token.id,
        "name": token.name,
        "scope": token.scope.as_str(),
        "clientId": token.client_id,
        "kinds": token.kinds,
        "state": state(token, now),
        "createdAt": shown(token.created_at),
        "expiresAt": token.expires_at.map(shown),
        "revokedAt": token.revoked_at.map(shown),
    })
}

fn shown(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

/// Reads `90s`, `30m`, `12h`, `30d`.
fn duration(text: &str) -> Result<Duration, String> {
    let refused = || format!("allowed are such as 90s, 30m, 12h and 30d, and at most {MAX_DAYS}d");
    let unit = text.chars().last().ok_or_else(refused)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(refused()),
    };
    let number = text.strip_suffix(unit).and_then(|number| number.parse::<u64>().ok()).ok_or_else(refused)?;
    let seconds = number.checked_mul(seconds).filter(|seconds| (1..=MAX_DAYS * 86_400).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for text in ["", "d", "30", "0s", "-1d", "1.5h", "1w", "36501d", "99999999999999999999d", "１d", "1ä"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
