//! Nothing of one tenant reaches another: the whole schema is walked on behalf of one while another has jobs in every
//! state, each of them full of canaries.
//!
//! The walk is made from introspection, so that a field, an argument or a subscription that is added to the schema is part
//! of it. What must hold of every answer: it has no canary but those that the question named; a foreign id, or client, is
//! answered byte for byte as one that does not exist; and the foreign rows are the same afterwards. Canaries of one's own
//! must be seen, or the walk would prove nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use entity::{JobStatus, job};
use futures_util::future::join_all;
use jobql::job::submission::Submission;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::process::{Process, Socket, new_token};
use crate::support::schema_walk::{Call, INTROSPECTION, Places, Schema, Sort};
use crate::support::{SOON, TestDb, deadline, eventually, kind};

const STATES: [JobStatus; 7] = [
    JobStatus::Blocked,
    JobStatus::Scheduled,
    JobStatus::Pending,
    JobStatus::Running,
    JobStatus::Done,
    JobStatus::Error,
    JobStatus::Cancelled,
];
/// Requests under way at once.
const AT_ONCE: usize = 4;
/// A server whose limits are no matter here.
const SERVE: [&str; 6] = ["--slots", "0", "--max-query-complexity", "1000000", "--max-query-depth", "60"];

/// Somebody with a job in every state, and all that belongs to jobs.
struct Tenant {
    client: String,
    jobs: Vec<job::Model>,
    workflow: Uuid,
}

impl Tenant {
    async fn new(db: &TestDb, name: &str, kinds: &[&str]) -> Tenant {
        let client = format!("{name}-client");
        let mut jobs = Vec::new();
        for (number, (status, of_kind)) in STATES.into_iter().zip(kinds.iter().cycle()).enumerate() {
            let submission = Submission {
                client_id: Some(client.clone()),
                request_id: Some(format!("request-{number}")),
                display_name: Some(format!("{name}-display")),
                callback_url: Some(format!("https://{name}-callback.example/hook")),
                ..kind(of_kind, json!({"start": 1, "end": 2, "secret": format!("{name}-payload")}))
            };
            let job = db.job_of(status, submission).await;
            Tenant::furnish(db, name, job.id).await;
            jobs.push(job);
        }
        let workflow = Tenant::workflow_of(db, name, &client, &jobs).await;
        for job in &mut jobs {
            *job = db.job(job.id).await;
        }
        // The walk may take longer than a lease.
        let lease = "UPDATE worker SET expires_at = now() + interval '1 day'";
        sqlx::query(lease).execute(db.pool()).await.expect("by hand");
        let tenant = Tenant { client, jobs, workflow };
        tenant.waits_for(db, &tenant).await;
        tenant
    }

    /// A workflow of its pending and its running job.
    async fn workflow_of(db: &TestDb, name: &str, client: &str, jobs: &[job::Model]) -> Uuid {
        let id = Uuid::now_v7();
        let workflow = "INSERT INTO workflow (id, client_id, request_id, name, on_failure, max_payload_bytes, callback_url)
             VALUES ($1, $2, $3 || '-workflow-request', $3 || '-workflow', 'BLOCK', 1000, 'https://' || $3 || '-told.example/')";
        let insert = sqlx::query(workflow).bind(id).bind(client).bind(name);
        insert.execute(db.pool()).await.expect("by hand");
        let jobs: Vec<Uuid> = jobs[2..=3].iter().map(|job| job.id).collect();
        let belong = "UPDATE job SET workflow_id = $1, workflow_key = $2 || '-key' WHERE id = ANY($3)";
        sqlx::query(belong).bind(id).bind(name).bind(jobs).execute(db.pool()).await.expect("by hand");
        id
    }

    /// Its blocked job depends on the other's pending one.
    async fn waits_for(&self, db: &TestDb, other: &Tenant) {
        let statements = [
            "INSERT INTO dependency (child, parent) VALUES ($1, $2)",
            "UPDATE job SET waits_for = (SELECT count(*) FROM dependency WHERE child = $1) WHERE id = $1 AND $2 <> $1",
            "UPDATE job SET has_dependents = true WHERE id = $2 AND $2 <> $1",
        ];
        for sql in statements {
            let (child, parent) = (self.jobs[0].id, other.jobs[2].id);
            sqlx::query(sql).bind(child).bind(parent).execute(db.pool()).await.expect("by hand");
        }
    }

