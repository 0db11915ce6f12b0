//! Behaviour as "this input at this moment, before this store, begins exactly this job".

use super::*;
use crate::core::link::reads::Read;
use crate::core::link::upkeep::{CheckEnd, SubscriptionEnd};
use proptest::prelude::*;

const NOON: MonoTime = MonoTime(1_795_341_600_000);
const DAY: Duration = Duration::from_secs(86_400);
const OLD: Generation = Generation(7);
const NEW: Generation = Generation(8);

fn after(secs: u64) -> MonoTime {
    NOON.plus(Duration::from_secs(secs))
}

fn pace() -> Pace {
    Pace { debounce: Duration::from_secs(2), burst: 3, refill: Duration::from_secs(60), poll_interval: DAY }
}

/// An active link's token, checked before, with every field confirmed.
fn taken(generation: Generation) -> Taken {
    Taken { generation, readable: true, active: true, lacks_fields: false, checked: true }
}

fn prompt(fallback: Cause) -> Option<Job> {
    Some(Job::Read { read: Read { poll: false, prompt: true }, fallback, subscribe: false })
}

/// A read for this cause that goes behind what somebody waits for.
fn found(fallback: Cause) -> Option<Job> {
    Some(Job::Read { read: Read { poll: false, prompt: false }, fallback, subscribe: false })
}

/// A prompt read for this cause, whether or not the poll is due, too.
fn is_prompt(job: Option<Job>, cause: Cause) -> bool {
    matches!(job, Some(Job::Read { read: Read { prompt: true, .. }, fallback, .. }) if fallback == cause)
}

fn spread(ms: u64) -> Spread {
    let spread = Duration::from_millis(ms);
    Spread { polls: spread, asked: spread }
}

/// A machine, and the store before it.
struct Link {
    machine: Machine,
    facts: Facts,
    now: MonoTime,
    slots: u64,
    parking: Option<Parking>,
    raised: Option<u64>,
    /// The job that began last.
    number: u64,
}

impl Link {
    /// With a poll and a check that are hours away.
    fn new(token: Option<Taken>) -> Link {
        let offset = 0.5;
        let machine = Machine::new(pace(), offset, Some(NOON), Duration::ZERO, token.as_ref(), NOON);
        let facts = Facts { generation: token.map(|token| token.generation), ..Facts::default() };
        Link { machine, facts, now: NOON, slots: 0, parking: None, raised: None, number: 0 }
    }

    fn active() -> Link {
        Link::new(Some(taken(OLD)))
    }

    fn step(&mut self, input: Input) -> Option<Job> {
        let slots = &mut self.slots;
        let mut check_slot = || {
            *slots += 1;
            NOON.plus(Duration::from_secs(*slots))
        };
        let moment = Moment { now: self.now, jitter: 1.0, facts: &self.facts, check_slot: &mut check_slot };
        let Step { job, parking, raised } = self.machine.step(moment, input);
        self.parking = parking;
        self.raised = raised;
        self.number = job.map_or(self.number, |(number, _)| number);
        job.map(|(_, job)| job)
    }

    fn at(&mut self, secs: u64) -> &mut Link {
        self.now = after(secs);
        self
    }

    /// The job that began last ends so.
    fn ends(&mut self, end: JobEnd) -> Option<Job> {
        self.step(Input::Ended(self.number, end))
    }

    fn reads(&mut self, end: ReadEnd) -> Option<Job> {
        self.ends(JobEnd { read: Some(end), ..JobEnd::default() })
    }

    /// Steps at the time for which the machine asks.
    fn wakes(&mut self) -> Option<Job> {
        self.now = self.machine.wake_at(self.now).expect("it waits for something");
        self.step(Input::Woke)
    }

    fn syncs(&mut self) -> Option<Job> {
        self.facts.unclaimed = Some(Cause::Manual);
        self.step(Input::Due(Cause::Manual))
    }
}

fn checks(end: CheckEnd) -> JobEnd {
    JobEnd { check: Some(end), subscription: Some(SubscriptionEnd::Confirmed), ..JobEnd::default() }
}

#[test]
fn a_mark_is_read_with_its_cause_and_one_that_is_answered_for_is_not() {
    let mut link = Link::active();
    assert_eq!(link.step(Input::Due(Cause::Manual)), None, "a read has answered for it");
    assert_eq!(link.syncs(), prompt(Cause::Manual));
    assert_eq!(link.machine.under_way(), Some(link.number));
    assert_eq!(link.reads(ReadEnd::Stored), None);
    assert_eq!(link.machine.under_way(), None);
    link.facts.unclaimed = Some(Cause::Webhook);
    assert_eq!(link.step(Input::Due(Cause::Webhook)), None);
    assert_eq!(link.at(2).step(Input::Woke), prompt(Cause::Webhook));
}

