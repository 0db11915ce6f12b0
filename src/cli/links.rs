//! `links` and `pages`: the links of a running daemon, printed as they arrive. The memory that this takes does not grow
//! with their number, unless they are to be put in an order.

mod choice;
mod list;
mod reading;
mod table;

use std::io::{self, BufWriter, Read, Write};

use http::Method;
use serde_json::Value;

pub(super) use self::choice::Choice;
use self::choice::Chosen;
pub(super) use self::list::List;
use self::reading::{Broken, each};
use self::table::Table;
use super::admin::AdminClient;
use super::output::{self, Paint, note};
use super::program::Program;
use crate::exit::Failure;

const BUFFER: usize = 64 << 10;

pub(super) fn links(
    client: &AdminClient,
    program: &Program,
    list: List,
    choice: &Choice,
    as_json: bool,
) -> Result<(), Failure> {
    let arriving = client.read(Method::GET, &list.path(), "")?;
    let out = BufWriter::with_capacity(BUFFER, io::stdout().lock());
    let outcome = if as_json {
        let mut json = JsonList { out, name: list.name(), is_empty: true };
        let begun = json.begin().map_err(Broken::Output);
        let listed = begun.and_then(|()| choose(arriving, list, choice, |link| json.add(&link)));
        listed.and_then(|()| Ok(json.end()?))
    } else {
        let mut table = Table::new(out, list, output::terminal_columns(), Paint::of_stdout());
        let listed = choose(arriving, list, choice, |link| table.add(&link));
        listed.and_then(|()| Ok(table.end()?)).map(|is_empty| {
            if is_empty && choice.is_narrow() {
                note("no such link");
            } else if is_empty {
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

/// Prints the chosen links of a list that arrives.
fn choose(
    arriving: impl Read,
    list: List,
    choice: &Choice,
    mut print: impl FnMut(Value) -> io::Result<()>,
) -> Result<(), Broken> {
    let mut chosen = Chosen::new(choice);
    each(arriving, list.name(), |link| chosen.take(link, &mut print))?;
    Ok(chosen.end(print)?)
}

/// The list as a document, as `{:#}` of a whole one prints it.
struct JsonList<W> {
    out: W,
    name: &'static str,
    is_empty: bool,
}

impl<W: Write> JsonList<W> {
    fn begin(&mut self) -> io::Result<()> {
        write!(self.out, "{{\n  \"{}\": [", self.name)
    }

    fn add(&mut self, page: &Value) -> io::Result<()> {
        let comma = if std::mem::take(&mut self.is_empty) { "" } else { "," };
        // A line's end inside of a text is escaped.
        write!(self.out, "{comma}\n    {}", format!("{page:#}").replace('\n', "\n    "))
    }

    fn end(&mut self) -> io::Result<()> {
        self.out.write_all(if self.is_empty { b"]\n}\n" } else { b"\n  ]\n}\n" })?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_document_is_printed_as_a_whole_one_would_be() {
        for document in [
            json!({"pages": []}),
            json!({"pages": [{"name": "a \n \u{1}\"[{", "list": [], "none": null}]}),
            json!({"pages": [{"a": {"b": [1, 2]}}, {}, {"c": "x"}]}),
        ] {
            let mut list = JsonList { out: Vec::new(), name: "pages", is_empty: true };
            list.begin().unwrap();
            let text = document.to_string();
            let all = Choice::default();
            assert!(choose(text.as_bytes(), List::Pages, &all, |link| list.add(&link)).is_ok());
            list.end().unwrap();
            assert_eq!(String::from_utf8(list.out).unwrap(), format!("{document:#}\n"));
        }
    }
}
