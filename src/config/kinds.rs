//! The kinds of jobs: what each one runs and with which defaults.
//!
//! A kind is declared in the configuration file, one table `[kinds.NAME]` each. The four builtin kinds `sum`,
//! `echo`, `sleep` and `fail` exist without any configuration; a table of the same name changes their settings.
//! A client names a kind and can never choose what is executed. A kind that could not run, such as one whose
//! program is missing, is refused at start and not when its first job fails.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;

use nix::unistd::{AccessFlags, access};
use serde::Deserialize;

use super::{ConfigError, HttpTarget, JsonSchema};

/// Where a program without a `/` is looked for, and the whole PATH of a command while it runs.
pub const COMMAND_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// One kind of job, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Kind {
    /// A letter, then at most 63 letters, digits, `_`, `.` or `-`.
    pub name: String,
    /// What a job of this kind runs.
    pub runner: Runner,
    /// A sentence for people; none by default but for the builtin kinds. At most 1,000 characters.
    pub description: Option<String>,
    /// The queue of its jobs; spelt like a kind's name. Unless told otherwise `default`, and for an external or native
    /// kind its own name. Kinds of one queue wait for each other: a flood of one delays the others, so a slow kind
    /// deserves its own. The same workers must be able to run all kinds of a queue, so that it holds external kinds only,
    /// or native ones only, or neither.
    pub queue: String,
    /// 0 to 32,767, lower first; 100 by default. A client may choose another for its job.
    pub priority: i16,
    /// How often a job is tried, 1 to 100; 5 by default. With 1 a worker's death is final for the job; with
    /// very many a job that cannot succeed takes its slot again and again.
    pub max_attempts: i16,
    /// Seconds one attempt may take, 1 to 86,400; 300 by default. Too short and work that would have finished
    /// is thrown away and repeated; too long and a hung attempt holds its slot for that time.
    pub timeout_seconds: i32,
    /// How long a failed job waits before its next attempt.
    pub backoff: Backoff,
    /// What a payload must fit, as a JSON Schema; none by default. Checked at submit.
    pub input_schema: Option<JsonSchema>,
    /// What a result must fit; none by default. Checked when an attempt ends; one that does not fit fails for good.
    pub result_schema: Option<JsonSchema>,
    /// False refuses new jobs, while those that are there are finished; true by default.
    pub active: bool,
}

/// What runs a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runner {
    /// Work that is compiled in.
    Builtin(Builtin),
    /// A program with its arguments, never a shell. The first is an absolute path.
    Command(Vec<OsString>),
    /// A signed POST to a fixed URL.
    Http(HttpTarget),
    /// Workers in any language, which claim its jobs over the API.
    External,
    /// A handler in Rust, registered by a program that uses this crate.
    Native,
}

/// Who can run the kinds of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunBy {
    /// Every process that serves or works.
    Jobql,
    /// Workers over the API.
    ApiWorkers,
    /// Programs that use the crate, and workers over the API.
    Programs,
}

impl Runner {
    /// Who can run it.
    pub fn run_by(&self) -> RunBy {
        match self {
            Runner::Builtin(_) | Runner::Command(_) | Runner::Http(_) => RunBy::Jobql,
            Runner::External => RunBy::ApiWorkers,
            Runner::Native => RunBy::Programs,
        }
    }
}

/// Work that is compiled in; each serves to try jobql out and to test it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Builtin {
    /// Adds the integers from `start` to `end`, telling its progress.
    Sum,
    /// Gives its payload back.
    Echo,
    /// Waits for `seconds`.
    Sleep,
    /// Fails with `message`.
    Fail,
}

