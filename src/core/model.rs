//! The words of the context: who, which page, which object, why.
//!
//! Every identifier that becomes part of a store key or of an object key is a type of its own, and can only be made
//! from text that was checked. That is what keeps one user's data out of another user's prefix: an object key is
//! never put together from raw input.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroize;

/// Why an identifier was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    /// Not a UUID in one of the usual spellings.
    #[error("user is not a UUID (expected something like 6f0a2a52-3c0e-4a42-9a55-0d8f1f4f2b10)")]
    User,
    /// Not a Graph node id.
    #[error("{0} is not a Graph id (expected 1 to 32 decimal digits)")]
    Graph(&'static str),
}

/// A user of the platform: the UUID under whose prefix the objects lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub Uuid);

impl UserId {
    /// A fresh random (version 4) user.
    pub fn random() -> Self {
        UserId(crate::random::uuid())
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for UserId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        Uuid::parse_str(text.trim()).map(UserId).map_err(|_| BadId::User)
    }
}

fn graph_id(text: &str, what: &'static str) -> Result<Arc<str>, BadId> {
    let text = text.trim();
    let sound = (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if sound { Ok(text.into()) } else { Err(BadId::Graph(what)) }
}

macro_rules! graph_id_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as Graph writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                graph_id(text, $what).map($name)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;

            fn try_from(text: String) -> Result<Self, BadId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }
    };
}

graph_id_type!(
    /// A Facebook Page: a Graph node id, 1 to 32 decimal digits.
    PageId,
    "page id"
);
graph_id_type!(
    /// A person as this app sees them: the app-scoped user id.
    AppUserId,
    "app-scoped user id"
);

/// One user × one page: the unit that has a token, an actor and an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkKey {
    /// The user of the platform.
    pub user: UserId,
    /// The page.
    pub page: PageId,
}

impl LinkKey {
    /// Pairs the two.
    pub fn new(user: UserId, page: PageId) -> Self {
        LinkKey { user, page }
    }

    /// Where this link's object lies in the bucket.
    pub fn object_key(&self) -> ObjectKey {
        ObjectKey(format!("users/{}/facebook/{}/page_data.json", self.user, self.page))
    }

    /// The key in the store: 16 bytes of UUID, then the page id's digits. Total, and one to one.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.user.0.as_bytes().to_vec();
        bytes.extend_from_slice(self.page.as_str().as_bytes());
        bytes
    }

    /// The inverse of [`LinkKey::to_bytes`]; `None` for bytes it never makes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (user, page) = bytes.split_at_checked(16)?;
        let user = UserId(Uuid::from_slice(user).ok()?);
        let page = std::str::from_utf8(page).ok()?;
        let parsed: PageId = page.parse().ok()?;
        (parsed.as_str() == page).then_some(LinkKey { user, page: parsed })
    }
}

impl fmt::Display for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.user, self.page)
    }
}

