//! One line of an import: its kind, its keys and its values. An error says which key is wrong and what is right, and
//! shows no value, because any value may be a token by mistake.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::core::grant::Granted;
use crate::core::model::{AppUserId, BadId, LinkKey, PageId, Secret, ShopName, Source, UserId, WallTime};
use crate::services::export::{Opener, SCHEMA};
use crate::store::imports::ShopLine;
use crate::store::persons::{NewAccount, NewLink};
use crate::store::shops::ShopPair;

/// A token longer than this is no token.
const MAX_TOKEN: usize = 4096;
const MAX_NAME: usize = 1024;

/// What a good line brings.
pub(super) enum Good {
    /// It is the head of an export.
    Head,
    /// The link of a page.
    Link(UserId, NewLink, Granted),
    /// The link of a shop.
    Shop(Box<ShopLine>),
    /// A login.
    Account(UserId, NewAccount, Option<WallTime>),
}

/// Any line: the link of a page has `page_id`, that of a shop has `source`, a login has `account`, the head of an export
/// has `schema`.
#[derive(Deserialize)]
struct Line {
    schema: Option<String>,
    source: Option<String>,
    user: Option<String>,
    page_id: Option<Text>,
    shop: Option<String>,
    account: Option<Text>,
    access_token: Option<Secret>,
    sealed_token: Option<String>,
    refresh_token: Option<Secret>,
    sealed_refresh_token: Option<String>,
    facebook_user_id: Option<Text>,
    name: Option<String>,
    granted: Option<Vec<String>>,
    expires_at: Option<Moment>,
    granted_at: Option<Moment>,
    linked_at: Option<Moment>,
    logged_in_at: Option<Moment>,
    #[serde(flatten)]
    unknown: BTreeMap<String, IgnoredAny>,
}

/// The kinds of lines that are imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Page,
    Shop,
    Login,
}

impl Kind {
    /// The keys that such a line may have.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Kind::Page => &[
                "user",
                "page_id",
                "access_token",
                "sealed_token",
                "facebook_user_id",
                "name",
                "granted_at",
                "linked_at",
                "source",
            ],
            Kind::Shop => &[
                "source",
                "user",
                "shop",
                "access_token",
                "refresh_token",
                "expires_at",
                "sealed_token",
                "sealed_refresh_token",
                "name",
                "granted_at",
                "linked_at",
            ],
            Kind::Login => &[
                "user",
                "account",
                "access_token",
                "sealed_token",
                "name",
                "granted",
                "expires_at",
                "logged_in_at",
                "source",
            ],
        }
    }

    /// The complaint about a line without this key.
    fn lacks(self, key: &str) -> String {
        match self {
            Kind::Page | Kind::Login => FORM.to_owned(),
            Kind::Shop => format!("{key} is missing: {SHOP_FORM}"),
        }
    }
}

/// A longer key may be a value by mistake, even a token, and is not shown.
const LONGEST_KEY: usize = 24;
/// The last moment of the year 9999.
const LAST_MOMENT: WallTime = WallTime(253_402_300_799_999);

const FORM: &str = "not of the form {\"user\",\"page_id\",\"access_token\",\"facebook_user_id\"?,\"name\"?}";
const SHOP_FORM: &str = "not of the form {\"source\":\"shopify\",\"user\",\"shop\",\"access_token\",\
                                    \"refresh_token\"?,\"expires_at\"?}";

impl Line {
    /// What kind of line it is. A line of an earlier version has no source and is Facebook's.
    fn kind(&self) -> Result<Kind, String> {
        let source = self.source.as_deref().map(|word| Source::of_word(word).ok_or(())).transpose();
        match source.map_err(|()| "source is unknown; known are facebook and shopify".to_owned())? {
            Some(Source::Shopify) => Ok(Kind::Shop),
            None if self.shop.is_some() => {
                Err("shop needs a source; add \"source\":\"shopify\" to the line".to_owned())
            }
            None | Some(Source::Facebook) if self.account.is_some() => Ok(Kind::Login),
            None | Some(Source::Facebook) => Ok(Kind::Page),
        }
    }

