//! Hand down: results of parents, into the payload of the job that asked for them.
//!
//! A job with `results_as` that waits for nothing any more stays BLOCKED, with `waits_for` 0, until this has put the
//! results of all its parents, by their keys, into its payload. It is found by an index that holds just such jobs, so
//! nothing is lost when a process dies before. What would be larger than a payload may be, or is there no more, ends the
//! job in ERROR: it must not stay BLOCKED, and nobody cancelled it.

use serde_json::json;
use sqlx::{PgPool, Row};

use super::bounded;
use crate::job::failure::Failure;

/// Jobs of one step; each may become as large as a payload may be.
const JOBS: i64 = 20;

/// A test pins its plan. Sizes as stored are looked at first: results that cannot fit are not even read.
pub const HAND_DOWN_SQL: &str = "
    WITH due AS MATERIALIZED (
        SELECT job.id, job.payload, job.results_as, job.run_at, workflow.max_payload_bytes
        FROM job LEFT JOIN workflow ON workflow.id = job.workflow_id
        WHERE job.status = 'BLOCKED' AND job.waits_for = 0
        ORDER BY job.id
        LIMIT $1
        FOR NO KEY UPDATE OF job SKIP LOCKED
    ), size AS MATERIALIZED (
        SELECT due.id, count(*) = count(parent.id) AS complete,
               COALESCE(sum(pg_column_size(parent.result)), 0) <= 4 * COALESCE(max_payload_bytes, 0)::bigint AS may_fit
        FROM due JOIN dependency ON dependency.child = due.id
        LEFT JOIN job AS parent ON parent.id = dependency.parent AND parent.status = 'DONE'
        GROUP BY due.id, max_payload_bytes
    ), merged AS MATERIALIZED (
        SELECT due.id, due.run_at, due.results_as, max_payload_bytes, COALESCE(complete, true) AS complete,
               CASE WHEN due.results_as IS NULL THEN due.payload
                    WHEN complete AND may_fit
                    THEN due.payload || jsonb_build_object(due.results_as, (
                        SELECT jsonb_object_agg(parent.workflow_key, parent.result)
                        FROM dependency JOIN job AS parent ON parent.id = dependency.parent
                        WHERE dependency.child = due.id AND parent.workflow_key IS NOT NULL)) END AS payload
        FROM due LEFT JOIN size USING (id)
    ), decided AS MATERIALIZED (
        SELECT id, payload,
               CASE WHEN NOT complete AND results_as IS NOT NULL THEN $2::jsonb
                    WHEN payload IS NULL OR (results_as IS NOT NULL AND octet_length(payload::text) > max_payload_bytes)
                    THEN $3::jsonb END AS error,
               CASE WHEN run_at > now() THEN 'SCHEDULED' ELSE 'PENDING' END AS ready
        FROM merged
    ), turn AS (
        SELECT id, nextval('job_seq') AS seq FROM (SELECT id FROM decided WHERE error IS NULL ORDER BY id) AS sorted
    ), changed AS (
        UPDATE job
        SET status = CASE WHEN decided.error IS NULL THEN decided.ready ELSE 'ERROR' END, version = version + 1,
            payload = CASE WHEN decided.error IS NULL THEN decided.payload ELSE job.payload END,
            error = decided.error, seq = COALESCE(turn.seq, job.seq),
            run_at = GREATEST(run_at, now()),
            finished_at = CASE WHEN decided.error IS NOT NULL THEN now() END
        FROM decided LEFT JOIN turn USING (id)
        WHERE job.id = decided.id
        RETURNING job.id
    )
    SELECT count(*) AS jobs FROM changed";

/// One step. How many jobs that were.
pub(super) async fn step(pool: &PgPool) -> sqlx::Result<i64> {
    let gone = Failure::fatal("RESULTS_GONE", "a job whose result it was to get is gone");
    let too_large = Failure::fatal(
        "PAYLOAD_TOO_LARGE",
        "its payload with the results of the jobs that it depends on is too large",
    );
    let changed =
        sqlx::query(HAND_DOWN_SQL).bind(JOBS).bind(json!(gone)).bind(json!(too_large)).fetch_one(pool);
    bounded(changed).await?.try_get("jobs")
}
