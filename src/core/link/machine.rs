//! What a link does next. Pure: [`Machine::step`] takes in what happened and says which job begins, and
//! [`Machine::wake_at`] the time of the next step; no clock, no task, no client, no token.
//!
//! ```text
//! due, woke, look, hint, doubt, parked, relinked, reloaded, verify, took, ended
//!      │  the link as the store has it (Facts)
//!      ▼
//!   Machine ── reads: debounce, token bucket, poll slots, backoff ──▶ Job::Read
//!      ├────── subscription: repaired when fields are missing ──────▶ Job::Subscribe
//!      ├────── check: daily, by hints, on doubt ────────────────────▶ Job::CheckToken
//!      └────── generation: another token in the store ──────────────▶ Job::TakeToken
//! ```
//!
//! One job is under way at a time. Each has a number; the end of a job that is not under way any more changes nothing.
//! A read goes before upkeep, also before one that has begun, and puts the subscription right itself. A read that lets
//! others go first, and whose link somebody asks for meanwhile, goes with prompt ones from then on. Whatever is
//! learned of a token is held against the generation of that token alone: no job begins with a token that the link does
//! not have any more, and a token is taken before anything else is made of a newer one's news.
//!
//! A source's refusal (a dead token, a lost role) parks the link: nothing but another token makes the source be called
//! again. A reason that may pass by itself ([`ParkReason::may_pass`]) is the exception: the token is checked in its daily
//! slot, and nothing else is done. The store makes the link active again when that check succeeds. Where the store could
//! not note that a link is parked, it holds an active link with a parked machine; such a machine is behind, and tries the
//! token once more when it looks.

use std::time::Duration;

use super::job::{Job, JobEnd, ReadEnd};
use super::reads::{Ended, Pace, ReadInput, Reads};
use super::schedule::{self, Spread};
use super::upkeep::{Check, CheckEnd, Subscription};
use crate::core::disposition::Disposition;
use crate::core::model::{Cause, Generation, MonoTime};
use crate::core::park_reason::ParkReason;

/// A catch-up that is shorter is none: what is owed is debounced like everything else.
const NO_SPREAD: Duration = Duration::from_millis(100);
/// How long a limit holds where the source did not say.
const UNNAMED_LIMIT: Duration = Duration::from_secs(60);

/// The link as the store has it at this moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The generation of its token; `None` when it is not linked.
    pub generation: Option<Generation>,
    /// Why it waits for a person, where it does.
    pub parked: Option<ParkReason>,
    /// A check of its token is owed for a hint.
    pub hinted: bool,
    /// The cause of the mark that no read answers for. One that a job holds which was cut short is published when that
    /// job gives it back.
    pub unclaimed: Option<Cause>,
    /// What asked for the read of such a mark after it was made for another cause.
    pub hastened: Option<Cause>,
    /// Does a mark stand, whether or not a read answers for it?
    pub due: bool,
    /// Somebody asked for the read again, and was answered by the mark that stands, since the facts were taken last.
    pub repeated: bool,
    /// The process ends: no job begins any more.
    pub stopping: bool,
}

/// A token that was taken from the store, and what the store knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Which.
    pub generation: Generation,
    /// It was opened. One that is sealed with an unknown key is of no use.
    pub readable: bool,
    /// The source may be called with it.
    pub active: bool,
    /// Webhook fields are wanted that are not confirmed.
    pub lacks_fields: bool,
    /// It was checked before.
    pub checked: bool,
}

