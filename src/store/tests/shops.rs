//! Shops: links that share a token pair, and the refresh of the pair.

use super::feed::published;
use super::*;
use crate::core::cleanup::Cleanup;
use crate::core::grant::{Better, Granted};
use crate::core::grant::{Ended, Ticket};
use crate::core::health::{Health, ParkReason};
use crate::core::model::ShopName;
use crate::store::cleanups::ReadyPair;
use crate::store::grants::LeftAlone;
use crate::store::imports::{Imported, Reason, ShopLine};
use crate::store::shops::{NewShop, ShopPair, ShopStored};

fn shop() -> ShopName {
    "some-shop.myshopify.com".parse().unwrap()
}

/// The pair number `n`.
fn pair(n: u32) -> NewShop {
    NewShop {
        shop: shop(),
        pair: ShopPair { access: Secret::new(format!("shpat_{n}")), refresh: Secret::new(format!("shprt_{n}")) },
        expires_at: WallTime::now().plus(Duration::from_secs(3600)),
        refresh_expires_at: None,
        scopes: vec!["read_products".to_owned()],
        name: Some("Some Shop".to_owned()),
    }
}

async fn finish(store: &Store, ticket: Ticket, user: UserId, n: u32) -> ShopStored {
    let before = store.pair_number(&shop()).await.unwrap();
    store.put_shop(ticket, user, &pair(n), (Cause::Link, before)).await.unwrap().unwrap()
}

async fn install(store: &Store, user: UserId, n: u32) -> LinkKey {
    let stored = finish(store, store.ticket().await.unwrap(), user, n).await;
    assert_eq!(stored.left, None);
    stored.link
}

/// The tokens of the shop and the number of the pair, `None` when the shop is not known.
async fn held_pair(store: &Store) -> Option<(String, String, u64)> {
    let state = store.shop_pair(&shop()).await.unwrap()?;
    let pair = state.pair.unwrap();
    Some((pair.access.expose().to_owned(), pair.refresh.expose().to_owned(), state.record.number))
}

async fn number(store: &Store) -> u64 {
    held_pair(store).await.unwrap().2
}

async fn access(store: &Store, link: &LinkKey) -> String {
    store.link(link).await.unwrap().unwrap().token.unwrap().expose().to_owned()
}

async fn health(store: &Store, link: &LinkKey) -> Health {
    store.view(link).await.unwrap().unwrap().record.health.clone()
}

#[tokio::test]
async fn the_links_of_a_shop_share_its_pair() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let one = install(&store, UserId::random(), 1).await;
    let before = held(&store, &one).await;
    let _claim = begin_read(&store, &one).await;
    let two = install(&store, UserId::random(), 2).await;
    // The second installation ended the first pair, so that both links begin again.
    for link in [&one, &two] {
        assert_eq!(access(&store, link).await, "shpat_2");
        assert_eq!(unclaimed_mark(&store, link).await.unwrap().cause, Cause::Link);
    }
    assert!(held(&store, &one).await > before);
    let mut links = store.links_of_id(&shop().into()).await.unwrap();
    links.sort();
    let mut both = vec![one.clone(), two.clone()];
    both.sort();
    assert_eq!(links, both);
    // The pair stays as long as somebody links the shop.
    unlink(&store, &one, Unlinking::default()).await;
    assert_eq!(access(&store, &two).await, "shpat_2");
    unlink(&store, &two, Unlinking::default()).await;
    assert_eq!(held_pair(&store).await, None);
    store.close().await;
}

