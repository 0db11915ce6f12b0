//! What happened lately: the last events of this daemon, in memory, for the status page. A restart forgets them.
//!
//! An event is a text for a person with a kind, and perhaps a link. It is written by the part that made the decision or
//! noticed the change, from texts that the log and `status` have as well, so that it holds no secret. The number of
//! events is bounded. Many links that change together are one event with a count: an import of a hundred thousand links
//! would otherwise push out everything else.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::core::model::{LinkKey, WallTime};

/// Events that are kept.
pub const KEPT: usize = 200;
/// Counts that come closer together than this are one event.
const TOGETHER: Duration = Duration::from_secs(10);
/// Characters of a text that are kept. Causes that other programs name can be long.
const MAX_TEXT: usize = 400;

/// What kind of event it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The daemon itself.
    Daemon,
    /// The configuration was applied or refused.
    Config,
    /// A dependency began to fail, or answers again.
    Dependency,
    /// A link was made, or has a new token.
    Linked,
    /// A link was removed.
    Unlinked,
    /// A link waits for a person.
    Health,
    /// Daemons joined or left the shared store.
    Daemons,
}

impl Kind {
    /// The word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Daemon => "daemon",
            Kind::Config => "config",
            Kind::Dependency => "dependency",
            Kind::Linked => "linked",
            Kind::Unlinked => "unlinked",
            Kind::Health => "health",
            Kind::Daemons => "daemons",
        }
    }
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recent {
    /// Its number in this process, from 1 on.
    pub number: u64,
    /// The number of the event that it stands for as well.
    pub replaces: Option<u64>,
    /// When it happened.
    pub at: WallTime,
    /// Its kind.
    pub kind: Kind,
    /// Is it good news?
    pub ok: bool,
    /// The link that it concerns, where it is one.
    pub link: Option<LinkKey>,
    /// The name of the link's Page or shop, where known.
    pub name: Option<String>,
    /// How many links it concerns, where they are counted.
    pub count: Option<u64>,
    /// What happened.
    pub text: String,
}

/// The last events; clones share them.
#[derive(Debug, Clone)]
pub struct RecentEvents {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Distinguishes the numbers of this process from those of another.
    run: u64,
    kept: Mutex<VecDeque<Arc<Recent>>>,
    last: watch::Sender<u64>,
    ended: CancellationToken,
}

impl RecentEvents {
    /// None yet. `run` is a number that no other process of the daemon has.
    pub fn new(run: u64) -> Self {
        let inner = Inner {
            run,
            kept: Mutex::new(VecDeque::with_capacity(KEPT)),
            last: watch::Sender::new(0),
            ended: CancellationToken::new(),
        };
        RecentEvents { inner: Arc::new(inner) }
    }

    /// Something happened.
    pub fn note(&self, kind: Kind, ok: bool, text: &str) {
        self.push(self.kept(), Recent { text: cut(text), ..blank(kind, ok) });
    }

    /// Something happened to this link.
    pub fn note_link(&self, kind: Kind, ok: bool, link: LinkKey, name: Option<String>, text: &str) {
        let event = Recent { link: Some(link), name, text: cut(text), ..blank(kind, ok) };
        self.push(self.kept(), event);
    }

    /// The same happened to so many links. `text` follows their number.
    pub fn note_links(&self, kind: Kind, ok: bool, count: u64, text: &str) {
        let mut kept = self.kept();
        let mut event = blank(kind, ok);
        let same = |last: &Arc<Recent>| last.kind == kind && last.count.is_some() && event.at.since(last.at) < TOGETHER;
        let before = kept.back().filter(|last| same(last)).cloned();
        if let Some(before) = &before {
            kept.pop_back();
            event.replaces = before.replaces.or(Some(before.number));
        }
        let count = count + before.and_then(|before| before.count).unwrap_or(0);
        (event.count, event.text) = (Some(count), format!("{count} {text}"));
        self.push(kept, event);
    }

    fn push(&self, mut kept: MutexGuard<'_, VecDeque<Arc<Recent>>>, event: Recent) {
        let number = *self.inner.last.borrow() + 1;
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::new(Recent { number, ..event }));
        // Under the lock, so that numbers and order agree.
        self.inner.last.send_replace(number);
    }

    /// The events behind this number, the oldest first.
    pub fn after(&self, number: u64) -> Vec<Arc<Recent>> {
        self.kept().iter().filter(|event| event.number > number).cloned().collect()
    }

    /// The id of an event for its readers: it is of this process.
    pub fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.inner.run)
    }

    /// The number in an id; `None` where the id is of another process, or none.
    pub fn number(&self, id: &str) -> Option<u64> {
        let (run, number) = id.split_once('-')?;
        number.parse().ok().filter(|_| run.parse() == Ok(self.inner.run))
    }

    /// The number of the last event; changes with each.
    pub fn last(&self) -> watch::Receiver<u64> {
        self.inner.last.subscribe()
    }

    /// The process ends: whoever follows the events stops now.
    pub fn end(&self) {
        self.inner.ended.cancel();
    }

    /// Is cancelled by [`RecentEvents::end`].
    pub fn ended(&self) -> CancellationToken {
        self.inner.ended.clone()
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<Recent>>> {
        self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn blank(kind: Kind, ok: bool) -> Recent {
    let at = WallTime::now();
    Recent { number: 0, replaces: None, at, kind, ok, link: None, name: None, count: None, text: String::new() }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_events_are_kept_and_an_id_of_another_process_names_none() {
        let events = RecentEvents::new(7);
        for n in 0..KEPT + 5 {
            events.note(Kind::Config, true, &format!("{n}"));
        }
        let kept = events.after(0);
        assert_eq!((kept.len(), kept[0].number, kept[0].text.as_str()), (KEPT, 6, "5"));
        let last = kept[KEPT - 1].number;
        assert_eq!(events.after(last - 1).len(), 1);
        assert_eq!(events.number(&events.id(last)), Some(last));
        assert_eq!((events.number("8-3"), events.number("x"), events.number("7-")), (None, None, None));
        assert_eq!(*events.last().borrow(), last);
    }

    #[test]
    fn links_that_change_together_are_one_event() {
        let events = RecentEvents::new(7);
        events.note_links(Kind::Linked, true, 250, "links were made");
        events.note_links(Kind::Linked, true, 50, "links were made");
        events.note_links(Kind::Unlinked, true, 20, "links were removed");
        let kept = events.after(0);
        let texts: Vec<&str> = kept.iter().map(|event| event.text.as_str()).collect();
        assert_eq!(texts, ["300 links were made", "20 links were removed"]);
        assert_eq!((kept[0].number, kept[0].replaces), (2, Some(1)));
        events.note_links(Kind::Unlinked, true, 1, "links were removed");
        events.note_links(Kind::Unlinked, true, 1, "links were removed");
        let last = events.after(2).pop().unwrap();
        assert_eq!((last.number, last.replaces), (5, Some(3)), "a reader may have seen the first of them alone");
    }

    #[test]
    fn a_long_text_is_cut() {
        let events = RecentEvents::new(7);
        events.note(Kind::Dependency, false, &"ä".repeat(1000));
        assert_eq!(events.after(0)[0].text.chars().count(), MAX_TEXT + 1);
    }
}
