//! The index by which a client's blocked jobs are counted.

use sea_orm_migration::prelude::*;

/// Makes the index.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run_script(manager, include_str!("sql/m20261122_000050_blocked.up.sql")).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run_script(manager, include_str!("sql/m20261122_000050_blocked.down.sql")).await
    }
}
