//! What waits in one key, oldest first, and what a newer event does to it. Pure.
//!
//! # Newest only, where the older adds nothing
//!
//! | newer | what it does to what waits |
//! |---|---|
//! | `page.updated` | is merged into the `page.updated` that waits: both field lists, the newer moment |
//! | `page.needs_relink` | takes the place of the one that waits |
//! | `page.linked` | takes the place of the one that waits; a waiting `page.needs_relink` is healed and goes |
//! | `page.unlinked` | everything that waits goes |
//!
//! None of these looks past a `page.unlinked`: what was told before the link went belongs to another life of it. A
//! receiver that gets what is left knows in the end what it would have known from all of it, and a test holds that.
//!
//! # The bound
//!
//! After the last `page.unlinked` there is at most one of each other kind, and the merging keeps it so: three. With the
//! `page.unlinked` before them four, and one more that was on its way when the others came: five, whatever the receiver
//! does, for months. A key that is not of a link holds one. So what waits is bounded by the number of links that ever
//! were, and of deletions.
//!
//! # Ids
//!
//! The receiver drops what it had before, by its id. So one that was never sent may change and keep its id; one that is
//! on its way never changes; and one that was sent without a good answer may have been taken all the same: when it
//! changes, it gets a new id. After a start nobody knows what was sent, so all count as sent.

use super::event::{Event, EventKind, MOST_FIELDS};

/// What must be put to disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventStep {
    /// Write this event under this number.
    Put(u64, Event),
    /// Remove what is under this number.
    Remove(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    number: u64,
    event: Event,
    /// It may have reached the receiver.
    tried: bool,
}

/// What waits in a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQueue {
    waiting: Vec<Waiting>,
    /// The first is on its way.
    sending: bool,
}

impl EventQueue {
    /// Takes back one that lay on disk. They must come in the order of their numbers.
    pub fn restore(&mut self, number: u64, event: Event) {
        self.waiting.push(Waiting { number, event, tried: true });
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Does nothing wait?
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Their numbers.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.waiting.iter().map(|one| one.number)
    }

    /// What waits, oldest first.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.waiting.iter().map(|one| &one.event)
    }

    /// Something is to be told. `number` must be above every other of this line, and the event's id new.
    pub fn push(&mut self, number: u64, event: Event) -> Vec<EventStep> {
        let mut steps = Vec::new();
        let from = self.changeable();
        match &event.told {
            EventKind::Unlinked { .. } => self.drop_where(usize::from(self.sending), |_| true, &mut steps),
            EventKind::Linked { .. } => {
                self.drop_where(from, |t| matches!(t, EventKind::NeedsRelink { .. }), &mut steps)
            }
            EventKind::Updated { .. } | EventKind::NeedsRelink { .. } | EventKind::Deleted { .. } => {}
        }
        let word = event.told.word();
        let healed = self.waiting.iter().rposition(|one| matches!(one.event.told, EventKind::Linked { .. }));
        // One that was on its way when the link was healed still stands before that, and is no one for a newer one.
        let from = match event.told {
            EventKind::NeedsRelink { .. } => from.max(healed.map_or(0, |at| at + 1)),
            _ => from.min(self.waiting.len()),
        };
        match self.waiting[from..].iter_mut().rev().find(|one| one.event.told.word() == word) {
            Some(one) => {
                merge(one, event);
                steps.push(EventStep::Put(one.number, one.event.clone()));
            }
            None => {
                steps.push(EventStep::Put(number, event.clone()));
                self.waiting.push(Waiting { number, event, tried: false });
            }
        }
        steps
    }

    /// Where this life of the link begins among what is not on its way.
    fn changeable(&self) -> usize {
        let gone = self.waiting.iter().rposition(|one| matches!(one.event.told, EventKind::Unlinked { .. }));
        gone.map_or(0, |at| at + 1).max(usize::from(self.sending))
    }

    fn drop_where(&mut self, from: usize, which: impl Fn(&EventKind) -> bool, steps: &mut Vec<EventStep>) {
        let mut at = 0;
        self.waiting.retain(|one| {
            let goes = at >= from && which(&one.event.told);
            at += 1;
            if goes {
                steps.push(EventStep::Remove(one.number));
            }
            !goes
        });
    }

    /// The first goes out. `None` when nothing waits.
    pub fn begin(&mut self) -> Option<Event> {
        let first = self.waiting.first()?;
        self.sending = true;
        Some(first.event.clone())
    }

    /// Was the first sent before, as far as is known?
    pub fn was_tried(&self) -> bool {
        self.waiting.first().is_some_and(|first| first.tried)
    }

    /// Is one on its way?
    pub fn is_sending(&self) -> bool {
        self.sending
    }

    /// The one with this id ended its way without a good answer.
    pub fn give_back(&mut self, id: &str) {
        if let Some(first) = self.waiting.first_mut().filter(|one| one.event.id == id) {
            first.tried = true;
            self.sending = false;
        }
    }

    /// The receiver took the one with this id.
    pub fn delivered(&mut self, id: &str) -> Option<EventStep> {
        let first = self.waiting.first().filter(|one| one.event.id == id)?;
        let step = EventStep::Remove(first.number);
        self.waiting.remove(0);
        self.sending = false;
        Some(step)
    }
}

