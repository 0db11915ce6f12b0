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
    Reads::new(pace(), 0.5, NOON.plus(Duration::from_secs(40_000)))
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
    m.step(NOON, ReadInput::Ended(Ended::Failed { hint: None }), 1.0);
    assert_eq!(m.wake_at(NOON), Some(after(2)));
    assert_eq!(m.step(after(2), ReadInput::Woke, 1.0), PROMPT);
    m.step(after(2), ReadInput::Ended(Ended::Failed { hint: None }), 1.0);
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
    m.step(slot, ReadInput::Ended(Ended::Failed { hint: None }), 0.5);
    // The poll is moved away by other settings; the webhook is not.
    m.step(slot, ReadInput::Repaced(Pace { poll_interval: Duration::from_secs(7 * 86_400), ..pace() }), 0.5);
    assert!(m.poll_at() > slot.plus(Duration::from_secs(3600)));
    assert_eq!(m.step(slot.plus(Duration::from_secs(10)), ReadInput::Woke, 0.5), PROMPT);
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

fn inputs() -> impl Strategy<Value = (u64, ReadInput)> {
    let input = prop_oneof![
        Just(ReadInput::Due(Cause::Webhook)),
        Just(ReadInput::Due(Cause::Manual)),
        Just(ReadInput::Woke),
        Just(ReadInput::Ended(Ended::Stored)),
        Just(ReadInput::Ended(Ended::Failed { hint: None })),
        Just(ReadInput::Ended(Ended::Held(Duration::from_secs(30)))),
        Just(ReadInput::Parked),
        Just(ReadInput::Revived),
        Just(ReadInput::Repaced(pace())),
    ];
    (0u64..5000, input)
}

proptest! {
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
