//! The keys of the configuration, as the code declares them, against the texts that explain them to operators.

use pagesyncd::config::{Documented, documented, environment};

use super::{REFERENCE, missing, read};

/// The example, in which each key has its default.
const EXAMPLE: &str = "config.toml.example";

/// The rows of the table in [`REFERENCE`] that explain a key: `| name | default | sentence |`.
pub fn rows(reference: &str) -> Vec<(&str, &str, &str)> {
    let cells = reference.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.strip_suffix(" |")?.splitn(3, " | ");
        Some((cells.next()?.strip_suffix('`')?, cells.next()?, cells.next()?))
    });
    cells.filter(|(name, ..)| is_key(name)).collect()
}

/// Is this name the one of a key: a known section, a dot and a word?
fn is_key(name: &str) -> bool {
    let sections: Vec<&str> = documented().filter_map(|key| Some(key.name.rsplit_once('.')?.0)).collect();
    let word =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b"_0123456789".contains(&b));
    name.rsplit_once('.').is_some_and(|(section, leaf)| sections.contains(&section) && word(leaf))
}

/// What is wrong with the rows of these keys.
fn wrong_rows(reference: &str, keys: &[Documented]) -> Vec<String> {
    let rows = rows(reference);
    let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
    let mut wrong: Vec<String> = Vec::new();
    for key in keys {
        let Some((_, default, sentence)) = rows.iter().find(|(name, ..)| *name == key.name) else {
            wrong.push(format!("there is no row for {}", key.name));
            continue;
        };
        let shown = key.default.as_deref().map(|text| match text {
            "required" | "none" => text.to_owned(),
            value => format!("`{value}`"),
        });
        if shown.as_deref().is_some_and(|shown| shown != *default) {
            wrong.push(format!("{}: its default is {}", key.name, shown.unwrap_or_default()));
        }
        if sentence.trim().is_empty() {
            wrong.push(format!("{}: its row does not explain it", key.name));
        }
        if key.reloads == sentence.contains("Needs a restart") {
            wrong.push(format!("{}: a reload may change it: {}", key.name, key.reloads));
        }
    }
    let strays = rows.iter().filter(|(name, ..)| !names.contains(name));
    wrong.extend(strays.map(|(name, ..)| format!("{name} is no key")));
    wrong
}

#[test]
fn the_reference_has_every_key_with_its_default() {
    let keys: Vec<Documented> = documented().collect();
    assert!(keys.len() > 40);
    let wrong = wrong_rows(&read(REFERENCE), &keys);
    assert!(wrong.is_empty(), "{REFERENCE}:\n{}", wrong.join("\n"));
}

/// The keys of the example above which no comment stands. Keys that stand together share one.
fn unexplained(example: &str) -> Vec<String> {
    let (mut section, mut explained, mut found) = (String::new(), false, Vec::new());
    for line in example.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            (section, explained) = (name.to_owned(), false);
        } else if line.starts_with('#') {
            explained = true;
        } else if line.is_empty() {
            explained = false;
        } else if let Some((leaf, _)) = line.split_once(" = ").filter(|(leaf, _)| !leaf.starts_with(' '))
            && !explained
        {
            found.push(format!("{section}.{leaf}"));
        }
    }
    found
}

#[test]
fn the_example_has_every_key_with_a_comment() {
    let text = read(EXAMPLE);
    let example: toml::Table = text.parse().expect("the example is TOML");
    let whole = toml::Value::from(example);
    let has = |name: &str| name.split('.').try_fold(&whole, |table, part| table.get(part)).is_some();
    let lacking: Vec<&str> = documented().map(|key| key.name).filter(|name| !has(name)).collect();
    assert!(lacking.is_empty(), "{EXAMPLE} lacks {lacking:?}");
    let unexplained = unexplained(&text);
    assert!(unexplained.is_empty(), "{EXAMPLE} has no comment above {unexplained:?}");
}

#[test]
fn every_environment_variable_is_named() {
    let variables = environment();
    assert!(variables.len() >= 13, "{variables:?}");
    for document in [REFERENCE, "man/sections.roff", EXAMPLE] {
        let lacking = missing(&read(document), variables.iter().copied());
        assert!(lacking.is_empty(), "{document} lacks {lacking:?}");
    }
}

#[test]
fn the_search_for_rows_and_comments_finds_what_is_wrong() {
    let key = |name, default: Option<&str>, reloads| {
        let default = default.map(str::to_owned);
        Documented { name, default, reloads, takes: String::new(), list: &[], env: None }
    };
    let table = "| key | default | meaning |\n|---|---|---|\n\
                 | `http.listen` | `1` | where |\n| `http.body` | none | a | b |\n| `store.path` | x | Needs a restart |\n\
                 | `store.idle` | none |  |\n| `other.name` | x | y |\n| `log.stray` | x | y |\n";
    let keys = [
        key("http.listen", Some("1"), true),
        key("http.body", Some("2"), true),
        key("store.path", None, true),
        key("store.idle", Some("none"), true),
        key("log.level", None, true),
    ];
    assert_eq!(
        wrong_rows(table, &keys),
        [
            "http.body: its default is `2`",
            "store.path: a reload may change it: true",
            "store.idle: its row does not explain it",
            "there is no row for log.level",
            "log.stray is no key",
        ]
    );
    let example = "# About.\n[a]\none = 1\n# Two and three.\ntwo = [\n    1,\n]\nthree = 3\n\nfour = 4\n";
    assert_eq!(unexplained(example), ["a.one", "a.four"]);
}