impl Taken {
    /// A token that cannot be opened.
    pub fn unreadable(generation: Generation) -> Self {
        Taken { generation, readable: false, active: false, lacks_fields: false, checked: false }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The moment of [`Machine::wake_at`] may have come.
    Woke,
    /// A mark was made for this cause.
    Due(Cause),
    /// A mark was made for a webhook at this time, and the link was left alone since.
    DueSince(MonoTime),
    /// A hint was noted that the token is to be checked.
    Hinted,
    /// Anything may have changed in the store; many links may be looking at once, so what this causes is spread.
    Look(Spread),
    /// The link has another token, unless that was taken already.
    Relinked,
    /// The link was parked, if that holds for its present token.
    Parked,
    /// The token of this generation may not be good any more.
    Doubted(Generation),
    /// Other settings hold.
    Reloaded {
        /// The rhythm.
        pace: Pace,
        /// Webhook fields are wanted that are not confirmed.
        lacks_fields: bool,
        /// Over how long a repair is spread.
        spread: Duration,
    },
    /// Spaces may not hold what was last written: compare by then.
    Verify(MonoTime),
    /// [`Job::TakeToken`] was done; `None` when the link is not there.
    Took(Option<Taken>),
    /// The job of this number ended.
    Ended(u64, JobEnd),
}

/// The link is parked from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parking {
    /// Why.
    pub why: ParkReason,
    /// The generation of the token that this was found out about.
    pub generation: Option<Generation>,
    /// The store does not know.
    pub persist: bool,
}

/// What follows from a step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// The job that begins, under its number.
    pub job: Option<(u64, Job)>,
    /// The link was parked.
    pub parking: Option<Parking>,
    /// The job of this number goes with prompt ones now, if it has not begun.
    pub raised: Option<u64>,
}

/// The circumstances of a step.
pub struct Moment<'a> {
    /// The time.
    pub now: MonoTime,
    /// A random number from 0 to 1.
    pub jitter: f64,
    /// The link as the store has it.
    pub facts: &'a Facts,
    /// Gives the next free slot of the whole daemon for a check that a hint asks for.
    pub check_slot: &'a mut dyn FnMut() -> MonoTime,
}

/// One link.
#[derive(Debug, Clone)]
pub struct Machine {
    offset: f64,
    /// The generation of the token that was taken from the store, readable or not. `None` while the link was not found
    /// there.
    generation: Option<Generation>,
    readable: bool,
    reads: Reads,
    subscription: Subscription,
    check: Check,
    /// The number of the job that is under way.
    under_way: Option<u64>,
    jobs: u64,
    /// Why the read that is owed is owed, for reads that no mark stands behind.
    cause: Cause,
    /// A limit of the source holds the link back until then.
    throttled_until: Option<MonoTime>,
    /// A doubt about a token that is to be taken first.
    doubted: Option<Generation>,
    /// It is parked for a reason that may pass by itself.
    may_pass: bool,
    stopping: bool,
}

impl Machine {
    /// A link at the start of its actor: with the token that the store has. `offset` is the link's offset within an
    /// interval, `read_at` its last read; what is overdue is spread.
    pub fn new(
        pace: Pace,
        offset: f64,
        read_at: Option<MonoTime>,
        spread: Duration,
        token: Option<&Taken>,
        now: MonoTime,
    ) -> Self {
        let poll_at = schedule::first_poll(offset, pace.poll_interval, read_at, spread, now);
        let mut machine = Machine {
            offset,
            generation: None,
            readable: false,
            reads: Reads::new(pace, offset, poll_at, now),
            subscription: Subscription::default(),
            check: Check::new(offset, now),
            under_way: None,
            jobs: 0,
            cause: Cause::Poll,
            throttled_until: None,
            doubted: None,
            may_pass: false,
            stopping: false,
        };
        if !machine.hold(token, spread, now) {
            machine.reads.step(now, ReadInput::Parked, 0.0);
        }
        machine
    }

    /// The number of the job that is under way. One with another number was cut short: its end is nobody's.
    pub fn under_way(&self) -> Option<u64> {
        self.under_way
    }

    /// The generation of the token that was taken.
    pub fn generation(&self) -> Option<Generation> {
        self.generation
    }

    /// The next poll; `None` while a person must act first.
    pub fn next_poll_at(&self) -> Option<MonoTime> {
        (!self.reads.is_parked()).then_some(self.reads.poll_at())
    }

