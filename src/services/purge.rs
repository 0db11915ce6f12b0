//! Forgetting persons by a list of ids, as Meta mails it: an app-scoped user id a line, or in a table's first column.
//! Each person is forgotten exactly as if they had asked for it themselves.
//!
//! A list may be applied again at will: who was forgotten is unknown then. A login or an import that is under way
//! stores nothing of a person on the list, known or not. While no daemon runs there is none under way: the store is
//! open in one process at a time.

use serde_json::{Value, json};

use crate::core::model::{AppUserId, LinkKey};
use crate::random;
use crate::services::import::BadLine;
use crate::store::{Store, Unavailable};

/// People in one request at most.
pub const MOST: usize = 10_000;
/// First columns that name the column instead of a person.
const HEADS: [&str; 5] = ["id", "uid", "user_id", "app_scoped_user_id", "app-scoped user id"];
const FORM: &str = "not an app-scoped user id, which is a number of up to 32 digits";

/// What was read of a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Whom to forget, each once, in the order of the list.
    pub persons: Vec<AppUserId>,
    /// Lines that name nobody.
    pub bad: Vec<BadLine>,
}

/// Reads a list. Blank lines, comments (`#`), a byte order mark, quotes, further columns and a line of column names are
/// passed over. What is said of a line does not repeat it.
pub fn parse(bytes: &[u8]) -> Parsed {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let (mut parsed, mut seen, mut first) = (Parsed::default(), std::collections::HashSet::new(), true);
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let column = line.split(|byte| matches!(byte, b',' | b';' | b'\t')).next().unwrap_or_default();
        let text = std::str::from_utf8(column).unwrap_or_default().trim().trim_matches('"').trim();
        let is_head = std::mem::take(&mut first) && HEADS.iter().any(|head| text.eq_ignore_ascii_case(head));
        match text.parse::<AppUserId>() {
            _ if is_head => {}
            Ok(person) => {
                if seen.insert(person.clone()) {
                    parsed.persons.push(person);
                }
            }
            Err(_) => parsed.bad.push(BadLine { line: at + 1, error: FORM.to_owned() }),
        }
    }
    parsed
}

/// What became, or would become, of one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Who.
    pub person: AppUserId,
    /// Links, and objects that were written for them; `None` for somebody of whom nothing is stored.
    pub known: Option<(usize, usize)>,
    /// The code of the deletion, once it is asked for.
    pub code: Option<String>,
}

impl Outcome {
    /// As JSON.
    pub fn json(&self) -> Value {
        let (links, objects) = self.known.unwrap_or_default();
        let mut reply = json!({"id": self.person, "known": self.known.is_some(), "links": links, "objects": objects});
        if let Some(code) = &self.code {
            reply["confirmation_code"] = code.as_str().into();
        }
        reply
    }
}

/// What became of a list.
#[derive(Debug, Default)]
pub struct Applied {
    /// Person by person.
    pub outcomes: Vec<Outcome>,
    /// The links that are gone.
    pub links: Vec<LinkKey>,
    /// Why the rest of the list was not applied.
    pub stopped: Option<Unavailable>,
}

/// Forgets these persons, or, for a dry run, only looks what would go. Each is one transaction; those before a failure
/// stay forgotten.
pub async fn apply(store: &Store, persons: Vec<AppUserId>, dry_run: bool) -> Applied {
    let mut applied = Applied::default();
    for person in persons {
        // Before the look: a login that is stored between the two would make the person known after all.
        let ended = if dry_run { Ok(()) } else { store.end_grants_under_way(&person).await };
        let looked = match ended {
            Ok(()) => store.known_of(&person).await,
            Err(error) => Err(error),
        };
        let known = match looked {
            Ok(known) => known,
            Err(error) => {
                applied.stopped = Some(error);
                return applied;
            }
        };
        let mut code = None;
        if known.is_some() && !dry_run {
            let fresh = random::uuid().simple().to_string();
            match store.forget_person(&person, &fresh, None).await {
                Ok(gone) => applied.links.extend(gone.links.into_iter().map(|(link, _)| link)),
                Err(error) => {
                    applied.stopped = Some(error);
                    return applied;
                }
            }
            code = Some(fresh);
        }
        applied.outcomes.push(Outcome { person, known, code });
        // A long list of persons of whom nothing is known would otherwise wait for nothing, and let nobody else work.
        tokio::task::yield_now().await;
    }
    applied
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> (Vec<String>, Vec<usize>) {
        let parsed = parse(text);
        (parsed.persons.into_iter().map(String::from).collect(), parsed.bad.iter().map(|bad| bad.line).collect())
    }

    #[test]
    fn a_list_is_read_however_it_was_saved() {
        let ids = |list: &[&str]| list.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(read(b"77\n78\n"), (ids(&["77", "78"]), vec![]));
        assert_eq!(read(b"\xef\xbb\xbf77\r\n\r\n# of May\r\n 78 \r\n77\r\n"), (ids(&["77", "78"]), vec![]));
        assert_eq!(read(b"User_ID,when\n\"77\",2026-11-01\n78;x\n79\ty"), (ids(&["77", "78", "79"]), vec![]));
        assert_eq!(
            read(b"ada@example.org\n77\nid\n../78\n\xff\xfe\n-5,1\n1e9\n"),
            (ids(&["77"]), vec![1, 3, 4, 5, 6, 7])
        );
        assert_eq!(read(b""), (vec![], vec![]));
        let long = "1".repeat(33);
        assert_eq!(read(long.as_bytes()).1, [1]);
        assert!(!format!("{:?}", parse(b"ada@example.org").bad).contains("ada"));
    }
}
