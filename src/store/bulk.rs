//! Changes of all jobs that match a filter, in small steps.
//!
//! Each step is a transaction of at most [`STEP`] jobs, in id order, so that nothing is locked for long however many
//! match. It starts behind the last job of the step before, so the whole costs one pass. Jobs that are submitted
//! meanwhile are left out: their ids are above the one that was made first. What a step has changed stays changed when
//! a later one fails; repeating the call does the rest.

use entity::JobStatus;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgPool, Postgres, Row};
use uuid::Uuid;

use super::list::JobFilter;
use super::submit::is_lost_to_another_transaction;
use super::{Store, sight};
use crate::error::{Error, Result};
use crate::job::viewer::Viewer;

/// Jobs of one transaction.
const STEP: i64 = 500;
/// How often a step that lost to another transaction is tried again.
const TRIES: usize = 5;

/// What is done to the jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkAction {
    /// As `cancel_job`: waiting ones at once, running ones are asked.
    Cancel,
    /// As `retry_job`: ERROR and CANCELLED ones.
    Retry {
        /// Theirs where none is given.
        priority: Option<i16>,
    },
    /// As `delete_job`: terminal ones.
    Delete,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkOutcome {
    /// Jobs that matched and that the action applies to.
    pub matched: i64,
    /// Jobs that were changed.
    pub changed: i64,
}

impl BulkAction {
    fn operation(self) -> &'static str {
        match self {
            BulkAction::Cancel => "cancel jobs",
            BulkAction::Retry { .. } => "retry jobs",
            BulkAction::Delete => "delete jobs",
        }
    }

    /// The states that it applies to.
    fn applies(self) -> &'static str {
        match self {
            BulkAction::Cancel => {
                "(status IN ('BLOCKED', 'SCHEDULED', 'PENDING') OR (status = 'RUNNING' AND cancel_requested_at IS NULL))"
            }
            BulkAction::Retry { .. } => "status IN ('ERROR', 'CANCELLED')",
            BulkAction::Delete => "status IN ('DONE', 'ERROR', 'CANCELLED')",
        }
    }

    /// The change of the jobs in `step`, which are locked.
    fn change(self) -> &'static str {
        match self {
            BulkAction::Cancel => {
                "UPDATE job
                 SET version = version + 1, cancel_requested_at = now(),
                     status = CASE status WHEN 'RUNNING' THEN 'RUNNING' ELSE 'CANCELLED' END,
                     finished_at = CASE status WHEN 'RUNNING' THEN NULL ELSE now() END
                 FROM step WHERE job.id = step.id
                 RETURNING job.id, CASE status WHEN 'RUNNING' THEN pg_notify('jobql_cancel', job.id::text)::text END"
            }
            BulkAction::Retry { .. } => {
                "UPDATE job
                 SET status = 'PENDING', version = version + 1, attempt = 0, losses = 0,
                     priority = COALESCE($12, priority), level = COALESCE($12, priority), seq = step.seq,
                     run_at = now(), finished_at = NULL, cancel_requested_at = NULL, start_before = NULL,
                     error = NULL, progress_fraction = NULL, progress_message = NULL, progress_at = NULL
                 FROM (SELECT id, nextval('job_seq') AS seq FROM (SELECT id FROM step ORDER BY id) AS sorted) AS step
                 WHERE job.id = step.id
                 RETURNING job.id"
            }
            BulkAction::Delete => "DELETE FROM job USING step WHERE job.id = step.id RETURNING job.id",
        }
    }
}

/// `$1` to `$9`; a part that is null does not filter.
fn matches(viewer: &Viewer) -> String {
    format!(
        "($1::uuid[] IS NULL OR id = ANY($1)) AND ($2::text[] IS NULL OR status = ANY($2))
    AND {} AND ($4::text IS NULL OR client_id = $4)
    AND ($5::text[] IS NULL OR kind = ANY($5)) AND ($6::text[] IS NULL OR queue = ANY($6))
    AND ($7::uuid IS NULL OR workflow_id = $7)
    AND ($8::timestamptz IS NULL OR created_at > $8) AND ($9::timestamptz IS NULL OR created_at < $9)",
        sight::sees(viewer, 3)
    )
}