#[tokio::test]
async fn a_refresh_is_noted_before_it_is_made_and_both_halves_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let link = {
        let store = open(dir.path());
        let link = install(&store, UserId::random(), 1).await;
        assert!(store.begin_refresh(&shop(), number(&store).await).await.unwrap());
        store.close().await;
        link
    };
    let store = open(dir.path());
    let state = store.shop_pair(&shop()).await.unwrap().unwrap();
    assert!(state.record.refreshing_since.is_some(), "the intent is durable");
    assert_eq!(state.pair.unwrap().refresh.expose(), "shprt_1", "the same refresh token is to be sent again");
    let generation = held(&store, &link).await;
    let number = store.end_refresh(&shop(), state.record.number, &pair(2)).await.unwrap();
    assert!(number > Some(state.record.number));
    assert_eq!(held(&store, &link).await, generation, "the link goes on as it is");
    store.close().await;
    let store = open(dir.path());
    let state = store.shop_pair(&shop()).await.unwrap().unwrap();
    assert_eq!((state.record.refreshing_since, access(&store, &link).await.as_str()), (None, "shpat_2"));
    assert_eq!(state.pair.unwrap().refresh.expose(), "shprt_2");
    store.close().await;
}

#[tokio::test]
async fn what_was_learned_with_a_pair_is_not_noted_against_another() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    install(&store, user, 1).await;
    let first = number(&store).await;
    assert!(store.begin_refresh(&shop(), first).await.unwrap());
    let link = install(&store, user, 2).await;
    assert!(!store.begin_refresh(&shop(), first).await.unwrap());
    assert_eq!(store.end_refresh(&shop(), first, &pair(9)).await.unwrap(), None);
    assert_eq!(store.unlink_shop(&shop(), first).await.unwrap(), None);
    assert!(!store.park_shop(&shop(), first, ParkReason::RefreshEnded).await.unwrap());
    assert_eq!((access(&store, &link).await.as_str(), health(&store, &link).await), ("shpat_2", Health::Active));
    let second = number(&store).await;
    assert!(store.park_shop(&shop(), second, ParkReason::RefreshEnded).await.unwrap());
    assert!(matches!(health(&store, &link).await, Health::Parked(parked) if parked.why == ParkReason::RefreshEnded));
    install(&store, user, 3).await;
    assert_eq!(health(&store, &link).await, Health::Active, "an installation heals it");
    store.close().await;
}

#[tokio::test]
async fn an_installation_under_way_brings_no_link_back_and_ends_no_newer_pair() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    let link = install(&store, user, 1).await;
    let ticket = store.ticket().await.unwrap();
    unlink(&store, &link, Unlinking::default()).await;
    assert_eq!(finish(&store, ticket, user, 2).await.left, Some(LeftAlone::Ended(Ended::Link)));
    assert_eq!(held_pair(&store).await, None);
    // The links of others get the pair all the same, because theirs died with it.
    let other = install(&store, UserId::random(), 5).await;
    let link = install(&store, user, 6).await;
    let ticket = store.ticket().await.unwrap();
    unlink(&store, &link, Unlinking::default()).await;
    assert_eq!(finish(&store, ticket, user, 7).await.left, Some(LeftAlone::Ended(Ended::Link)));
    assert_eq!((access(&store, &other).await.as_str(), store.view(&link).await.unwrap().is_none()), ("shpat_7", true));
    assert_eq!(store.unlink_shop(&shop(), number(&store).await).await.unwrap(), Some(1));
    let (ticket, before) = (store.ticket().await.unwrap(), store.pair_number(&shop()).await.unwrap());
    let rival = install(&store, user, 4).await;
    let stored = store.put_shop(ticket, user, &pair(3), (Cause::Link, before)).await.unwrap();
    assert_eq!(stored, None, "nobody knows which of the two is newer");
    assert_eq!(held_pair(&store).await.unwrap().0, "shpat_4");
    // It may turn out that the other one is.
    let joined = store.join_shop(ticket, UserId::random(), (&shop(), None), Cause::Link).await.unwrap().unwrap();
    assert_eq!(
        (access(&store, &joined.link).await, access(&store, &rival).await),
        ("shpat_4".into(), "shpat_4".into())
    );
    // Or that this one is.
    assert_eq!(finish(&store, ticket, user, 3).await.left, None);
    assert_eq!(
        (access(&store, &joined.link).await, access(&store, &rival).await),
        ("shpat_3".into(), "shpat_3".into())
    );
    store.close().await;
}

