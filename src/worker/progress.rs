//! Progress of a running job: handlers report as often as they like, the database hears the latest at most four
//! times a second.
//!
//! A report replaces what waits of the one before it, so a handler is never slowed down and memory is constant.
//! Nothing is written after the end of the attempt: the writer is dropped with the handler, and the fence of
//! `report_progress_if_leased` refuses what was already on its way. The last reports of an attempt may therefore
//! never be seen; its end says more.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Between two writes about one job. Each is a new version of the job, announced to all who watch it.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest message that is kept, in characters; the rest is cut.
const MAX_MESSAGE_CHARS: usize = 500;

/// How far a handler says it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// 0 to 1.
    pub fraction: Option<f64>,
    /// For people; holds no NUL.
    pub message: Option<String>,
}

/// Where a handler reports. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ProgressReporter {
    latest: Arc<Latest>,
}

#[derive(Debug, Default)]
struct Latest {
    report: Mutex<Option<Report>>,
    news: Notify,
}

impl ProgressReporter {
    /// Says how far the job is; returns at once. A part that is `None` stays as it was, a fraction that is not from 0
    /// to 1 is brought there, and one that is no number counts as `None`.
    pub fn report(&self, fraction: Option<f64>, message: Option<String>) {
        let fraction =
            fraction.filter(|fraction| !fraction.is_nan()).map(|fraction| fraction.clamp(0.0, 1.0));
        let message = message.map(storable);
        let mut waiting = self.latest.report.lock().unwrap_or_else(PoisonError::into_inner);
        let before = waiting.take().unwrap_or_default();
        *waiting =
            Some(Report { fraction: fraction.or(before.fraction), message: message.or(before.message) });
        drop(waiting);
        self.latest.news.notify_one();
    }

    /// What is reported, for the one who writes it down.
    pub(super) fn reports(&self) -> Reports {
        Reports { latest: self.latest.clone(), not_before: Instant::now() }
    }
}

/// The reports that are worth being written.
#[derive(Debug)]
pub(super) struct Reports {
    latest: Arc<Latest>,
    not_before: Instant,
}

impl Reports {
    /// The latest report, once there is a new one and the pause after the one before it is over.
    pub(super) async fn next(&mut self) -> Report {
        loop {
            self.latest.news.notified().await;
            tokio::time::sleep_until(self.not_before).await;
            if let Some(report) = self.latest.take() {
                self.not_before = Instant::now() + PAUSE;
                return report;
            }
        }
    }
}

impl Latest {
    fn take(&self) -> Option<Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// PostgreSQL refuses NUL.
fn storable(message: String) -> String {
    message.chars().take(MAX_MESSAGE_CHARS).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_many_reports_few_are_written_and_the_latest_is_among_them() {
        let progress = ProgressReporter::default();
        let started = Instant::now();
        let mut reports = progress.reports();
        let mut written = Vec::new();
        let handler = tokio::spawn(async move {
            for step in 0..=10_000_u32 {
                progress.report(Some(f64::from(step) / 10_000.0), None);
                tokio::task::yield_now().await;
            }
        });
        // A writer that forgets the latest lets the deadline pass.
        while written.last() != Some(&1.0) {
            let report = tokio::time::timeout(Duration::from_secs(10), reports.next()).await.unwrap();
            written.push(report.fraction.unwrap());
        }
        handler.await.unwrap();
        let most = 1 + started.elapsed().as_millis() / PAUSE.as_millis();
        assert!(written.len() as u128 <= most, "{} writes", written.len());
        assert!(written.is_sorted());
    }

    #[test]
    fn a_report_keeps_what_it_does_not_name_and_is_fit_to_be_stored() {
        let progress = ProgressReporter::default();
        progress.report(Some(7.0), Some("a\0b".to_owned()));
        progress.report(Some(f64::NAN), None);
        let kept = Report { fraction: Some(1.0), message: Some("a\u{fffd}b".to_owned()) };
        assert_eq!(progress.latest.take(), Some(kept));
        assert_eq!(progress.latest.take(), None);
    }
}
