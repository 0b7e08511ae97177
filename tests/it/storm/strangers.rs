//! Those who mean no good: who dawdle, who come and go, and who send what is as bad as it can be.
//!
//! They are elsewhere, as strangers are: on threads of their own, behind everything else that this machine has to do, and what
//! they send is made before they come. What they do costs the server what it costs; what it costs them is no part of it. That
//! they come in full number all the same, [`Strangers::came`] says.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::support::process::{Socket, http_to_ws};

/// Of each sort that stays.
const DAWDLERS: usize = 150;
/// Connects and disconnects of a wave; two waves are ten thousand.
const COMERS: usize = 5_000;
/// Come and go together.
const AT_ONCE: usize = 25;
/// Between two bad documents.
const DOCUMENT_EVERY: Duration = Duration::from_millis(100);

/// At least so many bad documents get through in a wave, each twice; on a machine with nothing else to do it is 80.
const DOCUMENTS: u64 = 18;
/// The furthest that a thread can step back.
const BEHIND_ALL: i32 = 19;

/// Where the strangers are.
static ELSEWHERE: LazyLock<Runtime> = LazyLock::new(|| {
    let mut threads = Builder::new_multi_thread();
    threads.worker_threads(2).enable_all().on_thread_start(|| {
        // SAFETY: a plain system call, which concerns this thread alone.
        unsafe { nix::libc::nice(BEHIND_ALL) };
    });
    threads.build().expect("a runtime")
});

/// What a wave has done, and who of it is still there.
pub struct Strangers {
    done: Arc<Done>,
    staying: JoinSet<()>,
    sockets: Vec<Socket>,
}

#[derive(Default)]
struct Done {
    heads: AtomicU64,
    bodies: AtomicU64,
    silent: AtomicU64,
    comers: AtomicU64,
    documents: AtomicU64,
}

impl Strangers {
    /// A wave of so long.
    pub async fn storm(url: &str, token: &str, documents: &BadDocuments, time: Duration) -> Strangers {
        let (url, token, documents) = (url.to_owned(), token.to_owned(), documents.clone());
        let storm = ELSEWHERE.spawn(async move {
            let mut strangers =
                Strangers { done: Arc::default(), staying: JoinSet::new(), sockets: Vec::new() };
            strangers.dawdle(&url, &token).await;
            let (come, sent) = (strangers.done.clone(), strangers.done.clone());
            let coming = tokio::spawn(come_and_go(url.clone(), time, come));
            let sending = tokio::spawn(send_documents(url, token, documents, time, sent));
            coming.await.expect("who come and go");
            sending.await.expect("who send documents");
            strangers
        });
        storm.await.expect("the strangers")
    }

    /// How many sockets are open that the server has no reason to close.
    pub fn sockets(&self) -> u64 {
        self.sockets.len() as u64
    }

    /// True when it was the storm that it should be.
    pub fn came(&self) -> bool {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Done { heads, bodies, silent, comers, documents } = &*self.done;
        [heads, bodies, silent].map(of) == [DAWDLERS as u64; 3]
            && self.sockets.len() == DAWDLERS / 2
            && of(comers) == COMERS as u64
            && of(documents) >= DOCUMENTS
    }

    /// All who are still there hang up.
    pub fn leave(self) {}

    /// Slow heads, slow bodies, silent connections, and sockets that never introduce themselves or never read.
    async fn dawdle(&mut self, url: &str, token: &str) {
        let address = address_of(url);
        let head = "POST /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ";
        let body = format!(
            "POST /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAuthorization: Bearer \
             {token}\r\nContent-Length: 100000\r\n\r\n{{\"query\": \""
        );
        for _ in 0..DAWDLERS {
            self.staying.spawn(drip(address.clone(), head.to_owned()));
            self.staying.spawn(drip(address.clone(), body.clone()));
            self.staying.spawn(drip(address.clone(), String::new()));
            self.done.heads.fetch_add(1, Ordering::Relaxed);
            self.done.bodies.fetch_add(1, Ordering::Relaxed);
            self.done.silent.fetch_add(1, Ordering::Relaxed);
        }
        let bearer = format!("Bearer {token}");
        for number in 0..DAWDLERS {
            if number % 2 == 0 {
                let mut stream = connected(&address).await;
                let _ = stream.write_all(UPGRADE.as_bytes()).await;
                self.staying.spawn(async move {
                    std::future::pending::<()>().await;
                    drop(stream);
                });
                continue;
            }
            let headers = [("authorization", bearer.as_str())];
            let Ok(mut socket) = Socket::open(http_to_ws(url, &headers)).await else { continue };
            let feed = json!({"query": "subscription { jobUpdated { id payload } }"});
            socket.send(json!({"type": "subscribe", "id": "1", "payload": feed})).await;
            self.sockets.push(socket);
        }
    }
}

impl fmt::Display for Strangers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Done { heads, bodies, silent, comers, documents } = &*self.done;
        write!(
            f,
            "{} slow heads, {} slow bodies, {} silent connections, {} sockets that do not read, {} who came and went, {} \
             bad documents",
            of(heads),
            of(bodies),
            of(silent),
            self.sockets.len(),
            of(comers),
            of(documents)
        )
    }
}

const UPGRADE: &str = "GET /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n";

