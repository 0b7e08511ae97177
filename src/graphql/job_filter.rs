//! The input `JobFilter` and the type `BulkPayload`.

use async_graphql::{ID, InputObject, SimpleObject};

use super::argument;
use super::date_time::DateTime;
use super::job_status::JobStatus;
use super::queue_position::int;
use crate::error::{Error, Result};
use crate::job::viewer::Viewer;
use crate::store::bulk::BulkOutcome;
use crate::store::list::JobFilter as StoredFilter;

/// Ids of one filter.
const MAX_IDS: usize = 1_000;

/// Which jobs. Its parts combine with AND; one that is omitted or null does not filter, an empty list matches nothing.
#[derive(Clone, Debug, InputObject)]
pub struct JobFilter {
    /// Any of these, at most 1,000.
    ids: Option<Vec<ID>>,
    /// In any of these states.
    status: Option<Vec<JobStatus>>,
    /// Submitted by this client.
    client_id: Option<String>,
    /// Of any of these kinds.
    kind: Option<Vec<String>>,
    /// In any of these queues.
    queue: Option<Vec<String>>,
    /// Part of this workflow.
    workflow_id: Option<ID>,
    /// Submitted after this instant.
    created_after: Option<DateTime>,
    /// Submitted before this instant.
    created_before: Option<DateTime>,
}

impl JobFilter {
    /// The filter, checked.
    ///
    /// # Errors
    /// `InvalidInput`, `Forbidden`, naming the part.
    pub fn checked(self, viewer: &Viewer) -> Result<StoredFilter> {
        if let Some(ids) = self.ids.as_ref().filter(|ids| ids.len() > MAX_IDS) {
            let problem = format!("has {} entries; at most {MAX_IDS} are allowed", ids.len());
            return Err(Error::invalid("filter.ids", problem));
        }
        let ids = self.ids.map(|ids| {
            let ids = ids.iter().enumerate();
            ids.map(|(index, id)| argument::job_id(&format!("filter.ids[{index}]"), id)).collect()
        });
        Ok(StoredFilter {
            ids: ids.transpose()?,
            status: self.status.map(|status| status.into_iter().map(entity::JobStatus::from).collect()),
            client_id: argument::client_filter(viewer, "filter.clientId", self.client_id)?,
            kind: argument::names_filter("filter.kind", self.kind)?,
            queue: argument::names_filter("filter.queue", self.queue)?,
            workflow_id: self.workflow_id.map(|id| argument::job_id("filter.workflowId", &id)).transpose()?,
            created_after: self.created_after.map(|at| at.instant("filter.createdAfter")).transpose()?,
            created_before: self.created_before.map(|at| at.instant("filter.createdBefore")).transpose()?,
        })
    }
}

/// What became of a change of many jobs.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub struct BulkPayload {
    /// Jobs that matched, of those that this can change.
    #[graphql(complexity = 0)]
    matched: i32,
    /// Jobs changed; 0 on a dry run.
    #[graphql(complexity = 0)]
    changed: i32,
}

impl From<BulkOutcome> for BulkPayload {
    fn from(outcome: BulkOutcome) -> BulkPayload {
        BulkPayload { matched: int(outcome.matched), changed: int(outcome.changed) }
    }
}
