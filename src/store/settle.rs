//! Settle: what the ends of jobs mean for their workflow.
//!
//! A workflow ends when no job of it runs or can run without anyone acting: none is SCHEDULED, PENDING or RUNNING, and
//! no end waits to be released. What is BLOCKED then waits for a job that failed. Each end of a job leaves a row in
//! `job_end`, which a release hands on once dependents have been seen to; a settle takes these rows, locks the
//! workflow, and looks in a statement of its own, so that of two last jobs the one that is looked at later finds the
//! other ended. The end of a workflow and the delivery of it are one transaction.

use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::bounded;

/// Ends of one step.
const ENDS: i64 = 1_000;

/// Ends those of `$1` that have come to an end. They are locked by a statement before. A test pins its plan.
pub const SETTLE_SQL: &str = "
    WITH ended AS (
        UPDATE workflow
        SET status = CASE WHEN (SELECT true FROM job WHERE workflow_id = workflow.id AND job.status = 'ERROR' LIMIT 1)
                          THEN 'ERROR'
                          WHEN (SELECT true FROM job WHERE workflow_id = workflow.id AND job.status <> 'DONE' LIMIT 1)
                          THEN 'CANCELLED'
                          ELSE 'DONE' END,
            finished_at = now(), ends = ends + 1
        WHERE id = ANY($1) AND status = 'RUNNING'
            AND NOT COALESCE((SELECT true FROM job
                              WHERE workflow_id = workflow.id
                                  AND (job.status IN ('SCHEDULED', 'PENDING', 'RUNNING')
                                       OR (job.status = 'BLOCKED' AND waits_for = 0))
                              LIMIT 1), false)
            AND NOT COALESCE((SELECT true FROM job_end
                              WHERE job_end.workflow_id = workflow.id AND NOT released LIMIT 1), false)
        RETURNING id, ends, callback_url
    ), told AS (
        INSERT INTO workflow_callback (workflow_id, event, next_at)
        SELECT id, ends, now() FROM ended WHERE callback_url IS NOT NULL
        ON CONFLICT (workflow_id) DO UPDATE
        SET event = excluded.event, status = 'WAITING', attempts = 0, next_at = now(), last_error = NULL,
            delivered_at = NULL
    )
    SELECT id, pg_notify('jobql_workflow', id::text)::text FROM ended";

/// One step: takes ends that have been released. How many those were.
pub(super) async fn step(pool: &PgPool) -> sqlx::Result<usize> {
    bounded(async {
        let mut transaction = pool.begin().await?;
        let rows = sqlx::query(
            "SELECT number, workflow_id FROM job_end WHERE released ORDER BY number LIMIT $1 FOR UPDATE SKIP LOCKED",
        )
        .bind(ENDS)
        .fetch_all(&mut *transaction)
        .await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let numbers = rows.iter().map(|row| row.try_get("number")).collect::<sqlx::Result<Vec<i64>>>()?;
        let workflows =
            rows.iter().map(|row| row.try_get("workflow_id")).collect::<sqlx::Result<Vec<Option<Uuid>>>>()?;
        let mut workflows: Vec<Uuid> = workflows.into_iter().flatten().collect();
        workflows.sort_unstable();
        workflows.dedup();
        sqlx::query("SELECT FROM workflow WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE")
            .bind(&workflows)
            .execute(&mut *transaction)
            .await?;
        let ended = sqlx::query(SETTLE_SQL).bind(&workflows).fetch_all(&mut *transaction).await?;
        sqlx::query("DELETE FROM job_end WHERE number = ANY($1)").bind(&numbers).execute(&mut *transaction).await?;
        transaction.commit().await?;
        for row in &ended {
            let id: Uuid = row.try_get("id")?;
            tracing::debug!(workflow.id = %id, "a workflow has come to its end");
        }
        Ok(numbers.len())
    })
    .await
}
