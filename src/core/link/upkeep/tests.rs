//! Each rule of the upkeep: a moment and an end lead to exactly this.

use super::*;

const NOON: MonoTime = MonoTime(1_795_341_600_000);
const HOUR: Duration = Duration::from_secs(60 * 60);

fn after(secs: u64) -> MonoTime {
    NOON.plus(Duration::from_secs(secs))
}

fn no_slot() -> MonoTime {
    panic!("no slot is wanted")
}

/// A check that is not due for hours.
fn check() -> Check {
    let mut check = Check::new(0.25, NOON);
    check.due_at = NOON.plus(6 * HOUR);
    check
}

#[test]
fn a_subscription_that_failed_is_tried_again_more_and_more_slowly() {
    for passing in [Disposition::Retry, Disposition::Misconfigured, Disposition::RateLimited { retry_after: None }] {
        let mut subscription = Subscription::default();
        subscription.lacks_fields(NOON);
        subscription.begins();
        for wait in [5, 10, 20, 40] {
            subscription.ended(SubscriptionEnd::Failed(passing), NOON, 1.0);
            assert_eq!(subscription.due_at(), Some(after(wait)), "{passing:?}");
        }
        assert!(!subscription.is_due(after(39)) && subscription.is_due(after(40)));
        for _ in 0..20 {
            subscription.ended(SubscriptionEnd::Failed(passing), NOON, 1.0);
        }
        assert_eq!(subscription.due_at(), Some(NOON.plus(HOUR)));
        subscription.ended(SubscriptionEnd::Confirmed, NOON, 1.0);
        assert_eq!((subscription.due_at(), subscription.is_due(after(100_000))), (None, false));
        subscription.ended(SubscriptionEnd::Failed(passing), NOON, 1.0);
        assert_eq!(subscription.due_at(), Some(after(5)), "success forgives");
    }
}

#[test]
fn a_refused_subscription_is_left_alone_for_hours_and_keeps_its_backoff() {
    let mut subscription = Subscription::default();
    subscription.ended(SubscriptionEnd::Failed(Disposition::Retry), NOON, 1.0);
    subscription.ended(SubscriptionEnd::Failed(Disposition::Rejected), NOON, 1.0);
    assert_eq!(subscription.due_at(), Some(NOON.plus(6 * HOUR)));
    subscription.ended(SubscriptionEnd::Failed(Disposition::Retry), NOON, 1.0);
    assert_eq!(subscription.due_at(), Some(after(10)));
}

#[test]
fn a_subscription_waits_as_long_as_a_limit_asks() {
    let mut subscription = Subscription::default();
    subscription.lacks_fields(NOON);
    subscription.begins();
    let limited = Disposition::RateLimited { retry_after: Some(HOUR) };
    subscription.ended(SubscriptionEnd::Failed(limited), NOON, 0.0);
    assert_eq!(subscription.due_at(), Some(NOON.plus(HOUR)));
}

#[test]
fn a_doubt_that_comes_during_a_check_causes_another() {
    let mut check = check();
    check.owe(NOON);
    assert!(check.begins(NOON, None));
    check.owe(after(5));
    check.ended(CheckEnd::Answered, after(6), 0.0);
    assert!(check.begins(after(6), None), "the answer may be older than the doubt");
    check.ended(CheckEnd::Answered, after(7), 0.0);
    assert!(check.due_at() > after(7));
}

#[test]
fn fields_that_are_missed_during_a_repair_are_another_repair_s() {
    for end in [SubscriptionEnd::Confirmed, SubscriptionEnd::Failed(Disposition::Rejected)] {
        let mut subscription = Subscription::default();
        subscription.lacks_fields(NOON);
        subscription.begins();
        subscription.lacks_fields(after(7));
        subscription.ended(end, after(3), 1.0);
        assert_eq!(subscription.due_at(), Some(after(7)));
        subscription.begins();
        subscription.ended(SubscriptionEnd::Confirmed, after(8), 1.0);
        assert_eq!(subscription.due_at(), None);
    }
}

#[test]
fn the_check_comes_in_its_slot_and_again_a_day_later() {
    let mut check = Check::new(0.25, NOON);
    let slot = check.due_at();
    assert_eq!(slot, schedule::next_check(0.25, token_check::EVERY, NOON));
    assert!(!check.begins(MonoTime(slot.0 - 1), None));
    assert!(check.begins(slot, None));
    check.ended(CheckEnd::Answered, slot, 1.0);
    assert_eq!(check.due_at(), slot.plus(token_check::EVERY));
}