    /// From here on, and until a read begins, the link has nothing to decide before the debounce of a webhook is over
    /// ([`Input::DueSince`]).
    pub fn plenty_at(&self) -> MonoTime {
        self.reads.plenty_at()
    }

    /// A limit of the source holds the link back until then.
    pub fn throttled_until(&self) -> Option<MonoTime> {
        self.throttled_until
    }

    /// The link has a token, and it cannot be opened.
    pub fn lacks_key(&self) -> bool {
        self.generation.is_some() && !self.readable
    }

    /// Is it waiting for a person?
    pub fn is_parked(&self) -> bool {
        self.reads.is_parked()
    }

    /// Is the token checked although the link is parked?
    fn checks_parked(&self) -> bool {
        self.may_pass && self.readable
    }

    /// When to step again; `None` while a read is under way, a person must act, or the process ends.
    pub fn wake_at(&self, now: MonoTime) -> Option<MonoTime> {
        if self.stopping {
            return None;
        }
        let parked = self.reads.is_parked();
        let subscription = self.subscription.due_at().filter(|_| !parked);
        let check = Some(self.check.due_at()).filter(|_| !parked || self.checks_parked());
        let upkeep = [subscription, check].into_iter().flatten().filter(|_| self.under_way.is_none());
        upkeep.chain(self.reads.wake_at(now)).min()
    }

    /// Takes in what happened and says which job begins.
    pub fn step(&mut self, mut at: Moment<'_>, input: Input) -> Step {
        self.stopping = at.facts.stopping;
        if let Some(why) = at.facts.parked {
            self.may_pass = why.may_pass();
        }
        let at = &mut at;
        if at.facts.repeated {
            self.reads.hear(at.now);
        }
        let asks = match input {
            Input::Due(cause) => cause != Cause::Poll && at.facts.unclaimed.is_some(),
            Input::DueSince(_) => at.facts.unclaimed.is_some(),
            _ => at.facts.hastened.is_some(),
        };
        let behind = self.under_way.filter(|_| asks && self.reads.is_behind());
        let step = match input {
            Input::Look(spread) => self.look(at, spread),
            Input::Parked => self.parked_elsewhere(at),
            Input::Took(token) => self.took(at, token.as_ref()),
            Input::Ended(number, end) if self.under_way == Some(number) => self.ended(at, end),
            input => Step { job: self.take_in(at, input), ..Step::default() },
        };
        Step { raised: behind.filter(|number| self.under_way == Some(*number)), ..step }
    }

    /// Inputs that park nothing.
    fn take_in(&mut self, at: &mut Moment<'_>, input: Input) -> Option<(u64, Job)> {
        match input {
            Input::Relinked if self.is_superseded(at.facts) => return Some(self.take()),
            Input::Doubted(generation) if self.generation != Some(generation) && self.is_superseded(at.facts) => {
                self.doubted = Some(generation);
                return Some(self.take());
            }
            Input::Doubted(generation) if self.generation == Some(generation) => self.check.owe(at.now),
            Input::Hinted => self.hear_hint(at),
            Input::Verify(by) => self.reads.verify_by(by),
            // A read that began after the mark was made answers for it already.
            Input::Due(cause) if at.facts.unclaimed.is_some() => {
                self.cause = cause;
                return self.go_on(at, ReadInput::Due(cause));
            }
            Input::DueSince(heard_at) if at.facts.unclaimed.is_some() => {
                self.cause = Cause::Webhook;
                return self.go_on(at, ReadInput::DueSince(heard_at));
            }
            Input::Reloaded { pace, lacks_fields, spread } => return self.reloaded(at, pace, lacks_fields, spread),
            _ => {}
        }
        self.go_on(at, ReadInput::Woke)
    }