    async fn furnish(db: &TestDb, name: &str, id: Uuid) {
        let error = json!({"code": "E", "message": format!("{name}-error"), "retryable": false,
                           "details": {"secret": format!("{name}-details")}});
        let statements = [
            "UPDATE job SET progress_fraction = 0.5, progress_message = $2 || '-progress', progress_at = now(),
                 result = CASE status WHEN 'DONE' THEN to_jsonb($2 || '-result') END,
                 error = CASE status WHEN 'ERROR' THEN $3::jsonb END
             WHERE id = $1",
            "INSERT INTO attempt SELECT $1, 100, now(), now(), 'ERROR', $3::jsonb, $1 WHERE $2 <> ''",
            "INSERT INTO job_log SELECT $1, 100, 1, now(), 'STDOUT', $2 || '-line' WHERE $3::jsonb IS NOT NULL",
            "INSERT INTO callback_delivery (job_id, event, attempts, last_error, next_at)
             SELECT $1, 1, 3, $2 || '-delivery', NULL WHERE $3::jsonb IS NOT NULL
             ON CONFLICT (job_id) DO UPDATE SET attempts = 3, last_error = excluded.last_error, next_at = NULL",
        ];
        for sql in statements {
            sqlx::query(sql).bind(id).bind(name).bind(&error).execute(db.pool()).await.expect("by hand");
        }
    }

    /// What must not be seen of it.
    fn canaries(&self, name: &str) -> BTreeSet<String> {
        let mut canaries = BTreeSet::from([format!("{name}-"), self.workflow.to_string()]);
        for job in &self.jobs {
            let (_, low) = job.id.as_u64_pair();
            canaries.extend([job.id.to_string(), job.id.simple().to_string(), format!("{low:016x}")]);
        }
        canaries
    }

    fn ids(&self) -> Vec<String> {
        self.jobs.iter().map(|job| job.id.to_string()).collect()
    }

    /// Every row that is its own, as text.
    async fn rows(&self, db: &TestDb) -> Vec<String> {
        let ids: Vec<Uuid> = self.jobs.iter().map(|job| job.id).collect();
        let sql = "SELECT job::text FROM job WHERE client_id = $2
             UNION ALL SELECT attempt::text FROM attempt WHERE job_id = ANY($1)
             UNION ALL SELECT job_log::text FROM job_log WHERE job_id = ANY($1)
             UNION ALL SELECT callback_delivery::text FROM callback_delivery WHERE job_id = ANY($1)
             UNION ALL SELECT submit_key::text FROM submit_key WHERE client_id = $2
             UNION ALL SELECT workflow::text FROM workflow WHERE client_id = $2
             ORDER BY 1";
        let rows = sqlx::query_scalar(sql).bind(ids).bind(&self.client).fetch_all(db.pool());
        rows.await.expect("rows")
    }
}

/// A walk on behalf of a token.
struct Walk {
    server: Process,
    secret: String,
    canaries: BTreeSet<String>,
    /// All that was answered.
    heard: String,
    /// By operation, field and place: the answers to what is foreign, and to what is unknown, without its name.
    answers: BTreeMap<String, (Vec<String>, Vec<String>)>,
}

impl Walk {
    /// The answer. That a busy database has no time now says nothing about tenants, so it is asked again.
    async fn post(&self, body: &Value) -> String {
        eventually("the database has time", Duration::from_secs(120), async || {
            let request = reqwest::Client::new().post(&self.server.url).bearer_auth(&self.secret).json(body);
            let response = deadline("an answer", request.send()).await.expect("a response");
            let answer = response.text().await.expect("text");
            (!answer.contains("UNAVAILABLE")).then_some(answer)
        })
        .await
    }

    /// Makes the calls and looks at the answers.
    async fn through(&mut self, calls: Vec<Call>) {
        for some in calls.chunks(AT_ONCE) {
            let answers = join_all(some.iter().map(|call| async {
                self.post(&json!({"query": call.document, "variables": call.variables})).await
            }));
            for (call, answer) in some.iter().zip(answers.await) {
                self.look_at(call, answer);
            }
        }
    }

