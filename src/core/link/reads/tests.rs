//! Behaviour as "this input at this moment yields exactly this".

use super::*;
use proptest::prelude::*;

const NOON: MonoTime = MonoTime(1_795_341_600_000);

fn pace() -> Pace {
    Pace {
        debounce: Duration::from_secs(2),
        burst: 3,
        refill: Duration::from_secs(60),
        poll_interval: Duration::from_secs(86_400),
    }
}

fn reads() -> Reads {
    Reads::new(pace(), 0.5, schedule::next_slot(0.5, pace().poll_interval, NOON), NOON)
}

fn after(secs: u64) -> MonoTime {
    NOON.plus(Duration::from_secs(secs))
}

const PROMPT: Option<Read> = Some(Read { poll: false, prompt: true });

#[test]
fn a_burst_is_one_read_after_the_debounce() {
    let mut m = reads();
    for ms in 0..1000 {
        assert_eq!(m.step(MonoTime(NOON.0 + ms), ReadInput::Due(Cause::Webhook), 0.5), None);
    }
    assert_eq!(m.wake_at(after(1)), Some(after(2)));
    assert_eq!(m.step(after(1), ReadInput::Woke, 0.5), None);
    assert_eq!(m.step(after(2), ReadInput::Woke, 0.5), PROMPT);
    assert_eq!(m.wake_at(after(2)), None);
}

#[test]
fn what_comes_during_a_read_is_read_once_more() {
    let mut m = reads();
    m.step(NOON, ReadInput::Due(Cause::Manual), 0.5).unwrap();
    assert_eq!(m.step(after(1), ReadInput::Due(Cause::Webhook), 0.5), None);
    assert_eq!(m.step(after(2), ReadInput::Ended(Ended::Stored), 0.5), None);
    assert_eq!(m.step(after(3), ReadInput::Woke, 0.5), PROMPT);
    assert_eq!(m.step(after(4), ReadInput::Ended(Ended::Stored), 0.5), None);
    assert_eq!(m.wake_at(after(4)), Some(m.poll_at()));
}

#[test]
fn a_link_and_a_sync_are_read_at_once_even_with_an_empty_bucket() {
    let mut m = reads();
    for secs in 0..5 {
        assert_eq!(m.step(after(secs), ReadInput::Due(Cause::Manual), 0.5), PROMPT);
        m.step(after(secs), ReadInput::Ended(Ended::Stored), 0.5);
    }
    assert_eq!(m.step(after(10), ReadInput::Due(Cause::Webhook), 0.5), None);
    assert!(m.wake_at(after(10)).unwrap() > after(60));
}

#[test]
fn failures_back_off_and_stay_owed() {
    let mut m = reads();
    m.step(NOON, ReadInput::Due(Cause::Link), 0.5).unwrap();
    m.step(NOON, ReadInput::Ended(Ended::Failed), 1.0);
    assert_eq!(m.wake_at(NOON), Some(after(2)));
    assert_eq!(m.step(after(2), ReadInput::Woke, 1.0), PROMPT);
    m.step(after(2), ReadInput::Ended(Ended::Failed), 1.0);
    assert_eq!(m.wake_at(after(2)), Some(after(6)));
    m.step(after(6), ReadInput::Woke, 1.0).unwrap();
    m.step(after(6), ReadInput::Ended(Ended::Stored), 1.0);
    assert_eq!(m.failures(), 0);
    assert_eq!(m.wake_at(after(6)), Some(m.poll_at()));
}

#[test]
fn being_held_is_waited_out_and_is_no_failure() {
    let mut m = reads();
    m.step(NOON, ReadInput::Due(Cause::Webhook), 0.5);
    m.step(after(2), ReadInput::Woke, 0.5).unwrap();
    m.step(after(2), ReadInput::Ended(Ended::Held(Duration::from_secs(600))), 0.0);
    assert_eq!(m.wake_at(after(2)), Some(after(602)));
    assert_eq!(m.step(after(30), ReadInput::Due(Cause::Manual), 0.5), None, "a block is obeyed by everybody");
    assert_eq!(m.failures(), 0);
}

