//! The rows of worker processes: registered under a fresh id per boot, kept alive by the heartbeat.

use uuid::Uuid;

use super::Store;
use crate::error::{Error, Result};

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

impl Store {
    /// Registers a worker; its lease starts now.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn register_worker(&self, worker: NewWorker) -> Result<()> {
        let pool = self.pool.clone();
        self.detached("register a worker", async move {
            sqlx::query(
                "INSERT INTO worker (id, name, queues, kinds, slots, expires_at)
                 VALUES ($1, $2, $3, $4, $5, now() + make_interval(secs => $6))",
            )
            .bind(worker.id)
            .bind(&worker.name)
            .bind(&worker.queues)
            .bind(&worker.kinds)
            .bind(worker.slots)
            .bind(f64::from(worker.lease_seconds))
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

    /// Takes the row of a worker away that holds nothing any more. What it still held, the sweeper finds.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn remove_worker(&self, worker_id: Uuid) -> Result<()> {
        self.change_worker("remove a worker", "DELETE FROM worker WHERE id = $1", worker_id).await
    }

    async fn change_worker(&self, operation: &'static str, sql: &'static str, worker_id: Uuid) -> Result<()> {
        let pool = self.pool.clone();
        self.detached(operation, async move {
            let done = sqlx::query(sql).bind(worker_id).execute(&pool).await;
            done.map(drop).map_err(|source| Error::database(operation, source))
        })
        .await
    }
}