    fn look(&mut self, at: &mut Moment<'_>, spread: Spread) -> Step {
        if self.is_behind(at.facts) {
            return Step { job: Some(self.take()), ..Step::default() };
        }
        if at.facts.parked.is_some() {
            return self.parked_elsewhere(at);
        }
        self.hear_hint(at);
        let input = match (at.facts.unclaimed, at.facts.hastened) {
            (None, _) => ReadInput::Woke,
            (Some(_), Some(cause)) => {
                self.cause = cause;
                ReadInput::Due(cause)
            }
            (Some(cause), None) => {
                self.cause = cause;
                let within = if cause == Cause::Poll { spread.polls } else { spread.asked };
                match cause {
                    // A person waits for these, unless many links look at once.
                    Cause::Link | Cause::Manual if within.max(spread.polls) < NO_SPREAD => ReadInput::Due(cause),
                    // The mark has stood for a while, so that nothing is left of its debounce.
                    _ => ReadInput::DueWithin(within),
                }
            }
        };
        Step { job: self.go_on(at, input), ..Step::default() }
    }

    /// Does the link have another token than the one that was taken?
    fn is_superseded(&self, facts: &Facts) -> bool {
        facts.generation.is_some() && facts.generation != self.generation
    }

    /// After the store was away: it holds another token, or could not note that the token is dead. Trying the token
    /// once more settles both.
    fn is_behind(&self, facts: &Facts) -> bool {
        let linked = facts.generation.is_some() && facts.parked.is_none();
        let unnoted = self.reads.is_parked() && self.readable && linked;
        unnoted || self.is_superseded(facts)
    }

    fn hear_hint(&mut self, at: &mut Moment<'_>) {
        if at.facts.hinted && at.facts.generation == self.generation {
            self.check.hint(at.now, &mut *at.check_slot);
        }
    }

    /// The store has it already.
    fn parked_elsewhere(&mut self, at: &mut Moment<'_>) -> Step {
        if self.is_superseded(at.facts) {
            return Step { job: Some(self.take()), ..Step::default() };
        }
        match at.facts.parked.filter(|_| !self.reads.is_parked()) {
            Some(why) => Step { parking: Some(self.park(at, why, false)), ..Step::default() },
            None => Step { job: self.go_on(at, ReadInput::Woke), ..Step::default() },
        }
    }

    fn park(&mut self, at: &Moment<'_>, why: ParkReason, persist: bool) -> Parking {
        self.under_way = None;
        self.may_pass = why.may_pass();
        if self.may_pass {
            self.check.wait_for_slot(at.now);
        }
        self.reads.step(at.now, ReadInput::Parked, at.jitter);
        Parking { why, generation: self.generation, persist }
    }

    fn take(&mut self) -> (u64, Job) {
        self.under_way = None;
        (self.next_number(), Job::TakeToken)
    }

    fn took(&mut self, at: &mut Moment<'_>, token: Option<&Taken>) -> Step {
        self.under_way = None;
        // Trouble and limits were those of the earlier token.
        self.throttled_until = None;
        let usable = self.hold(token, Duration::ZERO, at.now);
        if usable {
            self.hear_hint(at);
        }
        if self.doubted.take().is_some_and(|generation| self.generation == Some(generation)) {
            self.check.owe(at.now);
        }
        self.cause = Cause::Link;
        let input = if usable { ReadInput::Revived } else { ReadInput::Parked };
        Step { job: self.go_on(at, input), ..Step::default() }
    }

    /// Holds this token; `false` when the source may not be called.
    fn hold(&mut self, token: Option<&Taken>, spread: Duration, now: MonoTime) -> bool {
        self.generation = token.map(|token| token.generation);
        self.readable = token.is_some_and(|token| token.readable);
        self.subscription = Subscription::default();
        let Some(token) = token.filter(|token| token.readable) else { return false };
        if token.lacks_fields {
            self.subscription.lacks_fields(now.plus(spread.mul_f64(self.offset)));
        }
        self.check.begin_anew(token.checked, spread, now);
        token.active
    }

