//! The words of the whole program: users, links and their parts, causes, generations, secrets, moments.
//!
//! Every identifier that becomes part of a store key or of an object key is a type of its own, and can only be made
//! from text that was checked. That is what keeps one user's data out of another user's prefix: an object key is
//! never put together from raw input.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

mod backup;
mod ids;
mod link;
mod names;

pub use backup::{BACKUPS, BackupName, BadBackupName};
pub use ids::{AppUserId, BadId, GraphId, PageId, ShopName, UserId};
pub use link::{BadPart, LinkKey, ObjectKey, Part, PartKey, Source, SourceId};
pub use names::Names;

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

    /// Somebody waits for the read, so that it comes sooner than one that is due.
    pub fn is_urgent(self) -> bool {
        matches!(self, Cause::Link | Cause::Manual)
    }
}

/// Which of its tokens a link has. The store hands out a new number, higher than every one before, whenever a link gets
/// a token; a link that is removed and linked again never gets an old one. News about a token names the generation, and
/// is ignored once the link has another: times cannot tell tokens apart, since clocks are set and two logins may fall
/// on one instant.
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
        self.with_rfc3339(str::to_owned)
    }

    /// Hands over the same text, which takes no memory of its own.
    pub fn with_rfc3339<R>(self, with: impl FnOnce(&str) -> R) -> R {
        let whole = time::OffsetDateTime::from_unix_timestamp((self.0 / 1000) as i64);
        let mut text = [0; 32];
        let mut rest = &mut text[..];
        let format = &time::format_description::well_known::Rfc3339;
        let length = whole.ok().and_then(|t| t.format_into(&mut rest, format).ok()).unwrap_or(0);
        with(text.get(..length).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default())
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
}
