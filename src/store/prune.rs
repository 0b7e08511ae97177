//! Prune: finished jobs go after their time, and with them their attempts and logs. It runs in every process, one at a
//! time.
//!
//! Only terminal jobs that ended long enough ago, whose callback does not wait and on which no unfinished job depends go,
//! by the database's clock, in batches of [`BATCH`]. They are found by
//! walking the primary key: ids rise with the time of submit, and what ended long ago was submitted before that, so no
//! index has to be paid for by every job that ends. An idempotency key stays for its own time, and for as long as its
//! job.

use chrono::{TimeDelta, Utc};
use sqlx::{PgPool, Row};
use uuid::{Builder, Uuid};

use super::dependency::IS_NEEDED;
use super::{Store, workflow};
use crate::config::Retention;
use crate::error::{Error, Result};

/// Rows of one transaction.
const BATCH: i64 = 500;
/// Names the lock under which is pruned; any constant will do.
const PRUNE_LOCK: i64 = 0x6a6f_6271_6c00_0003;

/// How much went, or would go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// DONE jobs.
    pub done: i64,
    /// ERROR jobs.
    pub error: i64,
    /// CANCELLED jobs.
    pub cancelled: i64,
    /// Idempotency keys.
    pub keys: i64,
}

impl Pruned {
    /// All of it.
    pub fn total(&self) -> i64 {
        self.done + self.error + self.cancelled + self.keys
    }
}

/// `$1` to `$3` are the days of each status, null for ever; `$4` and `$5` are the ids between which is looked.
const IS_OVER: &str = "id > $4 AND id < $5 AND finished_at < now() - make_interval(days => CASE status
        WHEN 'DONE' THEN $1::integer WHEN 'ERROR' THEN $2::integer WHEN 'CANCELLED' THEN $3::integer END)";

/// The receiver of its callback, if there is one, has been told or was given up.
const IS_TOLD: &str = "(callback_url IS NULL
    OR NOT EXISTS (SELECT FROM callback_delivery WHERE job_id = job.id AND callback_delivery.status = 'WAITING'))";

/// A key without a job or workflow whose time is over.
const KEY_IS_OVER: &str =
    "expires_at < now() AND NOT EXISTS (SELECT FROM job WHERE job.id = submit_key.job_id)
     AND NOT EXISTS (SELECT FROM workflow WHERE workflow.id = submit_key.job_id)";

impl Store {
    /// What a prune would take now.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn count_prunable(&self, retention: &Retention) -> Result<Pruned> {
        let failed = |source| Error::database("count what would be pruned", source);
        let sql = format!(
            "SELECT count(*) FILTER (WHERE status = 'DONE') AS done, count(*) FILTER (WHERE status = 'ERROR') AS error,
                    count(*) FILTER (WHERE status = 'CANCELLED') AS cancelled,
                    (SELECT count(*) FROM submit_key WHERE {KEY_IS_OVER}) AS keys
             FROM job WHERE {IS_OVER} AND {IS_TOLD} AND NOT {IS_NEEDED}"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(retention.done_days)
            .bind(retention.error_days)
            .bind(retention.cancelled_days)
            .bind(Uuid::nil())
            .bind(newest(retention))
            .fetch_one(&self.pool)
            .await
            .map_err(failed)?;
        let count = |column| row.try_get(column).map_err(failed);
        Ok(Pruned {
            done: count("done")?,
            error: count("error")?,
            cancelled: count("cancelled")?,
            keys: count("keys")?,
        })
    }

    /// Takes what is over, batch by batch; nothing while another process does so.
    ///
    /// # Errors
    /// `Unavailable`, `Database`; the batches before it are gone.
    pub async fn prune(&self, retention: Retention) -> Result<Pruned> {
        let pool = self.upkeep.clone();
        self.detached("prune", async move {
            let failed = |source| Error::database("prune", source);
            let mut pruned = Pruned::default();
            let mut last = Some(Uuid::nil());
            while let Some(after) = last {
                last = prune_jobs(&pool, &retention, after, &mut pruned).await.map_err(failed)?;
            }
            workflow::prune(&pool, newest(&retention)).await.map_err(failed)?;
            while prune_keys(&pool, &mut pruned).await.map_err(failed)? == BATCH {}
            Ok(pruned)
        })
        .await
    }
}

/// One batch; the last job of it when there may be more.
async fn prune_jobs(
    pool: &PgPool,
    retention: &Retention,
    after: Uuid,
    pruned: &mut Pruned,
) -> sqlx::Result<Option<Uuid>> {
    let mut transaction = pool.begin().await?;
    let sql = format!(
        "WITH turn AS MATERIALIZED (
             SELECT pg_try_advisory_xact_lock($6) AS is_ours
         )
         SELECT id FROM job
         WHERE {IS_OVER} AND {IS_TOLD} AND (SELECT is_ours FROM turn)
         ORDER BY id
         LIMIT {BATCH}
         -- One that is being retried is not over.
         FOR UPDATE SKIP LOCKED"
    );
    let over: Vec<Uuid> = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(retention.done_days)
        .bind(retention.error_days)
        .bind(retention.cancelled_days)
        .bind(after)
        .bind(newest(retention))
        .bind(PRUNE_LOCK)
        .fetch_all(&mut *transaction)
        .await?
        .iter()
        .map(|row| row.try_get("id"))
        .collect::<sqlx::Result<_>>()?;
    // A submit that names one of them as a parent, or a callback that is promised again, holds the job and changes another
    // row: this statement sees what was committed before the locks.
    let sql = format!(
        "WITH deleted AS (
             DELETE FROM job WHERE id = ANY($1) AND {IS_TOLD} AND NOT {IS_NEEDED} RETURNING status
         )
         SELECT count(*) FILTER (WHERE status = 'DONE') AS done, count(*) FILTER (WHERE status = 'ERROR') AS error,
                count(*) FILTER (WHERE status = 'CANCELLED') AS cancelled
         FROM deleted"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&over).fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    pruned.done += row.try_get::<i64, _>("done")?;
    pruned.error += row.try_get::<i64, _>("error")?;
    pruned.cancelled += row.try_get::<i64, _>("cancelled")?;
    let is_full = i64::try_from(over.len()).is_ok_and(|over| over == BATCH);
    Ok(over.last().copied().filter(|_| is_full))
}

async fn prune_keys(pool: &PgPool, pruned: &mut Pruned) -> sqlx::Result<i64> {
    let sql = format!(
        "WITH gone AS MATERIALIZED (
             SELECT client_id, request_id FROM submit_key
             WHERE {KEY_IS_OVER}
             LIMIT {BATCH}
             FOR UPDATE SKIP LOCKED
         ), deleted AS (
             DELETE FROM submit_key USING gone
             WHERE submit_key.client_id = gone.client_id AND submit_key.request_id = gone.request_id
             RETURNING 1
         )
         SELECT count(*) AS keys FROM deleted"
    );
    let keys: i64 = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await?.try_get("keys")?;
    pruned.keys += keys;
    Ok(keys)
}

/// Above the id of every job that can be over. An hour is for clocks that differ: the database's decides.
fn newest(retention: &Retention) -> Uuid {
    let days = [retention.done_days, retention.error_days, retention.cancelled_days];
    let Some(days) = days.into_iter().flatten().min() else { return Uuid::nil() };
    let before = Utc::now() - TimeDelta::days(days.into()) + TimeDelta::hours(1);
    let millis = u64::try_from(before.timestamp_millis()).unwrap_or_default();
    Builder::from_unix_timestamp_millis(millis, &[0xff; 10]).into_uuid()
}