/// One step; a test pins the plan of each.
pub fn step_sql(viewer: &Viewer, action: BulkAction) -> String {
    let (matches, applies, change) = (matches(viewer), action.applies(), action.change());
    // The parameter's type must be known to every action.
    format!(
        "WITH step AS MATERIALIZED (
             SELECT id FROM job
             WHERE id > $10 AND id <= $11 AND {matches} AND {applies} AND $12::smallint IS NOT DISTINCT FROM $12
             ORDER BY id
             LIMIT {STEP}
             FOR UPDATE
         ), changed AS (
             {change}
         )
         SELECT (SELECT count(*) FROM step) AS matched, (SELECT count(*) FROM changed) AS changed,
                (SELECT id FROM step ORDER BY id DESC LIMIT 1) AS last"
    )
}

impl Store {
    /// Counts the jobs that match and that the action applies to, and changes nothing.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn count_changeable(
        &self,
        viewer: &Viewer,
        filter: &JobFilter,
        action: BulkAction,
    ) -> Result<BulkOutcome> {
        viewer.may_change_jobs()?;
        let (matches, applies) = (matches(viewer), action.applies());
        let sql = format!("SELECT count(*) AS matched FROM job WHERE {matches} AND {applies}");
        bind_filter(sqlx::query(sqlx::AssertSqlSafe(sql)), viewer, filter)
            .fetch_one(&self.pool)
            .await
            .and_then(|row| Ok(BulkOutcome { matched: row.try_get("matched")?, changed: 0 }))
            .map_err(|source| Error::database(action.operation(), source))
    }

    /// Changes all jobs that match and that the action applies to, to the end even if the caller goes away.
    ///
    /// # Errors
    /// `Unavailable`, `Database`; the steps before it stay.
    pub async fn change_jobs(
        &self,
        viewer: &Viewer,
        filter: JobFilter,
        action: BulkAction,
    ) -> Result<BulkOutcome> {
        viewer.may_change_jobs()?;
        let (pool, viewer) = (self.pool.clone(), viewer.clone());
        self.detached(action.operation(), async move {
            let (mut last, until) = (Uuid::nil(), Uuid::now_v7());
            let mut outcome = BulkOutcome::default();
            loop {
                let step = Step { viewer: &viewer, filter: &filter, action, last, until };
                let (matched, changed, to) =
                    step.take(&pool).await.map_err(|source| Error::database(action.operation(), source))?;
                outcome.matched += matched;
                outcome.changed += changed;
                match to {
                    Some(to) if matched == STEP => last = to,
                    _ => return Ok(outcome),
                }
            }
        })
        .await
    }
}

struct Step<'a> {
    viewer: &'a Viewer,
    filter: &'a JobFilter,
    action: BulkAction,
    last: Uuid,
    until: Uuid,
}

impl Step<'_> {
    /// Matched, changed, and the last one that matched.
    async fn take(&self, pool: &PgPool) -> sqlx::Result<(i64, i64, Option<Uuid>)> {
        let mut tries = 0;
        loop {
            match self.take_once(pool).await {
                Err(error) if is_lost_to_another_transaction(&error) && tries < TRIES => tries += 1,
                outcome => return outcome,
            }
        }
    }

    async fn take_once(&self, pool: &PgPool) -> sqlx::Result<(i64, i64, Option<Uuid>)> {
        let priority = match self.action {
            BulkAction::Retry { priority } => priority,
            BulkAction::Cancel | BulkAction::Delete => None,
        };
        let query = sqlx::query(sqlx::AssertSqlSafe(step_sql(self.viewer, self.action)));
        let row = bind_filter(query, self.viewer, self.filter)
            .bind(self.last)
            .bind(self.until)
            .bind(priority)
            .fetch_one(pool)
            .await?;
        Ok((row.try_get("matched")?, row.try_get("changed")?, row.try_get("last")?))
    }
}

fn bind_filter<'q>(
    query: Query<'q, Postgres, PgArguments>,
    viewer: &'q Viewer,
    filter: &'q JobFilter,
) -> Query<'q, Postgres, PgArguments> {
    let status = filter.status.as_ref();
    query
        .bind(&filter.ids)
        .bind(
            status.map(|status| status.iter().map(|status: &JobStatus| status.as_str()).collect::<Vec<_>>()),
        )
        .bind(sight::bound(viewer))
        .bind(&filter.client_id)
        .bind(&filter.kind)
        .bind(&filter.queue)
        .bind(filter.workflow_id)
        .bind(filter.created_after)
        .bind(filter.created_before)
}
