//! The uploader and its writes: `src/actors/uploader.rs` without Spaces and tokio.

use std::collections::HashSet;
use std::time::Duration;

use pagesyncd::core::ledger::{ObjectOp, Staged};
use pagesyncd::core::model::{MonoTime, WallTime};
use pagesyncd::core::upload_queue::{Outcome, Queue};

use super::outside::{Answer, Op, SPACES_TIMEOUT};
use super::page::PageMsg;
use super::store::{Core, L};
use super::world::{Event, SupervisorMsg, Waiter, World};

#[derive(Debug, Clone, PartialEq)]
pub enum UploaderMsg {
    Staged(L),
    Woke(u64),
    Done(L, Ended),
    Refill,
    Reloaded,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ended {
    pub outcome: Outcome,
    pub unanswered: bool,
}

pub const LOCAL: Ended = Ended { outcome: Outcome::Local, unanswered: false };

pub const NOTHING: Ended = Ended { outcome: Outcome::Settled { more: false }, unanswered: false };

#[derive(Debug)]
pub struct Uploader {
    pub queue: Queue,
    alarm: u64,
    uncertain: HashSet<L>,
}

/// A write under way; it outlives the uploader that began it.
#[derive(Debug)]
pub struct Carry {
    link: L,
    instance: u64,
    permit: bool,
    staged: Option<Staged>,
    body: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Carried {
    Begin,
    Answered(Answer),
}

impl World {
    pub fn new_uploader(&mut self) {
        let queue = Queue::new(self.limit);
        let instance = self.fresh();
        self.uploader = Some((instance, Uploader { queue, alarm: 0, uncertain: HashSet::new() }));
        self.refill();
        self.go_on();
    }

    pub fn uploader_handles(&mut self, instance: u64, message: UploaderMsg) {
        let Some((alive, uploader)) = &mut self.uploader else { return };
        if *alive != instance {
            return;
        }
        match message {
            UploaderMsg::Staged(l) => uploader.queue.add(self.keys[l].whole(), MonoTime(self.now.0)),
            UploaderMsg::Woke(alarm) if alarm != uploader.alarm => return,
            UploaderMsg::Woke(_) => {}
            UploaderMsg::Done(l, ended) => self.upload_done(l, ended),
            UploaderMsg::Refill => self.refill(),
            UploaderMsg::Reloaded => {
                uploader.queue.set_limit(self.limit);
                uploader.queue.retry_now(MonoTime(self.now.0));
            }
        }
        self.go_on();
    }

    fn refill(&mut self) {
        let Some((_, uploader)) = &mut self.uploader else { return };
        for (l, _) in self.store.core.ledger.iter().filter(|(_, e)| e.staged().is_some()) {
            uploader.queue.add(self.keys[*l].whole(), MonoTime(self.now.0));
        }
    }

