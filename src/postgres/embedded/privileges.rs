//! As whom PostgreSQL runs: as ourselves, or, since it refuses to run as root, as an unprivileged user.
//!
//! A child of root runs as the owner of the cluster, if there is one already, else as `postgres`, else as
//! `nobody`. It needs to pass through every folder above the cluster, which the home of root often forbids.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::unistd::{Gid, Uid, User, chown, geteuid};
use tokio::process::Command;

use crate::postgres::PostgresError;

/// The user that owns the cluster and runs PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// The user of this process.
    Own,
    /// Another one; this process is root.
    Other { uid: Uid, gid: Gid },
}

impl Account {
    /// The owner of `cluster` if that exists, else the one to give it to.
    pub fn choose(cluster: &Path) -> Result<Self, PostgresError> {
        let refused = |problem: String| PostgresError::Folder { path: cluster.to_owned(), problem };
        let owner = std::fs::metadata(cluster).ok().map(|found| (found.uid(), found.gid()));
        let own = geteuid();
        if !own.is_root() {
            return match owner {
                Some((uid, _)) if uid != own.as_raw() => {
                    Err(refused(format!("it belongs to user {uid}; start jobql as that user or as root")))
                }
                _ => Ok(Self::Own),
            };
        }
        if let Some((uid, gid)) = owner.filter(|(uid, _)| *uid != 0) {
            return Ok(Self::Other { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid) });
        }
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Self::Other { uid: user.uid, gid: user.gid })
            .ok_or_else(|| {
                refused("PostgreSQL does not run as root, and there is no user postgres or nobody".into())
            })
    }

    /// The user id that files of the cluster must have.
    pub fn uid(self) -> u32 {
        match self {
            Self::Own => geteuid().as_raw(),
            Self::Other { uid, .. } => uid.as_raw(),
        }
    }

    /// Gives `path` to this user.
    pub fn own(self, path: &Path) -> Result<(), PostgresError> {
        let Self::Other { uid, gid } = self else { return Ok(()) };
        chown(path, Some(uid), Some(gid)).map_err(|errno| PostgresError::Files {
            doing: "change the owner of",
            path: path.to_owned(),
            source: errno.into(),
        })
    }

    /// Makes `command` run as this user, without the supplementary groups of root.
    pub fn drop_to(self, command: &mut Command) {
        if let Self::Other { uid, gid } = self {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
    }

    /// Whether this user can pass through `folder` and all that are above it. Goes by owner, group and mode;
    /// an access control list that allows more is not seen.
    pub fn can_reach(self, folder: &Path) -> bool {
        let Self::Other { uid, gid } = self else { return true };
        let Ok(folder) = folder.canonicalize() else { return false };
        folder.ancestors().all(|ancestor| {
            std::fs::metadata(ancestor).is_ok_and(|found| {
                let bit = match () {
                    () if found.uid() == uid.as_raw() => 0o100,
                    () if found.gid() == gid.as_raw() => 0o010,
                    () => 0o001,
                };
                found.permissions().mode() & bit != 0
            })
        })
    }
}
