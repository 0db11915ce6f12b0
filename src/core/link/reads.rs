//! When a link is read: one part of the link's [`machine`](super::machine).
//!
//! Every cause ends in the same read. A webhook is debounced, so that a burst is one read, and pays from the link's
//! token bucket; a new token or an operator's `sync` is read at once and pays on credit; the poll comes in its slot and
//! also checks the object in Spaces. There is one read at a time. A read that begins answers for everything that is
//! owed by then, also for a webhook whose debounce is not over, because it begins later than all of that. A wish that
//! comes while a read is under way is remembered as one more read, and the durable mark in the store remembers it too.
//! When the store has no mark left at the end of a read, that read answered for all wishes
//! ([`Reads::nothing_is_owed`]).
//!
//! A poll that was missed, or that no read has gone before, is not worth a read of its own: a read that is made before it
//! for another reason does its work, too.
//!
//! # How the bucket is spent
//!
//! `burst` reads may follow each other quickly; after that there is one every `refill`. A bucket that is spent as fast as
//! it allows is empty when a person stops editing, and the state that lasts is read up to a `refill` later. So the last
//! token is kept for the end:
//!
//! * While the bucket holds more than one token, a webhook is read when its debounce is over. A single change is seen
//!   quickly, and so are the first changes of many.
//! * The last token is spent when the link has been quiet for [`QUIET`]: when nothing asked for the read since then.
//!
//! Three promises follow. *Never more than `burst` reads and one a `refill`* that webhooks cause, over any stretch of time:
//! each read takes a token, and when it takes it does not change how many there are. What is urgent is read on credit, and
//! leaves the bucket empty at most. *The last change of a burst is read soon*: the token
//! is there unless the end of an earlier burst took it within the `refill` before, and the read begins within two times
//! [`QUIET`] of that change. It is two times because a delivery that finds its mark standing wakes nobody, so that it
//! costs nothing; the machine looks once in each [`QUIET`] whether there were such deliveries
//! ([`Facts::repeated`](super::machine::Facts::repeated)), and the last one may have come right after a look. *A link
//! that never becomes quiet is read once a `refill`*, as it was before: the bucket then goes up and down between one
//! token and two. When such a burst follows upon another one whose end took the last token, its first read comes when
//! the bucket holds two.
//!
//! With a `burst` of 1 nothing can be kept, and the token is spent at once. Where the `refill` is shorter than [`QUIET`],
//! the second token comes before the quiet.
//!
//! A poll that cannot compare the object because Spaces is away has read its page all the same. The comparison alone is
//! owed, as a poll of its own [`COMPARE_AGAIN`] later, which spares the source while Spaces is away; what is asked for
//! meanwhile does not wait for it.
//!
//! A read that failed is tried again with backoff, and what was owed stays owed. A rate limit is no failure: the next
//! read waits as long as the source asks. While the link is parked nothing is read; only a new token, which arrives as
//! [`ReadInput::Revived`], ends that.
//!
//! Races: the timer is one, and a wake-up that comes early or twice finds nothing due and does nothing. An end that is
//! not expected (the link was parked meanwhile) changes nothing.

use std::time::Duration;

use super::schedule;
use super::token_bucket::Bucket;
use crate::core::backoff::{Backoff, hinted};
use crate::core::model::{Cause, MonoTime};

const RETRY: Backoff = Backoff { base: Duration::from_secs(2), cap: Duration::from_secs(5 * 60) };
/// So long nothing asks for a link before its burst is taken for ended.
const QUIET: Duration = Duration::from_secs(4);
/// Tokens that are kept for the end of a burst.
const KEPT: u32 = 1;
/// So long after Spaces could not be asked the comparison is made again, and the source is read for it.
const COMPARE_AGAIN: Duration = Duration::from_secs(10 * 60);

/// The settings that rule the rhythm.
#[derive(Debug, Clone, PartialEq)]
pub struct Pace {
    /// From the first mark to the read.
    pub debounce: Duration,
    /// Reads in quick succession.
    pub burst: u32,
    /// After those, one every so often.
    pub refill: Duration,
    /// Between polls.
    pub poll_interval: Duration,
}

