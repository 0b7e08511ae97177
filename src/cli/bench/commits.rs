//! When a change of a job was committed, as PostgreSQL noted it.
//!
//! PostgreSQL takes the time as it writes the commit record, before the record is flushed: what is measured from it holds the
//! flush.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use jobql::store::commit_time;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

/// When the last change of each job was committed.
pub(super) async fn last_changes(
    database_url: &str,
    ids: &[String],
) -> anyhow::Result<HashMap<String, DateTime<Utc>>> {
    let ids = ids.iter().map(|id| Uuid::parse_str(id)).collect::<Result<Vec<_>, _>>()?;
    let mut connection = PgConnection::connect(database_url).await?;
    let rows = commit_time::of_last_changes(&mut connection, &ids).await?;
    Ok(rows.into_iter().map(|(id, at)| (id.to_string(), at)).collect())
}

/// How long after it something was seen; nothing when the clock was set back meanwhile.
pub(super) fn since(committed_at: DateTime<Utc>, seen_at: DateTime<Utc>) -> Duration {
    (seen_at - committed_at).to_std().unwrap_or_default()
}
