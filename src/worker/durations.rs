//! How long attempts took, added up in memory and written every few seconds: what estimates are made from.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::store::Store;

/// Between two writes.
const WRITE_EVERY: Duration = Duration::from_secs(2);

/// What has not been written yet, by kind: attempts, and their seconds together.
#[derive(Debug, Default)]
pub(super) struct Durations {
    sums: Mutex<HashMap<String, (i32, f64)>>,
}

impl Durations {
    /// An attempt of this kind held its slot for so long.
    pub(super) fn add(&self, kind: &str, took: Duration) {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let (jobs, seconds) = match sums.get_mut(kind) {
            Some(sum) => sum,
            None => sums.entry(kind.to_owned()).or_default(),
        };
        *jobs = jobs.saturating_add(1);
        *seconds += took.as_secs_f64();
    }

    /// Writes now and then, until it is dropped.
    pub(super) async fn keep_writing(&self, store: &Store) {
        loop {
            tokio::time::sleep(WRITE_EVERY).await;
            self.write(store).await;
        }
    }

    /// Writes what there is. What cannot be written is not worth a second try: estimates live of what comes.
    async fn write(&self, store: &Store) {
        let sums = std::mem::take(&mut *self.sums.lock().unwrap_or_else(PoisonError::into_inner));
        if sums.is_empty() {
            return;
        }
        let sums = sums.into_iter().map(|(kind, (jobs, seconds))| (kind, jobs, seconds)).collect();
        if let Err(error) = store.add_durations(sums).await {
            tracing::debug!(error = %error, "durations were not written");
        }
    }
}