#[tokio::test]
async fn a_pair_outlives_the_database_and_the_key_that_it_was_sealed_with() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = install(&store, UserId::random(), 1).await;
    store.end_refresh(&shop(), number(&store).await, &pair(2)).await.unwrap();
    let other = || Keyring::new([8; 32], Vec::new());
    assert_eq!(store.unopened_by(&other()).await.unwrap(), 1);
    store.set_keyring(Keyring::new([8; 32], vec![[7; 32]]));
    assert_eq!(store.reseal().await.unwrap(), 1);
    assert_eq!(store.unopened_by(&other()).await.unwrap(), 0);
    store.close().await;
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    let store = Store::open(dir.path(), other()).unwrap();
    assert_eq!(access(&store, &link).await, "shpat_2");
    assert!(due_mark(&store, &link).await.is_some(), "the link is read again");
    store.close().await;
}

/// A line with the pair number `n`, whose access token ends in so many minutes.
fn line(user: UserId, n: u32, minutes: Option<u64>) -> ShopLine {
    let NewShop { shop, pair, .. } = pair(n);
    let expires_at = minutes.map(|minutes| WallTime::now().plus(Duration::from_secs(60 * minutes)));
    ShopLine { line: 1, user, shop, pair, expires_at, name: None, granted: Granted::default() }
}

fn old_token(line: ShopLine) -> ShopLine {
    ShopLine { pair: ShopPair { refresh: Secret::new(""), ..line.pair }, ..line }
}

async fn import(store: &Store, line: &ShopLine, replace: bool) -> Imported {
    let ticket = store.ticket().await.unwrap();
    store.import_shops(ticket, std::slice::from_ref(line), replace).await.unwrap()
}

/// How many links were made, had it, kept the shop's pair, were left.
fn counts(imported: &Imported) -> [usize; 4] {
    [imported.links.len(), imported.same.len(), imported.kept.len(), imported.left.len()]
}

#[tokio::test]
async fn an_import_replaces_no_pair_that_works_by_an_older_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (one, two) = (UserId::random(), UserId::random());
    assert_eq!(counts(&import(&store, &line(one, 1, Some(50)), false).await), [1, 0, 0, 0]);
    let first = number(&store).await;
    // Another user of the same shop shares the pair.
    assert_eq!(counts(&import(&store, &line(two, 1, None), false).await), [1, 0, 0, 0]);
    assert_eq!(counts(&import(&store, &line(two, 1, None), false).await), [0, 1, 0, 0]);
    for older in [line(one, 2, Some(40)), line(one, 2, None), old_token(line(one, 2, None))] {
        let imported = import(&store, &older, false).await;
        assert_eq!(counts(&imported), [0, 0, 0, 1]);
        let why = if older.pair.refresh.is_empty() || older.expires_at.is_some() {
            Better::Newer
        } else {
            Better::OtherUnknown
        };
        assert_eq!(imported.left[0].reason, Reason::Better(why));
        // A new link gets the pair that the shop has.
        let other = ShopLine { user: UserId::random(), ..older };
        assert_eq!(counts(&import(&store, &other, false).await), [1, 0, 1, 0]);
        assert_eq!(access(&store, &other.key()).await, "shpat_1");
    }
    assert_eq!(number(&store).await, first);
    // A moment in times to come is one of a wrong clock.
    assert_eq!(counts(&import(&store, &line(one, 3, Some(60 * 48)), false).await), [0, 0, 0, 1]);
    let generation = held(&store, &line(two, 1, None).key()).await;
    assert_eq!(counts(&import(&store, &line(one, 4, Some(55)), false).await), [1, 0, 0, 0]);
    assert_eq!(held_pair(&store).await.unwrap().0, "shpat_4");
    assert!(held(&store, &line(two, 1, None).key()).await > generation, "every link begins again");
    // An operator may insist, and a pair that is dead is no better than any.
    assert_eq!(counts(&import(&store, &line(one, 5, None), true).await), [1, 0, 0, 0]);
    assert_eq!(held_pair(&store).await.unwrap().0, "shpat_5");
    assert!(store.park_shop(&shop(), number(&store).await, ParkReason::RefreshEnded).await.unwrap());
    assert_eq!(counts(&import(&store, &line(two, 6, None), false).await), [1, 0, 0, 0]);
    assert_eq!(health(&store, &line(one, 1, None).key()).await, Health::Active);
    store.close().await;
}

