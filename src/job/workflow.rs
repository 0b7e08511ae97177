//! From what a client sends to a workflow that can be written: its jobs, checked one by one and against each other, in an
//! order in which each comes after those it depends on.

use std::collections::{HashMap, HashSet, VecDeque};

use entity::workflow::FailurePolicy;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::config::Kinds;
use crate::error::{Error, Result};
use crate::job::submission::{
    DEFAULT_CLIENT_ID, MAX_DISPLAY_NAME_CHARS, NewJob, Submission, WorkflowPart, checked_id, checked_text,
};
use crate::job::viewer::Viewer;

/// Jobs of a workflow.
pub const MAX_JOBS: usize = 10_000;
/// Dependencies among them.
pub const MAX_DEPENDENCIES: usize = 100_000;
/// Keys of a cycle that are named.
const MAX_NAMED: usize = 10;

/// What a client asks for. `None` means that the argument was left out.
#[derive(Clone, Debug)]
pub struct WorkflowSubmission {
    /// Shown to people.
    pub name: Option<String>,
    /// Defaults to `default`.
    pub client_id: Option<String>,
    /// Makes the submit idempotent per client.
    pub request_id: Option<String>,
    /// What becomes of the dependents of a job that fails.
    pub on_failure: FailurePolicy,
    /// Where its end is told; must have passed `callback::checked_url`.
    pub callback_url: Option<String>,
    /// Its jobs, in any order.
    pub jobs: Vec<WorkflowJob>,
}

/// A job of it.
#[derive(Clone, Debug, Default)]
pub struct WorkflowJob {
    /// Its name within the workflow.
    pub key: String,
    /// Keys of those that must be DONE first.
    pub depends_on: Vec<String>,
    /// The member of the payload that gets their results.
    pub results_as: Option<String>,
    /// What is to be done. Client and dependencies are the workflow's.
    pub submission: Submission,
}

/// A workflow that is ready to be written.
#[derive(Clone, Debug)]
pub struct NewWorkflow {
    /// UUIDv7 made here, before those of the jobs.
    pub id: Uuid,
    /// Who submits.
    pub client_id: String,
    /// The client's, or the id where the client gave none.
    pub request_id: String,
    /// True when the client chose the request id.
    pub keyed: bool,
    /// Shown to people.
    pub name: Option<String>,
    /// What becomes of the dependents of a job that fails.
    pub on_failure: FailurePolicy,
    /// Where its end is told.
    pub callback_url: Option<String>,
    /// Most bytes of a payload with results in it.
    pub max_payload_bytes: usize,
    /// SHA-256 of what is to be done.
    pub content_hash: [u8; 32],
    /// The jobs, each after those it depends on, with rising ids.
    pub jobs: Vec<NewJob>,
}

