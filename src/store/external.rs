//! Workers over the API: they register by claiming, and write with lease tokens through the same statements as the
//! processes of jobql.
//!
//! A claim is one transaction: it registers the worker or moves its lease, claims, and notes what an id of the worker's
//! choice brought. The worker's row is held throughout, so that claims of one worker take turns, and one that is
//! repeated sees what the first one brought, from whichever process. Nothing is held while a claim waits for work; see
//! [`claim_line`](crate::events).

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use entity::job;
use sqlx::{Connection, PgConnection, PgPool, Row};
use uuid::Uuid;

use super::claim::{ClaimRequest, claim_on};
use super::finish::{AttemptEnd, Finish};
use super::lease::{Heartbeat, Lease};
use super::{Store, bounded, read};
use crate::error::{Error, Result};
use crate::job::failure::Failure;
use crate::job::lease_token::{BadToken, LeaseKey, NamedLease};

/// A worker over the API, and what it may work on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalWorker {
    /// Whose it is: workers of different owners may have the same name.
    pub owner: String,
    /// What it calls itself.
    pub name: String,
}

/// What such a worker wants.
#[derive(Clone, Debug)]
pub struct ExternalClaim {
    /// Who claims.
    pub worker: ExternalWorker,
    /// The same id brings the same leases again.
    pub claim_id: Option<String>,
    /// The queues, in turn. With none the worker is registered, and claims nothing.
    pub queues: Vec<String>,
    /// All queues that it serves, for people and for those that wait.
    pub serves: Vec<String>,
    /// The kinds of these.
    pub kinds: Vec<String>,
    /// At most this many.
    pub limit: i64,
    /// How long its lease lasts.
    pub lease_seconds: i32,
}

/// What a claim brought.
#[derive(Clone, Debug, Default)]
pub struct ExternalClaimed {
    /// The registration.
    pub worker_id: Uuid,
    /// The jobs, in the order of their claim.
    pub leased: Vec<LeasedJob>,
    /// Another worker might have got more: this one is to drain, or holds a job that has lost a worker before.
    pub is_restricted: bool,
    /// The claim's id had been used.
    pub repeated: bool,
}

