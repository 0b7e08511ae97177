//! Sends callbacks: takes what is due, posts it, records what the receiver said. It runs in every process.
//!
//! The connection is made anew for each message, to an address that was checked just then: what the name resolves to
//! is looked at by the one who dials. Redirects are not followed, no proxy is asked, the receiver's answer is read no
//! further than its head. A process without a secret sends nothing and leaves it to others.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use entity::JobStatus;
use futures_util::future::{join, join_all};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, StatusCode, redirect};
use serde_json::json;

use crate::config::Callbacks;
use crate::error::Result;
use crate::job::callback::{checked_url, is_listed, is_public, retry_after, signed_headers};
use crate::store::Store;
use crate::store::callback::{DeliveryOutcome, DueDelivery};
use crate::store::workflow_callback::DueWorkflowDelivery;

/// Messages that are on their way at once.
const AT_ONCE: i64 = 20;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
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
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWER_WITHIN)
            .dns_resolver(Arc::new(PublicResolver { callbacks: callbacks.clone(), lookup: SystemLookup }))
            .user_agent(concat!("jobql/", env!("CARGO_PKG_VERSION")))
            .build();
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
                let asked = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
                let asked = asked.and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
                failed(format!("the receiver answered {}", answer.status()), asked)
            }
            // Without the URL, whose query may be secret.
            Err(error) => failed(in_words(&error.without_url()), None),
        }
    }
}

fn in_words(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
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

/// Gives those addresses of a name that are public; all of them for a host that is listed. Who dials asks it each time, and
/// dials what it gave: a name that leads elsewhere at the second look is looked at a second time.
struct PublicResolver<L = SystemLookup> {
    callbacks: Arc<Callbacks>,
    lookup: L,
}

/// Asks the system for the addresses of a name.
#[derive(Clone, Copy)]
struct SystemLookup;

/// What leads from a name to addresses.
trait Lookup: Clone + Send + Sync + 'static {
    fn addresses(&self, host: String) -> impl Future<Output = std::io::Result<Vec<SocketAddr>>> + Send;
}

impl Lookup for SystemLookup {
    async fn addresses(&self, host: String) -> std::io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.collect())
    }
}

impl<L: Lookup> Resolve for PublicResolver<L> {
    fn resolve(&self, name: Name) -> Resolving {
        let (callbacks, lookup) = (self.callbacks.clone(), self.lookup.clone());
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let is_listed = is_listed(&host, &callbacks);
            let found = lookup.addresses(host).await?;
            let allowed: Vec<SocketAddr> =
                found.into_iter().filter(|address| is_listed || is_public(address.ip())).collect();
            if allowed.is_empty() {
                return Err("the name leads to no public address".into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A server of names that answers differently each time.
    #[derive(Clone)]
    struct Rebinding(Arc<Mutex<Vec<Vec<&'static str>>>>);

    impl Lookup for Rebinding {
        async fn addresses(&self, _host: String) -> std::io::Result<Vec<SocketAddr>> {
            let answer = self.0.lock().unwrap().remove(0);
            Ok(answer.into_iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect())
        }
    }

    async fn resolved(hosts: &[&str], answers: &[&[&'static str]]) -> Vec<Option<Vec<String>>> {
        let callbacks =
            Callbacks { hosts: hosts.iter().map(|&host| host.to_owned()).collect(), ..Callbacks::default() };
        let answers: Vec<Vec<&str>> = answers.iter().map(|answer| answer.to_vec()).collect();
        let count = answers.len();
        let lookup = Rebinding(Arc::new(Mutex::new(answers)));
        let resolver = PublicResolver { callbacks: Arc::new(callbacks), lookup };
        let mut given = Vec::new();
        for _ in 0..count {
            let addresses = resolver.resolve("hook.example".parse().unwrap()).await.ok();
            given.push(addresses.map(|found| found.map(|address| address.ip().to_string()).collect()));
        }
        given
    }

    #[tokio::test]
    async fn a_name_is_looked_at_each_time_and_gives_public_addresses_only() {
        let public = Some(vec!["93.184.215.14".to_owned()]);
        let answers: [&[&str]; 4] =
            [&["93.184.215.14"], &["127.0.0.1"], &["10.0.0.1", "93.184.215.14"], &["93.184.215.14"]];
        assert_eq!(resolved(&[], &answers).await, [public.clone(), None, public.clone(), public]);
    }

    #[tokio::test]
    async fn no_way_around_leads_inside() {
        for inside in [
            "0.0.0.0",
            "127.0.0.1",
            "127.255.255.254",
            "10.1.2.3",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
        ] {
            assert_eq!(resolved(&[], &[&[inside]]).await, [None], "{inside}");
            let listed = resolved(&["hook.example"], &[&[inside]]).await;
            assert_eq!(listed.len(), 1);
            assert!(listed[0].is_some(), "{inside}: a host that is listed may be anywhere");
        }
    }
}