/// The name of an object in the bucket. Made from a [`LinkKey`] and from nothing else, so that it can hold no `..`
/// and no empty segment (path-style S3 clients resolve those into *other buckets*).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// The key as Spaces sees it, without a leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The link whose object this is.
    pub fn link(&self) -> Option<LinkKey> {
        let mut parts = self.0.split('/');
        let (users, user, facebook, page) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let shaped = users == "users" && facebook == "facebook" && parts.eq(["page_data.json"]);
        shaped.then(|| Some(LinkKey::new(user.parse().ok()?, page.parse().ok()?))).flatten()
    }

    /// A key for probes, outside every user's prefix.
    pub fn scratch(name: Uuid) -> Self {
        ObjectKey(format!("pagesyncd-probe/{}", name.as_hyphenated()))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a page is read. Kept in the object as `source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Meta said that the page changed.
    Webhook,
    /// The page's slot in the poll interval came.
    Poll,
    /// The page was linked, linked again or imported.
    Link,
    /// An operator asked.
    Manual,
}

impl Cause {
    /// The word in the object and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Webhook => "webhook",
            Cause::Poll => "poll",
            Cause::Link => "link",
            Cause::Manual => "manual",
        }
    }
}

/// Which of its tokens a link has. The store hands out a new number, higher than every one before, whenever a link gets
/// a token; a link that is removed and linked again never gets an old one. News about a token names the generation, and
/// is ignored once the link has another: times cannot tell tokens apart, since clocks are set and two logins may fall on
/// one instant.
///
/// The numbers begin at 1. A link that an earlier version stored has 0 until its next login or import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

/// The longest [`Label`], in characters.
pub const MAX_LABEL: usize = 80;

/// Why a label was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLabel {
    /// Nothing but blanks.
    #[error("the label is empty (leave it out, and the UUID is shown)")]
    Empty,
    /// Longer than [`MAX_LABEL`].
    #[error("the label is longer than {MAX_LABEL} characters")]
    TooLong,
    /// A control character, or one that is invisible or turns the direction of the text around it.
    #[error("the label holds a control character, an invisible one or one that changes the direction of text")]
    Unprintable,
}

/// The name of a user on HTML pages: plain text without line breaks, given by the operator. It may be personal, so its
/// `Debug` is a placeholder and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Label(Arc<str>);

impl Label {
    /// The text, for a page or for the store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[label]")
    }
}

impl FromStr for Label {
    type Err = BadLabel;

    fn from_str(text: &str) -> Result<Self, BadLabel> {
        let text = text.trim();
        // With these a label could pass for another one: soft hyphen, zero width space, bidirectional controls,
        // line and paragraph separators, the byte order mark. The joiners are part of some languages' spelling.
        let deceives = |c: char| {
            matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}')
        };
        match text.chars().count() {
            0 => Err(BadLabel::Empty),
            count if count > MAX_LABEL => Err(BadLabel::TooLong),
            _ if text.chars().any(|c| c.is_control() || deceives(c)) => Err(BadLabel::Unprintable),
            _ => Ok(Label(text.into())),
        }
    }
}

/// Text that must not be shown: a token, a secret, a key. Its `Debug` is a placeholder, it has no `Display`, and its
/// memory is wiped when it is dropped. [`Secret::expose`] is the one way to the text, and easy to search for.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Nothing in it?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A moment on the wall clock, in whole milliseconds since the Unix epoch: for what is written down. The wall clock may
/// be set forwards and backwards, so nothing waits by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime(pub u64);

impl WallTime {
    /// This moment and `d` more.
    pub fn plus(self, d: Duration) -> Self {
        WallTime(later(self.0, d))
    }

    /// The time from `earlier` to this moment; zero when `earlier` lies ahead.
    pub fn since(self, earlier: WallTime) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// RFC 3339 in UTC, to the second, as the object carries it.
    pub fn rfc3339(self) -> String {
        let whole = time::OffsetDateTime::from_unix_timestamp((self.0 / 1000) as i64);
        whole.ok().and_then(|t| t.format(&time::format_description::well_known::Rfc3339).ok()).unwrap_or_default()
    }
}

/// A moment on the monotonic clock of this process, in whole milliseconds: for waiting. It means nothing to another
/// process, so it is never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonoTime(pub u64);

impl MonoTime {
    /// This moment and `d` more.
    pub fn plus(self, d: Duration) -> Self {
        MonoTime(later(self.0, d))
    }

    /// The time from `earlier` to this moment; zero when `earlier` lies ahead.
    pub fn since(self, earlier: MonoTime) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

fn later(millis: u64, d: Duration) -> u64 {
    millis.saturating_add(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_refuse_what_could_leave_its_folder() {
        for bad in ["", "..", "1/2", "12a", "１２", "1".repeat(33).as_str(), "-1", "1\0"] {
            assert!(bad.parse::<PageId>().is_err(), "{bad:?} was taken");
        }
        assert!("not-a-uuid".parse::<UserId>().is_err());
        assert_eq!(" 123 ".parse::<PageId>().unwrap().as_str(), "123");
    }

    #[test]
    fn a_secret_does_not_show() {
        let secret = Secret::new("EAAB-very-secret");
        assert!(!format!("{secret:?} {:#?}", Some(&secret)).contains("very"));
    }

    #[test]
    fn a_label_is_plain_text_that_passes_for_no_other() {
        let label: Label = "  Bäckerei <Farn> & Söhne  ".parse().unwrap();
        assert_eq!((label.as_str(), format!("{label:?}").as_str()), ("Bäckerei <Farn> & Söhne", "[label]"));
        assert!("ü".repeat(MAX_LABEL).parse::<Label>().is_ok());
        assert!("نان\u{200c}وایی".parse::<Label>().is_ok(), "a joiner is spelling");
        for (text, why) in [
            ("", BadLabel::Empty),
            (" \t", BadLabel::Empty),
            ("x".repeat(MAX_LABEL + 1).as_str(), BadLabel::TooLong),
            ("two\nlines", BadLabel::Unprintable),
            ("\u{1b}[2J", BadLabel::Unprintable),
            ("Fern\u{202e}nreF", BadLabel::Unprintable),
            ("Fe\u{200b}rn", BadLabel::Unprintable),
        ] {
            assert_eq!(text.parse::<Label>(), Err(why), "{text:?}");
        }
    }

    #[test]
    fn moments_print_as_the_object_wants_them() {
        assert_eq!(WallTime(1_795_341_600_999).rfc3339(), "2026-11-22T10:00:00Z");
    }

    proptest! {
        #[test]
        fn keys_are_one_to_one(user: u128, page in "[0-9]{1,32}") {
            let link = LinkKey::new(UserId(Uuid::from_u128(user)), page.parse().unwrap());
            prop_assert_eq!(LinkKey::from_bytes(&link.to_bytes()), Some(link.clone()));
            prop_assert_eq!(link.object_key().link(), Some(link));
        }

        #[test]
        fn strange_bytes_are_no_link(bytes: Vec<u8>) {
            if let Some(link) = LinkKey::from_bytes(&bytes) {
                prop_assert_eq!(link.to_bytes(), bytes);
            }
        }
    }
}
