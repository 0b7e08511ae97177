//! TLS by files, and the headers that browsers are given.

use std::path::{Path, PathBuf};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::process::Process;
use crate::support::{SOON, TestDb, eventually};

/// A folder with `certificate.pem` and `certificate.key`.
struct Files(PathBuf);

impl Files {
    fn with(name: &str) -> Files {
        let folder = std::env::temp_dir().join(format!("jobql-tls-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).expect("a folder");
        let files = Files(folder);
        files.exchange(name);
        files
    }

    fn exchange(&self, name: &str) {
        for ending in ["key", "pem"] {
            std::fs::copy(data(&format!("{name}.{ending}")), self.path(ending)).expect("copy");
        }
    }

    fn path(&self, ending: &str) -> PathBuf {
        self.0.join(format!("certificate.{ending}"))
    }

    fn arguments(&self) -> Vec<String> {
        let text = |ending| self.path(ending).display().to_string();
        vec![
            "--slots=0".to_owned(),
            format!("--tls-certificate={}", text("pem")),
            format!("--tls-key={}", text("key")),
        ]
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)
}

/// A client that trusts this certificate only, and connects anew for each request.
fn trusting(name: &str) -> reqwest::Client {
    let pem = std::fs::read(data(&format!("{name}.pem"))).expect("a certificate");
    let root = reqwest::Certificate::from_pem(&pem).expect("a certificate");
    let client = reqwest::Client::builder().tls_built_in_root_certs(false).add_root_certificate(root);
    client.pool_max_idle_per_host(0).build().expect("a client")
}

#[tokio::test]
async fn tls_is_spoken_and_a_new_certificate_comes_into_use_by_itself() {
    let (db, files) = (TestDb::new().await, Files::with("first"));
    let arguments = files.arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let process = Process::serve(&db.url(), &arguments).await;
    assert!(process.url.starts_with("https://"), "{}", process.url);
    let ask = async |client: &reqwest::Client| {
        client.post(&process.url).json(&json!({"query": "{ __typename }"})).send().await
    };
    let answer = ask(&trusting("first")).await.expect("an answer");
    assert_eq!(answer.headers()["strict-transport-security"], "max-age=31536000");
    assert_eq!(answer.status(), 200);
    assert!(ask(&trusting("second")).await.is_err());

    // What does not speak TLS gets nothing and stays alone with that.
    let address = process.url.trim_start_matches("https://").trim_end_matches("/graphql").to_owned();
    let mut plain = TcpStream::connect(&address).await.expect("a connection");
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("write");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&answer));

    // A key that does not fit leaves the old certificate in use.
    std::fs::copy(data("second.key"), files.path("key")).expect("copy");
    eventually("the misfit is told of", SOON, async || {
        process.logged().contains("the new TLS files cannot be used").then_some(())
    })
    .await;
    assert!(ask(&trusting("first")).await.is_ok());
    files.exchange("second");
    let second = trusting("second");
    eventually("the new certificate", SOON, async || ask(&second).await.ok()).await;
    assert!(ask(&trusting("first")).await.is_err());
}

#[tokio::test]
async fn files_that_do_not_fit_end_the_start_with_two() {
    let files = Files::with("first");
    std::fs::copy(data("second.key"), files.path("key")).expect("copy");
    let arguments = files.arguments();
    let mut all = vec!["serve"];
    all.extend(arguments.iter().map(String::as_str));
    let mut process = Process::start("postgres://nobody@127.0.0.1:1/none", &all);
    assert_eq!(process.ended(SOON).await.code(), Some(2));
    assert!(process.logged().contains("do not fit"), "{}", process.logged());
    let mut alone = Process::start("postgres://nobody@127.0.0.1:1/none", &["serve", &arguments[1]]);
    assert_eq!(alone.ended(SOON).await.code(), Some(2));
    assert!(alone.logged().contains("tls_key"), "{}", alone.logged());
}

#[tokio::test]
async fn every_answer_asks_browsers_for_caution_and_hsts_needs_tls() {
    let db = TestDb::new().await;
    let process = Process::serve(&db.url(), &["--slots", "0"]).await;
    let base = process.url.replace("/graphql", "");
    for path in ["/", "/healthz", "/graphql", "/nothing", "/graphql?query=%7B__typename%7D"] {
        let answer = reqwest::get(format!("{base}{path}")).await.expect("an answer");
        let headers = answer.headers();
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["x-frame-options"], "DENY", "{path}");
        let policy = headers["content-security-policy"].to_str().expect("text");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert_eq!(headers["referrer-policy"], "no-referrer", "{path}");
        assert_eq!(headers["cross-origin-opener-policy"], "same-origin", "{path}");
        assert!(!headers.contains_key("strict-transport-security"), "{path}");
    }
}
