//! Dependencies: which jobs wait for which.
//!
//! A row of `dependency` lives as long as its child. A submit holds the rows of the parents, in id order, until it
//! commits, so that a parent ends either before, and counts as ended, or after, and finds the dependency.

use std::collections::HashMap;

use entity::{JobStatus, job};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{Store, read, sight};
use crate::error::{Error, Result};
use crate::job::submission::NewJob;
use crate::job::viewer::Viewer;

/// Dependencies of one statement.
const INSERT_AT_ONCE: usize = 10_000;

/// True of a row of `job` that another, unfinished one depends on: it is neither deleted nor pruned. A scalar subquery,
/// which stays a look-up per row; as an EXISTS the planner may join all unfinished jobs instead. It must stand in a
/// statement that begins once the row is locked: a submit that holds the row has committed its dependency by then.
pub(super) const IS_NEEDED: &str = "COALESCE(
    (SELECT true FROM dependency JOIN job AS child ON child.id = dependency.child
     WHERE dependency.parent = job.id AND child.status IN ('BLOCKED', 'SCHEDULED', 'PENDING', 'RUNNING')
     LIMIT 1), false)";

/// Parents of jobs that are being submitted, as they stand while they are locked.
#[derive(Debug, Default)]
pub(super) struct Parents(HashMap<Uuid, Parent>);

#[derive(Debug)]
struct Parent {
    status: JobStatus,
    client_id: String,
}

impl Parents {
    /// How many parents the job waits for; none when it depends on nothing. Jobs of the same submit are not among the
    /// locked ones, and are not DONE.
    pub(super) fn waits_for(&self, new_job: &NewJob) -> Option<i32> {
        if new_job.depends_on.is_empty() {
            return None;
        }
        let unmet = new_job.depends_on.iter().filter(|parent| !self.is_done(parent)).count();
        Some(i32::try_from(unmet).unwrap_or(i32::MAX))
    }

    fn is_done(&self, id: &Uuid) -> bool {
        self.0.get(id).is_some_and(|parent| parent.status == JobStatus::Done)
    }

    /// Refuses a job with a parent that does not exist or is another client's, which is the same answer.
    pub(super) fn check(&self, new_job: &NewJob) -> Result<()> {
        let is_unknown =
            |id: &Uuid| self.0.get(id).is_none_or(|parent| parent.client_id != new_job.client_id);
        match new_job.depends_on.iter().enumerate().find(|(_, id)| is_unknown(id)) {
            Some((index, id)) => Err(Error::invalid(
                format!("dependsOn[{index}]"),
                format!("there is no job {id} of client {:?}", new_job.client_id),
            )),
            None => Ok(()),
        }
    }
}

/// Locks the parents of these jobs until the transaction ends, and marks those that will end yet.
pub(super) async fn lock_parents(connection: &mut PgConnection, batch: &[NewJob]) -> sqlx::Result<Parents> {
    let mut ids: Vec<Uuid> = batch.iter().flat_map(|new_job| new_job.depends_on.iter().copied()).collect();
    if ids.is_empty() {
        return Ok(Parents::default());
    }
    ids.sort_unstable();
    ids.dedup();
    // What is another client's is as good as unknown, and is not held either.
    let mut clients: Vec<&str> = batch.iter().map(|new_job| new_job.client_id.as_str()).collect();
    clients.sort_unstable();
    clients.dedup();
    let rows = sqlx::query(
        "WITH parent AS MATERIALIZED (
             SELECT id, status, client_id, has_dependents FROM job WHERE id = ANY($1) AND client_id = ANY($2)
             ORDER BY id
             FOR NO KEY UPDATE
         ), marked AS (
             -- One that has failed is marked when it is retried: what is terminal does not change.
             UPDATE job SET has_dependents = true, version = version + 1
             FROM parent
             WHERE job.id = parent.id AND NOT parent.has_dependents
                 AND parent.status IN ('BLOCKED', 'SCHEDULED', 'PENDING', 'RUNNING')
         )
         SELECT id, status, client_id FROM parent",
    )
    .bind(ids)
    .bind(clients)
    .fetch_all(connection)
    .await?;
    let parent = |row| {
        let parent = Parent { status: read::status(row, "status")?, client_id: row.try_get("client_id")? };
        Ok((row.try_get("id")?, parent))
    };
    rows.iter().map(parent).collect::<sqlx::Result<_>>().map(Parents)
}

/// Writes the dependencies of jobs that have just been inserted.
pub(super) async fn insert<'a>(
    connection: &mut PgConnection,
    new_jobs: impl Iterator<Item = &'a NewJob>,
    parents: &Parents,
    cancels: bool,
) -> sqlx::Result<()> {
    let (mut children, mut of, mut met) = (Vec::new(), Vec::new(), Vec::new());
    for new_job in new_jobs {
        for parent in &new_job.depends_on {
            children.push(new_job.id);
            of.push(*parent);
            met.push(parents.is_done(parent));
        }
    }
    let chunks =
        children.chunks(INSERT_AT_ONCE).zip(of.chunks(INSERT_AT_ONCE)).zip(met.chunks(INSERT_AT_ONCE));
    for ((children, of), met) in chunks {
        sqlx::query(
            "INSERT INTO dependency (child, parent, met, cancels)
             SELECT child, parent, met, $4 FROM unnest($1::uuid[], $2::uuid[], $3::boolean[]) AS d(child, parent, met)
             -- A submit that is sent again, because its outcome was open.
             ON CONFLICT DO NOTHING",
        )
        .bind(children)
        .bind(of)
        .bind(met)
        .bind(cancels)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Which way dependencies are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the jobs that a job depends on.
    Parents,
    /// To the jobs that depend on it.
    Children,
}

/// The neighbours of a job that a page shows: by id, which is by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NeighbourRequest {
    /// Of this job.
    pub job_id: Uuid,
    /// Which of them.
    pub direction: Direction,
    /// Only those after this one.
    pub after: Option<Uuid>,
    /// At most this many.
    pub limit: i64,
}

