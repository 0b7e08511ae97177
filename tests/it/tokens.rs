//! Tokens, as people and programs use them: made and revoked on the command line, sent over every transport.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::Utc;
use jobql::access::LOOK_EVERY;
use jobql::job::token::TokenSecret;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::process::{Process, Socket, ask, http_to_ws, new_token, output};
use crate::support::{SOON, TestDb, deadline, eventually};

const VIEWER: &str = "{ viewer { scope clientId } }";
const FEED: &str = "subscription { jobUpdated { id } }";
/// How the server may be asked, but for sockets: the method, and what is accepted.
const WAYS: [(&str, &str); 7] = [
    ("POST", "application/json"),
    ("POST", "application/graphql-response+json"),
    ("GET", "application/json"),
    ("POST", "text/event-stream"),
    ("POST", "multipart/mixed;subscriptionSpec=1.0"),
    ("GET", "text/event-stream"),
    ("GET", "multipart/mixed;subscriptionSpec=1.0"),
];

fn with_token(token: &str) -> HeaderMap {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).expect("a header");
    HeaderMap::from_iter([(AUTHORIZATION, value)])
}

async fn send(
    url: &str,
    (method, accept): (&str, &str),
    query: &str,
    headers: HeaderMap,
) -> reqwest::Response {
    let client = reqwest::Client::new();
    let request = match method {
        "GET" => client.get(format!("{url}?query={}", query.replace(' ', "%20"))),
        _ => client.post(url).json(&json!({ "query": query })),
    };
    let request = request.header("accept", accept).headers(headers);
    deadline("an answer", request.send()).await.expect("a response")
}

async fn asked_with(url: &str, token: &str, query: &str) -> Value {
    let response = send(url, WAYS[0], query, with_token(token)).await;
    assert_eq!(response.status(), 200);
    response.json().await.expect("JSON")
}

/// The id of the only token with this name.
async fn id_of(db: &TestDb, name: &str) -> String {
    let (tokens, _) = db.store.tokens().await.expect("tokens");
    tokens.iter().find(|token| token.name == name).expect("the token").id.to_string()
}

async fn revoke(db: &TestDb, name: &str) {
    let (code, _, said) = output(&db.url(), &["token", "revoke", &id_of(db, name).await]).await;
    assert_eq!(code, Some(0), "{said}");
}

