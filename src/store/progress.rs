//! Progress of running jobs, many in one statement, fenced like everything a worker writes.

use std::collections::HashSet;

use sqlx::{PgPool, Row};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::group::{GroupSpec, GroupWriter};
use super::lease::Lease;
use super::{Store, bounded};
use crate::error::{Error, Result};

/// How far a job is.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// The fence.
    pub lease: Lease,
    /// 0 to 1.
    pub fraction: Option<f64>,
    /// For people; must hold no NUL.
    pub message: Option<String>,
}

impl Store {
    /// Notes the progress; the latest is kept.
    ///
    /// # Errors
    /// `LeaseLost`, `Unavailable`, `Database`.
    pub async fn report_progress_if_leased(&self, progress: Progress) -> Result<()> {
        self.progress.write(progress).await
    }
}

pub(super) fn writer(pool: &PgPool, tasks: &TaskTracker) -> GroupWriter<Progress, ()> {
    let pool = pool.clone();
    GroupWriter::spawn(
        tasks,
        GroupSpec {
            operation: "report progress",
            weigh: |progress: &Progress| progress.message.as_ref().map_or(0, String::len),
            commit: move |batch| {
                let pool = pool.clone();
                async move { commit_batch(&pool, batch).await }
            },
        },
    )
}

async fn commit_batch(pool: &PgPool, batch: Vec<Progress>) -> Vec<Result<()>> {
    let mut latest: Vec<&Progress> = batch.iter().collect();
    // In id order for the locks; of several about one job the last one stays.
    latest.reverse();
    latest.sort_by_key(|progress| progress.lease);
    latest.dedup_by_key(|progress| progress.lease);
    // By id, and not through the index of running jobs: see `finish::DONE_SQL`.
    let written = bounded(sqlx::query(
        "UPDATE job
         SET version = version + 1, progress_fraction = COALESCE(said.fraction, progress_fraction),
             progress_message = COALESCE(said.message, progress_message), progress_at = now()
         FROM unnest($1::uuid[], $2::integer[], $3::float8[], $4::text[]) AS said(id, epoch, fraction, message)
         WHERE job.id = said.id AND job.status || '' = 'RUNNING' AND job.lease_epoch = said.epoch
         RETURNING job.id, job.lease_epoch",
    )
    .bind(latest.iter().map(|progress| progress.lease.job_id).collect::<Vec<Uuid>>())
    .bind(latest.iter().map(|progress| progress.lease.epoch).collect::<Vec<i32>>())
    .bind(latest.iter().map(|progress| progress.fraction.map(|f| f.clamp(0.0, 1.0))).collect::<Vec<Option<f64>>>())
    .bind(latest.iter().map(|progress| progress.message.as_deref()).collect::<Vec<Option<&str>>>())
    .fetch_all(pool))
    .await
    .and_then(|rows| {
        rows.iter()
            .map(|row| Ok(Lease { job_id: row.try_get("id")?, epoch: row.try_get("lease_epoch")? }))
            .collect::<sqlx::Result<HashSet<Lease>>>()
    });
    match written {
        Ok(written) => batch
            .iter()
            .map(|progress| if written.contains(&progress.lease) { Ok(()) } else { Err(Error::LeaseLost) })
            .collect(),
        Err(source) => {
            let mut first = Some(Error::database("report progress", source));
            let rest = || Error::Unavailable { operation: "report progress", source: None };
            batch.iter().map(|_| Err(first.take().unwrap_or_else(rest))).collect()
        }
    }
}
