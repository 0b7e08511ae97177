//! Log lines: appended many in one statement, fenced like everything a worker writes, and read in their order.
//!
//! An append holds the job's row until it commits, so that the attempt cannot end and another cannot start meanwhile.
//! So lines become visible in the order of their places, and all of them before the end of the job.

use std::collections::HashSet;
use std::time::Duration;

use entity::job_log::{self, LogStream};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use sqlx::{PgPool, Row};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::group::{GroupSpec, GroupWriter};
use super::lease::Lease;
use super::{Store, sight};
use crate::error::{Error, Result};
use crate::job::viewer::Viewer;

/// Lines of one attempt, in order.
#[derive(Clone, Debug)]
pub struct LogBatch {
    /// The fence.
    pub lease: Lease,
    /// What was printed.
    pub lines: Vec<NewLine>,
}

/// A line that is not stored yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLine {
    /// Counts the lines of the attempt.
    pub number: i32,
    /// Where it came from.
    pub stream: LogStream,
    /// Must hold no NUL.
    pub text: String,
    /// How long ago it came.
    pub age: Duration,
}

/// The place of a line in its job's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPlace {
    /// The attempt.
    pub epoch: i32,
    /// The line within it.
    pub number: i32,
}

impl LogPlace {
    /// Where the line stands.
    pub fn of(line: &job_log::Model) -> LogPlace {
        LogPlace { epoch: line.lease_epoch, number: line.number }
    }
}

impl Store {
    /// Appends lines; a line that is there already is left as it is, so an append can be repeated.
    ///
    /// # Errors
    /// `LeaseLost`, `Unavailable`, `Database`.
    pub async fn append_logs_if_leased(&self, batch: LogBatch) -> Result<()> {
        self.logs.write(batch).await
    }

    /// Lines of the job after a place, in order, at most `limit`; none when the job is another client's.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn logs(
        &self,
        viewer: &Viewer,
        job_id: Uuid,
        after: Option<LogPlace>,
        limit: u64,
    ) -> Result<Vec<job_log::Model>> {
        let mut query = job_log::Entity::find().filter(job_log::Column::JobId.eq(job_id));
        if let Some(after) = after {
            query = query.filter(
                Condition::any().add(job_log::Column::LeaseEpoch.gt(after.epoch)).add(
                    Condition::all()
                        .add(job_log::Column::LeaseEpoch.eq(after.epoch))
                        .add(job_log::Column::Number.gt(after.number)),
                ),
            );
        }
        if let Some(visible) = sight::visible_of(viewer, &[job_id]) {
            query = query.filter(job_log::Column::JobId.in_subquery(visible));
        }
        query
            .order_by_asc(job_log::Column::LeaseEpoch)
            .order_by_asc(job_log::Column::Number)
            .limit(limit)
            .all(&self.orm)
            .await
            .map_err(|source| Error::orm("read logs", source))
    }
}

/// Lines of one attempt that are kept.
pub const MAX_LINES: i32 = 10_000;
/// Bytes of the lines of one attempt that are kept.
pub const MAX_BYTES: usize = 1 << 20;
/// What stands in place of the first line that is not kept.
pub const LOG_IS_FULL: &str = "the log is full; later lines are not kept";

pub(super) fn writer(pool: &PgPool, tasks: &TaskTracker) -> GroupWriter<LogBatch, ()> {
    let pool = pool.clone();
    GroupWriter::spawn(
        tasks,
        GroupSpec {
            operation: "append logs",
            weigh: |batch: &LogBatch| batch.lines.iter().map(|line| line.text.len() + 64).sum(),
            commit: move |batches| {
                let pool = pool.clone();
                async move { commit_batches(&pool, batches).await }
            },
        },
    )
}

async fn commit_batches(pool: &PgPool, batches: Vec<LogBatch>) -> Vec<Result<()>> {
    match write(pool, &batches).await {
        Ok(held) => batches
            .iter()
            .map(|batch| if held.contains(&batch.lease) { Ok(()) } else { Err(Error::LeaseLost) })
            .collect(),
        // Lines that the database refuses fail alone.
        Err(sqlx::Error::Database(_)) if batches.len() > 1 => {
            let mut outcomes = Vec::with_capacity(batches.len());
            for batch in batches {
                outcomes.extend(Box::pin(commit_batches(pool, vec![batch])).await);
            }
            outcomes
        }
        Err(source) => {
            let mut first = Some(Error::database("append logs", source));
            let rest = || Error::Unavailable { operation: "append logs", source: None };
            batches.iter().map(|_| Err(first.take().unwrap_or_else(rest))).collect()
        }
    }
}

async fn write(pool: &PgPool, batches: &[LogBatch]) -> sqlx::Result<HashSet<Lease>> {
    let lines = || batches.iter().flat_map(|batch| batch.lines.iter().map(|line| (batch.lease, line)));
    // By id, and not through the index of running jobs: see `finish::DONE_SQL`.
    let rows = sqlx::query(
        "WITH said AS (
             SELECT * FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::text[], $5::text[], $6::float8[])
                 AS s(job_id, epoch, number, stream, text, age)
         ), held AS MATERIALIZED (
             SELECT job.id, job.lease_epoch
             FROM job JOIN (SELECT DISTINCT job_id, epoch FROM said) AS named
                 ON job.id = named.job_id AND job.lease_epoch = named.epoch
             WHERE job.status || '' = 'RUNNING'
             ORDER BY job.id
             FOR SHARE OF job
         ), noted AS (
             INSERT INTO job_log (job_id, lease_epoch, number, at, stream, text)
             SELECT said.job_id, said.epoch, said.number, now() - make_interval(secs => age), stream, text
             FROM said JOIN held ON held.id = said.job_id AND held.lease_epoch = said.epoch
             ON CONFLICT DO NOTHING
         )
         SELECT id, lease_epoch FROM held",
    )
    .bind(lines().map(|(lease, _)| lease.job_id).collect::<Vec<_>>())
    .bind(lines().map(|(lease, _)| lease.epoch).collect::<Vec<_>>())
    .bind(lines().map(|(_, line)| line.number).collect::<Vec<_>>())
    .bind(lines().map(|(_, line)| line.stream.as_str()).collect::<Vec<_>>())
    .bind(lines().map(|(_, line)| line.text.as_str()).collect::<Vec<_>>())
    .bind(lines().map(|(_, line)| line.age.as_secs_f64()).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| Ok(Lease { job_id: row.try_get("id")?, epoch: row.try_get("lease_epoch")? }))
        .collect()
}