#[test]
fn a_parked_link_is_not_read_until_it_has_a_new_token() {
    let mut m = reads();
    m.step(NOON, ReadInput::Due(Cause::Webhook), 0.5);
    m.step(after(2), ReadInput::Woke, 0.5).unwrap();
    m.step(after(3), ReadInput::Parked, 0.5);
    assert!(m.is_parked(), "a refusal ends a read, too");
    for input in
        [ReadInput::Due(Cause::Manual), ReadInput::Due(Cause::Webhook), ReadInput::Woke, ReadInput::Repaced(pace())]
    {
        assert_eq!(m.step(after(200_000), input, 0.5), None);
    }
    assert_eq!(m.wake_at(after(200_000)), None);
    assert!(m.step(after(200_001), ReadInput::Revived, 0.5).is_some());
}

#[test]
fn a_new_token_reads_at_once_whatever_the_old_one_was_doing() {
    let mut m = reads();
    let slot = m.poll_at();
    m.step(slot, ReadInput::Due(Cause::Manual), 0.5).unwrap();
    // More is owed while the old token's read hangs.
    m.step(slot, ReadInput::Due(Cause::Webhook), 0.5);
    assert!(m.step(slot.plus(Duration::from_secs(9)), ReadInput::Revived, 0.5).is_some());
    m.step(slot.plus(Duration::from_secs(10)), ReadInput::Ended(Ended::Stored), 0.5);
    assert!(m.wake_at(slot.plus(Duration::from_secs(10))).is_some(), "it must not wait for a read that nobody makes");
}

#[test]
fn the_poll_comes_in_its_slot_and_again_a_day_later() {
    let mut m = reads();
    let slot = m.poll_at();
    assert_eq!(m.step(slot, ReadInput::Woke, 0.5), Some(Read { poll: true, prompt: false }));
    m.step(slot, ReadInput::Ended(Ended::Stored), 0.5);
    let next = m.poll_at();
    assert!(next > slot && next <= slot.plus(Duration::from_secs(86_400)));
}

#[test]
fn a_shorter_interval_holds_at_once() {
    let mut m = reads();
    m.step(NOON, ReadInput::Repaced(Pace { poll_interval: Duration::from_secs(60), ..pace() }), 0.5);
    assert!(m.poll_at() <= after(60));
}

#[test]
fn what_was_owed_before_a_start_is_spread() {
    let mut m = reads();
    assert_eq!(m.step(NOON, ReadInput::DueWithin(Duration::from_secs(10)), 0.5), None);
    let behind_others = Read { poll: false, prompt: false };
    assert_eq!(m.step(after(5), ReadInput::Woke, 0.5), Some(behind_others));
}

#[test]
fn what_was_found_and_is_asked_for_again_is_prompt() {
    let mut m = reads();
    assert_eq!(m.step(NOON, ReadInput::DueWithin(Duration::from_secs(10)), 0.5), None);
    assert_eq!(m.step(after(1), ReadInput::Due(Cause::Webhook), 0.5), None);
    assert_eq!(m.step(after(5), ReadInput::Woke, 0.5), PROMPT);
}

#[test]
fn a_poll_answers_for_what_is_owed_a_moment_later() {
    let mut m = reads();
    let slot = m.poll_at();
    // A look for pending marks after a start, and a webhook within its debounce.
    assert_eq!(m.step(MonoTime(slot.0 - 1), ReadInput::DueWithin(Duration::from_millis(10)), 0.5), None);
    assert_eq!(m.step(slot, ReadInput::Due(Cause::Webhook), 0.5), Some(Read { poll: true, prompt: false }));
    assert_eq!(m.step(slot, ReadInput::Ended(Ended::Stored), 0.5), None);
    assert_eq!(m.wake_at(slot), Some(m.poll_at()), "one read for all of them");
    assert!(m.poll_at() > slot);
    // A webhook during the read causes one more read.
    let slot = m.poll_at();
    m.step(slot, ReadInput::Woke, 0.5).unwrap();
    m.step(slot, ReadInput::Due(Cause::Webhook), 0.5);
    m.step(slot, ReadInput::Ended(Ended::Stored), 0.5);
    assert_eq!(m.step(slot.plus(pace().debounce), ReadInput::Woke, 0.5), PROMPT);
}

