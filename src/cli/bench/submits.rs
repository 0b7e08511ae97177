//! Submits: one job a request, many a request, and a mutation that does nothing to compare them with.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use serde_json::json;

use super::Options;
use super::figures::Figures;
use super::load::{self, CLIENT, Probe};
use super::target::Target;

const SUBMIT_JOB: &str =
    "mutation Submit($input: SubmitJobInput!) { submitJob(input: $input) { created job { id status } } }";

/// `submitJobs` with no inputs: parsed, checked, run and answered like any mutation, and the database is not asked.
pub(super) async fn noop(target: &Target, options: &Options) -> anyhow::Result<Figures> {
    let mut figures = Figures::of("noop");
    let body: Arc<str> = load::submit_jobs_body(&options.kind, 0).into();
    load::repeat(target, options, &mut figures, move |_, _| body.clone()).await?;
    Ok(figures)
}

/// `submitJob`.
pub(super) async fn single(target: &Target, options: &Options) -> anyhow::Result<Figures> {
    let mut figures = Figures::of("submit");
    let input = json!({ "kind": options.kind, "payload": { "n": 1 }, "clientId": CLIENT });
    let body: Arc<str> = json!({ "query": SUBMIT_JOB, "variables": { "input": input } }).to_string().into();
    let probe = Probe::start(target).await?;
    let rate = load::repeat(target, options, &mut figures, move |_, _| body.clone()).await?;
    figures.note("jobs_per_second", rate);
    probe.end(&mut figures).await?;
    Ok(figures)
}

/// Whatever the file holds.
pub(super) async fn post(target: &Target, options: &Options, file: &Path) -> anyhow::Result<Figures> {
    let mut figures = Figures::of("post");
    let body: Arc<str> = std::fs::read_to_string(file).context("cannot read the body")?.into();
    load::repeat(target, options, &mut figures, move |_, _| body.clone()).await?;
    Ok(figures)
}

/// `submitJobs`.
pub(super) async fn bulk(target: &Target, options: &Options, batch: usize) -> anyhow::Result<Figures> {
    let mut figures = Figures::of("bulk");
    let body: Arc<str> = load::submit_jobs_body(&options.kind, batch).into();
    let probe = Probe::start(target).await?;
    let rate = load::repeat(target, options, &mut figures, move |_, _| body.clone()).await?;
    figures.note("jobs_per_second", rate * batch as f64);
    probe.end(&mut figures).await?;
    Ok(figures)
}
