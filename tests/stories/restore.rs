//! An older state of the shared database comes back while all daemons are stopped, and a daemon is set up with another
//! bucket than the others.

use http::Method;
use pagesyncd::core::model::UserId;
use serde_json::Value;
use tokio::task::block_in_place;

use crate::cluster::Cluster;
use crate::harness::{ADA, Harness, object_key, until};

/// Two daemons, and a user with links of the first three of four pages.
async fn with_three_links() -> Option<(Cluster, UserId)> {
    let cluster = Cluster::start(2, 4).await?;
    let (user, pages) = (UserId::random(), cluster.harness.pages());
    let answer = cluster.harness.log_in(user, ADA, &pages[..3].join(",")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    cluster.harness.until_true(user, &pages[..3]).await;
    cluster.harness.complete().await;
    Some((cluster, user))
}

/// What the backup does not have: the first page has changed, the third is not linked any more, and the fourth is.
async fn work_after_the_backup(cluster: &Cluster, user: UserId) {
    let (harness, pages) = (&cluster.harness, cluster.harness.pages());
    let answer = harness.log_in(user, ADA, "all").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    harness.until_true(user, &pages).await;
    change(cluster, &pages[0], "after the backup").await;
    let output = harness.run(&["unlink", &pages[2]]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    until("the object is gone", async || harness.object(user, &pages[2]).is_none()).await;
    harness.until_true(user, &[pages[0].clone(), pages[1].clone(), pages[3].clone()]).await;
    harness.complete().await;
}

async fn change(cluster: &Cluster, page: &str, about: &str) {
    cluster.harness.world().change(|s| s.pages.get_mut(page).unwrap().node.insert("about".into(), about.into()));
    cluster.deliver(1, &[page.to_owned()]).await;
}

async fn stop_all(cluster: &Cluster) {
    for number in 0..=cluster.others.len() {
        assert_eq!(cluster.daemon(number).stop().await, Some(0));
    }
}

async fn start_all(cluster: &Cluster) {
    for number in 0..=cluster.others.len() {
        cluster.daemon(number).start().await.unwrap();
    }
}

/// What a verb says, and its exit code.
async fn said(harness: &Harness, arguments: &[&str]) -> (Option<i32>, String) {
    let output = harness.run(arguments).await;
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

async fn changed(cluster: &Cluster, number: usize) -> Value {
    let status = cluster.daemon(number).ask(Method::GET, "/v1/status", "").await;
    status.map(|status| status["cluster"]["database_changed"].clone()).unwrap_or_default()
}

/// The objects whose keys belong to no link.
async fn without_a_link(harness: &Harness) -> Vec<String> {
    let output = harness.run(&["links", "--json"]).await;
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let part = |link: &Value, key: &str| link[key].as_str().unwrap().to_owned();
    let folder = |link: &Value| format!("users/{}/{}/{}/", part(link, "user"), part(link, "source"), part(link, "id"));
    let linked: Vec<String> = listed["links"].as_array().unwrap().iter().map(folder).collect();
    let mut keys = harness.server.objects.list();
    keys.retain(|key| key.starts_with("users/") && !linked.iter().any(|folder| key.starts_with(folder)));
    keys
}

/// All daemons are stopped, and the database is the one of the backup: it is named, and all is made true again.
async fn the_older_database_is_named_and_followed(cluster: &Cluster, user: UserId, reason: &str) {
    let (harness, pages) = (&cluster.harness, cluster.harness.pages());
    let head = "select concat(head, ' ', history, ' ', changed_at) from meta";
    let before = block_in_place(|| cluster.postgres.ask("pagesyncd", head)).unwrap();
    let (code, text) = said(harness, &["check", "--online"]).await;
    assert!(code == Some(0) && text.contains("the database has become another one") && text.contains(reason), "{text}");
    assert!(text.contains("restore a newer backup"), "no way out: {text}");
    assert_eq!(block_in_place(|| cluster.postgres.ask("pagesyncd", head)).unwrap(), before, "a check changes nothing");
    let left = harness.object(user, &pages[3]);
    assert!(left.is_some());

    start_all(cluster).await;
    for number in 0..=cluster.others.len() {
        until("the daemon shows it", async || changed(cluster, number).await.is_object()).await;
        let shown = changed(cluster, number).await;
        assert!(shown["reason"].as_str().unwrap().contains(reason), "{shown}");
    }
    assert!(harness.log().contains("the database has become another one"));
    let (_, text) = said(harness, &["status"]).await;
    assert!(text.contains("another one since") && text.contains(reason), "{text}");
    // The link that the backup brings back is linked again, and its object is written again.
    harness.until_true(user, &pages[..3]).await;
    harness.complete().await;
    assert_eq!(harness.world().violations(), Vec::<String>::new());
    // The object of the link that the backup does not have stays as it is, and is found as the documents say.
    assert_eq!(harness.object(user, &pages[3]), left);
    assert_eq!(without_a_link(harness).await, [object_key(user, &pages[3])]);
    let answer = harness.log_in(user, ADA, "all").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for page in &pages {
        change(cluster, page, "after the restore").await;
    }
    cluster.until_true(user).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_is_restored_while_no_daemon_runs_is_named_and_every_object_becomes_true() {
    let Some((cluster, user)) = with_three_links().await else { return };
    block_in_place(|| cluster.postgres.dump()).unwrap();
    work_after_the_backup(&cluster, user).await;
    stop_all(&cluster).await;
    block_in_place(|| cluster.postgres.restore()).unwrap();
    the_older_database_is_named_and_followed(&cluster, user, "it was system ").await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_put_back_while_no_daemon_runs_is_named_and_every_object_becomes_true() {
    let Some((mut cluster, user)) = with_three_links().await else { return };
    stop_all(&cluster).await;
    block_in_place(|| {
        cluster.postgres.shut_down();
        cluster.postgres.copy_files().unwrap();
        cluster.postgres.start_again().unwrap();
    });
    start_all(&cluster).await;
    work_after_the_backup(&cluster, user).await;
    assert!(changed(&cluster, 0).await.is_null() && changed(&cluster, 1).await.is_null());
    stop_all(&cluster).await;
    block_in_place(|| {
        cluster.postgres.shut_down();
        cluster.postgres.put_files_back().unwrap();
        cluster.postgres.start_again().unwrap();
    });
    the_older_database_is_named_and_followed(&cluster, user, "it went back to an earlier state").await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_with_another_bucket_is_refused_until_the_bucket_is_changed_on_purpose() {
    let Some(mut cluster) = Cluster::start(2, 2).await else { return };
    let user = cluster.harness.linked().await;
    cluster.until_true(user).await;
    let bucket = cluster.harness.setting("spaces.bucket");
    cluster.harness.expect_errors("config: the reload is refused");
    // A running daemon keeps its bucket.
    cluster.harness.set("spaces.bucket", "elsewhere");
    cluster.harness.reload("refused").await;
    let refused = cluster.harness.status().await["config"]["last_error"].clone();
    assert!(refused.as_str().unwrap().contains("spaces.bucket cannot change"), "{refused}");
    assert_eq!(cluster.harness.daemon.stop().await, Some(0));
    for arguments in [&["run"][..], &["check", "--online"]] {
        let (code, text) = said(&cluster.harness, arguments).await;
        assert_eq!(code, Some(78), "{text}");
        for words in ["are in the bucket http://127.0.0.1/", "/elsewhere", "correct spaces.bucket", "migrate --bucket"]
        {
            assert!(text.contains(words), "{text}");
        }
    }
    let (code, text) = said(&cluster.harness, &["migrate", "--bucket"]).await;
    assert!(code == Some(75) && text.contains("the daemon number-1 uses the store"), "{code:?}: {text}");
    assert_eq!(cluster.daemon(1).stop().await, Some(0));
    let (code, text) = said(&cluster.harness, &["migrate", "--bucket"]).await;
    assert!(code == Some(0) && text.contains("/elsewhere now") && text.contains("start the daemons"), "{text}");
    assert!(cluster.others[0].daemon.start().await.is_err(), "it has the earlier bucket");

    // Back to the bucket that the world has, which is emptied by hand meanwhile.
    cluster.harness.set("spaces.bucket", bucket);
    let pages = cluster.harness.pages();
    assert!(cluster.harness.server.objects.delete(&object_key(user, &pages[0])));
    let puts = pages.iter().map(|page| cluster.harness.puts(user, page)).collect::<Vec<_>>();
    let (code, text) = said(&cluster.harness, &["migrate", "--bucket", "--json"]).await;
    assert!(code == Some(0) && text.contains("\"earlier_bucket\": \"http://127.0.0.1/elsewhere\""), "{text}");
    start_all(&cluster).await;
    cluster.until_true(user).await;
    cluster.harness.complete().await;
    assert_eq!(cluster.harness.puts(user, &pages[0]), puts[0] + 1, "what the bucket lacks is written");
    assert_eq!(cluster.harness.puts(user, &pages[1]), puts[1], "what it has is not");
    cluster.finish().await;
}