    /// The known keys that this line has.
    fn given(&self) -> impl Iterator<Item = &'static str> {
        let keys = [
            ("page_id", self.page_id.is_some()),
            ("shop", self.shop.is_some()),
            ("account", self.account.is_some()),
            ("refresh_token", self.refresh_token.is_some()),
            ("sealed_refresh_token", self.sealed_refresh_token.is_some()),
            ("facebook_user_id", self.facebook_user_id.is_some()),
            ("granted", self.granted.is_some()),
            ("expires_at", self.expires_at.is_some()),
            ("granted_at", self.granted_at.is_some()),
            ("linked_at", self.linked_at.is_some()),
            ("logged_in_at", self.logged_in_at.is_some()),
        ];
        keys.into_iter().filter(|(_, given)| *given).map(|(key, _)| key)
    }

    /// Refuses a key that this kind of line does not have.
    fn check_keys(&self, kind: Kind) -> Result<(), String> {
        let known = kind.keys();
        let stray = self.given().find(|key| !known.contains(key));
        let Some(key) = self.unknown.keys().map(String::as_str).next().or(stray) else { return Ok(()) };
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

    /// The access token, plain or opened.
    fn access(
        &self,
        kind: Kind,
        opener: Option<&Opener>,
        open: impl FnOnce(&Opener, &str) -> Option<Secret>,
    ) -> Result<Secret, String> {
        let given = (self.access_token.as_ref(), self.sealed_token.as_deref());
        let token = plain_or_opened(given, "sealed_token", opener, open)?;
        sound(token.ok_or_else(|| kind.lacks("access_token"))?, "access_token")
    }
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

/// A moment is written in milliseconds since 1970, or as RFC 3339 has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Moment {
    WallTime(u64),
    Text(String),
}

impl Moment {
    fn read(&self) -> Option<WallTime> {
        let text = match self {
            Moment::WallTime(millis) => return Some(WallTime(*millis)).filter(|at| *at <= LAST_MOMENT),
            Moment::Text(text) => text,
        };
        let moment = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339);
        let millis = moment.ok().and_then(|at| u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok());
        millis.map(WallTime)
    }
}

/// The moment under this key.
fn moment(given: Option<Moment>, key: &str) -> Result<Option<WallTime>, String> {
    let Some(given) = given else { return Ok(None) };
    let wrong = || format!("{key} is no time; write it as 2026-11-22T10:00:00Z, or in milliseconds since 1970");
    given.read().map(Some).ok_or_else(wrong)
}

/// A token as it is given, plain or sealed under this key; `None` for neither.
fn plain_or_opened(
    (plain, sealed): (Option<&Secret>, Option<&str>),
    sealed_key: &str,
    opener: Option<&Opener>,
    open: impl FnOnce(&Opener, &str) -> Option<Secret>,
) -> Result<Option<Secret>, String> {
    match (plain, sealed, opener) {
        (Some(token), _, _) => Ok(Some(token.clone())),
        (None, Some(sealed), Some(opener)) => open(opener, sealed)
            .map(Some)
            .ok_or_else(|| format!("{sealed_key} does not open; it is damaged or of another line")),
        (None, Some(_), None) => Err(format!("{sealed_key} needs the first line of its export")),
        (None, None, _) => Ok(None),
    }
}

fn sound(token: Secret, key: &str) -> Result<Secret, String> {
    let text = token.expose();
    if (1..=MAX_TOKEN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(token)
    } else {
        Err(format!("{key} is empty, too long, or has characters that no token has"))
    }
}

fn bad(error: BadId) -> String {
    error.to_string()
}

/// Reads the line of this number. Sealed tokens need an `opener`.
///
/// # Errors
/// What is wrong with the line, without any of its values.
pub(super) fn read(line: &[u8], number: usize, opener: Option<&Opener>) -> Result<Good, String> {
    // serde's texts can quote values, and a value may be a token: only the kind and the position are shown.
    let line: Line = serde_json::from_slice(line).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => form_of(line).to_owned(),
        _ => format!("not a JSON object (column {})", error.column()),
    })?;
    if line.schema.as_deref() == Some(SCHEMA) {
        return Ok(Good::Head);
    }
    let kind = line.kind()?;
    line.check_keys(kind)?;
    let user: UserId = line.user.as_deref().ok_or_else(|| kind.lacks("user"))?.parse().map_err(bad)?;
    if line.name.as_ref().is_some_and(|name| name.len() > MAX_NAME) {
        return Err("name is too long".to_owned());
    }
    match kind {
        Kind::Page => page(line, user, opener),
        Kind::Shop => shop(line, number, user, opener),
        Kind::Login => login(line, user, opener),
    }
}

