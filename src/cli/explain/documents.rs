//! The documents that the program carries, cut into entries: the rows of their tables, by the words in the
//! first cell, and their sections, by the heading. So each explanation is written once.

/// The documents, each with its path in the project.
const DOCUMENTS: [(&str, &str); 2] = [
    ("docs/reference.md", include_str!("../../../docs/reference.md")),
    ("docs/operations.md", include_str!("../../../docs/operations.md")),
];

/// A part of a document that explains something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub document: &'static str,
    /// The heading above it.
    pub section: &'static str,
    /// The topics that it explains.
    pub names: Vec<String>,
    /// The first cell of a row, or the heading.
    pub title: String,
    /// The other cells, each with the head of its column. A section has one, without a head.
    pub fields: Vec<(String, String)>,
    /// Is it a row of a table?
    pub is_row: bool,
}

/// Everything that the documents explain, in their order.
pub(super) fn entries() -> Vec<Entry> {
    DOCUMENTS.iter().flat_map(|(document, text)| cut(document, text)).collect()
}

fn cut(document: &'static str, text: &'static str) -> Vec<Entry> {
    let lines: Vec<&str> = text.lines().collect();
    let (mut section, mut heads, mut entries) = ("", Vec::new(), Vec::new());
    let mut is_code = false;
    for (n, line) in lines.iter().copied().enumerate() {
        is_code ^= line.starts_with("```");
        if let Some((level, heading)) = heading(line).filter(|_| !is_code) {
            section = heading;
            entries.extend(section_entry(document, heading, &lines[n + 1..], level));
        } else if let Some(cells) = cells(line) {
            match lines.get(n + 1) {
                Some(next) if next.starts_with("|--") => heads = cells,
                _ if line.starts_with("|--") => {}
                _ => entries.push(row_entry(document, section, &heads, &cells)),
            }
        }
    }
    entries
}

/// The level and the text of a heading.
fn heading(line: &'static str) -> Option<(usize, &'static str)> {
    let text = line.trim_start_matches('#');
    let level = line.len() - text.len();
    (level > 1 && text.starts_with(' ')).then(|| (level, text.trim()))
}

/// The cells of a table's row.
fn cells(line: &'static str) -> Option<Vec<&'static str>> {
    Some(line.strip_prefix("| ").or(line.strip_prefix('|'))?.strip_suffix('|')?.split(" | ").map(str::trim).collect())
}

fn row_entry(document: &'static str, section: &'static str, heads: &[&str], cells: &[&str]) -> Entry {
    let first = cells.first().copied().unwrap_or_default();
    let fields = heads.iter().zip(cells).skip(1).map(|(head, cell)| ((*head).to_owned(), plain(cell))).collect();
    let title = plain(first).replace('`', "");
    Entry { document, section, names: names(first), title, fields, is_row: true }
}

fn section_entry(document: &'static str, heading: &'static str, below: &[&'static str], level: usize) -> Option<Entry> {
    let is_over = |line: &str| line.starts_with('#') && line.len() - line.trim_start_matches('#').len() <= level;
    let mut is_code = false;
    let body = below.iter().take_while(|line| {
        is_code ^= line.starts_with("```");
        is_code || !is_over(line)
    });
    let body: Vec<String> = body.map(|line| plain(line)).collect();
    let text = body.join("\n").trim().to_owned();
    let names = vec![heading.to_lowercase()];
    let title = heading.to_owned();
    (!text.is_empty()).then(|| Entry {
        document,
        section: heading,
        names,
        title,
        fields: vec![(String::new(), text)],
        is_row: false,
    })
}

/// The topics of a row: the words in code of its first cell, without arguments and labels, or the exit code in it.
fn names(cell: &str) -> Vec<String> {
    let exit = cell.strip_prefix("exit code ").map(|rest| rest.chars().take_while(char::is_ascii_digit).collect());
    let spans = cell.split('`').skip(1).step_by(2).filter_map(|span| {
        let methods = ["GET ", "POST ", "DELETE "];
        let span = methods.iter().find_map(|method| span.strip_prefix(method)).unwrap_or(span);
        span.split([' ', '{', '[', '?', '=']).next().filter(|name| !name.is_empty()).map(str::to_owned)
    });
    let mut names: Vec<String> = spans.chain(exit).collect();
    names.dedup();
    names
}

/// Markdown for a terminal: links by their text, and no marks of emphasis. Code keeps its quotes.
fn plain(markdown: &str) -> String {
    let (mut text, mut rest) = (String::new(), markdown);
    while let Some((before, behind)) = rest.split_once('[') {
        text.push_str(before);
        match behind.split_once("](").and_then(|(label, behind)| Some((label, behind.split_once(')')?.1))) {
            Some((label, after)) if !label.contains(['[', ']']) => {
                text.push_str(label);
                rest = after;
            }
            _ => {
                text.push('[');
                rest = behind;
            }
        }
    }
    (text + rest).replace("**", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Title\n\n## Verbs\n\nSome [text](x.md#y) **here** [not].\n\n| verb | what |\n|---|---|\n\
                        | `run [--fast]`, `run` | runs, see [Sub](#sub) |\n| exit code 75, \"busy\" | waits |\n\
                        | `GET /x/{id}` | y |\n\n### Sub\n\n```text\n# no heading\n```\n\n## Next\n";

    #[test]
    fn rows_and_sections_are_cut_out() {
        let entries = cut("doc", TEXT);
        let titles: Vec<&str> = entries.iter().map(|entry| entry.title.as_str()).collect();
        assert_eq!(titles, ["Verbs", "run [--fast], run", "exit code 75, \"busy\"", "GET /x/{id}", "Sub"]);
        let names: Vec<&Vec<String>> = entries.iter().map(|entry| &entry.names).collect();
        assert_eq!(names, [&["verbs"], &["run"], &["75"], &["/x/"], &["sub"]]);
        assert!(entries[0].fields[0].1.starts_with("Some text here [not].") && entries[0].fields[0].1.ends_with("```"));
        assert_eq!(entries[1].fields, [("what".to_owned(), "runs, see Sub".to_owned())]);
        assert_eq!((entries[4].section, entries[4].fields[0].1.as_str()), ("Sub", "```text\n# no heading\n```"));
    }
}