#[test]
fn a_read_answers_for_marks_that_came_before_its_claim_and_not_for_later_ones() {
    for due in [false, true] {
        let mut link = Link::active();
        link.syncs();
        link.step(Input::Due(Cause::Manual));
        link.facts.due = due;
        let again = link.reads(ReadEnd::Stored);
        assert_eq!(again, due.then(|| prompt(Cause::Manual)).flatten());
    }
    let mut link = Link::active();
    link.syncs();
    link.step(Input::Due(Cause::Manual));
    link.reads(ReadEnd::NotStored);
    assert_eq!(link.wakes(), prompt(Cause::Manual), "a read that stored nothing answers for nothing");
}

#[test]
fn an_end_of_another_job_changes_nothing() {
    let mut link = Link::active();
    link.syncs();
    let stale = JobEnd { read: Some(ReadEnd::Failed(Disposition::Park(ParkReason::Expired))), ..JobEnd::default() };
    assert_eq!(link.step(Input::Ended(link.number + 1, stale)), None);
    assert_eq!((link.machine.under_way(), link.machine.is_parked(), link.parking), (Some(link.number), false, None));
}

#[test]
fn the_source_s_answers_become_waits() {
    let limited = |retry_after| ReadEnd::Failed(Disposition::RateLimited { retry_after });
    for (end, wait, limited_for) in [
        (ReadEnd::NotStored, 2, None),
        (ReadEnd::Failed(Disposition::Retry), 2, None),
        (ReadEnd::Failed(Disposition::Misconfigured), 2, None),
        (ReadEnd::Failed(Disposition::Rejected), 2, None),
        (limited(None), 66, Some(60)),
        (limited(Some(Duration::from_secs(600))), 660, Some(600)),
    ] {
        let mut link = Link::active();
        link.syncs();
        assert_eq!(link.reads(end), None, "{end:?}");
        assert_eq!(link.machine.wake_at(NOON), Some(after(wait)), "{end:?}");
        assert_eq!(link.machine.throttled_until(), limited_for.map(after), "{end:?}");
        link.wakes().expect("what was owed stays owed");
        link.reads(ReadEnd::Stored);
        assert_eq!(link.machine.throttled_until(), None);
    }
}

#[test]
fn a_mark_does_not_wait_for_a_comparison_that_spaces_cannot_answer() {
    let mut link = Link::active();
    let polls = |job| matches!(job, Some(Job::Read { read: Read { poll: true, .. }, .. }));
    link.now = link.machine.next_poll_at().unwrap();
    assert!(polls(link.step(Input::Woke)));
    let polled_at = link.now;
    assert_eq!(link.reads(ReadEnd::NotCompared), None);
    link.facts.unclaimed = Some(Cause::Webhook);
    assert_eq!(link.step(Input::Due(Cause::Webhook)), None);
    assert_eq!(link.wakes(), prompt(Cause::Webhook));
    assert_eq!(link.now, polled_at.plus(pace().debounce));
    link.facts.unclaimed = None;
    assert_eq!(link.reads(ReadEnd::Stored), None);
    assert_eq!(link.syncs(), prompt(Cause::Manual), "a person waits even less");
    assert_eq!(link.reads(ReadEnd::Stored), None);
    assert!(link.machine.next_poll_at().unwrap() <= polled_at.plus(Duration::from_secs(660)), "the comparison is owed");
    link.now = link.machine.next_poll_at().unwrap();
    assert!(polls(link.step(Input::Woke)));
}

#[test]
fn a_refusal_parks_and_nothing_but_another_token_ends_that() {
    let refused = Disposition::Park(ParkReason::RoleLost);
    let mut link = Link::active();
    link.syncs();
    assert_eq!(link.reads(ReadEnd::Failed(refused)), None);
    let parking = Parking { why: ParkReason::RoleLost, generation: Some(OLD), persist: true };
    assert_eq!((link.parking, link.machine.under_way()), (Some(parking), None));
    assert_eq!((link.machine.wake_at(NOON), link.machine.next_poll_at()), (None, None));
    link.facts.parked = Some(ParkReason::RoleLost);
    let reloaded = Input::Reloaded { pace: pace(), lacks_fields: true, spread: Duration::ZERO };
    link.facts.hinted = true;
    for input in [
        Input::Woke,
        Input::Due(Cause::Manual),
        Input::Hinted,
        Input::Doubted(OLD),
        Input::Look(Spread::default()),
        Input::Parked,
        Input::Relinked,
        Input::Verify(NOON),
        reloaded,
    ] {
        assert_eq!((link.at(200_000).step(input), link.parking), (None, None));
        assert_eq!(link.machine.wake_at(link.now), None);
    }
    link.facts = Facts { generation: Some(NEW), ..Facts::default() };
    assert_eq!(link.step(Input::Relinked), Some(Job::TakeToken));
    assert!(is_prompt(link.step(Input::Took(Some(taken(NEW)))), Cause::Link));
    assert_eq!(link.machine.generation(), Some(NEW));
}

