//! Notices on disk: decided in the transaction of what they tell of, kept until the receiver took them.
//!
//! The tree `notices` has them by a number that grows, so that those of one lane lie in the order in which they go; the
//! rules of a lane are [`notice::line`](crate::notice::line). Nothing is decided while notices are switched off, and
//! switching them off drops what waits. `fields` has a short hash of each page field that Spaces holds for a link. It is
//! kept whether notices are on or off, so that the first one after switching them on says the truth; where it is
//! unknown (a link's first object, a store that was rebuilt) every field counts as changed.
//!
//! Notices are not in the journal. A database that is gone takes them with it; every page is then read again, every
//! object written, and each write tells of all fields.
//!
//! A notice must not go out before it is durable: a crash would undo what it told of. It is one lane's first until it
//! was taken, and while it is on its way nobody else sends it: [`Sending`] is the right to, and gives it back.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;

use super::codec;
use super::core::Core;
use super::engine::Tree;
use super::{OutboxItem, Store, Unavailable};
use crate::health::Health;
use crate::model::{Generation, LinkKey, Millis};
use crate::notice::{Lane, Line, Notice, Step, Told};
use crate::page::data::{self, Fields};

/// What waits, by lane.
#[derive(Default)]
pub(super) struct Desk {
    on: bool,
    lines: BTreeMap<Lane, Line>,
    /// Lanes in which something was decided since somebody asked.
    news: BTreeSet<Lane>,
}

impl Desk {
    /// What lay on disk, in the order of its numbers.
    pub(super) fn restored(notices: impl IntoIterator<Item = (u64, Notice)>) -> Self {
        let mut desk = Desk::default();
        for (number, notice) in notices {
            desk.lines.entry(notice.told.lane()).or_default().restore(number, notice);
        }
        desk.news = desk.lines.keys().cloned().collect();
        desk
    }

    /// Takes the place of another whose store was opened again: on or off stays.
    pub(super) fn follow(&mut self, earlier: &Desk) {
        self.on = earlier.on;
    }

    pub(super) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }
}

/// The key of a notice: its number, so that they lie in order.
pub(super) fn number_of(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

/// How many notices wait, and since when the oldest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NoticeCounts {
    /// How many.
    pub waiting: u64,
    /// Since when.
    pub oldest: Option<Millis>,
}

impl Core {
    /// Something happened that is to be told. Nothing comes of it while notices are off.
    pub(super) fn tell(&mut self, told: Told) {
        if !self.desk.on {
            return;
        }
        let (number, now) = (self.next_seq(), Millis::now());
        let id = format!("msg_{}", crate::random::uuid().simple());
        let lane = told.lane();
        let steps =
            self.desk.lines.entry(lane.clone()).or_default().push(number, Notice { id, at: now, since: now, told });
        self.desk.news.insert(lane);
        self.write_steps(steps);
    }

    /// A link's health changed: is that something to tell?
    pub(super) fn tell_health(&mut self, link: &LinkKey, before: &Health, now: &Health) {
        if let Health::Parked(parked) = now
            && !matches!(before, Health::Parked(earlier) if earlier.why == parked.why)
        {
            self.tell(Told::NeedsRelink { link: link.clone(), parked: parked.clone() });
        }
    }

    /// A link is gone, and what Spaces holds of it is nobody's.
    pub(super) fn tell_unlinked(&mut self, link: &LinkKey, kept: bool) {
        self.write(Tree::Fields, link.to_bytes(), None);
        self.tell(Told::Unlinked { link: link.clone(), kept });
    }

    /// Spaces has the page data of this item: notes its fields, and tells of those that changed. A link that is gone has
    /// none; one that has another token than when the write began may have been gone in between.
    pub(super) fn note_fields(&mut self, link: &LinkKey, item: &OutboxItem, now: &Fields) {
        let Some(record) = self.record(link) else { return };
        let before = item.before.as_ref().filter(|before| before.generation == record.generation);
        let before = before.and_then(|before| before.fields.as_ref());
        let changed = data::changed(before, now);
        if before != Some(now) {
            self.write(Tree::Fields, link.to_bytes(), Some(codec::encode(now)));
        }
        if !changed.is_empty() {
            self.tell(Told::Updated { link: link.clone(), changed });
        }
    }

    fn write_steps(&mut self, steps: impl IntoIterator<Item = Step>) {
        for step in steps {
            let (number, value) = match step {
                Step::Put(number, notice) => (number, Some(codec::encode(&notice))),
                Step::Remove(number) => (number, None),
            };
            self.write(Tree::Notices, number.to_be_bytes().to_vec(), value);
        }
    }

    fn line<R>(&mut self, lane: &Lane, work: impl FnOnce(&mut Line) -> R) -> Option<R> {
        self.desk.lines.get_mut(lane).map(work)
    }

