//! Bringing existing links: a JSON object a line, plain or from an [`export`](crate::export). Good lines are imported,
//! bad ones named by number; a line's token never appears in what is said about it.
//!
//! A link that works keeps its token, unless that of the line is newer and works as well: see [`grant`](crate::grant).
//! Lines that changed nothing are named by number too, each with its reason.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::export::{Opener, SCHEMA};
use crate::grant::{Better, Ended, Granted, Ticket};
use crate::model::{AppUserId, LinkKey, Millis, PageId, Secret, UserId};
use crate::store::imports::{AccountLine, Imported, LeftLine, LinkLine, Reason, Subject, Trials};
use crate::store::people::{NewAccount, NewLink};
use crate::store::{Store, Unavailable};

/// A token longer than this is no token.
const MAX_TOKEN: usize = 4096;
const MAX_NAME: usize = 1024;

/// What was read of the lines.
#[derive(Debug, Default)]
pub struct Parsed {
    /// Links to make.
    pub good: Vec<LinkLine>,
    /// Logins to note.
    pub accounts: Vec<AccountLine>,
    /// Lines that cannot be imported.
    pub bad: Vec<BadLine>,
}

/// A line that cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub error: String,
}

/// Any line: a link has `page_id`, a login has `account`, the head of an export has `schema`.
#[derive(Deserialize)]
struct Line {
    schema: Option<String>,
    user: Option<String>,
    page_id: Option<Text>,
    account: Option<Text>,
    access_token: Option<Secret>,
    sealed_token: Option<String>,
    facebook_user_id: Option<Text>,
    name: Option<String>,
    #[serde(default)]
    granted: Vec<String>,
    expires_at: Option<Millis>,
    granted_at: Option<Moment>,
    linked_at: Option<Moment>,
    logged_in_at: Option<Moment>,
}

enum Good {
    Head,
    Link(UserId, NewLink, Granted),
    Account(UserId, NewAccount, Option<Millis>),
}

/// Ids are written as text or as numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Text(String),
    Number(u64),
}

/// A moment is written in milliseconds since 1970, or as RFC 3339 has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Moment {
    Millis(u64),
    Text(String),
}

impl Moment {
    fn millis(self) -> Result<Millis, String> {
        let text = match self {
            Moment::Millis(millis) => return Ok(Millis(millis)),
            Moment::Text(text) => text,
        };
        let moment = time::OffsetDateTime::parse(&text, &time::format_description::well_known::Rfc3339);
        let millis = moment.ok().and_then(|at| u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok());
        millis.map(Millis).ok_or_else(|| "a time is neither RFC 3339 nor milliseconds since 1970".to_owned())
    }
}

impl Text {
    fn into_text(self) -> String {
        match self {
            Text::Text(text) => text,
            Text::Number(number) => number.to_string(),
        }
    }
}

const FORM: &str = "not of the form {\"user\",\"page_id\",\"access_token\",\"facebook_user_id\"?,\"name\"?}";

/// Reads lines, the first of which has this number. Empty lines are passed over. Sealed tokens need an `opener`.
pub fn parse(bytes: &[u8], first_line: usize, opener: Option<&Opener>) -> Parsed {
    let mut parsed = Parsed::default();
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        match parse_line(line, opener) {
            Ok(Good::Head) => {}
            Ok(Good::Link(user, link, granted)) => {
                parsed.good.push(LinkLine { line: first_line + at, user, link, granted });
            }
            Ok(Good::Account(user, account, logged_in_at)) => {
                parsed.accounts.push(AccountLine { line: first_line + at, user, account, logged_in_at });
            }
            Err(error) => parsed.bad.push(BadLine { line: first_line + at, error }),
        }
    }
    parsed
}

fn parse_line(line: &[u8], opener: Option<&Opener>) -> Result<Good, String> {
    // serde's texts can quote values, and a value may be a token: only the kind and the place are told.
    let line: Line = serde_json::from_slice(line).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => FORM.to_owned(),
        _ => format!("not a JSON object (column {})", error.column()),
    })?;
    if line.schema.as_deref() == Some(SCHEMA) {
        return Ok(Good::Head);
    }
    let bad = |e: crate::model::BadId| e.to_string();
    let user: UserId = line.user.as_deref().ok_or(FORM)?.parse().map_err(bad)?;
    let name = line.name.filter(|name| !name.is_empty());
    if name.as_ref().is_some_and(|name| name.len() > MAX_NAME) {
        return Err("name is too long".to_owned());
    }
    let sealed = line.sealed_token.as_deref();
    let unsealed = |open: &dyn Fn(&Opener, &str) -> Option<Secret>| match (&line.access_token, sealed, opener) {
        (Some(token), _, _) => Ok(token.clone()),
        (None, Some(sealed), Some(opener)) => open(opener, sealed)
            .ok_or_else(|| "sealed_token does not open; it is damaged or of another line".to_owned()),
        (None, Some(_), None) => Err("sealed_token needs the first line of its export".to_owned()),
        (None, None, _) => Err(FORM.to_owned()),
    };
    if let Some(person) = line.account {
        let person: AppUserId = person.into_text().parse().map_err(bad)?;
        let token = sound(unsealed(&|opener, sealed| opener.account_token(user, &person, sealed))?)?;
        let (granted, expires_at) = (line.granted, line.expires_at);
        let logged_in_at = line.logged_in_at.map(Moment::millis).transpose()?;
        return Ok(Good::Account(user, NewAccount { person, name, token, granted, expires_at }, logged_in_at));
    }
    let page: PageId = line.page_id.ok_or(FORM)?.into_text().parse().map_err(bad)?;
    let link = LinkKey::new(user, page.clone());
    let token = sound(unsealed(&|opener, sealed| opener.link_token(&link, sealed))?)?;
    let person = line.facebook_user_id.map(|id| id.into_text().parse::<AppUserId>());
    let facebook_user = person.transpose().map_err(bad)?;
    let at = line.granted_at.map(Moment::millis).transpose()?;
    // A link that was imported itself has no time of a grant; it was granted before it was linked.
    let by = line.linked_at.map(Moment::millis).transpose()?;
    Ok(Good::Link(user, NewLink { page, token, name, facebook_user }, Granted { at, by }))
}

