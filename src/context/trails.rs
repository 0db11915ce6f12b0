//! What the pages keep of [trails](super::trail): noted by deliveries, taken by reads and by writes.

use super::page_status::PageStatusMap;
use super::trail::{Delivery, Staged, Trail};
use crate::core::model::{LinkKey, MonoTime, PartKey};
use crate::traces::TraceContext;

/// Traced deliveries of one read that are kept beside the first.
const MOST_JOINED: usize = 8;

impl PageStatusMap {
    /// A delivery made these links due, or joined in a read that is due.
    pub fn note_delivery<'a>(&self, links: impl IntoIterator<Item = &'a LinkKey>, delivery: Delivery) {
        for link in links {
            self.change_trail(link, |trail| match &trail.due {
                None => trail.due = Some(delivery),
                Some(_) if delivery.span.is_some() && trail.joined.len() < MOST_JOINED => trail.joined.push(delivery),
                Some(_) => {}
            });
        }
    }

    /// The spans of the deliveries that a read will answer for which began at this time.
    pub fn spans_of_read(&self, link: &LinkKey, began: MonoTime) -> Vec<TraceContext> {
        self.find(link).and_then(|status| Some(status.trail?.spans(began))).unwrap_or_default()
    }

    /// When the first traced delivery came that such a read will answer for.
    pub fn heard_since(&self, link: &LinkKey, began: MonoTime) -> Option<MonoTime> {
        let trail = self.find(link)?.trail?;
        let mut traced = trail.due.iter().chain(&trail.joined).filter(|d| d.at <= began && d.span.is_some());
        traced.next().map(|delivery| delivery.at)
    }

    /// The delivery that a read has answered for which began at this time. One that came later is answered by the next
    /// read.
    pub fn delivery_of_read(&self, link: &LinkKey, began: MonoTime) -> Option<Delivery> {
        let mut found = None;
        self.change_trail(link, |trail| {
            found = trail.due.take_if(|delivery| delivery.at <= began);
            trail.joined.retain(|delivery| delivery.at > began);
        });
        found
    }

    /// What a read staged follows from this.
    pub fn note_staged(&self, link: &LinkKey, staged: Staged) {
        self.change_trail(link, |trail| trail.staged = staged);
    }

    /// What a write of the link's whole follows from.
    pub fn staged(&self, part: &PartKey) -> Staged {
        let status = if part.part.is_whole() { self.find(&part.link) } else { None };
        status.and_then(|status| Some(status.trail?.staged)).unwrap_or_default()
    }

    /// The object is written: nothing more follows.
    pub fn forget_staged(&self, part: &PartKey, staged: Staged) {
        if staged != Staged::default() {
            let clear = |trail: &mut Trail| {
                if trail.staged == staged {
                    trail.staged = Staged::default();
                }
            };
            self.change_trail(&part.link, clear);
        }
    }

    /// A page at rest keeps none.
    fn change_trail(&self, link: &LinkKey, change: impl FnOnce(&mut Trail)) {
        self.update(link, |status| {
            let mut trail = status.trail.take().unwrap_or_default();
            change(&mut trail);
            status.trail = Some(trail).filter(|trail| **trail != Trail::default());
        });
    }
}
