//! `links` and `pages`: the links of a running daemon, printed as they arrive. The memory that this takes does not grow with their
//! number.

use std::io::{self, BufReader, BufWriter, Read, Write};

use http::Method;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::admin::{AdminClient, broke_off};
use super::output::{self, note};
use super::program::Program;
use crate::core::model::Source;
use crate::exit::{self, Failure};

/// The columns of the table are as wide as the first rows need; longer cells further down push the rest of their row to
/// the right.
const MEASURED: usize = 1000;
const BUFFER: usize = 64 << 10;

/// Which list it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    /// Facebook Pages.
    Pages,
    /// Links of every source, or of one.
    Links(Option<Source>),
}

impl List {
    /// The list's name in its document.
    fn name(self) -> &'static str {
        match self {
            List::Pages => "pages",
            List::Links(_) => "links",
        }
    }

    fn path(self) -> String {
        match self {
            List::Links(Some(source)) => format!("/v1/links?source={}", source.as_str()),
            _ => format!("/v1/{}", self.name()),
        }
    }

    /// The heads of the columns that name a link.
    fn heads(self) -> &'static [&'static str] {
        match self {
            List::Pages => &["PAGE"],
            List::Links(_) => &["SOURCE", "ID"],
        }
    }

    /// The keys of the same columns.
    fn keys(self) -> &'static [&'static str] {
        match self {
            List::Pages => &["page_id"],
            List::Links(_) => &["source", "id"],
        }
    }
}

pub(super) fn links(client: &AdminClient, program: &Program, list: List, as_json: bool) -> Result<(), Failure> {
    let arriving = client.read(Method::GET, &list.path(), "")?;
    let out = BufWriter::with_capacity(BUFFER, io::stdout().lock());
    let outcome = if as_json {
        let mut json = JsonList { out, name: list.name(), is_empty: true };
        json.begin().and_then(|()| each(arriving, list.name(), |link| json.add(&link))).and_then(|()| json.end())
    } else {
        let mut table = Table { out, list, held: Vec::new(), widths: None };
        let listed = each(arriving, list.name(), |link| table.add(row(list, &link))).and_then(|()| table.end());
        listed.map(|is_empty| {
            if is_empty {
                note(program.say("nothing is linked; `pagesyncd session --user UUID` prints a login URL to link some"));
            }
        })
    };
    match outcome {
        Err(Broken::Answer(failure)) => Err(failure),
        Err(Broken::Output(error)) => output::seen(Err(error)),
        Ok(()) => Ok(()),
    }
}

/// Why a list is not printed to its end.
enum Broken {
    /// The daemon did not answer to the end.
    Answer(Failure),
    /// Standard output cannot be written.
    Output(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        Broken::Output(error)
    }
}

/// Hands over each link of `{"links":[…]}`, or whatever the list's name is, as soon as it has arrived, and ends with the first that is not taken.
fn each(arriving: impl Read, name: &'static str, mut take: impl FnMut(Value) -> io::Result<()>) -> Result<(), Broken> {
    let mut refused = None;
    let mut pass_on = |page| take(page).map_err(|error| refused = Some(error)).is_ok();
    let mut json = serde_json::Deserializer::from_reader(BufReader::with_capacity(BUFFER, arriving));
    let read = json.deserialize_map(Document(name, &mut pass_on)).and_then(|()| json.end());
    match (refused, read) {
        (Some(error), _) => Err(Broken::Output(error)),
        (None, Err(error)) if error.is_io() || error.is_eof() => Err(Broken::Answer(broke_off(&error))),
        (None, Err(error)) => {
            let what = format!("the daemon answered something strange: {error}");
            Err(Broken::Answer(Failure::new(exit::INTERNAL, what, "")))
        }
        (None, Ok(())) => Ok(()),
    }
}

/// Reads the document.
struct Document<'a, F>(&'static str, &'a mut F);

impl<'de, F: FnMut(Value) -> bool> Visitor<'de> for Document<'_, F> {
    type Value = ();

    fn expecting(&self, text: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        text.write_str("a document with a list of links")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == self.0 {
                map.next_value_seed(Links(self.1))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Reads the list in it.
struct Links<'a, F>(&'a mut F);

impl<'de, F: FnMut(Value) -> bool> Visitor<'de> for Links<'_, F> {
    type Value = ();

    fn expecting(&self, text: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        text.write_str("a list of links")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pages: A) -> Result<(), A::Error> {
        while let Some(page) = pages.next_element()? {
            if !(self.0)(page) {
                return Err(A::Error::custom("nobody reads on"));
            }
        }
        Ok(())
    }
}

impl<'de, F: FnMut(Value) -> bool> DeserializeSeed<'de> for Links<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, list: D) -> Result<(), D::Error> {
        list.deserialize_seq(self)
    }
}

/// The list as a document, as `{:#}` of a whole one prints it.
struct JsonList<W> {
    out: W,
    name: &'static str,
    is_empty: bool,
}

impl<W: Write> JsonList<W> {
    fn begin(&mut self) -> Result<(), Broken> {
        Ok(write!(self.out, "{{\n  \"{}\": [", self.name)?)
    }

    fn add(&mut self, page: &Value) -> io::Result<()> {
        let comma = if std::mem::take(&mut self.is_empty) { "" } else { "," };
        // A line's end inside of a text is escaped.
        write!(self.out, "{comma}\n    {}", format!("{page:#}").replace('\n', "\n    "))
    }

    fn end(&mut self) -> Result<(), Broken> {
        self.out.write_all(if self.is_empty { b"]\n}\n" } else { b"\n  ]\n}\n" })?;
        Ok(self.out.flush()?)
    }
}