/// Returns once a query with these headers is refused.
async fn until_refused(url: &str, headers: &HeaderMap) {
    eventually("401", SOON, async || {
        let response = send(url, WAYS[0], VIEWER, headers.clone()).await;
        (response.status() == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_first_token_closes_the_door_and_no_revocation_opens_it() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "0"]).await;
    assert_eq!(
        server.data(VIEWER, json!({})).await,
        json!({"viewer": {"scope": "OPERATOR", "clientId": null}})
    );
    let mut open = server.subscribe(FEED, json!({})).await;
    let token = new_token(&db.url(), &["--scope", "client", "--client-id", "shop", "--name", "only"]).await;
    until_refused(&server.url, &HeaderMap::new()).await;
    assert_eq!(open.close_code().await, 4403, "it came in without a token");
    let viewer = asked_with(&server.url, &token, VIEWER).await;
    assert_eq!(viewer["data"], json!({"viewer": {"scope": "CLIENT", "clientId": "shop"}}));
    revoke(&db, "only").await;
    until_refused(&server.url, &with_token(&token)).await;
    until_refused(&server.url, &HeaderMap::new()).await;
    let started_later = Process::serve(&db.url(), &["--slots", "0"]).await;
    assert_eq!(send(&started_later.url, WAYS[0], VIEWER, HeaderMap::new()).await.status(), 401);
    for process in [server, started_later] {
        assert!(!process.logged().contains(&token) && !process.logged().contains(&token[6..]));
    }
}

#[tokio::test]
async fn whatever_is_wrong_with_a_token_the_answer_is_the_same_over_every_transport() {
    let db = TestDb::new().await;
    let good = new_token(&db.url(), &["--scope", "operator"]).await;
    let revoked = new_token(&db.url(), &["--scope", "operator", "--name", "revoked"]).await;
    let expired =
        new_token(&db.url(), &["--scope", "operator", "--name", "expired", "--expires-in", "1h"]).await;
    revoke(&db, "revoked").await;
    sqlx::query("UPDATE api_token SET expires_at = now() WHERE name = 'expired'")
        .execute(db.pool())
        .await
        .expect("by hand");
    let server = Process::serve(&db.url(), &["--slots", "0"]).await;
    let unknown = TokenSecret::new().expect("a secret").expose().to_owned();
    let mut wrong: Vec<(String, HeaderMap)> = vec![("none".to_owned(), HeaderMap::new())];
    for token in [&revoked, &expired, &unknown, "x", "a.b.c", &good[6..]] {
        wrong.push((token.to_owned(), with_token(token)));
    }
    for header in ["", "Bearer", "Basic eDp5", &good] {
        let value = HeaderValue::from_str(header).expect("a header");
        wrong.push((header.to_owned(), HeaderMap::from_iter([(AUTHORIZATION, value)])));
    }
    let mut twice = with_token(&good);
    twice.append(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {good}")).expect("a header"));
    wrong.push(("twice".to_owned(), twice));
    let mut bodies = Vec::new();
    for (what, headers) in wrong {
        for way in WAYS {
            let response = send(&server.url, way, VIEWER, headers.clone()).await;
            assert_eq!(response.status(), 401, "{what} {way:?}");
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            bodies.push(response.text().await.expect("a body"));
        }
    }
    // A header at the upgrade is a token like any other.
    for token in [&revoked, &expired, &unknown] {
        let bearer = format!("Bearer {token}");
        let refused = Socket::open(http_to_ws(&server.url, &[("authorization", &bearer)])).await;
        assert_eq!(refused.err(), Some(401), "{token}");
    }
    let submit = "mutation { submitJob(input: {kind: \"echo\"}) { created } }";
    assert_eq!(send(&server.url, WAYS[0], submit, with_token(&revoked)).await.status(), 401);
    let jobs: i64 = sqlx::query_scalar("SELECT count(*) FROM job").fetch_one(db.pool()).await.expect("count");
    assert_eq!(jobs, 0);
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    let body: Value = serde_json::from_str(&bodies[0]).expect("JSON");
    assert_eq!(body["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
    let bearer = |token: &str| json!({"authorization": format!("Bearer {token}")});
    for payload in [
        json!(null),
        json!({}),
        bearer(&revoked),
        bearer(&expired),
        bearer(&unknown),
        json!({"authorization": 1}),
    ] {
        assert_eq!(
            Socket::introduced(&server.url, payload.clone()).await.close_code().await,
            4403,
            "{payload}"
        );
    }
    let mut socket = Socket::introduced(&server.url, bearer(&good)).await;
    assert_eq!(socket.next_message().await.expect("an answer")["type"], "connection_ack");
    for way in WAYS {
        let response = send(&server.url, way, VIEWER, with_token(&good)).await;
        assert_eq!(response.status(), 200, "{way:?}");
        assert!(response.text().await.expect("a body").contains("OPERATOR"));
    }
    for path in ["/healthz", "/readyz"] {
        let url = server.url.replace("/graphql", path);
        assert_eq!(reqwest::get(url).await.expect("health").status(), 200, "{path} needs no token");
    }
}

/// Whether everything that a token has open ends, and that of another stays, once the token is not valid any more.
async fn what_is_open_ends(db: &TestDb, end: impl AsyncFnOnce()) {
    let server = Process::serve(&db.url(), &["--slots", "0"]).await;
    let secrets = [
        new_token(&db.url(), &["--scope", "operator", "--name", "ends", "--expires-in", "1h"]).await,
        new_token(&db.url(), &["--scope", "operator", "--name", "stays"]).await,
    ];
    until_refused(&server.url, &HeaderMap::new()).await;
    let (mut sockets, mut streams) = (Vec::new(), Vec::new());
    for secret in &secrets {
        let bearer = json!({"authorization": format!("Bearer {secret}")});
        let mut socket = Socket::introduced(&server.url, bearer).await;
        assert_eq!(socket.next_message().await.expect("an answer")["type"], "connection_ack");
        socket.send(json!({"type": "subscribe", "id": "1", "payload": {"query": FEED}})).await;
        sockets.push(socket);
        for way in &WAYS[3..=4] {
            let response = send(&server.url, *way, FEED, with_token(secret)).await;
            assert_eq!(response.status(), 200);
            streams.push(response);
        }
    }
    end().await;
    assert_eq!(sockets[0].close_code().await, 4403);
    let staying = streams.split_off(2);
    let [events, parts] = <[reqwest::Response; 2]>::try_from(streams).expect("two");
    let events = deadline("the end of the events", events.text()).await.expect("text");
    assert!(!events.contains("event: complete"), "a client is to come back and be told: {events}");
    let parts = deadline("the end of the parts", parts.text()).await.expect("text");
    assert!(parts.contains("UNAUTHENTICATED") && parts.ends_with("--\r\n"), "{parts}");
    until_refused(&server.url, &with_token(&secrets[0])).await;
    let job = asked_with(
        &server.url,
        &secrets[1],
        "mutation { submitJob(input: {kind: \"echo\"}) { job { id } } }",
    )
    .await;
    let id = job["data"]["submitJob"]["job"]["id"].as_str().expect("an id").to_owned();
    let told = sockets[1].next_message().await.expect("an event");
    assert_eq!(told["payload"]["data"]["jobUpdated"]["id"], json!(id));
    for mut stream in staying {
        let mut said = String::new();
        deadline("an event", async {
            while !said.contains(&id) {
                let chunk = stream.chunk().await.expect("a chunk").expect("the stream goes on");
                said.push_str(&String::from_utf8_lossy(&chunk));
            }
        })
        .await;
    }
}

#[tokio::test]
async fn what_a_revoked_token_has_open_ends() {
    let db = TestDb::new().await;
    what_is_open_ends(&db, async || revoke(&db, "ends").await).await;
}

#[tokio::test]
async fn what_an_expired_token_has_open_ends_without_any_notification() {
    let db = TestDb::new().await;
    sqlx::query("DROP TRIGGER api_token_announce ON api_token").execute(db.pool()).await.expect("by hand");
    let expire = "UPDATE api_token SET expires_at = now() + interval '1 s' WHERE name = 'ends'";
    what_is_open_ends(&db, async || {
        sqlx::query(expire).execute(db.pool()).await.expect("by hand");
    })
    .await;
    assert!(LOOK_EVERY < Duration::from_secs(60));
}

/// An issuer of JWTs: what it answers at a URL of this machine, and what signs its tokens.
struct Issuer {
    url: String,
    key: ring::signature::Ed25519KeyPair,
    serving: tokio::task::JoinHandle<()>,
}

impl Issuer {
    async fn new() -> Issuer {
        use ring::signature::KeyPair;
        let random = ring::rand::SystemRandom::new();
        let key = ring::signature::Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
        let key = ring::signature::Ed25519KeyPair::from_pkcs8(key.as_ref()).expect("a key");
        let x = URL_SAFE_NO_PAD.encode(key.public_key());
        let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "one", "x": x}]});
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/jwks", listener.local_addr().expect("an address"));
        let router = axum::Router::new().route("/jwks", axum::routing::get(async move || axum::Json(keys)));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.expect("serve") });
        Issuer { url, key, serving }
    }

    fn token(&self, client: &str, lives_seconds: i64) -> String {
        let expires_at = Utc::now().timestamp() + lives_seconds;
        let claims =
            json!({"iss": "https://login.example", "aud": "jobql", "sub": client, "exp": expires_at});
        let encoded = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encoded(json!({"alg": "EdDSA", "kid": "one"})), encoded(claims));
        let signed = URL_SAFE_NO_PAD.encode(self.key.sign(message.as_bytes()));
        format!("{message}.{signed}")
    }
}

