//! Table `api_token`: who may come in, and as whom. The secret itself is stored nowhere.

use sea_orm::entity::prelude::*;

/// A row of `api_token`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "api_token")]
pub struct Model {
    /// UUIDv7; what people and logs call it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// For people; may be empty.
    pub name: String,
    /// What it lets its holder do.
    pub scope: TokenScope,
    /// Whose jobs; of CLIENT tokens only.
    pub client_id: Option<String>,
    /// Which kinds; of WORKER tokens only.
    pub kinds: Option<Vec<String>>,
    /// SHA-256 of the secret.
    pub secret_hash: Vec<u8>,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// It is not valid from then on.
    pub expires_at: Option<DateTimeUtc>,
    /// It is not valid since then.
    pub revoked_at: Option<DateTimeUtc>,
}

/// What a token lets its holder do. Stored as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "UPPERCASE")]
pub enum TokenScope {
    /// Submit jobs, and see and change those of its client id.
    Client,
    /// See the jobs of its kinds, and work on them.
    Worker,
    /// Everything.
    Operator,
}

impl TokenScope {
    /// The name it has in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            TokenScope::Client => "CLIENT",
            TokenScope::Worker => "WORKER",
            TokenScope::Operator => "OPERATOR",
        }
    }
}

impl ActiveModelBehavior for ActiveModel {}
