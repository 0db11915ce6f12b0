use super::*;
use crate::core::health::ParkReason;
use crate::core::model::{LinkKey, UserId};

const IN_DOUBT: Duration = Duration::from_secs(40);
const NONE: Duration = Duration::ZERO;

fn at(secs: u64) -> MonoTime {
    MonoTime(1_000_000 + secs * 1000)
}

fn page(n: u64) -> Cleanup {
    Cleanup::Unsubscribe(n.to_string().parse().unwrap())
}

fn standing(cleanup: Cleanup, seq: u64) -> StandingCleanup {
    StandingCleanup { cleanup, seq, void: false, wait: NONE, left: GIVE_UP }
}

fn void(cleanup: Cleanup, seq: u64) -> StandingCleanup {
    StandingCleanup { void: true, ..standing(cleanup, seq) }
}

const LOST: TryEnd = TryEnd::Later { hint: None, unanswered: true };

#[test]
fn a_cleanup_is_tried_until_it_is_done_and_then_goes() {
    let mut list = CleanupQueue::default();
    list.take_over(vec![standing(page(1), 7)], NONE, at(0));
    assert_eq!(list.next(at(0)), Some(CleanupStep::Try(page(1), 7)));
    assert_eq!((list.next(at(0)), list.wake_at()), (None, None), "one try at a time");
    list.ended(&page(1), 7, TryEnd::Later { hint: None, unanswered: false }, IN_DOUBT, at(1), 1.0);
    assert_eq!(list.next(at(5)), None);
    assert_eq!(list.wake_at(), Some(at(6)));
    assert_eq!(list.next(at(6)), Some(CleanupStep::Try(page(1), 7)));
    list.ended(&page(1), 7, TryEnd::Done, IN_DOUBT, at(7), 1.0);
    assert_eq!(list.next(at(7)), Some(CleanupStep::Close(page(1), 7, CleanupEnd::Done)));
    list.closed(&page(1), 7, true, at(7));
    assert_eq!((list.next(at(9999)), list.wake_at()), (None, None));
}

#[test]
fn what_may_still_land_keeps_a_cleanup_that_is_done_or_void() {
    for overtaken in [false, true] {
        let mut list = CleanupQueue::default();
        list.take_over(vec![standing(page(1), 7)], NONE, at(0));
        list.next(at(0)).unwrap();
        list.ended(&page(1), 7, LOST, IN_DOUBT, at(20), 0.0);
        if overtaken {
            list.take_over(vec![void(page(1), 7)], NONE, at(21));
        } else {
            assert_eq!(list.next(at(30)), Some(CleanupStep::Try(page(1), 7)));
            list.ended(&page(1), 7, TryEnd::Done, IN_DOUBT, at(31), 0.0);
        }
        assert_eq!(list.next(at(59)), None);
        let why = if overtaken { CleanupEnd::Void } else { CleanupEnd::Done };
        assert_eq!(list.next(at(60)), Some(CleanupStep::Close(page(1), 7, why)));
    }
}

#[test]
fn after_a_start_a_void_cleanup_waits_for_what_the_earlier_process_sent() {
    let mut list = CleanupQueue::default();
    list.take_over(vec![void(page(1), 7)], IN_DOUBT, at(0));
    assert_eq!(list.next(at(39)), None);
    assert_eq!(list.next(at(40)), Some(CleanupStep::Close(page(1), 7, CleanupEnd::Void)));
}

#[test]
fn the_end_of_an_earlier_cleanup_says_nothing_of_the_one_in_its_place() {
    let mut list = CleanupQueue::default();
    list.take_over(vec![standing(page(1), 7)], NONE, at(0));
    list.next(at(0)).unwrap();
    list.take_over(vec![standing(page(1), 9)], NONE, at(1));
    assert_eq!(list.next(at(1)), None, "the earlier one is under way");
    list.ended(&page(1), 7, TryEnd::Never, IN_DOUBT, at(2), 0.0);
    assert_eq!(list.next(at(2)), Some(CleanupStep::Try(page(1), 9)));
    list.ended(&page(1), 9, TryEnd::Done, IN_DOUBT, at(3), 0.0);
    assert_eq!(list.next(at(3)), Some(CleanupStep::Close(page(1), 9, CleanupEnd::Done)));
    list.take_over(vec![standing(page(1), 11)], NONE, at(3));
    list.closed(&page(1), 9, true, at(4));
    assert_eq!(list.next(at(4)), Some(CleanupStep::Try(page(1), 11)));
}

