//! Arguments that several fields take: what is allowed, told with the argument's name.

use std::time::Duration;

use async_graphql::ID;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::job::json_scan::has_nul;
use crate::job::submission::{checked_id, in_range};
use crate::job::viewer::Viewer;

/// Longest wait for a job's end that one request may ask for.
const MAX_WAIT_SECONDS: i32 = 25;
/// Entries of a list that filters.
const MAX_LIST: usize = 200;

/// The id of a job.
///
/// # Errors
/// `InvalidInput` naming the argument.
pub fn job_id(argument: &str, id: &ID) -> Result<Uuid> {
    // Braced, simple and URN forms are refused, so that an id has one spelling.
    let parsed = Uuid::try_parse(id).ok().filter(|_| id.len() == 36);
    parsed.ok_or_else(|| Error::invalid(argument, "is not an id; ids are UUIDs as this server made them"))
}

/// `waitSeconds`; null waits as little as 0.
///
/// # Errors
/// `InvalidInput`.
pub fn wait(seconds: Option<i32>) -> Result<Duration> {
    let seconds = in_range("waitSeconds", seconds, 0, MAX_WAIT_SECONDS, 0)?;
    Ok(Duration::from_secs(seconds.unsigned_abs().into()))
}

/// A client id that filters; any that could exist is allowed, but for a client only its own.
///
/// # Errors
/// `InvalidInput`, `Forbidden`, naming the argument.
pub fn client_filter(viewer: &Viewer, argument: &str, given: Option<String>) -> Result<Option<String>> {
    given.map(|given| viewer.may_name_client(argument, checked_id(argument, given)?)).transpose()
}

/// Names that filter; an empty list is allowed and matches nothing.
///
/// # Errors
/// `InvalidInput` naming the argument.
pub fn names_filter(argument: &str, given: Option<Vec<String>>) -> Result<Option<Vec<String>>> {
    let Some(names) = given else { return Ok(None) };
    if names.len() > MAX_LIST {
        return Err(Error::invalid(
            argument,
            format!("has {} entries; at most {MAX_LIST} are allowed", names.len()),
        ));
    }
    let checked = names.into_iter().enumerate();
    checked
        .map(|(index, name)| checked_id(&format!("{argument}[{index}]"), name))
        .collect::<Result<_>>()
        .map(Some)
}

/// A priority that may be left out.
///
/// # Errors
/// `InvalidInput`.
pub fn priority(given: Option<i32>) -> Result<Option<i16>> {
    given.map(|given| in_range("priority", Some(given), 0, i16::MAX, 0)).transpose()
}

/// Refuses all but operators.
///
/// # Errors
/// `Forbidden`.
pub fn for_operators(viewer: &Viewer, what: &'static str) -> Result<()> {
    match viewer {
        Viewer::Operator => Ok(()),
        Viewer::Client(_) | Viewer::Worker(_) => {
            Err(Error::forbidden(format!("{what} can be seen and changed by operators only")))
        }
    }
}

/// Refuses all but workers, and operators, who may do what a worker does for every kind.
///
/// # Errors
/// `Forbidden`.
pub fn for_workers(viewer: &Viewer) -> Result<()> {
    match viewer {
        Viewer::Operator | Viewer::Worker(_) => Ok(()),
        Viewer::Client(_) => Err(Error::forbidden("jobs can be worked on with a worker's token only")),
    }
}

/// Whose a worker is that this viewer runs: its name is its own among those of one owner.
///
/// # Errors
/// `Forbidden`.
pub fn worker_owner(viewer: &Viewer) -> Result<String> {
    for_workers(viewer)?;
    Ok(match viewer {
        Viewer::Worker(scope) => format!("token:{}", scope.token),
        Viewer::Operator | Viewer::Client(_) => "operator".to_owned(),
    })
}

/// A fraction from 0 to 1 that may be left out.
///
/// # Errors
/// `InvalidInput` naming the argument.
pub fn fraction(argument: &str, given: Option<f64>) -> Result<Option<f64>> {
    match given {
        Some(given) if !(0.0..=1.0).contains(&given) => {
            Err(Error::invalid(argument, format!("{given} is not within 0 to 1")))
        }
        given => Ok(given),
    }
}

/// A text for people: without NUL, and cut to so many characters.
///
/// # Errors
/// `InvalidPayload` naming the argument.
pub fn text(argument: &str, given: String, max_chars: usize) -> Result<String> {
    if has_nul(&given) {
        return Err(Error::InvalidPayload {
            field: argument.to_owned(),
            problem: "holds the character U+0000, which cannot be stored".to_owned(),
            pointers: Vec::new(),
        });
    }
    Ok(given.chars().take(max_chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field<T: std::fmt::Debug>(outcome: Result<T>) -> String {
        match outcome {
            Err(Error::InvalidInput { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = Uuid::now_v7();
        assert_eq!(job_id("id", &id.into()).unwrap(), id);
        for text in ["", "1", "x", &id.simple().to_string(), &id.urn().to_string(), &id.braced().to_string()]
        {
            assert_eq!(field(job_id("jobId", &ID(text.to_owned()))), "jobId");
        }
    }

    #[test]
    fn a_wait_lasts_at_most_25_seconds() {
        assert_eq!(wait(None).unwrap(), Duration::ZERO);
        assert_eq!(wait(Some(25)).unwrap(), Duration::from_secs(25));
        assert_eq!(field(wait(Some(26))), "waitSeconds");
        assert_eq!(field(wait(Some(-1))), "waitSeconds");
    }

    #[test]
    fn filters_may_be_empty_lists_but_not_empty_names() {
        assert_eq!(names_filter("kind", Some(vec![])).unwrap(), Some(vec![]));
        assert_eq!(field(names_filter("kind", Some(vec!["a".to_owned(), String::new()]))), "kind[1]");
        assert_eq!(field(names_filter("queue", Some(vec!["a".to_owned(); 201]))), "queue");
        let nul = Some("a\0".to_owned());
        assert_eq!(field(client_filter(&Viewer::Operator, "clientId", nul)), "clientId");
    }
}
