//! What workers have got done: attempts that ended, and the time that they took, by kind and minute. It is what
//! estimates are made from, and kept for a day.

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::Store;
use super::load::LoadRequest;
use crate::error::{Error, Result};

/// The attempts of a kind that ended in some time.
#[derive(Clone, Debug, PartialEq)]
pub struct Throughput {
    /// Start of the minute, or of the bucket.
    pub at: DateTime<Utc>,
    /// The kind.
    pub kind: String,
    /// How many ended.
    pub attempts: i64,
    /// Seconds that they took together.
    pub seconds: f64,
}

impl Store {
    /// By time, then by kind.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn throughput(&self, request: &LoadRequest) -> Result<Vec<Throughput>> {
        sqlx::query(
            "SELECT to_timestamp(floor(extract(epoch FROM minute) / $4) * $4) AS bucket, kind,
                    sum(jobs)::bigint AS attempts, sum(seconds) AS seconds
             FROM kind_duration
             WHERE minute >= $1 AND minute < $2 AND ($3::text[] IS NULL OR kind = ANY($3))
             GROUP BY bucket, kind
             ORDER BY bucket, kind
             LIMIT $5",
        )
        .bind(request.from)
        .bind(request.to)
        .bind(&request.kinds)
        .bind(f64::from(request.bucket_seconds))
        .bind(request.limit)
        .fetch_all(&self.pool)
        .await
        .and_then(|rows| rows.iter().map(throughput).collect())
        .map_err(|source| Error::database("read the throughput", source))
    }
}

fn throughput(row: &PgRow) -> sqlx::Result<Throughput> {
    Ok(Throughput {
        at: row.try_get("bucket")?,
        kind: row.try_get("kind")?,
        attempts: row.try_get("attempts")?,
        seconds: row.try_get("seconds")?,
    })
}
