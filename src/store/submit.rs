//! Submit: writes jobs, idempotently on (client, request id).
//!
//! Single submits meet in a group writer; `submit_all` commits alone, all or nothing. A row that loses the race
//! for its key gets no row from the insert; a second statement then reads the winner (one statement could not: it
//! would look in the snapshot from before the winner's commit).
//!
//! A connection that breaks while the answer to a commit is awaited leaves the outcome open. The ids are made
//! here, so the same batch is sent again, and the outcome is known as soon as the database is back; only when it
//! stays away is the answer `UnknownOutcome`.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use entity::{JobStatus, job};
use sqlx::{PgConnection, PgPool, Row};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::dependency::{self, Parents};
use super::group::{GroupSpec, GroupWriter};
use super::kept::KeptConnection;
use super::{STATEMENT_WITHIN, Store, read};
use crate::error::{self, Error, Result};
use crate::job::submission::NewJob;
use crate::job::viewer::Viewer;

/// Days that an idempotency key is kept at least.
pub(super) const KEY_DAYS: i32 = 90;
/// For how long a batch with an open outcome is sent again, and how long before each time. After a link fell silent each
/// pooled connection costs two seconds until it is found dead.
const RESEND_FOR: Duration = Duration::from_secs(40);
const RESEND_AFTER: Duration = Duration::from_millis(400);

/// The answer to a submit.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// The job; the first one where the request id had been used.
    pub job: job::Model,
    /// True when this submit made it.
    pub created: bool,
}

impl Store {
    /// Writes one job, together with whatever else is being submitted; alone when it depends on others.
    ///
    /// # Errors
    /// `InvalidInput` when a job that it depends on does not exist, `IdempotencyConflict`, `JobGone`, `Unavailable`,
    /// `UnknownOutcome`.
    pub async fn submit(&self, new_job: NewJob) -> Result<Submitted> {
        if new_job.depends_on.is_empty() {
            return self.submits.write(new_job).await;
        }
        let mut submitted = self.submit_all(vec![new_job]).await.map_err(|error| match error {
            Error::InvalidInput { field, problem } => {
                Error::InvalidInput { field: field.trim_start_matches("[0].").to_owned(), problem }
            }
            other => other,
        })?;
        submitted.pop().ok_or_else(unknown_outcome)
    }

    /// Writes all jobs or none, in one transaction; they age in the order given.
    ///
    /// # Errors
    /// As `submit`; the first row's error is the error of all, and names the row: `[3].dependsOn[0]`.
    pub async fn submit_all(&self, new_jobs: Vec<NewJob>) -> Result<Vec<Submitted>> {
        let pool = self.work.clone();
        self.detached("submit", async move {
            let written = settle(|sending| insert_all_or_none(&pool, &new_jobs, sending)).await?;
            Ok(new_jobs.into_iter().zip(written).map(|(new_job, written)| answer(new_job, written)).collect())
        })
        .await
    }
}

pub(super) fn writer(pool: &PgPool, tasks: &TaskTracker) -> GroupWriter<NewJob, Submitted> {
    let connection = KeptConnection::of(pool);
    GroupWriter::spawn(
        tasks,
        GroupSpec {
            operation: "submit",
            weigh: |new_job: &NewJob| new_job.payload_text.len(),
            commit: move |batch| {
                let connection = connection.clone();
                async move { commit_batch(&connection, batch).await }
            },
        },
    )
}

async fn commit_batch(connection: &KeptConnection, batch: Vec<NewJob>) -> Vec<Result<Submitted>> {
    match settle(|sending| insert_each(connection, &batch, sending)).await {
        Ok(outcomes) => answers(batch, outcomes),
        // A row that the database refuses fails alone.
        Err(Error::Database { .. }) if batch.len() > 1 => {
            let mut outcomes = Vec::with_capacity(batch.len());
            for new_job in batch {
                let alone = std::slice::from_ref(&new_job);
                // Before it was refused the batch may have been sent with an open outcome.
                let outcome = settle(|_| insert_each(connection, alone, Sending::Again)).await;
                let outcome = outcome.and_then(|mut one| one.pop().unwrap_or(Err(unknown_outcome())));
                outcomes.push(outcome.map(|written| answer(new_job, written)));
            }
            outcomes
        }
        // Each of them may have been written, and each caller must know that.
        Err(Error::UnknownOutcome { .. }) => batch.iter().map(|_| Err(unknown_outcome())).collect(),
        Err(error) => {
            let mut first = Some(error);
            batch.iter().map(|_| Err(first.take().unwrap_or_else(refused_with_the_batch))).collect()
        }
    }
}