#[test]
fn a_dead_token_parks_whichever_job_finds_it() {
    let dead = Disposition::Park(ParkReason::Expired);
    for end in [
        JobEnd { subscription: Some(SubscriptionEnd::Failed(dead)), ..JobEnd::default() },
        checks(CheckEnd::Dead(ParkReason::Expired)),
    ] {
        let mut link = Link::active();
        assert_eq!(link.step(Input::Doubted(OLD)), Some(Job::CheckToken));
        assert_eq!(link.ends(end), None);
        assert_eq!(link.parking.map(|parking| (parking.why, parking.persist)), Some((ParkReason::Expired, true)));
        assert!(link.machine.is_parked());
    }
    // A refusal of the subscription alone is no reason.
    let mut link = Link::active();
    link.step(Input::Doubted(OLD));
    let refused = SubscriptionEnd::Failed(Disposition::Rejected);
    let end = JobEnd { subscription: Some(refused), check: Some(CheckEnd::Answered), ..JobEnd::default() };
    assert_eq!((link.ends(end), link.parking, link.machine.is_parked()), (None, None, false));
}

#[test]
fn a_refusal_of_an_earlier_token_takes_the_new_one() {
    let mut link = Link::active();
    link.syncs();
    link.facts.generation = Some(NEW);
    let refused = ReadEnd::Failed(Disposition::Park(ParkReason::Expired));
    assert_eq!((link.reads(refused), link.parking), (Some(Job::TakeToken), None));
}

#[test]
fn a_decision_elsewhere_parks_and_is_not_persisted_again() {
    for input in [Input::Parked, Input::Look(Spread::default())] {
        let mut link = Link::active();
        link.syncs();
        link.facts.parked = Some(ParkReason::AppRemoved);
        assert_eq!(link.step(input), None);
        let parking = Parking { why: ParkReason::AppRemoved, generation: Some(OLD), persist: false };
        assert_eq!((link.parking, link.machine.under_way()), (Some(parking), None), "the read is cut short");
        assert_eq!((link.step(Input::Parked), link.parking), (None, None), "once is enough");
    }
    // It may have been about a token that the link does not have any more.
    let mut link = Link::active();
    link.facts = Facts { generation: Some(NEW), parked: Some(ParkReason::AppRemoved), ..Facts::default() };
    assert_eq!(link.step(Input::Parked), Some(Job::TakeToken));
    assert_eq!(link.step(Input::Took(Some(Taken { active: false, ..taken(NEW) }))), None);
    assert!(link.machine.is_parked());
    let mut link = Link::active();
    assert_eq!((link.step(Input::Parked), link.parking), (None, None), "nothing of it is in the store");
}

#[test]
fn a_parking_that_the_store_does_not_hold_is_tried_once_more_by_a_look() {
    let mut link = Link::active();
    link.syncs();
    link.reads(ReadEnd::Failed(Disposition::Park(ParkReason::Expired)));
    link.facts.unclaimed = None;
    assert_eq!(link.step(Input::Woke), None);
    assert_eq!(link.step(Input::Look(Spread::default())), Some(Job::TakeToken));
    assert_eq!(link.step(Input::Took(Some(taken(OLD)))), prompt(Cause::Link));
    // Not where the store knows, where the link is gone, or where the token is of no use anyway.
    for facts in [Facts { parked: Some(ParkReason::Expired), ..link.facts.clone() }, Facts::default()] {
        link.facts = facts;
        link.reads(ReadEnd::Failed(Disposition::Park(ParkReason::Expired)));
        assert_eq!(link.step(Input::Look(Spread::default())), None);
    }
    let mut link = Link::new(Some(Taken::unreadable(OLD)));
    assert_eq!(link.step(Input::Look(Spread::default())), None);
}

#[test]
fn no_job_begins_with_a_token_that_the_link_does_not_have() {
    let begin: [fn(&mut Link) -> Option<Job>; 4] = [
        |link| link.syncs(),
        |link| link.step(Input::Look(Spread::default())),
        |link| link.wakes(),
        |link| {
            link.facts.generation = Some(OLD);
            link.syncs();
            link.facts.generation = Some(NEW);
            link.step(Input::Relinked)
        },
    ];
    for begin in begin {
        let mut link = Link::active();
        link.facts.generation = Some(NEW);
        assert_eq!(begin(&mut link), Some(Job::TakeToken));
        assert_eq!(link.machine.under_way(), None, "what was under way is cut short");
        assert!(is_prompt(link.step(Input::Took(Some(taken(NEW)))), Cause::Link));
    }
    let mut link = Link::active();
    assert_eq!(link.step(Input::Relinked), None, "it was taken already");
    link.facts.generation = None;
    assert_eq!(link.step(Input::Relinked), None, "the link is gone, and its page is about to end");
}