impl WorkflowSubmission {
    /// Checks everything and fills in what was left out.
    ///
    /// # Errors
    /// As `Submission::check` for each job, and `InvalidInput` for keys that are unknown, taken or in a cycle; fields are
    /// named from here down: `jobs[3].payload`.
    pub fn check(self, viewer: &Viewer, kinds: &Kinds, max_payload_bytes: usize) -> Result<NewWorkflow> {
        viewer.may_change_jobs()?;
        let client_id = match (self.client_id, viewer) {
            (Some(given), _) => viewer.may_name_client("clientId", checked_id("clientId", given)?)?,
            (None, Viewer::Client(own)) => own.clone(),
            (None, Viewer::Operator | Viewer::Worker(_)) => DEFAULT_CLIENT_ID.to_owned(),
        };
        let name = self.name.map(|name| checked_text("name", name, MAX_DISPLAY_NAME_CHARS)).transpose()?;
        let request_id = self.request_id.map(|given| checked_id("requestId", given)).transpose()?;
        let graph = Graph::of(&self.jobs)?;
        let order = graph.order(&self.jobs)?;
        let content_hash = content_hash(self.on_failure, &self.jobs);
        let id = Uuid::now_v7();
        let mut checked = Vec::with_capacity(self.jobs.len());
        for (index, job) in self.jobs.into_iter().enumerate() {
            let checking = job.check(viewer, kinds, &client_id, max_payload_bytes);
            checked.push(Some(checking.map_err(|error| error.below(&format!("jobs[{index}]")))?));
        }
        let mut jobs = Vec::with_capacity(checked.len());
        let mut ids = vec![Uuid::nil(); checked.len()];
        for index in order {
            let Some((mut new_job, key, results_as)) = checked.get_mut(index).and_then(Option::take) else {
                continue;
            };
            // Made anew, so that ids rise in this order.
            new_job.id = Uuid::now_v7();
            new_job.request_id = new_job.id.to_string();
            if let Some(id) = ids.get_mut(index) {
                *id = new_job.id;
            }
            new_job.depends_on =
                graph.parents_of(index).filter_map(|parent| ids.get(parent).copied()).collect();
            new_job.has_dependents = graph.has_children(index);
            new_job.workflow = Some(WorkflowPart { id, key, results_as });
            jobs.push(new_job);
        }
        Ok(NewWorkflow {
            id,
            client_id,
            keyed: request_id.is_some(),
            request_id: request_id.unwrap_or_else(|| id.to_string()),
            name,
            on_failure: self.on_failure,
            callback_url: self.callback_url,
            max_payload_bytes,
            content_hash,
            jobs,
        })
    }
}

impl WorkflowJob {
    fn check(
        self,
        viewer: &Viewer,
        kinds: &Kinds,
        client_id: &str,
        max_payload_bytes: usize,
    ) -> Result<(NewJob, String, Option<String>)> {
        let results_as = self.results_as.map(|name| checked_id("resultsAs", name)).transpose()?;
        if let Some(name) = &results_as {
            if self.depends_on.is_empty() {
                return Err(Error::invalid("resultsAs", "needs dependsOn"));
            }
            match &self.submission.payload {
                Value::Object(members) if members.contains_key(name) => {
                    return Err(Error::invalid("resultsAs", "names a member that the payload has"));
                }
                Value::Object(_) => {}
                _ => return Err(Error::invalid("payload", "must be an object where resultsAs is set")),
            }
        }
        let submission = Submission {
            client_id: Some(client_id.to_owned()),
            awaits_results: results_as.is_some(),
            ..self.submission
        };
        Ok((submission.check(viewer, kinds, max_payload_bytes)?, self.key, results_as))
    }
}

/// Who depends on whom, by index.
struct Graph {
    parents: Vec<Vec<usize>>,
    children: Vec<Vec<usize>>,
}

impl Graph {
    fn of(jobs: &[WorkflowJob]) -> Result<Graph> {
        if jobs.is_empty() || jobs.len() > MAX_JOBS {
            let problem = format!("has {} entries; 1 to {MAX_JOBS} are allowed", jobs.len());
            return Err(Error::invalid("jobs", problem));
        }
        let total: usize = jobs.iter().map(|job| job.depends_on.len()).sum();
        if total > MAX_DEPENDENCIES {
            let problem = format!("have {total} dependencies in all; at most {MAX_DEPENDENCIES} are allowed");
            return Err(Error::invalid("jobs", problem));
        }
        let mut index_of = HashMap::with_capacity(jobs.len());
        for (index, job) in jobs.iter().enumerate() {
            let field = || format!("jobs[{index}].key");
            checked_id(&field(), job.key.clone())?;
            if let Some(first) = index_of.insert(job.key.as_str(), index) {
                return Err(Error::invalid(
                    field(),
                    format!("{:?} is the key of jobs[{first}] as well", job.key),
                ));
            }
        }
        let mut graph =
            Graph { parents: Vec::with_capacity(jobs.len()), children: vec![Vec::new(); jobs.len()] };
        for (index, job) in jobs.iter().enumerate() {
            let mut parents = Vec::with_capacity(job.depends_on.len());
            let mut known = HashSet::with_capacity(job.depends_on.len());
            for (place, key) in job.depends_on.iter().enumerate() {
                let refused = |problem: String| {
                    Err(Error::invalid(format!("jobs[{index}].dependsOn[{place}]"), problem))
                };
                let Some(&parent) = index_of.get(key.as_str()) else {
                    return refused(format!("no job has the key {:?}", shortened(key)));
                };
                if !known.insert(parent) {
                    return refused(format!("{key:?} stands there twice"));
                }
                parents.push(parent);
                if let Some(children) = graph.children.get_mut(parent) {
                    children.push(index);
                }
            }
            graph.parents.push(parents);
        }
        Ok(graph)
    }

