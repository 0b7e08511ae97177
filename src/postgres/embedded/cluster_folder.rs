//! Where the cluster's files are.
//!
//! ```text
//! <data_dir>/postgres/            the home; ours
//!     gate.lock  holders.lock     see the locks
//!     cluster/                    PostgreSQL's data; its user's alone
//!     socket/                     the Unix socket; its user's alone
//! ```
//!
//! When root starts jobql below a folder that PostgreSQL's user cannot pass through, such as a closed home, the home
//! is made as `/var/lib/jobql-<hash>` and `<data_dir>/postgres` is a symlink to it.
//!
//! A socket path has at most 107 bytes. Where the data folder's is longer, the socket is put into a private
//! folder below the temporary one.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::SOCKET_PORT;
use super::locks::Gate;
use super::privileges::Account;
use crate::postgres::PostgresError;

/// Where the home goes when PostgreSQL's user cannot reach the data folder.
const REACHABLE_BY_ALL: &str = "/var/lib";
/// `sun_path` of Linux less its NUL.
const SOCKET_PATH_MAX: usize = 107;

/// The home of one cluster, and whose it is.
#[derive(Debug)]
pub struct ClusterFolder {
    /// Absolute, without symlinks: all processes see the same path.
    home: PathBuf,
    account: Account,
}

impl ClusterFolder {
    /// Finds or makes the home below `data_dir`.
    pub async fn prepare(data_dir: &Path) -> Result<Self, PostgresError> {
        make_data_dir(data_dir)?;
        let data_dir = data_dir.canonicalize().map_err(failed("find", data_dir))?;
        // Before there is a home with a gate, two first starts must not both make one.
        let _making = Gate::take_file(&data_dir.join("jobql.lock")).await?;
        let link = data_dir.join("postgres");
        let account = Account::choose(&link.join("cluster"))?;
        let home = find_or_make_home(&link, &data_dir, account)?;
        let folder = Self { home, account };
        if !account.can_reach(&folder.home) {
            let problem = format!(
                "PostgreSQL runs as user {} and cannot pass through every folder above it; allow that \
                 (chmod o+x) or choose another --data-dir",
                account.uid()
            );
            return Err(PostgresError::Folder { path: folder.home, problem });
        }
        Ok(folder)
    }

