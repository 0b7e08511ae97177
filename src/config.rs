//! The configuration: one struct, checked as a whole before anything starts.
//!
//! Each setting is taken from the first place that has it: a flag, its `JOBQL_*` variable, the configuration
//! file, the default. An unknown key or a bad value stops the start with exit code 2, naming the file, the key
//! and what is allowed; nothing is guessed or clamped. Paths in the file are relative to the file's folder,
//! paths in flags and variables to the working folder. The doc comments of [`Config`] are the reference.

mod access;
mod callbacks;
mod database_url;
mod error;
mod graphql;
mod http_target;
mod json_schema;
mod kinds;
mod limits;
mod network;
mod overrides;
mod tls;
mod trusted_documents;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

pub use self::access::{Access, JwtAlgorithm, JwtIssuer, JwtKeys, Origin};
pub use self::callbacks::{CallbackSecret, Callbacks};
pub use self::database_url::DatabaseUrl;
pub use self::error::ConfigError;
pub use self::graphql::GraphqlConfig;
pub use self::http_target::HttpTarget;
pub use self::json_schema::{JsonSchema, SchemaProblem, in_words};
pub use self::kinds::{Backoff, Builtin, COMMAND_PATH, Kind, Kinds, RunBy, Runner};
pub use self::limits::Limits;
pub use self::network::Network;
pub use self::overrides::{Overrides, unknown_variables};
pub use self::tls::Tls;
pub use self::trusted_documents::TrustedDocuments;

/// The file that is read when `--config` names none.
const DEFAULT_FILE: &str = "jobql.toml";

/// Everything that can be set, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where the HTTP API listens. `None` by default: then `serve` takes 127.0.0.1:8080 and `work` opens no
    /// port. Port 0 picks a free one, which the log tells. An address that other machines reach is served only where
    /// tokens are in use, or with `insecure`.
    pub listen: Option<SocketAddr>,
    /// Where the embedded database lives; `data` by default. Not used with `database_url`. On a network file
    /// system a lost connection looks like a failing disk to PostgreSQL; prefer a local one.
    pub data_dir: PathBuf,
    /// The PostgreSQL to use, 14 or newer; `None` by default, which starts the embedded one.
    pub database_url: Option<DatabaseUrl>,
    /// A direct way to the same database, for LISTEN, where `database_url` goes through a pooler. `None` by
    /// default: the same as `database_url`. Through a pooler no notification arrives, and every update waits
    /// for the next poll.
    pub listen_database_url: Option<DatabaseUrl>,
    /// The configuration file that was read, if any.
    pub config_file: Option<PathBuf>,
    /// Jobs that this process runs at once, 0 to 10,000; 4 a core by default. 0 serves the API only, and jobs
    /// wait for another process. Far above the cores, jobs that compute slow each other down until they time out.
    pub slots: usize,
    /// The queues that this process takes jobs from, in turn and in this order; by default all whose kinds it can run,
    /// by name: those of builtin, command and http kinds. A queue that no process serves keeps its jobs waiting, which their `waitReason` says.
    pub queues: Vec<String>,
    /// By queue, the seconds, 1 to 2,678,400, after which a job that is ready goes to the front of all priorities; none by
    /// default. In the file a table `[ageing]`, the same for all processes. Short ones make priorities meaningless.
    pub ageing: BTreeMap<String, i32>,
    /// How logs are written; text by default.
    pub log_format: LogFormat,
    /// Seconds of silence after which a worker counts as lost and its jobs go to others, 5 to 3,600; 30 by
    /// default. Short leases take jobs from a worker that was merely paused; long ones leave the jobs of a dead
    /// worker lying for as long.
    pub lease_seconds: u32,
    /// Seconds that running jobs may take to finish at SIGTERM, 0 to 3,600; 25 by default. What is left goes
    /// back to its place without using up an attempt. Keep it below the time after which the system kills
    /// (Kubernetes: 30 s, systemd: 90 s): a killed worker's jobs wait for their lease to run out.
    pub drain_seconds: u32,
    /// Largest payload of a job in bytes, 1,024 to 67,108,864; 1,048,576 by default. Large ones are copied
    /// by the database with each change of the job: store a reference instead.
    pub max_payload_bytes: usize,
    /// Largest result of a job in bytes, 1,024 to 67,108,864; 1,048,576 by default. An attempt whose result is larger fails.
    pub max_result_bytes: usize,
    /// Largest HTTP request body in bytes, 1,024 to 268,435,456; 8,388,608 by default. Each request in flight
    /// may take that much memory.
    pub max_body_bytes: usize,
    /// Largest WebSocket message from a client in bytes, 1,024 to 268,435,456; 1,048,576 by default. Each
    /// socket may take that much memory.
    pub max_websocket_message_bytes: usize,
    /// HTTP connections at once, sockets and streams among them, 16 to 1,000,000; 4,096 by default. One more is
    /// answered with 503 and closed. Each takes a file descriptor, so it ends earlier where `ulimit -n` is lower.
    pub max_connections: usize,
    /// TLS by files: `tls_certificate` and `tls_key`, both or neither; neither by default, as behind a proxy that speaks it.
    /// Files that change are read again within seconds.
    pub tls: Option<Tls>,
    /// What one client, or one address, may take of the server.
    pub limits: Limits,
    /// What documents may ask for.
    pub graphql: GraphqlConfig,
    /// Database connections of this process, 4 to 1,000; 18 by default, and one more for LISTEN. All processes together must stay
    /// below the server's `max_connections`; beyond some 4 a core more connections make the database slower.
    pub database_connections: u32,
    /// Whether to start although the database may lose what it has acknowledged (`fsync`, `full_page_writes`
    /// or `synchronous_commit` off); false by default.
    pub allow_unsafe_durability: bool,
    /// Who may come in: `origins`, `hosts`, `insecure`, and the issuer of JWTs, `jwt_…`.
    pub access: Access,
    /// How callbacks are signed and where they may go: `callback_secret`, `callback_previous_secret`, `callback_hosts`.
    pub callbacks: Callbacks,
    /// How long finished jobs are kept.
    pub retention: Retention,
    /// The kinds of jobs; `sum`, `echo`, `sleep` and `fail` by default.
    pub kinds: Kinds,
}