fn address_of(url: &str) -> String {
    url.trim_start_matches("http://").split('/').next().expect("an address").to_owned()
}

async fn connected(address: &str) -> TcpStream {
    TcpStream::connect(address).await.expect("a connection")
}

/// Sends this, and then a byte a second; nothing at all where there is nothing to begin with.
async fn drip(address: String, beginning: String) {
    let mut stream = connected(&address).await;
    let _ = stream.write_all(beginning.as_bytes()).await;
    let mut ticks = interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        // Given up by the server or not: it is held on to.
        if !beginning.is_empty() {
            let _ = stream.write_all(b"x").await;
        }
    }
}

/// Each connects, does one of four things, and is gone without a word.
async fn come_and_go(url: String, time: Duration, done: Arc<Done>) {
    let address = address_of(&url);
    let get = "GET /graphql?query=%7B__typename%7D HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    let doings = ["", "POST /graphql HTT", get, UPGRADE];
    let rounds = COMERS / AT_ONCE;
    let mut ticks = interval(time / u32::try_from(rounds).expect("few rounds"));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for _ in 0..rounds {
        ticks.tick().await;
        let coming = (0..AT_ONCE).map(|number| {
            let doing = doings[number % doings.len()];
            let address = address.clone();
            async move {
                let mut stream = connected(&address).await;
                let _ = stream.write_all(doing.as_bytes()).await;
            }
        });
        futures_util::future::join_all(coming).await;
        done.comers.fetch_add(AT_ONCE as u64, Ordering::Relaxed);
    }
}

/// One bad document after the other, each of which must be refused.
async fn send_documents(
    url: String,
    token: String,
    documents: BadDocuments,
    time: Duration,
    done: Arc<Done>,
) {
    let client = reqwest::Client::new();
    let mut ticks = interval(DOCUMENT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let sending = async {
        for (body, codes) in documents.0.iter().cycle() {
            ticks.tick().await;
            let request = client.post(&url).bearer_auth(&token).header("content-type", "application/json");
            let answer = request.body(body.clone()).send().await.expect("an answer");
            let (status, answer) = (answer.status(), answer.text().await.expect("text"));
            let answer: Value = serde_json::from_str(&answer).expect("JSON");
            let code = answer["errors"][0]["extensions"]["code"].as_str().unwrap_or_default();
            assert!(codes.contains(&code), "{status} {answer:.300} for {body:.100}");
            done.documents.fetch_add(1, Ordering::Relaxed);
        }
    };
    // It goes on until then.
    let _ = timeout(time, sending).await;
}

/// Bodies of requests with bad documents, and the codes with which each may be refused. Cheap to clone.
#[derive(Clone)]
pub struct BadDocuments(Arc<[(String, &'static [&'static str])]>);

impl BadDocuments {
    /// Takes a while.
    pub fn write() -> BadDocuments {
        let bodies = documents().into_iter().map(|(document, variables, codes)| {
            (json!({"query": document, "variables": variables}).to_string(), codes)
        });
        BadDocuments(bodies.collect())
    }
}

/// Documents with their variables, and the codes with which they may be refused.
fn documents() -> Vec<(String, Value, &'static [&'static str])> {
    let aliases: String = (0..20_000).map(|n| format!("a{n}:__typename ")).collect();
    let deep =
        format!("{{ jobs {} }}", "{ nodes { dependents ".repeat(50) + "{ totalCount }" + &" } }".repeat(50));
    let mut nested = json!(1);
    for _ in 0..100 {
        nested = json!([nested]);
    }
    let submit = "mutation ($p: JSON!) { submitJob(input: {kind: \"echo\", payload: $p}) { created } }";
    let fragments: String =
        (0..500).map(|n| format!("fragment F{n} on Job {{ ...F{} ...F{} }} ", n + 1, n + 2)).collect();
    vec![
        (format!("{{ {aliases} }}"), json!({}), &["QUERY_TOO_COMPLEX"]),
        (
            "{ jobs { nodes { ...A } } } fragment A on Job { id ...B } fragment B on Job { id ...A }"
                .to_owned(),
            json!({}),
            &["GRAPHQL_VALIDATION_FAILED", "QUERY_TOO_COMPLEX"],
        ),
        (deep, json!({}), &["QUERY_TOO_COMPLEX"]),
        (format!("{{ {}", "{ a ".repeat(5_000)), json!({}), &["GRAPHQL_PARSE_FAILED", "QUERY_TOO_COMPLEX"]),
        (
            format!("{{ __typename {} }}", "@include(if: true) ".repeat(10_000)),
            json!({}),
            &["QUERY_TOO_COMPLEX"],
        ),
        (
            format!(
                "{{ jobs {{ nodes {{ ...F0 }} }} }} {fragments} fragment F500 on Job {{ id }} fragment F501 on Job {{ id }}"
            ),
            json!({}),
            &["QUERY_TOO_COMPLEX", "GRAPHQL_VALIDATION_FAILED"],
        ),
        (submit.to_owned(), json!({"p": nested}), &["INVALID_PAYLOAD"]),
        (submit.to_owned(), json!({"p": "x".repeat(3 << 20)}), &["PAYLOAD_TOO_LARGE"]),
        (submit.to_owned(), json!({"p": "x".repeat(9 << 20)}), &["PAYLOAD_TOO_LARGE"]),
    ]
}
