//! The migrations go forward, back and forward again, and leave nothing behind on the way back.

use migration::{Migrator, MigratorTrait};

use crate::support::TestDb;

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
