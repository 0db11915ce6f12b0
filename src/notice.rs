//! What the platform's own programs are told: that a page was linked, changed, waits for a person, was unlinked, or that
//! a deletion is done. Pure: the moment and the ids are arguments.
//!
//! A notice says *that* something is so and where the object lies; it holds no page data, no token and no name. Whoever
//! gets one reads the object. [`Notice::body`] is the body of the POST, in the form that the Standard Webhooks
//! specification recommends.
//!
//! A notice goes in a [`Lane`]: that of its link, or that of its deletion. Within a lane one follows the other in order;
//! lanes overtake each other. [`line`] says what waits in a lane, and what a newer notice does to it.

pub mod line;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::health::Parked;
use crate::model::{LinkKey, Millis};

pub use line::{Line, Step};

/// Field names in one notice at most; no page has so many.
pub const MOST_FIELDS: usize = 512;

/// What waits in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Notices about one link.
    Link(LinkKey),
    /// The notice about the deletion with this confirmation code.
    Deletion(String),
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Told {
    /// A page was linked.
    #[serde(rename = "page.linked")]
    Linked {
        /// Which.
        link: LinkKey,
        /// It was linked before and has a new token.
        anew: bool,
    },
    /// An object was written with other page data.
    #[serde(rename = "page.updated")]
    Updated {
        /// Whose.
        link: LinkKey,
        /// The top-level page fields that came, went or changed.
        changed: BTreeSet<String>,
    },
    /// A link waits for a person.
    #[serde(rename = "page.needs_relink")]
    NeedsRelink {
        /// Which.
        link: LinkKey,
        /// Why, and since when.
        parked: Parked,
    },
    /// A link is gone.
    #[serde(rename = "page.unlinked")]
    Unlinked {
        /// Which.
        link: LinkKey,
        /// Its object stays in Spaces; otherwise it is deleted.
        kept: bool,
    },
    /// A person's request to be forgotten is carried out.
    #[serde(rename = "deletion.completed")]
    Deleted {
        /// The confirmation code that Meta and the person were given.
        code: String,
        /// The links that went, and whose objects with them.
        links: Vec<LinkKey>,
    },
}

impl Told {
    /// The word in `type`.
    pub fn word(&self) -> &'static str {
        match self {
            Told::Linked { .. } => "page.linked",
            Told::Updated { .. } => "page.updated",
            Told::NeedsRelink { .. } => "page.needs_relink",
            Told::Unlinked { .. } => "page.unlinked",
            Told::Deleted { .. } => "deletion.completed",
        }
    }

    /// Where it waits.
    pub fn lane(&self) -> Lane {
        match self {
            Told::Linked { link, .. }
            | Told::Updated { link, .. }
            | Told::NeedsRelink { link, .. }
            | Told::Unlinked { link, .. } => Lane::Link(link.clone()),
            Told::Deleted { code, .. } => Lane::Deletion(code.clone()),
        }
    }

    fn data(&self) -> Value {
        match self {
            Told::Linked { link, anew } => with(link, json!({"anew": anew})),
            Told::Updated { link, changed } => with(link, json!({"changed": changed})),
            Told::NeedsRelink { link, parked } => {
                let why = parked.why;
                with(
                    link,
                    json!({"health": why.word(), "reason": why.reason(), "remedy": why.remedy(),
                           "since": parked.since.rfc3339()}),
                )
            }
            Told::Unlinked { link, kept } => with(link, json!({"object_kept": kept})),
            Told::Deleted { code, links } => {
                let pages: Vec<Value> = links.iter().map(|link| with(link, json!({}))).collect();
                json!({"confirmation_code": code, "pages": pages})
            }
        }
    }
}

/// The link's names, and more.
fn with(link: &LinkKey, more: Value) -> Value {
    let mut data = json!({"page_id": link.page, "user": link.user, "object": link.object_key().as_str()});
    if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more) {
        data.extend(more);
    }
    data
}

/// A notice that waits; a record of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// `webhook-id`: the receiver knows by it what it had before.
    pub id: String,
    /// When the newest of what it tells of happened.
    pub at: Millis,
    /// When the oldest did.
    pub since: Millis,
    /// What it tells.
    pub told: Told,
}

impl Notice {
    /// The bytes that are signed and sent.
    pub fn body(&self) -> Vec<u8> {
        let body = json!({"type": self.told.word(), "timestamp": self.at.rfc3339(), "data": self.told.data()});
        body.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Why;

    /// The samples of README.md, in its words.
    #[test]
    fn bodies_are_as_the_readme_shows_them() {
        let link = LinkKey::new("6f0a2a52-3c0e-4a42-9a55-0d8f1f4f2b10".parse().unwrap(), "123".parse().unwrap());
        let parked = Parked { why: Why::PasswordChanged, since: Millis(1_795_341_600_000) };
        let changed = ["hours", "name"].map(str::to_owned).into();
        let all = [
            Told::Linked { link: link.clone(), anew: false },
            Told::Updated { link: link.clone(), changed },
            Told::NeedsRelink { link: link.clone(), parked },
            Told::Unlinked { link: link.clone(), kept: false },
            Told::Deleted { code: "0123456789abcdef0123456789abcdef".into(), links: vec![link] },
        ];
        let readme = include_str!("../README.md");
        let shown: Vec<Value> = readme
            .split("```json\n")
            .filter_map(|rest| rest.split("```").next())
            .flat_map(|block| block.split("\n\n"))
            .filter_map(|text| serde_json::from_str(text).ok())
            .filter(|value: &Value| value["type"].is_string())
            .collect();
        assert_eq!(shown.len(), all.len(), "README.md shows each type once");
        for (told, shown) in all.into_iter().zip(shown) {
            let at = Millis(1_795_341_600_000);
            let notice = Notice { id: "msg_1".into(), at, since: at, told };
            assert_eq!(serde_json::from_slice::<Value>(&notice.body()).unwrap(), shown);
        }
    }

    #[test]
    fn a_notice_survives_being_written_and_read() {
        let link = LinkKey::new(crate::model::UserId::random(), "7".parse().unwrap());
        let told = Told::NeedsRelink { link, parked: Parked { why: Why::Blocked, since: Millis(1) } };
        let notice = Notice { id: "msg_x".into(), at: Millis(2), since: Millis(1), told };
        let text = serde_json::to_string(&notice).unwrap();
        assert!(text.contains(notice.told.word()));
        assert_eq!(serde_json::from_str::<Notice>(&text).unwrap(), notice);
    }
}
