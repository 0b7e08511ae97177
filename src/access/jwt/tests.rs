//! What a token must have to let anyone in. Keys are made here and now, by the algorithms that are accepted.

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::json;

use super::*;
use crate::config::{JwtAlgorithm, JwtKeys};

/// An RSA key of 2,048 bits, for tests only.
const RSA_KEY: &[u8] = include_bytes!("rsa-2048.test-key.der");

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Signs as one of the algorithms.
enum Signer {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    fn new(algorithm: JwtAlgorithm) -> Signer {
        let random = SystemRandom::new();
        match algorithm {
            JwtAlgorithm::Rs256 => Signer::Rsa(RsaKeyPair::from_der(RSA_KEY).unwrap()),
            JwtAlgorithm::Es256 => {
                let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
                let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random);
                Signer::P256(key.unwrap())
            }
            JwtAlgorithm::EdDsa => {
                let key = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
                Signer::Ed25519(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap())
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Signer::Rsa(key) => {
                let mut signed = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signed).unwrap();
                signed
            }
            Signer::P256(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Signer::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// As a JSON Web Key.
    fn public(&self, id: &str) -> Value {
        match self {
            Signer::Rsa(key) => {
                let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({"kty": "RSA", "kid": id, "use": "sig", "n": encoded(public.n), "e": encoded(public.e)})
            }
            Signer::P256(key) => {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "kid": id, "x": encoded(&point[1..33]), "y": encoded(&point[33..])})
            }
            Signer::Ed25519(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "alg": "EdDSA", "x": encoded(key.public_key())})
            }
        }
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        let signed = encoded(self.sign(message.as_bytes()));
        format!("{message}.{signed}")
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// An issuer with these keys in a file.
struct Issuer {
    jwt: Jwt,
    file: std::path::PathBuf,
}

impl Issuer {
    async fn new(algorithm: JwtAlgorithm, keys: &[Value]) -> Issuer {
        let file = std::env::temp_dir().join(format!("jobql-keys-{}.json", uuid::Uuid::new_v4()));
        let issuer = JwtIssuer {
            issuer: "https://issuer.example".to_owned(),
            audience: "jobql".to_owned(),
            algorithm,
            keys: JwtKeys::File(file.clone()),
            client_claim: "client".to_owned(),
            scope_claim: Some("role".to_owned()),
            leeway: Duration::from_secs(5),
        };
        let issuer = Issuer { jwt: Jwt::new(issuer).unwrap(), file };
        issuer.publish(keys);
        issuer.jwt.keys.read().await.unwrap();
        issuer
    }

    fn publish(&self, keys: &[Value]) {
        std::fs::write(&self.file, json!({ "keys": keys }).to_string()).unwrap();
    }