/// How many days finished jobs are kept after their end, with their attempts and logs; `None`, which is 0 in the
/// configuration, keeps them for ever. Each from 0 to 36,500. Long ones cost disk, and time where queues are counted;
/// short ones take results from clients that come late. A request id stays used for 90 days and for as long as its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// DONE jobs; 7 by default.
    pub done_days: Option<i32>,
    /// ERROR jobs; 30 by default.
    pub error_days: Option<i32>,
    /// CANCELLED jobs; 30 by default.
    pub cancelled_days: Option<i32>,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line, for machines.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("allowed are text and json"),
        }
    }
}

impl Config {
    /// Reads the configuration file and puts `overrides` over it.
    pub fn load(overrides: &Overrides) -> Result<Self, ConfigError> {
        let file = File::read(overrides.config_file.as_deref())?;
        let folder = file.folder();
        let o = overrides;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let listen = file.setting("listen", &o.listen, |t| &t.listen);
        let database_url = file.setting("database_url", &o.database_url, |t| &t.database_url);
        let listen_url =
            file.setting("listen_database_url", &o.listen_database_url, |t| &t.listen_database_url);
        let unsafe_durability = file
            .setting("allow_unsafe_durability", &o.allow_unsafe_durability, |t| &t.allow_unsafe_durability);
        let log_format = file.setting("log_format", &o.log_format, |t| &t.log_format);
        let slots = file.setting("slots", &o.slots, |t| &t.slots);
        let lease = file.setting("lease_seconds", &o.lease_seconds, |t| &t.lease_seconds);
        let drain = file.setting("drain_seconds", &o.drain_seconds, |t| &t.drain_seconds);
        let payload = file.setting("max_payload_bytes", &o.max_payload_bytes, |t| &t.max_payload_bytes);
        let result = file.setting("max_result_bytes", &o.max_result_bytes, |t| &t.max_result_bytes);
        let body = file.setting("max_body_bytes", &o.max_body_bytes, |t| &t.max_body_bytes);
        let message = file.setting("max_websocket_message_bytes", &o.max_websocket_message_bytes, |t| {
            &t.max_websocket_message_bytes
        });
        let http_connections = file.setting("max_connections", &o.max_connections, |t| &t.max_connections);
        let connections =
            file.setting("database_connections", &o.database_connections, |t| &t.database_connections);
        let keep_done =
            file.setting("retention_done_days", &o.retention_done_days, |t| &t.retention_done_days);
        let keep_error =
            file.setting("retention_error_days", &o.retention_error_days, |t| &t.retention_error_days);
        let keep_cancelled = file.setting("retention_cancelled_days", &o.retention_cancelled_days, |t| {
            &t.retention_cancelled_days
        });
        let secret = file.setting("callback_secret", &o.callback_secret, |t| &t.callback_secret);
        let previous_secret = file.setting("callback_previous_secret", &o.callback_previous_secret, |t| {
            &t.callback_previous_secret
        });
        let data_dir = match (filled(&o.data_dir), &file.table.data_dir) {
            (Some(path), _) => path.clone(),
            (None, Some(path)) if path.as_os_str().is_empty() => {
                return Err(file.error("data_dir", "empty; allowed is the path of a folder"));
            }
            (None, Some(path)) => folder.join(path),
            (None, None) => PathBuf::from("data"),
        };
        if listen_url.is_given() && !database_url.is_given() {
            let problem = "given without database_url; the embedded database needs no second way";
            return Err(listen_url.error(problem));
        }
        let kinds =
            Kinds::from_tables(file.table.kinds.clone(), &folder).map_err(|error| match &file.path {
                Some(path) => error.in_file(path),
                None => error,
            })?;
        Ok(Self {
            access: Access::load(&file, o)?,
            callbacks: Callbacks {
                secret: secret.parsed()?,
                previous_secret: previous_secret.parsed()?,
                hosts: match filled(&o.callback_hosts) {
                    Some(hosts) => hosts.split(',').map(|host| host.trim().to_owned()).collect(),
                    None => file.table.callback_hosts.clone().unwrap_or_default(),
                },
            },
            retention: Retention {
                done_days: keep_done.days(7)?,
                error_days: keep_error.days(30)?,
                cancelled_days: keep_cancelled.days(30)?,
            },
            ageing: file.ageing(&kinds)?,
            queues: file.queues(&o.queues, &kinds)?,
            kinds,
            listen: listen.address()?,
            data_dir,
            database_url: database_url.parsed()?,
            listen_database_url: listen_url.parsed()?,
            slots: slots.number((cores * 4).min(10_000), 0..=10_000)?,
            log_format: log_format.parsed()?.unwrap_or_default(),
            lease_seconds: lease.number(30, 5..=3600)?,
            drain_seconds: drain.number(25, 0..=3600)?,
            max_payload_bytes: payload.number(1 << 20, 1024..=1 << 26)?,
            max_result_bytes: result.number(1 << 20, 1024..=1 << 26)?,
            max_body_bytes: body.number(8 << 20, 1024..=1 << 28)?,
            max_websocket_message_bytes: message.number(1 << 20, 1024..=1 << 28)?,
            max_connections: http_connections.number(4096, 16..=1_000_000)?,
            tls: Tls::load(&file, o)?,
            limits: Limits::load(&file, o)?,
            graphql: GraphqlConfig::load(&file, o)?,
            database_connections: connections.number(18, 4..=1000)?,
            allow_unsafe_durability: unsafe_durability.truth(false)?,
            config_file: file.path,
        })
    }
}