    fn go_on(&mut self) {
        let now = MonoTime(self.now.0);
        loop {
            let Some((instance, uploader)) = &mut self.uploader else { return };
            let (instance, next) = (*instance, uploader.queue.next(now));
            let Some(key) = next else { break };
            let link = self.keys.iter().position(|k| *k == key.link).expect("a known key");
            let id = self.fresh();
            self.carrying.insert(id, Carry { link, instance, permit: false, staged: None, body: None });
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

    fn upload_done(&mut self, l: L, ended: Ended) {
        let (now, jitter) = (MonoTime(self.now.0), self.chance.unit());
        let Some((_, uploader)) = &mut self.uploader else { return };
        uploader.queue.done(&self.keys[l].whole(), ended.outcome, now, jitter);
        if ended.unanswered {
            uploader.uncertain.insert(l);
        } else if matches!(ended.outcome, Outcome::Settled { .. }) && uploader.uncertain.remove(&l) {
            let straggler = Duration::from_millis(2 * SPACES_TIMEOUT);
            if let Some(instance) = self.directory.get(&l).map(|p| p.instance) {
                self.tell_page(instance, PageMsg::Verify(straggler));
            }
        }
    }

    pub fn carry_goes_on(&mut self, id: u64, step: Carried) {
        let Some(carry) = self.carrying.get(&id) else { return };
        let link = carry.link;
        match step {
            Carried::Begin if !self.writing.insert(link) => self.carried_out(id, LOCAL),
            Carried::Begin => {
                self.carrying.entry(id).and_modify(|c| c.permit = true);
                self.load_and_write(id, link);
            }
            Carried::Answered(answer) => self.spaces_answered(id, answer),
        }
    }

    /// `Store::outbox_item`: an entry whose body is not on disk may still be on its way there.
    fn load_and_write(&mut self, id: u64, l: L) {
        let Some(staged) = self.store.core.staged(l).cloned() else { return self.carried_out(id, NOTHING) };
        let body = self.store.disk.bodies.get(&(l, staged.seq)).copied();
        let op = match (staged.op, body) {
            // The engine is gone while the store is being opened again.
            _ if self.store.core.down => return self.carried_out(id, LOCAL),
            (ObjectOp::Put(_), Some(body)) => Op::Put(body),
            _ => return self.wait_for_disk(id, staged.seq),
        };
        self.write(id, l, staged, op);
    }

    fn wait_for_disk(&mut self, id: u64, seq: u64) {
        if let Ok(((), writes)) = self.store.decide(Core::wait_for_queue) {
            self.wait(writes, Waiter::Barrier { write: id, seq });
        }
    }

    pub fn barrier_passed(&mut self, id: u64, seq: u64, ok: bool) {
        let Some(l) = self.carrying.get(&id).map(|c| c.link) else { return };
        let Some(staged) = self.store.core.staged(l).cloned() else { return self.carried_out(id, NOTHING) };
        match self.store.disk.bodies.get(&(l, staged.seq)).copied() {
            _ if !ok || self.store.core.down => self.carried_out(id, LOCAL),
            _ if staged.seq != seq => self.carried_out(id, LOCAL),
            _ if staged.op == ObjectOp::Delete => self.write(id, l, staged, Op::Delete),
            Some(body) => self.write(id, l, staged, Op::Put(body)),
            None => {
                let now = self.mono();
                if let Ok(((), writes)) = self.store.decide(|core| core.drop_staged(l, seq, WallTime(now.0))) {
                    self.wait(writes, Waiter::Dropped { write: id });
                }
            }
        }
    }

    /// A damaged entry became a mark; its page learns of it.
    pub fn dropped(&mut self, id: u64) {
        let Some(l) = self.carrying.get(&id).map(|c| c.link) else { return };
        if let Some(mark) = self.store.core.unclaimed_mark(l) {
            self.tell(&[l], mark.cause);
        }
        self.carried_out(id, LOCAL);
    }

    fn write(&mut self, id: u64, l: L, staged: Staged, op: Op) {
        self.write_begins(l, op);
        let fate = self.spaces.fate(self.now, &mut self.chance);
        let body = if let Op::Put(body) = op { Some(body.id) } else { None };
        self.carrying.entry(id).and_modify(|c| (c.staged, c.body) = (Some(staged), body));
        if let Some(after) = fate.applied_after {
            let at = WallTime(self.mono().0 + after);
            let life = self.life;
            self.at(at, Event::Applied { l, op, life, write: id });
        }
        self.soon(fate.answered_after, Event::Carried(id, Carried::Answered(fate.answer)));
    }

    fn spaces_answered(&mut self, id: u64, answer: Answer) {
        let Some(carry) = self.carrying.get(&id) else { return };
        let (link, now) = (carry.link, self.mono());
        let Some(done) = carry.staged.clone() else { return };
        let etag = carry.body.map(|b| b.to_string());
        let failed = |outcome, unanswered| Ended { outcome, unanswered };
        match answer {
            Answer::Busy => self.carried_out(id, failed(Outcome::Busy { hint: None }, false)),
            Answer::Misconfigured => self.carried_out(id, failed(Outcome::Misconfigured, false)),
            Answer::Unanswered => self.carried_out(id, failed(Outcome::Busy { hint: None }, true)),
            Answer::Done => {
                let decided = self.store.decide(|core| {
                    let entry = core.ledger.get_mut(&link)?;
                    let changes = entry.complete(done.seq, done.op, etag, WallTime(now.0));
                    core.apply(link, changes, None);
                    core.forget_if_complete(link);
                    core.ledger.get(&link).map(|e| e.staged().is_some())
                });
                match decided {
                    Ok((more, writes)) => {
                        self.wait(writes, Waiter::Settled { write: id, more: more.unwrap_or(false) });
                    }
                    Err(()) => self.carried_out(id, LOCAL),
                }
            }
        }
    }

    pub fn settled(&mut self, id: u64, more: bool, ok: bool) {
        let ended = Ended { outcome: Outcome::Settled { more }, unanswered: false };
        self.carried_out(id, if ok { ended } else { LOCAL });
    }

    pub fn carried_out(&mut self, id: u64, ended: Ended) {
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

impl Carry {
    pub fn is_writing(&self, l: L) -> bool {
        self.link == l && self.staged.is_some()
    }
}
