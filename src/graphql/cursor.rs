//! Opaque cursors: the job that stands at an edge, and a hash of the list that it is an edge of.
//!
//! A cursor of another list would page through jobs that its holder did not ask for, or skip some; the hash refuses
//! it. It is no secret and no permission: every read is restricted to the viewer all the same.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::job::viewer::Viewer;
use crate::store::list::JobFilter;

/// Raised whenever the meaning of a cursor changes.
const VERSION: u8 = 1;
const HASH_BYTES: usize = 8;

/// What cursors of one list share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorSeal([u8; HASH_BYTES]);

impl CursorSeal {
    /// The seal of the list that `filter` gives `viewer`. The order of values in the filter does not matter.
    pub fn of(viewer: &Viewer, filter: &JobFilter) -> CursorSeal {
        let JobFilter { status, client_id, kind, queue, workflow_id, created_after, created_before } = filter;
        let sorted = |names: &Option<Vec<String>>| {
            names.clone().map(|mut names| {
                names.sort_unstable();
                names
            })
        };
        let mut status: Option<Vec<&str>> =
            status.as_ref().map(|status| status.iter().map(|status| status.as_str()).collect());
        if let Some(status) = &mut status {
            status.sort_unstable();
        }
        let list = json!([
            viewer.client_id(),
            status,
            client_id,
            sorted(kind),
            sorted(queue),
            workflow_id,
            created_after,
            created_before,
        ]);
        let digest = Sha256::digest(list.to_string());
        let mut seal = [0; HASH_BYTES];
        seal.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        CursorSeal(seal)
    }

    /// The cursor of the job in this list.
    pub fn cursor(&self, id: Uuid) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(id.as_bytes());
        bytes.extend_from_slice(&self.0);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The job of a cursor that a client sends back as `argument`.
    ///
    /// # Errors
    /// `InvalidInput` naming the argument.
    pub fn job_id(&self, argument: &str, cursor: &str) -> Result<Uuid> {
        let not_a_cursor = || Error::invalid(argument, "is not a cursor of this server");
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| not_a_cursor())?;
        let (version, rest) = bytes.split_first().ok_or_else(not_a_cursor)?;
        let (id, seal) = rest.split_at_checked(16).ok_or_else(not_a_cursor)?;
        if *version != VERSION || seal.len() != HASH_BYTES {
            return Err(not_a_cursor());
        }
        if seal != self.0 {
            return Err(Error::invalid(argument, "is a cursor of a list with other filters"));
        }
        Uuid::from_slice(id).map_err(|_| not_a_cursor())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_kinds(kinds: &[&str]) -> JobFilter {
        JobFilter { kind: Some(kinds.iter().map(|&kind| kind.to_owned()).collect()), ..JobFilter::default() }
    }

    #[test]
    fn a_cursor_fits_its_own_list_only() {
        let (id, operator) = (Uuid::now_v7(), Viewer::Operator);
        let seal = CursorSeal::of(&operator, &of_kinds(&["a", "b"]));
        let cursor = seal.cursor(id);
        assert_eq!(seal.job_id("after", &cursor).unwrap(), id);
        assert_eq!(CursorSeal::of(&operator, &of_kinds(&["b", "a"])), seal);
        for other in [
            CursorSeal::of(&operator, &of_kinds(&["a"])),
            CursorSeal::of(&operator, &JobFilter::default()),
            CursorSeal::of(&Viewer::Client("x".to_owned()), &of_kinds(&["a", "b"])),
        ] {
            let error = other.job_id("before", &cursor).unwrap_err();
            assert!(matches!(error, Error::InvalidInput { field, .. } if field == "before"));
        }
    }

    #[test]
    fn garbage_is_refused() {
        let seal = CursorSeal::of(&Viewer::Operator, &JobFilter::default());
        let cursor = seal.cursor(Uuid::now_v7());
        for text in ["", "x", "!!!", &cursor[1..], &cursor[..cursor.len() - 2], &format!("{cursor}AA")] {
            assert!(seal.job_id("after", text).is_err(), "{text}");
        }
    }
}