    /// What waits in a lane is of no use any more.
    pub(super) fn drop_lane(&mut self, lane: &Lane) {
        let line = self.desk.lines.remove(lane).unwrap_or_default();
        self.write_steps(line.numbers().map(Step::Remove));
    }

    fn notice_delivered(&mut self, lane: &Lane, id: &str) -> bool {
        let step = self.line(lane, |line| line.delivered(id)).flatten();
        self.write_steps(step);
        if self.desk.lines.get(lane).is_some_and(Line::is_empty) {
            self.desk.lines.remove(lane);
        }
        self.desk.lines.contains_key(lane)
    }
}

/// The fields that Spaces held of a link before a write, and the generation of the link's token then.
#[derive(Debug, Clone)]
pub(super) struct Before {
    pub generation: Generation,
    pub fields: Option<Fields>,
}

/// A notice on its way: nobody else sends one of its lane. Dropping it gives it back.
#[must_use]
pub struct Sending {
    store: Store,
    lane: Lane,
    notice: Notice,
    again: bool,
}

impl Sending {
    /// It was sent before, as far as is known.
    pub fn is_again(&self) -> bool {
        self.again
    }

    /// What goes.
    pub fn notice(&self) -> &Notice {
        &self.notice
    }

    /// The receiver took it. Returns whether another waits in the lane.
    ///
    /// # Errors
    /// [`Unavailable`] when that could not be made durable; it is then sent again.
    pub async fn delivered(self) -> Result<bool, Unavailable> {
        self.store.commit(|core| core.notice_delivered(&self.lane, &self.notice.id)).await
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.store.lock().line(&self.lane, |line| line.give_back(&self.notice.id));
    }
}

/// The answer to [`Store::begin_notice`].
pub enum Begun {
    /// Nothing waits in the lane.
    Nothing,
    /// One of the lane is on its way.
    Busy,
    /// This one goes.
    Goes(Box<Sending>),
}

impl Store {
    /// Switches notices on or off. Off, nothing more is decided; what waits stays until [`Store::drop_notices`].
    pub fn switch_notices(&self, on: bool) {
        self.lock().desk.on = on;
    }

    /// Drops all notices that wait, unless they were switched on meanwhile. Returns how many.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn drop_notices(&self) -> Result<usize, Unavailable> {
        self.commit(|core| {
            if core.desk.on {
                return 0;
            }
            let lines = std::mem::take(&mut core.desk.lines);
            core.desk.news.clear();
            let numbers: Vec<u64> = lines.values().flat_map(Line::numbers).collect();
            core.write_steps(numbers.iter().map(|number| Step::Remove(*number)));
            numbers.len()
        })
        .await
    }

    /// Every lane in which something waits.
    pub fn notice_lanes(&self) -> Vec<Lane> {
        self.lock().desk.lines.keys().cloned().collect()
    }

    /// The lanes in which something was decided since this was asked last.
    pub fn notice_news(&self) -> Vec<Lane> {
        std::mem::take(&mut self.lock().desk.news).into_iter().collect()
    }

    /// Changes when there are such.
    pub fn watch_notices(&self) -> watch::Receiver<u64> {
        self.inner.notices.subscribe()
    }

    /// How many wait.
    pub fn notice_counts(&self) -> NoticeCounts {
        let core = self.lock();
        let waiting = core.desk.lines.values().map(|line| line.len() as u64).sum();
        let oldest = core.desk.lines.values().flat_map(Line::notices).map(|notice| notice.since).min();
        NoticeCounts { waiting, oldest }
    }

    /// The first of a lane goes out, once it is durable.
    ///
    /// # Errors
    /// [`Unavailable`] when the store is down.
    pub async fn begin_notice(&self, lane: &Lane) -> Result<Begun, Unavailable> {
        let begun = self.lock().line(lane, |line| (line.is_sending(), line.was_tried(), line.begin()));
        let (notice, again) = match begun {
            Some((true, ..)) => return Ok(Begun::Busy),
            Some((false, again, Some(notice))) => (notice, again),
            Some((.., None)) | None => return Ok(Begun::Nothing),
        };
        let sending = Sending { store: self.clone(), lane: lane.clone(), notice, again };
        self.commit(Core::wait_for_queue).await?;
        Ok(Begun::Goes(Box::new(sending)))
    }

    /// The fields of a link's object, as they are on disk.
    pub(super) fn fields(&self, link: &LinkKey) -> Result<Option<Fields>, Unavailable> {
        let value = self.read(|engine| engine.get(Tree::Fields, &link.to_bytes()))?;
        Ok(value.and_then(|value| codec::decode(Tree::Fields.name(), &value).ok()))
    }

    /// The fields that Spaces holds of a link, for an item that is about to be written. Everything decided before must
    /// be durable.
    pub(super) fn before(&self, link: &LinkKey, generation: Option<Generation>) -> Result<Option<Before>, Unavailable> {
        let Some(generation) = generation else { return Ok(None) };
        Ok(Some(Before { generation, fields: self.fields(link)? }))
    }
}
