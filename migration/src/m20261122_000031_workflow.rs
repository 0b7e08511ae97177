//! Workflows: jobs that were submitted together, their end as a whole, and the results that they hand down.

use sea_orm_migration::prelude::*;

/// Makes the tables of workflows and of their callbacks, and extends jobs, their ends and the table of legal changes.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run_script(manager, include_str!("sql/m20261122_000031_workflow.up.sql")).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run_script(manager, include_str!("sql/m20261122_000031_workflow.down.sql")).await
    }
}
