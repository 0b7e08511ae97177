//! Workers over the API: what they hold, how they show it, and how it ends. They register by
//! [claiming](super::external_claim), and write with lease tokens through the same statements as the processes of jobql.

use entity::job;
use sqlx::Row;
use uuid::Uuid;

use super::lease::{Heartbeat, Lease};
use super::{Store, bounded, read};
use crate::error::{Error, Result};
use crate::job::lease_token::{BadToken, LeaseKey, NamedLease};

/// A worker over the API, and what it may work on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalWorker {
    /// Whose it is: workers of different owners may have the same name.
    pub owner: String,
    /// What it calls itself.
    pub name: String,
}

/// A way in which a worker ends its attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedAs {
    /// With a result.
    Done,
    /// With an error.
    Failed,
    /// Given back.
    Released,
}

/// The owner of the receivers of http kinds.
pub(super) const HTTP_OWNER: &str = "http";
/// What is overdue is ended within so long; its holder's lease lasts until then.
const OVERDUE_WITHIN_SECONDS: i32 = 60;

const HAND_OVER_SQL: &str = "
    WITH receiver AS (
        INSERT INTO worker (id, owner, name, queues, kinds, slots, lease_seconds, expires_at)
        VALUES ($1, $2, $3, '{}', ARRAY[$3], 0, $4, now() + make_interval(secs => $4))
        ON CONFLICT (owner, name) WHERE owner IS NOT NULL AND lost_at IS NULL DO UPDATE
        SET last_seen_at = now(), expires_at = GREATEST(worker.expires_at, EXCLUDED.expires_at)
        RETURNING id
    )
    UPDATE job SET worker_id = receiver.id, version = version + 1
    FROM receiver
    WHERE job.id = $5 AND job.lease_epoch = $6 AND job.status = 'RUNNING'";

impl Store {
    /// The lease that a token for the job shows, and the registration that it was made for.
    ///
    /// # Errors
    /// `InvalidInput` for what is no token, `LeaseLost` for one that was not made here or is another job's;
    /// `Unavailable`, `Database`.
    pub async fn lease_of(&self, job_id: Uuid, token: &str) -> Result<(Lease, Uuid)> {
        match self.lease_key().await?.read(job_id, token) {
            Ok(named) => Ok((Lease { job_id, epoch: named.epoch }, named.worker_id)),
            Err(BadToken::Malformed) => Err(Error::invalid("lease.token", "is not a lease token")),
            Err(BadToken::Foreign) => Err(Error::LeaseLost),
        }
    }

