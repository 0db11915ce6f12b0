//! Looking at many links, and bringing many.

use std::collections::BTreeSet;

use super::*;
use crate::core::grant::Granted;
use crate::store::imports::{LinkLine, Trials};

/// Lines of an import: each of another user, another page and another person.
fn lines(count: u64) -> Vec<LinkLine> {
    let line = |n: u64| {
        let token = Secret::new(format!("EAAB{}", "x".repeat(180)));
        let facebook_user = Some((2_000_000_000_000_000 + n).to_string().parse().unwrap());
        let link = NewLink { page: page(n), token, name: Some(format!("Page {n}")), facebook_user };
        LinkLine { line: n as usize + 1, user: UserId::random(), link, granted: Granted { at: None, by: None } }
    };
    (0..count).map(line).collect()
}

async fn import(store: &Store, lines: &[LinkLine]) {
    let ticket = store.ticket().await.unwrap();
    let imported = store.import_links(ticket, lines, &Trials::Impossible).await.unwrap();
    assert_eq!(imported.links.len(), lines.len());
}

/// The number of the newest transaction.
async fn transactions(store: &Store) -> u64 {
    store.barrier().await.unwrap();
    store.read(|engine| engine.database().expect("it lies on disk").batch()).unwrap()
}

#[tokio::test]
async fn pages_of_links_are_all_of_them_in_the_order_of_their_keys() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    import(&store, &lines(23)).await;
    let all = store.links().await.unwrap();
    assert!(all.is_sorted() && all.len() == 23);
    for most in [1, 4, 23, 24] {
        let (mut after, mut paged) = (None, Vec::new());
        loop {
            let views = store.views_after(after.clone(), most).await.unwrap();
            let keys = store.links_after(after.clone(), most).await.unwrap();
            let opened = store.opened_after(after, most).await.unwrap();
            assert_eq!(views.iter().map(|view| view.key.clone()).collect::<Vec<_>>(), keys);
            assert_eq!(opened.iter().map(|link| link.key.clone()).collect::<Vec<_>>(), keys);
            assert!(opened.iter().all(|link| link.token.as_ref().unwrap().expose().starts_with("EAAB")));
            assert!(views.iter().all(|view| view.owed && !view.owed_parked));
            paged.extend(keys);
            if views.len() < most {
                break;
            }
            after = paged.last().cloned();
        }
        assert_eq!(paged, all, "{most}");
    }
    // Behind one that is gone meanwhile the list goes on.
    unlink(&store, &all[4], Unlinking::default()).await;
    assert_eq!(store.links_after(Some(all[4].clone()), 3).await.unwrap(), all[5..8]);
    store.close().await;
}

#[tokio::test]
async fn logins_are_paged_like_links() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 1..6 {
        cleanups::link_as(&store, UserId::random(), n, &[n]).await;
    }
    let all = store.accounts().await.unwrap();
    assert!(all.is_sorted() && all.len() == 5);
    assert_eq!(store.accounts_after(None, 2).await.unwrap(), all[..2]);
    assert_eq!(store.accounts_after(Some(all[1].clone()), 2).await.unwrap(), all[2..4]);
    assert_eq!(store.accounts_after(Some(all[4].clone()), 2).await.unwrap(), []);
    store.close().await;
}

/// An import is not paid by the user: a transaction takes the links of some hundred.
#[tokio::test]
async fn an_import_of_many_users_takes_few_transactions() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let lines = lines(2000);
    let before = transactions(&store).await;
    import(&store, &lines).await;
    let took = transactions(&store).await - before;
    assert!((1..=10).contains(&took), "{took} transactions for 2000 users");
    let users: BTreeSet<UserId> = store.links().await.unwrap().into_iter().map(|link| link.user).collect();
    assert_eq!(users.len(), 2000);
    store.close().await;
}

/// What a link that was just imported takes in the trees, with its mark. The limit is a tenth above the figure.
#[tokio::test]
async fn a_link_takes_so_many_bytes() {
    const LIMIT: usize = 900;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    import(&store, &lines(500)).await;
    let bytes = |tree: Tree| {
        let records = store.read(|engine| engine.records(tree).collect::<Result<Vec<_>, _>>()).unwrap();
        records.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
    };
    let taken = (bytes(Tree::Links) + bytes(Tree::Marks) + bytes(Tree::Synced) + bytes(Tree::Events)) / 500;
    assert!((LIMIT * 8 / 10..LIMIT).contains(&taken), "{taken} bytes a link");
    store.close().await;
}
