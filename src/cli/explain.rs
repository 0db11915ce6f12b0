//! `explain`: the text of the documents about a health, a key of the configuration, an error code, an exit code, or
//! anything else that has a row or a section there.

mod documents;

use serde_json::{Value, json};

use self::documents::{Entry, entries};
use super::output::{self, line};
use super::program::Program;
use crate::config::documented;
use crate::exit::{self, Failure};

/// The length of a line where no terminal has one.
const COLUMNS: usize = 100;
/// How many near topics are named.
const NEAR: usize = 4;

/// Prints the explanation of a topic, or without one the list of topics.
pub(super) fn explain(words: &[String], program: &Program, as_json: bool) -> Result<(), Failure> {
    let topic = words.join(" ");
    if topic.is_empty() {
        return list(as_json);
    }
    let found = find(&topic);
    if found.is_empty() {
        let near = near(&topic).join(", ");
        let hint = program.say(&format!("near ones: {near}; `pagesyncd explain` lists all"));
        return Err(Failure::new(exit::USAGE, format!("{topic:?} is no topic"), hint));
    }
    if as_json {
        let entries: Vec<Value> = found.iter().map(document).collect();
        return line(format_args!("{:#}", json!({"topic": topic, "entries": entries})));
    }
    line(text(&found, output::terminal_columns().unwrap_or(COLUMNS)))
}

/// The explanation of a topic as a pipe gets it; `None` for a topic that is unknown.
pub(super) fn explanation(topic: &str) -> Option<String> {
    let found = find(topic);
    (!found.is_empty()).then(|| text(&found, COLUMNS))
}

/// The entries about a topic. A key of the configuration also has its values and its variable, from the code.
fn find(topic: &str) -> Vec<Entry> {
    let lower = topic.to_lowercase();
    let bare = ["exit code ", "exit "].iter().find_map(|start| lower.strip_prefix(start)).unwrap_or(&lower);
    let spaced = bare.replace('-', " ");
    let is_meant = |name: &String| *name == topic || name.to_lowercase() == bare || name.to_lowercase() == spaced;
    let mut found: Vec<Entry> = entries().into_iter().filter(|entry| entry.names.iter().any(is_meant)).collect();
    for entry in found.iter_mut().filter(|entry| entry.is_row) {
        let Some(key) = documented().find(|key| entry.names.iter().any(|name| name == key.name)) else { continue };
        entry.fields.push(("values".to_owned(), key.takes));
        if !key.list.is_empty() {
            entry.fields.push(("default list".to_owned(), key.list.join(", ")));
        }
        entry.fields.extend(key.env.map(|name| ("environment".to_owned(), format!("{name} wins over the file"))));
    }
    found
}

/// The topics that an unknown one may mean: the same key of any section, then those that look most like it.
fn near(topic: &str) -> Vec<String> {
    let mut names: Vec<String> = entries().into_iter().filter(|e| e.is_row).flat_map(|entry| entry.names).collect();
    names.sort_unstable();
    names.dedup();
    let likeness = |name: &String| {
        let is_leaf = name.split_once('.').is_some_and(|(_, leaf)| leaf == topic);
        if is_leaf { 2.0 } else { strsim::jaro_winkler(topic, name) }
    };
    let mut scored: Vec<(f64, String)> = names.into_iter().map(|name| (likeness(&name), name)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(NEAR).map(|(_, name)| name).collect()
}

/// Every topic, by the section that explains it.
fn list(as_json: bool) -> Result<(), Failure> {
    let mut sections: Vec<(&str, Vec<String>)> = Vec::new();
    for entry in entries().into_iter().filter(|entry| entry.is_row && !entry.names.is_empty()) {
        match sections.iter_mut().find(|(section, _)| *section == entry.section) {
            Some((_, names)) => names.extend(entry.names),
            None => sections.push((entry.section, entry.names)),
        }
    }
    sections.iter_mut().for_each(|(_, names)| names.dedup());
    if as_json {
        let sections: Vec<Value> =
            sections.iter().map(|(section, names)| json!({"section": section, "topics": names})).collect();
        return line(format_args!("{:#}", json!({"sections": sections})));
    }
    let columns = output::terminal_columns().unwrap_or(COLUMNS);
    let part =
        |(section, names): &(&str, Vec<String>)| format!("{section}:\n{}", wrapped(&names.join(" "), "  ", columns));
    line(sections.iter().map(part).collect::<Vec<String>>().join("\n"))
}

fn document(entry: &Entry) -> Value {
    let fields: Vec<Value> = entry.fields.iter().map(|(name, text)| json!({"name": name, "text": text})).collect();
    json!({"document": entry.document, "section": entry.section, "title": entry.title, "fields": fields})
}

fn text(found: &[Entry], columns: usize) -> String {
    let part = |entry: &Entry| {
        let mut text = format!("{} ({}, {})", entry.title, entry.document, entry.section);
        for (head, body) in &entry.fields {
            text.push('\n');
            // A section is printed as it is written.
            text.push_str(&if head.is_empty() {
                body.clone()
            } else {
                wrapped(&format!("{head}: {body}"), "  ", columns)
            });
        }
        text
    };
    found.iter().map(part).collect::<Vec<String>>().join("\n\n")
}

/// A text in lines that fit, all but its first one further to the right.
fn wrapped(text: &str, indent: &str, columns: usize) -> String {
    let (mut lines, mut line) = (Vec::new(), indent.to_owned());
    for word in text.split_whitespace() {
        let is_begun = !line.trim().is_empty();
        if is_begun && line.chars().count() + 1 + word.chars().count() > columns {
            lines.push(std::mem::replace(&mut line, format!("{indent}  ")));
        } else if is_begun {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_found_however_they_are_written() {
        for topic in ["needs_login", "NEEDS_LOGIN", "spaces.max_in_flight", "69", "exit 69", "exit code 69", "links"] {
            assert!(!find(topic).is_empty(), "{topic}");
        }
        for topic in ["health of links", "health-of-links", "Exit-Codes", "pagesyncd_due", "/readyz", "SPACES_KEY"] {
            assert!(!find(topic).is_empty(), "{topic}");
        }
        assert!(find("neds_login").is_empty() && find("").is_empty());
    }

    #[test]
    fn a_key_has_what_the_code_knows_of_it() {
        let text = explanation("spaces.region").unwrap_or_default();
        for part in ["spaces.region (docs/reference.md, Configuration)", "default: `nyc3`", "SPACES_REGION wins"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(explanation("spaces.max_in_flight").is_some_and(|text| text.contains("from 1 to 256")));
        assert!(explanation("facebook.scopes").is_some_and(|text| text.contains("pages_show_list")));
    }

    #[test]
    fn near_topics_are_the_likely_ones() {
        assert!(near("neds_login").contains(&"needs_login".to_owned()));
        let keys = near("max_in_flight");
        assert!(keys.iter().all(|key| key.ends_with(".max_in_flight")) && keys.len() == NEAR, "{keys:?}");
    }

    #[test]
    fn lines_fit() {
        let text = explanation("unlink").unwrap_or_default();
        assert!(text.lines().skip(1).all(|line| line.chars().count() <= COLUMNS), "{text}");
        assert_eq!(wrapped("a bb ccc", "  ", 6), "  a bb\n    ccc");
    }
}
