//! Jobs that are given up when no worker has started them by a certain time.

use sea_orm_migration::prelude::*;

/// Adds the time and its index, and lets a cancelled job say why.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run_script(manager, include_str!("sql/m20261122_000011_start_before.up.sql")).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run_script(manager, include_str!("sql/m20261122_000011_start_before.down.sql")).await
    }
}
