//! The flags and the `JOBQL_*` variables, as text.
//!
//! clap puts a flag before its variable. The values stay text here, so that one place ([`super`]) checks a
//! value the same way wherever it came from. An empty value counts as not given, as compose files pass one for
//! every variable that is not set.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::Args;

/// What the command line and the environment say; each beats the configuration file.
#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "Settings (each also a key of the configuration file, with _ for -)")]
pub struct Overrides {
    /// Configuration file [default: jobql.toml in the working folder, if there is one]
    #[arg(long = "config", global = true, env = "JOBQL_CONFIG", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Address of the HTTP API; port 0 picks a free one [default: 127.0.0.1:8080 for serve, none for work]
    #[arg(long, global = true, env = "JOBQL_LISTEN", value_name = "IP:PORT")]
    pub listen: Option<String>,
    /// Folder of the embedded database [default: data]
    #[arg(long, global = true, env = "JOBQL_DATA_DIR", value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Use this PostgreSQL (14 or newer) and not the embedded one; other users see flags, so prefer the variable
    #[arg(long, global = true, env = "JOBQL_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// Direct way to the same database for LISTEN, where the first goes through a pooler
    #[arg(
        long,
        global = true,
        env = "JOBQL_LISTEN_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub listen_database_url: Option<String>,
    /// Jobs run at once in this process, 0 to 10000; 0 serves the API only [default: 4 a core]
    #[arg(long, global = true, env = "JOBQL_SLOTS", value_name = "N")]
    pub slots: Option<String>,
    /// Queues to take jobs from, in turn, separated by commas [default: all that the kinds have]
    #[arg(long, global = true, env = "JOBQL_QUEUES", value_name = "NAMES")]
    pub queues: Option<String>,
    /// How logs are written to standard error: text or json [default: text]
    #[arg(long, global = true, env = "JOBQL_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Silence after which a worker's jobs go to others, 5 to 3600 [default: 30]
    #[arg(long, global = true, env = "JOBQL_LEASE_SECONDS", value_name = "SECONDS")]
    pub lease_seconds: Option<String>,
    /// How long running jobs may finish at SIGTERM, 0 to 3600 [default: 25]
    #[arg(long, global = true, env = "JOBQL_DRAIN_SECONDS", value_name = "SECONDS")]
    pub drain_seconds: Option<String>,
    /// Largest payload of a job, 1024 to 67108864 [default: 1048576]
    #[arg(long, global = true, env = "JOBQL_MAX_PAYLOAD_BYTES", value_name = "BYTES")]
    pub max_payload_bytes: Option<String>,
    /// Largest result of a job, 1024 to 67108864 [default: 1048576]
    #[arg(long, global = true, env = "JOBQL_MAX_RESULT_BYTES", value_name = "BYTES")]
    pub max_result_bytes: Option<String>,
    /// Largest HTTP request body, 1024 to 268435456 [default: 8388608]
    #[arg(long, global = true, env = "JOBQL_MAX_BODY_BYTES", value_name = "BYTES")]
    pub max_body_bytes: Option<String>,
    /// Largest WebSocket message from a client, 1024 to 268435456 [default: 1048576]
    #[arg(long, global = true, env = "JOBQL_MAX_WEBSOCKET_MESSAGE_BYTES", value_name = "BYTES")]
    pub max_websocket_message_bytes: Option<String>,
    /// HTTP connections at once, 16 to 1000000 [default: 4096]
    #[arg(long, global = true, env = "JOBQL_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<String>,
    /// Certificate chain in PEM, for TLS [default: none, as behind a proxy]
    #[arg(long, global = true, env = "JOBQL_TLS_CERTIFICATE", value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,
    /// Its private key in PEM
    #[arg(long, global = true, env = "JOBQL_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Requests a second of a client, or of an address, 0 to 1000000; 0 for no limit [default: 1000]
    #[arg(long, global = true, env = "JOBQL_REQUESTS_PER_SECOND", value_name = "N")]
    pub requests_per_second: Option<String>,
    /// Requests of it that may come at once, 1 to 1000000 [default: 5000]
    #[arg(long, global = true, env = "JOBQL_REQUEST_BURST", value_name = "N")]
    pub request_burst: Option<String>,
    /// TCP connections of an address, 1 to 1000000 [default: 512]
    #[arg(long, global = true, env = "JOBQL_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N")]
    pub max_connections_per_address: Option<String>,
    /// WebSockets and streams of a client, or of an address, 1 to 1000000 [default: 512]
    #[arg(long, global = true, env = "JOBQL_MAX_SOCKETS_PER_CLIENT", value_name = "N")]
    pub max_sockets_per_client: Option<String>,
    /// Operations of a socket at once, 1 to 100000 [default: 2000]
    #[arg(long, global = true, env = "JOBQL_MAX_OPERATIONS_PER_SOCKET", value_name = "N")]
    pub max_operations_per_socket: Option<String>,
    /// Operations of a client, or of an address, at once, 1 to 1000000 [default: 10000]
    #[arg(long, global = true, env = "JOBQL_MAX_OPERATIONS_PER_CLIENT", value_name = "N")]
    pub max_operations_per_client: Option<String>,
    /// Jobs of a client id that may wait at once, 1 to 1000000000 [default: 100000]
    #[arg(long, global = true, env = "JOBQL_MAX_QUEUED_JOBS_PER_CLIENT", value_name = "N")]
    pub max_queued_jobs_per_client: Option<String>,
    /// Proxies, separated by commas, whose word on a client's address is taken [default: none]
    #[arg(long, global = true, env = "JOBQL_TRUSTED_PROXIES", value_name = "ADDRESSES")]
    pub trusted_proxies: Option<String>,
    /// Deepest nesting of a GraphQL document, 1 to 60 [default: 15]
    #[arg(long, global = true, env = "JOBQL_MAX_QUERY_DEPTH", value_name = "N")]
    pub max_query_depth: Option<String>,
    /// What a GraphQL document may cost, 1 to 1000000 [default: 5000]
    #[arg(long, global = true, env = "JOBQL_MAX_QUERY_COMPLEXITY", value_name = "N")]
    pub max_query_complexity: Option<String>,
    /// Aliases of a GraphQL document, 0 to 10000 [default: 30]
    #[arg(long, global = true, env = "JOBQL_MAX_QUERY_ALIASES", value_name = "N")]
    pub max_query_aliases: Option<String>,
    /// Directives of a GraphQL document, 0 to 10000 [default: 10]
    #[arg(long, global = true, env = "JOBQL_MAX_QUERY_DIRECTIVES", value_name = "N")]
    pub max_query_directives: Option<String>,
    /// Tokens of a GraphQL document, 100 to 1000000 [default: 2000]
    #[arg(long, global = true, env = "JOBQL_MAX_QUERY_TOKENS", value_name = "N")]
    pub max_query_tokens: Option<String>,
    /// Let clients read the schema [default: true]
    #[arg(long, global = true, env = "JOBQL_INTROSPECTION", value_name = "true|false")]
    pub introspection: Option<String>,
    /// Suggest a field's name where one is misspelt [default: true]
    #[arg(long, global = true, env = "JOBQL_SUGGESTIONS", value_name = "true|false")]
    pub suggestions: Option<String>,
    /// Automatic persisted queries that are kept, 0 to 100000; 0 turns them off [default: 1000]
    #[arg(long, global = true, env = "JOBQL_PERSISTED_QUERIES", value_name = "N")]
    pub persisted_queries: Option<String>,
    /// JSON file of the only documents that may run: an object from ids to documents [default: none, all may]
    #[arg(long, global = true, env = "JOBQL_TRUSTED_DOCUMENTS", value_name = "FILE")]
    pub trusted_documents: Option<PathBuf>,
    /// Database connections of this process, 4 to 1000 [default: 18]
    #[arg(long, global = true, env = "JOBQL_DATABASE_CONNECTIONS", value_name = "N")]
    pub database_connections: Option<String>,
    /// Start although the database may lose what it acknowledged [default: false]
    #[arg(long, global = true, env = "JOBQL_ALLOW_UNSAFE_DURABILITY", value_name = "true|false",
          num_args = 0..=1, default_missing_value = "true")]
    pub allow_unsafe_durability: Option<String>,
    /// Web pages that may use the API from a browser, separated by commas, as https://app.example [default: none]
    #[arg(long, global = true, env = "JOBQL_ORIGINS", value_name = "ORIGINS")]
    pub origins: Option<String>,
    /// Names by which this server may be called, separated by commas [default: any with tokens, this machine's without]
    #[arg(long, global = true, env = "JOBQL_HOSTS", value_name = "HOSTS")]
    pub hosts: Option<String>,
    /// Serve other machines although there are no tokens: whoever reaches the address is an operator [default: false]
    #[arg(long, global = true, env = "JOBQL_INSECURE", value_name = "true|false",
          num_args = 0..=1, default_missing_value = "true")]
    pub insecure: Option<String>,
    /// Issuer whose JWTs let in; needs the three settings below [default: none]
    #[arg(long, global = true, env = "JOBQL_JWT_ISSUER", value_name = "TEXT")]
    pub jwt_issuer: Option<String>,
    /// Audience that its JWTs must name
    #[arg(long, global = true, env = "JOBQL_JWT_AUDIENCE", value_name = "TEXT")]
    pub jwt_audience: Option<String>,
    /// The one algorithm that is accepted: RS256, ES256 or EdDSA
    #[arg(long, global = true, env = "JOBQL_JWT_ALGORITHM", value_name = "NAME")]
    pub jwt_algorithm: Option<String>,
    /// Its public keys, a JSON Web Key Set in a file or at an https URL
    #[arg(long, global = true, env = "JOBQL_JWT_KEYS", value_name = "FILE|URL")]
    pub jwt_keys: Option<String>,
    /// Claim that names the client [default: sub]
    #[arg(long, global = true, env = "JOBQL_JWT_CLIENT_CLAIM", value_name = "CLAIM")]
    pub jwt_client_claim: Option<String>,
    /// Claim that gives the scope: client, worker or operator [default: none, all are clients]
    #[arg(long, global = true, env = "JOBQL_JWT_SCOPE_CLAIM", value_name = "CLAIM")]
    pub jwt_scope_claim: Option<String>,
    /// How far the issuer's clock may be off, 0 to 300 [default: 30]
    #[arg(long, global = true, env = "JOBQL_JWT_LEEWAY_SECONDS", value_name = "SECONDS")]
    pub jwt_leeway_seconds: Option<String>,
    /// Signs callbacks, whsec_ and base64; without one no job may have a callback
    #[arg(long, global = true, env = "JOBQL_CALLBACK_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub callback_secret: Option<String>,
    /// Signs callbacks too, while receivers change over
    #[arg(
        long,
        global = true,
        env = "JOBQL_CALLBACK_PREVIOUS_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub callback_previous_secret: Option<String>,
    /// Hosts, separated by commas, that callbacks may reach by http and at private addresses
    #[arg(long, global = true, env = "JOBQL_CALLBACK_HOSTS", value_name = "HOSTS")]
    pub callback_hosts: Option<String>,
    /// Days that DONE jobs are kept, 0 to 36500; 0 is for ever [default: 7]
    #[arg(long, global = true, env = "JOBQL_RETENTION_DONE_DAYS", value_name = "DAYS")]
    pub retention_done_days: Option<String>,
    /// Days that ERROR jobs are kept, 0 to 36500; 0 is for ever [default: 30]
    #[arg(long, global = true, env = "JOBQL_RETENTION_ERROR_DAYS", value_name = "DAYS")]
    pub retention_error_days: Option<String>,
    /// Days that CANCELLED jobs are kept, 0 to 36500; 0 is for ever [default: 30]
    #[arg(long, global = true, env = "JOBQL_RETENTION_CANCELLED_DAYS", value_name = "DAYS")]
    pub retention_cancelled_days: Option<String>,
}

