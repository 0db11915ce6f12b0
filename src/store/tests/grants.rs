//! Logins under way, and what was decided meanwhile.

use super::cleanups::{link_as, login, person};
use super::*;
use crate::core::grant::{Ended, Ticket};
use crate::core::health::ParkReason;
use crate::store::grants::{LeftAlone, Stored};
use crate::store::imports::Trials;

/// A login of this person that began with this ticket comes to its end, with these pages.
async fn finish(store: &Store, ticket: Ticket, user: UserId, n: u64, pages: &[u64]) -> Stored {
    let new = |p: &u64| NewLink {
        page: page(*p),
        token: Secret::new(format!("token-of-login-{}", ticket.number)),
        name: None,
        facebook_user: Some(person(n)),
    };
    let links = pages.iter().map(new).collect();
    store.put_links(ticket, user, Some(login(n)), links, Cause::Link).await.unwrap()
}

fn reasons(stored: &Stored) -> Vec<LeftAlone> {
    stored.left.iter().map(|(_, why)| *why).collect()
}

const PERSON: LeftAlone = LeftAlone::Ended(Ended::Person);

#[tokio::test]
async fn a_login_under_way_does_not_bring_back_a_forgotten_person() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    link_as(&store, user, 1, &[1]).await;
    let ticket = store.ticket().await.unwrap();
    store.forget_person(&person(1), "code", None).await.unwrap();
    let stored = finish(&store, ticket, user, 1, &[1, 2]).await;
    assert_eq!((stored.links.len(), reasons(&stored)), (0, vec![PERSON; 2]));
    assert_eq!(
        (store.links().await.unwrap(), store.accounts().await.unwrap(), store.known_of(&person(1)).await.unwrap()),
        (vec![], vec![], None)
    );
    // Somebody else's login for the same user and page is no concern of it, and neither is the person's next one.
    assert_eq!(finish(&store, ticket, user, 2, &[1]).await.links.len(), 1);
    assert_eq!(finish(&store, store.ticket().await.unwrap(), user, 1, &[1, 2]).await.links.len(), 2);
    store.close().await;
}

#[tokio::test]
async fn nor_a_person_who_removed_the_app_or_of_whom_nothing_was_stored_yet() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    let ticket = store.ticket().await.unwrap();
    store.park_person(&person(1), ParkReason::AppRemoved, None).await.unwrap();
    assert_eq!(reasons(&finish(&store, ticket, user, 1, &[1]).await), [PERSON]);
    let ticket = store.ticket().await.unwrap();
    let purged = crate::services::purge::apply(&store, vec![person(1), person(2)], false).await;
    assert!(purged.outcomes.iter().all(|outcome| outcome.known.is_none()));
    assert_eq!(reasons(&finish(&store, ticket, user, 2, &[2]).await), [PERSON]);
    assert_eq!((store.links().await.unwrap(), store.accounts().await.unwrap()), (vec![], vec![]));
    store.close().await;
}

#[tokio::test]
async fn a_link_that_was_removed_meanwhile_is_not_made_again_and_the_others_are() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    let links = link_as(&store, user, 1, &[1, 2]).await;
    let ticket = store.ticket().await.unwrap();
    unlink(&store, &links[0], Unlinking::default()).await;
    let stored = finish(&store, ticket, user, 1, &[1, 2]).await;
    assert_eq!(stored.links, links[1..]);
    assert_eq!(stored.left, [(links[0].clone(), LeftAlone::Ended(Ended::Link))]);
    assert_eq!(store.accounts().await.unwrap().len(), 1);
    // When nothing is left of the login, its user token is not kept either.
    let ticket = store.ticket().await.unwrap();
    unlink(&store, &links[1], Unlinking::default()).await;
    assert_eq!(finish(&store, ticket, user, 1, &[2]).await.links, []);
    assert_eq!((store.links().await.unwrap(), store.accounts().await.unwrap()), (vec![], vec![]));
    // An operator who takes the app out of the account means every page of it.
    let links = link_as(&store, user, 1, &[1]).await;
    let ticket = store.ticket().await.unwrap();
    unlink(&store, &links[0], Unlinking { keep_objects: false, revoke: true }).await;
    assert_eq!(reasons(&finish(&store, ticket, user, 1, &[1, 2]).await), [PERSON; 2]);
    assert!(store.cleanups().await.unwrap().iter().all(|one| !one.void), "the revocation that was asked for is made");
    store.close().await;
}

