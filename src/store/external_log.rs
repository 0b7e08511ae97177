//! Log lines of workers over the API. Such a worker does not number its lines, so that they are numbered here, under
//! the job's row: two appends at once take turns, and the bounds of an attempt's log hold over all processes.

use std::time::Duration;

use entity::job_log::LogStream;
use sqlx::{Connection, PgPool, Row};

use super::Store;
use super::lease::Lease;
use super::log::{LOG_IS_FULL, MAX_BYTES, MAX_LINES, NewLine};
use crate::error::{Error, Result};

impl Store {
    /// Appends lines, numbered in the order given; false when the log is full and not all of them were kept.
    ///
    /// # Errors
    /// `LeaseLost`, `Unavailable`, `Database`.
    pub async fn append_unnumbered_logs_if_leased(&self, lease: Lease, lines: Vec<NewLine>) -> Result<bool> {
        let pool = self.work.clone();
        self.detached("append logs", async move {
            let written = write(&pool, lease, lines).await;
            written.map_err(|source| Error::database("append logs", source))?.ok_or(Error::LeaseLost)
        })
        .await
    }
}

/// Whether all lines were kept; none without the lease.
async fn write(pool: &PgPool, lease: Lease, lines: Vec<NewLine>) -> sqlx::Result<Option<bool>> {
    let mut connection = pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    let held = sqlx::query(
        "SELECT FROM job WHERE id = $1 AND lease_epoch = $2 AND status = 'RUNNING' FOR NO KEY UPDATE",
    )
    .bind(lease.job_id)
    .bind(lease.epoch)
    .fetch_optional(&mut *transaction)
    .await?;
    if held.is_none() {
        return Ok(None);
    }
    let said = sqlx::query(
        "SELECT COALESCE(max(number), 0) AS lines, COALESCE(sum(octet_length(text)), 0)::bigint AS bytes,
                COALESCE(bool_or(stream = 'SYSTEM' AND text = $3), false) AS is_full
         FROM job_log WHERE job_id = $1 AND lease_epoch = $2",
    )
    .bind(lease.job_id)
    .bind(lease.epoch)
    .bind(LOG_IS_FULL)
    .fetch_one(&mut *transaction)
    .await?;
    if said.try_get("is_full")? {
        return Ok(Some(false));
    }
    let bytes: i64 = said.try_get("bytes")?;
    let (kept, is_full) =
        what_fits(lines, said.try_get("lines")?, usize::try_from(bytes).unwrap_or(MAX_BYTES));
    sqlx::query(
        "INSERT INTO job_log (job_id, lease_epoch, number, at, stream, text)
         SELECT $1, $2, number, now() - make_interval(secs => age), stream, text
         FROM unnest($3::integer[], $4::text[], $5::text[], $6::float8[]) AS said(number, stream, text, age)",
    )
    .bind(lease.job_id)
    .bind(lease.epoch)
    .bind(kept.iter().map(|line| line.number).collect::<Vec<_>>())
    .bind(kept.iter().map(|line| line.stream.as_str()).collect::<Vec<_>>())
    .bind(kept.iter().map(|line| line.text.as_str()).collect::<Vec<_>>())
    .bind(kept.iter().map(|line| line.age.as_secs_f64()).collect::<Vec<_>>())
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(Some(!is_full))
}

/// The lines with their numbers, as far as they fit; the first that does not is replaced by one that says so.
fn what_fits(lines: Vec<NewLine>, mut number: i32, mut bytes: usize) -> (Vec<NewLine>, bool) {
    let mut kept = Vec::with_capacity(lines.len());
    for line in lines {
        number += 1;
        bytes += line.text.len();
        if number > MAX_LINES || bytes > MAX_BYTES {
            let text = LOG_IS_FULL.to_owned();
            kept.push(NewLine { number, stream: LogStream::System, text, age: Duration::ZERO });
            return (kept, true);
        }
        kept.push(NewLine { number, ..line });
    }
    (kept, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_bounds_are_replaced_by_one_that_says_so() {
        let line = |text: String| NewLine { number: 0, stream: LogStream::Stdout, text, age: Duration::ZERO };
        let (kept, is_full) = what_fits(vec![line("a".to_owned()), line("b".to_owned())], 3, 10);
        assert_eq!(kept.iter().map(|line| line.number).collect::<Vec<_>>(), [4, 5]);
        assert!(!is_full);
        let (kept, is_full) = what_fits(vec![line("a".to_owned()); 5], MAX_LINES - 2, 0);
        assert_eq!((kept.len(), kept[2].stream, is_full), (3, LogStream::System, true));
        let (kept, is_full) = what_fits(vec![line("x".repeat(100)); 5], 0, MAX_BYTES - 250);
        assert_eq!((kept.len(), kept[2].text.as_str(), is_full), (3, LOG_IS_FULL, true));
    }
}