#[test]
fn another_token_begins_anew() {
    let mut link = Link::active();
    link.syncs();
    link.reads(ReadEnd::Failed(Disposition::RateLimited { retry_after: Some(DAY) }));
    link.facts.generation = Some(NEW);
    link.step(Input::Relinked);
    let token = Taken { lacks_fields: true, checked: false, ..taken(NEW) };
    let job = link.step(Input::Took(Some(token)));
    assert_eq!(link.machine.throttled_until(), None);
    let read = Read { poll: false, prompt: true };
    assert_eq!(job, Some(Job::Read { read, fallback: Cause::Link, subscribe: true }));
    assert_eq!(link.reads(ReadEnd::Stored), Some(Job::Subscribe), "the read did not look at it");
    let end = JobEnd { subscription: Some(SubscriptionEnd::Confirmed), ..JobEnd::default() };
    assert_eq!(link.ends(end), None);
    assert_eq!(link.wakes(), Some(Job::CheckToken));
    assert!(link.now <= after(40), "a token that was never checked is checked soon");
}

#[test]
fn a_look_finds_marks_hints_and_other_tokens() {
    let mut link = Link::active();
    link.facts.unclaimed = Some(Cause::Link);
    assert_eq!(link.step(Input::Look(spread(99))), prompt(Cause::Link), "a person waits for it");
    let mut link = Link::active();
    link.facts.unclaimed = Some(Cause::Link);
    assert_eq!(link.step(Input::Look(spread(10_000))), None);
    assert_eq!(link.machine.wake_at(NOON), Some(after(5)), "spread by the offset of the link");
    assert_eq!(link.wakes(), found(Cause::Link));
    let mut link = Link::active();
    link.facts.hinted = true;
    assert_eq!(link.step(Input::Look(Spread::default())), None);
    assert_eq!((link.wakes(), link.now), (Some(Job::CheckToken), after(1)));
}

/// After a start: what somebody asked for is read as fast as turns allow, behind what is asked for now. What nobody waits
/// for is spread.
#[test]
fn marks_that_somebody_asked_for_are_not_spread_after_a_start() {
    let spread = Spread::after_a_start(100_000, DAY);
    for cause in [Cause::Webhook, Cause::Link, Cause::Manual] {
        let mut link = Link::active();
        link.facts.unclaimed = Some(cause);
        assert_eq!(link.step(Input::Look(spread)), found(cause));
    }
    let mut link = Link::active();
    link.facts.unclaimed = Some(Cause::Poll);
    assert_eq!(link.step(Input::Look(spread)), None);
    assert_eq!(link.machine.wake_at(NOON), Some(NOON.plus(spread.polls / 2)));
    // Of an import, all are.
    let mut link = Link::active();
    link.facts.unclaimed = Some(Cause::Link);
    assert_eq!(link.step(Input::Look(Spread::of_an_import(100_000, DAY))), None);
}

/// The first poll and the look for a mark that stands fall on about the same moment.
#[test]
fn a_link_that_is_new_or_was_missed_is_read_once() {
    for before in [None, Some(MonoTime(NOON.0 - 2 * DAY.as_millis() as u64))] {
        for asked in [Duration::ZERO, Duration::from_secs(60)] {
            let polls = Duration::from_secs(60);
            let mut link = Link::active();
            link.machine = Machine::new(pace(), 0.5, before, polls, Some(&taken(OLD)), NOON);
            link.facts.unclaimed = Some(Cause::Link);
            link.now = MonoTime(NOON.0 + 3);
            let job = link.step(Input::Look(Spread { polls, asked })).or_else(|| link.wakes());
            assert!(matches!(job, Some(Job::Read { read: Read { poll: true, .. }, .. })), "{job:?}");
            // Published while the read sees to the subscription, and has not claimed the mark.
            assert_eq!(link.step(Input::Due(Cause::Link)), None);
            assert_eq!(link.step(Input::Look(Spread { polls, asked })), None);
            link.facts.unclaimed = None;
            assert_eq!(link.reads(ReadEnd::Stored), None);
            assert!(link.machine.next_poll_at() > Some(after(3600)), "the poll is done, too");
            assert!(link.machine.wake_at(link.now) > Some(after(3600)));
        }
    }
}