    /// The token that shows a lease.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn lease_token(&self, lease: Lease, worker_id: Uuid) -> Result<String> {
        let named = NamedLease { worker_id, epoch: lease.epoch };
        Ok(self.lease_key().await?.token(lease.job_id, named))
    }

    /// Has the receivers of an http kind hold the job, whose token one of them has, for at most so long. They are one
    /// worker, which serves no queue and sends no heartbeats.
    ///
    /// # Errors
    /// `LeaseLost`, `Unavailable`, `Database`.
    pub async fn hand_over_if_leased(&self, lease: Lease, kind: &str, seconds: i32) -> Result<()> {
        let (pool, kind) = (self.work.clone(), kind.to_owned());
        self.detached("hand a job over", async move {
            let handed = sqlx::query(HAND_OVER_SQL)
                .bind(Uuid::now_v7())
                .bind(HTTP_OWNER)
                .bind(kind)
                .bind(seconds.saturating_add(OVERDUE_WITHIN_SECONDS))
                .bind(lease.job_id)
                .bind(lease.epoch)
                .execute(&pool)
                .await
                .map_err(|source| Error::database("hand a job over", source))?;
            if handed.rows_affected() == 0 { Err(Error::LeaseLost) } else { Ok(()) }
        })
        .await
    }

    /// Moves the lease of an external worker, for as long as it asked for, and tells the state of each lease.
    ///
    /// # Errors
    /// `LeaseLost` when the worker is not registered: everything it held is lost, and its next claim registers it anew.
    /// `Unavailable`, `Database`.
    pub async fn external_heartbeat(
        &self,
        worker: &ExternalWorker,
        held: Vec<(Lease, Uuid)>,
    ) -> Result<Heartbeat> {
        let row = sqlx::query(
            "SELECT id, lease_seconds FROM worker WHERE owner = $1 AND name = $2 AND lost_at IS NULL",
        )
        .bind(&worker.owner)
        .bind(&worker.name)
        .fetch_optional(&self.work)
        .await
        .map_err(|source| Error::database("send a heartbeat", source))?
        .ok_or(Error::LeaseLost)?;
        let columns = || Ok((row.try_get("id")?, row.try_get("lease_seconds")?));
        let (worker_id, lease_seconds): (Uuid, i32) =
            columns().map_err(|source| Error::database("send a heartbeat", source))?;
        let own = held.into_iter().filter(|(_, of)| *of == worker_id).map(|(lease, _)| lease).collect();
        self.heartbeat(worker_id, own, lease_seconds).await
    }

    /// The job as it stands, if this lease on it ended in this way; none when it did not.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn job_ended_as(&self, lease: Lease, ended_as: EndedAs) -> Result<Option<job::Model>> {
        let outcome = match ended_as {
            EndedAs::Done => "DONE",
            EndedAs::Failed => "ERROR",
            EndedAs::Released => "RELEASED",
        };
        sqlx::query(
            // An attempt that ended well has no row: the job tells of it, and DONE is final.
            "SELECT job.* FROM job
             WHERE id = $1
                 AND CASE $3 WHEN 'DONE' THEN status = 'DONE' AND lease_epoch = $2
                     ELSE EXISTS (SELECT FROM attempt WHERE job_id = $1 AND lease_epoch = $2 AND outcome = $3) END",
        )
        .bind(lease.job_id)
        .bind(lease.epoch)
        .bind(outcome)
        .fetch_optional(&self.work)
        .await
        .and_then(|row| row.as_ref().map(read::job).transpose())
        .map_err(|source| Error::database("read the end of an attempt", source))
    }

    /// The leases of external workers on jobs that have run for longer than they may, with the attempt's number and the
    /// job's kind; at most 500.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn overdue_externally(&self) -> Result<Vec<OverdueJob>> {
        let failed = |source| Error::database("find overdue jobs", source);
        let rows = sqlx::query(
            "SELECT job.id, job.lease_epoch, job.kind, job.attempt, job.timeout_seconds,
                    job.cancel_requested_at IS NOT NULL AS is_cancelled
             FROM job JOIN worker ON worker.id = job.worker_id
             WHERE job.status = 'RUNNING' AND worker.owner IS NOT NULL
                 AND (job.started_at + make_interval(secs => job.timeout_seconds) < now()
                      -- Nobody can ask the receiver of a post to stop.
                      OR (worker.owner = $1 AND job.cancel_requested_at IS NOT NULL))
             LIMIT 500",
        )
        .bind(HTTP_OWNER)
        .fetch_all(&self.work)
        .await
        .map_err(failed)?;
        let overdue = rows.iter().map(|row| {
            Ok(OverdueJob {
                lease: Lease { job_id: row.try_get("id")?, epoch: row.try_get("lease_epoch")? },
                kind: row.try_get("kind")?,
                attempt: row.try_get("attempt")?,
                timeout_seconds: row.try_get("timeout_seconds")?,
                is_cancelled: row.try_get("is_cancelled")?,
            })
        });
        overdue.collect::<sqlx::Result<_>>().map_err(failed)
    }

    /// The key of lease tokens, read once.
    pub(super) async fn lease_key(&self) -> Result<LeaseKey> {
        let read = async || {
            let key: sqlx::Result<Vec<u8>> =
                bounded(sqlx::query_scalar("SELECT key FROM lease_key").fetch_one(&self.work)).await;
            key.map(LeaseKey::new).map_err(|source| Error::database("read the lease key", source))
        };
        self.lease_key.get_or_try_init(read).await.cloned()
    }
}

/// An attempt that ran longer than it may.
#[derive(Clone, Debug)]
pub struct OverdueJob {
    /// Its lease.
    pub lease: Lease,
    /// The job's kind.
    pub kind: String,
    /// Which attempt it is, from 1.
    pub attempt: i16,
    /// How long it may run.
    pub timeout_seconds: i32,
    /// A cancel was requested.
    pub is_cancelled: bool,
}
