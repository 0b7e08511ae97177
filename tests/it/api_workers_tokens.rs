//! Workers over the API under real tokens: which jobs a token brings, and what its holder cannot do.

use serde_json::{Value, json};

use crate::support::api_worker::{ApiWorker, Call, config, serve};
use crate::support::process::{ask_with, new_token, output};
use crate::support::{SOON, TestDb, eventually};

const SUBMIT: &str = "mutation ($kind: String!) { submitJob(input: {kind: $kind}) { job { id } } }";
const DRAIN: &str = "mutation ($id: ID!) { drainWorker(id: $id) { id } }";

/// The code of a refusal, whether it came with a status of its own or inside an answer.
fn code(answer: &Value) -> &str {
    answer["errors"][0]["extensions"]["code"].as_str().unwrap_or("none")
}

/// Every call about a lease.
fn calls() -> [Call; 5] {
    [
        Call::Complete(json!({})),
        Call::Fail(json!({"code": "NO", "message": "no"})),
        Call::Release,
        Call::Progress(json!({"fraction": 0.5})),
        Call::Logs(json!([{"stream": "STDOUT", "text": "x"}])),
    ]
}

#[tokio::test]
async fn a_worker_token_brings_jobs_of_its_kinds_and_nothing_else() {
    let db = TestDb::new().await;
    let (url, file) = (db.url(), config(""));
    let server = serve(&url).await;
    let token = async |arguments: &[&str]| {
        let mut all = vec!["--config", file.as_str()];
        all.extend(arguments);
        Some(new_token(&url, &all).await)
    };
    let operator = token(&["--scope", "operator"]).await;
    let client = token(&["--scope", "client", "--client-id", "shop"]).await;
    let parcels = token(&["--scope", "worker", "--kind", "parcel", "--name", "parcels"]).await;
    let others = token(&["--scope", "worker", "--kind", "parcel"]).await;
    let letters = token(&["--scope", "worker", "--kind", "letter"]).await;
    let worker = |token: &Option<String>| ApiWorker { token: token.clone(), ..ApiWorker::new(&server, "w1") };
    eventually("tokens are in use", SOON, async || {
        (code(&worker(&None).ask_to_claim(json!({})).await) == "UNAUTHENTICATED").then_some(())
    })
    .await;
    for kind in ["parcel", "parcel", "letter"] {
        let answer = ask_with(&server.url, client.as_deref(), SUBMIT, json!({"kind": kind})).await;
        assert!(answer["data"]["submitJob"]["job"]["id"].is_string(), "{answer}");
    }

    // Whose scope or kinds are others gets none.
    assert_eq!(code(&worker(&client).ask_to_claim(json!({})).await), "FORBIDDEN");
    assert_eq!(code(&worker(&letters).ask_to_claim(json!({})).await), "FORBIDDEN");
    let both = json!({"queues": ["parcel", "mail"]});
    assert_eq!(code(&worker(&parcels).ask_to_claim(both.clone()).await), "FORBIDDEN");
    let own = worker(&parcels);
    let lease = own.claim(json!({})).await.remove(0);
    for call in calls() {
        for (token, expected) in
            [(&None, "UNAUTHENTICATED"), (&client, "FORBIDDEN"), (&letters, "LEASE_LOST")]
        {
            assert_eq!(worker(token).call(&lease, call.clone()).await, Err(expected.to_owned()), "{call:?}");
        }
    }
    // The same name under another token is another worker, whose heartbeat keeps nothing of this one.
    assert_eq!(worker(&others).heartbeat(std::slice::from_ref(&lease)).await.0, ["LOST"]);
    assert_eq!(own.heartbeat(std::slice::from_ref(&lease)).await.0, ["HELD"]);
    let second = worker(&others).claim(json!({})).await.remove(0);
    assert_ne!(second["jobId"], lease["jobId"]);
    let workers = ask_with(&server.url, operator.as_deref(), "{ workers { id name } }", json!({})).await;
    assert_eq!(workers["data"]["workers"].as_array().expect("workers").len(), 2, "{workers}");
    let drain = json!({"id": workers["data"]["workers"][0]["id"]});
    for token in [&client, &parcels] {
        let refused = ask_with(&server.url, token.as_deref(), DRAIN, drain.clone()).await;
        assert_eq!(code(&refused), "FORBIDDEN");
    }
    for call in [calls()[3].clone(), calls()[4].clone(), calls()[0].clone()] {
        own.call(&lease, call.clone()).await.unwrap_or_else(|code| panic!("{call:?}: {code}"));
    }
    assert_eq!(worker(&operator).claim(both).await.len(), 1, "an operator may take any");

    // What a revoked token held it can say nothing about any more; the lease runs out.
    let (tokens, _) = db.store.tokens().await.expect("tokens");
    let id = tokens.iter().find(|token| token.name == "parcels").expect("the token").id.to_string();
    assert_eq!(output(&url, &["token", "revoke", &id]).await.0, Some(0));
    eventually("it is refused", SOON, async || {
        (code(&own.ask_to_claim(json!({})).await) == "UNAUTHENTICATED").then_some(())
    })
    .await;
    assert_eq!(own.call(&lease, Call::Release).await, Err("UNAUTHENTICATED".to_owned()));
    worker(&others).complete(&second, json!({})).await.expect("others go on");
}
