//! Lists of jobs, newest first, by keyset: a page costs the same at any depth, and a walk sees every job that was
//! there throughout exactly once, because ids never change. A client's jobs are walked in `client_job`.

use chrono::{DateTime, Utc};
use entity::{JobStatus, client_job, job};
use sea_orm::sea_query::{Condition, Expr, ExprTrait, Order};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, Iterable, JoinType, PaginatorTrait, QueryFilter, QueryOrder,
    QueryResult, QuerySelect, QueryTrait, Select,
};
use uuid::Uuid;

use super::{Store, client_list, read, sight};
use crate::error::{Error, Result};
use crate::job::viewer::Viewer;

/// What a list is restricted to. `None` does not filter; an empty list matches nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobFilter {
    /// Any of these.
    pub ids: Option<Vec<Uuid>>,
    /// Any of these.
    pub status: Option<Vec<JobStatus>>,
    /// Submitted by.
    pub client_id: Option<String>,
    /// Any of these.
    pub kind: Option<Vec<String>>,
    /// Any of these.
    pub queue: Option<Vec<String>>,
    /// Part of.
    pub workflow_id: Option<Uuid>,
    /// Exclusive.
    pub created_after: Option<DateTime<Utc>>,
    /// Exclusive.
    pub created_before: Option<DateTime<Utc>>,
}

/// Which part of a list, and what of its jobs. Positions are job ids.
#[derive(Clone, Debug)]
pub struct Page {
    /// Only what comes after this job, which is older.
    pub after: Option<Uuid>,
    /// Only what comes before this job, which is newer.
    pub before: Option<Uuid>,
    /// At most this many.
    pub limit: u64,
    /// From which end they are taken.
    pub from: PageEnd,
    /// The columns to read, beside the id; the others of each job are empty then. None reads all of them, payloads and
    /// results too.
    pub columns: Option<Vec<job::Column>>,
}

/// The end of a list that a page is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageEnd {
    /// `first`: the newest.
    Newest,
    /// `last`: the oldest.
    Oldest,
}

/// A page of jobs, newest first.
#[derive(Clone, Debug)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<job::Model>,
    /// Whether older ones follow.
    pub next: Beyond,
    /// Whether newer ones precede.
    pub previous: Beyond,
}

/// Whether jobs that match lie beyond an end of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// Known.
    Known(bool),
    /// To be looked for from here on, as a cursor cut the page off here. Few ask for it, and it is a read of its own:
    /// [`Store::lies_beyond`].
    Newer(Uuid),
    /// The same towards the older ones.
    Older(Uuid),
}

impl Store {
    /// A page of the jobs that match.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn list_jobs(&self, viewer: &Viewer, filter: &JobFilter, page: &Page) -> Result<JobPage> {
        let mut matching = Matching::of(viewer, filter);
        if let Some(after) = page.after {
            matching = matching.where_id(|id| id.lt(after));
        }
        if let Some(before) = page.before {
            matching = matching.where_id(|id| id.gt(before));
        }
        let order = match page.from {
            PageEnd::Newest => Order::Desc,
            PageEnd::Oldest => Order::Asc,
        };
        // One more than asked for tells whether there are more.
        let query = matching.first(page.limit + 1, order);
        let columns: Vec<job::Column> = match &page.columns {
            Some(columns) => {
                let beside_the_id =
                    columns.iter().copied().filter(|column| !matches!(column, job::Column::Id));
                std::iter::once(job::Column::Id).chain(beside_the_id).collect()
            }
            None => job::Column::iter().collect(),
        };
        let query = query.select_only().columns(columns.iter().copied());
        let rows = self.orm.query_all(&query.into_query()).await.map_err(failed)?;
        // Read as everywhere: by the entity, one job with a column that cannot be read would hide the page.
        let places = read::Places::of(&columns);
        let rows = rows.iter().filter_map(QueryResult::try_as_pg_row).map(|row| places.job(row));
        let read: sqlx::Result<Vec<job::Model>> = rows.collect();
        let mut jobs = read.map_err(|source| Error::database("list jobs", source))?;
        let more = jobs.len() as u64 > page.limit;
        if more {
            jobs.pop();
        }
        if page.from == PageEnd::Oldest {
            jobs.reverse();
        }
        // On the other side there can be some only where a cursor cut them off.
        let cut_off =
            |cursor: Option<Uuid>, beyond: fn(Uuid) -> Beyond| cursor.map_or(Beyond::Known(false), beyond);
        let (next, previous) = match page.from {
            PageEnd::Newest => (Beyond::Known(more), cut_off(page.after, Beyond::Newer)),
            PageEnd::Oldest => (cut_off(page.before, Beyond::Older), Beyond::Known(more)),
        };
        Ok(JobPage { jobs, next, previous })
    }

    /// Whether jobs that match lie beyond an end of a page.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn lies_beyond(&self, viewer: &Viewer, filter: &JobFilter, beyond: Beyond) -> Result<bool> {
        let matching = || Matching::of(viewer, filter);
        // The cursor's own job is the first. In any order it was seen to read the table from its beginning.
        let nearest = match beyond {
            Beyond::Known(known) => return Ok(known),
            Beyond::Newer(cursor) => matching().where_id(|id| id.gte(cursor)).first(1, Order::Asc),
            Beyond::Older(cursor) => matching().where_id(|id| id.lte(cursor)).first(1, Order::Desc),
        };
        let found: Option<Uuid> = nearest
            .select_only()
            .column(job::Column::Id)
            .into_tuple()
            .one(&self.orm)
            .await
            .map_err(failed)?;
        Ok(found.is_some())
    }

    /// How many jobs match.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn count_jobs(&self, viewer: &Viewer, filter: &JobFilter) -> Result<u64> {
        if *viewer == Viewer::Operator
            && let Some(jobs) = self.count_in_ledger(filter).await?
        {
            return Ok(jobs);
        }
        let counted = match Matching::of(viewer, filter) {
            Matching::List { list, .. } => list.count(&self.orm).await,
            Matching::Jobs(query) | Matching::JobsOfList(query) => query.count(&self.orm).await,
        };
        counted.map_err(failed)
    }
}