    fn reloaded(
        &mut self,
        at: &mut Moment<'_>,
        pace: Pace,
        lacks_fields: bool,
        spread: Duration,
    ) -> Option<(u64, Job)> {
        if self.lacks_key() && at.facts.generation.is_some() {
            // The keys in force may open the token that those before did not.
            self.reads.step(at.now, ReadInput::Repaced(pace), at.jitter);
            return Some(self.take());
        }
        if lacks_fields {
            self.subscription.lacks_fields(at.now.plus(spread.mul_f64(self.offset)));
        }
        self.go_on(at, ReadInput::Repaced(pace))
    }

    fn ended(&mut self, at: &mut Moment<'_>, end: JobEnd) -> Step {
        self.under_way = None;
        if let Some(end) = end.subscription {
            self.subscription.ended(end, at.now, at.jitter);
        }
        if let Some(end) = end.check {
            match end {
                // The shop is frozen still.
                CheckEnd::Dead(_) | CheckEnd::Failed(Disposition::Park(_)) if self.reads.is_parked() => {
                    self.check.wait_for_slot(at.now);
                }
                end => self.check.ended(end, at.now, at.jitter),
            }
        }
        if let Some(why) = end.park_reason() {
            if self.is_superseded(at.facts) {
                // It was found out about a token that the link does not have any more.
                return Step { job: Some(self.take()), ..Step::default() };
            }
            if !self.reads.is_parked() {
                return Step { parking: Some(self.park(at, why, true)), ..Step::default() };
            }
        }
        let input = end.read.map_or(ReadInput::Woke, |end| ReadInput::Ended(self.read_ended(at, end)));
        Step { job: self.go_on(at, input), ..Step::default() }
    }

    fn read_ended(&mut self, at: &Moment<'_>, end: ReadEnd) -> Ended {
        match end {
            ReadEnd::Stored | ReadEnd::NotCompared => {
                self.throttled_until = None;
                if !at.facts.due {
                    // It also answered for marks that were made between the start of the job and its claim.
                    self.reads.nothing_is_owed();
                }
                if end == ReadEnd::Stored { Ended::Stored } else { Ended::NotCompared }
            }
            ReadEnd::Failed(Disposition::RateLimited { retry_after }) => {
                let wait = retry_after.unwrap_or(UNNAMED_LIMIT);
                self.throttled_until = Some(at.now.plus(wait));
                Ended::Held(wait)
            }
            // What does not park the link heals by itself, or when an operator corrects the settings.
            ReadEnd::NotStored | ReadEnd::Failed(_) => Ended::Failed,
        }
    }

    /// Reads if a read is due, else makes what upkeep is due.
    fn go_on(&mut self, at: &mut Moment<'_>, input: ReadInput) -> Option<(u64, Job)> {
        let subscribe = self.subscription.is_due(at.now);
        if let Some(read) = self.reads.step(at.now, input, at.jitter) {
            let begun = self.begin(at.facts, Job::Read { read, fallback: self.cause, subscribe });
            if begun.is_none() {
                self.reads.step(at.now, ReadInput::Ended(Ended::Failed), at.jitter);
            }
            return begun;
        }
        let parked = self.reads.is_parked();
        if self.under_way.is_some() || at.facts.stopping || (parked && !self.checks_parked()) {
            return None;
        }
        if subscribe && !parked {
            return self.begin(at.facts, Job::Subscribe);
        }
        let checks = self.check.begins(at.now, self.throttled_until);
        checks.then(|| self.begin(at.facts, Job::CheckToken)).flatten()
    }

    /// Upkeep that is under way ends unheard: the read takes over, and sees to the subscription itself.
    fn begin(&mut self, facts: &Facts, job: Job) -> Option<(u64, Job)> {
        if self.is_superseded(facts) {
            // The source is not called any more with a token that the link does not have.
            return Some(self.take());
        }
        if facts.stopping || !self.readable {
            return None;
        }
        let number = self.next_number();
        self.under_way = Some(number);
        self.subscription.begins();
        Some((number, job))
    }

    fn next_number(&mut self) -> u64 {
        self.jobs += 1;
        self.jobs
    }
}

#[cfg(test)]
mod tests;