#[tokio::test]
async fn an_import_under_way_undoes_neither_an_unlink_nor_an_installation() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    let link = install(&store, user, 1).await;
    let ticket = store.ticket().await.unwrap();
    unlink(&store, &link, Unlinking::default()).await;
    let imported = store.import_shops(ticket, &[line(user, 2, None)], true).await.unwrap();
    assert_eq!((counts(&imported), imported.left[0].reason), ([0, 0, 0, 1], Reason::Ended(Ended::Link)));
    assert_eq!(held_pair(&store).await, None);
    let ticket = store.ticket().await.unwrap();
    install(&store, user, 3).await;
    let granted = Granted { at: Some(WallTime(5)), by: None };
    let earlier = ShopLine { granted, ..line(user, 2, Some(600)) };
    let imported = store.import_shops(ticket, &[earlier], false).await.unwrap();
    assert_eq!(counts(&imported), [0, 0, 0, 1]);
    assert_eq!(held_pair(&store).await.unwrap().0, "shpat_3");
    store.close().await;
}

#[tokio::test]
async fn of_the_lines_of_one_import_the_last_counts_until_the_pair_was_refreshed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (user, ticket) = (UserId::random(), store.ticket().await.unwrap());
    let import = async |line: ShopLine| counts(&store.import_shops(ticket, &[line], false).await.unwrap());
    assert_eq!(import(old_token(line(user, 1, None))).await, [1, 0, 0, 0]);
    assert_eq!(import(old_token(line(user, 2, None))).await, [1, 0, 0, 0]);
    let state = store.shop_pair(&shop()).await.unwrap().unwrap();
    assert_eq!((state.record.expires_at, state.record.paired_at), (WallTime(0), WallTime(0)));
    assert_eq!(state.pair.unwrap().access.expose(), "shpat_2");
    // It was exchanged for a pair, and an old token does not take its place.
    let number = state.record.number;
    assert!(store.begin_refresh(&shop(), number).await.unwrap());
    store.end_refresh(&shop(), number, &pair(9)).await.unwrap();
    assert_eq!(import(old_token(line(user, 2, None))).await, [0, 0, 0, 1]);
    assert_eq!(held_pair(&store).await.unwrap().0, "shpat_9");
    store.close().await;
}

#[tokio::test]
async fn a_shop_that_answers_again_is_active_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = install(&store, UserId::random(), 1).await;
    let number = number(&store).await;
    let park = async |why| store.park_shop(&shop(), number, why).await.unwrap();
    assert_eq!(store.revive_shop(&shop(), number).await.unwrap(), 0);
    assert!(park(ParkReason::ShopFrozen).await);
    assert!(!park(ParkReason::ShopFrozen).await, "that is no news");
    let generation = held(&store, &link).await;
    assert_eq!(store.revive_shop(&shop(), number + 1).await.unwrap(), 0, "another pair says nothing");
    assert_eq!(store.revive_shop(&shop(), number).await.unwrap(), 1);
    assert_eq!(health(&store, &link).await, Health::Active);
    assert!(held(&store, &link).await > generation && due_mark(&store, &link).await.is_some());
    assert!(park(ParkReason::Uninstalled).await);
    assert_eq!(store.revive_shop(&shop(), number).await.unwrap(), 0, "that does not pass");
    store.close().await;
}

const REVOKE: Unlinking = Unlinking { keep_objects: false, revoke: true };