/// The calls of a day at rest: a poll, which sees to the subscription, and a check of the token.
#[test]
fn a_link_at_rest_has_two_jobs_a_day() {
    let mut link = Link::active();
    let (mut polls, mut checks_made, end) = (0, 0, NOON.plus(10 * DAY));
    while link.machine.wake_at(link.now).is_some_and(|at| at <= end) {
        match link.wakes() {
            Some(Job::Read { read: Read { poll: true, prompt: false }, .. }) => {
                polls += 1;
                link.reads(ReadEnd::Stored);
            }
            Some(Job::CheckToken) => {
                checks_made += 1;
                link.ends(checks(CheckEnd::Answered));
            }
            job => assert_eq!(job, None),
        }
    }
    assert_eq!((polls, checks_made), (10, 10));
}

/// A delivery that finds its mark standing wakes nobody; the machine hears of it when it looks.
#[test]
fn a_link_that_goes_on_changing_is_not_quiet() {
    let mut link = Link::active();
    link.facts.unclaimed = Some(Cause::Webhook);
    for _ in 0..2 {
        link.step(Input::Due(Cause::Webhook));
        link.wakes().expect("quick at first");
        link.reads(ReadEnd::Stored);
    }
    assert_eq!((link.step(Input::Due(Cause::Webhook)), link.now), (None, after(4)));
    link.facts.repeated = true;
    for _ in 0..4 {
        assert_eq!(link.wakes(), None);
    }
    assert_eq!(link.now, after(20));
    link.facts.repeated = false;
    assert_eq!((link.wakes(), link.now), (prompt(Cause::Webhook), after(24)));
}

#[test]
fn a_hint_is_heard_for_the_token_that_it_is_about_and_once() {
    let mut link = Link::active();
    assert_eq!(link.step(Input::Hinted), None);
    assert_eq!(link.slots, 0, "the hint is gone");
    link.facts.hinted = true;
    link.step(Input::Hinted);
    link.step(Input::Hinted);
    assert_eq!(link.slots, 1);
    assert_eq!(link.wakes(), Some(Job::CheckToken));
    // One that comes during the check causes another.
    link.step(Input::Hinted);
    assert_eq!(link.slots, 2);
    assert_eq!(link.at(9).ends(checks(CheckEnd::Answered)), Some(Job::CheckToken));
    link.facts.hinted = false;
    link.ends(checks(CheckEnd::Answered));
    assert!(link.machine.wake_at(link.now) > Some(after(3600)));
    let mut link = Link::active();
    link.facts = Facts { generation: Some(NEW), hinted: true, ..Facts::default() };
    link.step(Input::Hinted);
    assert_eq!(link.slots, 0, "it is about a token that is to be taken first");
    link.step(Input::Took(Some(taken(NEW))));
    assert_eq!(link.slots, 1, "and is heard with it");
}

#[test]
fn a_doubt_about_the_present_token_is_checked_at_once() {
    let mut link = Link::active();
    assert_eq!(link.step(Input::Doubted(Generation(3))), None, "news of a token that the link does not have");
    assert_eq!(link.step(Input::Doubted(OLD)), Some(Job::CheckToken));
    // A doubt about the newest token, which is to be taken first.
    for (doubted, checked) in [(NEW, true), (Generation(3), false)] {
        let mut link = Link::active();
        link.facts.generation = Some(NEW);
        assert_eq!(link.step(Input::Doubted(doubted)), Some(Job::TakeToken));
        assert_eq!(link.step(Input::Took(Some(taken(NEW)))), prompt(Cause::Link));
        let next = link.reads(ReadEnd::Stored);
        assert_eq!(next == Some(Job::CheckToken), checked);
    }
}

#[test]
fn a_read_goes_before_upkeep_and_sees_to_the_subscription() {
    let mut link = Link::new(Some(Taken { lacks_fields: true, ..taken(OLD) }));
    assert_eq!(link.step(Input::Woke), Some(Job::Subscribe));
    let subscribing = link.number;
    let read = Read { poll: false, prompt: true };
    assert_eq!(link.syncs(), Some(Job::Read { read, fallback: Cause::Manual, subscribe: true }));
    let end = JobEnd { subscription: Some(SubscriptionEnd::Confirmed), ..JobEnd::default() };
    assert_eq!(link.step(Input::Ended(subscribing, end)), None, "it was cut short");
    assert_eq!(link.reads(ReadEnd::Stored), Some(Job::Subscribe), "the read did not look at it");
    assert_eq!(link.ends(end), None);
    assert_eq!(link.step(Input::Doubted(OLD)), Some(Job::CheckToken));
    assert_eq!(link.syncs(), prompt(Cause::Manual));
    assert_eq!(link.reads(ReadEnd::Stored), Some(Job::CheckToken), "the check is still owed");
    assert_eq!(link.step(Input::Doubted(OLD)), None, "one job at a time");
}