fn sound(token: Secret) -> Result<Secret, String> {
    let text = token.expose();
    if (1..=MAX_TOKEN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(token)
    } else {
        Err("access_token is empty, too long, or has characters that no token has".to_owned())
    }
}

/// The same links and logins as plain lines, for a daemon on this machine; the tokens stand in them. Each keeps its
/// number, when the first line that was parsed had this one: all other lines become empty ones.
pub fn plain(parsed: &Parsed, first_line: usize) -> Vec<u8> {
    let links = parsed.good.iter().map(|LinkLine { line, user, link, granted }| {
        let value = json!({"user": user, "page_id": link.page, "access_token": link.token.expose(),
            "name": link.name, "facebook_user_id": link.facebook_user, "granted_at": granted.at,
            "linked_at": granted.by});
        (*line, value)
    });
    let accounts = parsed.accounts.iter().map(|AccountLine { line, user, account, logged_in_at }| {
        let value = json!({"user": user, "account": account.person, "access_token": account.token.expose(),
            "name": account.name, "granted": account.granted, "expires_at": account.expires_at,
            "logged_in_at": logged_in_at});
        (*line, value)
    });
    let lines: BTreeMap<usize, Value> = links.chain(accounts).collect();
    let (mut text, mut next) = (String::new(), first_line);
    for (line, value) in lines {
        text.push_str(&"\n".repeat(line.saturating_sub(next)));
        text.push_str(&format!("{value}\n"));
        next = line + 1;
    }
    text.into_bytes()
}

/// Why a line changed nothing, in words.
pub fn reason_text(left: &LeftLine) -> &'static str {
    let LeftLine { reason, subject, .. } = left;
    match reason {
        Reason::Ended(Ended::Person) => "the person was forgotten or removed the app while the import was under way",
        Reason::Ended(Ended::Link) => "it was unlinked while the import was under way",
        Reason::Ended(Ended::TooOld) => "the import has been under way for too long; import this line again",
        Reason::Overtaken => "the link got a token while the import was under way; import this line again",
        Reason::Better(better) => match (better, subject) {
            (Better::Newer, Subject::Link(_)) => "the link has a token that works and is not older",
            (Better::OtherRefused, Subject::Link(_)) => "Facebook refuses this token, and the link has one that works",
            (Better::OtherUnknown, Subject::Link(_)) => {
                "the link has a token that works, and nothing says that this one is newer or works as well; import the \
                 line again while the daemon runs and Facebook answers"
            }
            (Better::OtherUnknown, Subject::Account(..)) => {
                "a login of this person is stored, and the line does not say when it was made (logged_in_at)"
            }
            (Better::Newer | Better::OtherRefused, Subject::Account(..)) => "a newer login of this person is stored",
        },
    }
}

/// A line that changed nothing, as JSON.
pub fn left_json(left: &LeftLine) -> Value {
    let reason = reason_text(left);
    match &left.subject {
        Subject::Link(link) => {
            json!({"line": left.line, "user": link.user, "page_id": link.page, "reason": reason})
        }
        Subject::Account(user, person) => {
            json!({"line": left.line, "user": user, "account": person, "reason": reason})
        }
    }
}