/// A job under a lease, with what shows it.
#[derive(Clone, Debug)]
pub struct LeasedJob {
    /// The job as it stands.
    pub job: job::Model,
    /// What every write about it must show.
    pub token: String,
    /// When the lease runs out, unless a heartbeat moves it.
    pub expires_at: DateTime<Utc>,
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

/// A registered worker's row.
struct Registered {
    id: Uuid,
    expires_at: DateTime<Utc>,
    draining: bool,
    queues: Vec<String>,
}

/// Claimed rows that this version cannot read are ended, and not handed out.
struct InTransaction {
    claimed: ExternalClaimed,
    unreadable: Vec<Lease>,
}

/// An expired worker that nobody has found dead yet goes on, as with a heartbeat; a lost one is registered anew.
const CHECK_IN_SQL: &str = "
    INSERT INTO worker (id, owner, name, queues, kinds, slots, lease_seconds, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, now() + make_interval(secs => $7))
    ON CONFLICT (owner, name) WHERE owner IS NOT NULL AND lost_at IS NULL DO UPDATE
    SET last_seen_at = now(), expires_at = EXCLUDED.expires_at, lease_seconds = EXCLUDED.lease_seconds,
        queues = ARRAY(SELECT unnest(worker.queues) UNION SELECT unnest(EXCLUDED.queues) ORDER BY 1),
        kinds = ARRAY(SELECT unnest(worker.kinds) UNION SELECT unnest(EXCLUDED.kinds) ORDER BY 1),
        slots = GREATEST(worker.slots, EXCLUDED.slots)
    RETURNING id, expires_at, draining, queues";

/// The owner of the receivers of http kinds.
const HTTP_OWNER: &str = "http";
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
    /// Registers the worker or moves its lease, and claims from its queues, in turn, until it has as many as it may.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn claim_externally(&self, claim: ExternalClaim) -> Result<ExternalClaimed> {
        let (pool, key) = (self.work.clone(), self.lease_key().await?);
        let claiming = self.detached("claim", async move {
            claim_in_transaction(&pool, &key, &claim).await.map_err(|source| Error::database("claim", source))
        });
        let InTransaction { claimed, unreadable } = claiming.await?;
        for lease in unreadable {
            let failure = Failure::fatal("UNREADABLE", "the job cannot be read");
            let end = AttemptEnd::failed(failure, std::time::Duration::ZERO);
            // One that cannot be ended goes back after a lease.
            if let Err(error) = self.finish_if_leased(Finish { lease, end }).await {
                tracing::warn!(job.id = %lease.job_id, error = %error, "a job that cannot be read was not ended");
            }
        }
        Ok(claimed)
    }

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

    /// Moves the leases of workers whose claims wait, and tells which of the claims' ids have brought something
    /// meanwhile, by way of another process.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn prolong_waiting(
        &self,
        workers: Vec<Uuid>,
        claims: Vec<(Uuid, String)>,
    ) -> Result<HashSet<(Uuid, String)>> {
        let pool = self.work.clone();
        self.detached("prolong waiting claims", async move {
            let failed = |source| Error::database("prolong waiting claims", source);
            if !workers.is_empty() {
                sqlx::query(
                    "UPDATE worker SET last_seen_at = now(), expires_at = now() + make_interval(secs => lease_seconds)
                     FROM (SELECT id FROM worker WHERE id = ANY($1) AND lost_at IS NULL ORDER BY id FOR UPDATE) AS waiting
                     WHERE worker.id = waiting.id",
                )
                .bind(workers)
                .execute(&pool)
                .await
                .map_err(failed)?;
            }
            if claims.is_empty() {
                return Ok(HashSet::new());
            }
            let (ids, names): (Vec<Uuid>, Vec<String>) = claims.into_iter().unzip();
            let rows = sqlx::query(
                "SELECT worker_id, claim_id FROM claim
                 JOIN unnest($1::uuid[], $2::text[]) AS asked(worker_id, claim_id) USING (worker_id, claim_id)",
            )
            .bind(ids)
            .bind(names)
            .fetch_all(&pool)
            .await
            .map_err(failed)?;
            let found = rows.iter().map(|row| Ok((row.try_get("worker_id")?, row.try_get("claim_id")?)));
            found.collect::<sqlx::Result<_>>().map_err(failed)
        })
        .await
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

async fn claim_in_transaction(
    pool: &PgPool,
    key: &LeaseKey,
    claim: &ExternalClaim,
) -> sqlx::Result<InTransaction> {
    let mut connection = pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    let worker = check_in(&mut transaction, claim).await?;
    let mut claimed = ExternalClaimed { worker_id: worker.id, ..ExternalClaimed::default() };
    let mut leases = repeated(&mut transaction, worker.id, claim.claim_id.as_deref()).await?;
    (claimed.repeated, claimed.is_restricted) = (leases.is_some(), worker.draining);
    if leases.is_none() && !worker.draining && !claim.queues.is_empty() {
        let fresh = claim_in_turn(&mut transaction, &worker, claim, &mut claimed.is_restricted).await?;
        if let (Some(claim_id), false) = (&claim.claim_id, fresh.is_empty()) {
            note_claim(&mut transaction, worker.id, claim_id, &fresh).await?;
        }
        leases = Some(fresh);
    }
    let mut unreadable = Vec::new();
    for (lease, job) in held_jobs(&mut transaction, &leases.unwrap_or_default()).await? {
        let named = NamedLease { worker_id: worker.id, epoch: lease.epoch };
        match job {
            Ok(job) => {
                let token = key.token(lease.job_id, named);
                claimed.leased.push(LeasedJob { job, token, expires_at: worker.expires_at });
            }
            Err(error) => {
                tracing::error!(job.id = %lease.job_id, error = %error, "a claimed job cannot be read");
                unreadable.push(lease);
            }
        }
    }
    transaction.commit().await?;
    Ok(InTransaction { claimed, unreadable })
}

async fn check_in(connection: &mut PgConnection, claim: &ExternalClaim) -> sqlx::Result<Registered> {
    let row = sqlx::query(CHECK_IN_SQL)
        .bind(Uuid::now_v7())
        .bind(&claim.worker.owner)
        .bind(&claim.worker.name)
        .bind(&claim.serves)
        .bind(&claim.kinds)
        .bind(i32::try_from(claim.limit).unwrap_or(i32::MAX))
        .bind(claim.lease_seconds)
        .fetch_one(connection)
        .await?;
    Ok(Registered {
        id: row.try_get("id")?,
        expires_at: row.try_get("expires_at")?,
        draining: row.try_get("draining")?,
        queues: row.try_get("queues")?,
    })
}

/// What the claim's id brought before; none when it is new.
async fn repeated(
    connection: &mut PgConnection,
    worker_id: Uuid,
    claim_id: Option<&str>,
) -> sqlx::Result<Option<Vec<Lease>>> {
    let Some(claim_id) = claim_id else { return Ok(None) };
    let row = sqlx::query("SELECT job_ids, epochs FROM claim WHERE worker_id = $1 AND claim_id = $2")
        .bind(worker_id)
        .bind(claim_id)
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let (job_ids, epochs): (Vec<Uuid>, Vec<i32>) = (row.try_get("job_ids")?, row.try_get("epochs")?);
    Ok(Some(job_ids.into_iter().zip(epochs).map(|(job_id, epoch)| Lease { job_id, epoch }).collect()))
}

async fn claim_in_turn(
    connection: &mut PgConnection,
    worker: &Registered,
    claim: &ExternalClaim,
    holds_suspect: &mut bool,
) -> sqlx::Result<Vec<Lease>> {
    let held = "SELECT EXISTS (SELECT FROM job
                               WHERE status = 'RUNNING' AND queue = ANY($2) AND worker_id = $1 AND losses > 0)";
    *holds_suspect =
        sqlx::query_scalar(held).bind(worker.id).bind(&worker.queues).fetch_one(&mut *connection).await?;
    let mut leases: Vec<Lease> = Vec::new();
    for queue in &claim.queues {
        let limit = claim.limit - i64::try_from(leases.len()).unwrap_or(i64::MAX);
        if limit <= 0 {
            break;
        }
        let (worker_id, holds_suspect_now) = (worker.id, *holds_suspect);
        let request =
            ClaimRequest { worker_id, queue: queue.clone(), limit, holds_suspect: holds_suspect_now };
        let claimed = claim_on(&mut *connection, &request).await?;
        *holds_suspect |= claimed.iter().any(|job| job.suspect);
        leases.extend(claimed.iter().map(|job| job.lease));
    }
    Ok(leases)
}