#[test]
fn settings_that_come_during_a_repair_cause_another() {
    let mut link = Link::new(Some(Taken { lacks_fields: true, ..taken(OLD) }));
    assert_eq!(link.step(Input::Woke), Some(Job::Subscribe));
    link.step(Input::Reloaded { pace: pace(), lacks_fields: true, spread: Duration::ZERO });
    let end = JobEnd { subscription: Some(SubscriptionEnd::Confirmed), ..JobEnd::default() };
    assert_eq!(link.ends(end), Some(Job::Subscribe));
    assert_eq!(link.ends(end), None);
    assert!(link.machine.wake_at(NOON) > Some(after(3600)));
}

#[test]
fn a_token_with_every_field_confirmed_ends_the_repair_of_the_earlier_one() {
    let mut link = Link::new(Some(Taken { lacks_fields: true, ..taken(OLD) }));
    link.facts.generation = Some(NEW);
    link.step(Input::Relinked);
    assert_eq!(link.step(Input::Took(Some(taken(NEW)))), prompt(Cause::Link));
    assert_eq!(link.reads(ReadEnd::Stored), None);
}

#[test]
fn upkeep_waits_while_a_read_is_under_way() {
    let mut link = Link::active();
    link.syncs();
    assert_eq!(link.step(Input::Doubted(OLD)), None);
    assert_eq!(link.machine.wake_at(NOON), None, "no alarm is set for it");
    assert_eq!(link.reads(ReadEnd::Stored), Some(Job::CheckToken));
}

#[test]
fn a_limit_of_the_source_delays_a_check() {
    let mut link = Link::active();
    link.syncs();
    let minutes = Disposition::RateLimited { retry_after: Some(Duration::from_secs(600)) };
    link.reads(ReadEnd::Failed(minutes));
    assert_eq!(link.step(Input::Doubted(OLD)), None);
    assert_eq!((link.wakes(), link.now), (prompt(Cause::Manual), after(660)), "the read comes first");
    assert_eq!(link.reads(ReadEnd::Stored), Some(Job::CheckToken));
}

#[test]
fn other_settings_repair_the_subscription_and_open_tokens() {
    let reloaded = |lacks_fields| Input::Reloaded { pace: pace(), lacks_fields, spread: Duration::from_secs(10) };
    let mut link = Link::active();
    assert_eq!(link.step(reloaded(false)), None);
    assert!(link.machine.wake_at(NOON) > Some(after(3600)));
    assert_eq!(link.step(reloaded(true)), None);
    assert_eq!((link.wakes(), link.now), (Some(Job::Subscribe), after(5)));
    let faster = Pace { poll_interval: Duration::from_secs(60), ..pace() };
    let mut link = Link::new(Some(Taken::unreadable(OLD)));
    assert!(link.machine.lacks_key() && link.machine.is_parked());
    let input = Input::Reloaded { pace: faster, lacks_fields: false, spread: Duration::ZERO };
    assert_eq!(link.step(input), Some(Job::TakeToken));
    assert_eq!(link.step(Input::Took(Some(taken(OLD)))), prompt(Cause::Link));
    assert!(!link.machine.lacks_key() && link.machine.next_poll_at() <= Some(after(60)));
    let mut link = Link::new(None);
    assert_eq!(link.step(reloaded(true)), None, "the link is gone");
}

#[test]
fn the_object_is_compared_by_then() {
    let mut link = Link::active();
    assert_eq!(link.step(Input::Verify(after(30))), None);
    let read = Read { poll: true, prompt: false };
    let poll = Job::Read { read, fallback: Cause::Poll, subscribe: false };
    assert_eq!((link.wakes(), link.now), (Some(poll), after(30)));
}

#[test]
fn a_process_that_ends_begins_nothing() {
    let mut link = Link::active();
    link.facts.stopping = true;
    for input in [Input::Doubted(OLD), Input::Verify(NOON), Input::Look(Spread::default())] {
        assert_eq!((link.step(input), link.machine.wake_at(link.now)), (None, None));
    }
    assert_eq!((link.syncs(), link.machine.wake_at(NOON)), (None, None));
    assert_eq!(link.machine.under_way(), None);
}

#[test]
fn what_a_start_finds_is_spread() {
    let token = Taken { lacks_fields: true, checked: false, ..taken(OLD) };
    let (spread, long) = (Duration::from_secs(60), Duration::from_secs(3600));
    let machine = Machine::new(pace(), 0.5, None, spread, Some(&token), NOON);
    assert_eq!(machine.next_poll_at(), Some(after(30)));
    let machine = Machine::new(pace(), 0.5, Some(NOON), spread, Some(&token), NOON);
    assert_eq!(machine.wake_at(NOON), Some(after(30)), "the subscription");
    let machine = Machine::new(pace(), 0.5, Some(NOON), long, Some(&Taken { lacks_fields: false, ..token }), NOON);
    assert!(machine.wake_at(NOON) > Some(after(3600)), "many checks would come at once");
    for parked in [None, Some(Taken { active: false, ..taken(OLD) }), Some(Taken::unreadable(OLD))] {
        let machine = Machine::new(pace(), 0.5, None, spread, parked.as_ref(), NOON);
        assert!(machine.is_parked() && machine.wake_at(NOON).is_none());
    }
}