/// Every variable that is read; the test below holds it to the flags.
const VARIABLES: [&str; 52] = [
    "JOBQL_CONFIG",
    "JOBQL_LISTEN",
    "JOBQL_DATA_DIR",
    "JOBQL_DATABASE_URL",
    "JOBQL_LISTEN_DATABASE_URL",
    "JOBQL_SLOTS",
    "JOBQL_QUEUES",
    "JOBQL_LOG_FORMAT",
    "JOBQL_LEASE_SECONDS",
    "JOBQL_DRAIN_SECONDS",
    "JOBQL_MAX_PAYLOAD_BYTES",
    "JOBQL_MAX_RESULT_BYTES",
    "JOBQL_MAX_BODY_BYTES",
    "JOBQL_MAX_WEBSOCKET_MESSAGE_BYTES",
    "JOBQL_MAX_CONNECTIONS",
    "JOBQL_TLS_CERTIFICATE",
    "JOBQL_TLS_KEY",
    "JOBQL_REQUESTS_PER_SECOND",
    "JOBQL_REQUEST_BURST",
    "JOBQL_MAX_CONNECTIONS_PER_ADDRESS",
    "JOBQL_MAX_SOCKETS_PER_CLIENT",
    "JOBQL_MAX_OPERATIONS_PER_SOCKET",
    "JOBQL_MAX_OPERATIONS_PER_CLIENT",
    "JOBQL_MAX_QUEUED_JOBS_PER_CLIENT",
    "JOBQL_TRUSTED_PROXIES",
    "JOBQL_MAX_QUERY_DEPTH",
    "JOBQL_MAX_QUERY_COMPLEXITY",
    "JOBQL_MAX_QUERY_ALIASES",
    "JOBQL_MAX_QUERY_DIRECTIVES",
    "JOBQL_MAX_QUERY_TOKENS",
    "JOBQL_INTROSPECTION",
    "JOBQL_SUGGESTIONS",
    "JOBQL_PERSISTED_QUERIES",
    "JOBQL_TRUSTED_DOCUMENTS",
    "JOBQL_DATABASE_CONNECTIONS",
    "JOBQL_ALLOW_UNSAFE_DURABILITY",
    "JOBQL_ORIGINS",
    "JOBQL_HOSTS",
    "JOBQL_INSECURE",
    "JOBQL_JWT_ISSUER",
    "JOBQL_JWT_AUDIENCE",
    "JOBQL_JWT_ALGORITHM",
    "JOBQL_JWT_KEYS",
    "JOBQL_JWT_CLIENT_CLAIM",
    "JOBQL_JWT_SCOPE_CLAIM",
    "JOBQL_JWT_LEEWAY_SECONDS",
    "JOBQL_CALLBACK_SECRET",
    "JOBQL_CALLBACK_PREVIOUS_SECRET",
    "JOBQL_CALLBACK_HOSTS",
    "JOBQL_RETENTION_DONE_DAYS",
    "JOBQL_RETENTION_ERROR_DAYS",
    "JOBQL_RETENTION_CANCELLED_DAYS",
];

