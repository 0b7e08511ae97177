//! Submits a job to jobql, watches it to its end, and lists the latest jobs, with types that `graphql_client` makes from
//! jobql's schema.
//!
//! `cargo run --example submit_and_watch -- http://127.0.0.1:8080/graphql`; with the id of a job behind it, it only
//! watches that one. A server that goes away meanwhile is asked again: the subscription starts with the job as it stands,
//! so its end cannot be missed. `JOBQL_TOKEN` is sent where it is set.

use std::time::Duration;

use futures_util::StreamExt;
use graphql_client::{GraphQLQuery, Response};
use graphql_ws_client::Client;
use graphql_ws_client::graphql::StreamingOperation;
use tokio_tungstenite_0_28::connect_async;
use tokio_tungstenite_0_28::tungstenite::client::IntoClientRequest;
use tokio_tungstenite_0_28::tungstenite::http::HeaderValue;

#[expect(clippy::upper_case_acronyms, reason = "the scalar's name in the schema")]
type JSON = serde_json::Value;

#[derive(GraphQLQuery)]
#[graphql(
    schema_path = "schema.graphql",
    query_path = "examples/rust/operations.graphql",
    response_derives = "Debug"
)]
struct Submit;

#[derive(GraphQLQuery)]
#[graphql(
    schema_path = "schema.graphql",
    query_path = "examples/rust/operations.graphql",
    response_derives = "Debug"
)]
struct Watch;

#[derive(GraphQLQuery)]
#[graphql(
    schema_path = "schema.graphql",
    query_path = "examples/rust/operations.graphql",
    response_derives = "Debug"
)]
struct Page;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "http://127.0.0.1:8080/graphql".to_owned());
    if let Some(id) = arguments.next() {
        return watch_to_the_end(&url, &id).await;
    }

    let payload = serde_json::json!({"start": 1, "end": 4, "pauseSeconds": 0.2});
    let submit = Submit::build_query(submit::Variables { kind: "sum".to_owned(), payload });
    let data: submit::ResponseData = post(&url, &submit).await?;
    let id = data.submit_job.job.id;
    println!("submitted {id}");
    watch_to_the_end(&url, &id).await?;

    let mut after = None;
    for _ in 0..3 {
        let page: page::ResponseData = post(&url, &Page::build_query(page::Variables { after })).await?;
        for job in page.jobs.nodes {
            println!("{:?} {}", job.status, job.display_name);
        }
        if !page.jobs.page_info.has_next_page {
            break;
        }
        after = page.jobs.page_info.end_cursor;
    }
    Ok(())
}

async fn post<T: serde::de::DeserializeOwned>(url: &str, body: &impl serde::Serialize) -> anyhow::Result<T> {
    let request = reqwest::Client::new().post(url).json(body);
    let request = match std::env::var("JOBQL_TOKEN") {
        Ok(token) => request.bearer_auth(token),
        Err(_) => request,
    };
    let answer: Response<T> = request.send().await?.json().await?;
    answer.data.ok_or_else(|| anyhow::anyhow!("refused: {:?}", answer.errors))
}

async fn watch_to_the_end(url: &str, id: &str) -> anyhow::Result<()> {
    loop {
        match watch_once(url, id).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => eprintln!("asking again: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// True when the job's end was seen, false when the stream ended before.
async fn watch_once(url: &str, id: &str) -> anyhow::Result<bool> {
    let mut request = url.replacen("http", "ws", 1).into_client_request()?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("graphql-transport-ws"));
    if let Ok(token) = std::env::var("JOBQL_TOKEN") {
        request.headers_mut().insert("Authorization", format!("Bearer {token}").parse()?);
    }
    let (socket, _) = connect_async(request).await?;
    let watching = StreamingOperation::<Watch>::new(watch::Variables { id: id.to_owned() });
    let mut updates = Client::build(socket).subscribe(watching).await?;
    let mut ended = false;
    while let Some(update) = updates.next().await {
        let update = update?;
        let data = update.data.ok_or_else(|| anyhow::anyhow!("refused: {:?}", update.errors))?;
        let job = data.job_updated;
        ended = matches!(
            job.status,
            watch::JobStatus::DONE | watch::JobStatus::ERROR | watch::JobStatus::CANCELLED
        );
        println!("{} {:?} {}", job.version, job.status, job.result.unwrap_or_default());
    }
    Ok(ended)
}
