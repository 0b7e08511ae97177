//! The types `JobConnection`, `JobEdge` and `PageInfo`, and the rules of paging.

use std::sync::Arc;

use async_graphql::{Context, ContextSelectionSet, Object, Result, SimpleObject, Value};
use entity::job;

use super::Parts;
use super::at_once::{self, AtOnce, Items};
use super::cursor::CursorSeal;
use super::job::Job;
use super::queue_position::int;
use crate::error::{self, Error};
use crate::job::viewer::Viewer;
use crate::store::dependency::NeighbourRequest;
use crate::store::list::{Beyond, JobFilter, JobPage, Page, PageEnd};
use crate::store::queue::{Turn, UpcomingRequest};

/// Jobs of a page when neither `first` nor `last` is given.
pub const DEFAULT_PAGE: i32 = 50;
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
    /// The page that is asked for, of the list with this seal, with these columns of its jobs.
    ///
    /// # Errors
    /// `InvalidInput` naming the argument and its range.
    pub fn page(&self, seal: &CursorSeal, columns: Option<Vec<job::Column>>) -> error::Result<Page> {
        let (argument, size, from) = match (self.first, self.last) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid("last", "stands with first; only one of them is allowed"));
            }
            (None, Some(last)) => ("last", last, PageEnd::Oldest),
            (first, None) => ("first", first.unwrap_or(DEFAULT_PAGE), PageEnd::Newest),
        };
        let limit = u64::from(page_size(argument, size)?);
        let position = |argument: &str, cursor: &Option<String>| {
            cursor.as_ref().map(|cursor| seal.job_id(argument, cursor)).transpose()
        };
        Ok(Page {
            after: position("after", &self.after)?,
            before: position("before", &self.before)?,
            limit,
            from,
            columns,
        })
    }
}

/// The size of a page, 1 to 200.
///
/// # Errors
/// `InvalidInput` naming the argument.
pub fn page_size(argument: &str, size: i32) -> error::Result<u32> {
    let allowed = u32::try_from(size).ok().filter(|_| (1..=MAX_PAGE).contains(&size));
    allowed.ok_or_else(|| Error::invalid(argument, format!("{size} is not within 1 to {MAX_PAGE}")))
}

/// What a page costs: one read, and each of its jobs' own costs. A size out of range is refused later.
pub fn page_complexity(first: Option<i32>, last: Option<i32>, of_one: usize) -> usize {
    let size = first.or(last).unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
    of_one.saturating_mul(size.unsigned_abs() as usize).saturating_add(1)
}

/// A page of a list of jobs.
pub struct JobConnection {
    jobs: Vec<Arc<job::Model>>,
    next: Beyond,
    previous: Beyond,
    seal: CursorSeal,
    list: List,
}

/// The list that a page is of.
enum List {
    /// Newest first.
    Newest(JobFilter),
    /// A queue's pending jobs in claim order.
    Upcoming(UpcomingRequest),
    /// What a job depends on, or what depends on it.
    Neighbours(NeighbourRequest),
}

impl JobConnection {
    /// The page of the list that `filter` gives.
    pub fn new(page: JobPage, filter: JobFilter, seal: CursorSeal) -> JobConnection {
        let JobPage { jobs, next, previous } = page;
        let jobs = jobs.into_iter().map(Arc::new).collect();
        JobConnection { jobs, next, previous, seal, list: List::Newest(filter) }
    }

    /// The page of a queue's pending jobs that `request` asked for.
    pub fn upcoming(
        (jobs, has_next): (Vec<job::Model>, bool),
        request: UpcomingRequest,
        seal: CursorSeal,
    ) -> Self {
        let jobs = jobs.into_iter().map(Arc::new).collect();
        JobConnection {
            jobs,
            next: Beyond::Known(has_next),
            previous: Beyond::Known(request.after.is_some()),
            seal,
            list: List::Upcoming(request),
        }
    }

    /// The page of a job's neighbours that `request` asked for, with one more where there are more.
    pub fn neighbours(mut jobs: Vec<Arc<job::Model>>, request: NeighbourRequest, seal: CursorSeal) -> Self {
        let limit = usize::try_from(request.limit - 1).unwrap_or_default();
        let next = Beyond::Known(jobs.len() > limit);
        jobs.truncate(limit);
        let previous = Beyond::Known(request.after.is_some());
        JobConnection { jobs, next, previous, seal, list: List::Neighbours(request) }
    }

