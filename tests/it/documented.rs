//! Tests that documents name are there: a promise whose test was renamed or removed would stand on nothing.

use std::collections::BTreeMap;
use std::path::Path;

fn text_of(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|_| panic!("no {path}"))
}

/// What stands in backticks, in order.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The source of each module of this test program, by name, with what is below it.
fn modules() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let mut modules = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("the tests") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            modules.insert(name, std::fs::read_to_string(path).expect("source"));
        }
    }
    modules
}

/// A long name in snake case, as tests have it and settings do not.
fn is_test_name(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && word.matches('_').count() >= 4
}

/// The tests that a document names: `module::name`, or a bare name of the module that was named before it in its line. A bare
/// one without a module is a setting, or whatever else has a long name.
fn named(document: &str) -> Vec<(String, String)> {
    let mut named = Vec::new();
    for line in document.lines() {
        let mut module = None;
        for word in quoted(line) {
            let (of, name) = match word.split_once("::") {
                Some((of, name)) => (Some(of), name),
                None => (module, word),
            };
            if let Some(of) = of.filter(|_| is_test_name(name)) {
                module = Some(of);
                named.push((of.to_owned(), name.to_owned()));
            }
        }
    }
    named
}

#[test]
fn each_test_that_a_document_names_is_there() {
    let modules = modules();
    let mut checked = 0;
    for document in
        ["SECURITY.md", "docs/reliability.md", "docs/access.md", "docs/transports.md", "docs/operators.md"]
    {
        for (module, name) in named(&text_of(document)) {
            let source = modules.get(&module).unwrap_or_else(|| panic!("{document} names {module}::{name}"));
            assert!(
                source.contains(&format!("fn {name}()")),
                "{document} names {module}::{name}, which is not there"
            );
            checked += 1;
        }
    }
    assert!(checked > 40, "only {checked} names were found: the test looks in the wrong place");
}

#[test]
fn each_place_that_the_threat_model_names_holds_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut checked = 0;
    let document = text_of("SECURITY.md");
    let promises =
        document.split("## ").find(|part| part.starts_with("What is promised")).expect("the promises");
    for row in promises.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let [surface, _, tests] = cells[..] else { panic!("not three cells: {row}") };
        let mut places = 0;
        for place in quoted(tests).filter(|place| !place.contains("::") && !is_test_name(place)) {
            let in_tests = root.join("tests/it").join(place);
            let path = if place.contains('/') { root.join(place) } else { in_tests };
            let path = if place.ends_with(".toml") { root.join(place) } else { path };
            assert!(path.exists(), "{surface}: there is no {place}");
            if path.extension().is_some_and(|extension| extension == "rs") {
                let own = path.with_extension("").join("tests.rs");
                let holds = [path, own].iter().any(|path| {
                    std::fs::read_to_string(path)
                        .is_ok_and(|source| source.contains("#[test]") || source.contains("#[tokio::test"))
                });
                assert!(holds, "{surface}: there are no tests in {place}");
            }
            places += 1;
        }
        assert!(places > 0, "{surface} names no test");
        checked += places;
    }
    assert!(checked > 30, "only {checked} places were found: the test looks in the wrong place");
}

#[test]
fn names_are_told_from_other_words() {
    let line = "| `maxRunning`, `max_queued_jobs_per_client` | `leasing::two_sweepers_take_each_job_away_once`, `a_stale_epoch_changes_nothing`; `a_b` |";
    let expected =
        [("leasing", "two_sweepers_take_each_job_away_once"), ("leasing", "a_stale_epoch_changes_nothing")];
    assert_eq!(named(line), expected.map(|(module, name)| (module.to_owned(), name.to_owned())));
}