/// One page for each of `$1`, `$2` being where each begins; a test pins the plan.
pub fn neighbours_sql(viewer: &Viewer, direction: Direction) -> String {
    let (from, to) = columns(direction);
    format!(
        "SELECT asked.place, job.* FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) WITH ORDINALITY
             AS asked(id, after, size, place)
         CROSS JOIN LATERAL (
             -- Dependencies go with the child, but outlive a parent: what is gone takes no place on a page.
             SELECT job.* FROM dependency JOIN job ON job.id = dependency.{to}
             WHERE dependency.{from} = asked.id AND dependency.{to} > asked.after AND {}
             ORDER BY dependency.{to}
             LIMIT asked.size
         ) AS job
         ORDER BY asked.place, job.id",
        sight::sees(viewer, 4)
    )
}

fn columns(direction: Direction) -> (&'static str, &'static str) {
    match direction {
        Direction::Parents => ("child", "parent"),
        Direction::Children => ("parent", "child"),
    }
}

impl Store {
    /// The neighbours for each request, in its order, from one statement a direction.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn neighbours(
        &self,
        viewer: &Viewer,
        requests: &[NeighbourRequest],
    ) -> Result<HashMap<NeighbourRequest, Vec<job::Model>>> {
        let failed = |source| Error::database("read dependencies", source);
        let mut pages: HashMap<NeighbourRequest, Vec<job::Model>> =
            requests.iter().map(|request| (*request, Vec::new())).collect();
        for direction in [Direction::Parents, Direction::Children] {
            let asked: Vec<&NeighbourRequest> =
                requests.iter().filter(|request| request.direction == direction).collect();
            if asked.is_empty() {
                continue;
            }
            let rows = sqlx::query(sqlx::AssertSqlSafe(neighbours_sql(viewer, direction)))
                .bind(asked.iter().map(|request| request.job_id).collect::<Vec<_>>())
                .bind(asked.iter().map(|request| request.after.unwrap_or_default()).collect::<Vec<_>>())
                .bind(asked.iter().map(|request| request.limit).collect::<Vec<_>>())
                .bind(sight::bound(viewer))
                .fetch_all(&self.pool)
                .await
                .map_err(failed)?;
            for row in &rows {
                let place: i64 = row.try_get("place").map_err(failed)?;
                let index = usize::try_from(place - 1).unwrap_or(usize::MAX);
                if let Some(page) = asked.get(index).and_then(|request| pages.get_mut(*request)) {
                    page.push(read::job(row).map_err(failed)?);
                }
            }
        }
        Ok(pages)
    }

    /// How many neighbours the viewer sees.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn count_neighbours(&self, viewer: &Viewer, job_id: Uuid, direction: Direction) -> Result<i64> {
        let (from, to) = columns(direction);
        let sql = format!(
            "SELECT count(*) AS jobs FROM dependency JOIN job ON job.id = dependency.{to}
             WHERE dependency.{from} = $1 AND {}",
            sight::sees(viewer, 2)
        );
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(job_id)
            .bind(sight::bound(viewer))
            .fetch_one(&self.pool)
            .await
            .and_then(|row| row.try_get("jobs"))
            .map_err(|source| Error::database("count dependencies", source))
    }

    /// Those of the jobs that cannot run before somebody acts: a job that they depend on, perhaps by way of others,
    /// did not end well, or is gone. Linear in the dependencies that are looked at, however many jobs are asked for.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn held_by_failures(&self, ids: &[Uuid]) -> Result<Vec<Uuid>> {
        sqlx::query(HELD_BY_FAILURES_SQL)
            .bind(ids)
            .fetch_all(&self.pool)
            .await
            .and_then(|rows| rows.iter().map(|row| row.try_get("id")).collect())
            .map_err(|source| Error::database("look for failed dependencies", source))
    }
}

/// First all that the jobs wait for, then downwards from those among them that failed; a test pins the plan.
pub const HELD_BY_FAILURES_SQL: &str = "
    WITH RECURSIVE awaited(id) AS (
        SELECT unnest($1::uuid[])
        UNION
        SELECT dependency.parent FROM awaited JOIN dependency ON dependency.child = awaited.id
        WHERE NOT dependency.met
    ), held(id) AS (
        SELECT awaited.id FROM awaited LEFT JOIN job ON job.id = awaited.id
        WHERE job.id IS NULL OR job.status IN ('ERROR', 'CANCELLED')
        UNION
        SELECT dependency.child FROM held JOIN dependency ON dependency.parent = held.id
        WHERE NOT dependency.met
    )
    SELECT id FROM held WHERE id = ANY($1)";
