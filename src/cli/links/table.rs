//! The list of links for a person. A pipe gets every cell whole. On a terminal a row is one line of it, and a cell
//! that is too wide ends with an ellipsis.

use std::io::{self, Write};

use serde_json::Value;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::super::output::{Paint, Tone};
use super::list::List;

/// The columns of the table are as wide as the first rows need; longer cells further down push the rest of their row to
/// the right.
pub(super) const MEASURED: usize = 1000;
/// The heads of the columns behind those that name the link.
const HEADS: [&str; 6] = ["NAME", "USER", "HEALTH", "OBJECT CHANGED", "NEXT POLL", "WHAT TO DO"];
/// The columns in the order in which they become narrower where a row does not fit the terminal, each with its least
/// width. A user keeps the first
/// part of the UUID, a time keeps the date.
const NARROWED: [(&str, usize); 7] = [
    ("WHAT TO DO", 24),
    ("USER", 9),
    ("OBJECT CHANGED", 11),
    ("NEXT POLL", 11),
    ("NAME", 12),
    ("HEALTH", 14),
    ("WHAT TO DO", 10),
];

/// The cells of a link, and how its health looks.
struct Row {
    cells: Vec<String>,
    tone: Option<Tone>,
}

/// The table while it is printed.
pub(super) struct Table<W> {
    out: W,
    list: List,
    /// The columns of the terminal, where there is one.
    columns: Option<usize>,
    paint: Paint,
    /// Rows that wait until the widths are known.
    held: Vec<Row>,
    widths: Option<Vec<usize>>,
}

impl<W: Write> Table<W> {
    pub(super) fn new(out: W, list: List, columns: Option<usize>, paint: Paint) -> Self {
        Table { out, list, columns, paint, held: Vec::new(), widths: None }
    }

    pub(super) fn add(&mut self, link: &Value) -> io::Result<()> {
        let row = row(self.list, link);
        match self.widths.take() {
            Some(widths) => {
                let printed = self.print(&row, &widths);
                self.widths = Some(widths);
                printed
            }
            None => {
                self.held.push(row);
                if self.held.len() == MEASURED { self.measure() } else { Ok(()) }
            }
        }
    }

    /// Prints the head and what waits.
    fn measure(&mut self) -> io::Result<()> {
        let heads: Vec<&str> = self.list.heads().iter().chain(&HEADS).copied().collect();
        let head = Row { cells: heads.iter().map(|head| (*head).to_owned()).collect(), tone: None };
        let held = std::mem::take(&mut self.held);
        let all = || std::iter::once(&head).chain(&held);
        let width = |n: usize| all().map(|row| row.cells[n].width()).max().unwrap_or(0);
        let mut widths: Vec<usize> = (0..heads.len()).map(width).collect();
        if let Some(columns) = self.columns {
            narrow(&mut widths, &heads, columns);
        }
        let printed = all().try_for_each(|row| self.print(row, &widths));
        self.widths = Some(widths);
        printed
    }

    fn print(&mut self, row: &Row, widths: &[usize]) -> io::Result<()> {
        let line = line(row, widths, self.columns, self.list.heads().len() + 2, self.paint);
        writeln!(self.out, "{line}")
    }

    /// Returns whether there was no row.
    pub(super) fn end(&mut self) -> io::Result<bool> {
        if self.widths.is_none() && !self.held.is_empty() {
            self.measure()?;
        }
        self.out.flush()?;
        Ok(self.widths.is_none())
    }
}

/// Makes columns narrower until a row fits, as far as that goes.
fn narrow(widths: &mut [usize], heads: &[&str], columns: usize) {
    for (head, least) in NARROWED {
        let all = widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
        let Some(width) = heads.iter().position(|h| *h == head).map(|n| &mut widths[n]) else { continue };
        *width -= all.saturating_sub(columns).min(width.saturating_sub(least));
    }
}

/// A row as one line, without spaces at its end.
fn line(row: &Row, widths: &[usize], columns: Option<usize>, health: usize, paint: Paint) -> String {
    let (mut line, mut used, mut gap) = (String::new(), 0, 0);
    for (n, (cell, width)) in row.cells.iter().zip(widths).enumerate() {
        let shown = match columns {
            None => cell.clone(),
            Some(columns) => cut(cell, (*width).min(columns.saturating_sub(used + gap))),
        };
        if !shown.is_empty() {
            line.extend(std::iter::repeat_n(' ', gap));
            used += gap + shown.width();
            gap = 0;
            match row.tone.filter(|_| n == health) {
                Some(tone) => line.push_str(&paint.text(tone, &shown)),
                None => line.push_str(&shown),
            }
        }
        gap += width.saturating_sub(shown.width()) + 2;
    }
    line
}

/// A text on so many columns of a terminal.
fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let (mut kept, mut used) = (String::new(), 1);
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > columns {
            break;
        }
        kept.push(c);
    }
    if columns > 0 {
        kept.push('…');
    }
    kept
}

