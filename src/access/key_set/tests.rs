//! Keys at a URL: an issuer on a port of this machine that exchanges its keys, answers nonsense, and goes away.

use std::net::SocketAddr;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::join_all;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

/// How the issuer answers.
#[derive(Clone)]
enum Answer {
    Text(String),
    Status(String),
    /// More than was announced is to come, and does not.
    BrokenOff,
    /// Nothing, for ever.
    Silence,
}

struct Issuer {
    address: SocketAddr,
    answer: Arc<StdMutex<Answer>>,
    asked: Arc<AtomicU32>,
    serving: JoinHandle<()>,
}

impl Issuer {
    async fn new(keys: &[&Value]) -> Issuer {
        Issuer::at("127.0.0.1:0".parse().unwrap(), keys).await
    }

    async fn at(address: SocketAddr, keys: &[&Value]) -> Issuer {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, asked) = (Arc::new(StdMutex::new(text_of(keys))), Arc::<AtomicU32>::default());
        let (answering, asking) = (answer.clone(), asked.clone());
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4_096];
                let _ = stream.read(&mut request).await;
                asking.fetch_add(1, Ordering::Relaxed);
                let answer = answering.lock().unwrap().clone();
                let answer = match answer {
                    Answer::Text(text) => {
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())
                    }
                    Answer::Status(rest) => format!("HTTP/1.1 {rest}\r\nContent-Length: 0\r\n\r\n"),
                    Answer::BrokenOff => {
                        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"keys\":".to_owned()
                    }
                    Answer::Silence => std::future::pending().await,
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Issuer { address, answer, asked, serving }
    }

    /// Keys that are to be read there. The query is nobody else's business.
    fn keys(&self) -> KeySet {
        let url = format!("http://{}/jwks?canary-of-the-query", self.address);
        KeySet::new(JwtKeys::Url(url), JwtAlgorithm::EdDsa).unwrap()
    }

    fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn publishes(&self, keys: &[&Value]) {
        self.answers(text_of(keys));
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }

    async fn goes_away(&mut self) {
        self.serving.abort();
        let _ = (&mut self.serving).await;
    }
}

fn text_of(keys: &[&Value]) -> Answer {
    Answer::Text(json!({ "keys": keys }).to_string())
}

/// A fresh pair, its public half as a JSON Web Key.
fn pair(id: &str) -> (Ed25519KeyPair, Value) {
    let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap();
    let x = URL_SAFE_NO_PAD.encode(pair.public_key());
    (pair, json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": x}))
}

/// As if the set had been read so long ago.
async fn age(keys: &KeySet, by: Duration) {
    let mut read_at = keys.read_at.lock().await;
    *read_at = read_at.and_then(|read_at| read_at.checked_sub(by));
    assert!(read_at.is_some());
}

#[tokio::test]
async fn keys_of_a_url_are_exchanged_while_it_runs() {
    let ((_, one), (second, two)) = (pair("one"), pair("two"));
    let issuer = Issuer::new(&[&one]).await;
    let keys = issuer.keys();
    keys.keep_fresh().await;
    let withdrawn = keys.key(Some("one")).unwrap().fingerprint();
    issuer.publishes(&[&one, &two]);
    // It was read just now: whoever makes up names of keys does not make us ask.
    join_all((0..20).map(|_| keys.look_again())).await;
    assert_eq!((issuer.asked(), keys.key(Some("two")).is_some()), (1, false));
    age(&keys, REFRESH_FLOOR).await;
    join_all((0..20).map(|_| keys.look_again())).await;
    assert_eq!(issuer.asked(), 2, "once for all who want it");
    assert!(keys.key(Some("two")).unwrap().has_signed(b"message", second.sign(b"message").as_ref()));
    assert!(keys.has(&withdrawn), "both are valid for a while");
    issuer.publishes(&[&two]);
    age(&keys, REFRESH_FLOOR).await;
    keys.keep_fresh().await;
    assert!(keys.has(&withdrawn), "it is not old yet");
    age(&keys, REFRESH_EVERY).await;
    keys.keep_fresh().await;
    assert!(!keys.has(&withdrawn) && keys.key(Some("one")).is_none());
    assert!(keys.key(Some("two")).is_some());
    assert_eq!(issuer.asked(), 3);
}

#[tokio::test]
async fn while_an_issuer_is_away_or_answers_nonsense_the_last_good_keys_stay() {
    let ((_, one), (_, foreign)) = (pair("one"), pair("foreign"));
    let (mut issuer, elsewhere) = (Issuer::new(&[&one]).await, Issuer::new(&[&foreign]).await);
    let keys = issuer.keys();
    keys.keep_fresh().await;
    let redirect = format!("302 Found\r\nLocation: http://{}/jwks", elsewhere.address);
    let large = format!("{{\"keys\":[{foreign}],\"x\":\"{}\"}}", "x".repeat(MAX_BYTES));
    for answer in [
        Answer::Status("500 Broken".to_owned()),
        Answer::Status("404 Not Found".to_owned()),
        Answer::Status("204 No Content".to_owned()),
        Answer::Status(redirect),
        Answer::Text("<html>".to_owned()),
        Answer::Text("{\"keys\":[]}".to_owned()),
        Answer::Text(large),
        Answer::BrokenOff,
        Answer::Silence,
    ] {
        issuer.answers(answer);
        let refused = keys.read().await.unwrap_err().to_string();
        assert!(!refused.contains("canary"), "{refused}");
        assert!(keys.key(Some("one")).is_some() && keys.key(Some("foreign")).is_none(), "{refused}");
    }
    assert_eq!(elsewhere.asked(), 0, "a redirect is not followed");
    issuer.goes_away().await;
    age(&keys, REFRESH_EVERY).await;
    keys.keep_fresh().await;
    assert!(keys.key(Some("one")).is_some(), "nobody is there, and the keys stay");
}

#[tokio::test]
async fn an_issuer_that_is_away_at_the_start_is_asked_again() {
    let (_, one) = pair("one");
    let mut issuer = Issuer::new(&[&one]).await;
    let keys = issuer.keys();
    issuer.goes_away().await;
    keys.keep_fresh().await;
    assert!(keys.key(Some("one")).is_none());
    let issuer = Issuer::at(issuer.address, &[&one]).await;
    keys.keep_fresh().await;
    assert_eq!(issuer.asked(), 0, "it was asked just now");
    age(&keys, REFRESH_FLOOR).await;
    keys.keep_fresh().await;
    assert!(keys.key(Some("one")).is_some());
}