fn inputs() -> impl Strategy<Value = (u64, Input)> {
    let ends = prop_oneof![
        Just(JobEnd { read: Some(ReadEnd::Stored), ..JobEnd::default() }),
        Just(JobEnd { read: Some(ReadEnd::NotCompared), ..JobEnd::default() }),
        Just(JobEnd { read: Some(ReadEnd::Failed(Disposition::Retry)), ..JobEnd::default() }),
        Just(JobEnd { read: Some(ReadEnd::Failed(Disposition::Park(ParkReason::Expired))), ..JobEnd::default() }),
    ];
    let input = prop_oneof![
        Just(Input::Woke),
        Just(Input::Due(Cause::Webhook)),
        Just(Input::Due(Cause::Manual)),
        Just(Input::Hinted),
        Just(Input::Doubted(OLD)),
        Just(Input::Doubted(NEW)),
        Just(Input::Relinked),
        Just(Input::Parked),
        Just(Input::Look(Spread::default())),
        Just(Input::Verify(NOON)),
        // The number is that of the job under way.
        ends.prop_map(|end| Input::Ended(0, end)),
    ];
    (0u64..5000, input)
}

fn facts() -> impl Strategy<Value = Facts> {
    let generation = prop_oneof![Just(Some(OLD)), Just(Some(NEW)), Just(None)];
    let parked = prop_oneof![3 => Just(None), 1 => Just(Some(ParkReason::Expired))];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (generation, parked, flags).prop_map(|(generation, parked, (hinted, due, hastened, repeated))| Facts {
        generation,
        parked: parked.filter(|_| generation.is_some()),
        hinted,
        unclaimed: due.then_some(Cause::Poll),
        hastened: (due && hastened).then_some(Cause::Webhook),
        due,
        repeated,
        stopping: false,
    })
}

proptest! {
    /// Whatever happens: no job begins with a token that the store does not hold, none while the link is parked, and
    /// a machine that was shown the truth reads what is owed and never sleeps for ever.
    #[test]
    fn it_follows_the_store(steps in proptest::collection::vec((inputs(), facts()), 0..80)) {
        let mut link = Link::active();
        for ((wait, input), facts) in steps {
            link.now = link.now.plus(Duration::from_millis(wait));
            link.facts = facts;
            let input = match input {
                Input::Ended(_, mut end) => {
                    let Some(number) = link.machine.under_way() else { continue };
                    // Ends of another kind of job than was begun do not come.
                    end.read = end.read.filter(|_| link.machine.wake_at(link.now).is_none());
                    Input::Ended(number, end)
                }
                input => input,
            };
            let mut job = link.step(input);
            if job == Some(Job::TakeToken) {
                let active = link.facts.parked.is_none();
                let token = link.facts.generation.map(|generation| Taken { active, ..taken(generation) });
                job = link.step(Input::Took(token));
                prop_assert_ne!(job, Some(Job::TakeToken));
            }
            if job.is_some() {
                prop_assert!(link.facts.generation.is_none() || link.machine.generation() == link.facts.generation);
                prop_assert!(!link.machine.is_parked());
            }
            prop_assert_eq!(job.is_some() && link.machine.under_way() != Some(link.number), false);
        }
        link.facts = Facts { generation: Some(Generation(9)), ..Facts::default() };
        prop_assert_eq!(link.step(Input::Look(Spread::default())), Some(Job::TakeToken));
        prop_assert!(is_prompt(link.step(Input::Took(Some(taken(Generation(9))))), Cause::Link));
        link.reads(ReadEnd::Stored);
        prop_assert!(link.machine.under_way().is_some() || link.machine.wake_at(link.now).is_some());
    }
}

#[test]
fn a_webhook_that_a_read_has_answered_meanwhile_begins_none() {
    let mut link = Link::new(Some(taken(OLD)));
    link.facts.unclaimed = None;
    assert_eq!(link.step(Input::DueSince(NOON)), None);
    link.now = after(2);
    (link.facts.unclaimed, link.facts.due) = (Some(Cause::Webhook), true);
    assert_eq!(link.step(Input::DueSince(NOON)), prompt(Cause::Webhook));
}

