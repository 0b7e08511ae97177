//! A private folder for one attempt, removed with all that is in it.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

/// Programs that were just killed may still be making files: removal is tried so often, with a pause in between.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// The folder; removed when this is dropped.
#[derive(Debug)]
pub(super) struct TempFolder {
    path: PathBuf,
    removed: bool,
}

impl TempFolder {
    /// Makes it in the system's folder for temporary files, for this user only.
    pub(super) fn make() -> io::Result<TempFolder> {
        let path = std::env::temp_dir().join(format!("jobql-{}", Uuid::new_v4()));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(TempFolder { path, removed: false })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it and waits until that is done.
    pub(super) async fn remove(mut self) {
        let path = self.path.clone();
        // Only a runtime that shuts down refuses; the drop then removes it.
        self.removed = tokio::task::spawn_blocking(move || remove(&path)).await.is_ok();
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        if self.removed {
            return;
        }
        // Not here: a task that is being dropped must not hold up its thread. Nor in the runtime, which may be what is
        // being dropped.
        let path = self.path.clone();
        let removing =
            std::thread::Builder::new().name("jobql-remover".to_owned()).spawn(move || remove(&path));
        if removing.is_err() {
            remove(&self.path);
        }
    }
}

fn remove(path: &Path) {
    let mut outcome = Ok(());
    for _ in 0..TRIES {
        outcome = std::fs::remove_dir_all(path);
        match &outcome {
            Ok(()) => return,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
    if let Err(error) = outcome {
        tracing::warn!(folder = %path.display(), %error, "a temporary folder could not be removed");
    }
}
