//! jobql's DDL, append-only: one module per migration, its SQL beside it in `sql/`.
//!
//! Migrations are the only source of DDL and never import `entity`, so that an old migration keeps meaning what it
//! meant when the entities move on. Each goes forward and back, in one transaction unless it says otherwise.

mod m20261122_000001_job;
mod m20261122_000010_queue;
mod m20261122_000011_start_before;
mod m20261122_000012_job_log;
mod m20261122_000013_job_load;
mod m20261122_000014_kind_duration;
mod m20261122_000015_callback;
mod m20261122_000020_api_token;
mod m20261122_000025_external_worker;
mod m20261122_000030_dependency;
mod m20261122_000031_workflow;
mod m20261122_000040_ledger;
mod m20261122_000050_blocked;
mod m20261122_000051_limited_queue;
mod m20261130_000060_lighter_update;
mod m20261130_000061_client_job;
mod m20261130_000062_client_index;

use sea_orm_migration::prelude::*;
pub use sea_orm_migration::{MigrationTrait, MigratorTrait, SchemaManager};

/// All migrations, oldest first.
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261122_000001_job::Migration),
            Box::new(m20261122_000010_queue::Migration),
            Box::new(m20261122_000011_start_before::Migration),
            Box::new(m20261122_000012_job_log::Migration),
            Box::new(m20261122_000013_job_load::Migration),
            Box::new(m20261122_000014_kind_duration::Migration),
            Box::new(m20261122_000015_callback::Migration),
            Box::new(m20261122_000020_api_token::Migration),
            Box::new(m20261122_000025_external_worker::Migration),
            Box::new(m20261122_000030_dependency::Migration),
            Box::new(m20261122_000031_workflow::Migration),
            Box::new(m20261122_000040_ledger::Migration),
            Box::new(m20261122_000050_blocked::Migration),
            Box::new(m20261122_000051_limited_queue::Migration),
            Box::new(m20261130_000060_lighter_update::Migration),
            Box::new(m20261130_000061_client_job::Migration),
            Box::new(m20261130_000062_client_index::Migration),
        ]
    }
}

/// Runs a script of several statements in the migration's transaction.
async fn run_script(manager: &SchemaManager<'_>, script: &str) -> Result<(), DbErr> {
    manager.get_connection().execute_unprepared(script).await.map(|_| ())
}
