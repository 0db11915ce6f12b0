use super::*;
use crate::graph::{DeadReason, ThrottleScope};
use crate::model::UserId;

const STRAGGLER: Duration = Duration::from_secs(40);
const NONE: Duration = Duration::ZERO;

fn at(secs: u64) -> Millis {
    Millis(1_000_000 + secs * 1000)
}

fn page(n: u64) -> Chore {
    Chore::Unsubscribe(n.to_string().parse().unwrap())
}

fn standing(chore: Chore, seq: u64) -> Standing {
    Standing { chore, seq, void: false, wait: NONE, left: GIVE_UP }
}

fn void(chore: Chore, seq: u64) -> Standing {
    Standing { void: true, ..standing(chore, seq) }
}

const LOST: Ended = Ended::Later { hint: None, unanswered: true };

#[test]
fn a_chore_is_tried_until_it_is_done_and_then_goes() {
    let mut list = List::default();
    list.take_over(vec![standing(page(1), 7)], NONE, at(0));
    assert_eq!(list.next(at(0)), Some(Step::Try(page(1), 7)));
    assert_eq!((list.next(at(0)), list.wake_at()), (None, None), "one try at a time");
    list.ended(&page(1), 7, Ended::Later { hint: None, unanswered: false }, STRAGGLER, at(1), 1.0);
    assert_eq!(list.next(at(5)), None);
    assert_eq!(list.wake_at(), Some(at(6)));
    assert_eq!(list.next(at(6)), Some(Step::Try(page(1), 7)));
    list.ended(&page(1), 7, Ended::Done, STRAGGLER, at(7), 1.0);
    assert_eq!(list.next(at(7)), Some(Step::Close(page(1), 7, Why::Done)));
    list.closed(&page(1), 7, true, at(7));
    assert_eq!((list.next(at(9999)), list.wake_at()), (None, None));
}

#[test]
fn what_may_still_land_keeps_a_chore_that_is_done_or_void() {
    for overtaken in [false, true] {
        let mut list = List::default();
        list.take_over(vec![standing(page(1), 7)], NONE, at(0));
        list.next(at(0)).unwrap();
        list.ended(&page(1), 7, LOST, STRAGGLER, at(20), 0.0);
        if overtaken {
            list.take_over(vec![void(page(1), 7)], NONE, at(21));
        } else {
            assert_eq!(list.next(at(30)), Some(Step::Try(page(1), 7)));
            list.ended(&page(1), 7, Ended::Done, STRAGGLER, at(31), 0.0);
        }
        assert_eq!(list.next(at(59)), None);
        let why = if overtaken { Why::Void } else { Why::Done };
        assert_eq!(list.next(at(60)), Some(Step::Close(page(1), 7, why)));
    }
}

#[test]
fn after_a_start_a_void_chore_waits_for_what_the_earlier_process_sent() {
    let mut list = List::default();
    list.take_over(vec![void(page(1), 7)], STRAGGLER, at(0));
    assert_eq!(list.next(at(39)), None);
    assert_eq!(list.next(at(40)), Some(Step::Close(page(1), 7, Why::Void)));
}

#[test]
fn the_end_of_an_earlier_chore_says_nothing_of_the_one_in_its_place() {
    let mut list = List::default();
    list.take_over(vec![standing(page(1), 7)], NONE, at(0));
    list.next(at(0)).unwrap();
    list.take_over(vec![standing(page(1), 9)], NONE, at(1));
    assert_eq!(list.next(at(1)), None, "the earlier one is under way");
    list.ended(&page(1), 7, Ended::Never, STRAGGLER, at(2), 0.0);
    assert_eq!(list.next(at(2)), Some(Step::Try(page(1), 9)));
    list.ended(&page(1), 9, Ended::Done, STRAGGLER, at(3), 0.0);
    assert_eq!(list.next(at(3)), Some(Step::Close(page(1), 9, Why::Done)));
    list.take_over(vec![standing(page(1), 11)], NONE, at(3));
    list.closed(&page(1), 9, true, at(4));
    assert_eq!(list.next(at(4)), Some(Step::Try(page(1), 11)));
}