type Row = Vec<String>;

/// The list for a person.
struct Table<W> {
    out: W,
    list: List,
    /// Rows that wait until the widths are known.
    held: Vec<Row>,
    widths: Option<Vec<usize>>,
}

impl<W: Write> Table<W> {
    fn add(&mut self, row: Row) -> io::Result<()> {
        match self.widths.clone() {
            Some(widths) => self.print(&row, &widths),
            None => {
                self.held.push(row);
                if self.held.len() == MEASURED { self.measure() } else { Ok(()) }
            }
        }
    }

    /// Prints the head and what waits.
    fn measure(&mut self) -> io::Result<()> {
        let rest = ["NAME", "USER", "HEALTH", "OBJECT CHANGED", "NEXT POLL", "WHAT TO DO"];
        let head: Row = self.list.heads().iter().chain(&rest).map(|head| (*head).to_owned()).collect();
        let held = std::mem::take(&mut self.held);
        let all = || std::iter::once(&head).chain(&held);
        let width = |n: usize| all().map(|row| row[n].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        self.widths = Some(widths.clone());
        all().try_for_each(|row| self.print(row, &widths))
    }

    fn print(&mut self, row: &Row, widths: &[usize]) -> io::Result<()> {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}", width = *width));
        let line = cells.collect::<Vec<String>>().join("  ");
        writeln!(self.out, "{}", line.trim_end())
    }

    /// Returns whether there was no row.
    fn end(&mut self) -> Result<bool, Broken> {
        if self.widths.is_none() && !self.held.is_empty() {
            self.measure()?;
        }
        self.out.flush()?;
        Ok(self.widths.is_none())
    }
}

fn row(list: List, page: &Value) -> Row {
    // A name is outside text: control characters would play with the terminal.
    let up_to = |key: &str, most: usize| {
        let text = page[key].as_str().unwrap_or("-");
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect::<String>()
    };
    let text = |key: &str| up_to(key, 60);
    let mut health = text("health");
    if page["owed"] == true {
        health.push_str(", owed");
    }
    if page["owed_parked"] == true {
        health.push_str(", read waits for a person");
    }
    if let Some(until) = page["until"].as_str() {
        health.push_str(&format!(" until {until}"));
    }
    let note = match (page["reason"].is_string(), page["remedy"].is_string()) {
        (_, true) => format!("{}: {}", up_to("reason", 300), up_to("remedy", 300)),
        (true, false) => up_to("reason", 300),
        (false, false) => String::new(),
    };
    let rest = [text("name"), text("user"), health, text("object_changed_at"), text("next_poll_at"), note];
    list.keys().iter().map(|key| text(key)).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(document: &str) -> (String, Result<(), Broken>) {
        let mut list = JsonList { out: Vec::new(), name: "pages", is_empty: true };
        let listed = list.begin().and_then(|()| each(document.as_bytes(), "pages", |page| list.add(&page)));
        let ended = listed.and_then(|()| list.end());
        (String::from_utf8(list.out).unwrap(), ended)
    }

    #[test]
    fn the_document_is_printed_as_a_whole_one_would_be() {
        for document in [
            json!({"pages": []}),
            json!({"pages": [{"name": "a \n \u{1}\"[{", "list": [], "none": null}]}),
            json!({"pages": [{"a": {"b": [1, 2]}}, {}, {"c": "x"}]}),
        ] {
            let (text, ended) = printed(&document.to_string());
            assert_eq!(text, format!("{document:#}\n"));
            assert!(ended.is_ok());
        }
    }

    #[test]
    fn a_list_that_breaks_off_is_a_failure() {
        let whole = json!({"pages": [{"a": 1}, {"b": 2}]}).to_string();
        for end in 0..whole.len() {
            let (_, ended) = printed(&whole[..end]);
            assert!(matches!(ended, Err(Broken::Answer(failure)) if failure.code == exit::UNAVAILABLE), "{end}");
        }
        assert!(matches!(printed("{\"pages\":7}").1, Err(Broken::Answer(failure)) if failure.code == exit::INTERNAL));
    }

    #[test]
    fn a_reader_who_has_seen_enough_ends_the_list() {
        let mut taken = 0;
        let ended = each(&b"{\"pages\":[{},{},{}]}"[..], "pages", |_| {
            taken += 1;
            Err(io::ErrorKind::BrokenPipe.into())
        });
        assert!(matches!(ended, Err(Broken::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe));
        assert_eq!(taken, 1);
    }

    #[test]
    fn columns_are_as_wide_as_the_first_rows_need() {
        let mut table = Table { out: Vec::new(), list: List::Pages, held: Vec::new(), widths: None };
        for n in 0..MEASURED + 1 {
            let name = if n == MEASURED { "a name that is longer than the others".to_owned() } else { "x".to_owned() };
            table.add(row(List::Pages, &json!({"page_id": "1", "name": name, "user": "u"}))).unwrap();
        }
        assert!(matches!(table.end(), Ok(false)));
        let text = String::from_utf8(table.out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), MEASURED + 2);
        assert_eq!(lines[0], "PAGE  NAME  USER  HEALTH  OBJECT CHANGED  NEXT POLL  WHAT TO DO");
        assert_eq!(lines[1], "1     x     u     -       -               -");
        assert_eq!(lines[MEASURED + 1], "1     a name that is longer than the others  u     -       -               -");
        let mut none = Table { out: Vec::new(), list: List::Pages, held: Vec::new(), widths: None };
        assert!(matches!(none.end(), Ok(true)));
    }
}
