//! Dependencies: jobs that wait for others to be DONE, and the ends that have yet to be told to them.

use sea_orm_migration::prelude::*;

/// Makes the table of dependencies, that of ends whose consequences are due, and the triggers that keep both.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run_script(manager, include_str!("sql/m20261122_000030_dependency.up.sql")).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run_script(manager, include_str!("sql/m20261122_000030_dependency.down.sql")).await
    }
}
