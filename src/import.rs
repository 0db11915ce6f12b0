//! Bringing existing links: a JSON object a line, plain or from an [`export`](crate::export). Good lines are imported,
//! bad ones named by number; a line's token never appears in an error about it. A key that no line has is an error
//! of its line: a misspelt `facebook_user_id` would otherwise be found missing at the person's deletion, and not before.
//! Of several good lines with the same link the last one counts.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::export::{Opener, SCHEMA};
use crate::model::{AppUserId, Cause, LinkKey, Millis, PageId, Secret, UserId};
use crate::store::people::{NewAccount, NewLink};
use crate::store::{Store, Unavailable};

/// A token longer than this is no token.
const MAX_TOKEN: usize = 4096;
const MAX_NAME: usize = 1024;
/// Links in one transaction.
const AT_ONCE: usize = 200;

/// What was read of the lines.
#[derive(Debug, Default)]
pub struct Parsed {
    /// Links to make.
    pub good: Vec<(UserId, NewLink)>,
    /// Logins to note.
    pub accounts: Vec<(UserId, NewAccount)>,
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
    expires_at: Option<Millis>,
    #[serde(flatten)]
    unknown: BTreeMap<String, IgnoredAny>,
}

/// The keys of a line with a link.
const LINK_KEYS: [&str; 6] = ["user", "page_id", "access_token", "sealed_token", "facebook_user_id", "name"];
/// The keys of a line with a login.
const LOGIN_KEYS: [&str; 7] = ["user", "account", "access_token", "sealed_token", "name", "granted", "expires_at"];
/// A longer key may be a value by mistake, even a token, and is not shown.
const LONGEST_KEY: usize = 24;
/// The last moment of the year 9999.
const LAST_MOMENT: Millis = Millis(253_402_300_799_999);

impl Line {
    /// Refuses a key that this kind of line does not have.
    fn keys(&self) -> Result<(), String> {
        let is_login = self.account.is_some();
        let stray = match is_login {
            true => [("page_id", self.page_id.is_some()), ("facebook_user_id", self.facebook_user_id.is_some())],
            false => [("granted", self.granted.is_some()), ("expires_at", self.expires_at.is_some())],
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
    Link(UserId, NewLink),
    Account(UserId, NewAccount),
}

/// Ids are written as text or as numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Text(String),
    Number(u64),
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
            Ok(Good::Link(user, link)) => {
                let (key, line) = (LinkKey::new(user, link.page.clone()), first_line + at);
                match positions.get_mut(&key) {
                    Some((position, earlier)) => {
                        parsed.repeated.push(Repeated { line: std::mem::replace(earlier, line), by: line });
                        parsed.good[*position] = (user, link);
                    }
                    None => {
                        positions.insert(key, (parsed.good.len(), line));
                        parsed.good.push((user, link));
                    }
                }
            }
            Ok(Good::Account(user, account)) => parsed.accounts.push((user, account)),
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
    line.keys()?;
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
        let (granted, expires_at) = (line.granted.unwrap_or_default(), line.expires_at);
        if expires_at.is_some_and(|at| at > LAST_MOMENT) {
            return Err("expires_at is no moment in milliseconds".to_owned());
        }
        return Ok(Good::Account(user, NewAccount { person, name, token, granted, expires_at }));
    }
    let page: PageId = line.page_id.ok_or(FORM)?.into_text().parse().map_err(bad)?;
    let link = LinkKey::new(user, page.clone());
    let token = sound(unsealed(&|opener, sealed| opener.link_token(&link, sealed))?)?;
    let person = line.facebook_user_id.map(|id| id.into_text().parse::<AppUserId>());
    let facebook_user = person.transpose().map_err(bad)?;
    Ok(Good::Link(user, NewLink { page, token, name, facebook_user }))
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

/// The same links and logins as plain lines, for a daemon on this machine; the tokens stand in them.
pub fn plain(parsed: &Parsed) -> Vec<u8> {
    let mut text = String::new();
    for (user, link) in &parsed.good {
        let line = serde_json::json!({"user": user, "page_id": link.page, "access_token": link.token.expose(),
            "name": link.name, "facebook_user_id": link.facebook_user});
        text.push_str(&format!("{line}\n"));
    }
    for (user, account) in &parsed.accounts {
        let line = serde_json::json!({"user": user, "account": account.person, "access_token": account.token.expose(),
            "name": account.name, "granted": account.granted, "expires_at": account.expires_at});
        text.push_str(&format!("{line}\n"));
    }
    text.into_bytes()
}

/// Makes the links durable, some hundred at a time, then the logins, and returns the links.
///
/// # Errors
/// [`Unavailable`]; those before the failure stay.
pub async fn store(store: &Store, parsed: Parsed) -> Result<Vec<LinkKey>, Unavailable> {
    let mut done = Vec::with_capacity(parsed.good.len());
    let mut by_user: BTreeMap<UserId, Vec<NewLink>> = BTreeMap::new();
    for (user, link) in parsed.good {
        by_user.entry(user).or_default().push(link);
    }
    for (user, mut links) in by_user {
        while !links.is_empty() {
            let rest = links.split_off(links.len().min(AT_ONCE));
            done.extend(store.put_links(user, None, std::mem::replace(&mut links, rest), Cause::Link).await?);
        }
    }
    for (user, account) in parsed.accounts {
        store.put_links(user, Some(account), Vec::new(), Cause::Link).await?;
    }
    Ok(done)
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
        assert_eq!(parsed.good[1].1.name.as_deref(), Some("Café"));
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
        let good: Vec<(&str, &str)> = parsed.good.iter().map(|(_, l)| (l.page.as_str(), l.token.expose())).collect();
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
            expires_at: Some(Millis(5)),
        };
        store.put_links(user, Some(account), vec![link], Cause::Link).await.unwrap();
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
        store(&to, parsed).await.unwrap();
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