#[tokio::test]
async fn a_jwt_of_an_issuer_at_a_url_lets_in_over_every_transport_also_when_the_issuer_is_away() {
    let (db, issuer) = (TestDb::new().await, Issuer::new().await);
    let settings =
        ["--jwt-issuer", "https://login.example", "--jwt-audience", "jobql", "--jwt-algorithm", "EdDSA"];
    let mut arguments = vec!["--slots", "0", "--jwt-leeway-seconds", "0", "--jwt-keys", issuer.url.as_str()];
    arguments.extend(settings);
    let server = Process::serve(&db.url(), &arguments).await;
    let lets_in = async |token: &str| {
        for way in WAYS {
            let response = send(&server.url, way, VIEWER, with_token(token)).await;
            assert_eq!(response.status(), 200, "{way:?}");
            assert!(response.text().await.expect("a body").contains("shop"), "{way:?}");
        }
        let bearer = json!({"authorization": format!("Bearer {token}")});
        let mut socket = Socket::introduced(&server.url, bearer).await;
        assert_eq!(socket.next_message().await.expect("an answer")["type"], "connection_ack");
        socket
    };
    lets_in(&issuer.token("shop", 600)).await;
    issuer.serving.abort();
    eventually("the issuer is away", SOON, async || reqwest::get(&issuer.url).await.err().map(drop)).await;
    // It is as good as before: it was never seen, so nothing is remembered of it.
    lets_in(&issuer.token("shop", 601)).await;
    let mut ends = lets_in(&issuer.token("shop", 3)).await;
    assert_eq!(ends.close_code().await, 4403, "it has expired");
    let forged = Issuer::new().await.token("shop", 600);
    for token in [forged, issuer.token("shop", -1), issuer.token("", 600)] {
        assert_eq!(send(&server.url, WAYS[0], VIEWER, with_token(&token)).await.status(), 401);
    }
    assert_eq!(send(&server.url, WAYS[0], VIEWER, HeaderMap::new()).await.status(), 401);
}

