//! Bringing existing links: a JSON object a line, plain or from an [`export`](crate::services::export). Good lines are
//! imported, bad ones named by number; a line's token never appears in an error about it. A key that no line has is an
//! error of its line: a misspelt `facebook_user_id` would otherwise be found missing at the person's deletion, and not
//! before. Of several good lines with the same link the last one counts.
//!
//! A link that works keeps its token, unless that of the line is newer and works as well: see
//! [`grant`](crate::core::grant). Lines that changed nothing are named by number too, each with its reason.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::core::grant::{Better, Ended, Granted, Ticket};
use crate::core::model::{AppUserId, LinkKey, PageId, Secret, UserId, WallTime};
use crate::services::export::{Opener, SCHEMA};
use crate::store::imports::{AccountLine, Imported, LeftLine, LinkLine, Reason, Subject, Trials};
use crate::store::persons::{NewAccount, NewLink};
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
    /// Good lines that a later one with the same link replaces.
    pub repeated: Vec<Repeated>,
}

/// A good line that does not count, because a later one has the same link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeated {
    /// Counted from 1.
    pub line: usize,
    /// The line that counts.
    pub by: usize,
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
    granted: Option<Vec<String>>,
    expires_at: Option<WallTime>,
    granted_at: Option<Moment>,
    linked_at: Option<Moment>,
    logged_in_at: Option<Moment>,
    #[serde(flatten)]
    unknown: BTreeMap<String, IgnoredAny>,
}

/// The keys of a line with a link.
const LINK_KEYS: [&str; 8] =
    ["user", "page_id", "access_token", "sealed_token", "facebook_user_id", "name", "granted_at", "linked_at"];
/// The keys of a line with a login.
const LOGIN_KEYS: [&str; 8] =
    ["user", "account", "access_token", "sealed_token", "name", "granted", "expires_at", "logged_in_at"];
/// A longer key may be a value by mistake, even a token, and is not shown.
const LONGEST_KEY: usize = 24;
/// The last moment of the year 9999.
const LAST_MOMENT: WallTime = WallTime(253_402_300_799_999);

impl Line {
    /// Refuses a key that this kind of line does not have.
    fn keys(&self) -> Result<(), String> {
        let is_login = self.account.is_some();
        let stray = match is_login {
            true => [
                ("page_id", self.page_id.is_some()),
                ("facebook_user_id", self.facebook_user_id.is_some()),
                ("granted_at", self.granted_at.is_some()),
                ("linked_at", self.linked_at.is_some()),
            ],
            false => [
                ("account", false),
                ("granted", self.granted.is_some()),
                ("expires_at", self.expires_at.is_some()),
                ("logged_in_at", self.logged_in_at.is_some()),
            ],
        };
        let stray = stray.into_iter().find(|(_, given)| *given).map(|(key, _)| key);
        let Some(key) = self.unknown.keys().map(String::as_str).next().or(stray) else { return Ok(()) };
        let known = if is_login { &LOGIN_KEYS[..] } else { &LINK_KEYS[..] };
        let word = key.len() <= LONGEST_KEY && key.bytes().all(|b| b.is_ascii_alphabetic() || b"_-".contains(&b));
        let close = known.iter().map(|known| (strsim::jaro_winkler(key, known), known));
        let close = close.filter(|_| word).max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(likeness, _)| *likeness > 0.7);
        // Tokens have capitals and digits. A key that is like none of the known ones is shown where it has neither.
        let shown = word && (close.is_some() || !key.bytes().any(|b| b.is_ascii_uppercase()));
        let named = if shown { format!("unknown key {key}") } else { "unknown key".to_owned() };
        Err(match close {
            Some((_, near)) => format!("{named}; is {near} meant?"),
            None => format!("{named}; known are {}", known.join(", ")),
        })
    }
}

enum Good {
    Head,
    Link(UserId, NewLink, Granted),
    Account(UserId, NewAccount, Option<WallTime>),
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
    WallTime(u64),
    Text(String),
}

