//! Sends callbacks: takes what is due, posts it, records what the receiver said. It runs in every process.
//!
//! They go to addresses that are checked when they are dialled, by the client of [`outbound`]. The receiver's answer is read
//! no further than its head. A process without a secret sends nothing and leaves it to others.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use entity::JobStatus;
use futures_util::future::{join, join_all};
use reqwest::{Client, StatusCode};
use serde_json::json;

use crate::config::Callbacks;
use crate::error::Result;
use crate::job::callback::{checked_url, is_listed, retry_after, signed_headers};
use crate::outbound;
use crate::store::Store;
use crate::store::callback::{DeliveryOutcome, DueDelivery};
use crate::store::workflow_callback::DueWorkflowDelivery;

/// Messages that are on their way at once.
const AT_ONCE: i64 = 20;
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// What sends callbacks.
#[derive(Clone)]
pub struct Sender {
    callbacks: Arc<Callbacks>,
    client: Client,
}

impl Sender {
    /// A sender with these settings; none without a secret, or where TLS cannot be set up.
    pub fn new(callbacks: Callbacks) -> Option<Sender> {
        callbacks.secret.as_ref()?;
        let callbacks = Arc::new(callbacks);
        let listed = callbacks.clone();
        let client = outbound::client(Arc::new(move |host| is_listed(host, &listed)), ANSWER_WITHIN);
        match client {
            Ok(client) => Some(Sender { callbacks, client }),
            Err(error) => {
                tracing::error!(error = %error, "callbacks cannot be sent from this process");
                None
            }
        }
    }

    /// Sends all that is due, of jobs and of workflows.
    ///
    /// # Errors
    /// As the store's.
    pub async fn deliver(&self, store: &Store) -> Result<()> {
        loop {
            let jobs = store.take_due_callbacks(AT_ONCE).await?;
            let workflows = store.take_due_workflow_callbacks(AT_ONCE).await?;
            if jobs.is_empty() && workflows.is_empty() {
                return Ok(());
            }
            let of_jobs = jobs.iter().map(|delivery| async move {
                let outcome = self.send(&Message::of_job(delivery)).await;
                store.record_delivery(delivery.job.id, (delivery.event, delivery.attempt), outcome).await
            });
            let of_workflows = workflows.iter().map(|delivery| async move {
                let outcome = self.send(&Message::of_workflow(delivery)).await;
                let attempt = (delivery.event, delivery.attempt);
                store.record_workflow_delivery(delivery.workflow.id, attempt, outcome).await
            });
            let (of_jobs, of_workflows) = join(join_all(of_jobs), join_all(of_workflows)).await;
            of_jobs.into_iter().chain(of_workflows).collect::<Result<Vec<()>>>()?;
        }
    }

    async fn send(&self, message: &Message) -> DeliveryOutcome {
        let outcome = self.post(message).await;
        if let DeliveryOutcome::Failed { error, retry_after } = &outcome {
            tracing::info!(
                callback.id = message.id, callback.attempt = message.attempt, callback.error = %error,
                callback.given_up = retry_after.is_none(), "a callback was not delivered"
            );
        }
        outcome
    }

    async fn post(&self, message: &Message) -> DeliveryOutcome {
        let failed = |error: String, asked| DeliveryOutcome::Failed {
            error,
            retry_after: retry_after(message.attempt, asked),
        };
        // Once more: the settings may have changed since it was submitted.
        let url = match checked_url(&message.url, &self.callbacks) {
            Ok(url) => url,
            Err(error) => return DeliveryOutcome::Failed { error: error.to_string(), retry_after: None },
        };
        let mut request = self.client.post(url).header("content-type", "application/json");
        for (name, value) in
            signed_headers(self.callbacks.secrets(), &message.id, Utc::now().timestamp(), &message.body)
        {
            request = request.header(name, value);
        }
        match request.body(message.body.clone()).send().await {
            Ok(answer) if answer.status().is_success() => DeliveryOutcome::Delivered,
            Ok(answer) if answer.status() == StatusCode::GONE => DeliveryOutcome::Failed {
                error: "the receiver answered 410 Gone".to_owned(),
                retry_after: None,
            },
            Ok(answer) => {
                let asked = outbound::retry_after(&answer);
                failed(format!("the receiver answered {}", answer.status()), asked)
            }
            Err(error) => failed(outbound::in_words(error), None),
        }
    }
}

/// What is sent. Its id stays the same however often that is done.
struct Message {
    url: String,
    id: String,
    body: String,
    attempt: i32,
}

impl Message {
    fn of_job(delivery: &DueDelivery) -> Message {
        let job = &delivery.job;
        let body = json!({
            "type": format!("job.{}", job.status.as_str().to_lowercase()),
            "timestamp": job.finished_at,
            "data": {
                "id": job.id, "clientId": job.client_id, "requestId": job.request_id, "kind": job.kind,
                "status": job.status.as_str(), "version": delivery.event, "result": job.result, "error": job.error,
                "createdAt": job.created_at, "finishedAt": job.finished_at,
            },
        });
        Message {
            url: job.callback_url.clone().unwrap_or_default(),
            id: format!("msg_{}_{}", job.id.simple(), delivery.event),
            body: body.to_string(),
            attempt: delivery.attempt,
        }
    }

    fn of_workflow(delivery: &DueWorkflowDelivery) -> Message {
        let workflow = &delivery.workflow;
        let counts: serde_json::Map<String, serde_json::Value> = JobStatus::ALL
            .iter()
            .map(|status| (status.as_str().to_lowercase(), delivery.counts.of(*status).into()))
            .collect();
        let body = json!({
            "type": "workflow.finished",
            "timestamp": workflow.finished_at,
            "data": {
                "id": workflow.id, "clientId": workflow.client_id, "requestId": workflow.request_id,
                "name": workflow.name, "status": workflow.status.as_str(), "counts": counts,
                "createdAt": workflow.created_at, "finishedAt": workflow.finished_at,
            },
        });
        Message {
            url: workflow.callback_url.clone().unwrap_or_default(),
            id: format!("msg_{}_{}", workflow.id.simple(), delivery.event),
            body: body.to_string(),
            attempt: delivery.attempt,
        }
    }
}
