//! API tokens: who may come in, and as whom.

use sea_orm_migration::prelude::*;

/// Makes the table of tokens, and the trigger that tells processes of a change.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run_script(manager, include_str!("sql/m20261122_000020_api_token.up.sql")).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run_script(manager, include_str!("sql/m20261122_000020_api_token.down.sql")).await
    }
}
