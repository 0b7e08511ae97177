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
use crate::store::dependency::Direction;
use crate::store::list::JobFilter;
use crate::store::log::LogPlace;
use crate::store::queue::Turn;

/// What a cursor holds; raised whenever the meaning changes.
const OF_JOB: u8 = 1;
const OF_TURN: u8 = 2;
const OF_LINE: u8 = 3;
const HASH_BYTES: usize = 8;

/// What cursors of one list share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorSeal([u8; HASH_BYTES]);

impl CursorSeal {
    /// The seal of the list that `filter` gives `viewer`. The order of values in the filter does not matter.
    pub fn of(viewer: &Viewer, filter: &JobFilter) -> CursorSeal {
        let JobFilter { ids, status, client_id, kind, queue, workflow_id, created_after, created_before } =
            filter;
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
        let of_viewer = match viewer {
            Viewer::Operator => json!(null),
            Viewer::Client(own) => json!(own),
            Viewer::Worker(scope) => json!(scope.kinds),
        };
        let list = json!([
            of_viewer,
            ids,
            status,
            client_id,
            sorted(kind),
            sorted(queue),
            workflow_id,
            created_after,
            created_before,
        ]);
        CursorSeal::of_list(&list)
    }

    /// The seal of the list of a queue's pending jobs without these kinds, in claim order.
    pub fn of_upcoming(queue: &str, except_kinds: &[String]) -> CursorSeal {
        let mut except_kinds = except_kinds.to_vec();
        except_kinds.sort_unstable();
        CursorSeal::of_list(&json!(["upcoming", queue, except_kinds]))
    }

    /// The seal of the list of a job's neighbours.
    pub fn of_neighbours(job_id: Uuid, direction: Direction) -> CursorSeal {
        let list = match direction {
            Direction::Parents => "dependsOn",
            Direction::Children => "dependents",
        };
        CursorSeal::of_list(&json!([list, job_id]))
    }

    /// The seal of a job's log.
    pub fn of_log(job_id: Uuid) -> CursorSeal {
        CursorSeal::of_list(&json!(["log", job_id]))
    }

    fn of_list(list: &serde_json::Value) -> CursorSeal {
        let digest = Sha256::digest(list.to_string());
        let mut seal = [0; HASH_BYTES];
        seal.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        CursorSeal(seal)
    }

    /// The cursor of the job in this list.
    pub fn cursor(&self, id: Uuid) -> String {
        self.sealed(OF_JOB, id.as_bytes())
    }

    /// The cursor of a place in the order of claims.
    pub fn turn_cursor(&self, turn: Turn) -> String {
        let mut place = turn.level.to_be_bytes().to_vec();
        place.extend_from_slice(&turn.seq.to_be_bytes());
        self.sealed(OF_TURN, &place)
    }

    /// The cursor of a line in this log.
    pub fn line_cursor(&self, place: LogPlace) -> String {
        let mut bytes = place.epoch.to_be_bytes().to_vec();
        bytes.extend_from_slice(&place.number.to_be_bytes());
        self.sealed(OF_LINE, &bytes)
    }

    fn sealed(&self, version: u8, place: &[u8]) -> String {
        let mut bytes = vec![version];
        bytes.extend_from_slice(place);
        bytes.extend_from_slice(&self.0);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The job of a cursor that a client sends back as `argument`.
    ///
    /// # Errors
    /// `InvalidInput` naming the argument.
    pub fn job_id(&self, argument: &str, cursor: &str) -> Result<Uuid> {
        let id = self.place(argument, cursor, OF_JOB)?;
        Uuid::from_slice(&id).map_err(|_| not_a_cursor(argument))
    }

    /// The place in the order of claims of a cursor that a client sends back as `argument`.
    ///
    /// # Errors
    /// `InvalidInput` naming the argument.
    pub fn turn(&self, argument: &str, cursor: &str) -> Result<Turn> {
        let place = self.place(argument, cursor, OF_TURN)?;
        let (level, seq) = place.split_first_chunk().ok_or_else(|| not_a_cursor(argument))?;
        let seq = seq.try_into().map_err(|_| not_a_cursor(argument))?;
        Ok(Turn { level: i16::from_be_bytes(*level), seq: i64::from_be_bytes(seq) })
    }

    /// The place in the log of a cursor that a client sends back as `argument`.
    ///
    /// # Errors
    /// `InvalidInput` naming the argument.
    pub fn line(&self, argument: &str, cursor: &str) -> Result<LogPlace> {
        let place = self.place(argument, cursor, OF_LINE)?;
        let (epoch, number) = place.split_first_chunk().ok_or_else(|| not_a_cursor(argument))?;
        let number = number.try_into().map_err(|_| not_a_cursor(argument))?;
        Ok(LogPlace { epoch: i32::from_be_bytes(*epoch), number: i32::from_be_bytes(number) })
    }

    fn place(&self, argument: &str, cursor: &str, version: u8) -> Result<Vec<u8>> {
        let mut bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| not_a_cursor(argument))?;
        let length = match version {
            OF_JOB => 16,
            OF_TURN => 10,
            _ => 8,
        };
        if bytes.len() != 1 + length + HASH_BYTES || bytes.first() != Some(&version) {
            return Err(not_a_cursor(argument));
        }
        if bytes.split_off(1 + length) != self.0 {
            return Err(Error::invalid(argument, "is a cursor of a list with other filters"));
        }
        Ok(bytes.split_off(1))
    }
}

fn not_a_cursor(argument: &str) -> Error {
    Error::invalid(argument, "is not a cursor of this server")
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

    #[test]
    fn a_place_in_a_queue_comes_back_and_fits_no_other_list() {
        let seal = CursorSeal::of_upcoming("default", &["a".to_owned(), "b".to_owned()]);
        let turn = Turn { level: i16::MAX, seq: 1 << 40 };
        let cursor = seal.turn_cursor(turn);
        assert_eq!(seal.turn("after", &cursor).unwrap(), turn);
        assert_eq!(CursorSeal::of_upcoming("default", &["b".to_owned(), "a".to_owned()]), seal);
        assert!(CursorSeal::of_upcoming("other", &[]).turn("after", &cursor).is_err());
        assert!(seal.job_id("after", &cursor).is_err(), "a place is no job");
        assert!(seal.turn("after", &seal.cursor(Uuid::now_v7())).is_err(), "a job is no place");
    }
}