#[test]
fn it_is_given_up_for_good_reasons_only() {
    assert_eq!(TryEnd::of(Disposition::Park(ParkReason::Invalid), true), TryEnd::Never);
    assert_eq!(TryEnd::of(Disposition::Rejected, true), TryEnd::Never);
    assert_eq!(TryEnd::of(Disposition::Retry, false), LOST);
    assert_eq!(TryEnd::of(Disposition::Misconfigured, true), TryEnd::Later { hint: None, unanswered: false });
    let hint = Some(Duration::from_secs(300));
    let held = Disposition::RateLimited { retry_after: hint };
    assert_eq!(TryEnd::of(held, true), TryEnd::Later { hint, unanswered: false });

    let mut list = CleanupQueue::default();
    list.take_over(vec![standing(page(1), 1), standing(page(2), 2)], NONE, at(0));
    let both: Vec<CleanupStep> = std::iter::from_fn(|| list.next(at(0))).collect();
    for step in both {
        let CleanupStep::Try(cleanup, seq) = step else { panic!("both are tried") };
        let end = if cleanup == page(1) { TryEnd::Never } else { TryEnd::of(held, true) };
        list.ended(&cleanup, seq, end, IN_DOUBT, at(0), 0.0);
    }
    assert_eq!(list.next(at(0)), Some(CleanupStep::Close(page(1), 1, CleanupEnd::Never)));
    list.closed(&page(1), 1, true, at(0));
    assert_eq!(list.wake_at(), Some(at(300)), "a hint is obeyed");
    let week = at(GIVE_UP.as_secs());
    assert_eq!(list.next(week), Some(CleanupStep::Close(page(2), 2, CleanupEnd::TooOld)));
}

/// A deletion is reported as done when this cleanup ends.
#[test]
fn a_delete_is_never_given_up() {
    let again = Cleanup::DeleteAgain(LinkKey::new(UserId::random(), "5".parse().unwrap()).whole());
    let mut list = CleanupQueue::default();
    list.take_over(vec![StandingCleanup { left: NONE, ..standing(again.clone(), 1) }], IN_DOUBT, at(0));
    assert_eq!(list.next(at(0)), Some(CleanupStep::Try(again.clone(), 1)), "after a standstill of weeks, too");
    list.ended(&again, 1, LOST, IN_DOUBT, at(1), 0.0);
    assert_eq!(list.next(at(10 * GIVE_UP.as_secs())), Some(CleanupStep::Try(again, 1)));
}

#[test]
fn what_could_not_be_taken_from_the_store_is_taken_later() {
    let mut list = CleanupQueue::default();
    list.take_over(vec![standing(page(1), 1)], NONE, at(0));
    list.next(at(0)).unwrap();
    list.ended(&page(1), 1, TryEnd::Done, IN_DOUBT, at(0), 0.0);
    list.next(at(0)).unwrap();
    list.closed(&page(1), 1, false, at(1));
    assert_eq!(list.next(at(1)), None);
    assert_eq!(list.next(at(7)), Some(CleanupStep::Close(page(1), 1, CleanupEnd::Done)));
}

#[test]
fn many_go_a_few_at_a_time_and_a_wait_is_kept() {
    let mut list = CleanupQueue::default();
    let mut all: Vec<StandingCleanup> = (1..20).map(|n| standing(page(n), n)).collect();
    let link = LinkKey::new(UserId::random(), "5".parse().unwrap());
    let again = StandingCleanup { wait: IN_DOUBT, ..standing(Cleanup::DeleteAgain(link.whole()), 99) };
    all.push(again);
    list.take_over(all, NONE, at(0));
    let first: Vec<CleanupStep> = std::iter::from_fn(|| list.next(at(0))).collect();
    assert_eq!((first.len(), list.wake_at()), (AT_ONCE, None));
    let CleanupStep::Try(cleanup, seq) = &first[0] else { panic!("nothing is over") };
    list.ended(cleanup, *seq, TryEnd::Done, IN_DOUBT, at(0), 0.0);
    assert!(
        !std::iter::from_fn(|| list.next(at(39)))
            .any(|step| matches!(step, CleanupStep::Try(Cleanup::DeleteAgain(_), _)))
    );
}

#[test]
fn a_key_is_read_back() {
    let link = LinkKey::new(UserId::random(), "5".parse().unwrap());
    let shop: ShopName = "some-shop.myshopify.com".parse().unwrap();
    let of_shop = [Cleanup::Uninstall(shop.clone()), Cleanup::Redact(shop)];
    let others = [page(12), Cleanup::Revoke("77".parse().unwrap()), Cleanup::DeleteAgain(link.whole())];
    for cleanup in others.into_iter().chain(of_shop) {
        assert_eq!(Cleanup::from_bytes(&cleanup.to_bytes()), Some(cleanup));
    }
    for bytes in [b"".as_slice(), b"u", b"x1", b"u../x", b"d123"] {
        assert_eq!(Cleanup::from_bytes(bytes), None);
    }
}
