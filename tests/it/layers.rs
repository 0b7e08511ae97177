//! Who may use whom: the layers of the house, held by the `use` lines.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// From the top: each room may use rooms of the lines below its own, and itself, and nothing else. Rooms of one line
/// do not know each other.
const LAYERS: &[&[&str]] = &[
    &["main", "cli"],
    &["http", "native"],
    &["graphql", "worker", "maintenance", "access"],
    &["events"],
    &["store", "outbound"],
    &["job", "postgres"],
    &["log"],
    &["config", "error"],
];

/// Where a room stands, from the top.
fn layer(room: &str) -> usize {
    LAYERS.iter().position(|rooms| rooms.contains(&room)).unwrap_or_else(|| panic!("{room} has no layer"))
}

fn source_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            source_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The rooms that a source file names, by `crate::` or, in the binary, by `jobql::`.
fn rooms_used(source: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for line in source.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for prefix in ["crate::", "jobql::"] {
            for (position, _) in line.match_indices(prefix) {
                let rest = &line[position + prefix.len()..];
                let names = match rest.strip_prefix('{') {
                    Some(list) => list.split('}').next().unwrap_or_default().split(',').collect(),
                    None => vec![rest],
                };
                for name in names {
                    let name: String =
                        name.trim().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                    rooms.insert(name);
                }
            }
        }
    }
    rooms
}

#[test]
fn no_room_uses_one_above_it_or_beside_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&root, &mut files);
    let mut uses = 0;
    for file in files {
        let below_src = file.strip_prefix(&root).expect("below src");
        let room = below_src.components().next().expect("a name").as_os_str().to_string_lossy();
        let room = room.trim_end_matches(".rs");
        if room == "lib" {
            continue;
        }
        let source = std::fs::read_to_string(&file).expect("source");
        for used in rooms_used(&source).iter().filter(|used| *used != room) {
            uses += 1;
            assert!(
                layer(used) > layer(room) || (room == "main" && used == "cli"),
                "{} uses {used}, which stands above or beside {room}",
                below_src.display()
            );
        }
    }
    assert!(uses > 30, "only {uses} uses were found: the test looks in the wrong place");
}

#[test]
fn the_tables_and_the_migrations_know_nothing_of_the_house() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (package, forbidden) in [("entity", ["jobql", "migration"]), ("migration", ["jobql", "entity"])] {
        let manifest = std::fs::read_to_string(root.join(package).join("Cargo.toml")).expect("a manifest");
        let dependencies = manifest.split("[dependencies]").nth(1).expect("dependencies");
        for name in forbidden {
            assert!(!dependencies.contains(name), "{package} depends on {name}");
        }
    }
}

#[test]
fn sql_stands_in_the_store() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&root, &mut files);
    for file in files {
        let below_src = file.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
        // What makes the cluster and checks the server speaks to PostgreSQL, not to our tables.
        if below_src.starts_with("store") || below_src.starts_with("postgres") || below_src == "cli.rs" {
            continue;
        }
        let source = std::fs::read_to_string(&file).expect("source");
        for call in ["sqlx::query", "sqlx::raw_sql", "Statement::from", "execute_unprepared"] {
            assert!(!source.contains(call), "{below_src} holds SQL: {call}");
        }
    }
}
