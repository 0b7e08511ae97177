//! The payload of an announcement: `id:status:version`, many to a payload, separated by commas.
//!
//! It comes from whoever may NOTIFY, so it is a hint and nothing more: it says what to read again. What does not
//! parse is passed over; what is forged costs a read.

use entity::JobStatus;
use uuid::Uuid;

/// That a job may have reached a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The job.
    pub id: Uuid,
    /// The state it is said to be in; none for a deleted job, or one that this version does not know.
    pub status: Option<JobStatus>,
    /// The version it is said to have.
    pub version: i32,
}

/// Stands in place of the status of a deleted job.
const GONE: &str = "GONE";

/// The hints of a payload.
pub fn parse(payload: &str) -> impl Iterator<Item = Hint> + '_ {
    payload.split(',').filter_map(|entry| {
        let (id, rest) = entry.split_once(':')?;
        let (status, version) = rest.split_once(':')?;
        // A deleted job is news to everyone, whatever version they have.
        let version = if status == GONE { i32::MAX } else { version.parse().ok()? };
        Some(Hint { id: Uuid::try_parse(id).ok()?, status: JobStatus::from_name(status), version })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_parse_is_passed_over() {
        let id = Uuid::now_v7();
        let payload = format!("{id}:DONE:3,garbage,{id}:X,::,{id}:PENDING:99999999999,{id}:GONE:4");
        let hints: Vec<Hint> = parse(&payload).collect();
        let done = Hint { id, status: Some(JobStatus::Done), version: 3 };
        assert_eq!(hints, [done, Hint { id, status: None, version: i32::MAX }]);
        assert_eq!(parse("").count(), 0);
    }
}
