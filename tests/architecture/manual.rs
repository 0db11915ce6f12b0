//! The man pages, which are generated: `PAGESYNCD_UPDATE=1 cargo test --test architecture` writes them anew. Here is
//! pagesyncd.toml(5), made of the keys as the code declares them and of the sentences of the reference.

use pagesyncd::config::{Documented, documented};

use super::config::rows;
use super::{REFERENCE, fs, read, root};

/// Compares a generated page with the file that is kept, or writes the file.
pub fn held(path: &str, page: &str) {
    if std::env::var_os("PAGESYNCD_UPDATE").is_some() {
        fs::write(root().join(path), page).expect("the page is written");
    }
    let why = "is not what the program says; PAGESYNCD_UPDATE=1 cargo test --test architecture writes it";
    assert!(read(path) == page, "{path} {why}");
}

/// Plain text for troff. A line that began with a full stop or a quote would be a request.
pub fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

/// A sentence of Markdown for troff: links by their text, code in bold.
fn sentence(markdown: &str) -> String {
    let mut plain = String::new();
    let mut rest = markdown;
    while let Some((before, (text, after))) = rest.split_once('[').and_then(|(before, behind)| {
        let (text, behind) = behind.split_once("](")?;
        Some((before, (text, behind.split_once(')')?.1)))
    }) {
        plain += before;
        plain += text;
        rest = after;
    }
    plain += rest;
    let spans = plain.split('`').enumerate().filter(|(_, span)| !span.is_empty());
    let spans = spans.map(|(n, span)| if n % 2 == 1 { format!("\\fB{}\\fR", escape(span)) } else { escape(span) });
    spans.collect()
}

/// The meaning of a key as a whole sentence.
fn whole_sentence(meaning: &str) -> String {
    let text = sentence(meaning.trim_end_matches('.'));
    let first = text.chars().next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", text.chars().skip(1).collect::<String>())
}

/// The default of a key, as the file writes it.
fn default(key: &Documented) -> String {
    match key.default.as_deref() {
        Some("required") => "Required.".to_owned(),
        Some("none") => "No default.".to_owned(),
        Some(value) => format!("Default: \\fB{}\\fR.", escape(value)),
        None => format!("Default: \\fB{}\\fR.", escape(&key.list.join(", "))),
    }
}

/// The entry of a key below the heading of its section.
fn entry(key: &Documented, meaning: &str) -> String {
    let leaf = key.name.rsplit_once('.').expect("a section").1;
    let variable = key.env.map(|name| format!(" \\fB{}\\fR in the environment wins.", escape(name)));
    format!(
        ".TP\n\\fB{}\\fR\n{}\nTakes {}. {}{}\n",
        escape(leaf),
        whole_sentence(meaning),
        escape(&key.takes),
        default(key),
        variable.unwrap_or_default()
    )
}

const HEAD: &str = r#".SH NAME
pagesyncd.toml \- configuration of pagesyncd
.SH SYNOPSIS
\fI/etc/pagesyncd/config.toml\fR, or the file of \fB\-\-config\fR
.SH DESCRIPTION
One TOML file with a section for each part of the daemon. Every key has a default unless it is required. An unknown key
is an error that names the nearest known key. \fBpagesyncd check\fR prints every finding, and \fBpagesyncd explain\fR
\fIKEY\fR explains one key.
.PP
SIGHUP (\fBsystemctl reload pagesyncd\fR) reads the file again. A file with a mistake changes nothing, and so does a
change of a key that needs a restart.
.PP
A duration is a number and a unit, in quotes: \fB"500ms"\fR, \fB"10s"\fR, \fB"24h"\fR, \fB"30d"\fR.
.PP
A secret is a string, or names its source: \fB{ credential = "\fIname\fB" }\fR, a file in the folder of systemd's
credentials; \fB{ file = "\fIpath\fB" }\fR, a file with nothing else in it, relative to the folder of the configuration;
\fB{ env = "\fINAME\fB" }\fR, an environment variable.
"#;

const FOOT: &str = r#".SH FILES
.TP
\fIconfig.toml.example\fR
Every key with its default and a comment.
.SH "SEE ALSO"
\fBpagesyncd\fR(1), \fBsystemd.exec\fR(5)
"#;

fn page() -> String {
    let reference = read(REFERENCE);
    let rows = rows(&reference);
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(".TH pagesyncd.toml 5 \"\" \"pagesyncd {version}\" \"pagesyncd\"\n{HEAD}");
    let mut section = "";
    for key in documented() {
        let (of, _) = key.name.rsplit_once('.').expect("a section");
        if of != section {
            section = of;
            page += &format!(".SH [{section}]\n");
        }
        let meaning = rows.iter().find(|(name, ..)| *name == key.name).map(|(_, _, meaning)| *meaning);
        page += &entry(&key, meaning.unwrap_or_else(|| panic!("{REFERENCE} lacks {}", key.name)));
    }
    page + FOOT
}

#[test]
fn the_man_page_of_the_configuration_has_every_key() {
    let page = page();
    held("man/pagesyncd.toml.5", &page);
    for key in documented() {
        let leaf = key.name.rsplit_once('.').expect("a section").1;
        assert!(page.contains(&format!(".TP\n\\fB{}\\fR\n", escape(leaf))), "{}", key.name);
    }
    assert!(!page.contains("](") && !page.contains('`'), "Markdown is left in the page");
}

#[test]
fn markdown_becomes_troff() {
    let text = "a `b-c` and [the text](#there), \\ see [x](y.md) [not one]";
    assert_eq!(sentence(text), "a \\fBb\\-c\\fR and the text, \\e see x [not one]");
    assert_eq!(escape(".so"), "\\&.so");
}
