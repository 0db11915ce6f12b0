//! The cleanups actor: `src/actors/cleanups.rs` without Graph, Spaces and tokio. The queue is the daemon's own.

use std::time::Duration;

use pagesyncd::core::cleanup::{Cleanup, CleanupQueue, CleanupStep, TryEnd};
use pagesyncd::core::model::WallTime;
use pagesyncd::store::cleanups::Ready;
use pagesyncd::store::stepped::shown;

use super::outside::{Answer, Op, SPACES_TIMEOUT};
use super::store::Done;
use super::world::{Event, World};

/// A cleanup that another one, or a write, keeps waiting.
const LATER: TryEnd = TryEnd::Later { hint: Some(Duration::from_secs(2)), unanswered: false };

#[derive(Debug)]
pub enum CleanupsMsg {
    Woke(u64),
    Look,
    /// With whether the right to write the object is given back.
    Ended(Cleanup, u64, TryEnd, bool),
    /// Facebook ends the subscription.
    Unsubscribed(usize),
}

#[derive(Debug, Default)]
pub struct Cleanups {
    queue: CleanupQueue,
    alarm: u64,
}

impl World {
    pub fn new_cleanups(&mut self) {
        self.cleanups = Cleanups::default();
        self.look_for_cleanups(Duration::from_millis(2 * SPACES_TIMEOUT));
        self.clean_up();
    }

    fn look_for_cleanups(&mut self, earlier: Duration) {
        let (standing, now) = (shown(self.store.cleanups()), self.mono());
        self.cleanups.queue.take_over(standing, earlier, now);
    }

    pub fn cleanups_handle(&mut self, message: CleanupsMsg) {
        match message {
            CleanupsMsg::Woke(alarm) if alarm != self.cleanups.alarm => return,
            CleanupsMsg::Woke(_) => {}
            CleanupsMsg::Look => self.look_for_cleanups(Duration::ZERO),
            CleanupsMsg::Unsubscribed(page) => {
                self.graph.subscribed[page] = 0;
                return;
            }
            CleanupsMsg::Ended(cleanup, seq, ended, permit) => {
                if let (Cleanup::DeleteAgain(part), true) = (&cleanup, permit) {
                    let l = self.number_of(&part.link);
                    self.writing.remove(&l);
                }
                let (now, jitter) = (self.mono(), self.chance.unit());
                let in_doubt = Duration::from_millis(2 * SPACES_TIMEOUT);
                self.cleanups.queue.ended(&cleanup, seq, ended, in_doubt, now, jitter);
                self.look_for_cleanups(Duration::ZERO);
            }
        }
        self.clean_up();
    }

    pub fn cleanup_closed(&mut self, cleanup: &Cleanup, seq: u64, ok: bool) {
        let now = self.mono();
        self.cleanups.queue.closed(cleanup, seq, ok, now);
        self.clean_up();
    }

    fn clean_up(&mut self) {
        let now = self.mono();
        while let Some(step) = self.cleanups.queue.next(now) {
            match step {
                CleanupStep::Try(cleanup, seq) => self.try_cleanup(cleanup, seq),
                CleanupStep::Close(cleanup, seq, _) => {
                    self.figures.cleanups += 1;
                    let store = self.store.clone();
                    self.ask(async move {
                        let ok = store.finish_cleanup(&cleanup, seq).await.is_ok();
                        Done::Closed { cleanup, seq, ok }
                    });
                }
            }
        }
        self.cleanups.alarm += 1;
        if let Some(at) = self.cleanups.queue.wake_at() {
            let wait = (at.since(now).as_millis() as u64).max(1);
            let alarm = self.cleanups.alarm;
            self.soon(wait, Event::Cleanups(CleanupsMsg::Woke(alarm)));
        }
    }

    fn try_cleanup(&mut self, cleanup: Cleanup, seq: u64) {
        let (took, ended, permit) = match &cleanup {
            Cleanup::DeleteAgain(part) => {
                let l = self.number_of(&part.link);
                if !self.writing.insert(l) {
                    (0, LATER, false)
                } else if !shown(self.store.is_left_over(part, seq)) {
                    (0, TryEnd::Done, true)
                } else {
                    let fate = self.spaces.fate(self.now, &mut self.chance);
                    if let Some(after) = fate.applied_after {
                        let (at, life) = (WallTime(self.now.0 + after), self.life);
                        let late = fate.answer == Answer::Unanswered;
                        self.at(at, Event::Applied { l, op: Op::Delete, life, write: None, late });
                    }
                    let later = |unanswered| TryEnd::Later { hint: None, unanswered };
                    let ended = match fate.answer {
                        Answer::Done => TryEnd::Done,
                        Answer::Busy | Answer::Misconfigured => later(false),
                        Answer::Unanswered => later(true),
                    };
                    (fate.answered_after, ended, true)
                }
            }
            Cleanup::Unsubscribe(page) => {
                let page = page.as_str().parse::<usize>().expect("a number") - 1_000;
                match shown(self.store.cleanup_token(&cleanup, seq)) {
                    Ready::NotYet => (0, LATER, false),
                    Ready::Never => (0, TryEnd::Never, false),
                    Ready::Yes(token) => self.unsubscribe(page, super::logins::token_number(&token)),
                }
            }
            // The simulator has no shops.
            Cleanup::Revoke(_) | Cleanup::ForgetParts(_) | Cleanup::Uninstall(_) | Cleanup::Redact(_) => {
                (0, TryEnd::Never, false)
            }
        };
        self.soon(took, Event::Cleanups(CleanupsMsg::Ended(cleanup, seq, ended, permit)));
    }

    fn unsubscribe(&mut self, page: usize, token: usize) -> (u64, TryEnd, bool) {
        let took = self.graph_takes();
        if let Some(trouble) = self.graph_trouble() {
            return (took, TryEnd::of(trouble, true), false);
        }
        if !self.graph.tokens[token] {
            return (took, TryEnd::Never, false);
        }
        let lands = self.chance.below(took + 1);
        self.soon(lands, Event::Cleanups(CleanupsMsg::Unsubscribed(page)));
        (took, TryEnd::Done, false)
    }
}
