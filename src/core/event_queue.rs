//! The events that wait with one key, oldest first, and the effect of a newer event on them. Pure.
//!
//! # Newest only, where the older adds nothing
//!
//! | newer | its effect on the waiting events |
//! |---|---|
//! | `page.updated` | is merged into the waiting `page.updated`: both field lists, the newer moment |
//! | `page.needs_relink` | replaces the waiting one |
//! | `page.linked` | replaces the waiting one; a waiting `page.needs_relink` is removed |
//! | `page.unlinked` | all waiting events are removed |
//!
//! None of these rules reaches across a `page.unlinked`: the events before it belong to an earlier link. A receiver of
//! the remaining events knows in the end as much as a receiver of all events, and a test holds that.
//!
//! # The bound
//!
//! After the last `page.unlinked` at most one event of each other kind waits: three. The `page.unlinked` before them
//! makes four, and an event that was being delivered when the others came makes five, however long the receiver is
//! away. The key of a deletion holds one event. So the number of waiting events is bounded by the links that ever
//! existed and by the deletions.
//!
//! # Ids
//!
//! The receiver drops an event whose id it has seen. So an event that was never sent may change and keep its id. An
//! event that is being delivered never changes. An event that was sent without a good answer may have arrived: when it
//! changes, it gets a new id. After a start it is unknown which events were sent, so all count as sent.

use super::event::{Event, EventKind, MOST_FIELDS};