fn row(list: List, link: &Value) -> Row {
    // A name is outside text: control characters would play with the terminal.
    let up_to = |key: &str, most: usize| {
        let text = link[key].as_str().unwrap_or("-");
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect::<String>()
    };
    let text = |key: &str| up_to(key, 60);
    let mut health = text("health");
    if link["owed"] == true {
        health.push_str(", owed");
    }
    if link["owed_parked"] == true {
        health.push_str(", read waits for a person");
    }
    if let Some(until) = link["until"].as_str() {
        health.push_str(&format!(" until {until}"));
    }
    let note = match (link["reason"].is_string(), link["remedy"].is_string()) {
        (_, true) => format!("{}: {}", up_to("reason", 300), up_to("remedy", 300)),
        (true, false) => up_to("reason", 300),
        (false, false) => String::new(),
    };
    let rest = [text("name"), text("user"), health, text("object_changed_at"), next_poll(link), note];
    Row { cells: list.keys().iter().map(|key| text(key)).chain(rest).collect(), tone: tone(link) }
}

/// The next poll. The daemon that holds the link's lease knows it, and a parked link has none.
fn next_poll(link: &Value) -> String {
    match (link["next_poll_at"].as_str(), link["daemon"].as_u64()) {
        (Some(at), _) => at.to_owned(),
        (None, Some(daemon)) if link["since"].is_null() => format!("(daemon {daemon})"),
        _ => "-".to_owned(),
    }
}

fn tone(link: &Value) -> Option<Tone> {
    Some(match link["health"].as_str()? {
        "active" => Tone::Good,
        "throttled" | "expiring" => Tone::Warning,
        _ => Tone::Bad,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(list: List, columns: Option<usize>, paint: Paint, links: &[Value]) -> Vec<String> {
        let mut table = Table::new(Vec::new(), list, columns, paint);
        links.iter().for_each(|link| table.add(link).unwrap());
        assert_eq!(table.end().unwrap(), links.is_empty());
        String::from_utf8(table.out).unwrap().lines().map(str::to_owned).collect()
    }

    fn bakery() -> Value {
        json!({"source": "facebook", "id": "123456789012345", "user": "6f0a2a52-3c0e-4a42-9a55-0d8f1f4f2b10",
               "name": "パン屋 Fern Bakery and Café", "health": "needs_relink", "since": "2026-11-22T10:00:00Z",
               "object_changed_at": "2026-11-22T10:00:00Z", "next_poll_at": "2026-11-23T10:00:00Z",
               "reason": "the login expired", "remedy": "the person logs in again and ticks the page"})
    }

    #[test]
    fn columns_are_as_wide_as_the_first_rows_need() {
        let link = |name: &str| json!({"page_id": "1", "name": name, "user": "u"});
        let mut links: Vec<Value> = (0..MEASURED).map(|_| link("x")).collect();
        links.push(link("a name that is longer than the others"));
        let lines = printed(List::Pages, None, Paint::plain(), &links);
        assert_eq!(lines.len(), MEASURED + 2);
        assert_eq!(lines[0], "PAGE  NAME  USER  HEALTH  OBJECT CHANGED  NEXT POLL  WHAT TO DO");
        assert_eq!(lines[1], "1     x     u     -       -               -");
        assert_eq!(lines[MEASURED + 1], "1     a name that is longer than the others  u     -       -               -");
        assert!(printed(List::Pages, None, Paint::plain(), &[]).is_empty());
    }

    #[test]
    fn a_terminal_gets_lines_that_fit_it_and_a_pipe_gets_all() {
        let list = List::Links(None);
        let whole = printed(list, None, Paint::plain(), &[bakery()]);
        assert!(whole[1].ends_with("the login expired: the person logs in again and ticks the page"), "{whole:?}");
        for columns in 1..250 {
            for line in printed(list, Some(columns), Paint::plain(), &[bakery()]) {
                assert!(line.width() <= columns, "{columns}: {line}");
            }
        }
        let lines = printed(list, Some(120), Paint::plain(), &[bakery()]);
        assert!(lines[1].contains("6f0a2a52…  needs_relink  2026-11-22…  2026-11-23…  the "), "{lines:?}");
        assert_eq!(printed(list, Some(300), Paint::plain(), &[bakery()]), whole);
    }

    #[test]
    fn the_health_alone_has_a_colour() {
        let plain = printed(List::Links(None), Some(120), Paint::plain(), &[bakery()]);
        let painted = printed(List::Links(None), Some(120), Paint::colours(), &[bakery()]);
        assert_eq!(painted[0], plain[0]);
        assert_eq!(painted[1], plain[1].replace("needs_relink", "\x1b[31mneeds_relink\x1b[0m"));
    }

    #[test]
    fn a_link_of_another_daemon_names_it_where_the_next_poll_is_unknown() {
        let at = |link: Value| next_poll(&link);
        assert_eq!(at(json!({"next_poll_at": null, "daemon": 7})), "(daemon 7)");
        assert_eq!(at(json!({"next_poll_at": "2026-11-23T10:00:00Z", "daemon": 7})), "2026-11-23T10:00:00Z");
        assert_eq!(at(json!({"next_poll_at": null, "daemon": 7, "since": "2026-11-23T10:00:00Z"})), "-");
        assert_eq!(at(json!({"next_poll_at": null})), "-");
    }
}