#[test]
fn a_read_that_lets_others_go_first_is_raised_once_somebody_asks_for_it() {
    let mut link = Link::active();
    (link.facts.unclaimed, link.facts.due) = (Some(Cause::Poll), true);
    assert_eq!(link.step(Input::Look(spread(0))), found(Cause::Poll));
    assert_eq!((link.step(Input::Due(Cause::Poll)), link.raised), (None, None));
    let number = link.number;
    for cause in [Cause::Webhook, Cause::Manual] {
        assert_eq!((link.step(Input::Due(cause)), link.raised), (None, Some(number)));
    }
    // It began after all of that.
    (link.facts.unclaimed, link.facts.due) = (None, false);
    let end = JobEnd { read: Some(ReadEnd::Stored), ..JobEnd::default() };
    assert_eq!((link.step(Input::Ended(number, end)), link.raised), (None, None));
    link.now = after(60);
    assert_eq!(link.step(Input::Woke), None);
}

#[test]
fn a_prompt_read_is_not_raised() {
    let mut link = Link::active();
    (link.facts.unclaimed, link.facts.due) = (Some(Cause::Link), true);
    assert!(is_prompt(link.step(Input::Due(Cause::Link)), Cause::Link));
    assert_eq!((link.step(Input::Due(Cause::Webhook)), link.raised), (None, None));
}

#[test]
fn a_webhook_for_a_mark_whose_read_is_spread_is_read_after_the_debounce() {
    let half_an_hour = spread(1_800_000);
    for cause in [Cause::Poll, Cause::Link] {
        let mut link = Link::active();
        (link.facts.unclaimed, link.facts.due) = (Some(cause), true);
        assert_eq!(link.step(Input::Look(half_an_hour)), None);
        assert_eq!(link.machine.wake_at(NOON), Some(after(900)));
        assert_eq!(link.step(Input::Due(Cause::Webhook)), None);
        assert_eq!(link.machine.wake_at(NOON), Some(after(2)));
        // It came before the page was there, or before a store that was opened again was looked into.
        let mut link = Link::active();
        (link.facts.unclaimed, link.facts.due, link.facts.hastened) = (Some(cause), true, Some(Cause::Webhook));
        assert_eq!(link.step(Input::Look(half_an_hour)), None);
        assert_eq!(link.machine.wake_at(NOON), Some(after(2)));
        link.now = after(2);
        assert_eq!(link.step(Input::Woke), prompt(Cause::Webhook));
    }
}

#[test]
fn a_shop_that_is_frozen_locked_or_closed_is_asked_once_a_day_and_nothing_else_is_done_meanwhile() {
    for why in [ParkReason::ShopFrozen, ParkReason::ShopLocked, ParkReason::ShopInactive] {
        is_asked_once_a_day(why);
    }
}

fn is_asked_once_a_day(why: ParkReason) {
    let mut link = Link::active();
    link.syncs();
    link.reads(ReadEnd::Failed(Disposition::Park(why)));
    assert_eq!(link.parking.map(|parking| parking.why), Some(why));
    link.facts = Facts { parked: Some(why), unclaimed: Some(Cause::Manual), ..link.facts.clone() };
    let mut asked = Vec::new();
    for end in [
        CheckEnd::Dead(ParkReason::ShopFrozen),
        CheckEnd::Failed(Disposition::Park(ParkReason::ShopLocked)),
        CheckEnd::Failed(Disposition::Park(ParkReason::ShopInactive)),
        CheckEnd::Dead(ParkReason::ShopFrozen),
    ] {
        assert_eq!(link.wakes(), Some(Job::CheckToken));
        asked.push(link.now);
        assert_eq!(link.syncs(), None, "no read begins");
        assert_eq!(link.ends(checks(end)), None);
        assert_eq!(link.parking, None, "it is said once");
    }
    assert!(asked.windows(2).all(|two| two[1].since(two[0]) == DAY), "{asked:?}");
    // Where Shopify does not say, it is asked sooner.
    assert_eq!(link.wakes(), Some(Job::CheckToken));
    link.ends(checks(CheckEnd::Failed(Disposition::Retry)));
    assert!(link.machine.wake_at(link.now).unwrap().since(link.now) < DAY / 12);
    assert_eq!(link.wakes(), Some(Job::CheckToken));
    assert_eq!(link.ends(checks(CheckEnd::Answered)), None);
    // The store answers that with another generation.
    link.facts = Facts { generation: Some(NEW), parked: None, ..link.facts.clone() };
    assert_eq!(link.step(Input::Relinked), Some(Job::TakeToken));
    assert!(is_prompt(link.step(Input::Took(Some(taken(NEW)))), Cause::Link));
}

#[test]
fn a_reason_that_does_not_pass_makes_no_check() {
    for why in [ParkReason::Uninstalled, ParkReason::ShopGone, ParkReason::ScopeMissing, ParkReason::Expired] {
        let mut link = Link::active();
        link.syncs();
        link.reads(ReadEnd::Failed(Disposition::Park(why)));
        link.facts.parked = Some(why);
        assert_eq!((link.step(Input::Woke), link.machine.wake_at(link.now)), (None, None));
    }
}