#[test]
fn what_a_poll_was_to_answer_for_stays_owed_when_it_fails() {
    let mut m = reads();
    let slot = m.poll_at();
    m.step(slot, ReadInput::Due(Cause::Webhook), 0.5).unwrap();
    m.step(slot, ReadInput::Ended(Ended::Failed), 0.5);
    // The poll is moved away by other settings; the webhook is not.
    m.step(slot, ReadInput::Repaced(Pace { poll_interval: Duration::from_secs(7 * 86_400), ..pace() }), 0.5);
    assert!(m.poll_at() > slot.plus(Duration::from_secs(3600)));
    assert_eq!(m.step(slot.plus(Duration::from_secs(10)), ReadInput::Woke, 0.5), PROMPT);
}

#[test]
fn a_poll_that_cannot_compare_owes_the_comparison_alone() {
    let mut m = reads();
    let slot = m.poll_at();
    let poll = Read { poll: true, prompt: false };
    assert_eq!(m.step(slot, ReadInput::Due(Cause::Webhook), 0.5), Some(poll));
    assert_eq!(m.step(slot, ReadInput::Ended(Ended::NotCompared), 0.0), None);
    let compared = slot.plus(COMPARE_AGAIN);
    assert_eq!((m.failures(), m.poll_at(), m.wake_at(slot)), (0, compared, Some(compared)));
    // What is asked for meanwhile is read at its own pace, and compares nothing.
    assert_eq!(m.step(slot, ReadInput::Due(Cause::Webhook), 0.5), None);
    assert_eq!(m.step(slot.plus(pace().debounce), ReadInput::Woke, 0.5), PROMPT);
    assert_eq!(m.step(slot.plus(pace().debounce), ReadInput::Ended(Ended::Stored), 0.5), None);
    assert_eq!(m.step(compared, ReadInput::Woke, 0.5), Some(poll));
    m.step(compared, ReadInput::Ended(Ended::Stored), 0.5);
    assert!(m.poll_at() > compared.plus(COMPARE_AGAIN));
    // A poll that comes sooner makes the comparison.
    m.step(compared, ReadInput::Repaced(Pace { poll_interval: Duration::from_secs(60), ..pace() }), 0.5);
    m.step(m.poll_at(), ReadInput::Woke, 0.5).unwrap();
    let now = m.poll_at();
    m.step(now, ReadInput::Ended(Ended::NotCompared), 0.5);
    assert_eq!(m.poll_at(), now.plus(Duration::from_secs(60)));
}

#[test]
fn what_the_store_does_not_owe_is_not_read() {
    let mut m = reads();
    m.step(NOON, ReadInput::Due(Cause::Link), 0.5).unwrap();
    m.step(NOON, ReadInput::Due(Cause::Manual), 0.5);
    m.nothing_is_owed();
    assert_eq!(m.step(after(1), ReadInput::Ended(Ended::Stored), 0.5), None);
    assert_eq!(m.wake_at(after(1)), Some(m.poll_at()));
}

/// A link, the mark in its store, and a page that changes.
struct Changing {
    m: Reads,
    now: MonoTime,
    /// A mark stands that no read has claimed.
    mark: bool,
    repeated: bool,
    ends_at: Option<MonoTime>,
    began: Vec<MonoTime>,
}

/// How long a read takes here.
const READ: Duration = Duration::from_millis(300);

