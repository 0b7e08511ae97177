//! Finds the installed PostgreSQL programs.
//!
//! Looked at in this order: PATH, `pg_config --bindir`, and the usual folders with the newest version first. A
//! new cluster takes the first that is 14 or newer; an existing one needs its own major version.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::cluster_folder::{ClusterFolder, failed};
use crate::postgres::PostgresError;

/// The oldest major version that is supported.
const OLDEST: u32 = 14;
/// How long a program may take to tell its version.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Folders that hold one folder per version: where, the name's start, and what follows it.
const USUAL_FOLDERS: [(&str, &str, &str); 6] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/usr/local", "pgsql", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// One installation: `initdb` and `postgres` in one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    folder: PathBuf,
    major: u32,
}

impl Binaries {
    /// The installation for a new cluster.
    pub async fn any() -> Result<Self, PostgresError> {
        let found = installed().await;
        found.into_iter().find(|each| each.major >= OLDEST).ok_or(PostgresError::NotInstalled)
    }

    /// The installation that made the cluster in `folder`.
    pub async fn matching(folder: &ClusterFolder) -> Result<Self, PostgresError> {
        let file = folder.cluster().join("PG_VERSION");
        let text = std::fs::read_to_string(&file).map_err(failed("read", &file))?;
        let needed = text.trim();
        let found = installed().await;
        if let Some(same) = found.iter().find(|each| each.major.to_string() == needed) {
            return Ok(same.clone());
        }
        if found.is_empty() {
            return Err(PostgresError::NotInstalled);
        }
        let installed: Vec<String> = found.iter().map(|each| each.major.to_string()).collect();
        Err(PostgresError::VersionNotInstalled {
            folder: folder.cluster(),
            needed: needed.to_owned(),
            installed: installed.join(", "),
        })
    }

    pub fn initdb(&self) -> PathBuf {
        self.folder.join("initdb")
    }

    pub fn postgres(&self) -> PathBuf {
        self.folder.join("postgres")
    }
}

async fn installed() -> Vec<Binaries> {
    let mut found: Vec<Binaries> = Vec::new();
    for folder in candidates().await {
        // Debian keeps links to some programs elsewhere; the real ones stand together.
        let Ok(postgres) = folder.join("postgres").canonicalize() else { continue };
        let Some(folder) = postgres.parent().filter(|folder| folder.join("initdb").exists()) else {
            continue;
        };
        if found.iter().any(|each| each.folder == folder) {
            continue;
        }
        if let Some(major) = major_version(&postgres).await {
            found.push(Binaries { folder: folder.to_owned(), major });
        }
    }
    found
}

async fn candidates() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        std::env::var_os("PATH").iter().flat_map(std::env::split_paths).filter(|f| f.is_absolute()).collect();
    if let Some(folder) = output_of(Command::new("pg_config").arg("--bindir")).await {
        folders.push(PathBuf::from(folder.trim()));
    }
    for (parent, prefix, suffix) in USUAL_FOLDERS {
        let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir(parent)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok())
            .filter(|entry| starts_with(&entry.file_name(), prefix))
            .map(|entry| (first_number(&entry.file_name()), entry.path().join(suffix)))
            .collect();
        versions.sort_by(|one, other| other.cmp(one));
        folders.extend(versions.into_iter().map(|(_, folder)| folder));
    }
    folders
}

fn starts_with(name: &OsStr, prefix: &str) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(prefix))
}

async fn major_version(postgres: &Path) -> Option<u32> {
    let text = output_of(Command::new(postgres).arg("--version")).await?;
    // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "postgres (PostgreSQL) 19beta1"
    let version = text.split_whitespace().nth(2)?;
    Some(first_number(OsStr::new(version))).filter(|major| *major > 0)
}

/// 15 of `15.18`, 16 of `postgresql@16`, 0 without a number.
fn first_number(text: &OsStr) -> u32 {
    let text = text.to_string_lossy();
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

async fn output_of(command: &mut Command) -> Option<String> {
    let command = command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(ANSWER_TIMEOUT, command.output()).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_numbers() {
        let numbers: Vec<u32> = ["15.18", "postgresql@9.6", "19beta1", "pgsql", "pgsql-16"]
            .map(|text| first_number(OsStr::new(text)))
            .to_vec();
        assert_eq!(numbers, [15, 9, 19, 0, 16]);
    }
}
