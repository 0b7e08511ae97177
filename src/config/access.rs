//! Who may come in, beside who holds a token: web pages, names of this server, and tokens of another issuer.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::{ConfigError, File, Overrides, Setting, filled};

/// The claim that names the client where none is configured.
const DEFAULT_CLIENT_CLAIM: &str = "sub";
/// Entries of a list.
const MAX_LIST: usize = 100;

/// Who may come in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Access {
    /// Web pages, as `https://app.example`, that may use the API from a browser (CORS) and open WebSockets; none by
    /// default, but pages of this server's own host, and over WebSockets those of this machine.
    pub origins: Vec<Origin>,
    /// The names, without port, by which this server may be called, beside those of this machine. None by default: then any
    /// name is served where tokens are in use, and none but this machine's where there are none.
    pub hosts: Vec<String>,
    /// Whether to serve other machines without tokens; false by default. Everyone who reaches the address is an operator
    /// then.
    pub insecure: bool,
    /// The issuer whose JWTs let in, if any: `jwt_issuer`, `jwt_audience`, `jwt_algorithm`, `jwt_keys`, `jwt_client_claim`,
    /// `jwt_scope_claim`, `jwt_leeway_seconds`. None by default.
    pub jwt: Option<JwtIssuer>,
}

/// A web page's origin: scheme, host, and port where it is not the scheme's own. In lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// As browsers send it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Origin, Self::Err> {
        const REFUSED: &str =
            "not an origin; allowed is such as https://app.example or http://localhost:3000, without a path";
        let origin = text.trim().to_ascii_lowercase();
        let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        match authority {
            Some(authority) if !authority.is_empty() && authority.chars().all(plain) => Ok(Origin(origin)),
            _ => Err(REFUSED),
        }
    }
}

/// An issuer of JWTs.
#[derive(Clone, Debug, PartialEq)]
pub struct JwtIssuer {
    /// What the claim `iss` must be.
    pub issuer: String,
    /// What the claim `aud` must be or hold.
    pub audience: String,
    /// The one algorithm that is accepted, whatever a token says.
    pub algorithm: JwtAlgorithm,
    /// Where the issuer's public keys are.
    pub keys: JwtKeys,
    /// The claim that names the client; `sub` by default.
    pub client_claim: String,
    /// The claim that gives the scope: `client`, `worker`, which needs a list of kinds in the claim `kinds`, or `operator`.
    /// None by default, and then, as where a token has no such claim, all are clients.
    pub scope_claim: Option<String>,
    /// How far the issuer's clock may be off, 0 to 300 seconds; 30 by default.
    pub leeway: Duration,
}

/// How JWTs are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// RSA of 2,048 bits or more, PKCS #1 v1.5, SHA-256.
    Rs256,
    /// ECDSA on P-256, SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl JwtAlgorithm {
    /// The name in a token's header.
    pub fn as_str(self) -> &'static str {
        match self {
            JwtAlgorithm::Rs256 => "RS256",
            JwtAlgorithm::Es256 => "ES256",
            JwtAlgorithm::EdDsa => "EdDSA",
        }
    }
}

impl FromStr for JwtAlgorithm {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<JwtAlgorithm, Self::Err> {
        let known = [JwtAlgorithm::Rs256, JwtAlgorithm::Es256, JwtAlgorithm::EdDsa];
        known.into_iter().find(|known| known.as_str() == text).ok_or("allowed are RS256, ES256 and EdDSA")
    }
}

/// Where a JSON Web Key Set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwtKeys {
    /// In a file, which is read again within ten minutes, and at once for a key that it did not have.
    File(PathBuf),
    /// At an https URL, or an http one of this machine.
    Url(String),
}

impl Access {
    pub(super) fn load(file: &File, o: &Overrides) -> Result<Access, ConfigError> {
        let insecure = file.setting("insecure", &o.insecure, |t| &t.insecure);
        let origins = file.names("origins", &o.origins, &file.table.origins)?;
        let hosts = file.names("hosts", &o.hosts, &file.table.hosts)?;
        Ok(Access {
            origins: origins
                .iter()
                .map(|text| {
                    text.parse().map_err(|problem| {
                        file.error_of("origins", &o.origins, format!("{text:?} is {problem}"))
                    })
                })
                .collect::<Result<_, _>>()?,
            hosts: hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect(),
            insecure: insecure.truth(false)?,
            jwt: JwtIssuer::load(file, o)?,
        })
    }
}

