//! Claims of workers over the API, which register by claiming.
//!
//! A claim is one transaction: it registers the worker or moves its lease, claims, and notes what an id of the worker's
//! choice brought. The worker's row is held throughout, so that claims of one worker take turns, and one that is
//! repeated sees what the first one brought, from whichever process. Nothing is held while a claim waits for work; see
//! [`claim_line`](crate::events).
//!
//! A job that cannot be worked on is ended and not handed out: one that this version cannot read, and one whose payload
//! no longer fits its kind now that results of other jobs are in it. The claim then goes on to the jobs behind it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use entity::job;
use sqlx::{Connection, PgConnection, PgPool, Row};
use uuid::Uuid;

use super::claim::{ClaimRequest, claim_on};
use super::external::ExternalWorker;
use super::finish::{AttemptEnd, Finish};
use super::lease::Lease;
use super::{Store, read};
use crate::config::Kind;
use crate::error::{Error, Result};
use crate::job::failure::Failure;
use crate::job::lease_token::{LeaseKey, NamedLease};
use crate::job::outcome::unfit;

/// Transactions of one claim: each but the last has brought only jobs that cannot be worked on.
const MOST_ROUNDS: usize = 20;

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
    pub kinds: Arc<[Kind]>,
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
    /// There may be more than this: the worker is to drain, or holds a job that has lost a worker before, or some of what
    /// was claimed could not be handed out.
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

/// A registered worker's row.
struct Registered {
    id: Uuid,
    expires_at: DateTime<Utc>,
    draining: bool,
    queues: Vec<String>,
}

/// What one transaction claimed.
struct Round {
    claimed: ExternalClaimed,
    /// Claimed as well, to be ended like this instead of being handed out.
    refused: Vec<(Lease, Failure)>,
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

impl Store {
    /// Registers the worker or moves its lease, and claims from its queues, in turn, until it has as many as it may.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn claim_externally(&self, claim: ExternalClaim) -> Result<ExternalClaimed> {
        let (key, claim) = (self.lease_key().await?, Arc::new(claim));
        let mut rounds = 0;
        loop {
            let (pool, key, claim) = (self.work.clone(), key.clone(), claim.clone());
            let claiming = self.detached("claim", async move {
                claim_in_transaction(&pool, &key, &claim)
                    .await
                    .map_err(|source| Error::database("claim", source))
            });
            let Round { claimed, refused } = claiming.await?;
            self.counts.claim(if claimed.repeated { 0 } else { claimed.leased.len() + refused.len() });
            rounds += 1;
            let is_over = !claimed.leased.is_empty() || claimed.repeated || refused.is_empty();
            futures_util::future::join_all(
                refused.into_iter().map(|(lease, failure)| self.refuse(lease, failure)),
            )
            .await;
            if is_over || rounds == MOST_ROUNDS {
                return Ok(claimed);
            }
        }
    }

    /// Ends a job that was claimed and cannot be worked on. When that fails it goes back after a lease.
    async fn refuse(&self, lease: Lease, failure: Failure) {
        tracing::info!(job.id = %lease.job_id, failure.code = failure.code, "a claimed job is not handed out");
        let end = AttemptEnd::failed(failure, Duration::ZERO);
        if let Err(error) = self.finish_if_leased(Finish { lease, end }).await {
            tracing::warn!(job.id = %lease.job_id, error = %error, "a job that is not handed out was not ended");
        }
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
}

async fn claim_in_transaction(pool: &PgPool, key: &LeaseKey, claim: &ExternalClaim) -> sqlx::Result<Round> {
    let mut connection = pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    let worker = check_in(&mut transaction, claim).await?;
    let mut claimed = ExternalClaimed { worker_id: worker.id, ..ExternalClaimed::default() };
    let before = repeated(&mut transaction, worker.id, claim.claim_id.as_deref()).await?;
    (claimed.repeated, claimed.is_restricted) = (before.is_some(), worker.draining);
    let leases = match before {
        Some(leases) => leases,
        None if worker.draining || claim.queues.is_empty() => Vec::new(),
        None => claim_in_turn(&mut transaction, &worker, claim, &mut claimed.is_restricted).await?,
    };
    let mut refused = Vec::new();
    for (lease, job) in held_jobs(&mut transaction, &leases).await? {
        match fit(&claim.kinds, job) {
            Ok(job) => {
                let token = key.token(lease.job_id, NamedLease { worker_id: worker.id, epoch: lease.epoch });
                claimed.leased.push(LeasedJob { job, token, expires_at: worker.expires_at });
            }
            Err(failure) => refused.push((lease, failure)),
        }
    }
    if let (Some(claim_id), false, false) = (&claim.claim_id, claimed.repeated, claimed.leased.is_empty()) {
        note_claim(&mut transaction, worker.id, claim_id, &claimed.leased).await?;
    }
    transaction.commit().await?;
    claimed.is_restricted |= !refused.is_empty();
    Ok(Round { claimed, refused })
}

/// The job, if somebody can work on it.
fn fit(kinds: &[Kind], job: sqlx::Result<job::Model>) -> std::result::Result<job::Model, Failure> {
    let job = job.map_err(|error| {
        tracing::error!(error = %error, "a claimed job cannot be read");
        Failure::fatal("UNREADABLE", "the job cannot be read")
    })?;
    // Without results of others it was held to the schema when it was submitted.
    let kind = kinds.iter().find(|kind| kind.name == job.kind && job.results_as.is_some());
    match kind.and_then(|kind| unfit(kind, &job.payload)) {
        Some(failure) => Err(failure),
        None => Ok(job),
    }
}

async fn check_in(connection: &mut PgConnection, claim: &ExternalClaim) -> sqlx::Result<Registered> {
    let row = sqlx::query(CHECK_IN_SQL)
        .bind(Uuid::now_v7())
        .bind(&claim.worker.owner)
        .bind(&claim.worker.name)
        .bind(&claim.serves)
        .bind(claim.kinds.iter().map(|kind| kind.name.as_str()).collect::<Vec<_>>())
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
        let request = ClaimRequest {
            worker_id,
            queue: queue.clone(),
            limit,
            holds_suspect: holds_suspect_now,
            from_ledger: false,
        };
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
    leased: &[LeasedJob],
) -> sqlx::Result<()> {
    sqlx::query("INSERT INTO claim (worker_id, claim_id, job_ids, epochs) VALUES ($1, $2, $3, $4)")
        .bind(worker_id)
        .bind(claim_id)
        .bind(leased.iter().map(|leased| leased.job.id).collect::<Vec<_>>())
        .bind(leased.iter().map(|leased| leased.job.lease_epoch).collect::<Vec<_>>())
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
