//! Callbacks: where the end of a job is to be told, and how far that is.

use sea_orm_migration::prelude::*;

/// Adds the URL to jobs, and makes the table of deliveries and the triggers that make them due.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run_script(manager, include_str!("sql/m20261122_000015_callback.up.sql")).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run_script(manager, include_str!("sql/m20261122_000015_callback.down.sql")).await
    }
}