    async fn viewer(&self, token: &str) -> Option<Viewer> {
        self.jwt.verify(token).await.map(|valid| valid.viewer)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Claims that let client `shop` in, with this change.
fn claims(change: Value) -> Value {
    let mut claims = json!({
        "iss": "https://issuer.example", "aud": "jobql", "exp": now() + 60.0, "client": "shop"
    });
    for (name, value) in change.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

fn header(algorithm: JwtAlgorithm) -> Value {
    json!({"alg": algorithm.as_str(), "kid": "one", "typ": "JWT"})
}

#[tokio::test]
async fn each_algorithm_lets_its_own_tokens_in_and_no_others() {
    let all = [JwtAlgorithm::Rs256, JwtAlgorithm::Es256, JwtAlgorithm::EdDsa];
    let shop = Some(Viewer::Client("shop".to_owned()));
    for algorithm in all {
        let signer = Signer::new(algorithm);
        // Keys of other algorithms beside it, and one that is for something else, are no matter.
        let other = json!({"kty": "oct", "kid": "one", "k": "AAAA"});
        let enc = json!({"kty": "RSA", "kid": "one", "use": "enc", "n": "AQAB", "e": "AQAB"});
        let issuer = Issuer::new(algorithm, &[other, enc, signer.public("one")]).await;
        assert_eq!(issuer.viewer(&signer.token(&header(algorithm), &claims(json!({})))).await, shop);
        let unnamed = json!({"alg": algorithm.as_str()});
        assert_eq!(issuer.viewer(&signer.token(&unnamed, &claims(json!({})))).await, shop, "the only key");
        for other in all.into_iter().filter(|other| *other != algorithm) {
            let stranger = Signer::new(other);
            assert_eq!(issuer.viewer(&stranger.token(&header(other), &claims(json!({})))).await, None);
            assert_eq!(issuer.viewer(&stranger.token(&header(algorithm), &claims(json!({})))).await, None);
        }
    }
}

#[tokio::test]
async fn a_header_cannot_choose_the_algorithm() {
    let signer = Signer::new(JwtAlgorithm::Rs256);
    let issuer = Issuer::new(JwtAlgorithm::Rs256, &[signer.public("one")]).await;
    let good = claims(json!({}));
    for alg in ["none", "None", "HS256", "RS512", "PS256", "rs256", ""] {
        let token = signer.token(&json!({"alg": alg, "kid": "one"}), &good);
        assert_eq!(issuer.viewer(&token).await, None, "{alg}");
    }
    let unsigned = format!("{}.{}.", encoded(r#"{"alg":"none"}"#), encoded(good.to_string()));
    assert_eq!(issuer.viewer(&unsigned).await, None);
    // The public key taken for the secret of an HMAC.
    use hmac::Mac;
    let message = format!("{}.{}", encoded(r#"{"alg":"HS256","kid":"one"}"#), encoded(good.to_string()));
    let public = signer.public("one").to_string();
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(public.as_bytes()).unwrap();
    mac.update(message.as_bytes());
    let forged = format!("{message}.{}", encoded(mac.finalize().into_bytes()));
    assert_eq!(issuer.viewer(&forged).await, None);
    let critical = json!({"alg": "RS256", "kid": "one", "crit": ["b64"], "b64": false});
    assert_eq!(issuer.viewer(&signer.token(&critical, &good)).await, None);
}

#[tokio::test]
async fn claims_that_are_wrong_or_missing_let_nobody_in() {
    let signer = Signer::new(JwtAlgorithm::EdDsa);
    let issuer = Issuer::new(JwtAlgorithm::EdDsa, &[signer.public("one")]).await;
    let viewer =
        async |change| issuer.viewer(&signer.token(&header(JwtAlgorithm::EdDsa), &claims(change))).await;
    for refused in [
        json!({"exp": null}),
        json!({"exp": now() - 6.0}),
        json!({"exp": "9999999999"}),
        json!({"exp": -1}),
        json!({"iss": null}),
        json!({"iss": "https://issuer.example/"}),
        json!({"iss": ["https://issuer.example"]}),
        json!({"aud": null}),
        json!({"aud": "other"}),
        json!({"aud": ["other", "jobql2"]}),
        json!({"aud": {"jobql": true}}),
        json!({"nbf": now() + 60.0}),
        json!({"nbf": "0"}),
        json!({"client": null}),
        json!({"client": ""}),
        json!({"client": 7}),
        json!({"client": "a\nb"}),
        json!({"client": "x".repeat(129)}),
        json!({"role": "root"}),
        json!({"role": ["operator"]}),
        json!({"role": "worker"}),
        json!({"role": "worker", "kinds": []}),
        json!({"role": "worker", "kinds": "sum"}),
    ] {
        assert_eq!(viewer(refused.clone()).await, None, "{refused}");
    }
    let shop = Some(Viewer::Client("shop".to_owned()));
    for good in [
        json!({"exp": now() - 1.0}),
        json!({"exp": 9e15}),
        json!({"aud": ["other", "jobql"]}),
        json!({"nbf": now() + 1.0}),
        json!({"role": "client"}),
    ] {
        assert_eq!(viewer(good.clone()).await, shop, "{good}");
    }
    assert_eq!(viewer(json!({"role": "operator"})).await, Some(Viewer::Operator));
    match viewer(json!({"role": "worker", "kinds": ["sum"]})).await {
        Some(Viewer::Worker(scope)) => assert!(scope.has_kind("sum") && scope.token == "jwt:shop"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_no_token_lets_nobody_in() {
    let signer = Signer::new(JwtAlgorithm::EdDsa);
    let issuer = Issuer::new(JwtAlgorithm::EdDsa, &[signer.public("one")]).await;
    let good = signer.token(&header(JwtAlgorithm::EdDsa), &claims(json!({})));
    assert!(issuer.viewer(&good).await.is_some());
    let (message, signed) = good.rsplit_once('.').unwrap();
    let (head, body) = message.split_once('.').unwrap();
    let other = encoded(claims(json!({"client": "other"})).to_string());
    for text in [
        "",
        "..",
        "a.b.c",
        message,
        &format!("{good}."),
        &format!("{good}.x"),
        &format!("{message}."),
        &format!("{head}.{other}.{signed}"),
        &format!("{head}.{body}.{}", encoded("x".repeat(64))),
        &format!("{head}=.{body}.{signed}"),
        &format!("ä.{body}.{signed}"),
        &"a.".repeat(100_000),
    ] {
        assert_eq!(issuer.viewer(text).await, None, "{text:.60}");
    }
}

#[tokio::test]
async fn a_new_key_is_found_a_withdrawn_one_forgotten_and_bad_keys_leave_the_good() {
    let (old, new) = (Signer::new(JwtAlgorithm::EdDsa), Signer::new(JwtAlgorithm::EdDsa));
    let issuer = Issuer::new(JwtAlgorithm::EdDsa, &[old.public("one")]).await;
    let with =
        |signer: &Signer, kid: &str| signer.token(&json!({"alg": "EdDSA", "kid": kid}), &claims(json!({})));
    let fingerprint = issuer.jwt.verify(&with(&old, "one")).await.unwrap().signed_with;
    assert!(issuer.jwt.keys.has(&fingerprint));
    issuer.publish(&[old.public("one"), new.public("two")]);
    assert!(issuer.viewer(&with(&new, "two")).await.is_some(), "an unknown key is looked for");
    assert_eq!(issuer.viewer(&with(&new, "one")).await, None, "a name is not a key");
    let unnamed = new.token(&json!({"alg": "EdDSA"}), &claims(json!({})));
    assert_eq!(issuer.viewer(&unnamed).await, None, "which of two is meant?");
    // Looked for a moment ago, so not again now.
    let third = Signer::new(JwtAlgorithm::EdDsa);
    issuer.publish(&[third.public("three")]);
    assert_eq!(issuer.viewer(&with(&third, "three")).await, None);
    for bad in ["", "{}", "[]", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"OKP"}]}"#] {
        std::fs::write(&issuer.file, bad).unwrap();
        assert!(issuer.jwt.keys.read().await.is_err(), "{bad}");
        assert!(issuer.viewer(&with(&old, "one")).await.is_some(), "{bad}");
    }
    issuer.publish(&[third.public("three")]);
    issuer.jwt.keys.read().await.unwrap();
    assert!(issuer.viewer(&with(&third, "three")).await.is_some());
    assert_eq!(issuer.viewer(&with(&old, "one")).await, None);
    assert!(!issuer.jwt.keys.has(&fingerprint));
}
