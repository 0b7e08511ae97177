//! How long attempts of workers over the API took, for estimates and the throughput.
//!
//! A process of jobql times its own handlers. An attempt elsewhere is timed by the database, from its claim to its end, so
//! that no other clock is asked. Ends are noted in memory as they are answered, and added up by one statement every few
//! seconds; a process that is killed in between has counted a few less. An attempt that was given back is none, and one
//! whose job was posted and accepted held no slot.

use std::sync::{Arc, Mutex, PoisonError};

use super::Store;
use super::lease::Lease;
use crate::error::{Error, Result};

/// Ends that wait to be added up; more than a process answers between two rounds.
const MOST_NOTED: usize = 100_000;

/// The ends that have not been added up yet.
#[derive(Clone, Debug, Default)]
pub(super) struct EndedExternally(Arc<Mutex<Vec<Lease>>>);

impl EndedExternally {
    fn take(&self) -> Vec<Lease> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store {
    /// An attempt of a worker over the API has ended, with a result or an error.
    pub fn note_external_end(&self, lease: Lease) {
        let mut noted = self.ended_externally.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() < MOST_NOTED {
            noted.push(lease);
        }
    }

    /// Adds up what was noted. How many attempts that were.
    ///
    /// # Errors
    /// `Unavailable`, `Database`; what was noted is forgotten then, as estimates live of what comes.
    pub async fn add_external_durations(&self) -> Result<i64> {
        let ended = self.ended_externally.take();
        if ended.is_empty() {
            return Ok(0);
        }
        let pool = self.upkeep.clone();
        self.detached("add up durations", async move {
            sqlx::query_scalar(ADD_SQL)
                .bind(ended.iter().map(|lease| lease.job_id).collect::<Vec<_>>())
                .bind(ended.iter().map(|lease| lease.epoch).collect::<Vec<_>>())
                .bind(super::external::HTTP_OWNER)
                .fetch_one(&pool)
                .await
                .map_err(|source| Error::database("add up durations", source))
        })
        .await
    }
}

/// An attempt that ended well has no row: the job tells of it, and DONE is final.
const ADD_SQL: &str = "
    WITH took AS (
        SELECT job.kind, COALESCE(attempt.worker_id, job.worker_id) AS worker_id,
               extract(epoch FROM COALESCE(attempt.ended_at - attempt.started_at, job.finished_at - job.started_at)) AS seconds
        FROM unnest($1::uuid[], $2::integer[]) AS ended(id, epoch)
        JOIN job ON job.id = ended.id
        LEFT JOIN attempt ON attempt.job_id = ended.id AND attempt.lease_epoch = ended.epoch
        WHERE attempt.job_id IS NOT NULL OR (job.status = 'DONE' AND job.lease_epoch = ended.epoch)
    ), added AS (
        SELECT kind, count(*) AS jobs, sum(seconds)::float8 AS seconds
        FROM took LEFT JOIN worker ON worker.id = took.worker_id
        WHERE worker.owner IS DISTINCT FROM $3
        GROUP BY kind
    ), written AS (
        INSERT INTO kind_duration (kind, minute, jobs, seconds)
        SELECT kind, date_trunc('minute', now()), jobs, seconds FROM added ORDER BY kind
        ON CONFLICT (kind, minute) DO UPDATE
        SET jobs = kind_duration.jobs + EXCLUDED.jobs, seconds = kind_duration.seconds + EXCLUDED.seconds
    )
    SELECT COALESCE(sum(jobs), 0)::bigint FROM added";