impl Changing {
    fn new(pace: Pace) -> Changing {
        let poll_at = schedule::next_slot(0.5, pace.poll_interval, NOON);
        let m = Reads::new(pace, 0.5, poll_at, NOON);
        Changing { m, now: NOON, mark: false, repeated: false, ends_at: None, began: Vec::new() }
    }

    fn step(&mut self, input: ReadInput) {
        if std::mem::take(&mut self.repeated) {
            self.m.hear(self.now);
        }
        if self.m.step(self.now, input, 0.5).is_some() {
            self.mark = false;
            self.ends_at = Some(self.now.plus(READ));
            self.began.push(self.now);
        }
    }

    fn until(&mut self, then: MonoTime) {
        while let Some(at) = self.ends_at.or(self.m.wake_at(self.now)).filter(|at| *at <= then) {
            self.now = at.max(self.now);
            if self.ends_at.take().is_some() {
                if !self.mark {
                    self.m.nothing_is_owed();
                }
                self.step(ReadInput::Ended(Ended::Stored));
            } else {
                self.step(ReadInput::Woke);
            }
        }
        self.now = then;
    }

    fn deliver(&mut self) {
        self.repeated = true;
        if !std::mem::replace(&mut self.mark, true) {
            self.step(ReadInput::Due(Cause::Webhook));
        }
    }

    /// A delivery each `apart` for so long; returns the moment of the last one.
    fn burst(&mut self, apart: Duration, length: Duration) -> MonoTime {
        let end = self.now.plus(length);
        while self.now.plus(apart) <= end {
            self.deliver();
            self.until(self.now.plus(apart));
        }
        self.deliver();
        self.now
    }

    /// When the last delivery was read, from `last` on.
    fn settles(&mut self, last: MonoTime) -> Duration {
        self.until(last.plus(Duration::from_secs(600)));
        assert!(!self.mark, "something is owed for ever");
        self.began.last().unwrap().since(last)
    }
}

#[test]
fn ten_seconds_of_deliveries_are_three_reads_and_the_last_one_is_read_soon() {
    let mut page = Changing::new(pace());
    let last = page.burst(Duration::from_millis(100), Duration::from_secs(10));
    let late = page.settles(last);
    assert!(late <= 2 * QUIET, "{late:?}");
    assert_eq!(page.began.len(), 3);
    assert_eq!(page.began[0], after(2), "the first change is read after its debounce");
}

#[test]
fn a_page_that_goes_on_changing_is_read_once_a_refill() {
    let mut page = Changing::new(pace());
    let last = page.burst(Duration::from_millis(100), Duration::from_secs(3630));
    let reads = page.began.len();
    assert!((60..=63).contains(&reads), "{reads}");
    let longest = page.began.windows(2).map(|pair| pair[1].since(pair[0])).max().unwrap();
    assert!(longest <= Duration::from_secs(61), "{longest:?}");
    assert!(page.settles(last) <= 2 * QUIET, "and the end of it is read as soon as that of a short burst");
}

#[test]
fn a_bucket_of_one_token_keeps_nothing() {
    let mut page = Changing::new(Pace { burst: 1, ..pace() });
    let last = page.burst(Duration::from_millis(100), Duration::from_secs(10));
    assert!(page.settles(last) < pace().refill);
    assert_eq!(page.began.len(), 2);
    assert_eq!(page.began[0], after(2));
}

fn inputs() -> impl Strategy<Value = (u64, ReadInput)> {
    let input = prop_oneof![
        Just(ReadInput::Due(Cause::Webhook)),
        Just(ReadInput::Due(Cause::Manual)),
        Just(ReadInput::Woke),
        Just(ReadInput::Ended(Ended::Stored)),
        Just(ReadInput::Ended(Ended::NotCompared)),
        Just(ReadInput::Ended(Ended::Failed)),
        Just(ReadInput::Ended(Ended::Held(Duration::from_secs(30)))),
        Just(ReadInput::Parked),
        Just(ReadInput::Revived),
        Just(ReadInput::Repaced(pace())),
    ];
    (0u64..5000, input)
}

