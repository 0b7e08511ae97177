//! Table `client_job`: which jobs each client has submitted. Triggers on `job` keep it.

use sea_orm::entity::prelude::*;

/// A row of `client_job`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "client_job")]
pub struct Model {
    /// Who submitted it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub client_id: String,
    /// The job.
    #[sea_orm(primary_key, auto_increment = false)]
    pub job_id: Uuid,
}

impl ActiveModelBehavior for ActiveModel {}
