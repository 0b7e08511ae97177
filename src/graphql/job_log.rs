//! The types `JobLogConnection` and `JobLogLine`, and the enum `LogStream`.

use async_graphql::{Enum, SimpleObject};
use entity::job_log;

use super::cursor::CursorSeal;
use super::date_time::DateTime;
use super::job_connection::PageInfo;
use crate::store::log::LogPlace;

/// A page of a job's log, oldest first.
#[derive(Clone, Debug, SimpleObject)]
pub struct JobLogConnection {
    /// The lines.
    #[graphql(complexity = 0)]
    nodes: Vec<JobLogLine>,
    /// What lies around this page.
    #[graphql(complexity = 0)]
    page_info: PageInfo,
}

/// A line that an attempt printed.
#[derive(Clone, Debug, SimpleObject)]
pub struct JobLogLine {
    /// When the worker saw it.
    #[graphql(complexity = 0)]
    at: DateTime,
    /// The attempt, as number in attempts.
    #[graphql(complexity = 0)]
    attempt: i32,
    /// Where it came from.
    #[graphql(complexity = 0)]
    stream: LogStream,
    /// The line, without its end; at most 4 KiB.
    #[graphql(complexity = 0)]
    text: String,
}

/// Where a line of a log came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "job_log::LogStream")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// jobql itself.
    System,
}

impl From<job_log::Model> for JobLogLine {
    fn from(line: job_log::Model) -> JobLogLine {
        JobLogLine {
            at: line.at.into(),
            attempt: line.lease_epoch,
            stream: line.stream.into(),
            text: line.text,
        }
    }
}

impl JobLogConnection {
    /// The page of at most `size` lines; one more than that says that there are more.
    pub fn new(mut lines: Vec<job_log::Model>, size: usize, has_previous: bool, seal: CursorSeal) -> Self {
        let has_next = lines.len() > size;
        lines.truncate(size);
        let cursor = |line: Option<&job_log::Model>| line.map(|line| seal.line_cursor(LogPlace::of(line)));
        let page_info = PageInfo::known(has_next, has_previous, cursor(lines.first()), cursor(lines.last()));
        JobLogConnection { nodes: lines.into_iter().map(JobLogLine::from).collect(), page_info }
    }
}