fn unknown_outcome() -> Error {
    Error::UnknownOutcome { operation: "submit" }
}

/// The others of a batch get the code without the cause, which one of them carries to the log.
fn refused_with_the_batch() -> Error {
    Error::Unavailable { operation: "submit", source: None }
}

/// Whether rows may have been written by an attempt before this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    First,
    Again,
}

/// Runs `attempt` until its outcome is known.
pub(super) async fn settle<T, F>(attempt: impl Fn(Sending) -> F) -> Result<T>
where
    F: Future<Output = std::result::Result<T, Stopped>>,
{
    let give_up_at = Instant::now() + RESEND_FOR;
    let (mut open, mut sending) = (false, Sending::First);
    loop {
        match timeout(STATEMENT_WITHIN, attempt(sending)).await {
            Ok(Ok(outcome)) => return Ok(outcome),
            Ok(Err(Stopped::Refused(error))) => return Err(error),
            Ok(Err(Stopped::Sql { source, sent })) => {
                open |= sent && error::leaves_outcome_unknown(&source);
                let again = open || is_lost_to_another_transaction(&source);
                if !again {
                    return Err(Error::database("submit", source));
                }
            }
            // A link that has gone silent; what was sent over it may be carried out yet.
            Err(_) => open = true,
        }
        if Instant::now() >= give_up_at {
            return Err(if open { unknown_outcome() } else { refused_with_the_batch() });
        }
        sending = Sending::Again;
        tokio::time::sleep(RESEND_AFTER).await;
    }
}

/// Why an insert did not come to its end.
pub(super) enum Stopped {
    /// A rule says no; nothing was written.
    Refused(Error),
    /// The database failed; `sent` tells whether a commit may have been on its way.
    Sql { source: sqlx::Error, sent: bool },
}

pub(super) fn not_sent(source: sqlx::Error) -> Stopped {
    Stopped::Sql { source, sent: false }
}

pub(super) fn sent(source: sqlx::Error) -> Stopped {
    Stopped::Sql { source, sent: true }
}

/// True when the statement can be run again: another transaction stood in its way.
pub(super) fn is_lost_to_another_transaction(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|database| database.code()).is_some_and(|code| code.starts_with("40"))
}

/// What became of a new job. What is answered is made of the job itself once nothing needs to be sent again.
enum Written {
    New(Inserted),
    /// Its key, or its id, was there.
    Before(Box<Submitted>),
}

fn before(submitted: Submitted) -> Written {
    Written::Before(Box::new(submitted))
}

fn answers(batch: Vec<NewJob>, outcomes: Vec<Result<Written>>) -> Vec<Result<Submitted>> {
    let of_each = batch.into_iter().zip(outcomes);
    of_each.map(|(new_job, outcome)| outcome.map(|written| answer(new_job, written))).collect()
}

fn answer(new_job: NewJob, written: Written) -> Submitted {
    match written {
        Written::New(row) => created(new_job, row),
        Written::Before(submitted) => *submitted,
    }
}

async fn insert_each(
    connection: &KeptConnection,
    batch: &[NewJob],
    sending: Sending,
) -> std::result::Result<Vec<Result<Written>>, Stopped> {
    let mut connection = connection.take().await.map_err(not_sent)?;
    let mut inserted = insert(&mut connection, batch, &Parents::default(), sending).await.map_err(sent)?;
    let mut outcomes = Vec::with_capacity(batch.len());
    let mut is_whole = true;
    for new_job in batch {
        outcomes.push(match inserted.remove(&new_job.id) {
            Some(row) => Ok(Written::New(row)),
            // Nothing of this batch is open any more, so a failing read leaves nothing unknown.
            None => match winner(&mut connection, new_job).await {
                Ok(outcome) => outcome.map(before),
                Err(source) => {
                    is_whole = false;
                    Err(Error::database("submit", source))
                }
            },
        });
    }
    if is_whole {
        connection.keep();
    }
    Ok(outcomes)
}