#[test]
fn a_check_that_failed_is_tried_again_and_success_forgives() {
    let mut check = check();
    for wait in [60, 120, 240] {
        check.ended(CheckEnd::Failed(Disposition::Retry), NOON, 1.0);
        assert_eq!(check.due_at(), after(wait));
    }
    let named = Disposition::RateLimited { retry_after: Some(Duration::from_secs(600)) };
    check.ended(CheckEnd::Failed(named), NOON, 0.0);
    assert_eq!(check.due_at(), after(600));
    check.ended(CheckEnd::Answered, NOON, 1.0);
    check.ended(CheckEnd::Failed(Disposition::Rejected), NOON, 1.0);
    assert_eq!(check.due_at(), after(60));
    for _ in 0..20 {
        check.ended(CheckEnd::Failed(Disposition::RateLimited { retry_after: None }), NOON, 1.0);
    }
    assert_eq!(check.due_at(), NOON.plus(6 * HOUR));
}

#[test]
fn a_check_waits_until_a_limit_of_the_source_is_over() {
    let mut check = check();
    check.owe(NOON);
    assert!(!check.begins(NOON, Some(after(30))));
    assert_eq!(check.due_at(), after(90));
    assert!(!check.begins(after(89), Some(after(30))));
    assert!(check.begins(after(90), Some(after(30))), "the limit is over");
    let mut check = Check { due_at: NOON, ..check };
    assert!(check.begins(NOON, Some(NOON)));
}

#[test]
fn a_hint_brings_a_check_forward_into_a_slot() {
    let mut check = check();
    check.hint(NOON, || after(4));
    assert_eq!(check.due_at(), after(4));
    check.hint(NOON, no_slot);
    assert!(!check.begins(after(3), None) && check.begins(after(4), None));
    // A hint during the check is another check's.
    check.hint(after(5), || after(6));
    check.ended(CheckEnd::Answered, after(7), 1.0);
    assert_eq!(check.due_at(), after(6));
    assert!(check.begins(after(7), None));
    check.ended(CheckEnd::Answered, after(8), 1.0);
    assert_eq!(check.due_at(), schedule::next_check(0.25, token_check::EVERY, after(8)));
}

#[test]
fn a_hint_delays_no_check_that_comes_sooner() {
    let mut check = check();
    check.owe(NOON);
    check.hint(NOON, || after(4));
    assert_eq!(check.due_at(), NOON);
}

#[test]
fn hints_in_quick_succession_run_out() {
    let mut check = check();
    for _ in 0..3 {
        check.hint(NOON, || NOON);
        assert!(check.begins(NOON, None));
        check.ended(CheckEnd::Answered, NOON, 1.0);
    }
    check.hint(NOON, || NOON);
    assert_eq!(check.due_at(), after(300));
    // Another token does not bring back what was spent; the hint was about the earlier one.
    check.begin_anew(true, Duration::ZERO, NOON);
    assert_eq!(check.due_at(), schedule::next_check(0.25, token_check::EVERY, NOON));
    check.hint(NOON, || NOON);
    assert_eq!(check.due_at(), after(600));
}

#[test]
fn a_new_token_is_checked_soon_and_its_failures_are_its_own() {
    let mut check = check();
    check.ended(CheckEnd::Failed(Disposition::Retry), NOON, 1.0);
    check.begin_anew(false, Duration::ZERO, NOON);
    assert_eq!(check.due_at(), after(25));
    check.ended(CheckEnd::Failed(Disposition::Retry), NOON, 1.0);
    assert_eq!(check.due_at(), after(60));
}

#[test]
fn a_dead_token_leaves_the_rest_to_its_successor() {
    let (mut check, mut subscription) = (check(), Subscription::default());
    let standing = check.clone();
    check.ended(CheckEnd::Dead(ParkReason::Expired), NOON, 1.0);
    assert_eq!(check, standing);
    subscription.ended(SubscriptionEnd::Failed(Disposition::Park(ParkReason::Expired)), NOON, 1.0);
    assert_eq!(subscription, Subscription::default());
}