#[tokio::test]
async fn other_machines_are_served_with_tokens_or_when_told_to() {
    let db = TestDb::new().await;
    let arguments = ["serve", "--slots", "0", "--listen", "0.0.0.0:0"];
    let (code, printed, said) = output(&db.url(), &arguments).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--listen") && said.contains("no tokens") && said.contains("--insecure"), "{said}");
    assert!(!printed.contains("http://"), "{printed}");
    let insecure = Process::serve(&db.url(), &["--slots", "0", "--listen", "0.0.0.0:0", "--insecure"]).await;
    assert!(insecure.logged().contains("whoever reaches this address is an operator"));
    new_token(&db.url(), &["--scope", "operator"]).await;
    let server = Process::serve(&db.url(), &["--slots", "0", "--listen", "0.0.0.0:0"]).await;
    assert_eq!(send(&server.url, WAYS[0], VIEWER, HeaderMap::new()).await.status(), 401);
    until_refused(&insecure.url, &HeaderMap::new()).await;
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked_on_the_command_line() {
    let db = TestDb::empty().await;
    let url = db.url();
    let create =
        ["--scope", "worker", "--kind", "sum", "--kind", "echo", "--name", "w", "--expires-in", "30d"];
    let worker = new_token(&url, &create).await;
    let client = new_token(&url, &["--scope", "client", "--client-id", "shop"]).await;
    assert_ne!(worker, client);
    let (code, printed, _) = output(&url, &["token", "list", "--json"]).await;
    assert_eq!(code, Some(0));
    let tokens: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(tokens[0]["kinds"], json!(["echo", "sum"]));
    assert_eq!((&tokens[0]["scope"], &tokens[0]["state"]), (&json!("WORKER"), &json!("valid")));
    let expires_at = tokens[0]["expiresAt"].as_str().expect("an instant").parse::<chrono::DateTime<Utc>>();
    assert_eq!((expires_at.expect("an instant") - Utc::now()).num_days(), 29);
    assert_eq!((&tokens[1]["clientId"], &tokens[1]["expiresAt"]), (&json!("shop"), &json!(null)));
    let id = tokens[0]["id"].as_str().expect("an id");
    for said in ["revoked token", "was revoked before"] {
        let (code, _, err) = output(&url, &["token", "revoke", id]).await;
        assert!(code == Some(0) && err.contains(said), "{err}");
    }
    let (_, table, _) = output(&url, &["token", "list"]).await;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines.len() == 3 && lines[1].contains(id) && lines[1].contains("revoked"), "{table}");
    assert!(lines[2].contains("client shop") && lines[2].contains("never"), "{table}");
    for shown in [printed, table] {
        assert!(!shown.contains(&worker[6..]) && !shown.contains(&client[6..]) && !shown.contains("jobql_"));
    }
    let stored: Vec<String> =
        sqlx::query_scalar("SELECT api_token::text FROM api_token").fetch_all(db.pool()).await.expect("rows");
    assert!(!stored.join(" ").contains(&client[6..]));
    let nobody = Uuid::nil().to_string();
    for (arguments, exit, mentions) in [
        (vec!["create"], 2, "--scope"),
        (vec!["create", "--scope", "root"], 2, "operator"),
        (vec!["create", "--scope", "client"], 2, "--client-id"),
        (vec!["create", "--scope", "client", "--client-id", ""], 2, "--client-id"),
        (vec!["create", "--scope", "operator", "--client-id", "a"], 2, "--client-id"),
        (vec!["create", "--scope", "worker"], 2, "--kind"),
        (vec!["create", "--scope", "worker", "--kind", "sun"], 2, "sum"),
        (vec!["create", "--scope", "operator", "--expires-in", "30"], 2, "30d"),
        (vec!["revoke", "x"], 2, "<ID>"),
        (vec!["revoke", &nobody], 1, "no token"),
    ] {
        let mut all = vec!["token"];
        all.extend(arguments);
        let (code, _, said) = output(&url, &all).await;
        assert_eq!(code, Some(exit), "{all:?}: {said}");
        assert!(said.contains(mentions), "{all:?}: {said}");
    }
}

