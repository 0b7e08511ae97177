//! The inputs `SubmitWorkflowInput` and `WorkflowJobInput`.

use async_graphql::InputObject;

use super::json::Json;
use super::submit_job::invalid_payload;
use super::workflow::FailurePolicy;
use crate::config::Config;
use crate::error::Result;
use crate::job::callback::checked_url;
use crate::job::json_scan;
use crate::job::submission::Submission;
use crate::job::viewer::Viewer;
use crate::job::workflow::{NewWorkflow, WorkflowJob, WorkflowSubmission};

/// Jobs to be written at once or not at all, with dependencies among them, or none.
#[derive(Clone, Debug, InputObject)]
pub struct SubmitWorkflowInput {
    /// Shown to people; 1 to 200 characters.
    name: Option<String>,
    /// Defaults to, and may not differ from, the caller's own client id where tokens are in use.
    client_id: Option<String>,
    /// Unique per client, among jobs as well. The same id with the same jobs and policy returns the first workflow; with
    /// others it is IDEMPOTENCY_CONFLICT. Made by the server when omitted.
    request_id: Option<String>,
    /// 1 to 10,000, in any order, with at most 100,000 dependencies in all.
    jobs: Vec<WorkflowJobInput>,
    /// What becomes of the dependents of a job that fails.
    #[graphql(default_with = "FailurePolicy::Block")]
    on_failure: FailurePolicy,
    /// Where the end of the whole is told, by POST; https to a public address unless configured otherwise.
    callback_url: Option<String>,
}

/// A job of a workflow. key and dependsOn are local to the workflow; a cycle or an unknown key is BAD_USER_INPUT and nothing
/// is written.
#[derive(Clone, Debug, InputObject)]
pub struct WorkflowJobInput {
    /// Its name within the workflow; 1 to 128 characters.
    key: String,
    /// A name of jobKinds.
    kind: String,
    /// Its input.
    #[graphql(default_with = "Json::empty_object()")]
    payload: Json,
    /// Keys of the jobs that must be DONE first, each once.
    #[graphql(default)]
    depends_on: Vec<String>,
    /// 0 to 32767, lower runs first; the kind's when omitted.
    priority: Option<i32>,
    /// Shown to people; 1 to 200 characters.
    display_name: Option<String>,
    /// Merges the parents' results into the payload under this name, as an object from their keys to their results. The payload
    /// must be an object without such a member. Payloads that get too large end the job in ERROR with PAYLOAD_TOO_LARGE;
    /// those that do not fit the kind's inputSchema then, with INVALID_PAYLOAD.
    results_as: Option<String>,
}

impl SubmitWorkflowInput {
    /// The workflow to write.
    ///
    /// # Errors
    /// As `WorkflowSubmission::check`; the fields are named below `input`.
    pub fn into_new_workflow(self, viewer: &Viewer, config: &Config) -> Result<NewWorkflow> {
        self.checked(viewer, config).map_err(|error| error.below("input"))
    }

    fn checked(self, viewer: &Viewer, config: &Config) -> Result<NewWorkflow> {
        let callback_url = self.callback_url.map(|url| checked_url(&url, &config.callbacks)).transpose()?;
        let jobs = self.jobs.into_iter().enumerate();
        let submission = WorkflowSubmission {
            name: self.name,
            client_id: self.client_id,
            request_id: self.request_id,
            on_failure: self.on_failure.into(),
            callback_url: callback_url.map(String::from),
            jobs: jobs.map(|(index, job)| job.scanned(index)).collect::<Result<_>>()?,
        };
        submission.check(viewer, &config.kinds, config.max_payload_bytes)
    }
}

impl WorkflowJobInput {
    fn scanned(self, index: usize) -> Result<WorkflowJob> {
        let payload = self.payload.into_value();
        json_scan::check_value(&payload)
            .map_err(|error| invalid_payload(&format!("jobs[{index}].payload"), error))?;
        let submission = Submission {
            kind: self.kind,
            payload,
            priority: self.priority,
            display_name: self.display_name,
            ..Submission::default()
        };
        Ok(WorkflowJob {
            key: self.key,
            depends_on: self.depends_on,
            results_as: self.results_as,
            submission,
        })
    }
}
