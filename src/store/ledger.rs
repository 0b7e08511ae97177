//! The ledger: counts of jobs that every change of jobs keeps exact, so that positions and queues need not be counted.
//!
//! Triggers append to `job_count_change`, in the transaction of each statement, what it moved; [`Store::fold_counts`]
//! folds that into `job_count` and `ready_block`. A reader adds up both in one statement. So it is exact in every snapshot,
//! whoever changes jobs and whenever a process dies; without folding it only gets slower.
//!
//! Only what passes by the triggers, such as `ALTER TABLE job DISABLE TRIGGER`, leaves it wrong. [`Store::wrong_counts`]
//! compares it with a count of all jobs in one snapshot; [`Store::repair_counts`] counts anew.

use sqlx::{PgPool, Row};

use super::list::JobFilter;
use super::{Store, compare, is_due};
use crate::error::{Error, Result};

/// A block has two to the power of this numbers of `job.seq`. The triggers say the same.
pub(super) const BLOCK_BITS: i32 = 11;

/// Changes that one transaction folds.
const BATCH: i64 = 20_000;
/// After so many folded changes their table is vacuumed: readers walk over what is dead in it.
const VACUUM_AFTER: u64 = 2_000;
/// Names the lock under which is folded; any constant will do.
const FOLD_LOCK: i64 = 0x6a6f_6271_6c00_0040;

/// Folds changes into the counts. Those that it takes are gone for every snapshot in which the counts have them.
const FOLD_SQL: &str = "
    WITH turn AS MATERIALIZED (
        SELECT pg_try_advisory_xact_lock($1) AS is_ours
    ), taken AS MATERIALIZED (
        DELETE FROM job_count_change
        WHERE ctid = ANY(ARRAY(SELECT ctid FROM job_count_change WHERE (SELECT is_ours FROM turn) LIMIT $2))
        RETURNING queue, status, level, block, kind, jobs
    ), counted AS (
        INSERT INTO job_count (queue, status, level, kind, jobs)
        SELECT queue, status, level, kind, sum(jobs) FROM taken
        GROUP BY queue, status, level, kind HAVING sum(jobs) <> 0
        ORDER BY queue, status, level, kind
        ON CONFLICT (queue, status, level, kind) DO UPDATE SET jobs = job_count.jobs + excluded.jobs
    ), placed AS (
        INSERT INTO ready_block (queue, level, block, kind, jobs)
        SELECT queue, level, block, kind, sum(jobs) FROM taken
        WHERE status = 'PENDING'
        GROUP BY queue, level, block, kind HAVING sum(jobs) <> 0
        ORDER BY queue, level, block, kind
        ON CONFLICT (queue, level, block, kind) DO UPDATE SET jobs = ready_block.jobs + excluded.jobs
    )
    SELECT count(*) AS folded FROM taken";

/// What the ledger says and what is, where these differ. One statement, so one snapshot.
const WRONG_SQL: &str = "
    WITH said AS (
        SELECT queue, status, level, block, kind, sum(jobs) AS jobs
        FROM (SELECT queue, status, level, block, kind, jobs FROM job_count_change
              UNION ALL
              SELECT queue, 'PENDING', level, block, kind, jobs FROM ready_block
              UNION ALL
              SELECT queue, status, level, 0, kind, jobs FROM job_count WHERE status <> 'PENDING') AS part
        GROUP BY queue, status, level, block, kind
    ), said_of_levels AS (
        SELECT queue, status, level, kind, sum(jobs) AS jobs
        FROM (SELECT queue, status, level, kind, jobs FROM job_count_change WHERE status = 'PENDING'
              UNION ALL
              SELECT queue, status, level, kind, jobs FROM job_count WHERE status = 'PENDING') AS part
        GROUP BY queue, status, level, kind
    ), counted AS MATERIALIZED (
        SELECT queue, status, CASE status WHEN 'PENDING' THEN level ELSE 0 END AS level,
               CASE status WHEN 'PENDING' THEN seq >> 11 ELSE 0 END AS block, kind, count(*) AS jobs
        FROM job GROUP BY 1, 2, 3, 4, 5
    )
    SELECT count(*) AS wrong FROM (
        SELECT FROM said FULL JOIN counted USING (queue, status, level, block, kind)
        WHERE COALESCE(said.jobs, 0) <> COALESCE(counted.jobs, 0)
        UNION ALL
        SELECT FROM said_of_levels
        FULL JOIN (SELECT queue, status, level, kind, sum(jobs) AS jobs FROM counted WHERE status = 'PENDING'
                   GROUP BY 1, 2, 3, 4) AS counted USING (queue, status, level, kind)
        WHERE COALESCE(said_of_levels.jobs, 0) <> COALESCE(counted.jobs, 0)
    ) AS differences";