#[test]
fn it_is_given_up_for_good_reasons_only() {
    let dead = GraphErrorKind::TokenDead { reason: DeadReason::Invalid };
    assert_eq!(Ended::of(&dead, true), Ended::Never);
    assert_eq!(Ended::of(&GraphErrorKind::PermissionMissing, true), Ended::Never);
    assert_eq!(Ended::of(&GraphErrorKind::Transient, false), LOST);
    assert_eq!(Ended::of(&GraphErrorKind::Misconfigured, true), Ended::Later { hint: None, unanswered: false });
    let hint = Some(Duration::from_secs(300));
    let held = GraphErrorKind::Throttled { scope: ThrottleScope::App, retry_after: hint };
    assert_eq!(Ended::of(&held, true), Ended::Later { hint, unanswered: false });

    let mut list = List::default();
    list.take_over(vec![standing(page(1), 1), standing(page(2), 2)], NONE, at(0));
    let both: Vec<Step> = std::iter::from_fn(|| list.next(at(0))).collect();
    for step in both {
        let Step::Try(chore, seq) = step else { panic!("both are tried") };
        let end = if chore == page(1) { Ended::Never } else { Ended::of(&held, true) };
        list.ended(&chore, seq, end, STRAGGLER, at(0), 0.0);
    }
    assert_eq!(list.next(at(0)), Some(Step::Close(page(1), 1, Why::Never)));
    list.closed(&page(1), 1, true, at(0));
    assert_eq!(list.wake_at(), Some(at(300)), "a hint is obeyed");
    let week = at(GIVE_UP.as_secs());
    assert_eq!(list.next(week), Some(Step::Close(page(2), 2, Why::TooOld)));
}

/// A deletion is told as done when this chore ends.
#[test]
fn a_delete_is_never_given_up() {
    let again = Chore::DeleteAgain(LinkKey::new(UserId::random(), "5".parse().unwrap()));
    let mut list = List::default();
    list.take_over(vec![Standing { left: NONE, ..standing(again.clone(), 1) }], STRAGGLER, at(0));
    assert_eq!(list.next(at(0)), Some(Step::Try(again.clone(), 1)), "after a standstill of weeks, too");
    list.ended(&again, 1, LOST, STRAGGLER, at(1), 0.0);
    assert_eq!(list.next(at(10 * GIVE_UP.as_secs())), Some(Step::Try(again, 1)));
}

#[test]
fn what_could_not_be_taken_from_the_store_is_taken_later() {
    let mut list = List::default();
    list.take_over(vec![standing(page(1), 1)], NONE, at(0));
    list.next(at(0)).unwrap();
    list.ended(&page(1), 1, Ended::Done, STRAGGLER, at(0), 0.0);
    list.next(at(0)).unwrap();
    list.closed(&page(1), 1, false, at(1));
    assert_eq!(list.next(at(1)), None);
    assert_eq!(list.next(at(7)), Some(Step::Close(page(1), 1, Why::Done)));
}

#[test]
fn many_go_a_few_at_a_time_and_a_wait_is_kept() {
    let mut list = List::default();
    let mut all: Vec<Standing> = (1..20).map(|n| standing(page(n), n)).collect();
    let link = LinkKey::new(UserId::random(), "5".parse().unwrap());
    let again = Standing { wait: STRAGGLER, ..standing(Chore::DeleteAgain(link.clone()), 99) };
    all.push(again);
    list.take_over(all, NONE, at(0));
    let first: Vec<Step> = std::iter::from_fn(|| list.next(at(0))).collect();
    assert_eq!((first.len(), list.wake_at()), (AT_ONCE, None));
    let Step::Try(chore, seq) = &first[0] else { panic!("nothing is over") };
    list.ended(chore, *seq, Ended::Done, STRAGGLER, at(0), 0.0);
    assert!(!std::iter::from_fn(|| list.next(at(39))).any(|step| matches!(step, Step::Try(Chore::DeleteAgain(_), _))));
}

#[test]
fn a_key_is_read_back() {
    let link = LinkKey::new(UserId::random(), "5".parse().unwrap());
    for chore in [page(12), Chore::Revoke("77".parse().unwrap()), Chore::DeleteAgain(link)] {
        assert_eq!(Chore::from_bytes(&chore.to_bytes()), Some(chore));
    }
    for bytes in [b"".as_slice(), b"u", b"x1", b"u../x", b"d123"] {
        assert_eq!(Chore::from_bytes(bytes), None);
    }
}
