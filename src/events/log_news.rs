//! Who is to be told that a job's log has grown. News carry nothing: the log is read again from where the reader is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use uuid::Uuid;

/// The readers of logs, by job.
#[derive(Debug, Default)]
pub(super) struct LogNews {
    readers: Mutex<HashMap<Uuid, watch::Sender<()>>>,
}

/// A reader's place on the list, given up when dropped.
pub(super) struct LogReader {
    news: Arc<LogNews>,
    id: Uuid,
    receiver: Option<watch::Receiver<()>>,
}

impl LogNews {
    /// Puts a reader on the list. Do it before reading: what is appended later is then told.
    pub(super) fn read(self: &Arc<LogNews>, id: Uuid) -> LogReader {
        let receiver = Some(self.lock().entry(id).or_default().subscribe());
        LogReader { news: self.clone(), id, receiver }
    }

    /// The job's log may have grown.
    pub(super) fn tell(&self, id: Uuid) {
        if let Some(sender) = self.lock().get(&id) {
            sender.send_replace(());
        }
    }

    /// Every log may have grown.
    pub(super) fn tell_all(&self) {
        self.lock().values().for_each(|sender| sender.send_replace(()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, watch::Sender<()>>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogReader {
    /// Returns when there may be news since it returned last.
    pub(super) async fn told(&mut self) {
        if let Some(receiver) = &mut self.receiver
            && receiver.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        self.receiver = None;
        let mut readers = self.news.lock();
        if readers.get(&self.id).is_some_and(|sender| sender.receiver_count() == 0) {
            readers.remove(&self.id);
        }
    }
}
