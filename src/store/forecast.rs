//! What a forecast is made from: recent durations, live slots, what runs and what waits first.
//!
//! Workers report durations per kind and minute; the mean of the last ten minutes counts, else that of the last hour. A
//! queue's slots are those of its live workers, less what they run for other queues, and at most its limit. A worker over
//! the API has as many as it has ever asked for at once, or as it holds. A job that was posted and accepted is its receiver's:
//! it takes no slot, but room below the limit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use entity::queue::ClaimOrder;
use sqlx::{PgConnection, Row};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::external::HTTP_OWNER;
use super::{Store, queue};
use crate::error::{Error, Result};
use crate::job::forecast::{Forecast, LOOK_AHEAD, Outlook, Running};

/// A forecast serves everyone who asks within this time.
const FRESH: Duration = Duration::from_millis(500);

/// A forecast and the instant, by the database's clock, that its seconds count from.
#[derive(Clone, Debug, PartialEq)]
pub struct MadeForecast {
    /// When it was made.
    pub at: DateTime<Utc>,
    /// What it says.
    pub forecast: Forecast,
}

/// The forecasts that are fresh, one computation each.
#[derive(Clone, Default)]
pub(super) struct Forecasts {
    fresh: Arc<Mutex<HashMap<String, Fresh>>>,
}

type Fresh = (Instant, Arc<OnceCell<Arc<MadeForecast>>>);

impl Forecasts {
    fn of(&self, queue: &str) -> Arc<OnceCell<Arc<MadeForecast>>> {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.retain(|_, (since, _)| since.elapsed() < FRESH);
        fresh.entry(queue.to_owned()).or_insert_with(|| (Instant::now(), Arc::default())).1.clone()
    }
}

impl Store {
    /// Adds to what attempts of each kind took: their number and their seconds together.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn add_durations(&self, durations: Vec<(String, i32, f64)>) -> Result<()> {
        let pool = self.upkeep.clone();
        self.detached("report durations", async move {
            sqlx::query(
                "INSERT INTO kind_duration (kind, minute, jobs, seconds)
                 SELECT kind, date_trunc('minute', now()), jobs, seconds
                 FROM unnest($1::text[], $2::integer[], $3::float8[]) AS d(kind, jobs, seconds)
                 ORDER BY kind
                 ON CONFLICT (kind, minute) DO UPDATE
                 SET jobs = kind_duration.jobs + excluded.jobs, seconds = kind_duration.seconds + excluded.seconds",
            )
            .bind(durations.iter().map(|(kind, _, _)| kind.as_str()).collect::<Vec<_>>())
            .bind(durations.iter().map(|(_, jobs, _)| *jobs).collect::<Vec<_>>())
            .bind(durations.iter().map(|(_, _, seconds)| *seconds).collect::<Vec<_>>())
            .execute(&pool)
            .await
            .map(drop)
            .map_err(|source| Error::database("report durations", source))
        })
        .await
    }

    /// When the jobs of the queue will probably start; nothing of a paused queue. At most half a second old.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn forecast(&self, queue: &str) -> Result<Arc<MadeForecast>> {
        let cell = self.forecasts.of(queue);
        let made = cell.get_or_try_init(|| async {
            // Boxed, as it is 15 kB.
            let mut connection = Box::pin(self.pool.acquire()).await?;
            make(&mut connection, queue).await.map(Arc::new)
        });
        made.await.cloned().map_err(|source| Error::database("make a forecast", source))
    }
}

async fn make(connection: &mut PgConnection, queue: &str) -> sqlx::Result<MadeForecast> {
    let settings = queue::settings_of(connection, queue).await?;
    let row = sqlx::query(
        "SELECT now() AS at,
                COALESCE(sum(GREATEST(0, slots - elsewhere, CASE WHEN owner IS NOT NULL THEN here END)), 0)::bigint AS slots
         FROM (
             SELECT slots, owner,
                    (SELECT count(*) FROM job
                     WHERE status = 'RUNNING' AND worker_id = worker.id AND job.queue <> $1) AS elsewhere,
                    (SELECT count(*) FROM job
                     WHERE status = 'RUNNING' AND worker_id = worker.id AND job.queue = $1) AS here
             FROM worker
             WHERE $1 = ANY(queues) AND lost_at IS NULL AND NOT draining AND expires_at > now()
         ) AS live",
    )
    .bind(queue)
    .fetch_one(&mut *connection)
    .await?;
    let at = row.try_get("at")?;
    let usual = usual_durations(connection).await?;
    let (running, accepted) = running(connection, queue, &usual).await?;
    let slots: i64 = row.try_get("slots")?;
    let slots = settings.max_running.map_or(slots, |limit| slots.min(i64::from(limit) - accepted));
    if settings.paused || slots <= 0 {
        return Ok(MadeForecast { at, forecast: Forecast::default() });
    }
    let waiting = first_kinds(connection, queue, settings.claim_order).await?;
    let outlook = Outlook {
        slots: usize::try_from(slots).unwrap_or_default(),
        running,
        waiting: waiting.iter().map(|kind| usual.get(kind).copied()).collect(),
    };
    Ok(MadeForecast { at, forecast: Forecast::of(&outlook) })
}

/// What runs in slots, and how many run at their receivers.
async fn running(
    connection: &mut PgConnection,
    queue: &str,
    usual: &HashMap<String, f64>,
) -> sqlx::Result<(Vec<Running>, i64)> {
    let rows = sqlx::query(
        "SELECT kind, extract(epoch FROM now() - job.started_at)::float8 AS elapsed,
                COALESCE(worker.owner = $2, false) AS is_accepted
         FROM job LEFT JOIN worker ON worker.id = job.worker_id
         WHERE status = 'RUNNING' AND queue = $1",
    )
    .bind(queue)
    .bind(HTTP_OWNER)
    .fetch_all(connection)
    .await?;
    let (mut running, mut accepted) = (Vec::new(), 0);
    for row in &rows {
        if row.try_get("is_accepted")? {
            accepted += 1;
            continue;
        }
        let kind: &str = row.try_get("kind")?;
        running.push(Running { elapsed: row.try_get("elapsed")?, usual: usual.get(kind).copied() });
    }
    Ok((running, accepted))
}

/// Seconds that an attempt of each kind took lately.
async fn usual_durations(connection: &mut PgConnection) -> sqlx::Result<HashMap<String, f64>> {
    let rows = sqlx::query(
        "SELECT kind, COALESCE(sum(seconds) FILTER (WHERE minute > now() - interval '10 minutes')
                                   / NULLIF(sum(jobs) FILTER (WHERE minute > now() - interval '10 minutes'), 0),
                               sum(seconds) / sum(jobs)) AS usual
         FROM kind_duration
         WHERE minute > now() - interval '1 hour' AND jobs > 0
         GROUP BY kind",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("kind")?, row.try_get("usual")?))).collect()
}

async fn first_kinds(
    connection: &mut PgConnection,
    queue: &str,
    order: ClaimOrder,
) -> sqlx::Result<Vec<String>> {
    let limit = i64::try_from(LOOK_AHEAD).unwrap_or(i64::MAX);
    let rows = sqlx::query(sqlx::AssertSqlSafe(queue::upcoming_sql(order, "kind")))
        .bind(queue)
        .bind(-1_i16)
        .bind(0_i64)
        .bind(Vec::<String>::new())
        .bind(limit)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| row.try_get("kind")).collect()
}