#[tokio::test]
async fn an_older_login_that_ends_later_does_not_replace_the_tokens_of_a_newer_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    let (older, newer) = (store.ticket().await.unwrap(), store.ticket().await.unwrap());
    let links = finish(&store, newer, user, 1, &[1]).await.links;
    let stored = finish(&store, older, user, 1, &[1, 2]).await;
    assert_eq!(stored.left, [(links[0].clone(), LeftAlone::NewerLogin)]);
    assert_eq!(stored.links.len(), 1);
    let token = store.link(&links[0]).await.unwrap().unwrap().token;
    assert_eq!(token.unwrap().expose(), format!("token-of-login-{}", newer.number));
    let (account, _) = store.account(user, &person(1)).await.unwrap().unwrap();
    assert_eq!((account.login, account.logged_in_at), (newer.number, newer.at));
    // A token that does not work any more is replaced by whatever comes.
    store.park_link(&links[0], held(&store, &links[0]).await, ParkReason::Invalid).await.unwrap();
    assert_eq!(finish(&store, older, user, 1, &[1]).await.links, links);
    store.close().await;
}

#[tokio::test]
async fn lines_of_an_import_under_way_are_left_out_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    let links = link_as(&store, user, 1, &[1, 2]).await;
    let ticket = store.ticket().await.unwrap();
    unlink(&store, &links[1], Unlinking::default()).await;
    store.forget_person(&person(1), "code", None).await.unwrap();
    let line =
        |page: u64, person: &str| format!("{{\"user\":\"{user}\",\"page_id\":{page},\"access_token\":\"t\"{person}}}");
    let lines = [
        line(1001, ""),
        line(1002, ""),
        line(1003, &format!(",\"facebook_user_id\":\"{}\"", person(1))),
        line(1004, ""),
        format!("{{\"user\":\"{user}\",\"account\":\"{}\",\"access_token\":\"t\"}}", person(1)),
    ];
    let parsed = crate::services::import::parse(lines.join("\n").as_bytes(), 10, None);
    let imported = crate::services::import::store(&store, ticket, parsed, &Trials::Impossible).await.unwrap();
    let left: Vec<usize> = imported.left.iter().map(|left| left.line).collect();
    assert_eq!((left, imported.links.len()), (vec![10, 11, 12, 14], 1));
    assert_eq!(store.accounts().await.unwrap(), []);
    // The next request of one file has the same ticket, and another process knows nothing of it.
    let name = store.name_of(ticket);
    assert_eq!(store.ticket_named(&name), Some(ticket));
    for strange in ["", "-", "0-1-2", &format!("{name}-1"), "x-1-2"] {
        assert_eq!(store.ticket_named(strange), None, "{strange}");
    }
    store.close().await;
}

#[tokio::test]
async fn it_holds_when_the_store_is_opened_again_in_between() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    link_as(&store, user, 1, &[1]).await;
    let ticket = store.ticket().await.unwrap();
    store.forget_person(&person(1), "code", None).await.unwrap();
    store.lock().orders.suspect();
    let mut condition = store.condition();
    condition.wait_for(|c| matches!(c, Condition::Down(_))).await.unwrap();
    condition.wait_for(|c| *c == Condition::Up).await.unwrap();
    assert!(store.ticket().await.unwrap().number > ticket.number, "the sequence goes on");
    assert_eq!(reasons(&finish(&store, ticket, user, 1, &[1]).await), [PERSON]);
    store.close().await;
}

/// A link of this person that was granted so many minutes ago, and the login with it.
async fn granted_ago(store: &Store, user: UserId, n: u64, number: u64, minutes: u64) -> LinkKey {
    let at = WallTime::now().0 - minutes * 60_000;
    let lines = format!(
        "{{\"user\":\"{user}\",\"page_id\":\"{}\",\"access_token\":\"t\",\"facebook_user_id\":\"{}\",\"granted_at\":{at}}}\n\
         {{\"user\":\"{user}\",\"account\":\"{}\",\"access_token\":\"t\",\"logged_in_at\":\"{}\"}}",
        page(number),
        person(n),
        person(n),
        WallTime(at).rfc3339(),
    );
    let parsed = crate::services::import::parse(lines.as_bytes(), 1, None);
    assert_eq!(parsed.bad, []);
    let imported = crate::services::import::store(store, store.ticket().await.unwrap(), parsed, &Trials::Impossible)
        .await
        .unwrap();
    assert_eq!(imported.left, []);
    imported.links[0].clone()
}

