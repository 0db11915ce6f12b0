//! The store in memory: what lies between a decision and its commit, and every end that a commit can have.

use std::pin::pin;

use super::*;
use crate::core::event::EventKey;
use crate::core::health::ParkReason;
use crate::store::events::{Begun, Sending};
use crate::store::stepped::{Committer, at_once, poll_once};

pub(super) const START: WallTime = WallTime(1_795_341_600_000);

pub(super) fn memory() -> (Store, Committer) {
    let (store, committer) = Store::in_memory(keyring(), START);
    store.switch_events(true);
    (store, committer)
}

/// Steps the committer until the operation ends.
pub(super) fn finish<R>(committer: &mut Committer, operation: impl Future<Output = R>) -> R {
    let mut operation = pin!(operation);
    loop {
        if let Some(answer) = poll_once(operation.as_mut()) {
            return answer;
        }
        committer.step();
    }
}

pub(super) fn linked(store: &Store, committer: &mut Committer) -> LinkKey {
    finish(committer, link_one(store, UserId::random(), 1))
}

fn begin(store: &Store, committer: &mut Committer, key: &EventKey) -> Sending {
    match finish(committer, store.begin_event(key)).unwrap() {
        Begun::Goes(sending) => *sending,
        _ => panic!("nothing goes"),
    }
}

#[test]
fn an_entry_on_its_way_to_disk_is_waited_for_and_not_taken_for_damaged() {
    let (store, mut committer) = memory();
    let link = linked(&store, &mut committer);
    let mut staging = pin!(read_and_stage(&store, &link, 1, b"on its way"));
    assert!(poll_once(staging.as_mut()).is_none());
    let mut looking = pin!(store.outbox_item(&link));
    assert!(poll_once(looking.as_mut()).is_none(), "it must not reach Spaces before it is durable");
    committer.step();
    assert_eq!(poll_once(staging), Some(StageOutcome::Staged));
    let item = poll_once(looking).unwrap().unwrap().unwrap();
    assert_eq!(item.body.as_ref(), b"on its way");
    assert_eq!(at_once(store.counts()).unwrap().due, 0, "nothing is damaged, so nothing is read again");
}

#[test]
fn an_event_on_its_way_to_disk_does_not_go_out_before_it_is_there() {
    let (store, mut committer) = memory();
    let on_disk = || store.read(|engine| Ok(engine.records(Tree::Events).count())).unwrap();
    let user = UserId::random();
    let mut linking = pin!(link_one(&store, user, 1));
    assert!(poll_once(linking.as_mut()).is_none());
    assert_eq!((on_disk(), at_once(store.event_counts()).unwrap().waiting), (0, 1));
    let key = EventKey::Link(LinkKey::new(user, page(1)));
    let mut beginning = pin!(store.begin_event(&key));
    assert!(poll_once(beginning.as_mut()).is_none());
    committer.step();
    assert!(matches!(poll_once(beginning), Some(Ok(Begun::Goes(_)))));
    assert!(poll_once(linking).is_some());
    let sending = begin(&store, &mut committer, &key);
    assert_eq!(on_disk(), 1);
    finish(&mut committer, sending.delivered()).unwrap();
    assert_eq!((on_disk(), at_once(store.event_counts()).unwrap()), (0, Default::default()));
}

#[test]
fn what_was_not_answered_is_lost_or_kept_as_a_prefix() {
    for survivors in 0..=3 {
        let (store, mut committer) = memory();
        let user = UserId::random();
        let mut links = [1, 2, 3].map(|n| Box::pin(link_one(&store, user, n)));
        links.iter_mut().for_each(|link| assert!(poll_once(link.as_mut()).is_none()));
        assert_eq!(committer.gather(2), 2);
        assert_eq!(
            (at_once(store.counts()).unwrap().links, at_once(committer.on_disk().counts()).unwrap().links),
            (3, 0)
        );
        let (next, _committer) = committer.crash(survivors);
        assert_eq!(at_once(next.counts()).unwrap().links, survivors as u64);
        assert_eq!(at_once(next.counts()).unwrap().due, survivors as u64);
        assert!(poll_once(Box::pin(store.mark_pages(&[page(1)], Cause::Webhook)).as_mut()).unwrap().is_err());
    }
}

