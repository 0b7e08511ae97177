//! Table `submit_key`: the one place of idempotency. A key outlives its job.

use sea_orm::entity::prelude::*;

/// A row of `submit_key`: a request id that a client chose, and the job it made.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "submit_key")]
pub struct Model {
    /// Whose request id it is.
    #[sea_orm(primary_key, auto_increment = false)]
    pub client_id: String,
    /// Chosen by the client; a request id made by the server needs no row.
    #[sea_orm(primary_key, auto_increment = false)]
    pub request_id: String,
    /// The job that it made; it may be gone.
    pub job_id: Uuid,
    /// Kind of that job.
    pub kind: String,
    /// SHA-256 of kind and payload in canonical form.
    pub payload_hash: Vec<u8>,
    /// Until when the key is kept at least.
    pub expires_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