/// Those that somebody else has to do with.
async fn cleanups(store: &Store) -> Vec<(Cleanup, u64, bool)> {
    let outside =
        store.cleanups().await.unwrap().into_iter().filter(|one| !matches!(one.cleanup, Cleanup::ForgetParts(_)));
    outside.map(|one| (one.cleanup, one.seq, one.void)).collect()
}

#[tokio::test]
async fn the_last_link_of_a_shop_leaves_the_uninstall_with_its_pair() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    let (one, two) = (install(&store, UserId::random(), 1).await, install(&store, user, 2).await);
    assert_eq!(unlink(&store, &one, REVOKE).await, [Revoking::ShopStillLinked(shop(), 1)]);
    assert_eq!(cleanups(&store).await, []);
    assert_eq!(unlink(&store, &two, REVOKE).await, [Revoking::Uninstalling(shop())]);
    assert_eq!(held_pair(&store).await, None);
    store.close().await;
    let store = open(dir.path());
    let [(Cleanup::Uninstall(_), seq, false)] = cleanups(&store).await[..] else { panic!("an uninstall is owed") };
    let tokens = async || match store.uninstall_pair(&shop(), seq).await.unwrap() {
        ReadyPair::Yes(pair, until) => Some((pair.access.expose().to_owned(), pair.refresh.expose().to_owned(), until)),
        ReadyPair::NotYet => None,
        ReadyPair::Never => panic!("it opens"),
    };
    let before = tokens().await.unwrap();
    assert_eq!((before.0.as_str(), before.1.as_str()), ("shpat_2", "shprt_2"));
    // The pair goes on with the refreshes that the uninstall needs.
    let renewed = NewShop { expires_at: before.2.plus(Duration::from_secs(9)), ..pair(3) };
    assert!(store.renew_uninstall(&shop(), seq, &renewed).await.unwrap());
    assert!(!store.renew_uninstall(&shop(), seq + 1, &pair(4)).await.unwrap());
    assert_eq!(tokens().await.unwrap(), ("shpat_3".to_owned(), "shprt_3".to_owned(), renewed.expires_at));
    // An installation makes it void, and the link looks for itself when nothing of it can land any more.
    let link = install(&store, user, 5).await;
    assert_eq!((cleanups(&store).await[0].2, tokens().await), (true, None));
    published(&store);
    store.finish_cleanup(&Cleanup::Uninstall(shop()), seq).await.unwrap();
    assert!(published(&store).links[&link].recheck.is_some());
    // Without the wish nothing is left.
    unlink(&store, &link, Unlinking::default()).await;
    assert_eq!(cleanups(&store).await, []);
    store.close().await;
}

#[tokio::test]
async fn a_redact_is_owed_until_it_is_done_or_the_app_is_installed_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    store.owe_redact(&shop(), 0).await.unwrap();
    assert_eq!(cleanups(&store).await, [], "nothing is stored of the shop");
    let link = install(&store, user, 1).await;
    let first = store.shop_pair(&shop()).await.unwrap().unwrap().record.login;
    store.owe_redact(&shop(), first).await.unwrap();
    store.owe_redact(&shop(), first).await.unwrap();
    store.close().await;
    let store = open(dir.path());
    let [(Cleanup::Redact(_), seq, false)] = cleanups(&store).await[..] else { panic!("a redact is owed") };
    assert!(store.is_redact_owed(&shop(), seq).await.unwrap());
    // A refresh is no installation.
    store.end_refresh(&shop(), number(&store).await, &pair(2)).await.unwrap();
    assert!(store.is_redact_owed(&shop(), seq).await.unwrap());
    install(&store, user, 3).await;
    assert!(!store.is_redact_owed(&shop(), seq).await.unwrap());
    // What was asked about the installation before is owed to no later one.
    store.finish_cleanup(&Cleanup::Redact(shop()), seq).await.unwrap();
    store.owe_redact(&shop(), first).await.unwrap();
    assert_eq!(cleanups(&store).await, []);
    assert!(store.view(&link).await.unwrap().is_some());
    store.close().await;
}