#[test]
fn a_commit_that_fails_takes_the_store_down_until_it_is_opened_again() {
    for reached in [0, 1] {
        let (store, mut committer) = memory();
        let link = linked(&store, &mut committer);
        let before = at_once(held(&store, &link));
        finish(&mut committer, read_and_stage(&store, &link, 1, b"{}"));
        let pages = [page(1)];
        let mut marking = pin!(store.mark_pages(&pages, Cause::Webhook));
        assert!(poll_once(marking.as_mut()).is_none());
        let ticket = at_once(store.ticket()).unwrap();
        committer.gather(9);
        committer.fail("the disk is full", reached);
        assert!(poll_once(marking).unwrap().unwrap_err().reason.contains("full"));
        assert!(matches!(&*store.condition().borrow(), Condition::Down(reason) if reason.contains("full")));
        assert!(poll_once(pin!(store.mark_pages(&[page(1)], Cause::Webhook))).unwrap().is_err());
        assert!(poll_once(pin!(store.outbox_item(&link))).unwrap().is_err(), "nothing is read while it is down");
        committer.reopen();
        assert_eq!(
            (at_once(store.counts()).unwrap().due, at_once(store.counts()).unwrap().outbox),
            (reached as u64, 1)
        );
        assert!(poll_once(pin!(store.feed().next())).unwrap().reset);
        // Numbers go on, and work does.
        assert!(at_once(store.ticket()).unwrap().number > ticket.number);
        let again = finish(&mut committer, link_one(&store, link.user, 1));
        assert!(at_once(held(&store, &again)) > before);
    }
}

#[test]
fn a_decision_that_panics_is_answered_and_leaves_nothing() {
    let (store, mut committer) = memory();
    let link = linked(&store, &mut committer);
    let half = store.commit(|state, txn| {
        state.remove_link(txn, &link, true);
        panic!("half-way");
    });
    let refused: Result<(), Unavailable> = poll_once(pin!(half)).unwrap();
    assert!(refused.unwrap_err().reason.contains("half-way"));
    // Each order by itself, so that nothing is refused for the sake of what comes behind it.
    while committer.gather(1) > 0 {
        committer.commit();
    }
    assert!(committer.is_suspect() && !committer.commit() && committer.is_down());
    committer.reopen();
    assert_eq!((at_once(store.counts()).unwrap().links, at_once(store.counts()).unwrap().outbox), (1, 0));
    assert_eq!(at_once(store.event_counts()).unwrap().waiting, 1, "the link's own, and none of its end");
}

#[test]
fn a_deletion_is_done_with_the_erasure_that_follows_it() {
    let (store, mut committer) = memory();
    let (user, person): (_, AppUserId) = (UserId::random(), "77".parse().unwrap());
    let new = NewLink { page: page(1), token: Secret::new("t"), name: None, facebook_user: Some(person.clone()) };
    let link = LinkKey::new(user, page(1));
    finish(&mut committer, store.put_links(at_once(store.ticket()).unwrap(), user, None, vec![new], Cause::Link))
        .unwrap();
    finish(&mut committer, store.forget_person(&person, "a-code", None)).unwrap();
    committer.set_time(WallTime(START.0 + 1));
    assert!(committer.erase() && !committer.erase());
    assert_eq!(at_once(store.deletion("a-code")).unwrap().unwrap().open, 1, "an erasure is not enough");
    let item = finish(&mut committer, store.outbox_item(&link)).unwrap().unwrap();
    finish(&mut committer, store.complete(&link, &item, None, Left::default())).unwrap();
    assert!(at_once(store.deletion("a-code")).unwrap().unwrap().erasing);
    let (store, mut committer) = committer.crash(0);
    assert!(committer.erase());
    committer.step();
    let deletion = at_once(store.deletion("a-code")).unwrap().unwrap();
    assert_eq!((deletion.erasing, deletion.done_at), (false, Some(WallTime(START.0 + 1))));
    assert_eq!(store.erasing_since(), None);
    assert_eq!(committer.crash(0).0.erasing_since(), None);
}

#[test]
fn the_counts_follow_a_link_that_waits_for_a_person() {
    let (store, mut committer) = memory();
    let link = linked(&store, &mut committer);
    committer.set_time(WallTime(START.0 + 5));
    assert_eq!(at_once(store.counts()).unwrap().oldest_owed, Some(START));
    finish(&mut committer, store.park_link(&link, at_once(held(&store, &link)), ParkReason::Expired)).unwrap();
    let counts = at_once(store.counts()).unwrap();
    assert_eq!((counts.due, counts.due_parked, counts.oldest_owed), (0, 1, None));
    assert_eq!(counts.healths(), [(ParkReason::Expired.word(), 1)].into());
    assert_eq!(at_once(committer.crash(0).0.counts()).unwrap(), counts, "and so they are after a start");
}