#[tokio::test]
async fn a_late_request_ends_what_is_older_and_leaves_what_is_newer() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (first, second) = (UserId::random(), UserId::random());
    let old = granted_ago(&store, first, 1, 1, 60).await;
    let new = granted_ago(&store, second, 1, 2, 10).await;
    let unlinked = granted_ago(&store, second, 1, 3, 10).await;
    unlink(&store, &unlinked, Unlinking::default()).await;
    let issued_at = Some(WallTime(WallTime::now().0 - 30 * 60_000));

    let parked = store.park_person(&person(1), ParkReason::AppRemoved, issued_at).await.unwrap();
    assert_eq!((parked.links, parked.kept), (vec![(old.clone(), held(&store, &old).await)], 1));
    let is_active = async |link: &LinkKey| store.view(link).await.unwrap().unwrap().record.health.is_active();
    assert_eq!((is_active(&old).await, is_active(&new).await), (false, true));
    assert_eq!(store.accounts().await.unwrap(), [(second, person(1))]);
    assert_eq!(
        store.cleanups().await.unwrap().iter().filter(|one| !one.void).count(),
        1,
        "the newer token may do what was asked of it"
    );

    let forgotten = store.forget_person(&person(1), "code", issued_at).await.unwrap();
    assert_eq!((forgotten.links.len(), forgotten.kept), (1, 1));
    assert_eq!(
        (store.links().await.unwrap(), store.accounts().await.unwrap()),
        (vec![new.clone()], vec![(second, person(1))])
    );
    let deletion = store.deletion("code").await.unwrap().unwrap();
    assert_eq!((deletion.ended, deletion.kept, deletion.kept_login, deletion.issued_at), (1, 1, true, issued_at));
    let again = store.forget_person(&person(1), "again", issued_at).await.unwrap();
    assert_eq!((again.links.len(), again.kept), (0, 1));
    assert_eq!(store.deletion("again").await.unwrap().unwrap().ended, 0);
    store.close().await;

    // Within the margin the wish to be forgotten wins; and it is what was written down that counts, after a start too.
    let store = open(dir.path());
    let issued_at = Some(WallTime(WallTime::now().0 - 14 * 60_000));
    assert_eq!(store.forget_person(&person(1), "last", issued_at).await.unwrap().kept, 0);
    assert_eq!(
        (store.links().await.unwrap(), store.accounts().await.unwrap(), store.known_of(&person(1)).await.unwrap()),
        (vec![], vec![], None)
    );
    store.close().await;
}

#[tokio::test]
async fn a_late_request_does_not_end_a_newer_login_that_is_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (user, ticket) = (UserId::random(), store.ticket().await.unwrap());
    let hours_ago = Some(WallTime(WallTime::now().0 - 3 * 3_600_000));
    store.park_person(&person(1), ParkReason::AppRemoved, hours_ago).await.unwrap();
    store.forget_person(&person(1), "code", hours_ago).await.unwrap();
    assert_eq!(finish(&store, ticket, user, 1, &[1]).await.links.len(), 1);
    // One that was written just now does.
    let ticket = store.ticket().await.unwrap();
    store.park_person(&person(1), ParkReason::AppRemoved, Some(WallTime::now())).await.unwrap();
    assert_eq!(reasons(&finish(&store, ticket, user, 1, &[2]).await), [PERSON]);
    store.close().await;
}

#[tokio::test]
async fn a_link_of_an_earlier_version_counts_from_when_it_was_linked() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let links = link_as(&store, UserId::random(), 1, &[1]).await;
    let hour_ago = WallTime(WallTime::now().0 - 3_600_000);
    update(&store, &links[0], |record| (record.granted_at, record.linked_at) = (None, hour_ago)).await;
    let before = Some(WallTime(hour_ago.0 - 3_600_000));
    assert_eq!(store.park_person(&person(1), ParkReason::AppRemoved, before).await.unwrap().kept, 1);
    let after = Some(WallTime(hour_ago.0 + 60_000));
    assert_eq!(store.park_person(&person(1), ParkReason::AppRemoved, after).await.unwrap().links.len(), 1);
    store.close().await;
}