    fn look_at(&mut self, call: &Call, answer: String) {
        let refused =
            ["GRAPHQL_VALIDATION_FAILED", "GRAPHQL_PARSE_FAILED", "QUERY_TOO_COMPLEX", "INTERNAL_SERVER"];
        let bad = refused.iter().find(|code| answer.contains(**code));
        assert!(
            bad.is_none(),
            "the walk asks for what there is: {}\n{}\n{answer}",
            call.document,
            call.variables
        );
        let mut without_name = answer.clone();
        if let Some(name) = &call.names {
            without_name = without_name.replace(name.as_str(), "…");
        }
        for canary in &self.canaries {
            assert!(
                !without_name.contains(canary.as_str()),
                "{canary} was told to another: {}\n{}\n{answer}",
                call.document,
                call.variables
            );
        }
        let key = format!("{} {} {}", call.operation, call.field, call.place);
        match call.sort {
            Sort::Foreign => self.answers.entry(key).or_default().0.push(without_name),
            Sort::Unknown => self.answers.entry(key).or_default().1.push(without_name),
            Sort::Plain => {}
        }
        self.heard.push_str(&answer);
    }

    /// Opens every subscription on one socket, lets `happen`, and looks at all that is told until `last` is.
    async fn watch(&mut self, calls: Vec<Call>, happen: impl AsyncFnOnce() -> String) {
        let bearer = json!({"authorization": format!("Bearer {}", self.secret)});
        let mut socket = Socket::introduced(&self.server.url, bearer).await;
        assert_eq!(socket.next_message().await.expect("an answer")["type"], "connection_ack");
        for (number, call) in calls.iter().enumerate() {
            let payload = json!({"query": call.document, "variables": call.variables});
            socket.send(json!({"type": "subscribe", "id": number.to_string(), "payload": payload})).await;
        }
        // A feed without a filter is told of what was written after everything else.
        let feed = calls.iter().position(|call| call.field == "jobUpdated" && call.place.is_empty());
        let feed = feed.expect("a feed").to_string();
        let mut first: BTreeMap<usize, String> = BTreeMap::new();
        // What names a job that is not there is refused at once; a workflow that is not there has no news, ever.
        let names_a_job = |call: &Call| {
            call.place != "workflowId"
                && call.names.as_ref().is_some_and(|name| Uuid::try_parse(name).is_ok())
        };
        let refused: BTreeSet<usize> =
            (0..calls.len()).filter(|number| names_a_job(&calls[*number])).collect();
        let all_refused =
            |first: &BTreeMap<usize, String>| refused.iter().all(|number| first.contains_key(number));
        let mut last = None;
        let mut happen = Some(happen);
        loop {
            if all_refused(&first)
                && let Some(happen) = happen.take()
            {
                last = Some(happen().await);
            }
            let message = socket.next_message_within(SOON).await.expect("the socket stays open");
            let number: usize = message["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
            let said = message["payload"].to_string();
            let is_last =
                last.as_ref().is_some_and(|last| message["id"] == feed && said.contains(last.as_str()));
            if message["type"] == "complete" {
                first.entry(number).or_insert_with(|| "complete".to_owned());
                continue;
            }
            let call = if first.contains_key(&number) || !refused.contains(&number) {
                // Later ones, and those of feeds, are looked through, and not compared.
                Call { sort: Sort::Plain, ..calls[number].clone() }
            } else {
                calls[number].clone()
            };
            self.look_at(&call, said.clone());
            first.entry(number).or_insert(said);
            if is_last {
                return;
            }
        }
    }

    /// Whatever is foreign was answered as what does not exist.
    fn compare(&self) {
        assert!(self.answers.len() > 10, "{:?}", self.answers.keys());
        for (place, (foreign, unknown)) in &self.answers {
            assert!(!foreign.is_empty() && !unknown.is_empty(), "{place}");
            for answer in foreign.iter().chain(unknown) {
                assert_eq!(Some(answer), unknown.first(), "{place}");
            }
        }
    }
}

/// Cursors of lists that somebody else was given.
async fn cursors_of(url: &str, secret: &str, job_id: &str) -> Vec<String> {
    let query = format!(
        "{{ jobs(first: 3) {{ pageInfo {{ endCursor }} edges {{ cursor }} }}
            job(id: \"{job_id}\") {{ logs {{ pageInfo {{ endCursor }} }} }} }}"
    );
    let request = reqwest::Client::new().post(url).bearer_auth(secret).json(&json!({ "query": query }));
    let answer: Value = request.send().await.expect("a response").json().await.expect("JSON");
    let cursors = [
        &answer["data"]["jobs"]["pageInfo"]["endCursor"],
        &answer["data"]["jobs"]["edges"][0]["cursor"],
        &answer["data"]["job"]["logs"]["pageInfo"]["endCursor"],
    ];
    cursors.map(|cursor| cursor.as_str().expect("a cursor").to_owned()).to_vec()
}

/// Walks the schema with a token that sees `own` and not `foreign`.
async fn nothing_foreign_is_told(db: &TestDb, secret: &[&str], own: Tenant, foreign: Tenant) {
    let secret = new_token(&db.url(), secret).await;
    let operator = new_token(&db.url(), &["--scope", "operator"]).await;
    let server = Process::serve(&db.url(), &SERVE).await;
    let mut walk = Walk {
        server,
        secret,
        canaries: foreign.canaries("foreign"),
        heard: String::new(),
        answers: BTreeMap::new(),
    };
    let schema: Value =
        serde_json::from_str(&walk.post(&json!({ "query": INTROSPECTION })).await).expect("JSON");
    let places = Places {
        cursors: cursors_of(&walk.server.url, &operator, &foreign.ids()[0]).await,
        own_ids: own.ids().into_iter().chain([own.workflow.to_string()]).collect(),
        foreign_ids: foreign.ids().into_iter().chain([foreign.workflow.to_string()]).collect(),
        unknown_id: Uuid::now_v7().to_string(),
        own_client: own.client.clone(),
        foreign_client: foreign.client.clone(),
        kinds: vec!["echo".to_owned(), "sum".to_owned()],
        request_ids: vec!["request-0".to_owned(), "request-1".to_owned(), "another".to_owned()],
    };
    let schema = Schema::new(&schema["data"], places);
    own.waits_for(db, &foreign).await;
    let before = foreign.rows(db).await;
    walk.through(schema.calls("query")).await;
    for part in [
        "payload", "display", "client", "progress", "result", "error", "details", "line", "delivery",
        "callback",
    ] {
        assert!(walk.heard.contains(&format!("own-{part}")), "the walk came by no {part} of its own");
    }
    assert!(own.ids().iter().all(|id| walk.heard.contains(id)), "the walk came by all jobs of its own");
    let (mine, theirs) = (own.jobs[2].id, foreign.jobs[2].id);
    walk.watch(schema.calls("subscription"), async || {
        for id in [theirs, mine] {
            sqlx::query("UPDATE job SET progress_message = 'changed' WHERE id = $1")
                .bind(id)
                .execute(db.pool())
                .await
                .expect("by hand");
        }
        mine.to_string()
    })
    .await;
    let changed = foreign.rows(db).await;
    let differ = before.iter().filter(|row| !changed.contains(row)).count();
    assert_eq!((before.len(), differ), (changed.len(), 1), "the change above is the only one of theirs");
    walk.through(schema.calls("mutation")).await;
    assert_eq!(foreign.rows(db).await, changed, "rows of another were changed");
    walk.compare();
    eventually("the server lives", Duration::from_secs(5), async || {
        (!walk.server.logged().contains("panicked")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_client_is_told_nothing_of_another_by_any_field_argument_or_subscription() {
    let db = TestDb::new().await;
    let own = Tenant::new(&db, "own", &["echo", "sum"]).await;
    let foreign = Tenant::new(&db, "foreign", &["echo", "sum"]).await;
    let secret = ["--scope", "client", "--client-id", "own-client"];
    nothing_foreign_is_told(&db, &secret, own, foreign).await;
}

#[tokio::test]
async fn a_worker_is_told_nothing_of_kinds_that_are_not_its_own() {
    let db = TestDb::new().await;
    let own = Tenant::new(&db, "own", &["echo"]).await;
    let foreign = Tenant::new(&db, "foreign", &["sum"]).await;
    nothing_foreign_is_told(&db, &["--scope", "worker", "--kind", "echo"], own, foreign).await;
}
