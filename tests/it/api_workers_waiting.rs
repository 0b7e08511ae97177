//! Claims over the API that wait: how soon they are answered, in which order, at what cost, and what is left when their
//! client goes away.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::api_workers::sweep_as_if_expired;
use crate::support::api_worker::{ApiWorker, serve};
use crate::support::process::Process;
use crate::support::{SOON, TestDb, eventually};

async fn until_registered(server: &Process, count: usize) {
    eventually("the claims have looked for themselves", SOON, async || {
        let workers = server.data("{ workers { name } }", json!({})).await;
        (workers["workers"].as_array().expect("workers").len() >= count).then_some(())
    })
    .await;
}

async fn until_waiting(server: &Process, worker: &str) {
    eventually("the claim has looked for itself", SOON, async || {
        let workers = server.data("{ workers { name } }", json!({})).await["workers"].take();
        workers.as_array().expect("workers").iter().any(|known| known["name"] == worker).then_some(())
    })
    .await;
}

/// How often a waiting claim was served: because of news, and without any.
fn served(server: &Process) -> (usize, usize) {
    let logged = server.logged();
    let count = |why: &str| logged.lines().filter(|line| line.contains(why)).count();
    (count("there was news of work"), count("looking again without news"))
}

#[tokio::test]
async fn a_claim_that_waits_is_answered_when_work_comes() {
    let db = TestDb::new().await;
    let (server, second) = (serve(&db.url()).await, serve(&db.url()).await);
    for submit_to in [&server, &second] {
        let (mut by_news, mut rounds) = (0, 0);
        // The poll of a second may be faster, but hardly ever ten times.
        while by_news == 0 {
            rounds += 1;
            assert!(rounds <= 10, "{rounds} times it was not the news that woke the claim");
            let worker = ApiWorker::new(&server, &format!("w-{}-{rounds}", submit_to.pid()));
            let name = worker.id.clone();
            let waiting = tokio::spawn(async move { worker.claim(json!({"waitSeconds": 20})).await });
            until_waiting(&server, &name).await;
            let before = served(&server).0;
            let id = submit_to.submit("parcel", json!({})).await;
            assert_eq!(waiting.await.expect("a claim")[0]["jobId"], id);
            by_news = served(&server).0 - before;
        }
    }
    let worker = ApiWorker::new(&server, "patient");
    let started = Instant::now();
    assert!(worker.claim(json!({"waitSeconds": 1})).await.is_empty());
    let waited = started.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn without_notifications_the_poll_suffices() {
    let db = TestDb::new().await;
    sqlx::raw_sql("DROP TRIGGER job_announce_insert ON job; DROP TRIGGER job_announce_update ON job")
        .execute(db.pool())
        .await
        .expect("no news");
    let server = serve(&db.url()).await;
    let worker = ApiWorker::new(&server, "w1");
    let waiting = tokio::spawn(async move { worker.claim(json!({"waitSeconds": 20})).await });
    until_waiting(&server, "w1").await;
    // Each poll looks once, and they come each second.
    let (_, before) = served(&server);
    let looked_at = Instant::now();
    eventually("three polls", SOON, async || (served(&server).1 >= before + 3).then_some(())).await;
    assert!(looked_at.elapsed() >= Duration::from_secs(2), "{:?}", looked_at.elapsed());
    server.submit("parcel", json!({})).await;
    assert_eq!(waiting.await.expect("a claim").len(), 1);
    assert_eq!(served(&server).0, 0, "nobody told");
}

/// Of ten rounds one must come to its end without any poll, which may always be faster by chance.
async fn once_without_a_poll(round: impl AsyncFn(usize) -> bool) {
    for number in 0..10 {
        if round(number).await {
            return;
        }
    }
    panic!("ten times somebody had to wait for the poll");
}

#[tokio::test]
async fn those_in_line_get_jobs_that_lost_a_worker_one_each() {
    let db = TestDb::new().await;
    let server = serve(&db.url()).await;
    once_without_a_poll(async |round| {
        for _ in 0..3 {
            server.submit("parcel", json!({})).await;
        }
        let gone = ApiWorker::new(&server, &format!("gone-{round}"));
        assert_eq!(gone.claim(json!({"max": 3})).await.len(), 3);
        let workers = [0, 1, 2].map(|number| ApiWorker::new(&server, &format!("w{number}-{round}")));
        let mut waiting = Vec::new();
        for worker in workers.clone() {
            let id = worker.id.clone();
            waiting
                .push(tokio::spawn(async move { worker.claim(json!({"waitSeconds": 20, "max": 5})).await }));
            until_waiting(&server, &id).await;
        }
        let (_, polls) = served(&server);
        sweep_as_if_expired(&db, &gone.id).await;
        let mut claimed = Vec::new();
        for claim in waiting {
            claimed.push(claim.await.expect("a claim"));
        }
        let is_without_poll = served(&server).1 == polls;
        for (worker, leases) in workers.iter().zip(claimed) {
            assert_eq!(leases.len(), 1, "one such job at a time");
            worker.complete(&leases[0], json!({})).await.expect("complete");
        }
        is_without_poll
    })
    .await;
}

#[tokio::test]
async fn a_worker_gets_its_next_job_that_lost_a_worker_when_the_one_that_it_holds_has_ended() {
    let db = TestDb::new().await;
    let server = serve(&db.url()).await;
    once_without_a_poll(async |round| {
        for _ in 0..2 {
            server.submit("parcel", json!({})).await;
        }
        let gone = ApiWorker::new(&server, &format!("gone-{round}"));
        assert_eq!(gone.claim(json!({"max": 2})).await.len(), 2);
        sweep_as_if_expired(&db, &gone.id).await;
        let worker = ApiWorker::new(&server, &format!("w-{round}"));
        let first = worker.claim(json!({"max": 5})).await;
        assert_eq!(first.len(), 1);
        let waiting = tokio::spawn({
            let worker = ApiWorker { lease_seconds: 77, ..worker.clone() };
            async move { worker.claim(json!({"waitSeconds": 20, "max": 5})).await }
        });
        eventually("it has looked, and found nothing for itself", SOON, async || {
            let found: i64 =
                sqlx::query_scalar("SELECT count(*) FROM worker WHERE name = $1 AND lease_seconds = 77")
                    .bind(&worker.id)
                    .fetch_one(db.pool())
                    .await
                    .expect("worker");
            (found == 1).then_some(())
        })
        .await;
        let (_, polls) = served(&server);
        worker.complete(&first[0], json!({})).await.expect("complete");
        let second = waiting.await.expect("a claim");
        let is_without_poll = served(&server).1 == polls;
        assert_eq!(second.len(), 1);
        worker.complete(&second[0], json!({})).await.expect("complete");
        is_without_poll
    })
    .await;
}

/// Each claim writes the worker's row in one statement, which is counted.
async fn count_claims(db: &TestDb) {
    sqlx::raw_sql(
        "CREATE SEQUENCE check_ins MINVALUE 0 START 0;
         SELECT nextval('check_ins');
         CREATE FUNCTION count_check_in() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN PERFORM nextval('check_ins'); RETURN NULL; END $$;
         CREATE TRIGGER count_check_in AFTER UPDATE ON worker
         FOR EACH STATEMENT EXECUTE FUNCTION count_check_in()",
    )
    .execute(db.pool())
    .await
    .expect("a counter");
}

#[tokio::test]
async fn many_that_wait_hold_no_connection_are_served_in_turn_and_do_not_stampede() {
    const WAITING: usize = 500;
    let db = TestDb::new().await;
    let server = serve(&db.url()).await;
    let (sender, mut served) = tokio::sync::mpsc::unbounded_channel();
    for number in 0..WAITING {
        let (worker, sender) = (ApiWorker::new(&server, &format!("w{number:03}")), sender.clone());
        tokio::spawn(async move {
            let claimed = worker.claim(json!({"waitSeconds": 25, "leaseSeconds": 3600})).await;
            sender.send((number, claimed)).expect("the test listens");
        });
        // In line before the next one comes.
        if number < 10 {
            until_registered(&server, number + 1).await;
        }
    }
    until_registered(&server, WAITING).await;
    // The one claim a second of the poll aside, no session does anything or stands in a transaction.
    eventually("no session is in use", SOON, async || {
        let busy: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()",
        )
        .fetch_one(db.pool())
        .await
        .expect("sessions");
        (busy == 0).then_some(())
    })
    .await;
    count_claims(&db).await;
    let mut order = Vec::new();
    for _ in 0..10 {
        server.submit("parcel", json!({})).await;
        let (number, claimed) =
            tokio::time::timeout(SOON, served.recv()).await.expect("soon").expect("served");
        assert_eq!(claimed.len(), 1);
        order.push(number);
    }
    assert_eq!(order, (0..10).collect::<Vec<_>>(), "first come, first served");
    let claims: i64 =
        sqlx::query_scalar("SELECT last_value FROM check_ins").fetch_one(db.pool()).await.expect("count");
    assert!(claims <= 60, "{claims} claims for 10 jobs");
    // A burst reaches them all.
    let inputs: Vec<_> = (0..WAITING - 10).map(|_| json!({"kind": "parcel"})).collect();
    let submit = "mutation ($inputs: [SubmitJobInput!]!) { submitJobs(inputs: $inputs) { created } }";
    server.data(submit, json!({"inputs": inputs})).await;
    for _ in 10..WAITING {
        let (_, claimed) = tokio::time::timeout(SOON, served.recv()).await.expect("soon").expect("served");
        assert_eq!(claimed.len(), 1);
    }
}