#[tokio::test]
async fn a_token_decides_what_its_holder_may_do() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "0"]).await;
    let shop = new_token(&db.url(), &["--scope", "client", "--client-id", "shop"]).await;
    let bank = new_token(&db.url(), &["--scope", "client", "--client-id", "bank"]).await;
    let worker = new_token(&db.url(), &["--scope", "worker", "--kind", "echo"]).await;
    until_refused(&server.url, &HeaderMap::new()).await;
    let submit = "mutation { submitJob(input: {kind: \"echo\"}) { job { id clientId } } }";
    let job = asked_with(&server.url, &shop, submit).await["data"]["submitJob"]["job"].clone();
    assert_eq!(job["clientId"], "shop");
    let look = format!("{{ job(id: {}) {{ id }} }}", job["id"]);
    assert_eq!(asked_with(&server.url, &bank, &look).await["data"]["job"], json!(null));
    assert_eq!(asked_with(&server.url, &worker, &look).await["data"]["job"]["id"], job["id"]);
    let cancel = format!("mutation {{ cancelJob(id: {}) {{ id }} }}", job["id"]);
    for (token, query, code) in [
        (&bank, cancel.as_str(), "NOT_FOUND"),
        (&worker, cancel.as_str(), "FORBIDDEN"),
        (&worker, submit, "FORBIDDEN"),
        (
            &shop,
            "mutation { submitJob(input: {kind: \"echo\", clientId: \"bank\"}) { created } }",
            "FORBIDDEN",
        ),
        (&shop, "{ jobs(clientId: \"bank\") { totalCount } }", "FORBIDDEN"),
        (&shop, "{ jobByRequest(clientId: \"bank\", requestId: \"1\") { id } }", "FORBIDDEN"),
        (&shop, "mutation { cancelJobs(filter: {clientId: \"bank\"}) { changed } }", "FORBIDDEN"),
        (&shop, "{ queues { name } }", "FORBIDDEN"),
        (&worker, "{ workers { id } }", "FORBIDDEN"),
        (&shop, "mutation { pauseQueue(name: \"default\") { name } }", "FORBIDDEN"),
    ] {
        let answer = asked_with(&server.url, token, query).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], code, "{query}: {answer}");
    }
    let kinds = asked_with(&server.url, &worker, "{ jobKinds { name } viewer { scope clientId } }").await;
    assert_eq!(kinds["data"]["viewer"], json!({"scope": "WORKER", "clientId": null}));
}