impl Builtin {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Sum, Self::Echo, Self::Sleep, Self::Fail];

    /// The word for it in the configuration, and the name of the kind that needs none.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Echo => "echo",
            Self::Sleep => "sleep",
            Self::Fail => "fail",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Sum => {
                "Adds the integers from start to end, reporting progress. Payload {start, end, pauseSeconds = 0 \
                 after each step}; result {sum}."
            }
            Self::Echo => "Gives its payload back as the result.",
            Self::Sleep => "Waits. Payload {seconds}; result {slept}.",
            Self::Fail => {
                "Fails. Payload {message = \"failed\", retryable = true}; a retryable failure is tried again."
            }
        }
    }
}

/// The wait before attempt n + 1 is `initial_seconds * factor^(n - 1)`, at most `max_seconds`, with jitter.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backoff {
    /// Seconds before the second attempt, 0 to 86,400; 5 by default. 0 repeats at once, which a service that
    /// is down will feel.
    pub initial_seconds: f64,
    /// Growth from one attempt to the next, 1 to 100; 2 by default. 1 waits equally long each time.
    pub factor: f64,
    /// The longest wait in seconds, `initial_seconds` to 604,800; 3,600 by default.
    pub max_seconds: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial_seconds: 5.0, factor: 2.0, max_seconds: 3600.0 }
    }
}

/// The kinds of this process by name. Never empty: the builtin kinds are always there.
#[derive(Debug, Clone, PartialEq)]
pub struct Kinds(BTreeMap<String, Kind>);

impl Default for Kinds {
    fn default() -> Self {
        let builtin = |builtin: Builtin| (builtin.name().to_owned(), Kind::builtin(builtin));
        Self(Builtin::ALL.into_iter().map(builtin).collect())
    }
}

impl Kinds {
    /// The kind called `name`.
    pub fn get(&self, name: &str) -> Option<&Kind> {
        self.0.get(name)
    }

    /// All kinds by name.
    pub fn iter(&self) -> impl Iterator<Item = &Kind> {
        self.0.values()
    }

    /// The queues of all kinds, each once, by name.
    pub fn queues(&self) -> BTreeSet<&str> {
        self.iter().map(|kind| kind.queue.as_str()).collect()
    }

    /// The queues whose kinds every process can run, each once, by name.
    pub fn own_queues(&self) -> BTreeSet<&str> {
        let own = self.iter().filter(|kind| kind.runner.run_by() == RunBy::Jobql);
        own.map(|kind| kind.queue.as_str()).collect()
    }

    /// The kinds of a queue, by name.
    pub fn of_queue<'a>(&'a self, queue: &'a str) -> impl Iterator<Item = &'a Kind> {
        self.iter().filter(move |kind| kind.queue == queue)
    }

    /// Puts the tables of the configuration file over the builtin kinds. `folder` is the file's.
    pub(super) fn from_tables(
        tables: BTreeMap<String, KindTable>,
        folder: &Path,
    ) -> Result<Self, ConfigError> {
        let mut kinds = Self::default();
        for (name, table) in tables {
            let kind = Kind::from_table(&name, table, folder)?;
            kinds.0.insert(name, kind);
        }
        for kind in kinds.iter() {
            let mut others = kinds.of_queue(&kind.queue);
            if let Some(other) = others.find(|other| other.runner.run_by() != kind.runner.run_by()) {
                let problem = format!(
                    "the kinds {:?} and {:?} of the queue {:?} are not run by the same workers; give each its own",
                    kind.name, other.name, kind.queue
                );
                return Err(ConfigError::new(format!("kinds.{}.queue", kind.name), problem));
            }
        }
        Ok(kinds)
    }
}

/// A table `[kinds.NAME]` as it stands in the file.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KindTable {
    runner: Option<String>,
    builtin: Option<String>,
    command: Option<Vec<String>>,
    url: Option<String>,
    secret_env: Option<String>,
    allow_private: Option<bool>,
    description: Option<String>,
    queue: Option<String>,
    priority: Option<i64>,
    max_attempts: Option<i64>,
    timeout_seconds: Option<i64>,
    backoff: Option<Backoff>,
    input_schema: Option<serde_json::Value>,
    result_schema: Option<serde_json::Value>,
    active: Option<bool>,
}

