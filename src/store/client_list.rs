//! The lists of clients: which jobs each has submitted, in `client_job`.
//!
//! Triggers write an entry with each job and take it away with it, in the same transaction, whoever does it. An index of
//! `job` would say the same, and each change that moves a job between partial indexes would add to it.
//!
//! As with the ledger, only what passes by the triggers leaves it wrong: [`Store::wrong_list_entries`],
//! [`Store::repair_lists`]. A list then hides jobs; it never shows those of others, as each job is asked whose it is.

use super::list::JobFilter;
use super::{Store, compare};
use crate::error::{Error, Result};
use crate::job::viewer::Viewer;

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

/// Whether a client's list is walked for what matches: where only one client's jobs can, unless they are named by ids or by a
/// workflow and found by these.
pub(super) fn is_walked(viewer: &Viewer, filter: &JobFilter) -> bool {
    let is_of_client = matches!(viewer, Viewer::Client(_)) || filter.client_id.is_some();
    is_of_client && filter.ids.is_none() && filter.workflow_id.is_none()
}

impl Store {
    /// How many entries are missing or too much, in one snapshot.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn wrong_list_entries(&self) -> Result<i64> {
        let wrong = compare::wrong(&self.work, WRONG_SQL).await;
        wrong.map_err(|source| Error::database("check the lists of clients", source))
    }

    /// Makes the lists say what the jobs say. Nobody can change jobs meanwhile.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn repair_lists(&self) -> Result<()> {
        let pool = self.work.clone();
        self.detached("repair the lists of clients", async move {
            let written =
                compare::write_anew(&pool, "LOCK TABLE job, client_job IN SHARE ROW EXCLUSIVE MODE", &REPAIR);
            written.await.map_err(|source| Error::database("repair the lists of clients", source))
        })
        .await
    }
}
