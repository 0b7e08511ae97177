//! Leases: one per worker process, moved by its heartbeat, which also tells it what it has lost and what it should
//! stop.
//!
//! A job that runs names its worker and its epoch; both must fit for a job to be held. A job that the worker should
//! hold for longer than a lease but does not name was lost on the way to it, and goes back as one that lost its
//! worker.

use chrono::{DateTime, Utc};
use entity::attempt::AttemptOutcome;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::{Store, sweep};
use crate::error::{Error, Result};

/// What fences every write about a running job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    /// The job.
    pub job_id: Uuid,
    /// Counts the starts of the job; a later start makes this lease void.
    pub epoch: i32,
}

/// What a heartbeat learns about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// Go on.
    Held,
    /// It is another worker's, or over: stop, and write nothing more.
    Lost,
    /// Stop, and say so.
    CancelRequested,
}

/// What a heartbeat learns.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// The state of each lease that was named.
    pub states: Vec<(Lease, LeaseState)>,
    /// The new end of the worker's lease, by the database's clock.
    pub expires_at: DateTime<Utc>,
    /// The worker was asked to finish what it has and to stop.
    pub draining: bool,
}

impl Store {
    /// Moves the worker's lease and tells the state of each of `held`.
    ///
    /// # Errors
    /// `LeaseLost` when the worker was found dead meanwhile: everything it held is lost, and it must register anew
    /// under a fresh id. `Unavailable`, `Database`.
    pub async fn heartbeat(
        &self,
        worker_id: Uuid,
        held: Vec<Lease>,
        lease_seconds: i32,
    ) -> Result<Heartbeat> {
        let (pool, counts) = (self.work.clone(), self.counts.clone());
        self.detached("send a heartbeat", async move {
            let failed = |source| Error::database("send a heartbeat", source);
            let job_ids: Vec<Uuid> = held.iter().map(|lease| lease.job_id).collect();
            let epochs: Vec<i32> = held.iter().map(|lease| lease.epoch).collect();
            let alive = sqlx::query(
                "UPDATE worker SET last_seen_at = now(), expires_at = now() + make_interval(secs => $2)
                 WHERE id = $1 AND lost_at IS NULL
                 RETURNING expires_at, draining",
            )
            .bind(worker_id)
            .bind(f64::from(lease_seconds))
            .fetch_optional(&pool)
            .await
            .map_err(failed)?
            .ok_or(Error::LeaseLost)?;
            let lost = sweep::lose_unnamed(&pool, worker_id, &job_ids, lease_seconds).await.map_err(failed)?;
            counts.ended(AttemptOutcome::WorkerLost, lost);
            let rows = sqlx::query(
                "SELECT named.id, named.epoch,
                        COALESCE(status = 'RUNNING' AND worker_id = $1 AND lease_epoch = named.epoch, false) AS held,
                        cancel_requested_at IS NOT NULL AS cancel_requested
                 FROM unnest($2::uuid[], $3::integer[]) AS named(id, epoch) LEFT JOIN job USING (id)",
            )
            .bind(worker_id)
            .bind(&job_ids)
            .bind(&epochs)
            .fetch_all(&pool)
            .await
            .map_err(failed)?;
            let states = rows.iter().map(state).collect::<sqlx::Result<_>>().map_err(failed)?;
            Ok(Heartbeat {
                states,
                expires_at: alive.try_get("expires_at").map_err(failed)?,
                draining: alive.try_get("draining").map_err(failed)?,
            })
        })
        .await
    }
}

fn state(row: &PgRow) -> sqlx::Result<(Lease, LeaseState)> {
    let state = match (row.try_get("held")?, row.try_get("cancel_requested")?) {
        (false, _) => LeaseState::Lost,
        (true, true) => LeaseState::CancelRequested,
        (true, false) => LeaseState::Held,
    };
    Ok((Lease { job_id: row.try_get("id")?, epoch: row.try_get("epoch")? }, state))
}