impl Kind {
    fn builtin(builtin: Builtin) -> Self {
        Self {
            name: builtin.name().to_owned(),
            runner: Runner::Builtin(builtin),
            description: Some(builtin.description().to_owned()),
            queue: "default".to_owned(),
            priority: 100,
            max_attempts: 5,
            timeout_seconds: 300,
            backoff: Backoff::default(),
            input_schema: None,
            result_schema: None,
            active: true,
        }
    }

    fn from_table(name: &str, table: KindTable, folder: &Path) -> Result<Self, ConfigError> {
        let key = |field: &str| format!("kinds.{name}.{field}");
        if !is_name(name) {
            return Err(ConfigError::new(format!("kinds.{name}"), NAME_RULE));
        }
        let runner = runner(name, &table, folder)?;
        let description = match (table.description, &runner) {
            (Some(text), _) if text.chars().count() > 1000 => {
                return Err(ConfigError::new(key("description"), "longer than the 1000 characters allowed"));
            }
            (Some(text), _) => Some(text),
            (None, Runner::Builtin(builtin)) => Some(builtin.description().to_owned()),
            (None, _) => None,
        };
        let own_queue = match runner.run_by() {
            RunBy::Jobql => "default",
            RunBy::ApiWorkers | RunBy::Programs => name,
        };
        let queue = table.queue.unwrap_or_else(|| own_queue.to_owned());
        if !is_name(&queue) {
            return Err(ConfigError::new(key("queue"), NAME_RULE));
        }
        Ok(Self {
            name: name.to_owned(),
            runner,
            description,
            queue,
            priority: ranged(&key("priority"), table.priority, 100, 0..=32_767)?,
            max_attempts: ranged(&key("max_attempts"), table.max_attempts, 5, 1..=100)?,
            timeout_seconds: ranged(&key("timeout_seconds"), table.timeout_seconds, 300, 1..=86_400)?,
            backoff: checked_backoff(&key("backoff"), table.backoff.unwrap_or_default())?,
            input_schema: schema(&key("input_schema"), table.input_schema, folder)?,
            result_schema: schema(&key("result_schema"), table.result_schema, folder)?,
            active: table.active.unwrap_or(true),
        })
    }
}

fn schema(
    key: &str,
    setting: Option<serde_json::Value>,
    folder: &Path,
) -> Result<Option<JsonSchema>, ConfigError> {
    let schema = setting.map(|setting| JsonSchema::from_setting(setting, folder)).transpose();
    schema.map_err(|problem| ConfigError::new(key, problem))
}

const NAME_RULE: &str =
    "not a name; allowed is a letter, then at most 63 letters, digits, '_', '.' or '-', all ASCII";

fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// The words that `runner` can have.
const RUNNERS: &str = "\"builtin\", \"command\", \"http\", \"external\" and \"native\"";

fn runner(name: &str, table: &KindTable, folder: &Path) -> Result<Runner, ConfigError> {
    let key = |field: &str| format!("kinds.{name}.{field}");
    let own = Builtin::ALL.into_iter().find(|each| each.name() == name).map(|_| "builtin");
    let word = match table.runner.as_deref().or(own) {
        Some(word) => word,
        None => return Err(ConfigError::new(key("runner"), format!("missing; allowed are {RUNNERS}"))),
    };
    let fields = [
        ("builtin", table.builtin.is_some(), "builtin"),
        ("command", table.command.is_some(), "command"),
        ("url", table.url.is_some(), "http"),
        ("secret_env", table.secret_env.is_some(), "http"),
        ("allow_private", table.allow_private.is_some(), "http"),
    ];
    for (field, is_given, of) in fields {
        if is_given && of != word {
            let problem = format!("only for runner = {of:?}; this kind's is {word:?}");
            return Err(ConfigError::new(key(field), problem));
        }
    }
    match word {
        "builtin" => {
            let builtin = table.builtin.as_deref().unwrap_or(name);
            let found = Builtin::ALL.into_iter().find(|each| each.name() == builtin);
            found.map(Runner::Builtin).ok_or_else(|| {
                let problem = "allowed are \"sum\", \"echo\", \"sleep\" and \"fail\"";
                ConfigError::new(key("builtin"), problem)
            })
        }
        "command" => match &table.command {
            Some(command) => checked_command(&key("command"), command, folder),
            None => {
                let problem = "missing; allowed is a list [\"program\", \"argument\", ...]";
                Err(ConfigError::new(key("command"), problem))
            }
        },
        "http" => {
            let target = HttpTarget::from_settings(
                table.url.as_deref(),
                table.secret_env.as_deref(),
                table.allow_private.unwrap_or_default(),
            );
            target.map(Runner::Http).map_err(|(field, problem)| ConfigError::new(key(field), problem))
        }
        "external" => Ok(Runner::External),
        "native" => Ok(Runner::Native),
        other => {
            let problem = format!("no runner is called {other:?}; allowed are {RUNNERS}");
            Err(ConfigError::new(key("runner"), problem))
        }
    }
}