/// A write to the store.
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

    /// Adds an event. `number` must be above every other in this queue, and the event's id new.
    pub fn push(&mut self, number: u64, event: Event) -> Vec<EventStep> {
        let mut steps = Vec::new();
        let from = self.changeable();
        match &event.kind {
            EventKind::Unlinked { .. } => self.drop_where(usize::from(self.sending), |_| true, &mut steps),
            EventKind::Linked { .. } => {
                self.drop_where(from, |t| matches!(t, EventKind::NeedsRelink { .. }), &mut steps)
            }
            EventKind::Updated { .. } | EventKind::NeedsRelink { .. } | EventKind::Deleted { .. } => {}
        }
        let word = event.kind.word();
        let healed = self.waiting.iter().rposition(|one| matches!(one.event.kind, EventKind::Linked { .. }));
        // One that was on its way when the link was healed still stands before that, and is no one for a newer one.
        let from = match event.kind {
            EventKind::NeedsRelink { .. } => from.max(healed.map_or(0, |at| at + 1)),
            _ => from.min(self.waiting.len()),
        };
        match self.waiting[from..].iter_mut().rev().find(|one| one.event.kind.word() == word) {
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
        let gone = self.waiting.iter().rposition(|one| matches!(one.event.kind, EventKind::Unlinked { .. }));
        gone.map_or(0, |at| at + 1).max(usize::from(self.sending))
    }

    fn drop_where(&mut self, from: usize, which: impl Fn(&EventKind) -> bool, steps: &mut Vec<EventStep>) {
        let mut at = 0;
        self.waiting.retain(|one| {
            let goes = at >= from && which(&one.event.kind);
            at += 1;
            if goes {
                steps.push(EventStep::Remove(one.number));
            }
            !goes
        });
    }

    /// Another daemon added this event, or changed the one with its number.
    pub fn follow_put(&mut self, number: u64, event: Event) {
        match self.waiting.iter_mut().find(|one| one.number == number) {
            Some(one) => {
                if one.event.id != event.id {
                    (one.tried, one.event) = (true, event);
                    // The one that is on its way under this number is of no concern any more.
                    self.sending &= self.waiting.first().is_some_and(|first| first.number != number);
                } else {
                    one.event = event;
                }
            }
            None => self.restore(number, event),
        }
    }

    /// Another daemon may send each of these at any time, and nothing here shows it.
    pub fn may_be_sent(&mut self) {
        self.waiting.iter_mut().for_each(|one| one.tried = true);
    }

    /// Another daemon delivered or dropped the event with this number.
    pub fn follow_removal(&mut self, number: u64) {
        if self.waiting.first().is_some_and(|one| one.number == number) {
            self.sending = false;
        }
        self.waiting.retain(|one| one.number != number);
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
    let kind = match (&older.kind, newer.kind) {
        (EventKind::Updated { changed: before, .. }, EventKind::Updated { link, changed }) => {
            let both = changed.union(before).take(MOST_FIELDS).cloned().collect();
            EventKind::Updated { link, changed: both }
        }
        // A receiver without the first event knows nothing that could be linked anew.
        (EventKind::Linked { anew: before, .. }, EventKind::Linked { link, anew }) => {
            EventKind::Linked { link, anew: anew && *before }
        }
        (_, newer) => newer,
    };
    one.event = Event { id, at: newer.at.max(older.at), since: older.since, kind };
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

    /// A queue, and the disk beside it.
    #[derive(Default)]
    struct QueueModel {
        queue: EventQueue,
        disk: BTreeMap<u64, Event>,
        next: u64,
    }

    impl QueueModel {
        fn emit(&mut self, kind: EventKind) {
            self.next += 1;
            let at = WallTime(self.next);
            let event = Event { id: format!("msg_{}", self.next), at, since: at, kind };
            let steps = self.queue.push(self.next, event);
            self.carry_out(steps);
        }

        fn emit_all<const N: usize>(&mut self, all: [EventKind; N]) {
            all.into_iter().for_each(|kind| self.emit(kind));
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
            let event = self.queue.begin()?;
            let step = self.queue.delivered(&event.id);
            self.carry_out(step);
            Some(event)
        }

        fn restart(&mut self) {
            self.queue = EventQueue::default();
            self.disk.iter().for_each(|(number, event)| self.queue.restore(*number, event.clone()));
        }

        fn shape(&self) -> Vec<(&str, &'static str)> {
            self.queue.events().map(|n| (n.id.as_str(), n.kind.word())).collect()
        }
    }

    #[test]
    fn updates_that_wait_become_one_and_keep_the_id() {
        let mut model = QueueModel::default();
        model.emit_all([linked(false), updated(&["id", "name"]), updated(&["name", "phone"])]);
        assert_eq!(model.shape(), [("msg_1", "page.linked"), ("msg_2", "page.updated")]);
        let merged = model.queue.events().last().unwrap();
        assert_eq!((merged.at, merged.since), (WallTime(3), WallTime(2)));
        assert_eq!(merged.kind, updated(&["id", "name", "phone"]));
    }

    #[test]
    fn what_is_on_its_way_is_left_alone_and_what_was_sent_changes_its_id() {
        let mut model = QueueModel::default();
        model.emit(updated(&["a"]));
        let sent = model.queue.begin().unwrap();
        model.emit(updated(&["b"]));
        model.emit(updated(&["c"]));
        assert_eq!(model.shape(), [("msg_1", "page.updated"), ("msg_2", "page.updated")]);
        model.queue.give_back(&sent.id);
        // The second was never sent; after it went, without an answer, it was.
        model.emit(updated(&["d"]));
        assert_eq!(model.shape()[1], ("msg_2", "page.updated"));
        assert_eq!(model.deliver().unwrap(), sent);
        let second = model.queue.begin().unwrap();
        model.queue.give_back(&second.id);
        model.emit(updated(&["e"]));
        assert_eq!(model.shape(), [("msg_5", "page.updated")]);
        assert_eq!(model.deliver().unwrap().kind, updated(&["b", "c", "d", "e"]));
    }

    #[test]
    fn a_start_keeps_ids_and_takes_all_for_sent() {
        let mut model = QueueModel::default();
        model.emit_all([linked(false), updated(&["a"])]);
        model.restart();
        assert_eq!(model.shape(), [("msg_1", "page.linked"), ("msg_2", "page.updated")]);
        model.emit(updated(&["b"]));
        assert_eq!(model.shape()[1], ("msg_3", "page.updated"));
    }

    #[test]
    fn a_new_link_heals_and_an_end_ends_what_waits() {
        let mut model = QueueModel::default();
        model.emit_all([parked(ParkReason::Expired), parked(ParkReason::AppRemoved)]);
        assert_eq!(model.queue.events().next().unwrap().kind, parked(ParkReason::AppRemoved));
        model.emit(linked(true));
        assert_eq!(model.shape(), [("msg_3", "page.linked")]);
        model.emit_all([updated(&["a"]), unlinked(), linked(false), updated(&["b"])]);
        assert_eq!(
            model.shape().iter().map(|(_, word)| *word).collect::<Vec<_>>(),
            ["page.unlinked", "page.linked", "page.updated"]
        );
        assert_eq!(model.queue.events().last().unwrap().kind, updated(&["b"]));
    }

    #[test]
    fn a_trouble_after_the_healing_stands_behind_it() {
        let mut model = QueueModel::default();
        model.emit(parked(ParkReason::Expired));
        let sent = model.queue.begin().unwrap();
        model.emit(linked(true));
        model.queue.give_back(&sent.id);
        model.emit(parked(ParkReason::Blocked));
        let words: Vec<_> = model.shape().iter().map(|(_, word)| *word).collect();
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
            match &event.kind {
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

    /// A receiver that drops what it had before by its id, and receives everything that waits.
    fn in_the_end(heard: &Known, seen: &BTreeMap<String, Event>, queue: &EventQueue) -> Known {
        let mut known = heard.clone();
        queue.events().filter(|event| !seen.contains_key(&event.id)).for_each(|event| known.learn(event));
        known
    }

    proptest! {
        #[test]
        fn it_stays_short_and_says_in_the_end_what_all_would_have_said(
            // Deliveries weigh more, so that a queue is often short and its first of every kind.
            steps in proptest::collection::vec(prop_oneof![10 => 0u8..10, 3 => Just(5), 3 => Just(8)], 1..300)
        ) {
            let (mut model, mut known, mut heard) = (QueueModel::default(), Known::default(), Known::default());
            let mut flying: Option<Event> = None;
            let mut seen: BTreeMap<String, Event> = BTreeMap::new();
            for step in steps {
                let now = match step {
                    0 => Some(linked(known.linked)),
                    1 | 2 if known.linked => Some(updated(&[["a", "b", "c"][usize::from(step)]])),
                    3 if known.linked => Some(parked(ParkReason::Expired)),
                    4 if known.linked => Some(unlinked()),
                    _ => None,
                };
                if let Some(now) = now {
                    model.emit(now.clone());
                    let at = WallTime(model.next);
                    known.learn(&Event { id: String::new(), at, since: at, kind: now });
                }
                match step {
                    5 if flying.is_none() => flying = model.queue.begin(),
                    // It is lost; or taken, and the answer is lost; or taken.
                    6..=8 => if let Some(event) = flying.take() {
                        if step != 6 {
                            let twin = seen.insert(event.id.clone(), event.clone());
                            prop_assert!(twin.as_ref().is_none_or(|twin| *twin == event), "one id, two contents");
                            if twin.is_none() { heard.learn(&event); }
                        }
                        if step == 8 {
                            let step = model.queue.delivered(&event.id);
                            model.carry_out(step);
                        } else {
                            model.queue.give_back(&event.id);
                        }
                    },
                    9 => { flying = None; model.restart(); }
                    _ => {}
                }
                prop_assert!(model.queue.len() <= 5, "{:?}", model.shape());
                let on_disk: Vec<u64> = model.disk.keys().copied().collect();
                prop_assert_eq!(on_disk, model.queue.numbers().collect::<Vec<_>>());
                let first = model.queue.events().next();
                prop_assert!(flying.is_none() || first == flying.as_ref(), "it changed on its way");
                prop_assert_eq!(&in_the_end(&heard, &seen, &model.queue), &known, "{:?}", model.shape());
            }
        }
    }
}