async fn note_claim(
    connection: &mut PgConnection,
    worker_id: Uuid,
    claim_id: &str,
    leases: &[Lease],
) -> sqlx::Result<()> {
    sqlx::query("INSERT INTO claim (worker_id, claim_id, job_ids, epochs) VALUES ($1, $2, $3, $4)")
        .bind(worker_id)
        .bind(claim_id)
        .bind(leases.iter().map(|lease| lease.job_id).collect::<Vec<_>>())
        .bind(leases.iter().map(|lease| lease.epoch).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map(drop)
}

/// The jobs of those leases that hold, in their order.
async fn held_jobs(
    connection: &mut PgConnection,
    leases: &[Lease],
) -> sqlx::Result<Vec<(Lease, sqlx::Result<job::Model>)>> {
    if leases.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "SELECT job.* FROM unnest($1::uuid[], $2::integer[]) WITH ORDINALITY AS named(id, epoch, turn)
         JOIN job ON job.id = named.id AND job.lease_epoch = named.epoch AND job.status = 'RUNNING'
         ORDER BY turn",
    )
    .bind(leases.iter().map(|lease| lease.job_id).collect::<Vec<_>>())
    .bind(leases.iter().map(|lease| lease.epoch).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let lease = Lease { job_id: row.try_get("id")?, epoch: row.try_get("lease_epoch")? };
            Ok((lease, read::job(row)))
        })
        .collect()
}
