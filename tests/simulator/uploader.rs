//! The uploader and its writes: `src/actors/uploader.rs` without Spaces and tokio. The queue is the daemon's own.

use std::time::Duration;

use pagesyncd::core::late_writes::{InDoubt, LateWrites, WriteEnd};
use pagesyncd::core::ledger::ObjectOp;
use pagesyncd::core::model::{MonoTime, WallTime};
use pagesyncd::core::upload_queue::{Outcome, Queue};
use pagesyncd::store::stepped::shown;
use pagesyncd::store::{Left, OutboxItem};

use super::outside::{Answer, Op, SPACES_TIMEOUT};
use super::store::{Body, Done, L};
use super::world::{Event, SupervisorMsg, World};

#[derive(Debug, Clone, PartialEq)]
pub enum UploaderMsg {
    Staged(L),
    Woke(u64),
    Done(L, WriteEnd),
    Refill,
    Reloaded,
}

#[derive(Debug)]
pub struct Uploader {
    pub queue: Queue,
    alarm: u64,
    late_writes: LateWrites,
}

/// A write under way; it outlives the uploader that began it.
#[derive(Debug)]
pub struct Carry {
    link: L,
    instance: u64,
    permit: bool,
    item: Option<OutboxItem>,
    in_doubt: Option<InDoubt>,
    landing: bool,
}