#[test]
fn a_hint_whose_check_meets_a_reopening_does_not_swallow_the_next_one() {
    let person = cleanups::person(1);
    // The next hint comes after the check has ended, or while it is still under way.
    for ended_first in [true, false] {
        let (store, mut committer) = memory();
        let link = finish(&mut committer, cleanups::link_as(&store, UserId::random(), 1, &[1])).remove(0);
        let hint = |committer: &mut Committer| {
            feed::published(&store);
            finish(committer, store.hint_persons(std::slice::from_ref(&person))).unwrap();
            feed::published(&store).links.remove(&link).unwrap_or_default().token_check
        };
        let hinted = || at_once(store.view(&link)).unwrap().unwrap().record.hint;
        assert!(hint(&mut committer));
        let answered = at_once(store.claim_hint(&link, at_once(held(&store, &link)))).unwrap();
        assert_eq!(answered, hinted());
        committer.fail("the disk is full", 0);
        committer.reopen();
        let end = |committer: &mut Committer| {
            let change = |record: &mut LinkRecord| record.hint = record.hint.filter(|number| Some(*number) != answered);
            assert!(finish(committer, store.update_link(&link, at_once(held(&store, &link)), change)).unwrap());
        };
        if ended_first {
            end(&mut committer);
            assert_eq!(hinted(), None);
        }
        assert!(hint(&mut committer), "it is published");
        if !ended_first {
            end(&mut committer);
        }
        assert!(hinted().is_some(), "a check is owed for it");
    }
}

#[test]
fn a_login_link_is_not_taken_on_what_was_read_before_a_reopening() {
    let (store, mut committer) = memory();
    let hour = Duration::from_secs(3600);
    let session = finish(&mut committer, store.new_session(UserId::random(), hour)).unwrap();
    let login = finish(&mut committer, store.new_login(&session, hour)).unwrap();
    committer.suspend_behind_blocking_work();
    let mut slow = pin!(store.take_login(login.expose()));
    // It has read the link, and then the session behind it.
    for _ in 0..2 {
        assert!(poll_once(slow.as_mut()).is_none());
    }
    assert!(finish(&mut committer, store.take_login(login.expose())).unwrap().is_some());
    committer.fail("the disk is full", 0);
    committer.reopen();
    assert!(finish(&mut committer, slow).is_err(), "it would work twice");
    assert!(finish(&mut committer, store.take_login(login.expose())).unwrap().is_none());
}

#[test]
fn an_entry_that_is_replaced_while_its_body_is_read_is_not_handed_out() {
    let (store, mut committer) = memory();
    let link = linked(&store, &mut committer);
    finish(&mut committer, read_and_stage(&store, &link, 1, b"one"));
    committer.suspend_behind_blocking_work();
    let mut looking = pin!(store.outbox_item(&link));
    assert!(poll_once(looking.as_mut()).is_none());
    finish(&mut committer, read_and_stage(&store, &link, 2, b"two"));
    assert!(finish(&mut committer, looking).is_err());
    let item = finish(&mut committer, store.outbox_item(&link)).unwrap().unwrap();
    assert_eq!((item.body.as_ref(), at_once(store.counts()).unwrap().due), (b"two".as_slice(), 0));
}

/// Requests of one queue come to lie on disk before or after those of the other, whichever was decided first.
#[test]
fn numbers_tell_a_mark_that_stands_from_one_that_was_answered_for() {
    for survivors in 0..=2 {
        for turn in [false, true] {
            let (store, mut committer) = memory();
            let link = linked(&store, &mut committer);
            finish(&mut committer, read_and_stage(&store, &link, 1, b"{}"));
            if turn {
                // It is the other queue's turn.
                finish(&mut committer, store.new_session(UserId::random(), Duration::from_secs(60))).unwrap();
            }
            let pages = [page(1)];
            let mut marking = pin!(store.mark_pages(&pages, Cause::Webhook));
            assert!(poll_once(marking.as_mut()).is_none());
            let mut staging = pin!(read_and_stage(&store, &link, 2, b"{}"));
            assert!(poll_once(staging.as_mut()).is_none());
            assert_eq!(committer.gather(9), 2);
            let on_disk = |committer: &Committer| {
                let disk = committer.part_on_disk(&link.whole());
                (disk.staged.map(|staged| staged.op), disk.mark)
            };
            let (next, committer) = committer.crash(survivors);
            let (staged, mark) = on_disk(&committer);
            let is_staged = staged == Some(ObjectOp::Put([2; 32]));
            assert!(mark.is_none() || !is_staged, "the read answered for the mark");
            assert_eq!(poll_once(pin!(due_mark(&next, &link))).unwrap(), mark);
            assert!(survivors < 2 || is_staged);
        }
    }
}

