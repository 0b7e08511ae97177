//! Workers over the API: whose they are, what they claimed, and the key of their lease tokens.

use sea_orm_migration::prelude::*;

/// Adds the columns to workers, and makes the tables `claim` and `lease_key`.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run_script(manager, include_str!("sql/m20261122_000025_external_worker.up.sql")).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run_script(manager, include_str!("sql/m20261122_000025_external_worker.down.sql")).await
    }
}