async fn insert_all_or_none(
    pool: &PgPool,
    batch: &[NewJob],
    sending: Sending,
) -> std::result::Result<Vec<Written>, Stopped> {
    let mut transaction = pool.begin().await.map_err(not_sent)?;
    let parents = dependency::lock_parents(&mut transaction, batch).await.map_err(not_sent)?;
    let mut inserted = insert(&mut transaction, batch, &parents, sending).await.map_err(not_sent)?;
    let new_jobs = batch.iter().filter(|new_job| inserted.contains_key(&new_job.id));
    dependency::insert(&mut transaction, new_jobs, &parents, false).await.map_err(not_sent)?;
    let mut written = Vec::with_capacity(batch.len());
    for (index, new_job) in batch.iter().enumerate() {
        let outcome = match inserted.remove(&new_job.id) {
            // Only now: a repeated submit gets its first job, whatever has become of that one's parents.
            Some(row) => parents
                .check(new_job)
                .map(|()| Written::New(row))
                .map_err(|error| error.below(&format!("[{index}]"))),
            None => winner(&mut transaction, new_job).await.map_err(not_sent)?.map(before),
        };
        // Leaving here drops the transaction, which rolls back.
        written.push(outcome.map_err(Stopped::Refused)?);
    }
    transaction.commit().await.map_err(sent)?;
    Ok(written)
}

/// What the database decided about a new row.
pub(super) struct Inserted {
    status: JobStatus,
    seq: i64,
    created_at: DateTime<Utc>,
    run_at: DateTime<Utc>,
    waits_for: Option<i32>,
}

/// What every job has. In the select list the arrays are walked side by side. As `FROM unnest($1, $2, …)` each is written to a
/// store of its own first: 2.0 µs a row where this takes 0.5.
const ALWAYS: &str = "SELECT generate_subscripts($1::uuid[], 1) AS position, unnest($1::uuid[]) AS id,
                    unnest($2::text[]) AS client_id, unnest($3::text[]) AS request_id, unnest($4::text[]) AS kind,
                    unnest($5::text[]) AS queue, unnest($6::text[]) AS display_name,
                    unnest($7::smallint[]) AS priority, unnest($8::smallint[]) AS max_attempts,
                    unnest($9::integer[]) AS timeout_seconds, unnest($10::text[]) AS payload";

/// Jobs that ask for nothing beyond their kind's defaults, which most of a busy server's do: see [`is_bare`]. Half of the columns
/// and no keys to look for: half a microsecond less for each row.
static BARE_SQL: LazyLock<InsertSql> = LazyLock::new(|| {
    InsertSql::of(
        &format!(
            "WITH input AS (
             {ALWAYS}
         )
         INSERT INTO job (id, client_id, request_id, kind, queue, display_name, priority, level, max_attempts,
                          timeout_seconds, payload, status)
         SELECT id, client_id, request_id, kind, queue, display_name, priority, priority, max_attempts,
                timeout_seconds, payload::jsonb, 'PENDING'
         FROM input
         ORDER BY position"
        ),
        "RETURNING id, seq, created_at",
    )
});

/// Any jobs.
static FULL_SQL: LazyLock<InsertSql> = LazyLock::new(|| {
    InsertSql::of(
        &format!(
            "WITH input AS (
             {ALWAYS},
                    unnest($11::timestamptz[]) AS run_at, unnest($12::boolean[]) AS keyed,
                    unnest($13::bytea[]) AS payload_hash, unnest($15::uuid[]) AS named_id,
                    unnest($16::timestamptz[]) AS start_before, unnest($17::text[]) AS callback_url,
                    unnest($18::integer[]) AS waits_for, unnest($19::boolean[]) AS has_dependents,
                    unnest($20::uuid[]) AS workflow_id, unnest($21::text[]) AS workflow_key,
                    unnest($22::text[]) AS results_as
         ), key AS (
             -- Sorted, so that two batches which share keys wait for each other in one direction only. The insert
             -- waits for a transaction that holds the same key, and goes on when that one rolls back.
             INSERT INTO submit_key (client_id, request_id, job_id, kind, payload_hash, expires_at)
             SELECT client_id, request_id, id, kind, payload_hash, now() + make_interval(days => $14)
             FROM input
             WHERE keyed
                 -- A client may send the id of its own job, which stands for a request id that the server made.
                 AND NOT EXISTS (SELECT FROM job
                                 WHERE job.id = named_id AND job.client_id = input.client_id
                                     AND job.request_id = input.request_id)
             ORDER BY client_id, request_id
             ON CONFLICT DO NOTHING
             RETURNING job_id
         )
         INSERT INTO job (id, client_id, request_id, kind, queue, display_name, priority, level, max_attempts,
                          timeout_seconds, payload, start_before, callback_url, waits_for, has_dependents, workflow_id,
                          workflow_key, results_as, status, run_at)
         SELECT id, client_id, request_id, kind, queue, display_name, priority, priority, max_attempts,
                timeout_seconds, payload::jsonb, start_before, callback_url, waits_for, has_dependents, workflow_id,
                workflow_key, results_as,
                CASE WHEN waits_for > 0 THEN 'BLOCKED' WHEN run_at > now() THEN 'SCHEDULED' ELSE 'PENDING' END,
                GREATEST(run_at, now())
         FROM input
         WHERE NOT keyed OR id IN (SELECT job_id FROM key)
         ORDER BY position"
        ),
        "RETURNING id, seq, created_at, run_at, status, waits_for",
    )
});

