//! A shared database that cannot be used: `run`, `check --online` and `status` name the reason, and all comes back by
//! itself where it can.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pagesyncd::sandbox::pooler::Pooler;
use pagesyncd::sandbox::postgres::{Options, Postgres};

use crate::cluster::Cluster;
use crate::harness::{Harness, until};

/// A harness with the address of a database that nothing lies in; `None` without PostgreSQL.
async fn with_database() -> Option<(Harness, Postgres)> {
    let mut harness = Harness::plan().pages(2).build().await;
    let folder = harness.scratch_dir().join("postgres");
    let made = tokio::task::spawn_blocking(move || Postgres::fast(&folder)).await.unwrap();
    let postgres = Postgres::for_test(made)?;
    harness.set("store.url", postgres.url());
    Some((harness, postgres))
}

/// The exit code of a verb, and the words of its error.
async fn refused(harness: &Harness, arguments: &[&str]) -> (Option<i32>, String) {
    let output = harness.run(arguments).await;
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_used_is_named_at_start_and_by_a_check() {
    let Some((mut harness, postgres)) = with_database().await else { return };
    let url = postgres.url();
    let (code, text) = refused(&harness, &["check", "--online"]).await;
    assert!(code == Some(0) && text.contains("store: the database is empty"), "{text}");
    harness.set("store.node", "east");
    harness.daemon.start().await.unwrap();
    let output = harness.run(&["check", "--online"]).await;
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(said.contains("Graph, Spaces and the database answer") && !said.contains("note:"), "{said}");

    let password = url.split_once("pagesyncd:").unwrap().1.split_once('@').unwrap().0.to_owned();
    let wrong_password = url.replace(&password, "not-the-password");
    harness.keep_secret("not-the-password");
    let cases = [
        (wrong_password, 78, "refuses the login"),
        (url.replace("/pagesyncd?", "/elsewhere?"), 78, "no such database"),
        (url.replace("sslmode=disable", "sslmode=require"), 78, "offers no TLS"),
        (url.replace("127.0.0.1", "no-such-host.invalid").replace("disable", "require"), 69, "no-such-host.invalid"),
    ];
    for (wrong, code, words) in cases {
        harness.set("store.url", wrong);
        let (ended, text) = refused(&harness, &["run"]).await;
        assert!(ended == Some(code) && text.contains(words), "{ended:?}: {text}");
        let (ended, text) = refused(&harness, &["check", "--online"]).await;
        assert!(ended == Some(78) && text.contains("store: ") && text.contains(words), "{ended:?}: {text}");
    }
    harness.set("store.url", url);
    let key = harness.setting("store.key");
    let other = harness.run(&["keygen"]).await.stdout;
    harness.set("store.key", String::from_utf8(other).unwrap().trim());
    let words = "store.key does not open the database";
    let (ended, text) = refused(&harness, &["run"]).await;
    assert!(ended == Some(74) && text.contains(words), "{ended:?}: {text}");
    let (ended, text) = refused(&harness, &["check", "--online"]).await;
    assert!(ended == Some(78) && text.contains(words), "{ended:?}: {text}");
    harness.set("store.key", key);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_daemons_of_one_name_the_later_one_is_refused() {
    let Some(cluster) = Cluster::start(1, 1).await else { return };
    let twin = cluster.with_name(1, "first");
    let output = cluster.harness.run_with(&["run"], Some(&twin.config)).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(78) && text.contains("has the name first"), "{text}");
    assert!(text.contains("store.node"), "{text}");
    // A daemon that was killed has its successor's name, which does not wait for the end of its life.
    cluster.harness.daemon.kill_now().await;
    twin.daemon.start().await.unwrap();
    assert_eq!(twin.daemon.stop().await, Some(0));
    cluster.harness.daemon.start().await.unwrap();
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_passes_no_notifications_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let Some((mut harness, postgres)) = with_database().await else { return };
    let Some(pooler) = Postgres::for_test(Pooler::start(&dir.path().join("pooler"), &postgres, 8)) else { return };
    harness.set("store.url", pooler.url());
    let (code, text) = refused(&harness, &["check", "--online"]).await;
    assert!(code == Some(0) && text.contains("no notification passes"), "{text}");
    harness.daemon.start().await.unwrap();
    let warned = async || {
        let warnings = harness.status().await["cluster"]["warnings"].clone();
        warnings.as_array().is_some_and(|all| all.iter().any(|warning| warning.as_str().unwrap().contains("pooler")))
    };
    until("status says it", warned).await;
    let text = String::from_utf8(harness.run(&["status"]).await.stdout).unwrap();
    assert!(text.contains("no notification passes"), "{text}");
    // It says nothing of the kind where notifications pass.
    assert_eq!(harness.daemon.stop().await, Some(0));
    harness.set("store.url", postgres.url());
    harness.daemon.start().await.unwrap();
    until("it beats", async || harness.status().await["cluster"]["answers"] == true).await;
    assert_eq!(harness.status().await["cluster"]["warnings"], serde_json::json!([]));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_stops_while_its_database_hangs() {
    let Some(mut cluster) = Cluster::start(1, 2).await else { return };
    let user = cluster.harness.linked().await;
    cluster.until_true(user).await;
    cluster.harness.expect_errors("store: cannot commit to the database");
    cluster.postgres.pause();
    let pages = cluster.harness.pages();
    until("a delivery is refused", async || cluster.refuses(0, &pages).await).await;
    let asked = Instant::now();
    assert_eq!(cluster.harness.daemon.stop().await, Some(0));
    assert!(asked.elapsed() < Duration::from_secs(45), "{:?}", asked.elapsed());
    cluster.postgres.go_on();
    cluster.harness.daemon.start().await.unwrap();
    cluster.change_all("after it", &[0]).await;
    cluster.until_true(user).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_no_writes_for_a_while_is_said_and_all_comes_back() {
    let Some(mut cluster) = Cluster::start(2, 4).await else { return };
    let user = cluster.harness.linked().await;
    cluster.until_true(user).await;
    cluster.harness.expect_errors("store: cannot commit to the database");
    let execute = async |statements: &str| {
        let (client, connection) =
            tokio_postgres::connect(&cluster.postgres.url(), tokio_postgres::NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        // This session may be one that writes nothing, too.
        client.batch_execute("set default_transaction_read_only = off").await.unwrap();
        client.batch_execute(statements).await.unwrap();
        drop(client);
        let _ = connection.await.unwrap();
    };
    let end_others = "select pg_terminate_backend(pid) from pg_stat_activity \
                      where usename = current_user and pid <> pg_backend_pid()";
    execute("alter role pagesyncd set default_transaction_read_only = on").await;
    execute(end_others).await;
    let pages = cluster.harness.pages();
    for number in [0, 1] {
        until("a delivery is refused", async || cluster.refuses(number, &pages).await).await;
    }
    let reason = async || cluster.harness.get("/readyz").await.text();
    until("readiness says why", async || reason().await.contains("takes no writes")).await;
    assert!(!reason().await.contains("127.0.0.1"), "{}", reason().await);
    assert_eq!(cluster.harness.get("/healthz").await.status, 200);
    execute("alter role pagesyncd reset default_transaction_read_only").await;
    cluster.change_all("when it takes writes", &[0, 1]).await;
    cluster.until_true(user).await;
    cluster.finish().await;
}

/// A small file system in memory, with the server's files on it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where it cannot be had.
    fn mount(at: &Path) -> Option<SmallDisk> {
        std::fs::create_dir_all(at).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=192m,mode=755", "tmpfs"]).arg(at);
        command.status().is_ok_and(|status| status.success()).then(|| SmallDisk(at.to_owned()))
    }

    /// Takes all of the space that is left.
    fn fill(&self) {
        let _full = std::io::copy(&mut std::io::repeat(0), &mut std::fs::File::create(self.0.join("filler")).unwrap());
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_on_a_full_disk_is_said_and_all_comes_back() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("a small file system is mounted by root alone, the test is left out");
        return;
    }
    let harness = Harness::plan().pages(4).build().await;
    let folder = harness.scratch_dir().join("disk");
    let Some(disk) = SmallDisk::mount(&folder) else {
        eprintln!("no file system can be mounted here, the test is left out");
        return harness.finish().await;
    };
    let settings = vec![("max_wal_size".to_owned(), "64MB".to_owned()), ("wal_recycle".to_owned(), "off".to_owned())];
    let made = tokio::task::spawn_blocking(move || {
        Postgres::start_with(&folder.join("postgres"), Options { fast: true, settings, ..Options::default() })
    });
    let Some(postgres) = Postgres::for_test(made.await.unwrap()) else { return };
    let url = postgres.url();
    let mut cluster = Cluster::over(harness, 1, &url, postgres).await;
    let user = cluster.harness.linked().await;
    cluster.until_true(user).await;
    cluster.harness.expect_errors("store: cannot commit to the database");
    disk.fill();
    let pages = cluster.harness.pages();
    // The space that its files have already comes to an end.
    until("a delivery is refused", async || cluster.refuses(0, &pages).await).await;
    until("it is not ready", async || !cluster.is_ready(0).await).await;
    disk.empty();
    // A server that could not write its log has ended.
    tokio::task::block_in_place(|| cluster.postgres.start_again()).unwrap();
    cluster.change_all("when there is space again", &[0]).await;
    cluster.until_true(user).await;
    cluster.finish().await;
    drop(disk);
}