#[test]
fn a_delivery_for_a_part_of_a_link_whose_unlink_is_not_durable_waits_for_it() {
    let (store, mut committer) = memory();
    let link = linked(&store, &mut committer);
    let (part, links) = ("products/1".parse().unwrap(), vec![link.clone()]);
    let mut unlinking = pin!(store.unlink(&links, Unlinking { keep_objects: true, revoke: false }));
    assert!(poll_once(unlinking.as_mut()).is_none());
    let mut marking = pin!(store.mark_part_of(&link.id, &part, Cause::Webhook));
    assert!(poll_once(marking.as_mut()).is_none(), "a power cut would bring the link back without the mark");
    assert_eq!(finish(&mut committer, marking), Ok(0));
    assert!(finish(&mut committer, unlinking).is_ok());
}

/// The unlink is decided after the links of the page were looked up and before they are marked.
#[test]
fn a_mark_for_a_link_whose_unlink_is_not_durable_waits_for_it() {
    let (store, mut committer) = memory();
    let link = linked(&store, &mut committer);
    let links = [link.clone()];
    let mut unlinking = pin!(store.unlink(&links, Unlinking { keep_objects: true, revoke: false }));
    assert!(poll_once(unlinking.as_mut()).is_none());
    let mut marking = pin!(store.mark_links(vec![link.clone()], Cause::Webhook));
    assert!(poll_once(marking.as_mut()).is_none(), "a power cut now would bring the link back without a mark");
    committer.gather(9);
    committer.fail("the disk is full", 0);
    assert!(poll_once(marking).unwrap().is_err() && poll_once(unlinking).unwrap().is_err());
    committer.reopen();
    assert!(at_once(store.generation(&link)).unwrap().is_some());
}

#[test]
fn a_delivery_for_a_page_whose_unlink_is_not_durable_waits_for_it() {
    let (store, mut committer) = memory();
    let link = linked(&store, &mut committer);
    finish(&mut committer, read_and_stage(&store, &link, 1, b"{}"));
    let pages = [page(1)];
    let links = [link.clone()];
    let mut unlinking = pin!(store.unlink(&links, Unlinking { keep_objects: true, revoke: false }));
    assert!(poll_once(unlinking.as_mut()).is_none());
    let mut marking = pin!(store.mark_pages(&pages, Cause::Webhook));
    assert!(poll_once(marking.as_mut()).is_none(), "a power cut now would bring the link back without a mark");
    committer.gather(9);
    committer.fail("the disk is full", 0);
    assert!(poll_once(marking).unwrap().is_err() && poll_once(unlinking).unwrap().is_err());
    committer.reopen();
    assert_eq!(finish(&mut committer, store.mark_pages(&pages, Cause::Webhook)).unwrap(), links);
    finish(&mut committer, store.unlink(&links, Unlinking { keep_objects: true, revoke: false })).unwrap();
    assert_eq!(poll_once(pin!(store.mark_pages(&pages, Cause::Webhook))).unwrap().unwrap(), []);
}

#[test]
fn a_mark_stays_in_its_log_until_the_stage_that_answers_for_it_is_durable() {
    for turn in [false, true] {
        let (store, mut committer) = memory();
        let link = linked(&store, &mut committer);
        finish(&mut committer, read_and_stage(&store, &link, 0, b"{}"));
        let pages = [page(1)];
        // The next mark makes the log long enough for a cut.
        for round in 1..32 {
            finish(&mut committer, store.mark_pages(&pages, Cause::Webhook)).unwrap();
            finish(&mut committer, read_and_stage(&store, &link, round, b"{}"));
        }
        if turn {
            finish(&mut committer, store.new_session(UserId::random(), Duration::from_secs(60))).unwrap();
        }
        let mut marking = pin!(store.mark_pages(&pages, Cause::Webhook));
        assert!(poll_once(marking.as_mut()).is_none());
        let mut staging = pin!(read_and_stage(&store, &link, 99, b"{}"));
        assert!(poll_once(staging.as_mut()).is_none());
        committer.gather(1);
        committer.commit();
        let is_acknowledged = poll_once(marking.as_mut()).is_some();
        committer.commit();
        let disk = committer.part_on_disk(&link.whole());
        let is_staged = disk.staged.map(|staged| staged.op) == Some(ObjectOp::Put([99; 32]));
        assert!(!is_acknowledged || is_staged || disk.mark.is_some(), "a power cut now would lose the mark");
        while committer.gather(9) > 0 {
            committer.commit();
        }
        assert_eq!(poll_once(staging), Some(StageOutcome::Staged));
        assert_eq!(poll_once(pin!(due_mark(&committer.crash(0).0, &link))).unwrap(), None);
    }
}
