//! Changes of all jobs that match a filter, in small steps.
//!
//! Each step is a transaction of at most [`STEP`] jobs, in id order, so that nothing is locked for long however many
//! match. It starts behind the last job of the step before, so the whole costs one pass. Jobs that are submitted
//! meanwhile are left out: their ids are above the one that was made first. What a step has changed stays changed when
//! a later one fails; repeating the call does the rest.

use std::borrow::Cow;

use entity::JobStatus;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgPool, Postgres, Row};
use uuid::Uuid;

use super::dependency::IS_NEEDED;
use super::list::JobFilter;
use super::submit::is_lost_to_another_transaction;
use super::{Store, client_list, retry, sight};
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
    /// As `delete_job`: terminal ones, unless an unfinished one depends on them.
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

    /// The change of the jobs of `$1`, which are locked; `$2` is the new priority. It begins once they are, so that it
    /// sees what whoever held them before has written about their dependencies.
    fn change(self) -> Cow<'static, str> {
        match self {
            BulkAction::Cancel => Cow::Borrowed(
                "UPDATE job
                 SET version = version + 1, cancel_requested_at = now(),
                     status = CASE status WHEN 'RUNNING' THEN 'RUNNING' ELSE 'CANCELLED' END,
                     finished_at = CASE status WHEN 'RUNNING' THEN NULL ELSE now() END
                 WHERE id = ANY($1) AND $2::smallint IS NULL
                 RETURNING CASE status WHEN 'RUNNING' THEN pg_notify('jobql_cancel', id::text)::text END",
            ),
            BulkAction::Retry { .. } => Cow::Borrowed(retry::AGAIN_SQL),
            BulkAction::Delete => Cow::Owned(format!(
                "DELETE FROM job WHERE id = ANY($1) AND $2::smallint IS NULL AND NOT {IS_NEEDED}"
            )),
        }
    }
}

/// What is walked for the jobs.
struct Walk {
    tables: &'static str,
    of_client: &'static str,
    /// The ids of a step, `$10` to `$11`, of whatever is walked: PostgreSQL does not conclude it from one for the other.
    of_step: &'static str,
}

impl Walk {
    fn of(viewer: &Viewer, filter: &JobFilter) -> Walk {
        if client_list::is_walked(viewer, filter) {
            Walk {
                tables: "job JOIN client_job ON job_id = id",
                of_client: "client_job.client_id = COALESCE($4::text, ($3::text[])[1])
                    AND COALESCE(job.client_id = $4, true)",
                of_step: "id > $10 AND id <= $11 AND job_id > $10 AND job_id <= $11",
            }
        } else {
            Walk {
                tables: "job",
                of_client: "($4::text IS NULL OR client_id = $4)",
                of_step: "id > $10 AND id <= $11",
            }
        }
    }
}

/// Where to look, and a condition on `$1` to `$9`; a part that is null does not filter.
fn matching(viewer: &Viewer, filter: &JobFilter) -> (Walk, String) {
    let walk = Walk::of(viewer, filter);
    // Jobs of a workflow are found by their own index, whatever plan is kept for the rest.
    let of_workflow = match filter.workflow_id {
        Some(_) => "workflow_id = $7",
        None => "$7::uuid IS NULL",
    };
    let condition = format!(
        "($1::uuid[] IS NULL OR id = ANY($1)) AND ($2::text[] IS NULL OR status = ANY($2))
    AND {} AND {}
    AND ($5::text[] IS NULL OR kind = ANY($5)) AND ($6::text[] IS NULL OR queue = ANY($6))
    AND {of_workflow}
    AND ($8::timestamptz IS NULL OR created_at > $8) AND ($9::timestamptz IS NULL OR created_at < $9)",
        sight::sees(viewer, 3),
        walk.of_client
    );
    (walk, condition)
}

/// The jobs of one step, locked; a test pins the plan of each.
pub fn step_sql(viewer: &Viewer, filter: &JobFilter, action: BulkAction) -> String {
    let (Walk { tables, of_step, .. }, matches) = matching(viewer, filter);
    let applies = action.applies();
    format!(
        "SELECT id FROM {tables}
         WHERE {of_step} AND {matches} AND {applies}
         ORDER BY id
         LIMIT {STEP}
         FOR UPDATE OF job"
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
        let (Walk { tables, .. }, matches) = matching(viewer, filter);
        let applies = action.applies();
        let sql = format!("SELECT count(*) AS matched FROM {tables} WHERE {matches} AND {applies}");
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
        let (pool, viewer, releaser) = (self.pool.clone(), viewer.clone(), self.releaser.clone());
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
                    _ => {
                        releaser.wake();
                        return Ok(outcome);
                    }
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
        let mut transaction = pool.begin().await?;
        let query = sqlx::query(sqlx::AssertSqlSafe(step_sql(self.viewer, self.filter, self.action)));
        let rows = bind_filter(query, self.viewer, self.filter)
            .bind(self.last)
            .bind(self.until)
            .fetch_all(&mut *transaction)
            .await?;
        let ids = rows.iter().map(|row| row.try_get("id")).collect::<sqlx::Result<Vec<Uuid>>>()?;
        if ids.is_empty() {
            return Ok((0, 0, None));
        }
        let changed = sqlx::query(sqlx::AssertSqlSafe(self.action.change().into_owned()))
            .bind(&ids)
            .bind(priority)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        transaction.commit().await?;
        Ok((
            i64::try_from(ids.len()).unwrap_or(i64::MAX),
            i64::try_from(changed).unwrap_or(i64::MAX),
            ids.last().copied(),
        ))
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