/// The configuration file as it stands; every key may be missing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    listen: Option<Scalar>,
    data_dir: Option<PathBuf>,
    database_url: Option<Scalar>,
    listen_database_url: Option<Scalar>,
    slots: Option<Scalar>,
    queues: Option<Vec<String>>,
    log_format: Option<Scalar>,
    lease_seconds: Option<Scalar>,
    drain_seconds: Option<Scalar>,
    max_payload_bytes: Option<Scalar>,
    max_result_bytes: Option<Scalar>,
    max_body_bytes: Option<Scalar>,
    max_websocket_message_bytes: Option<Scalar>,
    max_connections: Option<Scalar>,
    tls_certificate: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    requests_per_second: Option<Scalar>,
    request_burst: Option<Scalar>,
    max_connections_per_address: Option<Scalar>,
    max_sockets_per_client: Option<Scalar>,
    max_operations_per_socket: Option<Scalar>,
    max_operations_per_client: Option<Scalar>,
    max_queued_jobs_per_client: Option<Scalar>,
    trusted_proxies: Option<Vec<String>>,
    max_query_depth: Option<Scalar>,
    max_query_complexity: Option<Scalar>,
    max_query_aliases: Option<Scalar>,
    max_query_directives: Option<Scalar>,
    max_query_tokens: Option<Scalar>,
    introspection: Option<Scalar>,
    suggestions: Option<Scalar>,
    persisted_queries: Option<Scalar>,
    trusted_documents: Option<PathBuf>,
    database_connections: Option<Scalar>,
    allow_unsafe_durability: Option<Scalar>,
    origins: Option<Vec<String>>,
    hosts: Option<Vec<String>>,
    insecure: Option<Scalar>,
    jwt_issuer: Option<Scalar>,
    jwt_audience: Option<Scalar>,
    jwt_algorithm: Option<Scalar>,
    jwt_keys: Option<Scalar>,
    jwt_client_claim: Option<Scalar>,
    jwt_scope_claim: Option<Scalar>,
    jwt_leeway_seconds: Option<Scalar>,
    callback_secret: Option<Scalar>,
    callback_previous_secret: Option<Scalar>,
    callback_hosts: Option<Vec<String>>,
    retention_done_days: Option<Scalar>,
    retention_error_days: Option<Scalar>,
    retention_cancelled_days: Option<Scalar>,
    #[serde(default)]
    ageing: BTreeMap<String, i64>,
    #[serde(default)]
    kinds: BTreeMap<String, kinds::KindTable>,
}

