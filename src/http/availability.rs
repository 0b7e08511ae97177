//! Whether the database can be had, so that what needs it is refused at once while it cannot.
//!
//! Without this every request of an outage would wait two seconds for a connection and be answered then, by the hundreds. An
//! answer that says UNAVAILABLE raises the suspicion; it alone refuses nobody, as it may concern one locked row. Then the
//! database is asked, and while it does not answer, or no connection is free within two seconds, requests are refused before
//! they execute: 503 with Retry-After. It is asked again each second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_graphql::{Response, ServerError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::health;
use crate::graphql::error::{Code, code_of, retry_after};
use crate::store::Store;

/// How often a database that is away is asked.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// See the module. Cheap to clone.
#[derive(Clone, Default)]
pub struct Availability {
    is_away: Arc<AtomicBool>,
    suspected: Arc<Notify>,
}

impl Availability {
    /// Whether to go on.
    ///
    /// # Errors
    /// UNAVAILABLE, with the time after which to come again.
    pub fn check(&self) -> Result<(), ServerError> {
        if !self.is_away.load(Ordering::Relaxed) {
            return Ok(());
        }
        let error = Code::Unavailable.error("the database is not available; nothing was executed");
        Err(retry_after(error, ASK_EVERY))
    }

    /// Looks at an answer.
    pub fn note(&self, response: &Response) {
        let unavailable = Some(Code::Unavailable.as_str());
        if response.errors.iter().any(|error| code_of(error) == unavailable) {
            self.suspected.notify_one();
        }
    }

    /// Asks the database when it is suspected, until `closing`.
    pub(super) async fn watch(self, store: Store, closing: CancellationToken) {
        let watching = async {
            loop {
                self.suspected.notified().await;
                while !health::database_answers(&store).await {
                    self.is_away.store(true, Ordering::Relaxed);
                    tokio::time::sleep(ASK_EVERY).await;
                }
                self.is_away.store(false, Ordering::Relaxed);
            }
        };
        closing.run_until_cancelled(watching).await;
    }
}
