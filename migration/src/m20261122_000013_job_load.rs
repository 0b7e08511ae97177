//! Sampled counts of jobs over time.

use sea_orm_migration::prelude::*;

/// Makes the table.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run_script(manager, include_str!("sql/m20261122_000013_job_load.up.sql")).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run_script(manager, include_str!("sql/m20261122_000013_job_load.down.sql")).await
    }
}
