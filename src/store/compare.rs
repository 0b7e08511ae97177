//! What triggers keep beside the jobs, compared with the jobs and written anew. Both read every job, which may take longer than
//! other statements may.

use sqlx::{PgPool, Row};

/// What the statement counts as `wrong`, in one snapshot.
pub(super) async fn wrong(pool: &PgPool, sql: &'static str) -> sqlx::Result<i64> {
    let mut transaction = pool.begin().await?;
    sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut *transaction).await?;
    let row = sqlx::query(sql).fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    row.try_get("wrong")
}

/// Writes by these statements, which see all that was written before the lock; nothing is written beside them until the end.
/// Readers go on.
pub(super) async fn write_anew(
    pool: &PgPool,
    lock: &'static str,
    statements: &[&'static str],
) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut *transaction).await?;
    sqlx::query(lock).execute(&mut *transaction).await?;
    for sql in statements {
        sqlx::query(*sql).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}
