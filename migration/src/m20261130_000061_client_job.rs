//! The jobs of each client in a table of their own, in place of an index that each change of a job adds to.

use sea_orm_migration::prelude::*;

/// Makes and fills the table.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run_script(manager, include_str!("sql/m20261130_000061_client_job.up.sql")).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run_script(manager, include_str!("sql/m20261130_000061_client_job.down.sql")).await
    }
}