/// What happened to the reads.
#[derive(Debug, Clone, PartialEq)]
pub enum ReadInput {
    /// A read is owed, for this cause.
    Due(Cause),
    /// A read is owed for webhooks, the first of which came at this time.
    DueSince(MonoTime),
    /// A read is owed since before this start, or with many others: it may wait this long.
    DueWithin(Duration),
    /// The moment of [`Reads::wake_at`] may have come.
    Woke,
    /// The read that was asked for ended.
    Ended(Ended),
    /// Other settings hold.
    Repaced(Pace),
    /// The link has a new token. A read with the old one is cancelled, and its end is not reported. A read is owed at
    /// once.
    Revived,
    /// A person must act first.
    Parked,
}

/// How a read ended that did not park the link.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// What the source said is staged, or is what Spaces has.
    Stored,
    /// As [`Ended::Stored`], except that the poll could not compare the object in Spaces.
    NotCompared,
    /// Something that passes by itself.
    Failed,
    /// A limit holds this link back for so long.
    Held(Duration),
}

/// A read to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// The slot came: compare the object in Spaces too.
    pub poll: bool,
    /// Somebody waits for it: go before polls.
    pub prompt: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Reading(Read, Option<Owed>),
    Parked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owed {
    ready_at: MonoTime,
    /// When the burst has ended, unless something asks again before.
    quiet_at: MonoTime,
    /// Not debounced, and on credit.
    urgent: bool,
    /// It was found when many links looked at once, and nothing has asked for it since: what somebody waits for at this
    /// moment goes before it.
    found: bool,
}

/// The reads of one link.
#[derive(Debug, Clone)]
pub struct Reads {
    pace: Pace,
    offset: f64,
    phase: Phase,
    owed: Option<Owed>,
    bucket: Bucket,
    poll_at: MonoTime,
    /// The poll is none of a slot, but one that was missed.
    missed: bool,
    failures: u32,
    not_before: MonoTime,
}

impl Reads {
    /// Nothing is owed. `offset` is the offset of the link within an interval, `poll_at` its first poll: one that was
    /// missed where it comes before the next slot.
    pub fn new(pace: Pace, offset: f64, poll_at: MonoTime, now: MonoTime) -> Self {
        let bucket = Bucket::new(pace.burst, pace.refill);
        let missed = poll_at < schedule::next_slot(offset, pace.poll_interval, now);
        let not_before = MonoTime(0);
        Reads { pace, offset, phase: Phase::Idle, owed: None, bucket, poll_at, missed, failures: 0, not_before }
    }

    /// The next poll.
    pub fn poll_at(&self) -> MonoTime {
        self.poll_at
    }

    /// From here on, and until a read takes a token, a webhook is read when its debounce is over, whatever follows it.
    pub fn plenty_at(&self) -> MonoTime {
        self.bucket.holds_at(1 + KEPT, MonoTime(0))
    }

    /// The object in Spaces may not be what was written: poll by then at the latest.
    pub fn verify_by(&mut self, at: MonoTime) {
        self.poll_at = self.poll_at.min(at);
    }

    /// Something asked again for the read that is owed.
    pub fn hear(&mut self, now: MonoTime) {
        if let Some(owed) = &mut self.owed {
            owed.quiet_at = now.plus(QUIET);
            owed.found = false;
        }
    }

    /// The store holds no mark of the link any more: the reads so far have answered for everything.
    pub fn nothing_is_owed(&mut self) {
        self.owed = None;
    }

    /// Is a read under way that lets prompt ones go first?
    pub fn is_behind(&self) -> bool {
        matches!(self.phase, Phase::Reading(read, _) if !read.prompt)
    }

    /// Is it waiting for a person?
    pub fn is_parked(&self) -> bool {
        self.phase == Phase::Parked
    }

    /// Reads that failed in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Takes in what happened and says whether a read begins now. `jitter` is a random number from 0 to 1.
    pub fn step(&mut self, now: MonoTime, input: ReadInput, jitter: f64) -> Option<Read> {
        match input {
            ReadInput::Due(Cause::Link | Cause::Manual) => self.owe_at_once(now),
            ReadInput::Due(Cause::Webhook | Cause::Poll) => {
                let (ready_at, quiet_at) = (now.plus(self.pace.debounce), now.plus(QUIET));
                self.owe(Owed { ready_at, quiet_at, urgent: false, found: false });
            }
            ReadInput::DueSince(heard_at) => {
                // Others may have come up to now.
                let (ready_at, quiet_at) = (heard_at.plus(self.pace.debounce), now.plus(QUIET));
                self.owe(Owed { ready_at, quiet_at, urgent: false, found: false });
            }
            ReadInput::DueWithin(spread) => {
                let ready_at = now.plus(spread.mul_f64(self.offset));
                self.owe(Owed { ready_at, quiet_at: now, urgent: false, found: true });
            }
            ReadInput::Woke => {}
            ReadInput::Ended(ended) => self.ended(now, &ended, jitter),
            ReadInput::Repaced(pace) => self.repace(pace, now),
            ReadInput::Revived => self.revive(now),
            ReadInput::Parked => self.phase = Phase::Parked,
        }
        self.begin(now)
    }

