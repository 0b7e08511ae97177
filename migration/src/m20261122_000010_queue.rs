//! The settings of queues: paused, order, limit, ageing.

use sea_orm_migration::prelude::*;

/// Makes the table of settings; a queue without a row goes by the defaults.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run_script(manager, include_str!("sql/m20261122_000010_queue.up.sql")).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run_script(manager, include_str!("sql/m20261122_000010_queue.down.sql")).await
    }
}
