//! The log lines of attempts.

use sea_orm_migration::prelude::*;

/// Makes the table, and announces what is appended to it.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run_script(manager, include_str!("sql/m20261122_000012_job_log.up.sql")).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run_script(manager, include_str!("sql/m20261122_000012_job_log.down.sql")).await
    }
}