#[tokio::test]
async fn pages_that_are_listed_may_use_the_api_and_others_are_told_nothing() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "0", "--origins", "https://app.example"]).await;
    new_token(&db.url(), &["--scope", "operator"]).await;
    until_refused(&server.url, &HeaderMap::new()).await;
    let client = reqwest::Client::new();
    let preflight = |origin: &str| {
        let request = client.request(reqwest::Method::OPTIONS, &server.url).header("origin", origin);
        request.header("access-control-request-method", "POST").send()
    };
    let allowed = preflight("https://app.example").await.expect("a response");
    assert_eq!(allowed.status(), 204);
    assert_eq!(allowed.headers()["access-control-allow-origin"], "https://app.example");
    assert_eq!(allowed.headers()["vary"], "Origin");
    let headers = allowed.headers()["access-control-allow-headers"].to_str().expect("text").to_lowercase();
    assert!(headers.contains("authorization") && headers.contains("content-type"));
    assert!(!allowed.headers().contains_key("access-control-allow-credentials"));
    let refused = preflight("https://evil.example").await.expect("a response");
    assert_eq!(refused.status(), 401);
    assert!(refused.headers().keys().all(|name| !name.as_str().starts_with("access-control")));
    for (origin, told) in [("https://app.example", true), ("https://evil.example", false), ("null", false)] {
        let headers = HeaderMap::from_iter([(reqwest::header::ORIGIN, HeaderValue::from_static(origin))]);
        let response = send(&server.url, WAYS[0], VIEWER, headers).await;
        assert_eq!(response.status(), 401, "a page can read why it is refused");
        assert_eq!(response.headers().contains_key("access-control-allow-origin"), told, "{origin}");
        let vary: Vec<_> = response.headers().get_all("vary").iter().collect();
        assert_eq!(vary, ["Accept", "Origin"]);
    }
}

#[tokio::test]
async fn a_server_is_called_by_the_names_that_it_has() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "0", "--hosts", "jobs.example"]).await;
    let asked = async |host: &'static str| {
        let headers = HeaderMap::from_iter([(reqwest::header::HOST, HeaderValue::from_static(host))]);
        send(&server.url, WAYS[0], VIEWER, headers).await.status().as_u16()
    };
    assert_eq!(asked("jobs.example").await, 200);
    assert_eq!(asked("evil.example").await, 403);
    assert_eq!(ask(&server.url, VIEWER, json!({})).await["data"]["viewer"]["scope"], "OPERATOR");
    new_token(&db.url(), &["--scope", "operator"]).await;
    until_refused(&server.url, &HeaderMap::new()).await;
    assert_eq!(asked("evil.example").await, 403);
    assert_eq!(asked("jobs.example").await, 401);
}