    fn cursor(&self, job: &job::Model) -> String {
        match self.list {
            List::Newest(_) | List::Neighbours(_) => self.seal.cursor(job.id),
            List::Upcoming(_) => self.seal.turn_cursor(Turn { level: job.level, seq: job.seq }),
        }
    }
}

/// A page of a list of jobs.
#[Object]
impl JobConnection {
    /// The jobs, each with its cursor.
    #[graphql(complexity = "child_complexity")]
    async fn edges(&self) -> Items<JobEdge> {
        let jobs = self.jobs.iter();
        jobs.map(|job| JobEdge { cursor: self.cursor(job), node: job.clone().into() }).collect()
    }

    /// The jobs.
    #[graphql(complexity = "child_complexity")]
    async fn nodes(&self) -> Items<Job> {
        self.jobs.iter().map(|job| job.clone().into()).collect()
    }

    /// What lies around this page.
    #[graphql(complexity = "child_complexity")]
    async fn page_info(&self) -> PageInfo {
        let filter = match &self.list {
            List::Newest(filter) => filter.clone(),
            // What lies beyond theirs is known.
            List::Upcoming(_) | List::Neighbours(_) => JobFilter::default(),
        };
        PageInfo {
            filter,
            next: self.next,
            previous: self.previous,
            start_cursor: self.jobs.first().map(|job| self.cursor(job)),
            end_cursor: self.jobs.last().map(|job| self.cursor(job)),
        }
    }

    /// Jobs that match, before paging; counted only when asked for.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<i32> {
        let store = &ctx.data::<Parts>()?.store;
        let count = match &self.list {
            List::Newest(filter) => {
                let count = store.count_jobs(ctx.data::<Viewer>()?, filter).await?;
                i64::try_from(count).unwrap_or(i64::MAX)
            }
            List::Upcoming(request) => store.count_upcoming(&request.queue, &request.except_kinds).await?,
            List::Neighbours(request) => {
                store.count_neighbours(ctx.data::<Viewer>()?, request.job_id, request.direction).await?
            }
        };
        Ok(int(count))
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

impl AtOnce for JobEdge {
    fn resolve_at_once(&self, ctx: &ContextSelectionSet<'_>) -> Option<Value> {
        at_once::object::<JobEdge>(ctx, |field| match field.node.name.node.as_str() {
            "node" => self.node.resolve_at_once(&ctx.with_selection_set(&field.node.selection_set)),
            "cursor" => Some(Value::from(self.cursor.as_str())),
            _ => None,
        })
    }
}

/// What lies around a page.
#[derive(Clone, Debug)]
pub struct PageInfo {
    filter: JobFilter,
    next: Beyond,
    previous: Beyond,
    start_cursor: Option<String>,
    end_cursor: Option<String>,
}

impl PageInfo {
    /// Of a page whose neighbours are known.
    pub fn known(
        next: bool,
        previous: bool,
        start_cursor: Option<String>,
        end_cursor: Option<String>,
    ) -> Self {
        let (next, previous) = (Beyond::Known(next), Beyond::Known(previous));
        PageInfo { filter: JobFilter::default(), next, previous, start_cursor, end_cursor }
    }

    async fn lies(&self, ctx: &Context<'_>, beyond: Beyond) -> Result<bool> {
        let store = &ctx.data::<Parts>()?.store;
        Ok(store.lies_beyond(ctx.data::<Viewer>()?, &self.filter, beyond).await?)
    }
}

/// What lies around a page.
#[Object]
impl PageInfo {
    /// More follow.
    async fn has_next_page(&self, ctx: &Context<'_>) -> Result<bool> {
        self.lies(ctx, self.next).await
    }

    /// Some precede.
    async fn has_previous_page(&self, ctx: &Context<'_>) -> Result<bool> {
        self.lies(ctx, self.previous).await
    }

    /// Cursor of the first one; null on an empty page.
    #[graphql(complexity = 0)]
    async fn start_cursor(&self) -> Option<&str> {
        self.start_cursor.as_deref()
    }

    /// Cursor of the last one; null on an empty page.
    #[graphql(complexity = 0)]
    async fn end_cursor(&self) -> Option<&str> {
        self.end_cursor.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(first: Option<i32>, last: Option<i32>) -> error::Result<Page> {
        let seal = CursorSeal::of(&Viewer::Operator, &JobFilter::default());
        Paging { first, last, ..Paging::default() }.page(&seal, None)
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
