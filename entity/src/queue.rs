//! Table `queue`: what was set about a queue. One without a row goes by the defaults.

use sea_orm::entity::prelude::*;

/// A row of `queue`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "queue")]
pub struct Model {
    /// The name that jobs and workers use.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// True while nothing is claimed from it.
    pub paused: bool,
    /// Which jobs of a level go first.
    pub claim_order: ClaimOrder,
    /// Jobs that run at once over all processes; none for no limit.
    pub max_running: Option<i32>,
}

/// Which jobs of one level go first. Stored as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "UPPERCASE")]
pub enum ClaimOrder {
    /// The oldest.
    Fifo,
    /// The newest.
    Lifo,
}

impl ClaimOrder {
    /// The name it has in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            ClaimOrder::Fifo => "FIFO",
            ClaimOrder::Lifo => "LIFO",
        }
    }

    /// The order of that name; none for any other word.
    pub fn from_name(name: &str) -> Option<ClaimOrder> {
        [ClaimOrder::Fifo, ClaimOrder::Lifo].into_iter().find(|order| order.as_str() == name)
    }
}

impl ActiveModelBehavior for ActiveModel {}
