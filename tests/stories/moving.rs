//! A store moves from its folder into a database and back. Nobody notices: nothing is written anew, and sessions and login
//! links go on.

use pagesyncd::core::model::UserId;
use pagesyncd::sandbox::postgres::Postgres;

use crate::harness::{Browser, Harness};

/// A harness whose database is not in use yet; `None` without PostgreSQL.
async fn start() -> Option<(Harness, Postgres)> {
    let harness = Harness::plan().pages(4).start().await;
    let folder = harness.scratch_dir().join("postgres");
    let made = tokio::task::spawn_blocking(move || Postgres::fast(&folder)).await.unwrap();
    match Postgres::for_test(made) {
        Some(postgres) => Some((harness, postgres)),
        None => {
            harness.finish().await;
            None
        }
    }
}

/// Runs the verb. Returns its exit code and what it says, without the address of the database.
async fn moved(harness: &Harness, arguments: &[&str]) -> (Option<i32>, String) {
    let output = harness.run(&[&["move-store"], arguments].concat()).await;
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

fn all_puts(harness: &Harness, user: UserId) -> Vec<u64> {
    harness.pages().iter().map(|page| harness.puts(user, page)).collect()
}

/// The daemon has the store: the browser's session and the login link work, and what changes is written, and no more.
async fn goes_on(harness: &Harness, user: UserId, browser: &mut Browser, link: &str) {
    harness.daemon.start().await.unwrap();
    let before = all_puts(harness, user);
    assert_eq!(harness.pages_linked().await.len(), 4);
    harness.to_dialog(browser).await;
    let opened = harness.browse(&mut Browser::default(), link, "*/*").await;
    assert!(opened.status < 400, "{}", opened.text());
    let page = harness.nth(0);
    harness.world().change(|s| {
        let change = format!("changed {} times", before[0]);
        s.pages.get_mut(&page).unwrap().node.insert("about".into(), change.into());
    });
    for page in harness.pages() {
        harness.sync(&page).await;
    }
    harness.until_true(user, &harness.pages()).await;
    harness.complete().await;
    let after = all_puts(harness, user);
    assert_eq!(after[1..], before[1..], "what did not change was written anew");
    assert!(after[0] > before[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_moves_into_a_database_and_back_and_nobody_notices() {
    let Some((mut harness, postgres)) = start().await else { return };
    let user = harness.linked().await;
    let url = postgres.url();
    let mut browser = harness.browser(user).await;
    let (_, first) = harness.session(user).await;
    let (_, second) = harness.session(user).await;

    let (code, said) = moved(&harness, &["--to", &url]).await;
    assert!(code == Some(75) && said.contains("systemctl stop"), "{said}");
    assert_eq!(harness.daemon.stop().await, Some(0));
    let (code, said) = moved(&harness, &["--to"]).await;
    assert!(code == Some(64) && said.contains("store.url"), "{said}");
    let (code, said) = moved(&harness, &["--to", &url]).await;
    assert!(code == Some(0) && said.contains("records") && said.contains("set store.url"), "{said}");
    assert!(!said.contains("postgres://"), "{said}");
    let (code, said) = moved(&harness, &["--to", &url, "--json"]).await;
    assert!(code == Some(0) && said.contains("\"already\": true"), "{said}");
    let refused = harness.run(&["run"]).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(78) && said.contains("move-store --from"), "{said}");

    harness.set("store.url", url.clone());
    goes_on(&harness, user, &mut browser, &first).await;
    let (code, said) = moved(&harness, &["--from"]).await;
    assert!(code == Some(75) && said.contains("stop all daemons"), "{said}");
    assert_eq!(harness.daemon.stop().await, Some(0));
    let (code, said) = moved(&harness, &["--from"]).await;
    assert!(code == Some(0) && said.contains("unset store.url"), "{said}");
    assert!(!said.contains("waiting"), "nobody died: {said}");
    let refused = harness.run(&["run"]).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(78) && said.contains("move-store --to"), "{said}");

    harness.unset("store.url");
    goes_on(&harness, user, &mut browser, &second).await;
    harness.finish().await;
    drop(postgres);
}