/// The form of a line whose values have the wrong types.
fn form_of(line: &[u8]) -> &'static str {
    #[derive(Deserialize)]
    struct OfSource {
        source: String,
    }
    let source = serde_json::from_slice::<OfSource>(line).ok().and_then(|line| Source::of_word(&line.source));
    if source == Some(Source::Shopify) { SHOP_FORM } else { FORM }
}

fn named(name: Option<String>) -> Option<String> {
    name.filter(|name| !name.is_empty())
}

/// When the token was granted. A link that was imported itself has no time of a grant; it was granted before it was
/// linked.
fn granted(at: Option<Moment>, by: Option<Moment>) -> Result<Granted, String> {
    Ok(Granted { at: moment(at, "granted_at")?, by: moment(by, "linked_at")? })
}

fn page(mut line: Line, user: UserId, opener: Option<&Opener>) -> Result<Good, String> {
    let page: PageId = line.page_id.take().ok_or(FORM)?.into_text().parse().map_err(bad)?;
    let link = LinkKey::new(user, page.clone());
    let token = line.access(Kind::Page, opener, |opener, sealed| opener.link_token(&link, sealed))?;
    let person = line.facebook_user_id.map(|id| id.into_text().parse::<AppUserId>());
    let facebook_user = person.transpose().map_err(bad)?;
    let granted = granted(line.granted_at, line.linked_at)?;
    Ok(Good::Link(user, NewLink { page, token, name: named(line.name), facebook_user }, granted))
}

/// Without a refresh token it is an old token, which does not end: `expires_at` says nothing of it.
fn shop(line: Line, number: usize, user: UserId, opener: Option<&Opener>) -> Result<Good, String> {
    let shop: ShopName = line.shop.as_deref().ok_or_else(|| Kind::Shop.lacks("shop"))?.parse().map_err(bad)?;
    let link = LinkKey::of_shop(user, shop.clone());
    let access = line.access(Kind::Shop, opener, |opener, sealed| opener.link_token(&link, sealed))?;
    let given = (line.refresh_token.as_ref(), line.sealed_refresh_token.as_deref());
    let open = |opener: &Opener, sealed: &str| opener.refresh_token(&link, sealed);
    let refresh = plain_or_opened(given, "sealed_refresh_token", opener, open)?;
    let refresh = refresh.map(|refresh| sound(refresh, "refresh_token")).transpose()?;
    let expires_at = moment(line.expires_at, "expires_at")?;
    Ok(Good::Shop(Box::new(ShopLine {
        line: number,
        user,
        shop,
        expires_at: expires_at.filter(|_| refresh.is_some()),
        pair: ShopPair { access, refresh: refresh.unwrap_or_else(|| Secret::new("")) },
        name: named(line.name),
        granted: granted(line.granted_at, line.linked_at)?,
    })))
}

fn login(mut line: Line, user: UserId, opener: Option<&Opener>) -> Result<Good, String> {
    let person: AppUserId = line.account.take().ok_or(FORM)?.into_text().parse().map_err(bad)?;
    let token = line.access(Kind::Login, opener, |opener, sealed| opener.account_token(user, &person, sealed))?;
    let expires_at = moment(line.expires_at, "expires_at")?;
    let logged_in_at = moment(line.logged_in_at, "logged_in_at")?;
    let granted = line.granted.unwrap_or_default();
    let account = NewAccount { person, name: named(line.name), token, granted, expires_at };
    Ok(Good::Account(user, account, logged_in_at))
}

/// The link that a line is about, whether or not the rest of the line is good.
pub fn link_of(line: &[u8]) -> Option<LinkKey> {
    #[derive(Deserialize)]
    struct About {
        user: UserId,
        source: Option<String>,
        page_id: Option<Text>,
        shop: Option<ShopName>,
    }
    let about: About = serde_json::from_slice(line).ok()?;
    match about.source.as_deref().map_or(Some(Source::Facebook), Source::of_word)? {
        Source::Facebook => Some(LinkKey::new(about.user, about.page_id?.into_text().parse().ok()?)),
        Source::Shopify => Some(LinkKey::of_shop(about.user, about.shop?)),
    }
}