/// The names of `JOBQL_*` variables that nothing reads, most often a slip of the pen.
///
/// The binary warns of them and goes on: Kubernetes sets `JOBQL_PORT` and the like for a service called jobql.
pub fn unknown_variables(names: impl Iterator<Item = impl AsRef<OsStr>>) -> Vec<String> {
    names
        .filter_map(|name| name.as_ref().to_str().map(str::to_owned))
        .filter(|name| name.starts_with("JOBQL_") && !VARIABLES.contains(&name.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command};

    use super::*;

    #[test]
    fn every_flag_has_its_variable_and_the_list_knows_them_all() {
        let command = Overrides::augment_args(Command::new("jobql"));
        let mut read: Vec<String> = Vec::new();
        for argument in command.get_arguments() {
            let flag = argument.get_long().unwrap();
            let variable = argument.get_env().unwrap().to_str().unwrap().to_owned();
            assert_eq!(variable, format!("JOBQL_{}", flag.replace('-', "_").to_uppercase()));
            read.push(variable);
        }
        assert_eq!(read, VARIABLES);
    }

    #[test]
    fn a_misspelt_variable_is_noticed() {
        let names = ["JOBQL_SLOTS", "JOBQL_LEASE_SECOND", "PATH"];
        assert_eq!(unknown_variables(names.iter()), ["JOBQL_LEASE_SECOND"]);
    }
}