/// Counts anew; nothing else may write jobs meanwhile.
const COUNT_ANEW: [&str; 5] = [
    "DELETE FROM job_count_change",
    "DELETE FROM job_count",
    "DELETE FROM ready_block",
    "INSERT INTO job_count (queue, status, level, kind, jobs)
     SELECT queue, status, CASE status WHEN 'PENDING' THEN level ELSE 0 END, kind, count(*) FROM job GROUP BY 1, 2, 3, 4",
    "INSERT INTO ready_block (queue, level, block, kind, jobs)
     SELECT queue, level, seq >> 11, kind, count(*) FROM job WHERE status = 'PENDING' GROUP BY 1, 2, 3, 4",
];

impl Store {
    /// Folds what has changed into the counts, and says how many changes that were; nothing while another process does
    /// so.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn fold_counts(&self) -> Result<u64> {
        let pool = self.upkeep.clone();
        self.detached("fold the counts of jobs", async move {
            let failed = |source| Error::database("fold the counts of jobs", source);
            let (mut folded, mut since_vacuum) = (0, 0);
            loop {
                let batch = fold_batch(&pool).await.map_err(failed)?;
                folded += batch;
                since_vacuum += batch;
                // A few at a time leave little that is dead; autovacuum sees to that.
                if since_vacuum >= VACUUM_AFTER {
                    since_vacuum = 0;
                    sqlx::query("VACUUM job_count_change").execute(&pool).await.map_err(failed)?;
                }
                if batch < BATCH.unsigned_abs() {
                    return Ok(folded);
                }
            }
        })
        .await
    }

    /// In how many places the ledger differs from a count of all jobs, in one snapshot.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn wrong_counts(&self) -> Result<i64> {
        let wrong = compare::wrong(&self.work, WRONG_SQL).await;
        wrong.map_err(|source| Error::database("check the counts of jobs", source))
    }

    /// Counts anew. Nobody can change jobs meanwhile.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn repair_counts(&self) -> Result<()> {
        let pool = self.work.clone();
        self.detached("repair the counts of jobs", async move {
            let counted = compare::write_anew(
                &pool,
                "LOCK TABLE job, job_count_change IN SHARE ROW EXCLUSIVE MODE",
                &COUNT_ANEW,
            );
            counted.await.map_err(|source| Error::database("repair the counts of jobs", source))
        })
        .await
    }

    /// How many jobs match, where the ledger can tell: a filter by status, kind and queue only.
    pub(super) async fn count_in_ledger(&self, filter: &JobFilter) -> Result<Option<u64>> {
        let JobFilter { ids, status, client_id, kind, queue, workflow_id, created_after, created_before } =
            filter;
        let by_count_only = ids.is_none()
            && client_id.is_none()
            && workflow_id.is_none()
            && created_after.is_none()
            && created_before.is_none();
        if !by_count_only {
            return Ok(None);
        }
        let status = status.as_ref().map(|some| some.iter().map(|one| one.as_str()).collect::<Vec<_>>());
        let jobs: i64 = sqlx::query(
            "SELECT COALESCE(sum(jobs), 0)::bigint AS jobs
             FROM (SELECT queue, status, kind, jobs FROM job_count
                   UNION ALL SELECT queue, status, kind, jobs FROM job_count_change) AS part
             WHERE ($1::text[] IS NULL OR status = ANY($1)) AND ($2::text[] IS NULL OR kind = ANY($2))
                 AND ($3::text[] IS NULL OR queue = ANY($3))",
        )
        .bind(status)
        .bind(kind)
        .bind(queue)
        .fetch_one(&self.pool)
        .await
        .and_then(|row| row.try_get("jobs"))
        .map_err(|source| Error::database("count jobs", source))?;
        Ok(u64::try_from(jobs).ok())
    }
}

async fn fold_batch(pool: &PgPool) -> sqlx::Result<u64> {
    if !is_due(pool, "SELECT EXISTS (SELECT FROM job_count_change)").await? {
        return Ok(0);
    }
    let mut transaction = pool.begin().await?;
    let folded: i64 = sqlx::query(FOLD_SQL)
        .bind(FOLD_LOCK)
        .bind(BATCH)
        .fetch_one(&mut *transaction)
        .await?
        .try_get("folded")?;
    if folded > 0 {
        // Blocks that are over; a statement does not see what its own CTEs have changed.
        sqlx::query("DELETE FROM job_count WHERE jobs = 0").execute(&mut *transaction).await?;
        sqlx::query("DELETE FROM ready_block WHERE jobs = 0").execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(folded.unsigned_abs())
}
