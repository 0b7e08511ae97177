//! What was measured, and how it is told.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// Names and values, in the order in which they were found.
pub(super) struct Figures {
    scenario: &'static str,
    values: Map<String, Value>,
}

impl Figures {
    /// Nothing yet.
    pub(super) fn of(scenario: &'static str) -> Figures {
        Figures { scenario, values: Map::new() }
    }

    /// Notes one number, rounded to thousandths.
    pub(super) fn note(&mut self, name: &str, value: f64) {
        self.values.insert(name.to_owned(), json!((value * 1_000.0).round() / 1_000.0));
    }

    /// Notes how long something took: median, 90th and 99th in a hundred, and the longest, in milliseconds.
    pub(super) fn note_times(&mut self, name: &str, mut times: Vec<Duration>) {
        times.sort_unstable();
        for (label, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)] {
            self.note(&format!("{name}_ms_{label}"), at_share(&times, share));
        }
    }

    /// Takes those of another measurement, under names that begin with `prefix`.
    pub(super) fn take(&mut self, prefix: &str, others: Figures) {
        self.values
            .extend(others.values.into_iter().map(|(name, value)| (format!("{prefix}_{name}"), value)));
    }

    /// Prints them: a table for people, or a line of JSON.
    #[expect(clippy::print_stdout, reason = "the command's output")]
    pub(super) fn print(&self, as_json: bool) {
        if as_json {
            println!("{}", json!({ "scenario": self.scenario, "figures": self.values }));
            return;
        }
        println!("{}", self.scenario);
        for (name, value) in &self.values {
            println!("  {name:<28}{:>14}", value.as_f64().unwrap_or_default());
        }
    }
}

fn at_share(sorted: &[Duration], share: f64) -> f64 {
    let index = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1_000.0)
}
