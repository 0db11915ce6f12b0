//! The daemon's own store: its decisions, its queue and its operations, in memory, with a committer that is stepped by
//! hand. What an operation decides is decided when it begins; it ends when the commits of this world have made that
//! durable, or refused it.

use std::future::Future;
use std::pin::Pin;

use pagesyncd::core::cleanup::Cleanup;
use pagesyncd::core::model::{Generation, WallTime};
use pagesyncd::store::grants::Stored;
use pagesyncd::store::stepped::{Committer, poll_once};
use pagesyncd::store::{OutboxItem, StageOutcome};

use super::logins::{Left, Request as SignedRequest};
use super::world::{Event, World};

/// A link by its number.
pub type L = usize;

/// An object's bytes: whose, and which version of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Body {
    pub id: u64,
    pub link: L,
    pub version: usize,
}

impl Body {
    pub fn to_bytes(self) -> Vec<u8> {
        format!("{} {} {}", self.id, self.link, self.version).into_bytes()
    }

    /// The store gives back what it was given.
    pub fn of(bytes: &[u8]) -> Body {
        let text = std::str::from_utf8(bytes).expect("a body of this world");
        let numbers: Vec<u64> = text.split(' ').map(|word| word.parse().expect("a number")).collect();
        Body { id: numbers[0], link: numbers[1] as usize, version: numbers[2] as usize }
    }
}

/// An operation that ended, and what goes on with it.
#[derive(Debug)]
pub enum Done {
    Delivered {
        page: usize,
        version: usize,
        links: Vec<L>,
        tries: u32,
        ok: bool,
    },
    Synced {
        links: Vec<(L, usize)>,
        ok: bool,
    },
    Linked(Linking, Option<Stored>),
    Hinted {
        person: usize,
        dead: Vec<usize>,
        tries: u32,
        ok: bool,
    },
    Unlinked {
        orders: Vec<(L, u64)>,
        ok: bool,
    },
    Left {
        request: SignedRequest,
        left: Left,
        ok: bool,
    },
    Staged {
        job: u64,
        outcome: Option<StageOutcome>,
    },
    Item {
        write: u64,
        item: Result<Option<OutboxItem>, ()>,
    },
    Completed {
        write: u64,
        more: Option<bool>,
    },
    Closed {
        cleanup: Cleanup,
        seq: u64,
        ok: bool,
    },
    /// Nobody waits.
    Noted,
}

/// A login whose links are being stored.
#[derive(Debug)]
pub struct Linking {
    /// Each link with the page's version when the login began.
    pub versions: Vec<(L, usize)>,
    /// Links that something had ended since the login began, or that a newer login had given their token.
    pub ended: Vec<L>,
    pub newer: Vec<L>,
    /// Earlier links of the person that the login did not bring: the user's own, and those of others.
    pub own: Vec<(L, Generation)>,
    pub others: Vec<(L, Generation)>,
}

pub type Operation = Pin<Box<dyn Future<Output = Done>>>;

impl World {
    /// Begins an operation of the store.
    pub fn ask(&mut self, operation: impl Future<Output = Done> + 'static) {
        let mut operation: Operation = Box::pin(operation);
        match poll_once(operation.as_mut()) {
            Some(done) => self.answer(done),
            None => {
                self.operations.push(operation);
                self.commit_next();
            }
        }
    }

    fn answer(&mut self, done: Done) {
        let ms = self.chance.below(3);
        self.soon(ms, Event::Resume(done));
    }

    fn poll_operations(&mut self) {
        for mut operation in std::mem::take(&mut self.operations) {
            match poll_once(operation.as_mut()) {
                Some(done) => self.answer(done),
                None => self.operations.push(operation),
            }
        }
    }

    pub fn committer(&mut self) -> &mut Committer {
        self.committer.as_mut().expect("there is a committer between two steps")
    }

    pub fn is_down(&self) -> bool {
        self.committer.as_ref().is_none_or(Committer::is_down)
    }

    /// The committer takes what waits, unless it is at work.
    pub fn commit_next(&mut self) {
        if self.committing || self.is_down() {
            return;
        }
        let most = 1 + self.chance.below(40) as usize;
        if self.committer().gather(most) == 0 {
            return;
        }
        self.committing = true;
        let bad = self.now < self.disk_bad_until;
        let slow = self.now < self.disk_slow_until;
        let took = if slow { self.chance.between(300, 4_000) } else { self.chance.between(1, 25) };
        self.soon(took, if bad { Event::CommitFailed } else { Event::Committed });
    }

    pub fn committed(&mut self) {
        self.committing = false;
        if self.committer().is_suspect() || !self.committer().commit() {
            self.fail("a decision of the store panicked".into());
        }
        if self.chance.percent(50) {
            self.committer().erase();
        }
        self.poll_operations();
        self.commit_next();
    }

    /// The disk refuses; some of the writes may have come to lie on it all the same.
    pub fn commit_failed(&mut self) {
        self.committing = false;
        let in_hand = self.committer().gather(0) as u64;
        let reached = if self.chance.percent(40) { self.chance.between(0, in_hand) } else { 0 };
        self.committer().fail("the disk refuses", reached as usize);
        self.poll_operations();
        self.soon(1, Event::Reopen);
    }

    pub fn reopen(&mut self) {
        self.figures.reopens += 1;
        self.committer().reopen();
        self.poll_operations();
        self.commit_next();
    }

    /// The power goes: of what was not answered, some reached the disk.
    pub fn power_cut(&mut self) {
        let unanswered = self.committer().gather(usize::MAX) as u64;
        let survivors = self.chance.below(unanswered + 1) as usize;
        self.operations.clear();
        let committer = self.committer.take().expect("there is a committer between two steps");
        let (store, committer) = committer.crash(survivors);
        (self.store, self.committer) = (store, Some(committer));
        self.committing = false;
    }

    pub fn store_time(&self, now: WallTime) {
        if let Some(committer) = &self.committer {
            committer.set_time(now);
        }
    }
}
