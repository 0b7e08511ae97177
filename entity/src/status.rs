//! Where a job can stand, and the one table of the changes that are legal.
//!
//! The database holds the same table as a trigger (`job_refuse_transition`) and refuses what is not in it; a test
//! drives all 49 pairs against both, and every store operation from every state.

use sea_orm::entity::prelude::*;

/// Where a job stands. Stored as text, under the names of the GraphQL enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "UPPERCASE")]
pub enum JobStatus {
    /// Waits for jobs it depends on.
    Blocked,
    /// Waits for its time: a start time in the future, or the back-off before the next attempt.
    Scheduled,
    /// Ready; waits for a worker.
    Pending,
    /// Held by a worker under a lease.
    Running,
    /// Finished with a result. Final.
    Done,
    /// Finished with an error. Left only by a retry.
    Error,
    /// Stopped before it could finish. Left only by a retry.
    Cancelled,
}

impl JobStatus {
    /// Every status, in the order of a job's life.
    pub const ALL: [JobStatus; 7] = [
        JobStatus::Blocked,
        JobStatus::Scheduled,
        JobStatus::Pending,
        JobStatus::Running,
        JobStatus::Done,
        JobStatus::Error,
        JobStatus::Cancelled,
    ];

    /// The name it has in the database, in the API and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            JobStatus::Blocked => "BLOCKED",
            JobStatus::Scheduled => "SCHEDULED",
            JobStatus::Pending => "PENDING",
            JobStatus::Running => "RUNNING",
            JobStatus::Done => "DONE",
            JobStatus::Error => "ERROR",
            JobStatus::Cancelled => "CANCELLED",
        }
    }

    /// The status of that name; none for any other word.
    pub fn from_name(name: &str) -> Option<JobStatus> {
        JobStatus::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// True for DONE, ERROR and CANCELLED: nothing but a retry changes such a job.
    pub fn is_terminal(self) -> bool {
        matches!(self, JobStatus::Done | JobStatus::Error | JobStatus::Cancelled)
    }

    /// True while a job waits: it holds no worker and is not terminal.
    pub fn is_waiting(self) -> bool {
        matches!(self, JobStatus::Blocked | JobStatus::Scheduled | JobStatus::Pending)
    }
}

impl std::fmt::Display for JobStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who brings a change of status about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The end of a job that this one depends on.
    ParentEnd,
    /// A request to cancel.
    Cancel,
    /// `startBefore` passed.
    StartBefore,
    /// The promoter: `run_at` has come.
    Promote,
    /// A change of `runAt` or priority by a user.
    Update,
    /// A worker takes the job.
    Claim,
    /// The worker that holds the lease reports how the attempt ended.
    Finish,
    /// The worker that holds the lease gives the job back untouched.
    Release,
    /// The sweeper finds the worker dead.
    Sweep,
    /// A user's retry.
    Retry,
}

/// One legal change and those who may bring it about.
#[derive(Clone, Copy, Debug)]
pub struct Transition {
    /// The status it leaves.
    pub from: JobStatus,
    /// The status it reaches.
    pub to: JobStatus,
    /// Who may do so.
    pub causes: &'static [Cause],
}

impl Transition {
    /// The table's line from `from` to `to`; none when the change is illegal.
    pub fn find(from: JobStatus, to: JobStatus) -> Option<&'static Transition> {
        TRANSITIONS.iter().find(|transition| transition.from == from && transition.to == to)
    }
}

/// Every legal change of status.
pub const TRANSITIONS: &[Transition] = {
    use Cause::*;
    use JobStatus::*;
    const fn line(from: JobStatus, to: JobStatus, causes: &'static [Cause]) -> Transition {
        Transition { from, to, causes }
    }
    &[
        line(Blocked, Pending, &[ParentEnd]),
        line(Blocked, Scheduled, &[ParentEnd]),
        line(Blocked, Cancelled, &[ParentEnd, Cancel, StartBefore]),
        // The results of its parents cannot be handed down.
        line(Blocked, Error, &[ParentEnd]),
        line(Scheduled, Pending, &[Promote, Update]),
        line(Scheduled, Cancelled, &[Cancel, StartBefore]),
        line(Pending, Scheduled, &[Update]),
        line(Pending, Running, &[Claim]),
        line(Pending, Cancelled, &[Cancel, StartBefore]),
        line(Running, Done, &[Finish]),
        // Failed or lost with attempts left: back-off with jitter.
        line(Running, Scheduled, &[Finish, Sweep]),
        // Released, or the first loss of its worker: the place is kept.
        line(Running, Pending, &[Release, Sweep]),
        line(Running, Error, &[Finish, Sweep]),
        // A cancel was requested and the job had not finished.
        line(Running, Cancelled, &[Finish, Release, Sweep]),
        line(Error, Pending, &[Retry]),
        line(Error, Blocked, &[Retry]),
        line(Cancelled, Pending, &[Retry]),
        line(Cancelled, Blocked, &[Retry]),
    ]
};
