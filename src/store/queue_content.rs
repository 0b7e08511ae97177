//! What is in queues: counts by status and kind from the ledger, and since when the oldest waits, in one snapshot.
//!
//! The ledger tells in which block each kind has its first pending job of a level, so no more than a block is looked
//! through for it. Within a level the job with the lowest number is the one that became ready first.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use entity::JobStatus;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::ledger::BLOCK_BITS;
use super::{Store, read};
use crate::error::{Error, Result};

/// Jobs by status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusCounts([i64; JobStatus::ALL.len()]);

impl StatusCounts {
    /// How many stand in `status`.
    pub fn of(&self, status: JobStatus) -> i64 {
        self.0.get(status as usize).copied().unwrap_or_default()
    }

    /// So many more in `status`.
    pub(super) fn add(&mut self, status: JobStatus, count: i64) {
        if let Some(place) = self.0.get_mut(status as usize) {
            *place += count;
        }
    }
}

/// What is in a queue, or what of it is of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Jobs by status.
    pub counts: StatusCounts,
    /// When the pending job that has waited longest became ready.
    pub oldest_pending_at: Option<DateTime<Utc>>,
    /// Priority of the pending job that is served first.
    pub highest_priority: Option<i16>,
}

impl Content {
    fn join(&mut self, other: &Content) {
        for status in JobStatus::ALL {
            self.counts.add(status, other.counts.of(status));
        }
        self.oldest_pending_at = self.oldest_pending_at.into_iter().chain(other.oldest_pending_at).min();
        self.highest_priority = self.highest_priority.into_iter().chain(other.highest_priority).min();
    }
}

/// A queue from inside, in one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueContent {
    /// All of it.
    pub total: Content,
    /// The same by kind.
    pub by_kind: BTreeMap<String, Content>,
}

/// What is in the queues `$1`, a row for each kind and status; a test pins its plan.
pub fn queue_content_sql() -> String {
    format!(
        "WITH change AS MATERIALIZED (
             SELECT queue, status, level, block, kind, jobs FROM job_count_change WHERE queue = ANY($1)
         ), counted AS (
             SELECT queue, kind, status, sum(jobs)::bigint AS jobs
             FROM (SELECT queue, kind, status, jobs FROM job_count WHERE queue = ANY($1)
                   UNION ALL SELECT queue, kind, status, jobs FROM change) AS part
             GROUP BY queue, kind, status HAVING sum(jobs) <> 0
         ), block_count AS (
             SELECT queue, level, block, kind
             FROM (SELECT queue, level, block, kind, jobs FROM ready_block WHERE queue = ANY($1)
                   UNION ALL SELECT queue, level, block, kind, jobs FROM change WHERE status = 'PENDING') AS part
             GROUP BY queue, level, block, kind HAVING sum(jobs) <> 0
         ), first_block AS MATERIALIZED (
             SELECT queue, kind, level, min(block) AS block FROM block_count GROUP BY queue, kind, level
         ), waiting AS (
             SELECT first_block.queue, first_block.kind, min(oldest.run_at) AS oldest_pending_at,
                    (array_agg(oldest.priority ORDER BY first_block.level))[1] AS highest_priority
             FROM first_block CROSS JOIN LATERAL (
                 SELECT run_at, priority FROM job
                 WHERE job.status = 'PENDING' AND job.queue = first_block.queue AND job.level = first_block.level
                     AND job.seq >= first_block.block << {BLOCK_BITS}
                     AND job.seq < (first_block.block + 1) << {BLOCK_BITS}
                     AND job.kind = first_block.kind
                 ORDER BY job.queue, job.level, job.seq
                 LIMIT 1
             ) AS oldest
             GROUP BY first_block.queue, first_block.kind
         )
         SELECT queue, kind, status, jobs, oldest_pending_at, highest_priority
         FROM counted LEFT JOIN waiting USING (queue, kind)"
    )
}

impl Store {
    /// What is in these queues, from one snapshot.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn queue_content(&self, names: &[String]) -> Result<HashMap<String, QueueContent>> {
        let failed = |source| Error::database("count the jobs of queues", source);
        let rows = sqlx::query(sqlx::AssertSqlSafe(queue_content_sql()))
            .bind(names)
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        let mut content: HashMap<String, QueueContent> = HashMap::new();
        for row in &rows {
            let (queue, kind, part) = content_of(row).map_err(failed)?;
            let queue = content.entry(queue).or_default();
            queue.total.join(&part);
            queue.by_kind.entry(kind).or_default().join(&part);
        }
        Ok(content)
    }

    /// How many pending jobs of the queue there are without these kinds.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn count_upcoming(&self, queue: &str, except_kinds: &[String]) -> Result<i64> {
        sqlx::query(
            "SELECT COALESCE(sum(jobs), 0)::bigint AS jobs
             FROM (SELECT queue, status, kind, jobs FROM job_count
                   UNION ALL SELECT queue, status, kind, jobs FROM job_count_change) AS part
             WHERE status = 'PENDING' AND queue = $1 AND kind <> ALL($2)",
        )
        .bind(queue)
        .bind(except_kinds)
        .fetch_one(&self.pool)
        .await
        .and_then(|row| row.try_get("jobs"))
        .map_err(|source| Error::database("count upcoming jobs", source))
    }
}

fn content_of(row: &PgRow) -> sqlx::Result<(String, String, Content)> {
    let mut content = Content::default();
    let status = read::status(row, "status")?;
    content.counts.add(status, row.try_get("jobs")?);
    if status == JobStatus::Pending {
        content.oldest_pending_at = row.try_get("oldest_pending_at")?;
        content.highest_priority = row.try_get("highest_priority")?;
    }
    Ok((row.try_get("queue")?, row.try_get("kind")?, content))
}
