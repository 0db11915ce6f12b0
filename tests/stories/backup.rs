//! Backups in the bucket: a machine that is lost comes back from the newest one, and a backup that cannot be trusted
//! changes nothing.

use pagesyncd::core::model::UserId;
use pagesyncd::sandbox::fault::Fault;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::harness::{Harness, object_key, until};

const PASSPHRASE: &str = "a passphrase for backups of a story";
/// A backup of a year that is long over, and what only looks like one.
const OLD: &str = "backups/20190102T030405Z-earlier-host.json";
const OTHERS: [&str; 3] = ["backups/notes.json", "backups/20190102T030405Z.json", "backups/20190102T030405Z-a/b.json"];

async fn with_passphrase(pages: usize) -> (Harness, UserId) {
    let harness = Harness::plan().pages(pages).set("backup.passphrase", PASSPHRASE).start().await;
    harness.keep_secret(PASSPHRASE);
    let user = harness.linked().await;
    (harness, user)
}

/// The exit code of a verb, and what it prints and says.
async fn said(harness: &Harness, arguments: &[&str]) -> (Option<i32>, String) {
    let output = harness.run(arguments).await;
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

async fn backed_up(harness: &Harness, more: &[&str]) -> Value {
    let output = harness.run(&[&["backup", "--json"], more].concat()).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn in_the_bucket(harness: &Harness) -> Vec<String> {
    harness.server.objects.list().into_iter().filter(|key| key.starts_with("backups/")).collect()
}

/// The store with its key goes, as with its machine, and another key is made.
fn lose_the_machine(harness: &mut Harness) {
    std::fs::remove_dir_all(&harness.setup.store_path).unwrap();
    let key = pagesyncd::store::seal::generate_key().unwrap();
    harness.set("store.key", key);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_machine_comes_back_from_the_newest_backup() {
    let (mut harness, user) = with_passphrase(4).await;
    let pages = harness.pages();
    harness.until_true(user, &pages).await;
    for key in OTHERS.iter().chain([&OLD]) {
        assert!(harness.server.objects.land(key, b"{}"));
    }
    let first = backed_up(&harness, &["--keep", "36500d"]).await;
    assert_eq!((first["links"].as_u64(), &first["deleted"]), (Some(4), &serde_json::json!([])), "{first}");
    let second = backed_up(&harness, &[]).await;
    assert_eq!(second["deleted"], serde_json::json!([OLD.strip_prefix("backups/").unwrap()]));
    let names = [&first, &second].map(|written| written["name"].as_str().unwrap().to_owned());
    assert!(names[0] < names[1], "{names:?}");
    let mut expected: Vec<String> = names.iter().map(|name| format!("backups/{name}")).collect();
    expected.extend(OTHERS.map(str::to_owned));
    expected.sort();
    assert_eq!(in_the_bucket(&harness), expected);
    let (code, listed) = said(&harness, &["backup", "--list"]).await;
    assert_eq!(code, Some(0));
    assert_eq!(listed.lines().filter_map(|line| line.split(' ').next()).collect::<Vec<_>>(), names);
    // Nothing in it says whose pages these are.
    let sealed = harness.server.objects.get(&format!("backups/{}", names[1])).unwrap();
    let sealed = String::from_utf8(sealed).unwrap();
    assert!(!sealed.contains(&user.to_string()) && !pages.iter().any(|page| sealed.contains(page.as_str())));
    // A store with links is left alone.
    let (code, text) = said(&harness, &["restore"]).await;
    assert!(code == Some(64) && text.contains("has 4 links already") && text.contains("--merge"), "{text}");

    assert_eq!(harness.daemon.stop().await, Some(0));
    lose_the_machine(&mut harness);
    assert!(harness.server.objects.delete(&object_key(user, &pages[0])));
    harness.world().edit_page(&pages[1], "name", "Changed while it was lost".into()).unwrap();
    harness.daemon.start().await.unwrap();
    assert_eq!(harness.status().await["links"], 0);
    let output = harness.run(&["restore", "latest", "--json"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let none = serde_json::json!([]);
    assert_eq!((&report["imported"], &report["bad"], &report["left"]), (&Value::from(4), &none, &none), "{report}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(&names[1]));
    until("all links work", async || harness.status().await["health"]["active"] == 4).await;
    harness.until_true(user, &pages).await;
    harness.world().edit_page(&pages[2], "name", "Changed after it came back".into()).unwrap();
    harness.until_true(user, &pages).await;
    harness.complete().await;
    // It is merged into a store that works, and backups are not the objects of links.
    let (code, text) = said(&harness, &["restore", &names[0], "--merge"]).await;
    assert!(code == Some(0) && text.contains("0 bad lines") && text.contains(&names[0]), "{text}");
    until("all links work", async || harness.status().await["health"]["active"] == 4).await;
    harness.complete().await;
    assert_eq!(in_the_bucket(&harness), expected);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_cannot_be_used_is_named_and_changes_nothing() {
    let (mut harness, user) = with_passphrase(2).await;
    harness.complete().await;
    let (code, text) = said(&harness, &["restore"]).await;
    assert!(code == Some(64) && text.contains("there are no backups under backups/"), "{text}");
    assert_eq!(said(&harness, &["backup", "--list"]).await, (Some(0), String::new()));
    // Of a stopped store.
    assert_eq!(harness.daemon.stop().await, Some(0));
    let written = backed_up(&harness, &[]).await;
    let name = written["name"].as_str().unwrap().to_owned();
    let key = format!("backups/{name}");
    lose_the_machine(&mut harness);
    let refused = async |harness: &Harness, arguments: &[&str], code: i32, words: &str| {
        let (ended, text) = said(harness, arguments).await;
        assert!(ended == Some(code) && text.contains(words), "{arguments:?}: {ended:?}: {text}");
    };
    refused(&harness, &["restore", "20190102T030405Z-a.json"], 64, "there is no backup 20190102T030405Z-a.json").await;
    refused(&harness, &["restore", "../users"], 64, "is not the name of a backup").await;
    harness.set("backup.passphrase", "another passphrase of the story");
    refused(&harness, &["restore"], 78, "was sealed with another passphrase; nothing was changed").await;
    harness.set("backup.passphrase", "too short");
    refused(&harness, &["restore"], 78, "is shorter than 12 characters").await;
    harness.unset("backup.passphrase");
    refused(&harness, &["restore"], 78, "backup.passphrase is missing").await;
    refused(&harness, &["backup"], 78, "backup.passphrase is missing").await;
    harness.set("backup.passphrase", PASSPHRASE);
    for fault in [Fault::SpacesReset, Fault::SpacesBadGateway] {
        harness.world().set_fault(fault, true);
        for arguments in [&["restore"][..], &["restore", &name], &["backup"], &["backup", "--list"]] {
            refused(&harness, arguments, 75, "spaces: ").await;
        }
        harness.world().set_fault(fault, false);
    }
    let whole = harness.server.objects.get(&key).unwrap();
    for cut in [whole.len() - 1, whole.len() / 2, 0] {
        assert!(harness.server.objects.land(&key, &whole[..cut]));
        refused(&harness, &["restore"], 65, "is damaged").await;
    }
    // The whole under the name of a newer one is an older state in its place.
    assert!(harness.server.objects.land("backups/20990102T030405Z-a.json", &whole));
    refused(&harness, &["restore"], 65, "20990102T030405Z-a.json is damaged").await;
    assert!(!harness.setup.store_path.join("sled").exists(), "nothing was changed");
    assert!(harness.server.objects.land(&key, &whole));
    // Into a stopped store.
    let (code, text) = said(&harness, &["restore", &name]).await;
    assert!(code == Some(0) && text.contains("2 links imported"), "{text}");
    harness.daemon.start().await.unwrap();
    until("all links work", async || harness.status().await["health"]["active"] == 2).await;
    harness.until_true(user, &harness.pages()).await;
    harness.complete().await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_store_is_backed_up_and_restored_with_and_without_daemons() {
    let Some(mut cluster) = Cluster::start(2, 3).await else { return };
    cluster.harness.keep_secret(PASSPHRASE);
    cluster.harness.set("backup.passphrase", PASSPHRASE);
    let user = cluster.harness.linked().await;
    cluster.until_true(user).await;
    cluster.harness.complete().await;
    for is_running in [true, false] {
        if !is_running {
            for number in 0..2 {
                assert_eq!(cluster.daemon(number).stop().await, Some(0));
            }
        }
        assert_eq!(backed_up(&cluster.harness, &[]).await["links"], 3);
        if !is_running {
            for number in 0..2 {
                cluster.daemon(number).start().await.unwrap();
            }
        }
        for page in cluster.harness.pages() {
            assert!(cluster.harness.run(&["unlink", &page]).await.status.success());
        }
        cluster.harness.complete().await;
        if !is_running {
            for number in 0..2 {
                assert_eq!(cluster.daemon(number).stop().await, Some(0));
            }
        }
        let (code, text) = said(&cluster.harness, &["restore"]).await;
        assert!(code == Some(0) && text.contains("3 links imported"), "{text}");
        if !is_running {
            for number in 0..2 {
                cluster.daemon(number).start().await.unwrap();
            }
        }
        cluster.until_true(user).await;
        cluster.harness.complete().await;
    }
    cluster.finish().await;
}