/// A value of the file before it is checked, so that a wrong type is told like any other bad value.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Truth(bool),
    Number(i64),
    Text(String),
    Other(serde::de::IgnoredAny),
}

/// The configuration file, or none.
struct File {
    path: Option<PathBuf>,
    table: Table,
}

impl File {
    fn read(given: Option<&Path>) -> Result<Self, ConfigError> {
        let given = given.filter(|path| !path.as_os_str().is_empty());
        let path = given.unwrap_or(Path::new(DEFAULT_FILE));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && given.is_none() => {
                return Ok(Self { path: None, table: Table::default() });
            }
            Err(error) => {
                return Err(ConfigError::new("", format!("cannot be read: {error}")).in_file(path));
            }
        };
        let table = toml::from_str(&text).map_err(|error| refused_by_toml(error, &text).in_file(path))?;
        Ok(Self { path: Some(path.to_owned()), table })
    }

    /// What relative paths in the file are relative to.
    fn folder(&self) -> PathBuf {
        self.path.as_deref().and_then(Path::parent).map(Path::to_owned).unwrap_or_default()
    }

    fn setting<'a>(
        &'a self,
        key: &'static str,
        flag: &'a Option<String>,
        in_file: fn(&Table) -> &Option<Scalar>,
    ) -> Setting<'a> {
        let value = match (filled(flag), in_file(&self.table)) {
            (Some(text), _) => Given::Outside(text),
            (None, Some(value)) => Given::InFile(value),
            (None, None) => Given::Nowhere,
        };
        Setting { key, value, file: self }
    }

    /// The queues that age their jobs.
    fn ageing(&self, kinds: &Kinds) -> Result<BTreeMap<String, i32>, ConfigError> {
        let (known, mut ageing) = (kinds.queues(), BTreeMap::new());
        for (queue, seconds) in &self.table.ageing {
            let key = format!("ageing.{queue}");
            if !known.contains(queue.as_str()) {
                return Err(self.error(&key, "no kind has this queue"));
            }
            let allowed = i32::try_from(*seconds).ok().filter(|seconds| (1..=2_678_400).contains(seconds));
            let seconds =
                allowed.ok_or_else(|| self.error(&key, format!("{seconds} is not from 1 to 2678400")))?;
            ageing.insert(queue.clone(), seconds);
        }
        Ok(ageing)
    }

    /// The queues to serve; all of the kinds' where none are named.
    fn queues(&self, flag: &Option<String>, kinds: &Kinds) -> Result<Vec<String>, ConfigError> {
        let known = kinds.own_queues();
        let (given, refused): (Vec<String>, Box<dyn Fn(String) -> ConfigError>) =
            match (filled(flag), &self.table.queues) {
                (Some(text), _) => (
                    text.split(',').map(|name| name.trim().to_owned()).collect(),
                    Box::new(|problem| ConfigError::new("--queues (JOBQL_QUEUES)", problem)),
                ),
                (None, Some(names)) => (names.clone(), Box::new(|problem| self.error("queues", problem))),
                (None, None) => return Ok(known.into_iter().map(str::to_owned).collect()),
            };
        if given.is_empty() {
            return Err(refused("empty; to serve no queue, set slots to 0".to_owned()));
        }
        for (index, name) in given.iter().enumerate() {
            if !known.contains(name.as_str()) {
                let allowed = known.iter().copied().collect::<Vec<_>>().join(", ");
                let problem = match kinds.of_queue(name).next() {
                    Some(kind) => {
                        format!("the kinds of the queue {name:?}, such as {:?}, are run by others", kind.name)
                    }
                    None => format!("no kind has the queue {name:?}"),
                };
                return Err(refused(format!("{problem}; allowed are {allowed}")));
            }
            if given.iter().take(index).any(|before| before == name) {
                return Err(refused(format!("names {name:?} twice")));
            }
        }
        Ok(given)
    }

    fn error(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        let error = ConfigError::new(key, problem);
        match &self.path {
            Some(path) => error.in_file(path),
            None => error,
        }
    }
}