fn checked_command(key: &str, command: &[String], folder: &Path) -> Result<Runner, ConfigError> {
    let Some((program, arguments)) = command.split_first().filter(|(program, _)| !program.is_empty()) else {
        return Err(ConfigError::new(key, "empty; allowed is a list [\"program\", \"argument\", ...]"));
    };
    if command.iter().any(|part| part.contains('\0')) {
        return Err(ConfigError::new(key, "holds a NUL character, which no program can be given"));
    }
    let path = if program.contains('/') {
        // `join` keeps an absolute program as it is.
        std::path::absolute(folder.join(program)).unwrap_or_else(|_| folder.join(program))
    } else {
        let found =
            COMMAND_PATH.split(':').map(|folder| Path::new(folder).join(program)).find(|p| p.is_file());
        found.ok_or_else(|| {
            ConfigError::new(format!("{key}[0]"), format!("no program {program:?} in {COMMAND_PATH}"))
        })?
    };
    check_program(&format!("{key}[0]"), &path)?;
    let mut argv = vec![path.into_os_string()];
    argv.extend(arguments.iter().map(OsString::from));
    Ok(Runner::Command(argv))
}

fn check_program(key: &str, path: &Path) -> Result<(), ConfigError> {
    let problem = match std::fs::metadata(path) {
        Err(error) => format!("the program {} cannot be used: {error}", path.display()),
        Ok(found) if !found.is_file() => format!("{} is not a file", path.display()),
        Ok(_) if access(path, AccessFlags::X_OK).is_err() => {
            format!("{} is not executable; try chmod +x", path.display())
        }
        Ok(_) => return Ok(()),
    };
    Err(ConfigError::new(key, problem))
}

fn checked_backoff(key: &str, backoff: Backoff) -> Result<Backoff, ConfigError> {
    let check = |field: &str, value: f64, low: f64, high: f64| {
        // A NaN is in no range.
        if (low..=high).contains(&value) {
            return Ok(());
        }
        Err(ConfigError::new(format!("{key}.{field}"), format!("{value} is not from {low} to {high}")))
    };
    check("initial_seconds", backoff.initial_seconds, 0.0, 86_400.0)?;
    check("factor", backoff.factor, 1.0, 100.0)?;
    check("max_seconds", backoff.max_seconds, backoff.initial_seconds, 604_800.0)?;
    Ok(backoff)
}

fn ranged<T: TryFrom<i64>>(
    key: &str,
    value: Option<i64>,
    default: T,
    range: std::ops::RangeInclusive<i64>,
) -> Result<T, ConfigError> {
    let Some(value) = value else { return Ok(default) };
    let refused =
        || ConfigError::new(key, format!("{value} is not from {} to {}", range.start(), range.end()));
    if !range.contains(&value) {
        return Err(refused());
    }
    T::try_from(value).map_err(|_| refused())
}
