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

use super::{Store, read, sight};
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
        let Matching { mut query, id } = matching(viewer, filter);
        if let Some(after) = page.after {
            query = query.filter(id.clone().lt(after));
        }
        if let Some(before) = page.before {
            query = query.filter(id.clone().gt(before));
        }
        let order = match page.from {
            PageEnd::Newest => Order::Desc,
            PageEnd::Oldest => Order::Asc,
        };
        query = query.order_by(id, order);
        let columns: Vec<job::Column> = match &page.columns {
            Some(columns) => {
                let beside_the_id =
                    columns.iter().copied().filter(|column| !matches!(column, job::Column::Id));
                std::iter::once(job::Column::Id).chain(beside_the_id).collect()
            }
            None => job::Column::iter().collect(),
        };
        let query = query.select_only().columns(columns.iter().copied());
        // One more than asked for tells whether there are more.
        let rows = self.orm.query_all(&query.limit(page.limit + 1).into_query()).await.map_err(failed)?;
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
        let Matching { query, id } = matching(viewer, filter);
        let (is_beyond, nearest_first) = match beyond {
            Beyond::Known(known) => return Ok(known),
            // The cursor's own job is the first.
            Beyond::Newer(cursor) => (id.clone().gte(cursor), Order::Asc),
            Beyond::Older(cursor) => (id.clone().lte(cursor), Order::Desc),
        };
        let found: Option<Uuid> = query
            .filter(is_beyond)
            .select_only()
            .column(job::Column::Id)
            // In any order it was seen to read the table from its beginning.
            .order_by(id, nearest_first)
            .limit(1)
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
        let by_client_alone = JobFilter { client_id: filter.client_id.clone(), ..JobFilter::default() };
        let counted = match viewer {
            // The jobs themselves need not be looked at.
            Viewer::Operator | Viewer::Client(_) if *filter == by_client_alone => {
                let of_clients = clients(viewer, filter).fold(Condition::all(), |all, client_id| {
                    all.add(client_job::Column::ClientId.eq(client_id))
                });
                client_job::Entity::find().filter(of_clients).count(&self.orm).await
            }
            _ => matching(viewer, filter).query.count(&self.orm).await,
        };
        counted.map_err(failed)
    }
}

fn failed(source: sea_orm::DbErr) -> Error {
    Error::orm("list jobs", source)
}

/// The jobs that match, and the id that they are walked by.
struct Matching {
    query: Select<job::Entity>,
    id: Expr,
}

fn matching(viewer: &Viewer, filter: &JobFilter) -> Matching {
    let mut query = job::Entity::find();
    // What is named by ids or by a workflow is found by these.
    let by_list =
        clients(viewer, filter).next().is_some() && filter.ids.is_none() && filter.workflow_id.is_none();
    let (id, of_client) = if by_list {
        let lists = job::Entity::belongs_to(client_job::Entity)
            .from(job::Column::Id)
            .to(client_job::Column::JobId)
            .into();
        query = query.join(JoinType::InnerJoin, lists);
        (client_job::Column::JobId.into_expr(), client_job::Column::ClientId.into_expr())
    } else {
        (job::Column::Id.into_expr(), job::Column::ClientId.into_expr())
    };
    for client_id in clients(viewer, filter) {
        query = query.filter(of_client.clone().eq(client_id));
    }
    if let Viewer::Worker(_) = viewer {
        query = query.filter(sight::condition(viewer));
    }
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
    Matching { query, id }
}

/// Whose jobs alone can match: the viewer's own and those of the client that the filter names, where there are these.
fn clients<'a>(viewer: &'a Viewer, filter: &'a JobFilter) -> impl Iterator<Item = &'a String> {
    let own = match viewer {
        Viewer::Client(own) => Some(own),
        Viewer::Operator | Viewer::Worker(_) => None,
    };
    own.into_iter().chain(&filter.client_id)
}
