//! The types `JobConnection`, `JobEdge` and `PageInfo`, and the rules of paging.

use std::sync::Arc;

use async_graphql::{Context, Object, Result, SimpleObject};
use entity::job;

use super::Parts;
use super::cursor::CursorSeal;
use super::job::Job;
use super::queue_position::int;
use crate::error::{self, Error};
use crate::job::viewer::Viewer;
use crate::store::list::{JobFilter, JobPage, Page, PageEnd};

/// Jobs of a page when neither `first` nor `last` is given.
const DEFAULT_PAGE: i32 = 50;
/// Largest page.
const MAX_PAGE: i32 = 200;

/// The arguments that every connection takes.
#[derive(Clone, Debug, Default)]
pub struct Paging {
    /// How many, from the start.
    pub first: Option<i32>,
    /// Only what comes after this cursor.
    pub after: Option<String>,
    /// How many, from the end.
    pub last: Option<i32>,
    /// Only what comes before this cursor.
    pub before: Option<String>,
}

impl Paging {
    /// The page that is asked for, of the list with this seal.
    ///
    /// # Errors
    /// `InvalidInput` naming the argument and its range.
    pub fn page(&self, seal: &CursorSeal) -> error::Result<Page> {
        let (argument, size, from) = match (self.first, self.last) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid("last", "stands with first; only one of them is allowed"));
            }
            (None, Some(last)) => ("last", last, PageEnd::Oldest),
            (first, None) => ("first", first.unwrap_or(DEFAULT_PAGE), PageEnd::Newest),
        };
        let limit = u64::try_from(size).ok().filter(|_| (1..=MAX_PAGE).contains(&size));
        let limit =
            limit.ok_or_else(|| Error::invalid(argument, format!("{size} is not within 1 to {MAX_PAGE}")))?;
        let position = |argument: &str, cursor: &Option<String>| {
            cursor.as_ref().map(|cursor| seal.job_id(argument, cursor)).transpose()
        };
        Ok(Page {
            after: position("after", &self.after)?,
            before: position("before", &self.before)?,
            limit,
            from,
        })
    }
}

/// What a page costs: one read, and each of its jobs' own costs. A size out of range is refused later.
pub fn page_complexity(first: Option<i32>, last: Option<i32>, of_one: usize) -> usize {
    let size = first.or(last).unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
    of_one.saturating_mul(size.unsigned_abs() as usize).saturating_add(1)
}

/// A page of a list of jobs.
pub struct JobConnection {
    jobs: Vec<Arc<job::Model>>,
    has_next: bool,
    has_previous: bool,
    filter: JobFilter,
    seal: CursorSeal,
}

impl JobConnection {
    /// The page of the list that `filter` gives.
    pub fn new(page: JobPage, filter: JobFilter, seal: CursorSeal) -> JobConnection {
        let JobPage { jobs, has_next, has_previous } = page;
        JobConnection { jobs: jobs.into_iter().map(Arc::new).collect(), has_next, has_previous, filter, seal }
    }
}

/// A page of a list of jobs.
#[Object]
impl JobConnection {
    /// The jobs, each with its cursor.
    #[graphql(complexity = "child_complexity")]
    async fn edges(&self) -> Vec<JobEdge> {
        let jobs = self.jobs.iter();
        jobs.map(|job| JobEdge { cursor: self.seal.cursor(job.id), node: job.clone().into() }).collect()
    }

    /// The jobs.
    #[graphql(complexity = "child_complexity")]
    async fn nodes(&self) -> Vec<Job> {
        self.jobs.iter().map(|job| job.clone().into()).collect()
    }

    /// What lies around this page.
    #[graphql(complexity = 0)]
    async fn page_info(&self) -> PageInfo {
        PageInfo {
            has_next_page: self.has_next,
            has_previous_page: self.has_previous,
            start_cursor: self.jobs.first().map(|job| self.seal.cursor(job.id)),
            end_cursor: self.jobs.last().map(|job| self.seal.cursor(job.id)),
        }
    }

    /// Jobs that match, before paging; counted only when asked for.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<i32> {
        let count = ctx.data::<Parts>()?.store.count_jobs(ctx.data::<Viewer>()?, &self.filter).await?;
        Ok(int(i64::try_from(count).unwrap_or(i64::MAX)))
    }
}

/// A job in a list.
#[derive(Clone, Debug, SimpleObject)]
pub struct JobEdge {
    /// The job.
    #[graphql(complexity = "child_complexity")]
    node: Job,
    /// Its place in the list, for after and before.
    #[graphql(complexity = 0)]
    cursor: String,
}

/// What lies around a page.
#[derive(Clone, Debug, SimpleObject)]
pub struct PageInfo {
    /// Older ones follow.
    #[graphql(complexity = 0)]
    has_next_page: bool,
    /// Newer ones precede.
    #[graphql(complexity = 0)]
    has_previous_page: bool,
    /// Cursor of the first one; null on an empty page.
    #[graphql(complexity = 0)]
    start_cursor: Option<String>,
    /// Cursor of the last one; null on an empty page.
    #[graphql(complexity = 0)]
    end_cursor: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(first: Option<i32>, last: Option<i32>) -> error::Result<Page> {
        let seal = CursorSeal::of(&Viewer::Operator, &JobFilter::default());
        Paging { first, last, ..Paging::default() }.page(&seal)
    }

    #[test]
    fn the_size_is_1_to_200_and_50_when_not_given() {
        assert_eq!(page(None, None).unwrap().limit, 50);
        assert_eq!(page(Some(200), None).unwrap().from, PageEnd::Newest);
        assert_eq!(page(None, Some(1)).unwrap().from, PageEnd::Oldest);
        for (first, last, named) in [
            (Some(0), None, "first"),
            (Some(-1), None, "first"),
            (Some(201), None, "first"),
            (None, Some(0), "last"),
            (None, Some(201), "last"),
            (Some(1), Some(1), "last"),
        ] {
            let error = page(first, last).unwrap_err();
            assert!(
                matches!(error, Error::InvalidInput { field, .. } if field == named),
                "{first:?} {last:?}"
            );
        }
    }

    #[test]
    fn a_page_costs_its_size_times_a_job() {
        assert_eq!(page_complexity(None, None, 2), 101);
        assert_eq!(page_complexity(Some(10), None, 2), 21);
        assert_eq!(page_complexity(Some(-7), None, 2), 3);
        assert_eq!(page_complexity(None, Some(i32::MAX), 2), 401);
    }
}
