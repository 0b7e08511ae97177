//! The type `Callback` and the enum `CallbackStatus`.

use async_graphql::{Enum, SimpleObject};

use super::date_time::DateTime;
use crate::store::callback::{Delivery, DeliveryStatus};

/// Where the end of a job is told, and how far that is.
#[derive(Clone, Debug, SimpleObject)]
pub struct Callback {
    /// Where it goes.
    #[graphql(complexity = 0)]
    url: String,
    /// How far it is.
    #[graphql(complexity = 0)]
    status: CallbackStatus,
    /// Attempts so far.
    #[graphql(complexity = 0)]
    attempts: i32,
    /// Why the last one failed.
    #[graphql(complexity = 0)]
    last_error: Option<String>,
    /// When the receiver got it.
    #[graphql(complexity = 0)]
    delivered_at: Option<DateTime>,
}

/// How far a callback is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "DeliveryStatus")]
pub enum CallbackStatus {
    /// It waits for the job's end, or for its next attempt.
    Waiting,
    /// The receiver has it.
    Delivered,
    /// It was given up.
    Failed,
}

impl Callback {
    /// The callback to this URL.
    pub fn new(url: &str, delivery: Delivery) -> Callback {
        Callback {
            url: url.to_owned(),
            status: delivery.status.into(),
            attempts: delivery.attempts,
            last_error: delivery.last_error,
            delivered_at: delivery.delivered_at.map(DateTime::from),
        }
    }
}
