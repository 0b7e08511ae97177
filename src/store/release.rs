//! Release: what the end of a job means for the jobs that depend on it.
//!
//! Whoever ends a job that others depend on (a worker, the sweeper, a cancel, a missed `startBefore`, somebody in psql)
//! writes a row of `job_end` in the same transaction, by a trigger. A release takes such rows and subtracts them from
//! the children, each dependency once; a child that waits for nothing any more becomes ready, under a new `seq`. A
//! process that dies between the two leaves the rows to others: nothing is ever looked for by a scan.
//!
//! Each step is one statement of at most [`CHILDREN`] dependencies, grouped per child, children locked in id order; the
//! rest of a large fan-out is left to the next step, so nothing is locked for long. Between them payloads get their results
//! ([`hand_down`]) and workflows come to their end ([`settle`]). It runs in a task of the store as soon
//! as an end is written by this process, and by the upkeep of every process. Processes that do so at once share the
//! work by skipping each other's rows; two last parents of one child meet in the child's row.

use sqlx::{PgPool, Row};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{Store, bounded, hand_down, is_due, settle};
use crate::error::{Error, Result};

/// Ends of one step.
const ENDS: i64 = 500;
/// Dependencies of one step.
const CHILDREN: i64 = 1_000;

/// True while an end waits for any of the steps, or a job for its parents' results.
const IS_DUE: &str = "SELECT COALESCE(
    (SELECT true FROM job_end ORDER BY number LIMIT 1),
    (SELECT true FROM job WHERE status = 'BLOCKED' AND waits_for = 0 ORDER BY id LIMIT 1), false)";

/// One step; a test pins its plan.
///
/// Children are locked whatever their status in the snapshot, and judged by what the lock shows: a retry that holds one
/// has counted a dependency which is met here as not met, and must be heard.
pub const RELEASE_SQL: &str = "
    WITH taken AS MATERIALIZED (
        SELECT number, job_id, workflow_id, released_to FROM job_end
        WHERE NOT released
        ORDER BY number
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    ), edge AS MATERIALIZED (
        SELECT taken.number, edges.child, edges.parent, edges.cancels, parent.status
        FROM taken JOIN job AS parent ON parent.id = taken.job_id
        CROSS JOIN LATERAL (
            SELECT child, dependency.parent, cancels FROM dependency
            WHERE dependency.parent = taken.job_id AND child > taken.released_to
            ORDER BY dependency.parent, child
            LIMIT $2
        ) AS edges
        ORDER BY taken.number, edges.child
        LIMIT $2
    ), met AS (
        UPDATE dependency SET met = true
        FROM edge
        WHERE edge.status = 'DONE' AND dependency.child = edge.child AND dependency.parent = edge.parent
            AND NOT dependency.met
        RETURNING dependency.child
    ), affected AS MATERIALIZED (
        SELECT child, sum(met)::integer AS met, bool_or(cancelled) AS cancelled
        FROM (SELECT child, 1 AS met, false AS cancelled FROM met
              UNION ALL
              SELECT child, 0, true FROM edge WHERE cancels AND status IN ('ERROR', 'CANCELLED')) AS each
        GROUP BY child
    ), held AS MATERIALIZED (
        SELECT job.id, job.status, job.run_at, job.results_as, job.waits_for - affected.met AS waits_for, affected.cancelled
        FROM affected JOIN job ON job.id = affected.child
        ORDER BY job.id
        FOR NO KEY UPDATE OF job
    ), decided AS MATERIALIZED (
        SELECT id, waits_for,
               CASE WHEN cancelled THEN 'CANCELLED'
                    -- One that waits for results only gets them in a step of its own.
                    WHEN waits_for > 0 OR results_as IS NOT NULL THEN 'BLOCKED'
                    WHEN run_at > now() THEN 'SCHEDULED' ELSE 'PENDING' END AS next
        FROM held WHERE status = 'BLOCKED'
    ), turn AS (
        SELECT id, nextval('job_seq') AS seq
        FROM (SELECT id FROM decided WHERE next = 'PENDING' ORDER BY id) AS sorted
    ), changed AS (
        UPDATE job
        SET status = decided.next, version = version + 1, waits_for = decided.waits_for,
            seq = COALESCE(turn.seq, job.seq),
            run_at = CASE decided.next WHEN 'PENDING' THEN GREATEST(run_at, now()) ELSE run_at END,
            finished_at = CASE decided.next WHEN 'CANCELLED' THEN now() END,
            error = CASE decided.next WHEN 'CANCELLED' THEN $3::jsonb END
        FROM decided LEFT JOIN turn USING (id)
        WHERE job.id = decided.id
        RETURNING decided.next
    ), last AS (
        -- Of a full step the last end may have more children; those before it have none left, those after it were
        -- not looked at.
        SELECT number, child FROM edge
        WHERE (SELECT count(*) FROM edge) >= $2
        ORDER BY number DESC, child DESC
        LIMIT 1
    ), complete AS MATERIALIZED (
        SELECT number, workflow_id FROM taken WHERE number < COALESCE((SELECT number FROM last), number + 1)
    ), gone AS (
        DELETE FROM job_end USING complete WHERE job_end.number = complete.number AND complete.workflow_id IS NULL
    ), handed_on AS (
        UPDATE job_end SET released = true FROM complete
        WHERE job_end.number = complete.number AND complete.workflow_id IS NOT NULL
    ), begun AS (
        UPDATE job_end SET released_to = last.child FROM last WHERE job_end.number = last.number
    )
    SELECT (SELECT count(*) FROM taken) AS ends,
           (SELECT count(*) FROM changed WHERE next IN ('PENDING', 'SCHEDULED')) AS released,
           (SELECT count(*) FROM changed WHERE next = 'CANCELLED') AS cancelled";