fn merge(one: &mut Waiting, newer: Event) {
    let older = &one.event;
    let id = if one.tried { newer.id } else { older.id.clone() };
    let told = match (&older.told, newer.told) {
        (EventKind::Updated { changed: before, .. }, EventKind::Updated { link, changed }) => {
            let both = changed.union(before).take(MOST_FIELDS).cloned().collect();
            EventKind::Updated { link, changed: both }
        }
        // Whoever was not told of the first linking has nothing that is linked anew.
        (EventKind::Linked { anew: before, .. }, EventKind::Linked { link, anew }) => {
            EventKind::Linked { link, anew: anew && *before }
        }
        (_, newer) => newer,
    };
    one.event = Event { id, at: newer.at.max(older.at), since: older.since, told };
    one.tried = false;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::core::health::{ParkReason, Parked};
    use crate::core::model::{LinkKey, UserId, WallTime};

    fn link() -> LinkKey {
        LinkKey::new(UserId(uuid::Uuid::nil()), "1".parse().unwrap())
    }

    fn updated(fields: &[&str]) -> EventKind {
        EventKind::Updated { link: link(), changed: fields.iter().map(|f| (*f).to_owned()).collect() }
    }

    fn parked(why: ParkReason) -> EventKind {
        EventKind::NeedsRelink { link: link(), parked: Parked { why, since: WallTime(1) } }
    }

    fn linked(anew: bool) -> EventKind {
        EventKind::Linked { link: link(), anew }
    }

    fn unlinked() -> EventKind {
        EventKind::Unlinked { link: link(), kept: false }
    }

    /// A line, and the disk beside it.
    #[derive(Default)]
    struct QueueModel {
        line: EventQueue,
        disk: BTreeMap<u64, Event>,
        next: u64,
    }

    impl QueueModel {
        fn tell(&mut self, told: EventKind) {
            self.next += 1;
            let at = WallTime(self.next);
            let event = Event { id: format!("msg_{}", self.next), at, since: at, told };
            let steps = self.line.push(self.next, event);
            self.carry_out(steps);
        }

        fn tell_all<const N: usize>(&mut self, all: [EventKind; N]) {
            all.into_iter().for_each(|told| self.tell(told));
        }

        fn carry_out(&mut self, steps: impl IntoIterator<Item = EventStep>) {
            for step in steps {
                match step {
                    EventStep::Put(number, event) => drop(self.disk.insert(number, event)),
                    EventStep::Remove(number) => assert!(self.disk.remove(&number).is_some()),
                }
            }
        }

        fn deliver(&mut self) -> Option<Event> {
            let event = self.line.begin()?;
            let step = self.line.delivered(&event.id);
            self.carry_out(step);
            Some(event)
        }

        fn restart(&mut self) {
            self.line = EventQueue::default();
            self.disk.iter().for_each(|(number, event)| self.line.restore(*number, event.clone()));
        }

        fn shape(&self) -> Vec<(&str, &'static str)> {
            self.line.events().map(|n| (n.id.as_str(), n.told.word())).collect()
        }
    }

    #[test]
    fn updates_that_wait_become_one_and_keep_the_id() {
        let mut rig = QueueModel::default();
        rig.tell_all([linked(false), updated(&["id", "name"]), updated(&["name", "phone"])]);
        assert_eq!(rig.shape(), [("msg_1", "page.linked"), ("msg_2", "page.updated")]);
        let merged = rig.line.events().last().unwrap();
        assert_eq!((merged.at, merged.since), (WallTime(3), WallTime(2)));
        assert_eq!(merged.told, updated(&["id", "name", "phone"]));
    }

    #[test]
    fn what_is_on_its_way_is_left_alone_and_what_was_sent_changes_its_id() {
        let mut rig = QueueModel::default();
        rig.tell(updated(&["a"]));
        let sent = rig.line.begin().unwrap();
        rig.tell(updated(&["b"]));
        rig.tell(updated(&["c"]));
        assert_eq!(rig.shape(), [("msg_1", "page.updated"), ("msg_2", "page.updated")]);
        rig.line.give_back(&sent.id);
        // The second was never sent; after it went, without an answer, it was.
        rig.tell(updated(&["d"]));
        assert_eq!(rig.shape()[1], ("msg_2", "page.updated"));
        assert_eq!(rig.deliver().unwrap(), sent);
        let second = rig.line.begin().unwrap();
        rig.line.give_back(&second.id);
        rig.tell(updated(&["e"]));
        assert_eq!(rig.shape(), [("msg_5", "page.updated")]);
        assert_eq!(rig.deliver().unwrap().told, updated(&["b", "c", "d", "e"]));
    }

    #[test]
    fn a_start_keeps_ids_and_takes_all_for_sent() {
        let mut rig = QueueModel::default();
        rig.tell_all([linked(false), updated(&["a"])]);
        rig.restart();
        assert_eq!(rig.shape(), [("msg_1", "page.linked"), ("msg_2", "page.updated")]);
        rig.tell(updated(&["b"]));
        assert_eq!(rig.shape()[1], ("msg_3", "page.updated"));
    }

    #[test]
    fn a_new_link_heals_and_an_end_ends_what_waits() {
        let mut rig = QueueModel::default();
        rig.tell_all([parked(ParkReason::Expired), parked(ParkReason::AppRemoved)]);
        assert_eq!(rig.line.events().next().unwrap().told, parked(ParkReason::AppRemoved));
        rig.tell(linked(true));
        assert_eq!(rig.shape(), [("msg_3", "page.linked")]);
        rig.tell_all([updated(&["a"]), unlinked(), linked(false), updated(&["b"])]);
        assert_eq!(
            rig.shape().iter().map(|(_, word)| *word).collect::<Vec<_>>(),
            ["page.unlinked", "page.linked", "page.updated"]
        );
        assert_eq!(rig.line.events().last().unwrap().told, updated(&["b"]));
    }

    #[test]
    fn a_trouble_after_the_healing_stands_behind_it() {
        let mut rig = QueueModel::default();
        rig.tell(parked(ParkReason::Expired));
        let sent = rig.line.begin().unwrap();
        rig.tell(linked(true));
        rig.line.give_back(&sent.id);
        rig.tell(parked(ParkReason::Blocked));
        let words: Vec<_> = rig.shape().iter().map(|(_, word)| *word).collect();
        assert_eq!(words, ["page.needs_relink", "page.linked", "page.needs_relink"]);
    }

    /// What a receiver knows: is there a link, what does it wait for, up to which moment has it read the object.
    #[derive(Debug, Clone, Default, PartialEq)]
    struct Known {
        linked: bool,
        waits: Option<ParkReason>,
        read_at: Option<WallTime>,
    }

    impl Known {
        fn learn(&mut self, event: &Event) {
            match &event.told {
                EventKind::Linked { .. } => {
                    self.linked = true;
                    self.waits = None;
                }
                EventKind::Updated { .. } => self.read_at = Some(event.at),
                EventKind::NeedsRelink { parked, .. } => self.waits = Some(parked.why),
                EventKind::Unlinked { .. } => *self = Known::default(),
                EventKind::Deleted { .. } => {}
            }
        }
    }

    /// A receiver that drops what it had before by its id, and is told of everything that waits.
    fn in_the_end(heard: &Known, seen: &BTreeMap<String, Event>, line: &EventQueue) -> Known {
        let mut known = heard.clone();
        line.events().filter(|event| !seen.contains_key(&event.id)).for_each(|event| known.learn(event));
        known
    }

    proptest! {
        #[test]
        fn it_stays_short_and_says_in_the_end_what_all_would_have_said(
            // Deliveries weigh more, so that a line is often short and its first of every kind.
            steps in proptest::collection::vec(prop_oneof![10 => 0u8..10, 3 => Just(5), 3 => Just(8)], 1..300)
        ) {
            let (mut rig, mut told, mut heard) = (QueueModel::default(), Known::default(), Known::default());
            let mut flying: Option<Event> = None;
            let mut seen: BTreeMap<String, Event> = BTreeMap::new();
            for step in steps {
                let now = match step {
                    0 => Some(linked(told.linked)),
                    1 | 2 if told.linked => Some(updated(&[["a", "b", "c"][usize::from(step)]])),
                    3 if told.linked => Some(parked(ParkReason::Expired)),
                    4 if told.linked => Some(unlinked()),
                    _ => None,
                };
                if let Some(now) = now {
                    rig.tell(now.clone());
                    let at = WallTime(rig.next);
                    told.learn(&Event { id: String::new(), at, since: at, told: now });
                }
                match step {
                    5 if flying.is_none() => flying = rig.line.begin(),
                    // It is lost; or taken, and the answer is lost; or taken.
                    6..=8 => if let Some(event) = flying.take() {
                        if step != 6 {
                            let twin = seen.insert(event.id.clone(), event.clone());
                            prop_assert!(twin.as_ref().is_none_or(|twin| *twin == event), "one id, two contents");
                            if twin.is_none() { heard.learn(&event); }
                        }
                        if step == 8 {
                            let step = rig.line.delivered(&event.id);
                            rig.carry_out(step);
                        } else {
                            rig.line.give_back(&event.id);
                        }
                    },
                    9 => { flying = None; rig.restart(); }
                    _ => {}
                }
                prop_assert!(rig.line.len() <= 5, "{:?}", rig.shape());
                let on_disk: Vec<u64> = rig.disk.keys().copied().collect();
                prop_assert_eq!(on_disk, rig.line.numbers().collect::<Vec<_>>());
                let first = rig.line.events().next();
                prop_assert!(flying.is_none() || first == flying.as_ref(), "it changed on its way");
                prop_assert_eq!(&in_the_end(&heard, &seen, &rig.line), &told, "{:?}", rig.shape());
            }
        }
    }
}
