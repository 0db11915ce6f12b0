//! One bucket for all daemons of a database.

use super::lineage::{Case, OURS, changed, is_due, settled};
use super::*;
use crate::store::shared::bucket;
use crate::store::shared::connect::{Role, connect};
use crate::store::shared::errors::ConnectError;
use crate::store::shared::probe::probe;

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_of_an_earlier_version_take_the_bucket_of_the_first_daemon_and_hold_all_to_it() {
    let Some(case) = Case::start() else { return };
    let with = |bucket: &str| {
        let mut settings = case.settings(OURS);
        settings.bucket = Some(bucket.to_owned());
        settings
    };
    let store = case.join(OURS).await;
    let link = settled(&store, UserId::random(), 1).await;
    store.close().await;
    case.ask("alter table meta drop column bucket, drop column works_with; update meta set schema = 1");
    let noted = || case.ask("select concat(schema, ' ', bucket) from meta");

    let store = case.join_with(with("https://one/a")).await;
    assert_eq!((noted(), due_mark(&store, &link).await), ("2 https://one/a".to_owned(), None));
    let refused = |found: Result<Store, ConnectError>| match found {
        Err(ConnectError::OtherBucket { noted, configured, .. }) => (noted, configured),
        other => panic!("{:?}", other.err()),
    };
    let both = ("https://one/a".to_owned(), "https://one/b".to_owned());
    let opened = || tokio::task::block_in_place(|| Store::open_shared(with("https://one/b"), keyring()));
    assert_eq!(refused(opened()), both);
    let error = probe(&with("https://one/b"), &keyring()).await.unwrap_err();
    assert!(error.to_string().contains("; correct spaces.bucket"), "{error}");
    let session = connect(&with("https://one/b"), Role::Admin).await.unwrap();
    let change = async |bucket: &str| bucket::change(&with(bucket), &session.client).await;
    let moved = change("https://one/b").await;
    assert!(matches!(moved, Err(ConnectError::InUse { .. })), "{moved:?}");
    assert_eq!(change("https://one/a").await.unwrap().from.as_deref(), Some("https://one/a"));
    store.close().await;
    assert_eq!(change("https://one/b").await.unwrap().from.as_deref(), Some("https://one/a"));

    let store = case.join_with(with("https://one/b")).await;
    assert!(is_due(&store, &link).await, "its object is compared with what the new bucket has");
    assert_eq!((changed(&store), noted()), (None, "2 https://one/b".to_owned()));
    store.close().await;
}