impl Moment {
    fn millis(self) -> Result<WallTime, String> {
        let text = match self {
            Moment::WallTime(millis) if WallTime(millis) <= LAST_MOMENT => return Ok(WallTime(millis)),
            Moment::WallTime(_) => String::new(),
            Moment::Text(text) => text,
        };
        let moment = time::OffsetDateTime::parse(&text, &time::format_description::well_known::Rfc3339);
        let millis = moment.ok().and_then(|at| u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok());
        millis.map(WallTime).ok_or_else(|| "a time is neither RFC 3339 nor milliseconds since 1970".to_owned())
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
    let mut positions: HashMap<LinkKey, (usize, usize)> = HashMap::new();
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        match parse_line(line, opener) {
            Ok(Good::Head) => {}
            Ok(Good::Link(user, link, granted)) => {
                let good = LinkLine { line: first_line + at, user, link, granted };
                match positions.get_mut(&good.key()) {
                    Some((position, earlier)) => {
                        let by = good.line;
                        parsed.repeated.push(Repeated { line: std::mem::replace(earlier, by), by });
                        parsed.good[*position] = good;
                    }
                    None => {
                        positions.insert(good.key(), (parsed.good.len(), good.line));
                        parsed.good.push(good);
                    }
                }
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
    // serde's texts can quote values, and a value may be a token: only the kind and the position are shown.
    let line: Line = serde_json::from_slice(line).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => FORM.to_owned(),
        _ => format!("not a JSON object (column {})", error.column()),
    })?;
    if line.schema.as_deref() == Some(SCHEMA) {
        return Ok(Good::Head);
    }
    line.keys()?;
    let bad = |e: crate::core::model::BadId| e.to_string();
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
        let (granted, expires_at) = (line.granted.unwrap_or_default(), line.expires_at);
        if expires_at.is_some_and(|at| at > LAST_MOMENT) {
            return Err("expires_at is no moment in milliseconds".to_owned());
        }
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

/// The link that a line is about, whether or not the rest of the line is good.
pub fn link_of(line: &[u8]) -> Option<LinkKey> {
    #[derive(Deserialize)]
    struct About {
        user: UserId,
        page_id: Text,
    }
    let about: About = serde_json::from_slice(line).ok()?;
    Some(LinkKey::new(about.user, about.page_id.into_text().parse().ok()?))
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
            json!({"line": left.line, "user": link.user, "page_id": link.page(), "reason": reason})
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

    #[test]
    fn unknown_keys_are_errors_with_the_nearest_key_and_without_what_may_be_a_token() {
        let user = "6f0a2a52-3c0e-4a42-9a55-0d8f1f4f2b10";
        let token = "EAABsecretsecretsecretsecretsecretsecret";
        let link = |more: &str| format!("{{\"user\":\"{user}\",\"page_id\":\"1\",\"access_token\":\"{token}\"{more}}}");
        let login = |more: &str| link(more).replace("page_id", "account");
        for (line, said) in [
            (link(",\"facebook_userid\":\"7\""), "unknown key facebook_userid; is facebook_user_id meant?"),
            (link(",\"Name\":\"x\""), "unknown key Name; is name meant?"),
            (link(",\"expires_at\":5"), "unknown key expires_at; known are user, page_id, access_token, sealed_token"),
            (link(&format!(",\"{token}\":1")), "unknown key; known are user, page_id"),
            (link(",\"EAACsecret0123456789Zw\":1"), "unknown key; known are user, page_id"),
            (link(",\"EAACsecretsecretZw\":1"), "unknown key; known are user, page_id"),
            (link(",\"pageId\":1"), "unknown key pageId; is page_id meant?"),
            (link(",\"comment\":1"), "unknown key comment; known are user, page_id"),
            (link(",\"\\u001b[2J\":1"), "unknown key; known are"),
            (login(",\"facebook_user_id\":\"7\""), "unknown key facebook_user_id; known are user, account"),
            (login(",\"expires_at\":18446744073709551615"), "expires_at is no moment"),
            (link(",\"name\":\"x\",\"name\":\"y\""), FORM),
        ] {
            let parsed = parse(line.as_bytes(), 4, None);
            assert_eq!((parsed.good.len(), parsed.accounts.len(), parsed.bad.len()), (0, 0, 1), "{line}");
            assert!(parsed.bad[0].error.starts_with(said), "{:?}", parsed.bad);
            assert!(!format!("{:?}", parsed.bad).contains("secret"));
        }
        for line in [link(""), link(",\"name\":null,\"facebook_user_id\":7"), login(",\"granted\":[],\"expires_at\":5")]
        {
            assert_eq!(parse(line.as_bytes(), 1, None).bad, [], "{line}");
        }
    }

    #[test]
    fn of_several_lines_with_one_link_the_last_good_one_counts() {
        let user = "6f0a2a52-3c0e-4a42-9a55-0d8f1f4f2b10";
        let line = |page: &str, token: &str| {
            format!("{{\"user\":\"{user}\",\"page_id\":{page},\"access_token\":\"{token}\"}}\n")
        };
        let lines = [line("\"1\"", "A"), line("2", "B"), line("1", "C"), line("\" 1 \"", "D"), line("1", "")].concat();
        let parsed = parse(lines.as_bytes(), 10, None);
        let good: Vec<(&str, &str)> =
            parsed.good.iter().map(|l| (l.link.page.as_str(), l.link.token.expose())).collect();
        assert_eq!(good, [("1", "D"), ("2", "B")]);
        assert_eq!(parsed.repeated, [Repeated { line: 10, by: 12 }, Repeated { line: 12, by: 13 }]);
        assert_eq!(parsed.bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [14]);
        let links: Vec<_> = lines.lines().map(|line| link_of(line.as_bytes()).unwrap()).collect();
        assert!(links[0] == links[2] && links[2] == links[3] && links[0] != links[1]);
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
            expires_at: Some(WallTime(5)),
        };
        store
            .put_links(store.ticket().await.unwrap(), user, Some(account), vec![link], crate::core::model::Cause::Link)
            .await
            .unwrap();
        (store, user, person)
    }

    #[tokio::test]
    async fn what_is_exported_comes_back_with_a_passphrase_on_another_machine() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (from, user, person) = filled(here.path(), 7).await;
        let passphrase = Secret::new("correct horse battery");
        let file = crate::services::export::write(&from, Some(passphrase.clone())).await.unwrap();
        assert!(!String::from_utf8_lossy(&file).contains("EAAB"));
        let to = Store::open(there.path(), crate::store::seal::Keyring::new([8; 32], Vec::new())).unwrap();
        let head = file.split(|b| *b == b'\n').next().unwrap();
        let wrong = Secret::new("something else entirely");
        assert!(Opener::from_head(head, || to.keyring(), Some(&wrong)).is_err());
        assert!(Opener::from_head(head, || to.keyring(), None).is_err());
        let opener = Opener::from_head(head, || to.keyring(), Some(&passphrase)).unwrap();
        let parsed = parse(&file, 1, opener.as_ref());
        assert_eq!(parsed.bad, []);
        store(&to, to.ticket().await.unwrap(), parsed, &Trials::Impossible).await.unwrap();
        let link = to.link(&LinkKey::new(user, "123".parse().unwrap())).await.unwrap().unwrap();
        assert_eq!((link.token.unwrap().expose(), link.record.name.as_deref()), ("EAAB-page", Some("Café")));
        let (account, token) = to.account(user, &person).await.unwrap().unwrap();
        assert_eq!((token.unwrap().expose(), account.expires_at), ("EAAB-user", Some(WallTime(5))));
        from.close().await;
        to.close().await;
    }

    #[tokio::test]
    async fn an_export_under_the_store_key_needs_that_key_and_lines_cannot_be_swapped() {
        let here = tempfile::tempdir().unwrap();
        let (from, ..) = filled(here.path(), 7).await;
        let file = crate::services::export::write(&from, None).await.unwrap();
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
