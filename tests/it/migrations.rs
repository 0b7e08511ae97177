//! The migrations go forward, back and forward again, and leave nothing behind on the way back.

use migration::{Migrator, MigratorTrait};

use crate::support::{TestDb, echo};

async fn objects(db: &TestDb) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT 'table ' || relname FROM pg_class
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S', 'i') AND relname NOT LIKE 'seaql%'
         UNION ALL
         SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
         ORDER BY 1",
    )
    .fetch_all(db.pool())
    .await
    .expect("objects")
}

#[tokio::test]
async fn migrations_go_up_down_and_up_again() {
    let db = TestDb::empty().await;
    assert!(objects(&db).await.is_empty());
    Migrator::up(&db.database.orm, None).await.expect("up");
    let after_up = objects(&db).await;
    assert!(after_up.contains(&"table job".to_owned()), "{after_up:?}");
    Migrator::down(&db.database.orm, None).await.expect("down");
    assert!(objects(&db).await.is_empty(), "left behind: {:?}", objects(&db).await);
    Migrator::up(&db.database.orm, None).await.expect("up again");
    assert_eq!(objects(&db).await, after_up);
}

#[tokio::test]
async fn lists_of_clients_hold_the_jobs_that_were_there_before_them() {
    let db = TestDb::new().await;
    let id = db.submit(echo()).await.id;
    let list = "SELECT job_id FROM client_job";
    let since =
        Migrator::migrations().iter().rev().position(|migration| migration.name().ends_with("_client_job"));
    let steps = u32::try_from(since.expect("the migration") + 1).expect("a number");
    Migrator::down(&db.database.orm, Some(steps)).await.expect("down");
    let gone = sqlx::query(list).execute(db.pool()).await.expect_err("the table is gone");
    assert!(gone.to_string().contains("client_job"), "{gone}");
    Migrator::up(&db.database.orm, None).await.expect("up again");
    let listed: Vec<uuid::Uuid> = sqlx::query_scalar(list).fetch_all(db.pool()).await.expect("the list");
    assert_eq!(listed, [id]);
    assert_eq!(db.store.wrong_list_entries().await.expect("check"), 0);
}
