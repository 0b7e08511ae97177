//! API tokens: made, listed, revoked, and known again by the hash of their secret.
//!
//! Whether one is valid is the database's to say, by its clock. A revoked row stays.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use entity::api_token::{self, TokenScope};
use sea_orm::{EntityTrait, QueryOrder};
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::Store;
use crate::error::{Error, Result};
use crate::job::token::TokenHash;
use crate::job::viewer::{Viewer, WorkerScope};

/// What makes a token valid.
const IS_VALID: &str = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())";

/// A token that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// For people; may be empty.
    pub name: String,
    /// As whom it lets its holder in.
    pub holder: TokenHolder,
    /// For how long; none for ever.
    pub expires_in: Option<Duration>,
}

/// As whom a token lets its holder in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenHolder {
    /// As this client.
    Client(String),
    /// As a worker of these kinds.
    Worker(Vec<String>),
    /// As an operator.
    Operator,
}

/// A token that is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidToken {
    /// What people and logs call it.
    pub id: Uuid,
    /// On whose behalf its holder acts.
    pub viewer: Viewer,
    /// How long it is valid still, unless it is revoked; none for ever.
    pub expires_in: Option<Duration>,
}

/// What became of a wish to revoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// It is revoked from now on.
    Revoked,
    /// It was revoked before.
    WasRevoked,
}

impl Store {
    /// Makes a token with a secret of this hash.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn create_token(
        &self,
        new_token: NewToken,
        secret_hash: TokenHash,
    ) -> Result<api_token::Model> {
        let pool = self.pool.clone();
        self.detached("make a token", async move {
            let (scope, client_id, kinds) = match new_token.holder {
                TokenHolder::Client(client_id) => (TokenScope::Client, Some(client_id), None),
                TokenHolder::Worker(kinds) => (TokenScope::Worker, None, Some(kinds)),
                TokenHolder::Operator => (TokenScope::Operator, None, None),
            };
            sqlx::query(
                "INSERT INTO api_token (id, name, scope, client_id, kinds, secret_hash, expires_at)
                 VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7))
                 RETURNING *",
            )
            .bind(Uuid::now_v7())
            .bind(new_token.name)
            .bind(scope.as_str())
            .bind(client_id)
            .bind(kinds)
            .bind(secret_hash.as_slice())
            .bind(new_token.expires_in.map(|expires_in| expires_in.as_secs_f64()))
            .fetch_one(&pool)
            .await
            .and_then(|row| model(&row, scope))
            .map_err(|source| Error::database("make a token", source))
        })
        .await
    }

    /// All tokens, oldest first, revoked ones too, and the database's time.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn tokens(&self) -> Result<(Vec<api_token::Model>, DateTime<Utc>)> {
        let tokens = api_token::Entity::find()
            .order_by_asc(api_token::Column::Id)
            .all(&self.orm)
            .await
            .map_err(|source| Error::orm("list tokens", source))?;
        let now = sqlx::query("SELECT now() AS now")
            .fetch_one(&self.pool)
            .await
            .and_then(|row| row.try_get("now"))
            .map_err(|source| Error::database("list tokens", source))?;
        Ok((tokens, now))
    }

    /// Revokes a token, for good.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`, `Database`.
    pub async fn revoke_token(&self, id: Uuid) -> Result<Revocation> {
        let pool = self.pool.clone();
        self.detached("revoke a token", async move {
            let failed = |source| Error::database("revoke a token", source);
            let revoked =
                sqlx::query("UPDATE api_token SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL")
                    .bind(id)
                    .execute(&pool)
                    .await
                    .map_err(failed)?;
            if revoked.rows_affected() > 0 {
                return Ok(Revocation::Revoked);
            }
            let known =
                sqlx::query("SELECT FROM api_token WHERE id = $1").bind(id).fetch_optional(&pool).await;
            match known.map_err(failed)? {
                Some(_) => Ok(Revocation::WasRevoked),
                None => Err(Error::NotFound { what: "token", id: id.to_string() }),
            }
        })
        .await
    }

    /// True when a token was ever made.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn has_tokens(&self) -> Result<bool> {
        sqlx::query("SELECT EXISTS (SELECT FROM api_token) AS any")
            .fetch_one(&self.pool)
            .await
            .and_then(|row| row.try_get("any"))
            .map_err(|source| Error::database("look for tokens", source))
    }

    /// Those of the tokens with these hashes that are valid now.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn valid_tokens(&self, hashes: &[TokenHash]) -> Result<HashMap<TokenHash, ValidToken>> {
        let sql = format!(
            "SELECT id, name, scope, client_id, kinds, secret_hash,
                    extract(epoch FROM expires_at - now())::float8 AS expires_in
             FROM api_token WHERE secret_hash = ANY($1) AND {IS_VALID}"
        );
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(hashes.iter().map(|hash| hash.as_slice()).collect::<Vec<_>>())
            .fetch_all(&self.pool)
            .await
            .and_then(|rows| rows.iter().map(valid).collect())
            .map_err(|source| Error::database("verify tokens", source))
    }
}

fn valid(row: &PgRow) -> sqlx::Result<(TokenHash, ValidToken)> {
    let unreadable = |problem: &str| sqlx::Error::Decode(problem.into());
    let id: Uuid = row.try_get("id")?;
    let (client_id, kinds): (Option<String>, Option<Vec<String>>) =
        (row.try_get("client_id")?, row.try_get("kinds")?);
    let viewer = match (row.try_get("scope")?, client_id, kinds) {
        ("CLIENT", Some(client_id), _) => Viewer::Client(client_id),
        ("WORKER", _, Some(kinds)) => {
            let scope = WorkerScope { token: id.to_string(), name: row.try_get("name")?, kinds };
            Viewer::Worker(Arc::new(scope))
        }
        ("OPERATOR", ..) => Viewer::Operator,
        _ => return Err(unreadable("a token of no known scope")),
    };
    let expires_in: Option<f64> = row.try_get("expires_in")?;
    let expires_in = expires_in.map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)));
    let hash: Vec<u8> = row.try_get("secret_hash")?;
    let hash = hash.try_into().map_err(|_| unreadable("a token's hash has the wrong length"))?;
    // One that lies beyond what a duration can hold is as good as none.
    Ok((hash, ValidToken { id, viewer, expires_in: expires_in.and_then(std::result::Result::ok) }))
}

fn model(row: &PgRow, scope: TokenScope) -> sqlx::Result<api_token::Model> {
    Ok(api_token::Model {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        scope,
        client_id: row.try_get("client_id")?,
        kinds: row.try_get("kinds")?,
        secret_hash: row.try_get("secret_hash")?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        revoked_at: row.try_get("revoked_at")?,
    })
}
