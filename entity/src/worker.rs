//! Table `worker`: one row per worker, under a fresh id per boot or registration. The lease of its jobs is here.

use sea_orm::entity::prelude::*;

/// A row of `worker`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "worker")]
pub struct Model {
    /// Fresh per boot.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Host and process, for people; what a worker over the API calls itself.
    pub name: String,
    /// The queues that it serves.
    pub queues: Vec<String>,
    /// The kinds that it can run.
    pub kinds: Vec<String>,
    /// Jobs that it runs at once.
    pub slots: i32,
    /// When it registered.
    pub started_at: DateTimeUtc,
    /// Its last heartbeat.
    pub last_seen_at: DateTimeUtc,
    /// End of the lease of everything it holds; each heartbeat moves it.
    pub expires_at: DateTimeUtc,
    /// Set once it claims no more and finishes what it has.
    pub draining: bool,
    /// Set by the sweeper when the lease ran out; final: the process must register anew.
    pub lost_at: Option<DateTimeUtc>,
    /// Whose it is, for a worker over the API; none for a process of jobql.
    pub owner: Option<String>,
    /// How long its lease lasts after a heartbeat.
    pub lease_seconds: i32,
}

impl ActiveModelBehavior for ActiveModel {}
