//! A client that progenitor generated from the document, at work on a daemon: over the socket, and over the loopback
//! address.
//!
//! The client is kept in the repository, because its generator would add a minute of compiling to every build of the
//! tests. `tests/openapi_client/generate` writes it anew, and the architecture test tells when that is due.

use http::StatusCode;
use pagesyncd::core::model::UserId;

use crate::harness::{Harness, LIMIT, free_port};
use generated::types::{SessionRequest, Source};
use generated::{Client, Error};

#[allow(clippy::all, clippy::unwrap_used, unused_qualifications, missing_docs, dead_code, reason = "generated")]
mod generated {
    include!("../../openapi_client/client.rs");
}

/// A client of the admin socket.
fn of_socket(harness: &Harness) -> Client {
    let http = reqwest::Client::builder().no_proxy().timeout(LIMIT).unix_socket(harness.daemon.socket());
    Client::new_with_client("http://localhost", http.build().unwrap())
}

/// A client of the loopback address.
fn of_listener(harness: &Harness) -> Client {
    Client::new_with_client(&format!("http://{}", harness.setup.admin_listen), harness.http.clone())
}

/// The status and the code of an error that the document has.
fn code<T>(outcome: Result<T, Error<generated::types::Error>>) -> (StatusCode, String) {
    match outcome {
        Err(Error::ErrorResponse(answer)) => (answer.status(), answer.into_inner().error.code),
        Err(other) => panic!("no answer of the document: {other}"),
        Ok(_) => panic!("it was not refused"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_generated_from_the_document_works() {
    let listen = format!("127.0.0.1:{}", free_port());
    let harness = Harness::plan().pages(3).daemon(|setup| setup.admin_listen = listen).start().await;
    let user = harness.linked().await;
    let page = harness.nth(0);
    let (client, reader) = (of_socket(&harness), of_listener(&harness));
    for client in [&client, &reader] {
        let status = client.get_status().await.unwrap().into_inner();
        assert_eq!(
            (status.version.as_str(), status.links, status.store.ok),
            (env!("CARGO_PKG_VERSION"), Some(3), true)
        );
        assert!(status.cluster.is_none() && status.started_at <= chrono::Utc::now());
        assert_eq!(client.list_pages().await.unwrap().pages.len(), 3);
    }
    let links = reader
        .list_links(None, None, None, None, None, None, None, Some(Source::Facebook), None)
        .await
        .unwrap()
        .into_inner()
        .links;
    let link = links.iter().find(|link| link.id == page).unwrap();
    assert_eq!((link.user, link.health.as_str(), link.owed), (user.0, "active", false));
    let found = client.get_link(Source::Facebook, &page).await.unwrap().into_inner().links;
    assert_eq!(found[0].object_changed_at, link.object_changed_at);

    let synced = client.sync(Source::Facebook, &page, Some(&user.0)).await.unwrap();
    assert_eq!((synced.status(), synced.into_inner().users), (StatusCode::ACCEPTED, vec![user.0]));
    let request = SessionRequest { user: UserId::random().0, ttl: Some("1h".into()), label: None };
    let session = client.create_session(&request).await.unwrap().into_inner();
    harness.keep_secret(&session.session_id);
    assert!(session.login_url.starts_with(&harness.base));
    assert_eq!(code(reader.create_session(&request).await), (StatusCode::FORBIDDEN, "read_only".into()));
    let gone = client.unlink(Source::Facebook, &page, None, Some(false), None, None).await.unwrap().into_inner();
    assert_eq!((gone.object.as_str(), gone.users), ("deleted", vec![user.0]));
    assert_eq!(code(client.get_link(Source::Facebook, &page).await), (StatusCode::NOT_FOUND, "not_linked".into()));
    harness.complete().await;
    harness.finish().await;
}
