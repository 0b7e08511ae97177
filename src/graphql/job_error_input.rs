//! The input `JobErrorInput`.

use std::time::Duration;

use async_graphql::InputObject;
use chrono::Utc;

use super::date_time::DateTime;
use super::json::Json;
use super::submit_job::invalid_payload;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::job::failure::Failure;
use crate::job::json_scan;
use crate::job::outcome::json_bytes;
use crate::job::submission::{MAX_RUN_AT_AHEAD, checked_id};

/// Why an attempt failed.
#[derive(Clone, Debug, InputObject)]
pub struct JobErrorInput {
    /// For programs: 1 to 128 characters, such as FAILED.
    code: String,
    /// For people; 4,000 characters are kept.
    message: String,
    /// False when another attempt cannot help.
    #[graphql(default = true)]
    retryable: bool,
    /// Whatever else is to be kept; with the limits of a result.
    details: Option<Json>,
    /// When to try again, at most a year ahead; the kind's back-off when omitted.
    retry_at: Option<DateTime>,
}

impl JobErrorInput {
    /// The failure, and how long to wait before the next attempt where the worker says so.
    ///
    /// # Errors
    /// `InvalidInput`, `InvalidPayload`, `PayloadTooLarge`, naming the field.
    pub fn checked(self, config: &Config) -> Result<(Failure, Option<Duration>)> {
        let code = checked_id("error.code", self.code)?;
        let mut failure = Failure { retryable: self.retryable, ..Failure::retryable(&code, self.message) };
        if let Some(details) = self.details.map(Json::into_value).filter(|details| !details.is_null()) {
            json_scan::check_value(&details).map_err(|error| invalid_payload("error.details", error))?;
            let (bytes, limit) = (json_bytes(&details), config.max_result_bytes);
            if bytes > limit {
                return Err(Error::PayloadTooLarge { field: "error.details".to_owned(), bytes, limit });
            }
            failure = failure.with_details(details);
        }
        let Some(retry_at) = self.retry_at else { return Ok((failure, None)) };
        let ahead = retry_at.instant("error.retryAt")? - Utc::now();
        if ahead > MAX_RUN_AT_AHEAD {
            return Err(Error::invalid("error.retryAt", "lies more than a year ahead"));
        }
        Ok((failure, Some(ahead.to_std().unwrap_or_default())))
    }
}