proptest! {
    /// However a page changes: over no stretch of time are there more reads than a burst and one a refill, and the end
    /// of a burst is read soon, unless the end of another one was read within the refill before.
    #[test]
    fn the_bucket_is_spent_within_its_bounds_and_ends_are_read_soon(
        bursts in proptest::collection::vec((50u64..3000, 0u64..90_000, 0u64..150_000), 1..8),
        burst in 2u32..6,
        refill in 5u64..90,
    ) {
        let refill = Duration::from_secs(refill);
        let mut page = Changing::new(Pace { burst, refill, ..pace() });
        let mut ended: Option<MonoTime> = None;
        for (apart, length, pause) in bursts {
            let last = page.burst(Duration::from_millis(apart), Duration::from_millis(length));
            page.until(last.plus(Duration::from_millis(pause) + 3 * QUIET));
            if ended.is_none_or(|read| last.since(read) >= refill) {
                let late = page.began.last().unwrap().since(last);
                prop_assert!(!page.mark && late <= 2 * QUIET, "{:?} after {:?}", late, length);
            }
            ended = page.began.last().copied();
        }
        page.settles(page.now);
        for (n, from) in page.began.iter().enumerate() {
            for (more, to) in page.began[n..].iter().enumerate() {
                let allowed = burst as usize + (to.since(*from).as_millis() / refill.as_millis()) as usize;
                prop_assert!(more < allowed, "{} reads where {} are allowed", more + 1, allowed);
            }
        }
    }

    /// Whatever happens, an unparked link with something owed is read in the end, and never twice at once.
    #[test]
    fn what_is_owed_is_read_in_the_end(steps in proptest::collection::vec(inputs(), 0..80)) {
        let (mut m, mut now, mut reading) = (reads(), NOON, false);
        for (wait, input) in steps {
            now = now.plus(Duration::from_millis(wait));
            let ends = matches!(input, ReadInput::Ended(_));
            if ends && !reading {
                continue;
            }
            reading &= !ends && !matches!(input, ReadInput::Revived | ReadInput::Parked);
            let read = m.step(now, input, 0.5).is_some();
            prop_assert!(!(read && reading), "two reads at once");
            reading |= read;
        }
        m.step(now, ReadInput::Revived, 0.5).into_iter().for_each(|_| reading = true);
        if reading {
            m.step(now, ReadInput::Ended(Ended::Stored), 0.5).into_iter().for_each(|_| ());
            m.step(now, ReadInput::Ended(Ended::Stored), 0.5);
        }
        let began = m.step(now, ReadInput::Due(Cause::Webhook), 0.5).is_some() || {
            let at = m.wake_at(now).unwrap();
            prop_assert!(at <= now.plus(Duration::from_secs(3600)), "owed, and asleep for too long");
            m.step(at, ReadInput::Woke, 0.5).is_some()
        };
        prop_assert!(began);
    }
}

#[test]
fn a_webhook_that_was_heard_earlier_is_read_when_its_debounce_is_over() {
    let mut m = reads();
    assert_eq!(m.step(after(1), ReadInput::DueSince(NOON), 0.5), None);
    assert_eq!(m.wake_at(after(1)), Some(after(2)));
    assert_eq!(m.step(after(2), ReadInput::Woke, 0.5), PROMPT);
    m.step(after(3), ReadInput::Ended(Ended::Stored), 0.5);
    assert!(m.plenty_at() <= after(3), "two tokens are left");
    assert_eq!(m.step(after(7), ReadInput::DueSince(after(5)), 0.5), PROMPT);
    m.step(after(8), ReadInput::Ended(Ended::Stored), 0.5);
    // The last token waits for the quiet, which counts from now: others may have come meanwhile.
    assert!(m.plenty_at() > after(12));
    assert_eq!(m.step(after(12), ReadInput::DueSince(after(10)), 0.5), None);
    assert_eq!(m.wake_at(after(12)), Some(after(16)));
}