/// Imports one line and says whether the link got its token.
async fn import_line(store: &Store, line: &serde_json::Value, trials: &Trials) -> Result<(), imports::Reason> {
    let parsed = crate::services::import::parse(line.to_string().as_bytes(), 1, None);
    assert_eq!(parsed.bad, []);
    let imported = crate::services::import::store(store, store.ticket().await.unwrap(), parsed, trials).await.unwrap();
    imported.left.first().map_or(Ok(()), |left| Err(left.reason))
}

#[tokio::test]
async fn an_import_leaves_a_link_that_is_better_off_as_it_is() {
    use crate::core::grant::{Better, Tried};
    use imports::Reason;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    let link = granted_ago(&store, user, 1, 1, 60).await;
    let first = held(&store, &link).await;
    let ago = |minutes: u64| WallTime::now().0 - minutes * 60_000;
    let line = |token: &str, granted_at: Option<u64>| serde_json::json!({"user": user, "page_id": page(1), "access_token": token, "granted_at": granted_at});
    let made = |tried| Trials::Made([(1, tried)].into());
    let none = Trials::Made(Default::default());
    let token = async |store: &Store| store.link(&link).await.unwrap().unwrap().token.unwrap().expose().to_owned();

    // The same token: the link is as the line says, and is read again.
    let _ = read_and_stage(&store, &link, 1, b"{}").await;
    import_line(&store, &line("t", None), &none).await.unwrap();
    assert_eq!((held(&store, &link).await, due_mark(&store, &link).await.is_some()), (first, true));
    let left = |better| Err(Reason::Better(better));
    assert_eq!(import_line(&store, &line("old", Some(ago(61))), &Trials::Impossible).await, left(Better::Newer));
    assert_eq!(import_line(&store, &line("x", None), &Trials::Impossible).await, left(Better::OtherUnknown));
    assert_eq!(import_line(&store, &line("x", Some(ago(1))), &made(Tried::Refused)).await, left(Better::OtherRefused));
    assert_eq!(import_line(&store, &line("x", None), &none).await, Err(Reason::Overtaken));
    // A time to come says nothing.
    let ahead = WallTime::now().0 + 3_600_000;
    assert_eq!(import_line(&store, &line("x", Some(ahead)), &Trials::Impossible).await, left(Better::OtherUnknown));
    assert_eq!((token(&store).await.as_str(), held(&store, &link).await), ("t", first));

    let newer = ago(10);
    import_line(&store, &line("new", Some(newer)), &Trials::Impossible).await.unwrap();
    assert_eq!(
        (token(&store).await.as_str(), store.view(&link).await.unwrap().unwrap().record.granted_at),
        ("new", Some(WallTime(newer)))
    );
    import_line(&store, &line("works", None), &made(Tried::Works)).await.unwrap();
    assert_eq!(token(&store).await, "works");
    import_line(&store, &line("old", Some(ago(90))), &Trials::Replace).await.unwrap();
    assert_eq!(token(&store).await, "old");
    store.park_link(&link, held(&store, &link).await, ParkReason::Expired).await.unwrap();
    import_line(&store, &line("older", Some(ago(99))), &Trials::Impossible).await.unwrap();
    assert_eq!(token(&store).await, "older");
    store.close().await;
}

#[tokio::test]
async fn an_import_leaves_a_newer_login_as_it_is() {
    use crate::core::grant::Better;
    use imports::Reason;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    granted_ago(&store, user, 1, 1, 60).await;
    let ago = |minutes: u64| Some(WallTime::now().0 - minutes * 60_000);
    let line = |token: &str, at: Option<u64>| serde_json::json!({"user": user, "account": person(1), "access_token": token, "logged_in_at": at});
    let token =
        async |store: &Store| store.account(user, &person(1)).await.unwrap().unwrap().1.unwrap().expose().to_owned();
    let (none, left) = (Trials::Impossible, |better| Err(Reason::Better(better)));
    import_line(&store, &line("t", None), &none).await.unwrap();
    assert_eq!(import_line(&store, &line("old", ago(61)), &none).await, left(Better::Newer));
    assert_eq!(import_line(&store, &line("x", None), &none).await, left(Better::OtherUnknown));
    assert_eq!(token(&store).await, "t");
    import_line(&store, &line("new", ago(1)), &none).await.unwrap();
    assert_eq!(token(&store).await, "new");
    import_line(&store, &line("old", ago(61)), &Trials::Replace).await.unwrap();
    assert_eq!(token(&store).await, "old");
    store.close().await;
}