    fn parents_of(&self, index: usize) -> impl Iterator<Item = usize> {
        self.parents.get(index).into_iter().flatten().copied()
    }

    fn has_children(&self, index: usize) -> bool {
        self.children.get(index).is_some_and(|children| !children.is_empty())
    }

    /// The indexes, each after its parents, and in the order given where that leaves a choice.
    fn order(&self, jobs: &[WorkflowJob]) -> Result<Vec<usize>> {
        let mut waits_for: Vec<usize> = self.parents.iter().map(Vec::len).collect();
        let mut ready: VecDeque<usize> =
            waits_for.iter().enumerate().filter(|(_, count)| **count == 0).map(|(index, _)| index).collect();
        let mut order = Vec::with_capacity(jobs.len());
        while let Some(index) = ready.pop_front() {
            order.push(index);
            for &child in self.children.get(index).into_iter().flatten() {
                if let Some(count) = waits_for.get_mut(child) {
                    *count -= 1;
                    if *count == 0 {
                        ready.push_back(child);
                    }
                }
            }
        }
        if order.len() == jobs.len() {
            return Ok(order);
        }
        Err(Error::invalid(
            "jobs",
            format!("depend on each other in a circle: {}", self.cycle(jobs, &waits_for)),
        ))
    }

    /// The keys of a cycle. What is left after ordering waits for something that is left as well, so going from one to the
    /// other comes back some time.
    fn cycle(&self, jobs: &[WorkflowJob], waits_for: &[usize]) -> String {
        let is_left = |index: &usize| waits_for.get(*index).is_some_and(|count| *count > 0);
        let mut place = HashMap::new();
        let mut path = Vec::new();
        let mut next = (0..jobs.len()).find(is_left);
        while let Some(index) = next {
            if let Some(&begin) = place.get(&index) {
                path.drain(..begin);
                path.push(index);
                break;
            }
            place.insert(index, path.len());
            path.push(index);
            next = self.parents_of(index).find(is_left);
        }
        let keys =
            path.iter().filter_map(|index| jobs.get(*index)).map(|job| format!("{:?}", shortened(&job.key)));
        let mut named: Vec<String> = keys.collect();
        if named.len() > MAX_NAMED + 1 {
            named.truncate(MAX_NAMED);
            named.push("…".to_owned());
        }
        named.join(" after ")
    }
}

fn shortened(key: &str) -> String {
    key.chars().take(crate::job::submission::MAX_ID_CHARS).collect()
}

