//! The rows of worker processes: registered under a fresh id per boot, kept alive by the heartbeat.

use entity::{job, worker};
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::{Store, read, sight};
use crate::error::{Error, Result};
use crate::job::viewer::Viewer;

/// Jobs of one worker that are shown.
pub const MOST_HELD_SHOWN: i64 = 50;

/// A worker process that introduces itself.
#[derive(Clone, Debug)]
pub struct NewWorker {
    /// Fresh per boot.
    pub id: Uuid,
    /// Host and process, for people.
    pub name: String,
    /// Queues that it serves.
    pub queues: Vec<String>,
    /// Kinds that it can run.
    pub kinds: Vec<String>,
    /// Jobs that it runs at once.
    pub slots: i32,
    /// How long its lease lasts after a heartbeat.
    pub lease_seconds: i32,
}

/// Whether a worker takes jobs, by the database's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does.
    Live,
    /// It finishes what it has.
    Draining,
    /// Its lease ran out.
    Lost,
}

/// A worker as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenWorker {
    /// Its row.
    pub worker: worker::Model,
    /// Whether it takes jobs.
    pub state: State,
    /// Jobs that it holds.
    pub running: i64,
}

impl Store {
    /// All workers that are registered or were lost lately, oldest first.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn seen_workers(&self) -> Result<Vec<SeenWorker>> {
        let rows = sqlx::query(
            "SELECT worker.*, lost_at IS NOT NULL OR expires_at <= now() AS lost, COALESCE(jobs, 0) AS running
             FROM worker LEFT JOIN (
                 SELECT worker_id, count(*) AS jobs FROM job WHERE status = 'RUNNING' GROUP BY worker_id
             ) AS holding ON holding.worker_id = worker.id
             ORDER BY worker.id",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|source| Error::database("read workers", source))?;
        rows.iter()
            .map(seen)
            .collect::<sqlx::Result<_>>()
            .map_err(|source| Error::database("read workers", source))
    }

    /// What these workers hold, oldest first, of each at most [`MOST_HELD_SHOWN`].
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn held_jobs(&self, viewer: &Viewer, worker_ids: &[Uuid]) -> Result<Vec<job::Model>> {
        let sql = format!(
            "SELECT held.* FROM unnest($1::uuid[]) AS holder (id) CROSS JOIN LATERAL (
                 SELECT job.* FROM job
                 WHERE status = 'RUNNING' AND worker_id = holder.id AND {}
                 ORDER BY job.id LIMIT $2
             ) AS held
             ORDER BY held.id",
            sight::sees(viewer, 3)
        );
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(worker_ids)
            .bind(MOST_HELD_SHOWN)
            .bind(sight::bound(viewer))
            .fetch_all(&self.pool)
            .await
            .and_then(|rows| read::jobs(&rows))
            .map_err(|source| Error::database("read what workers hold", source))
    }

    /// Registers a worker; its lease starts now.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn register_worker(&self, worker: NewWorker) -> Result<()> {
        let pool = self.work.clone();
        self.detached("register a worker", async move {
            sqlx::query(
                "INSERT INTO worker (id, name, queues, kinds, slots, lease_seconds, expires_at)
                 VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $6))",
            )
            .bind(worker.id)
            .bind(&worker.name)
            .bind(&worker.queues)
            .bind(&worker.kinds)
            .bind(worker.slots)
            .bind(worker.lease_seconds)
            .execute(&pool)
            .await
            .map(drop)
            .map_err(|source| Error::database("register a worker", source))
        })
        .await
    }

    /// Notes that the worker claims no more and finishes what it has.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn drain_worker(&self, worker_id: Uuid) -> Result<()> {
        self.change_worker("drain a worker", "UPDATE worker SET draining = true WHERE id = $1", worker_id)
            .await
    }

    /// Has a worker that somebody else runs claim no more; its next heartbeat tells it.
    ///
    /// # Errors
    /// `NotFound` when there is none, or it is lost; `Unavailable`, `Database`.
    pub async fn ask_to_drain(&self, worker_id: Uuid) -> Result<SeenWorker> {
        let pool = self.work.clone();
        let failed = |source| Error::database("drain a worker", source);
        let asked = self
            .detached("drain a worker", async move {
                sqlx::query("UPDATE worker SET draining = true WHERE id = $1 AND lost_at IS NULL")
                    .bind(worker_id)
                    .execute(&pool)
                    .await
                    .map_err(failed)
            })
            .await?;
        let seen = self.seen_workers().await?.into_iter().find(|seen| seen.worker.id == worker_id);
        seen.filter(|_| asked.rows_affected() > 0)
            .ok_or_else(|| Error::NotFound { what: "worker", id: worker_id.to_string() })
    }

    /// Takes the row of a worker away that holds nothing any more. What it still held, the sweeper finds.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn remove_worker(&self, worker_id: Uuid) -> Result<()> {
        self.change_worker("remove a worker", "DELETE FROM worker WHERE id = $1", worker_id).await
    }

    async fn change_worker(&self, operation: &'static str, sql: &'static str, worker_id: Uuid) -> Result<()> {
        let pool = self.work.clone();
        self.detached(operation, async move {
            let done = sqlx::query(sql).bind(worker_id).execute(&pool).await;
            done.map(drop).map_err(|source| Error::database(operation, source))
        })
        .await
    }
}

fn seen(row: &PgRow) -> sqlx::Result<SeenWorker> {
    let worker = worker::Model {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        queues: row.try_get("queues")?,
        kinds: row.try_get("kinds")?,
        slots: row.try_get("slots")?,
        started_at: row.try_get("started_at")?,
        last_seen_at: row.try_get("last_seen_at")?,
        expires_at: row.try_get("expires_at")?,
        draining: row.try_get("draining")?,
        lost_at: row.try_get("lost_at")?,
        owner: row.try_get("owner")?,
        lease_seconds: row.try_get("lease_seconds")?,
    };
    let state = match (row.try_get("lost")?, worker.draining) {
        (true, _) => State::Lost,
        (false, true) => State::Draining,
        (false, false) => State::Live,
    };
    Ok(SeenWorker { worker, state, running: row.try_get("running")? })
}