    pub fn account(&self) -> Account {
        self.account
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    pub fn gate(&self) -> PathBuf {
        self.home.join("gate.lock")
    }

    pub fn holders(&self) -> PathBuf {
        self.home.join("holders.lock")
    }

    /// PostgreSQL's data folder.
    pub fn cluster(&self) -> PathBuf {
        self.home.join("cluster")
    }

    /// What the server says before its own log begins.
    pub fn start_log(&self) -> PathBuf {
        self.home.join("start.log")
    }

    /// Makes the folder for the socket, if it is not there.
    pub fn make_socket_folder(&self) -> Result<PathBuf, PostgresError> {
        let folder = self.socket_folder();
        self.make_private(&folder)?;
        Ok(folder)
    }

    fn socket_folder(&self) -> PathBuf {
        let hash = hash_of(&self.home);
        [self.home.join("socket"), std::env::temp_dir().join(format!("jobql-{hash}"))]
            .into_iter()
            .find(|folder| {
                let longest = folder.join(format!(".s.PGSQL.{SOCKET_PORT}"));
                longest.as_os_str().len() <= SOCKET_PATH_MAX
                    && self.account.can_reach(folder.parent().unwrap_or(folder))
            })
            .unwrap_or_else(|| Path::new("/tmp").join(format!("jobql-{hash}")))
    }

    /// Makes a folder of PostgreSQL's user with mode 0700, or sees that the one there is such: below /tmp
    /// anyone may have made it.
    pub fn make_private(&self, folder: &Path) -> Result<(), PostgresError> {
        match DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => return self.account.own(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(source) => return Err(failed("create", folder)(source)),
        }
        let found = std::fs::symlink_metadata(folder).map_err(failed("examine", folder))?;
        let own = nix::unistd::geteuid().as_raw();
        let private = |found: &Metadata| found.is_dir() && found.permissions().mode() & 0o077 == 0;
        if private(&found) && found.uid() == own && own != self.account.uid() {
            // Made by us, and we were killed before it was given away.
            return self.account.own(folder);
        }
        if private(&found) && found.uid() == self.account.uid() {
            return Ok(());
        }
        let problem = format!("it must be a folder of user {} with mode 0700; remove it", self.account.uid());
        Err(PostgresError::Folder { path: folder.to_owned(), problem })
    }
}

fn make_data_dir(data_dir: &Path) -> Result<(), PostgresError> {
    // Passable for PostgreSQL's user when we are root. What is private inside has a mode of its own.
    let mode = if nix::unistd::geteuid().is_root() { 0o711 } else { 0o700 };
    DirBuilder::new().recursive(true).mode(mode).create(data_dir).map_err(failed("create", data_dir))
}

/// `link` is the home, or a symlink to it.
fn find_or_make_home(link: &Path, data_dir: &Path, account: Account) -> Result<PathBuf, PostgresError> {
    let mode = if account == Account::Own { 0o700 } else { 0o711 };
    match std::fs::symlink_metadata(link) {
        Ok(_) => match link.canonicalize() {
            Ok(home) => return Ok(home),
            Err(source) if source.kind() == ErrorKind::NotFound => {
                let target = std::fs::read_link(link).unwrap_or_default();
                let problem = format!(
                    "it is a link to {}, which is gone; restore that, or remove the link to begin anew",
                    target.display()
                );
                return Err(PostgresError::Folder { path: link.to_owned(), problem });
            }
            Err(source) => return Err(failed("find", link)(source)),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(source) => return Err(failed("examine", link)(source)),
    }
    if account.can_reach(data_dir) {
        DirBuilder::new().mode(mode).create(link).map_err(failed("create", link))?;
        return Ok(link.to_owned());
    }
    let home = make_home_elsewhere(data_dir, mode)?;
    std::os::unix::fs::symlink(&home, link).map_err(failed("create", link))?;
    tracing::info!(
        folder = %home.display(),
        "PostgreSQL's user cannot pass through the data folder, so the data are kept elsewhere"
    );
    Ok(home)
}

/// Never one that exists: it could hold the data of a data folder that was removed.
fn make_home_elsewhere(data_dir: &Path, mode: u32) -> Result<PathBuf, PostgresError> {
    let name = format!("jobql-{}", hash_of(data_dir));
    let names = std::iter::once(name.clone()).chain((2..100).map(|n| format!("{name}-{n}")));
    let mut home = PathBuf::from(REACHABLE_BY_ALL);
    for name in names {
        home = Path::new(REACHABLE_BY_ALL).join(name);
        match DirBuilder::new().mode(mode).create(&home) {
            Ok(()) => return Ok(home),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(source) => return Err(failed("create", &home)(source)),
        }
    }
    let problem = "it and all others of its name exist; remove those of no use".to_owned();
    Err(PostgresError::Folder { path: home, problem })
}

fn hash_of(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_bytes());
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// Opens a file for writing that was not there before, in place of one that was.
///
/// The folder may belong to another user, who must not lead root's writing elsewhere by a link.
pub fn create_anew(path: &Path) -> Result<File, PostgresError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => return Err(failed("replace", path)(source)),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed("write", path))
}

/// Turns an IO error into ours: `.map_err(failed("create", &path))`.
pub fn failed(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PostgresError {
    move |source| PostgresError::Files { doing, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_data_folder_gets_a_short_socket_path() {
        let home = std::env::temp_dir().join("x".repeat(150));
        let folder = ClusterFolder { home, account: Account::Own };
        let socket = folder.socket_folder();
        assert!(socket.as_os_str().len() + ".s.PGSQL.5432".len() < SOCKET_PATH_MAX, "{socket:?}");
        assert_eq!(socket, folder.socket_folder());
    }

    #[test]
    fn a_socket_folder_that_others_can_enter_is_refused() {
        let home = std::env::temp_dir().join(format!("jobql-home-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&home).unwrap();
        let folder = ClusterFolder { home: home.clone(), account: Account::Own };
        let socket = folder.make_socket_folder().unwrap();
        assert_eq!(folder.make_socket_folder().unwrap(), socket);
        std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o755)).unwrap();
        assert!(folder.make_socket_folder().unwrap_err().to_string().contains("0700"));
        std::fs::remove_dir(&socket).unwrap();
        std::os::unix::fs::symlink("/tmp", &socket).unwrap();
        assert!(folder.make_socket_folder().is_err());
        std::fs::remove_dir_all(&home).unwrap();
    }
}