impl Carry {
    pub fn is_writing(&self, l: L) -> bool {
        self.link == l && self.item.is_some()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Carried {
    Begin,
    Answered(Answer),
}

impl World {
    pub fn new_uploader(&mut self) {
        let (queue, instance) = (Queue::new(self.limit), self.fresh());
        let late_writes = LateWrites::after_a_start(shown(self.store.outbox_parts()), self.in_doubt_until());
        self.uploader = Some((instance, Uploader { queue, alarm: 0, late_writes }));
        self.refill();
        self.go_on();
    }

    fn in_doubt_until(&self) -> MonoTime {
        self.mono().plus(Duration::from_millis(2 * SPACES_TIMEOUT))
    }

    pub fn uploader_handles(&mut self, instance: u64, message: UploaderMsg) {
        let now = self.mono();
        let Some((alive, uploader)) = &mut self.uploader else { return };
        if *alive != instance {
            return;
        }
        match message {
            UploaderMsg::Staged(l) => uploader.queue.add(self.keys[l].whole(), now),
            UploaderMsg::Woke(alarm) if alarm != uploader.alarm => return,
            UploaderMsg::Woke(_) => {}
            UploaderMsg::Done(l, ended) => self.upload_done(l, ended),
            UploaderMsg::Refill => self.refill(),
            UploaderMsg::Reloaded => {
                uploader.queue.set_limit(self.limit);
                uploader.queue.retry_now(now);
            }
        }
        self.go_on();
    }

    fn refill(&mut self) {
        let (now, parts) = (self.mono(), shown(self.store.outbox_parts()));
        let Some((_, uploader)) = &mut self.uploader else { return };
        parts.into_iter().for_each(|part| uploader.queue.add(part, now));
    }

    fn go_on(&mut self) {
        let now = self.mono();
        loop {
            let Some((instance, uploader)) = &mut self.uploader else { return };
            let (instance, next) = (*instance, uploader.queue.next(now));
            let Some(key) = next else { break };
            let link = self.numbers[&key.link];
            let in_doubt = uploader.late_writes.get(&key);
            let id = self.fresh();
            let carry = Carry { link, instance, permit: false, item: None, in_doubt, landing: false };
            self.carrying.insert(id, carry);
            let wait = self.chance.below(2);
            self.soon(wait, Event::Carried(id, Carried::Begin));
        }
        let Some((instance, uploader)) = &mut self.uploader else { return };
        uploader.alarm += 1;
        let (instance, alarm) = (*instance, uploader.alarm);
        if let Some(at) = uploader.queue.wake_at() {
            let wait = (at.since(now).as_millis() as u64).max(1);
            self.soon(wait, Event::Uploader(instance, UploaderMsg::Woke(alarm)));
        }
    }

    fn upload_done(&mut self, l: L, ended: WriteEnd) {
        let (now, jitter, until) = (self.mono(), self.chance.unit(), self.in_doubt_until());
        let Some((_, uploader)) = &mut self.uploader else { return };
        let part = self.keys[l].whole();
        uploader.queue.done(&part, ended.outcome, now, jitter);
        uploader.late_writes.ended(&part, &ended, until);
    }

    pub fn carry_goes_on(&mut self, id: u64, step: Carried) {
        let Some(carry) = self.carrying.get_mut(&id) else { return };
        let link = carry.link;
        match step {
            Carried::Begin if !self.writing.insert(link) => self.carried_out(id, WriteEnd::of(Outcome::Local)),
            Carried::Begin => {
                carry.permit = true;
                let (store, key) = (self.store.clone(), self.keys[link].clone());
                self.ask(async move {
                    let item = store.outbox_item(&key).await.map_err(|_| ());
                    Done::Item { write: id, item }
                });
            }
            Carried::Answered(answer) => self.spaces_answered(id, answer),
        }
    }

    pub fn item_loaded(&mut self, id: u64, item: Result<Option<OutboxItem>, ()>) {
        let Some(l) = self.carrying.get(&id).map(|carry| carry.link) else { return };
        let item = match item {
            Ok(Some(item)) => item,
            Ok(None) => return self.carried_out(id, WriteEnd::of(Outcome::Settled { more: false })),
            Err(()) => return self.carried_out(id, WriteEnd::of(Outcome::Local)),
        };
        let op = match item.staged.op {
            ObjectOp::Put(_) => Op::Put(Body::of(&item.body)),
            ObjectOp::Delete => Op::Delete,
        };
        self.write_begins(l, op);
        let fate = self.spaces.fate(self.now, &mut self.chance);
        self.carrying.entry(id).and_modify(|carry| carry.item = Some(item));
        if let Some(after) = fate.applied_after {
            let (at, life) = (WallTime(self.now.0 + after), self.life);
            self.at(at, Event::Applied { l, op, life, write: Some(id), late: false });
        }
        self.soon(fate.answered_after, Event::Carried(id, Carried::Answered(fate.answer)));
    }

    fn spaces_answered(&mut self, id: u64, answer: Answer) {
        let now = self.mono();
        let Some(carry) = self.carrying.get_mut(&id) else { return };
        let Some(item) = carry.item.clone() else { return };
        let failed = |outcome, unanswered| WriteEnd { unanswered, ..WriteEnd::of(outcome) };
        match answer {
            Answer::Busy => self.carried_out(id, failed(Outcome::Busy { hint: None }, false)),
            Answer::Misconfigured => self.carried_out(id, failed(Outcome::Misconfigured, false)),
            Answer::Unanswered => self.carried_out(id, failed(Outcome::Busy { hint: None }, true)),
            Answer::Done => {
                let deletes = item.staged.op == ObjectOp::Delete;
                let landing = carry.in_doubt.and_then(|write| write.cleanup_after(item.staged.op, now));
                carry.landing = landing.is_some();
                let left = Left { in_doubt_until: landing.map(|at| WallTime(at.0)), ..Left::default() };
                let etag = (!deletes).then(|| Body::of(&item.body).id.to_string());
                let (store, key) = (self.store.clone(), self.keys[carry.link].clone());
                self.ask(async move {
                    let more = store.complete(&key, &item, etag, left).await.ok();
                    Done::Completed { write: id, more }
                });
            }
        }
    }

    pub fn completed(&mut self, id: u64, more: Option<bool>) {
        let Some(cleanup) = self.carrying.get(&id).map(|carry| carry.landing) else { return };
        let ended = more.map_or(WriteEnd::of(Outcome::Local), |more| WriteEnd {
            cleanup,
            ..WriteEnd::of(Outcome::Settled { more })
        });
        self.carried_out(id, ended);
    }

    fn carried_out(&mut self, id: u64, ended: WriteEnd) {
        let Some(carry) = self.carrying.remove(&id) else { return };
        if carry.permit {
            self.writing.remove(&carry.link);
        }
        if self.uploader.as_ref().is_some_and(|(alive, _)| *alive == carry.instance) {
            self.tell_uploader(UploaderMsg::Done(carry.link, ended));
        }
    }

    pub fn uploader_panics(&mut self) {
        if self.uploader.take().is_some() {
            self.figures.panics += 1;
            self.tell_supervisor(SupervisorMsg::UploaderDied);
        }
    }
}