/// A statement that writes the rows which are free. A batch that is sent again, because its outcome was open, finds the rows that
/// it has written. Ids are made here, so that the first time there are none to be found; to look for them was an eighth of
/// what a row cost PostgreSQL.
struct InsertSql {
    first: String,
    again: String,
}

impl InsertSql {
    fn of(insert: &str, returning: &str) -> InsertSql {
        InsertSql {
            first: format!("{insert} {returning}"),
            again: format!("{insert} ON CONFLICT (id) DO NOTHING {returning}"),
        }
    }

    fn when(&'static self, sending: Sending) -> &'static str {
        match sending {
            Sending::First => &self.first,
            Sending::Again => &self.again,
        }
    }
}

/// True for a job that is PENDING at once, has no key, and of which nobody but its worker has to know.
fn is_bare(new_job: &NewJob) -> bool {
    !new_job.is_keyed()
        && new_job.run_at.is_none()
        && new_job.start_before.is_none()
        && new_job.callback_url.is_none()
        && new_job.depends_on.is_empty()
        && !new_job.has_dependents
        && new_job.workflow.is_none()
}

/// One statement for the whole batch. Rows whose key is taken are left out of the answer.
pub(super) async fn insert(
    connection: &mut PgConnection,
    batch: &[NewJob],
    parents: &Parents,
    sending: Sending,
) -> sqlx::Result<HashMap<Uuid, Inserted>> {
    fn column<'a, T>(batch: &'a [NewJob], field: impl Fn(&'a NewJob) -> T) -> Vec<T> {
        batch.iter().map(field).collect()
    }
    let bare = batch.iter().all(is_bare);
    let sql = if bare { &BARE_SQL } else { &FULL_SQL };
    let mut query = sqlx::query(sql.when(sending))
        .bind(column(batch, |new_job| new_job.id))
        .bind(column(batch, |new_job| new_job.client_id.as_str()))
        .bind(column(batch, |new_job| new_job.request_id.as_str()))
        .bind(column(batch, |new_job| new_job.kind.as_str()))
        .bind(column(batch, |new_job| new_job.queue.as_str()))
        .bind(column(batch, |new_job| new_job.display_name.as_str()))
        .bind(column(batch, |new_job| new_job.priority))
        .bind(column(batch, |new_job| new_job.max_attempts))
        .bind(column(batch, |new_job| new_job.timeout_seconds))
        .bind(column(batch, |new_job| new_job.payload_text.as_str()));
    if !bare {
        query = query
            .bind(column(batch, |new_job| new_job.run_at))
            .bind(column(batch, NewJob::is_keyed))
            .bind(column(batch, |new_job| new_job.payload_hash.as_ref().map(<[u8; 32]>::as_slice)))
            .bind(KEY_DAYS)
            .bind(column(batch, named_id))
            .bind(column(batch, |new_job| new_job.start_before))
            .bind(column(batch, |new_job| new_job.callback_url.as_deref()))
            .bind(column(batch, |new_job| parents.waits_for(new_job)))
            .bind(column(batch, |new_job| new_job.has_dependents))
            .bind(column(batch, |new_job| new_job.workflow.as_ref().map(|part| part.id)))
            .bind(column(batch, |new_job| new_job.workflow.as_ref().map(|part| part.key.as_str())))
            .bind(column(batch, |new_job| {
                new_job.workflow.as_ref().and_then(|part| part.results_as.as_deref())
            }));
    }
    let rows = query.fetch_all(connection).await?;
    let inserted = rows.iter().map(|row| {
        // By their places: to look for each by its name cost more than to read it.
        let (seq, created_at) = (row.try_get(1)?, row.try_get(2)?);
        let inserted = if bare {
            Inserted { status: JobStatus::Pending, seq, created_at, run_at: created_at, waits_for: None }
        } else {
            let (run_at, status, waits_for) = (row.try_get(3)?, read::status(row, 4)?, row.try_get(5)?);
            Inserted { status, seq, created_at, run_at, waits_for }
        };
        Ok((row.try_get(0)?, inserted))
    });
    inserted.collect()
}

fn created(new_job: NewJob, row: Inserted) -> Submitted {
    let (workflow_id, workflow_key, results_as) = match new_job.workflow {
        Some(part) => (Some(part.id), Some(part.key), part.results_as),
        None => (None, None, None),
    };
    let job = job::Model {
        id: new_job.id,
        client_id: new_job.client_id,
        request_id: new_job.request_id,
        kind: new_job.kind,
        queue: new_job.queue,
        display_name: new_job.display_name,
        status: row.status,
        version: 1,
        priority: new_job.priority,
        level: new_job.priority,
        seq: row.seq,
        payload: new_job.payload,
        result: None,
        error: None,
        progress_fraction: None,
        progress_message: None,
        progress_at: None,
        attempt: 0,
        max_attempts: new_job.max_attempts,
        lease_epoch: 0,
        losses: 0,
        timeout_seconds: new_job.timeout_seconds,
        worker_id: None,
        workflow_id,
        created_at: row.created_at,
        run_at: row.run_at,
        started_at: None,
        finished_at: None,
        cancel_requested_at: None,
        start_before: new_job.start_before,
        callback_url: new_job.callback_url,
        waits_for: row.waits_for,
        has_dependents: new_job.has_dependents,
        workflow_key,
        results_as,
    };
    Submitted { job, created: true }
}

/// The job whose id the client sends as its request id; such a job may exist without a key.
fn named_id(new_job: &NewJob) -> Option<Uuid> {
    let id = Uuid::parse_str(&new_job.request_id).ok()?;
    (new_job.is_keyed() && id.get_version_num() == 7 && id.to_string() == new_job.request_id).then_some(id)
}

/// The job that holds the key of a row which was not inserted.
async fn winner(connection: &mut PgConnection, new_job: &NewJob) -> sqlx::Result<Result<Submitted>> {
    let submitter = Viewer::Client(new_job.client_id.clone());
    let key = sqlx::query(
        "SELECT job_id, kind, payload_hash FROM submit_key WHERE client_id = $1 AND request_id = $2",
    )
    .bind(&new_job.client_id)
    .bind(&new_job.request_id)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(key) = key else {
        // The row of this very submit, sent again, or a job that the client names by its id.
        let id = named_id(new_job).unwrap_or(new_job.id);
        return Ok(match read::by_ids_with(connection, &submitter, &[id]).await?.pop() {
            Some(job) if job.id == new_job.id => Ok(Submitted { job, created: true }),
            Some(job) if job.kind == new_job.kind && job.payload == new_job.payload => {
                Ok(Submitted { job, created: false })
            }
            Some(job) => Err(Error::IdempotencyConflict { job_id: job.id }),
            // The holder of the key was pruned between the two statements.
            None => Err(refused_with_the_batch()),
        });
    };
    let (job_id, kind): (Uuid, String) = (key.try_get("job_id")?, key.try_get("kind")?);
    let hash: Vec<u8> = key.try_get("payload_hash")?;
    Ok(match read::by_ids_with(connection, &submitter, &[job_id]).await?.pop() {
        // A workflow's, which is still there perhaps.
        None if kind == super::workflow::KEY_KIND => Err(Error::IdempotencyConflict { job_id }),
        None => Err(Error::JobGone { job_id, kind }),
        Some(job) if kind == new_job.kind && new_job.payload_hash.is_some_and(|own| hash == own) => {
            Ok(Submitted { created: job.id == new_job.id, job })
        }
        Some(_) => Err(Error::IdempotencyConflict { job_id }),
    })
}