    /// When to look again; `None` while a read is under way or a person must act.
    pub fn wake_at(&self, now: MonoTime) -> Option<MonoTime> {
        if self.phase != Phase::Idle {
            return None;
        }
        let owed = self.owed.map(|owed| self.payable_at(&owed, now));
        let first = owed.map_or(self.poll_at, |at| at.min(self.poll_at));
        Some(first.max(self.not_before))
    }

    /// When what is owed may be read: on credit where it is urgent, else with a token.
    fn payable_at(&self, owed: &Owed, now: MonoTime) -> MonoTime {
        if owed.urgent {
            return owed.ready_at;
        }
        let plenty_at = self.bucket.holds_at(1 + KEPT, now);
        let last_at = owed.quiet_at.max(self.bucket.ready_at(now));
        owed.ready_at.max(plenty_at.min(last_at))
    }

    /// A burst is one read after its first mark; an urgent wish makes it sooner.
    fn owe(&mut self, owed: Owed) {
        let standing = self.owed.get_or_insert(owed);
        standing.ready_at = standing.ready_at.min(owed.ready_at);
        standing.quiet_at = standing.quiet_at.max(owed.quiet_at);
        standing.urgent |= owed.urgent;
        standing.found &= owed.found;
    }

    fn owe_at_once(&mut self, now: MonoTime) {
        self.owe(Owed { ready_at: now, quiet_at: now, urgent: true, found: false });
    }

    fn begin(&mut self, now: MonoTime) -> Option<Read> {
        if self.phase != Phase::Idle || self.wake_at(now).is_none_or(|at| at > now) {
            return None;
        }
        let owed = self.owed.take();
        let paid = owed.filter(|owed| self.payable_at(owed, now) <= now);
        if paid.is_some() {
            self.bucket.take_or_empty(now);
        }
        let prompt = paid.is_some_and(|owed| !owed.found);
        let read = Read { poll: self.missed || self.poll_at <= now, prompt };
        self.phase = Phase::Reading(read, owed);
        Some(read)
    }

    fn ended(&mut self, now: MonoTime, ended: &Ended, jitter: f64) {
        let Phase::Reading(read, owed) = self.phase else { return };
        self.phase = Phase::Idle;
        match ended {
            Ended::Stored => self.answered(now, read),
            Ended::NotCompared => {
                self.answered(now, read);
                self.verify_by(now.plus(hinted(COMPARE_AGAIN, jitter)));
            }
            Ended::Failed => {
                self.not_before = now.plus(RETRY.delay(self.failures, jitter, None));
                self.failures = self.failures.saturating_add(1);
                self.owe_again(now, read, owed);
            }
            Ended::Held(wait) => {
                // Those who were held together do not come back together.
                self.not_before = now.plus(hinted(*wait, jitter));
                self.owe_again(now, read, owed);
            }
        }
    }

    fn answered(&mut self, now: MonoTime, read: Read) {
        self.failures = 0;
        if read.poll {
            self.poll_at = schedule::next_slot(self.offset, self.pace.poll_interval, now);
            self.missed = false;
        }
    }

    /// A try that was paid for is not made dearer by failing. A wish that a poll was to answer for waits as it did
    /// before.
    fn owe_again(&mut self, now: MonoTime, read: Read, owed: Option<Owed>) {
        match owed {
            Some(_) if read.prompt => self.owe_at_once(now),
            Some(owed) => self.owe(owed),
            None => {}
        }
    }

    fn repace(&mut self, pace: Pace, now: MonoTime) {
        self.bucket.reconfigure(pace.burst, pace.refill, now);
        if pace.poll_interval != self.pace.poll_interval {
            self.poll_at = schedule::next_slot(self.offset, pace.poll_interval, now);
            self.missed = false;
        }
        self.pace = pace;
    }

    fn revive(&mut self, now: MonoTime) {
        self.phase = Phase::Idle;
        self.failures = 0;
        self.not_before = MonoTime(0);
        self.owe_at_once(now);
    }
}

#[cfg(test)]
mod tests;