#[tokio::test]
async fn a_waiting_claim_keeps_its_worker_alive() {
    let db = TestDb::new().await;
    let server = serve(&db.url()).await;
    let worker = ApiWorker { lease_seconds: 5, ..ApiWorker::new(&server, "w1") };
    let waiting = tokio::spawn({
        let worker = worker.clone();
        async move { worker.claim(json!({"waitSeconds": 25})).await }
    });
    until_registered(&server, 1).await;
    let id = || async { server.data("{ workers { id state } }", json!({})).await["workers"][0].clone() };
    let first = id().await;
    let mut looks = tokio::time::interval(Duration::from_millis(250));
    // Longer than its lease.
    for _ in 0..32 {
        looks.tick().await;
        assert_eq!(id().await, first, "the same registration, alive");
    }
    server.submit("parcel", json!({})).await;
    let lease = waiting.await.expect("a claim").remove(0);
    assert_eq!(worker.heartbeat(std::slice::from_ref(&lease)).await.0, ["HELD"]);
}

/// A claim over a bare connection, which can be broken.
async fn begin_claim(server: &Process, input: &str) -> TcpStream {
    let address = server.url.trim_start_matches("http://").trim_end_matches("/graphql").to_owned();
    let body = json!({"query": format!("mutation {{ claimJobs(input: {{{input}}}) {{ leaseToken }} }}")})
        .to_string();
    let mut stream = TcpStream::connect(&address).await.expect("connect");
    let request = format!(
        "POST /graphql HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("send");
    stream
}

#[tokio::test]
async fn nothing_is_claimed_for_a_client_that_went_away() {
    let db = TestDb::new().await;
    let server = serve(&db.url()).await;
    let stream = begin_claim(&server, "workerId: \"gone\", queues: [\"parcel\"], waitSeconds: 25").await;
    until_registered(&server, 1).await;
    drop(stream);
    // The next in line is served; had the one that left still been there, it would have been first.
    let worker = ApiWorker::new(&server, "w2");
    let waiting = tokio::spawn(async move { worker.claim(json!({"waitSeconds": 20})).await });
    until_registered(&server, 2).await;
    let id = server.submit("parcel", json!({})).await;
    assert_eq!(waiting.await.expect("a claim")[0]["jobId"], id);
    let job = server.job(&id, "attempt attempts { outcome }").await;
    assert_eq!(job, json!({"attempt": 1, "attempts": []}));
}

#[tokio::test]
async fn a_claim_that_waits_and_its_repetition_get_the_same() {
    let db = TestDb::new().await;
    let (server, second) = (serve(&db.url()).await, serve(&db.url()).await);
    let worker = ApiWorker::new(&server, "w1");
    let claim = || json!({"waitSeconds": 20, "claimId": "c", "max": 2});
    let waiting: Vec<_> = [worker.clone(), worker.clone(), worker.at(&second)]
        .into_iter()
        .map(|worker| tokio::spawn(async move { worker.claim(claim()).await }))
        .collect();
    until_registered(&server, 1).await;
    server.submit("parcel", json!({})).await;
    let mut answers = Vec::new();
    for claim in waiting {
        answers.push(claim.await.expect("a claim"));
    }
    assert_eq!(answers[0].len(), 1);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

#[tokio::test]
async fn queues_of_one_claim_take_turns() {
    let db = TestDb::new().await;
    let server = serve(&db.url()).await;
    for _ in 0..4 {
        server.submit("parcel", json!({})).await;
        server.submit("letter", json!({})).await;
    }
    let worker = ApiWorker::new(&server, "w1");
    let mut letters = 0;
    for _ in 0..4 {
        let lease = worker.claim(json!({"queues": ["parcel", "mail"]})).await.remove(0);
        let job = server.job(lease["jobId"].as_str().expect("id"), "kind").await;
        letters += usize::from(job["kind"] == "letter");
    }
    assert_eq!(letters, 2);
    // And one that waits hears of either.
    let all = worker.claim(json!({"queues": ["parcel", "mail"], "max": 10})).await;
    assert_eq!(all.len(), 4);
    let waiting =
        tokio::spawn(
            async move { worker.claim(json!({"queues": ["parcel", "mail"], "waitSeconds": 20})).await },
        );
    let id = server.submit("letter", json!({})).await;
    assert_eq!(waiting.await.expect("a claim")[0]["jobId"], id);
}
