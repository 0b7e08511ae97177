//! From a viewer to SQL: which rows of `job` somebody sees.
//!
//! A statement on behalf of someone has [`sees`] among its conditions on `job`, or on a row of it that it joins, and
//! binds [`bound`] as the parameter that it names. The condition's text is the viewer's kind, so that each has a plan of
//! its own; nothing of what a client sent is in it.

use entity::job;
use sea_orm::ColumnTrait;
use sea_orm::sea_query::{Condition, Query, SelectStatement};
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
