//! What the dispatcher passes on, as events for the status page. A link that changed by itself is one event with its
//! name and its health; many links of one batch are counted.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::context::Context;
use crate::context::recent::Kind;
use crate::core::health::Health;
use crate::core::model::{LinkKey, WallTime};
use crate::store::feed::{LinkChanges, Presence};

/// So many links of a batch are events of their own; more are counted.
const SINGLE: usize = 12;

/// Notes the links of a batch that were made, were removed, or wait for a person.
pub(super) async fn of_links(context: &Context, links: &BTreeMap<LinkKey, LinkChanges>) {
    let with = |wanted: fn(&LinkChanges) -> bool| -> Vec<&LinkKey> {
        links.iter().filter(|(_, changes)| wanted(changes)).map(|(link, _)| link).collect()
    };
    let linked = with(|changes| changes.presence == Some(Presence::Linked));
    let unlinked = with(|changes| changes.presence == Some(Presence::Unlinked));
    let parked = with(|changes| changes.parked);
    if linked.len() > SINGLE {
        context.recent.note_links(Kind::Linked, true, linked.len() as u64, "links were made or renewed");
    } else {
        for link in linked {
            let name = name(context, link).await;
            context.recent.note_link(Kind::Linked, true, link.clone(), name, "linked");
        }
    }
    if unlinked.len() > SINGLE {
        context.recent.note_links(Kind::Unlinked, true, unlinked.len() as u64, "links were removed");
    } else {
        for link in unlinked {
            context.recent.note_link(Kind::Unlinked, true, link.clone(), None, "unlinked");
        }
    }
    if parked.len() > SINGLE {
        context.recent.note_links(Kind::Health, false, parked.len() as u64, "links wait for a person");
    } else {
        for link in parked {
            of_parked(context, link).await;
        }
    }
}

async fn name(context: &Context, link: &LinkKey) -> Option<String> {
    context.store.view(link).await.ok().flatten().and_then(|view| view.record.name.clone())
}

/// A link that was linked again meanwhile waits for nobody, and is no event.
async fn of_parked(context: &Context, link: &LinkKey) {
    let Ok(Some(view)) = context.store.view(link).await else { return };
    if let Health::Parked(parked) = &view.record.health {
        let text = format!("{}: {}", parked.why.word(), parked.why.reason());
        context.recent.note_link(Kind::Health, false, link.clone(), view.record.name.clone(), &text);
    }
}

/// Notes that Graph has blocked the app for this time.
pub(super) fn of_block(context: &Context, time: Duration) {
    if !time.is_zero() {
        let until = WallTime::now().plus(time).rfc3339();
        context.recent.note(Kind::Dependency, false, &format!("graph blocks the app until {until}"));
    }
}