/// An empty flag or variable counts as not given.
fn filled<T: AsRef<std::ffi::OsStr>>(value: &Option<T>) -> Option<&T> {
    value.as_ref().filter(|value| !value.as_ref().is_empty())
}

/// One key with the value that won and where it stood, so that an error can name the place.
struct Setting<'a> {
    key: &'static str,
    value: Given<'a>,
    file: &'a File,
}

enum Given<'a> {
    Nowhere,
    InFile(&'a Scalar),
    Outside(&'a str),
}

impl Setting<'_> {
    fn is_in_file(&self) -> bool {
        matches!(self.value, Given::InFile(_))
    }

    fn is_given(&self) -> bool {
        !matches!(self.value, Given::Nowhere)
    }

    fn error(&self, problem: impl Into<String>) -> ConfigError {
        match self.value {
            Given::Outside(_) => {
                let (flag, variable) = (self.key.replace('_', "-"), self.key.to_uppercase());
                ConfigError::new(format!("--{flag} (JOBQL_{variable})"), problem)
            }
            Given::Nowhere | Given::InFile(_) => self.file.error(self.key, problem),
        }
    }

    fn number<T: TryFrom<i64>>(&self, default: T, range: RangeInclusive<i64>) -> Result<T, ConfigError> {
        let refused = |shown: &str| {
            let (low, high) = (range.start(), range.end());
            self.error(format!("{shown} is not allowed; allowed is a whole number from {low} to {high}"))
        };
        let number = match &self.value {
            Given::Nowhere => return Ok(default),
            Given::InFile(Scalar::Number(number)) => *number,
            Given::InFile(_) => return Err(refused("this value")),
            Given::Outside(text) => text.trim().parse().map_err(|_| refused(&format!("{text:?}")))?,
        };
        if !range.contains(&number) {
            return Err(refused(&number.to_string()));
        }
        T::try_from(number).map_err(|_| refused(&number.to_string()))
    }

    /// A number of days; 0 is for ever.
    fn days(&self, default: i32) -> Result<Option<i32>, ConfigError> {
        Ok(Some(self.number(default, 0..=36_500)?).filter(|days| *days > 0))
    }

    fn truth(&self, default: bool) -> Result<bool, ConfigError> {
        match &self.value {
            Given::Nowhere => Ok(default),
            Given::InFile(Scalar::Truth(truth)) => Ok(*truth),
            Given::Outside("true" | "1" | "yes") => Ok(true),
            Given::Outside("false" | "0" | "no") => Ok(false),
            Given::InFile(_) | Given::Outside(_) => Err(self.error("allowed are true and false")),
        }
    }

    /// Never repeats the text in its error, as it may be a secret.
    fn parsed<T: FromStr<Err = &'static str>>(&self) -> Result<Option<T>, ConfigError> {
        let text = match &self.value {
            Given::Nowhere => return Ok(None),
            Given::InFile(Scalar::Text(text)) => text.as_str(),
            Given::InFile(_) => return Err(self.error("not a text; put it in quotes")),
            Given::Outside(text) => text,
        };
        text.parse().map(Some).map_err(|problem| self.error(problem))
    }

    fn address(&self) -> Result<Option<SocketAddr>, ConfigError> {
        Ok(self.parsed()?.map(|Address(address)| address))
    }
}

/// A socket address, with an error that says what is allowed.
struct Address(SocketAddr);

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| "not an address; allowed is IP:PORT such as 127.0.0.1:8080")
    }
}

/// toml names the keys above the one at fault, and the message names the unknown one.
fn refused_by_toml(mut error: toml::de::Error, text: &str) -> ConfigError {
    let line = error.span().map(|span| text.get(..span.start).unwrap_or(text).matches('\n').count() + 1);
    // Without its input the error prints no source line, which could hold a password.
    error.set_input(None);
    let shown = error.to_string();
    let keys = shown.trim_end().rsplit_once("in `").and_then(|(_, keys)| keys.strip_suffix('`'));
    let message = error.message();
    let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    let key = [keys, unknown].into_iter().flatten().collect::<Vec<_>>().join(".");
    let place = line.map(|line| format!(" (line {line})")).unwrap_or_default();
    ConfigError::new(key, format!("{}{place}", message.replace('\n', ", ")))
}

#[cfg(test)]
mod tests;
