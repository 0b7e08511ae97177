//! The lists of clients: which jobs each has submitted, in `client_job`.
//!
//! Triggers write an entry with each job and take it away with it, in the same transaction, whoever does it. An index of
//! `job` would say the same, and each change that moves a job between partial indexes would add to it.
//!
//! As with the ledger, only what passes by the triggers leaves it wrong: [`Store::wrong_list_entries`],
//! [`Store::repair_lists`]. A list then hides jobs; it never shows those of others, as each job is asked whose it is.

use sqlx::{PgPool, Row};

use super::Store;
use crate::error::{Error, Result};

const WRONG_SQL: &str = "
    SELECT count(*) AS wrong
    FROM job FULL JOIN client_job ON job.id = job_id AND job.client_id = client_job.client_id
    WHERE job_id IS NULL OR id IS NULL";

/// Writes what is missing and takes away what is too much; nothing else may write jobs meanwhile.
const REPAIR: [&str; 2] = [
    "DELETE FROM client_job
     WHERE NOT EXISTS (SELECT FROM job WHERE id = job_id AND job.client_id = client_job.client_id)",
    "INSERT INTO client_job (client_id, job_id) SELECT client_id, id FROM job ORDER BY client_id, id ON CONFLICT DO NOTHING",
];

impl Store {
    /// How many entries are missing or too much, in one snapshot.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn wrong_list_entries(&self) -> Result<i64> {
        let failed = |source| Error::database("check the lists of clients", source);
        let mut transaction = self.work.begin().await.map_err(failed)?;
        // It reads every job, which may take longer than other statements may.
        sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut *transaction).await.map_err(failed)?;
        let row = sqlx::query(WRONG_SQL).fetch_one(&mut *transaction).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        row.try_get("wrong").map_err(failed)
    }

    /// Makes the lists say what the jobs say. Nobody can change jobs meanwhile.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn repair_lists(&self) -> Result<()> {
        let pool = self.work.clone();
        self.detached("repair the lists of clients", async move {
            repair(&pool).await.map_err(|source| Error::database("repair the lists of clients", source))
        })
        .await
    }
}

async fn repair(pool: &PgPool) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut *transaction).await?;
    sqlx::query("LOCK TABLE job, client_job IN SHARE ROW EXCLUSIVE MODE").execute(&mut *transaction).await?;
    for sql in REPAIR {
        sqlx::query(sql).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}
