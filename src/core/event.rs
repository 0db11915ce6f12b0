//! Events for the platform's own programs: a page was linked, changed, waits for a person, or was unlinked; a deletion
//! is done. Pure: the moment and the ids are arguments.
//!
//! An event names its subject and the object; it holds no page data, no token and no name. A receiver reads the object.
//! [`Event::body`] is the body of the POST, in the form that the Standard Webhooks specification recommends.
//!
//! Each event has an [`EventKey`]: its link, or its deletion. Events with one key are delivered in order; events with
//! different keys overtake each other. [`event_queue`](crate::core::event_queue) has the rules for the events that wait
//! with one key.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::health::Parked;
use crate::core::model::{LinkKey, Source, WallTime};

pub use crate::core::event_queue::{EventQueue, EventStep};

/// Field names in one event at most; no page has so many.
pub const MOST_FIELDS: usize = 512;

/// What waits in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EventKey {
    /// Events about one link.
    Link(LinkKey),
    /// The event about the deletion with this confirmation code.
    Deletion(String),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum EventKind {
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

impl EventKind {
    /// The word in `type`.
    pub fn word(&self) -> &'static str {
        let of = |link: &LinkKey, page, shop| match link.source() {
            Source::Facebook => page,
            Source::Shopify => shop,
        };
        match self {
            EventKind::Linked { link, .. } => of(link, "page.linked", "shop.linked"),
            EventKind::Updated { link, .. } => of(link, "page.updated", "shop.updated"),
            EventKind::NeedsRelink { link, .. } => of(link, "page.needs_relink", "shop.needs_relink"),
            EventKind::Unlinked { link, .. } => of(link, "page.unlinked", "shop.unlinked"),
            EventKind::Deleted { .. } => "deletion.completed",
        }
    }

    /// Where it waits.
    pub fn key(&self) -> EventKey {
        match self {
            EventKind::Linked { link, .. }
            | EventKind::Updated { link, .. }
            | EventKind::NeedsRelink { link, .. }
            | EventKind::Unlinked { link, .. } => EventKey::Link(link.clone()),
            EventKind::Deleted { code, .. } => EventKey::Deletion(code.clone()),
        }
    }

    fn data(&self) -> Value {
        match self {
            EventKind::Linked { link, anew } => with(link, json!({"anew": anew})),
            EventKind::Updated { link, changed } => with(link, json!({"changed": changed})),
            EventKind::NeedsRelink { link, parked } => {
                let why = parked.why;
                with(
                    link,
                    json!({"health": why.word(), "reason": why.reason(), "remedy": why.remedy(),
                           "since": parked.since.rfc3339()}),
                )
            }
            EventKind::Unlinked { link, kept } => with(link, json!({"object_kept": kept})),
            EventKind::Deleted { code, links } => {
                let pages: Vec<Value> = links.iter().map(|link| with(link, json!({}))).collect();
                json!({"confirmation_code": code, "pages": pages})
            }
        }
    }
}

/// The link's names, and more.
fn with(link: &LinkKey, more: Value) -> Value {
    let mut data = json!({"user": link.user, "object": link.object_key().as_str()});
    let id = match link.source() {
        Source::Facebook => "page_id",
        Source::Shopify => "shop",
    };
    data[id] = link.id.as_str().into();
    if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more) {
        data.extend(more);
    }
    data
}

/// An event that waits; a record of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// `webhook-id`: the receiver knows by it what it had before.
    pub id: String,
    /// When the newest of its causes happened.
    pub at: WallTime,
    /// When the oldest did.
    pub since: WallTime,
    /// What happened.
    #[serde(rename = "told")]
    pub kind: EventKind,
}

impl Event {
    /// The bytes that are signed and sent.
    pub fn body(&self) -> Vec<u8> {
        let body = json!({"type": self.kind.word(), "timestamp": self.at.rfc3339(), "data": self.kind.data()});
        body.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::health::ParkReason;

    /// The samples of `docs/reference.md`.
    #[test]
    fn bodies_are_as_the_reference_shows_them() {
        let link = LinkKey::new("6f0a2a52-3c0e-4a42-9a55-0d8f1f4f2b10".parse().unwrap(), "123".parse().unwrap());
        let parked = Parked { why: ParkReason::PasswordChanged, since: WallTime(1_795_341_600_000) };
        let changed = ["hours", "name"].map(str::to_owned).into();
        let all = [
            EventKind::Linked { link: link.clone(), anew: false },
            EventKind::Updated { link: link.clone(), changed },
            EventKind::NeedsRelink { link: link.clone(), parked },
            EventKind::Unlinked { link: link.clone(), kept: false },
            EventKind::Deleted { code: "0123456789abcdef0123456789abcdef".into(), links: vec![link] },
        ];
        let reference = include_str!("../../docs/reference.md");
        let shown: Vec<Value> = reference
            .split("```json\n")
            .filter_map(|rest| rest.split("```").next())
            .flat_map(|block| block.split("\n\n"))
            .filter_map(|text| serde_json::from_str(text).ok())
            .filter(|value: &Value| value["type"].is_string())
            .collect();
        assert_eq!(shown.len(), all.len(), "the reference shows each type once");
        for (kind, shown) in all.into_iter().zip(shown) {
            let at = WallTime(1_795_341_600_000);
            let event = Event { id: "msg_1".into(), at, since: at, kind };
            assert_eq!(serde_json::from_slice::<Value>(&event.body()).unwrap(), shown);
        }
    }

    #[test]
    fn a_event_survives_being_written_and_read() {
        let link = LinkKey::new(crate::core::model::UserId::random(), "7".parse().unwrap());
        let kind = EventKind::NeedsRelink { link, parked: Parked { why: ParkReason::Blocked, since: WallTime(1) } };
        let event = Event { id: "msg_x".into(), at: WallTime(2), since: WallTime(1), kind };
        let text = serde_json::to_string(&event).unwrap();
        assert!(text.contains(event.kind.word()));
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}