/// Makes the links durable, then the logins. A link or a login that stands and is better is left as it is, and so is
/// everything that was ended after the ticket was taken.
///
/// # Errors
/// [`Unavailable`]; those before the failure stay.
pub async fn store(store: &Store, ticket: Ticket, parsed: Parsed, trials: &Trials) -> Result<Imported, Unavailable> {
    let mut imported = store.import_links(ticket, &parsed.good, trials).await?;
    let replace = matches!(trials, Trials::Replace);
    imported.left.extend(store.import_accounts(ticket, parsed.accounts, replace).await?);
    imported.left.sort_by_key(|left| left.line);
    Ok(imported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_lines_pass_and_bad_lines_are_named_without_their_tokens() {
        let user = "6f0a2a52-3c0e-4a42-9a55-0d8f1f4f2b10";
        let lines = format!(
            "{{\"user\":\"{user}\",\"page_id\":\"1\",\"access_token\":\"EAAB1\"}}\r\n\
             \n\
             not json SECRETTOKEN\n\
             {{\"user\":\"{user}\",\"page_id\":2,\"access_token\":\"EAAB2\",\"facebook_user_id\":7,\"name\":\"Café\"}}\n\
             {{\"user\":\"{user}\",\"page_id\":\"../x\",\"access_token\":\"SECRETTOKEN\"}}\n\
             {{\"user\":\"nobody\",\"page_id\":\"3\",\"access_token\":\"SECRETTOKEN\"}}\n\
             {{\"user\":\"{user}\",\"page_id\":\"3\",\"access_token\":\"\"}}\n\
             {{\"user\":\"{user}\",\"page_id\":\"3\",\"access_token\":[\"SECRETTOKEN\"]}}\n\
             {{\"user\":\"{user}\",\"page_id\":\"3\"}}"
        );
        let parsed = parse(lines.as_bytes(), 1, None);
        assert_eq!(parsed.good.len(), 2);
        assert_eq!(parsed.good[1].link.name.as_deref(), Some("Café"));
        assert_eq!(parsed.bad.iter().map(|b| b.line).collect::<Vec<_>>(), [3, 5, 6, 7, 8, 9]);
        assert!(!format!("{:?}", parsed.bad).contains("SECRETTOKEN"));
    }

    async fn filled(dir: &std::path::Path, key: u8) -> (Store, UserId, AppUserId) {
        let store = Store::open(dir, crate::store::seal::Keyring::new([key; 32], Vec::new())).unwrap();
        let (user, person): (_, AppUserId) = (UserId::random(), "77".parse().unwrap());
        let link = NewLink {
            page: "123".parse().unwrap(),
            token: Secret::new("EAAB-page"),
            name: Some("Café".into()),
            facebook_user: Some(person.clone()),
        };
        let account = NewAccount {
            person: person.clone(),
            name: None,
            token: Secret::new("EAAB-user"),
            granted: vec!["pages_show_list".into()],
            expires_at: Some(Millis(5)),
        };
        store.put_links(store.ticket(), user, Some(account), vec![link], crate::model::Cause::Link).await.unwrap();
        (store, user, person)
    }

    #[tokio::test]
    async fn what_is_exported_comes_back_with_a_passphrase_on_another_machine() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (from, user, person) = filled(here.path(), 7).await;
        let passphrase = Secret::new("correct horse battery");
        let file = crate::export::write(&from, Some(&passphrase)).unwrap();
        assert!(!String::from_utf8_lossy(&file).contains("EAAB"));
        let to = Store::open(there.path(), crate::store::seal::Keyring::new([8; 32], Vec::new())).unwrap();
        let head = file.split(|b| *b == b'\n').next().unwrap();
        let wrong = Secret::new("something else entirely");
        assert!(Opener::from_head(head, || to.keyring(), Some(&wrong)).is_err());
        assert!(Opener::from_head(head, || to.keyring(), None).is_err());
        let opener = Opener::from_head(head, || to.keyring(), Some(&passphrase)).unwrap();
        let parsed = parse(&file, 1, opener.as_ref());
        assert_eq!(parsed.bad, []);
        store(&to, to.ticket(), parsed, &Trials::Impossible).await.unwrap();
        let link = to.link(&LinkKey::new(user, "123".parse().unwrap())).unwrap().unwrap();
        assert_eq!((link.token.expose(), link.record.name.as_deref()), ("EAAB-page", Some("Café")));
        let (account, token) = to.account(user, &person).unwrap();
        assert_eq!((token.unwrap().expose(), account.expires_at), ("EAAB-user", Some(Millis(5))));
        from.close().await;
        to.close().await;
    }

    #[tokio::test]
    async fn an_export_under_the_store_key_needs_that_key_and_lines_cannot_be_swapped() {
        let here = tempfile::tempdir().unwrap();
        let (from, ..) = filled(here.path(), 7).await;
        let file = crate::export::write(&from, None).unwrap();
        let head = file.split(|b| *b == b'\n').next().unwrap();
        let other = std::sync::Arc::new(crate::store::seal::Keyring::new([9; 32], Vec::new()));
        assert!(Opener::from_head(head, || other, None).is_err());
        let opener = Opener::from_head(head, || from.keyring(), None).unwrap();
        let swapped = String::from_utf8(file.clone()).unwrap().replace("\"page_id\":\"123\"", "\"page_id\":\"124\"");
        assert_eq!(parse(swapped.as_bytes(), 1, opener.as_ref()).bad.len(), 1);
        assert_eq!(parse(&file, 1, None).bad.len(), 2, "without its head nothing opens");
        from.close().await;
    }
}
