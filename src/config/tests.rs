//! What the configuration accepts and refuses.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// A folder of its own with a configuration file, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn with(text: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("jobql-config-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("jobql.toml"), text).unwrap();
        Self(folder)
    }

    fn overrides(&self) -> Overrides {
        Overrides { config_file: Some(self.0.join("jobql.toml")), ..Overrides::default() }
    }

    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(&self.overrides())
    }

    fn program(&self, name: &str, mode: u32) {
        let path = self.0.join(name);
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn refused(text: &str) -> ConfigError {
    let folder = Folder::with(text);
    let error = folder.load().unwrap_err();
    assert_eq!(error.file.as_deref(), Some(folder.0.join("jobql.toml").as_path()), "{error}");
    error
}

#[test]
fn an_empty_file_gives_the_documented_defaults() {
    let config = Folder::with("").load().unwrap();
    assert_eq!(config.listen, None);
    assert_eq!(config.data_dir, Path::new("data"));
    assert_eq!((config.lease_seconds, config.drain_seconds), (30, 25));
    assert_eq!((config.max_payload_bytes, config.max_result_bytes), (1_048_576, 1_048_576));
    assert_eq!((config.max_body_bytes, config.max_websocket_message_bytes), (8_388_608, 1_048_576));
    assert_eq!((config.database_connections, config.allow_unsafe_durability), (18, false));
    assert_eq!((config.max_connections, config.graphql), (4_096, GraphqlConfig::default()));
    assert_eq!(config.slots, std::thread::available_parallelism().unwrap().get() * 4);
    let names: Vec<&str> = config.kinds.iter().map(|kind| kind.name.as_str()).collect();
    assert_eq!(names, ["echo", "fail", "sleep", "sum"]);
    assert_eq!(config.kinds.queues().into_iter().collect::<Vec<_>>(), ["default"]);
    assert_eq!(config.queues, ["default"]);
    let retention = config.retention;
    assert_eq!(
        (retention.done_days, retention.error_days, retention.cancelled_days),
        (Some(7), Some(30), Some(30))
    );
    let sum = config.kinds.get("sum").unwrap();
    assert_eq!((sum.priority, sum.max_attempts, sum.timeout_seconds), (100, 5, 300));
    assert_eq!(sum.backoff, Backoff { initial_seconds: 5.0, factor: 2.0, max_seconds: 3600.0 });
}

#[test]
fn a_flag_beats_the_file_and_an_empty_one_does_not() {
    let folder = Folder::with("slots = 7\nlease_seconds = 60\nlisten = \"127.0.0.1:1\"");
    let flags = Overrides {
        slots: Some("9".into()),
        lease_seconds: Some(String::new()),
        listen: Some("[::1]:0".into()),
        ..folder.overrides()
    };
    let config = Config::load(&flags).unwrap();
    assert_eq!((config.slots, config.lease_seconds), (9, 60));
    assert_eq!(config.listen, Some("[::1]:0".parse().unwrap()));
}

#[test]
fn a_bad_value_names_its_key_and_what_is_allowed() {
    for (text, key, allowed) in [
        ("slots = 10001", "slots", "0 to 10000"),
        ("slots = -1", "slots", "0 to 10000"),
        ("slots = \"many\"", "slots", "0 to 10000"),
        ("slots = 1.5", "slots", "0 to 10000"),
        ("lease_seconds = 4", "lease_seconds", "5 to 3600"),
        ("database_connections = 3", "database_connections", "4 to 1000"),
        ("max_body_bytes = 0", "max_body_bytes", "1024 to 268435456"),
        ("log_format = \"xml\"", "log_format", "text and json"),
        ("listen = \"8080\"", "listen", "IP:PORT"),
        ("listen = 8080", "listen", "quotes"),
        ("origins = [\"app.example\"]", "origins", "https://"),
        ("origins = [\"https://app.example/page\"]", "origins", "path"),
        ("hosts = [\"\"]", "hosts", "empty"),
        ("insecure = \"yes\"", "insecure", "true and false"),
        ("jwt_issuer = \"i\"", "jwt_keys", "go together"),
        ("jwt_client_claim = \"client\"", "jwt_client_claim", "jwt_issuer"),
        (
            "jwt_issuer = \"i\"\njwt_audience = \"a\"\njwt_algorithm = \"HS256\"\njwt_keys = \"k.json\"",
            "jwt_algorithm",
            "EdDSA",
        ),
        (
            "jwt_issuer = \"i\"\njwt_audience = \"a\"\njwt_algorithm = \"ES256\"\njwt_keys = \"http://i.example/k\"",
            "jwt_keys",
            "https",
        ),
        ("allow_unsafe_durability = \"oh\"", "allow_unsafe_durability", "true and false"),
        ("database_url = \"mysql://s3cret\"", "database_url", "postgres://"),
        ("listen_database_url = \"postgres://h/d\"", "listen_database_url", "database_url"),
        ("data_dir = \"\"", "data_dir", "folder"),
        ("lease = 4", "lease", "lease_seconds"),
        ("slots = ", "", "line 1"),
        ("[kinds.sum]\nqueu = \"x\"", "kinds.sum.queu", "queue"),
        ("[kinds.sum]\npriority = \"x\"", "kinds.sum.priority", "i64"),
        ("[kinds.sum]\nmax_attempts = 101", "kinds.sum.max_attempts", "1 to 100"),
        ("[kinds.sum]\npriority = 32768", "kinds.sum.priority", "0 to 32767"),
        ("[kinds.sum]\ntimeout_seconds = 0", "kinds.sum.timeout_seconds", "1 to 86400"),
        ("[kinds.sum]\nqueue = \"a b\"", "kinds.sum.queue", "letter"),
        ("[kinds.sum]\nbackoff.factor = 0.5", "kinds.sum.backoff.factor", "1 to 100"),
        ("[kinds.sum]\nbackoff.initial_seconds = nan", "kinds.sum.backoff.initial_seconds", "0 to 86400"),
        ("[kinds.sum]\nbackoff.max_seconds = 4", "kinds.sum.backoff.max_seconds", "5 to 604800"),
        ("[kinds.sum]\nbackoff.max = 4", "kinds.sum.backoff.max", "max_seconds"),
        ("[kinds.sum]\ncommand = [\"true\"]", "kinds.sum.command", "runner = \"command\""),
        ("[kinds.2x]\nrunner = \"builtin\"", "kinds.2x", "letter"),
        ("[kinds.x]", "kinds.x.runner", "\"builtin\", \"command\", \"http\", \"external\" and \"native\""),
        ("[kinds.x]\nrunner = \"magic\"", "kinds.x.runner", "\"external\" and \"native\""),
        (
            "[kinds.x]\nrunner = \"external\"\ncommand = [\"true\"]",
            "kinds.x.command",
            "only for runner = \"command\"",
        ),
        (
            "[kinds.x]\nrunner = \"external\"\nqueue = \"default\"",
            "kinds.echo.queue",
            "not run by the same workers",
        ),
        (
            "[kinds.a]\nrunner = \"external\"\nqueue = \"q\"\n[kinds.b]\nrunner = \"native\"\nqueue = \"q\"",
            "kinds.a.queue",
            "not run by the same workers",
        ),
        (
            "queues = [\"x\"]\n[kinds.x]\nrunner = \"external\"",
            "queues",
            "run by others; allowed are default",
        ),
        ("[kinds.x]\nrunner = \"http\"", "kinds.x.url", "https"),
        ("[kinds.x]\nrunner = \"http\"\nurl = \"http://example.com\"", "kinds.x.url", "allow_private"),
        ("[kinds.x]\nrunner = \"http\"\nurl = \"https://u@example.com\"", "kinds.x.url", "credentials"),
        ("[kinds.x]\nrunner = \"http\"\nurl = \"https://example.com\"", "kinds.x.secret_env", "whsec_"),
        (
            "[kinds.x]\nrunner = \"http\"\nurl = \"https://example.com\"\nsecret_env = \"JOBQL_TEST_UNSET\"",
            "kinds.x.secret_env",
            "JOBQL_TEST_UNSET is not set",
        ),
        (
            "[kinds.x]\nrunner = \"external\"\nurl = \"https://example.com\"",
            "kinds.x.url",
            "runner = \"http\"",
        ),
        ("[kinds.x]\nrunner = \"builtin\"", "kinds.x.builtin", "\"sum\""),
        ("[kinds.x]\nrunner = \"command\"", "kinds.x.command", "list"),
        ("[kinds.x]\nrunner = \"command\"\ncommand = []", "kinds.x.command", "list"),
        (
            "[kinds.x]\nrunner = \"command\"\ncommand = [\"no-such-program\"]",
            "kinds.x.command[0]",
            "/usr/bin",
        ),
        ("[kinds.x]\nrunner = \"command\"\ncommand = [\"./missing\"]", "kinds.x.command[0]", "missing"),
        ("[kinds.x]\nrunner = \"command\"\ncommand = [\"/tmp\"]", "kinds.x.command[0]", "not a file"),
    ] {
        let error = refused(text);
        assert_eq!(error.key, key, "{text}: {error}");
        assert!(error.problem.contains(allowed), "{text}: {error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}

#[test]
fn a_bad_flag_names_the_flag_and_its_variable() {
    let folder = Folder::with("slots = 7");
    let flags = Overrides { slots: Some("many".into()), ..folder.overrides() };
    let error = Config::load(&flags).unwrap_err();
    assert_eq!((error.file, error.key.as_str()), (None, "--slots (JOBQL_SLOTS)"));
}

#[test]
fn a_file_that_was_asked_for_must_exist() {
    let flags = Overrides { config_file: Some("/nonexistent/jobql.toml".into()), ..Overrides::default() };
    let error = Config::load(&flags).unwrap_err();
    assert!(error.to_string().starts_with("/nonexistent/jobql.toml: cannot be read"), "{error}");
}

#[test]
fn a_syntax_error_never_shows_the_line() {
    let error = refused("slots = 1\ndatabase_url = \"postgres://a:s3cret@h/d\nx");
    assert!(!error.to_string().contains("s3cret"), "{error}");
    assert!(error.problem.contains("line 3"), "{error}");
}

#[test]
fn paths_in_the_file_are_relative_to_the_file() {
    let folder = Folder::with(
        "data_dir = \"store\"\n[kinds.words]\nrunner = \"command\"\ncommand = [\"bin/words\", \"-c\"]\n\
         [kinds.true]\nrunner = \"command\"\ncommand = [\"true\"]\nqueue = \"quick\"",
    );
    std::fs::create_dir(folder.0.join("bin")).unwrap();
    folder.program("bin/words", 0o755);
    let config = folder.load().unwrap();
    assert_eq!(config.data_dir, folder.0.join("store"));
    let argv = vec![folder.0.join("bin/words").into_os_string(), "-c".into()];
    assert_eq!(config.kinds.get("words").unwrap().runner, Runner::Command(argv));
    let found = config.kinds.get("true").unwrap();
    assert!(matches!(&found.runner, Runner::Command(argv) if Path::new(&argv[0]).is_absolute()));
    assert_eq!(config.kinds.queues().into_iter().collect::<Vec<_>>(), ["default", "quick"]);
}

#[test]
fn a_program_that_is_not_executable_is_refused() {
    let folder = Folder::with("[kinds.words]\nrunner = \"command\"\ncommand = [\"./words\"]");
    folder.program("words", 0o644);
    let error = folder.load().unwrap_err();
    assert_eq!(error.key, "kinds.words.command[0]");
    assert!(error.problem.contains("not executable"), "{error}");
}

#[test]
fn a_table_changes_a_builtin_kind_or_makes_another() {
    let config = Folder::with(
        "[kinds.sum]\nqueue = \"sums\"\nbackoff = { initial_seconds = 1 }\n\
         [kinds.nap]\nrunner = \"builtin\"\nbuiltin = \"sleep\"\nmax_attempts = 1",
    )
    .load()
    .unwrap();
    let sum = config.kinds.get("sum").unwrap();
    assert_eq!((&sum.runner, sum.queue.as_str()), (&Runner::Builtin(Builtin::Sum), "sums"));
    assert_eq!(sum.backoff, Backoff { initial_seconds: 1.0, ..Backoff::default() });
    assert!(sum.description.is_some());
    let nap = config.kinds.get("nap").unwrap();
    assert_eq!((&nap.runner, nap.max_attempts), (&Runner::Builtin(Builtin::Sleep), 1));
}

#[test]
fn ageing_is_off_unless_set_for_a_queue_that_exists() {
    assert!(Folder::with("").load().unwrap().ageing.is_empty());
    let config = Folder::with("[ageing]\ndefault = 600\n").load().unwrap();
    assert_eq!(config.ageing.get("default"), Some(&600));
    assert_eq!(refused("[ageing]\ndefault = 0\n").key, "ageing.default");
    assert_eq!(refused("[ageing]\nother = 600\n").key, "ageing.other");
}

#[test]
fn nought_days_of_retention_is_for_ever() {
    let config = Folder::with("retention_done_days = 0\nretention_error_days = 1\n").load().unwrap();
    assert_eq!((config.retention.done_days, config.retention.error_days), (None, Some(1)));
    assert_eq!(refused("retention_done_days = -1").key, "retention_done_days");
    assert_eq!(refused("retention_cancelled_days = 36501").key, "retention_cancelled_days");
}

#[test]
fn the_queues_to_serve_are_named_in_their_order_and_must_exist() {
    let kinds = "[kinds.echo]\nqueue = \"fast\"\n";
    assert_eq!(Folder::with(kinds).load().unwrap().queues, ["default", "fast"]);
    let folder = Folder::with(&format!("queues = [\"fast\", \"default\"]\n{kinds}"));
    assert_eq!(folder.load().unwrap().queues, ["fast", "default"]);
    let flag = Overrides { queues: Some("fast".to_owned()), ..folder.overrides() };
    assert_eq!(Config::load(&flag).unwrap().queues, ["fast"]);
    for text in ["queues = []", "queues = [\"slow\"]", "queues = [\"default\", \"default\"]", "queues = 3"] {
        assert_eq!(refused(text).key, "queues", "{text}");
    }
}

#[test]
fn trusted_documents_are_read_beside_the_file_and_refused_by_name() {
    let folder =
        Folder::with("trusted_documents = \"documents.json\"\nmax_query_depth = 3\nintrospection = false");
    let error = folder.load().unwrap_err();
    assert_eq!(error.key, "trusted_documents");
    let documents = folder.0.join("documents.json");
    for bad in ["[]", "{}", "{\"a\": 1}", "x"] {
        std::fs::write(&documents, bad).unwrap();
        assert!(folder.load().unwrap_err().problem.contains("documents.json"), "{bad}");
    }
    std::fs::write(&documents, "{\"a\": \"{ jobKinds { name } }\"}").unwrap();
    let graphql = folder.load().unwrap().graphql;
    assert_eq!((graphql.max_query_depth, graphql.introspection, graphql.suggestions), (3, false, true));
    let trusted = graphql.trusted_documents.unwrap();
    assert_eq!(trusted.document("a"), Some("{ jobKinds { name } }"));
    assert!(trusted.holds("{ jobKinds { name } }") && !trusted.holds("a") && trusted.document("b").is_none());
}
