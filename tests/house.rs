//! What must hold of the project as a whole, seen from its text: pure rooms stay pure, rooms below know nothing of
//! those above, and what is written down for people (README, man page, units) names everything that the program has.
//! Nothing here starts a daemon.
//!
//! The man page is generated: `PAGESYNCD_UPDATE=1 cargo test --test house` writes it anew.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[allow(dead_code)]
fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below a folder, or the file itself.
fn files(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    entries.flat_map(|entry| files(&entry.expect("an entry").path())).collect()
}

/// The Rust files of a room: `src/NAME.rs` and all below `src/NAME/`, tests beside them left out.
fn room(name: &str) -> Vec<PathBuf> {
    let base = root().join("src").join(name);
    let mut found: Vec<PathBuf> = [base.with_extension("rs"), base].into_iter().filter(|p| p.exists()).collect();
    found = found.iter().flat_map(|path| files(path)).collect();
    found.retain(|path| path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs"));
    assert!(!found.is_empty(), "there is no room {name}");
    found
}

/// The code of a file: without comments, and without the tests at its end.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().enumerate().take_while(|(_, line)| line.trim() != "mod tests {");
    let without_comment = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    lines.map(|(n, line)| (n + 1, without_comment(line))).collect()
}

/// Does `line` name `word` as a whole path segment or identifier?
fn names(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(part);
        let after = line[at + word.len()..].chars().next().is_some_and(part);
        !before && !after
    })
}

fn offences(rooms: &[&str], forbidden: &[&str]) -> Vec<String> {
    let paths = rooms.iter().flat_map(|name| room(name));
    let lines = paths.flat_map(|path| code(&path).into_iter().map(move |(n, line)| (path.clone(), n, line)));
    let hits = lines.flat_map(|(path, n, line)| {
        let words = forbidden.iter().filter(|word| names(&line, word));
        words.map(|word| format!("{}:{n} names {word}", path.display())).collect::<Vec<_>>()
    });
    hits.collect()
}

const PURE: &[&str] = &[
    "ledger",
    "page",
    "upload",
    "backoff",
    "restart",
    "health",
    "config/diff",
    "graph/error",
    "graph/throttle",
    "graph/usage",
    "graph/scrub",
    "graph/json",
];

#[test]
fn pure_rooms_use_no_runtime_no_network_no_disk_and_no_clock() {
    let engines = ["tokio", "ractor", "hyper", "reqwest", "sled", "s3", "rand", "std::fs", "std::net", "std::thread"];
    let clocks = ["Millis::now", "Instant::now", "SystemTime", "OffsetDateTime::now_utc"];
    let found = offences(PURE, &[&engines[..], &clocks[..]].concat());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn rooms_below_know_nothing_of_those_above() {
    let above = ["crate::actors", "crate::http", "crate::cli", "crate::house", "crate::linking", "crate::sandbox"];
    let below = ["store", "graph", "spaces", "config", "oauth", "signature", "metrics", "model", "telemetry", "import"];
    let found = offences(&[&below[..], PURE].concat(), &above);
    assert!(found.is_empty(), "{}", found.join("\n"));
    let found = offences(PURE, &["crate::store", "crate::spaces", "crate::graph::transport", "crate::metrics"]);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_search_for_offences_finds_them() {
    assert!(names("let at = Millis::now();", "Millis::now"));
    assert!(names("use tokio::time;", "tokio"));
    assert!(!names("let tokio_like = 1;", "tokio"));
    assert!(!offences(&["actors"], &["tokio", "ractor"]).is_empty());
}