/// Of what is to be done. `Value` keeps its keys sorted, so equal JSON has equal text.
fn content_hash(on_failure: FailurePolicy, jobs: &[WorkflowJob]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(on_failure.as_str());
    for job in jobs {
        let content =
            json!([job.key, job.submission.kind, job.submission.payload, job.depends_on, job.results_as]);
        hash.update(content.to_string());
        hash.update([0]);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(key: &str, depends_on: &[&str]) -> WorkflowJob {
        WorkflowJob {
            key: key.to_owned(),
            depends_on: depends_on.iter().map(|&key| key.to_owned()).collect(),
            submission: Submission { kind: "echo".to_owned(), payload: json!({}), ..Submission::default() },
            ..WorkflowJob::default()
        }
    }

    fn check(jobs: Vec<WorkflowJob>) -> Result<NewWorkflow> {
        let submission = WorkflowSubmission {
            name: None,
            client_id: None,
            request_id: None,
            on_failure: FailurePolicy::Block,
            callback_url: None,
            jobs,
        };
        submission.check(&Viewer::Operator, &Kinds::default(), 1 << 20)
    }

    fn refused(jobs: Vec<WorkflowJob>) -> (String, String) {
        match check(jobs) {
            Err(Error::InvalidInput { field, problem }) => (field, problem),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_job_comes_after_those_it_depends_on_with_a_higher_id() {
        let workflow =
            check(vec![job("d", &["b", "c"]), job("b", &["a"]), job("a", &[]), job("c", &["a"])]).unwrap();
        let keys: Vec<&str> =
            workflow.jobs.iter().map(|job| job.workflow.as_ref().unwrap().key.as_str()).collect();
        assert_eq!(keys, ["a", "b", "c", "d"]);
        assert!(workflow.jobs.is_sorted_by_key(|job| job.id) && workflow.id < workflow.jobs[0].id);
        assert_eq!(workflow.jobs[3].depends_on, [workflow.jobs[1].id, workflow.jobs[2].id]);
        let parents: Vec<bool> = workflow.jobs.iter().map(|job| job.has_dependents).collect();
        assert_eq!(parents, [true, true, true, false]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(refused(vec![]).0, "jobs");
        assert_eq!(refused((0..=MAX_JOBS).map(|n| job(&n.to_string(), &[])).collect()).0, "jobs");
        assert_eq!(refused(vec![job("a", &[]), job("a", &[])]).0, "jobs[1].key");
        assert_eq!(refused(vec![job("", &[])]).0, "jobs[0].key");
        assert_eq!(refused(vec![job("a", &[]), job("b", &["a", "x"])]).0, "jobs[1].dependsOn[1]");
        assert_eq!(refused(vec![job("a", &[]), job("b", &["a", "a"])]).0, "jobs[1].dependsOn[1]");
        let (field, problem) = refused(vec![
            job("x", &[]),
            job("a", &["c", "x"]),
            job("b", &["a"]),
            job("c", &["b"]),
            job("y", &["c"]),
        ]);
        assert_eq!(field, "jobs");
        assert!(problem.ends_with(r#""a" after "c" after "b" after "a""#), "{problem}");
        assert!(refused(vec![job("a", &["a"])]).1.contains(r#""a" after "a""#));
        let many: Vec<String> = (0..400).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let mut jobs: Vec<WorkflowJob> = many.iter().map(|key| job(key, &[])).collect();
        jobs.extend((0..251).map(|n| job(&format!("c{n}"), &many)));
        assert!(refused(jobs).1.contains("100400 dependencies"));
    }

    #[test]
    fn results_need_parents_and_a_place_in_an_object() {
        let with = |payload: Value, depends_on: &[&str]| {
            let mut with = job("b", depends_on);
            with.results_as = Some("in".to_owned());
            with.submission.payload = payload;
            vec![job("a", &[]), with]
        };
        assert!(check(with(json!({"x": 1}), &["a"])).is_ok());
        assert_eq!(refused(with(json!({}), &[])).0, "jobs[1].resultsAs");
        assert_eq!(refused(with(json!({"in": 1}), &["a"])).0, "jobs[1].resultsAs");
        assert_eq!(refused(with(json!([1]), &["a"])).0, "jobs[1].payload");
    }

    #[test]
    fn an_error_of_a_job_names_the_job() {
        let mut unfit = job("b", &[]);
        unfit.submission.priority = Some(-1);
        assert_eq!(refused(vec![job("a", &[]), unfit]).0, "jobs[1].priority");
    }
}