/// What a release did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Ends that were looked at.
    pub ends: i64,
    /// Jobs that wait for nothing any more.
    pub released: i64,
    /// Jobs that were cancelled as one that they depend on did not end well.
    pub cancelled: i64,
}

/// Wakes the task that releases. Cheap to clone; the task ends with the last clone.
#[derive(Clone)]
pub(super) struct Releaser(mpsc::Sender<()>);

impl Releaser {
    pub(super) fn spawn(pool: &PgPool, tasks: &TaskTracker) -> Releaser {
        // One that waits stands for all: each run looks at everything.
        let (sender, mut receiver) = mpsc::channel(1);
        let pool = pool.clone();
        tasks.spawn(async move {
            while receiver.recv().await.is_some() {
                if let Err(error) = release_all(&pool).await {
                    tracing::debug!(error = %error, "dependents could not be released; the upkeep will");
                }
            }
        });
        Releaser(sender)
    }

    /// A job has ended that others may depend on.
    pub(super) fn wake(&self) {
        // Full: a run that is about to begin sees this end as well.
        let _ = self.0.try_send(());
    }
}

impl Store {
    /// Releases or cancels what depends on jobs that have ended, and says how much that was.
    ///
    /// # Errors
    /// `Unavailable`, `Database`; the steps before it stay.
    pub async fn release_dependents(&self) -> Result<Released> {
        let pool = self.upkeep.clone();
        self.detached("release dependents", async move {
            release_all(&pool).await.map_err(|source| Error::database("release dependents", source))
        })
        .await
    }
}

/// Step by step, until nothing is due that nobody else works on.
async fn release_all(pool: &PgPool) -> sqlx::Result<Released> {
    let mut total = Released::default();
    while bounded(is_due(pool, IS_DUE)).await? {
        let step = bounded(release_step(pool)).await?;
        let handed_down = hand_down::step(pool).await?;
        let settled = settle::step(pool).await?;
        if step.ends == 0 && handed_down == 0 && settled == 0 {
            break;
        }
        total.ends += step.ends;
        total.released += step.released;
        total.cancelled += step.cancelled;
    }
    Ok(total)
}

async fn release_step(pool: &PgPool) -> sqlx::Result<Released> {
    let row = sqlx::query(RELEASE_SQL)
        .bind(ENDS)
        .bind(CHILDREN)
        .bind(serde_json::json!(crate::job::failure::Failure::retryable(
            "DEPENDENCY_FAILED",
            "a job that it depends on did not end well"
        )))
        .fetch_one(pool)
        .await?;
    Ok(Released {
        ends: row.try_get("ends")?,
        released: row.try_get("released")?,
        cancelled: row.try_get("cancelled")?,
    })
}
