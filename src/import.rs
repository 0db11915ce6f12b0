//! Bringing existing links: a JSON object a line. Good lines are imported, bad ones named by number; a line's token
//! never appears in what is said about it.

use serde::Deserialize;

use crate::model::{AppUserId, Cause, LinkKey, PageId, Secret, UserId};
use crate::store::people::NewLink;
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

#[derive(Deserialize)]
struct Line {
    user: String,
    page_id: Text,
    access_token: Secret,
    #[serde(default)]
    facebook_user_id: Option<Text>,
    #[serde(default)]
    name: Option<String>,
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

/// Reads lines, the first of which has this number. Empty lines are passed over.
pub fn parse(bytes: &[u8], first_line: usize) -> Parsed {
    let mut parsed = Parsed::default();
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        match parse_line(line) {
            Ok(good) => parsed.good.push(good),
            Err(error) => parsed.bad.push(BadLine { line: first_line + at, error }),
        }
    }
    parsed
}

fn parse_line(line: &[u8]) -> Result<(UserId, NewLink), String> {
    // serde's texts can quote values, and a value may be a token: only the kind and the place are told.
    let line: Line = serde_json::from_slice(line).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            "not of the form {\"user\",\"page_id\",\"access_token\",\"facebook_user_id\"?,\"name\"?}".to_owned()
        }
        _ => format!("not a JSON object (column {})", error.column()),
    })?;
    let user: UserId = line.user.parse().map_err(|e: crate::model::BadId| e.to_string())?;
    let page: PageId = line.page_id.into_text().parse().map_err(|e: crate::model::BadId| e.to_string())?;
    let person = line.facebook_user_id.map(|id| id.into_text().parse::<AppUserId>());
    let facebook_user = person.transpose().map_err(|e| e.to_string())?;
    let token = line.access_token;
    let sound = |t: &str| (1..=MAX_TOKEN).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_graphic());
    if !sound(token.expose()) {
        return Err("access_token is empty, too long, or has characters that no token has".to_owned());
    }
    let name = line.name.filter(|name| !name.is_empty());
    if name.as_ref().is_some_and(|name| name.len() > MAX_NAME) {
        return Err("name is too long".to_owned());
    }
    Ok((user, NewLink { page, token, name, facebook_user }))
}

/// Makes the links durable, some hundred at a time, and returns them.
///
/// # Errors
/// [`Unavailable`]; those before the failure stay.
pub async fn store(store: &Store, good: Vec<(UserId, NewLink)>) -> Result<Vec<LinkKey>, Unavailable> {
    let mut done = Vec::with_capacity(good.len());
    let mut by_user: std::collections::BTreeMap<UserId, Vec<NewLink>> = std::collections::BTreeMap::new();
    for (user, link) in good {
        by_user.entry(user).or_default().push(link);
    }
    for (user, mut links) in by_user {
        while !links.is_empty() {
            let rest = links.split_off(links.len().min(AT_ONCE));
            done.extend(store.put_links(user, None, std::mem::replace(&mut links, rest), Cause::Link).await?);
        }
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
        let parsed = parse(lines.as_bytes(), 1);
        assert_eq!(parsed.good.len(), 2);
        assert_eq!(parsed.good[1].1.name.as_deref(), Some("Café"));
        assert_eq!(parsed.bad.iter().map(|b| b.line).collect::<Vec<_>>(), [3, 5, 6, 7, 8, 9]);
        assert!(!format!("{:?}", parsed.bad).contains("SECRETTOKEN"));
    }
}
