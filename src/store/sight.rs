//! From a viewer to SQL: which rows of `job` somebody sees.
//!
//! A statement on behalf of someone has [`sees`] among its conditions on `job`, or on a row of it that it joins, and
//! binds [`bound`] as the parameter that it names. The condition's text is the viewer's kind, so that each has a plan of
//! its own; nothing of what a client sent is in it.

use entity::job;
use sea_orm::ColumnTrait;
use sea_orm::sea_query::{Condition, Expr, Func, Query, SelectStatement};
use uuid::Uuid;

use crate::job::viewer::Viewer;

/// The condition on `job` that leaves what the viewer sees; parameter `$n` is [`bound`].
pub(super) fn sees(viewer: &Viewer, n: usize) -> String {
    match viewer {
        Viewer::Operator => format!("${n}::text[] IS NULL"),
        Viewer::Client(_) => format!("job.client_id = (${n}::text[])[1]"),
        Viewer::Worker(_) => format!("job.kind = ANY (${n}::text[])"),
    }
}

/// What [`sees`] compares with.
pub(super) fn bound(viewer: &Viewer) -> Option<Vec<&str>> {
    match viewer {
        Viewer::Operator => None,
        Viewer::Client(own) => Some(vec![own.as_str()]),
        Viewer::Worker(scope) => Some(scope.kinds.iter().map(String::as_str).collect()),
    }
}

/// The same condition for SeaORM.
pub(super) fn condition(viewer: &Viewer) -> Condition {
    match viewer {
        Viewer::Operator => Condition::all(),
        Viewer::Client(own) => Condition::all().add(job::Column::ClientId.eq(own)),
        Viewer::Worker(scope) => Condition::all().add(job::Column::Kind.is_in(&scope.kinds)),
    }
}

/// The same where a client's list is walked, which has nothing but its jobs: in a form of which PostgreSQL estimates that it
/// keeps half of the rows, whoever's they are. Compared plainly, it would expect few of the list's jobs and read all of them.
pub(super) fn check(viewer: &Viewer) -> Condition {
    match viewer {
        Viewer::Client(own) => Condition::all().add(is_of(own)),
        Viewer::Operator | Viewer::Worker(_) => condition(viewer),
    }
}

/// The job is this client's, as [`check`] says it.
pub(super) fn is_of(client_id: &str) -> Expr {
    Func::coalesce([job::Column::ClientId.eq(client_id), Expr::val(false)]).into()
}

/// Those of the jobs that the viewer sees, for the rows that belong to them; none where there is nothing to look at, as
/// an operator sees all.
pub(super) fn visible_of(viewer: &Viewer, job_ids: &[Uuid]) -> Option<SelectStatement> {
    if *viewer == Viewer::Operator {
        return None;
    }
    let query = Query::select()
        .column(job::Column::Id)
        .from(job::Entity)
        .cond_where(condition(viewer))
        .and_where(job::Column::Id.is_in(job_ids.iter().copied()))
        .to_owned();
    Some(query)
}