fn failed(source: sea_orm::DbErr) -> Error {
    Error::orm("list jobs", source)
}

/// What matches.
enum Matching {
    /// All that is in a client's list. It is counted and cut to a page before the jobs are looked at.
    List { list: Select<client_job::Entity>, of_client: Condition },
    /// Some of a client's list, which is joined.
    JobsOfList(Select<job::Entity>),
    /// Jobs that are found in the table itself.
    Jobs(Select<job::Entity>),
}

impl Matching {
    fn of(viewer: &Viewer, filter: &JobFilter) -> Matching {
        let named = filter.client_id.as_ref();
        let of_client = named.map(|named| job::Column::ClientId.eq(named));
        let of_client = sight::condition(viewer).add_option(of_client);
        if !client_list::is_walked(viewer, filter) {
            return Matching::Jobs(of_filter(job::Entity::find().filter(of_client), filter));
        }
        let own = match viewer {
            Viewer::Client(own) => Some(own),
            Viewer::Operator | Viewer::Worker(_) => None,
        };
        let entries =
            own.into_iter().chain(named).map(|client_id| client_job::Column::ClientId.eq(client_id));
        let entries = entries.fold(Condition::all(), Condition::add);
        let by_client_alone = JobFilter { client_id: filter.client_id.clone(), ..JobFilter::default() };
        if *filter == by_client_alone && !matches!(viewer, Viewer::Worker(_)) {
            let list = client_job::Entity::find().filter(entries);
            return Matching::List { list, of_client };
        }
        let entry =
            job::Entity::belongs_to(client_job::Entity).from(job::Column::Id).to(client_job::Column::JobId);
        let query = job::Entity::find().join(JoinType::InnerJoin, entry.into()).filter(entries);
        let checked = sight::check(viewer).add_option(named.map(|named| sight::is_of(named)));
        Matching::JobsOfList(of_filter(query.filter(checked), filter))
    }

    /// Those whose id is so. Where two tables are joined it is said of both: PostgreSQL concludes nothing from one id for the
    /// other, and was seen to walk the table that it had not been told of from its beginning.
    fn where_id(self, is_so: impl Fn(Expr) -> Expr) -> Matching {
        let (of_job, of_entry) =
            (is_so(job::Column::Id.into_expr()), is_so(client_job::Column::JobId.into_expr()));
        match self {
            Matching::List { list, of_client } => Matching::List { list: list.filter(of_entry), of_client },
            Matching::JobsOfList(query) => Matching::JobsOfList(query.filter(of_job).filter(of_entry)),
            Matching::Jobs(query) => Matching::Jobs(query.filter(of_job)),
        }
    }

    /// The jobs that come first in this order of ids.
    fn first(self, limit: u64, order: Order) -> Select<job::Entity> {
        let query = match self {
            Matching::List { list, of_client } => {
                let ids = list.select_only().column(client_job::Column::JobId);
                let ids = ids.order_by(client_job::Column::JobId, order.clone()).limit(limit).into_query();
                job::Entity::find().filter(of_client).filter(job::Column::Id.in_subquery(ids))
            }
            Matching::JobsOfList(query) | Matching::Jobs(query) => query,
        };
        query.order_by(job::Column::Id, order).limit(limit)
    }
}

/// Those that the filter leaves, beside the client.
fn of_filter(mut query: Select<job::Entity>, filter: &JobFilter) -> Select<job::Entity> {
    if let Some(ids) = &filter.ids {
        query = query.filter(job::Column::Id.is_in(ids.iter().copied()));
    }
    if let Some(status) = &filter.status {
        query = query.filter(job::Column::Status.is_in(status.iter().copied()));
    }
    if let Some(kind) = &filter.kind {
        query = query.filter(job::Column::Kind.is_in(kind));
    }
    if let Some(queue) = &filter.queue {
        query = query.filter(job::Column::Queue.is_in(queue));
    }
    if let Some(workflow_id) = filter.workflow_id {
        query = query.filter(job::Column::WorkflowId.eq(workflow_id));
    }
    if let Some(after) = filter.created_after {
        query = query.filter(job::Column::CreatedAt.gt(after));
    }
    if let Some(before) = filter.created_before {
        query = query.filter(job::Column::CreatedAt.lt(before));
    }
    query
}
