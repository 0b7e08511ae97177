//! Submits a job to jobql and watches it to its end, with types that `graphql_client` makes from jobql's schema.
//!
//! `cargo run --example submit_and_watch -- http://127.0.0.1:8080/graphql`

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

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:8080/graphql".to_owned());

    let payload = serde_json::json!({"start": 1, "end": 4, "pauseSeconds": 0.2});
    let body = Submit::build_query(submit::Variables { kind: "sum".to_owned(), payload });
    let answer: Response<submit::ResponseData> =
        reqwest::Client::new().post(&url).json(&body).send().await?.json().await?;
    let data = answer.data.ok_or_else(|| anyhow::anyhow!("refused: {:?}", answer.errors))?;
    let id = data.submit_job.job.id;
    println!("submitted {id}");

    let mut request = url.replacen("http", "ws", 1).into_client_request()?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("graphql-transport-ws"));
    let (socket, _) = connect_async(request).await?;
    let watching = StreamingOperation::<Watch>::new(watch::Variables { id });
    let mut updates = Client::build(socket).subscribe(watching).await?;
    while let Some(update) = updates.next().await {
        let update = update?;
        let data = update.data.ok_or_else(|| anyhow::anyhow!("refused: {:?}", update.errors))?;
        let job = data.job_updated;
        println!("{} {:?} {}", job.version, job.status, job.result.unwrap_or_default());
    }
    Ok(())
}
