//! Sweep: takes jobs away from workers that died. It runs in every process, without a leader.
//!
//! A worker whose lease ran out is marked lost, which is final: its next heartbeat fails, and it must register anew.
//! Its jobs then go back. The first loss keeps the job's place; a later one waits its back-off, as the job may be
//! what kills workers; one whose attempts are used up is ERROR, with code WORKER_LOST.

use entity::attempt::AttemptOutcome;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::Store;
use crate::error::{Error, Result};
use crate::job::failure::Failure;

/// Jobs that one statement takes away.
const BATCH: i64 = 500;
/// Back-off after the second and each later loss, doubled each time, in seconds. The kind's own settings are not
/// known to every process that sweeps.
const BACK_OFF_SECONDS: f64 = 5.0;
/// A lost worker is shown for so long.
const KEEP_LOST_WORKERS: &str = "1 hour";

/// How long a claim can be repeated under its id.
const KEEP_CLAIMS: &str = "10 minutes";

/// A worker over the API says no goodbye. One that holds nothing when its lease runs out has left nobody waiting, and
/// is forgotten rather than lost.
const FORGET_IDLE_SQL: &str = "
    DELETE FROM worker
    WHERE owner IS NOT NULL AND lost_at IS NULL AND expires_at < now()
        AND NOT EXISTS (SELECT FROM job WHERE status = 'RUNNING' AND worker_id = worker.id)";

/// What a sweep found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Workers whose lease had run out.
    pub workers: u64,
    /// Jobs that were taken away.
    pub jobs: u64,
}

/// Takes away at most `$1` running jobs: those of workers that are lost, or, where `$3` names a live worker, those
/// of it that are not in `$4` and have run for longer than `$5` seconds.
const LOSE_SQL: &str = "
    WITH lost AS MATERIALIZED (
        SELECT job.id FROM job
        WHERE job.status = 'RUNNING'
            AND CASE WHEN $3::uuid IS NULL
                     THEN NOT EXISTS (SELECT FROM worker WHERE worker.id = job.worker_id AND lost_at IS NULL)
                     ELSE job.worker_id = $3 AND job.id <> ALL($4::uuid[])
                         AND job.started_at < now() - make_interval(secs => $5) END
        ORDER BY job.id
        LIMIT $1
        -- Two sweepers share the work; a job whose end is being written is left to that.
        FOR UPDATE OF job SKIP LOCKED
    ), changed AS (
        UPDATE job
        SET version = version + 1,
            losses = losses + 1,
            status = CASE WHEN cancel_requested_at IS NOT NULL THEN 'CANCELLED'
                          WHEN attempt >= max_attempts THEN 'ERROR'
                          WHEN losses = 0 THEN 'PENDING'
                          ELSE 'SCHEDULED' END,
            finished_at = CASE WHEN cancel_requested_at IS NOT NULL OR attempt >= max_attempts THEN now() END,
            error = CASE WHEN cancel_requested_at IS NULL AND attempt >= max_attempts THEN $6::jsonb END,
            run_at = CASE WHEN cancel_requested_at IS NULL AND attempt < max_attempts AND losses > 0
                          THEN now() + make_interval(secs => $2 * 2 ^ LEAST(losses - 1, 9) * (0.5 + random() / 2))
                          ELSE run_at END
        FROM lost
        WHERE job.id = lost.id AND job.status = 'RUNNING'
        RETURNING job.id, job.lease_epoch, job.started_at, job.worker_id
    ), noted AS (
        INSERT INTO attempt (job_id, lease_epoch, started_at, ended_at, outcome, error, worker_id)
        SELECT id, lease_epoch, started_at, now(), 'WORKER_LOST', $6::jsonb, worker_id FROM changed
    )
    SELECT count(*) AS jobs FROM changed";

impl Store {
    /// Marks the workers whose lease ran out, and takes their jobs away.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn sweep(&self) -> Result<Swept> {
        let (pool, releaser, counts) = (self.upkeep.clone(), self.releaser.clone(), self.counts.clone());
        self.detached("sweep", async move {
            let failed = |source| Error::database("sweep", source);
            sqlx::query(FORGET_IDLE_SQL).execute(&pool).await.map_err(failed)?;
            sqlx::query("DELETE FROM claim WHERE claimed_at < now() - $1::text::interval")
                .bind(KEEP_CLAIMS)
                .execute(&pool)
                .await
                .map_err(failed)?;
            let workers =
                sqlx::query("UPDATE worker SET lost_at = now() WHERE lost_at IS NULL AND expires_at < now()")
                    .execute(&pool)
                    .await
                    .map_err(failed)?
                    .rows_affected();
            sqlx::query("DELETE FROM worker WHERE lost_at < now() - $1::text::interval")
                .bind(KEEP_LOST_WORKERS)
                .execute(&pool)
                .await
                .map_err(failed)?;
            let mut jobs = 0;
            loop {
                let batch = lose(&pool, None, &[], 0).await.map_err(failed)?;
                jobs += batch.unsigned_abs();
                counts.ended(AttemptOutcome::WorkerLost, batch.unsigned_abs());
                if batch < BATCH {
                    if jobs > 0 {
                        releaser.wake();
                    }
                    return Ok(Swept { workers, jobs });
                }
            }
        })
        .await
    }
}

/// Takes away what the worker should hold for longer than a lease but does not name; how many jobs that were.
pub(super) async fn lose_unnamed(
    pool: &PgPool,
    worker_id: Uuid,
    named: &[Uuid],
    lease_seconds: i32,
) -> sqlx::Result<u64> {
    lose(pool, Some(worker_id), named, lease_seconds).await.map(i64::unsigned_abs)
}

async fn lose(
    pool: &PgPool,
    of: Option<Uuid>,
    except: &[Uuid],
    older_than_seconds: i32,
) -> sqlx::Result<i64> {
    sqlx::query(LOSE_SQL)
        .bind(BATCH)
        .bind(BACK_OFF_SECONDS)
        .bind(of)
        .bind(except)
        .bind(f64::from(older_than_seconds))
        .bind(serde_json::json!(Failure::retryable("WORKER_LOST", "the worker died or lost touch")))
        .fetch_one(pool)
        .await?
        .try_get("jobs")
}