impl JwtIssuer {
    fn load(file: &File, o: &Overrides) -> Result<Option<JwtIssuer>, ConfigError> {
        let issuer = file.setting("jwt_issuer", &o.jwt_issuer, |t| &t.jwt_issuer);
        let audience = file.setting("jwt_audience", &o.jwt_audience, |t| &t.jwt_audience);
        let algorithm = file.setting("jwt_algorithm", &o.jwt_algorithm, |t| &t.jwt_algorithm);
        let keys = file.setting("jwt_keys", &o.jwt_keys, |t| &t.jwt_keys);
        let client_claim = file.setting("jwt_client_claim", &o.jwt_client_claim, |t| &t.jwt_client_claim);
        let scope_claim = file.setting("jwt_scope_claim", &o.jwt_scope_claim, |t| &t.jwt_scope_claim);
        let leeway = file.setting("jwt_leeway_seconds", &o.jwt_leeway_seconds, |t| &t.jwt_leeway_seconds);
        let (required, optional) =
            ([&issuer, &audience, &algorithm, &keys], [&client_claim, &scope_claim, &leeway]);
        if required.iter().all(|setting| !setting.is_given()) {
            return match optional.iter().find(|setting| setting.is_given()) {
                Some(alone) => Err(alone.error("given without jwt_issuer")),
                None => Ok(None),
            };
        }
        let text = |setting: &Setting<'_>| -> Result<String, ConfigError> {
            let given: Option<Text> = setting.parsed()?;
            let missing = "missing; jwt_issuer, jwt_audience, jwt_algorithm and jwt_keys go together";
            given.map(|Text(text)| text).ok_or_else(|| setting.error(missing))
        };
        let source = text(&keys)?;
        Ok(Some(JwtIssuer {
            issuer: text(&issuer)?,
            audience: text(&audience)?,
            algorithm: text(&algorithm)?.parse().map_err(|problem| algorithm.error(problem))?,
            keys: match source.split_once("://") {
                None if keys.is_in_file() => JwtKeys::File(file.folder().join(source)),
                None => JwtKeys::File(source.into()),
                Some(_) if is_safe_url(&source) => JwtKeys::Url(source),
                Some(_) => {
                    return Err(keys.error(
                        "allowed are the path of a file, an https URL, and an http URL of this machine",
                    ));
                }
            },
            client_claim: client_claim
                .parsed()?
                .map_or_else(|| DEFAULT_CLIENT_CLAIM.to_owned(), |Text(text)| text),
            scope_claim: scope_claim.parsed()?.map(|Text(text)| text),
            leeway: Duration::from_secs(leeway.number(30_u64, 0..=300)?),
        }))
    }
}

/// Whoever can change the answer can let anyone in.
fn is_safe_url(text: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(text) else { return false };
    let local = url.host_str().is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    });
    url.scheme() == "https" || (url.scheme() == "http" && local)
}

/// Any text but an empty one.
struct Text(String);

impl FromStr for Text {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Text, Self::Err> {
        if text.trim().is_empty() { Err("empty") } else { Ok(Text(text.to_owned())) }
    }
}

impl File {
    /// A list that a flag has separated by commas.
    fn names(
        &self,
        key: &'static str,
        flag: &Option<String>,
        in_file: &Option<Vec<String>>,
    ) -> Result<Vec<String>, ConfigError> {
        let given = match (filled(flag), in_file) {
            (Some(text), _) => text.split(',').map(|name| name.trim().to_owned()).collect(),
            (None, Some(names)) => names.clone(),
            (None, None) => Vec::new(),
        };
        if given.len() > MAX_LIST || given.iter().any(String::is_empty) {
            let problem = format!("allowed are at most {MAX_LIST} entries, and none of them empty");
            return Err(self.error_of(key, flag, problem));
        }
        Ok(given)
    }

    fn error_of(&self, key: &'static str, flag: &Option<String>, problem: String) -> ConfigError {
        match filled(flag) {
            Some(_) => ConfigError::new(format!("--{key} (JOBQL_{})", key.to_uppercase()), problem),
            None => self.error(key, problem),
        }
    }
}
