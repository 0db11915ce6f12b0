//! What nobody plans for: the database destroyed under the daemon, and the machine's clock set by hours.

use std::path::Path;
use std::time::{Duration, SystemTime};

use pagesyncd::sandbox::fault::Fault;

use crate::clock::Clock;
use crate::harness::{Harness, until};

type Damage = fn(&Path);

/// A daemon whose database is destroyed while it runs, and which dies of it, has every link when it is back.
async fn survives(damage: Damage) {
    let mut harness = Harness::plan().trace().start().await;
    harness.expect_errors("]: is damaged (");
    harness.expect_errors("]: is restored from the backup log");
    harness.expect_errors("panic");
    harness.expect_panics("");
    let user = harness.linked().await;
    let page = harness.nth(0);
    damage(&harness.setup.store_path.join("sled"));
    harness.world().set_fault(Fault::WebhooksLost, true);
    harness.world().edit_page(&page, "name", "Changed in the dark".into()).unwrap();
    harness.crash().await;
    let status = harness.status().await;
    assert_eq!(status["links"], 6, "{status}");
    assert!(status["store"]["mended"].is_string(), "{status}");
    // Every page is read again, so that even changes without a webhook are seen.
    harness.until_true(user, &harness.pages()).await;
    harness.world().clear_faults();
    harness.world().edit_page(&page, "name", "Changed in the light".into()).unwrap();
    harness.until_true(user, &[page]).await;
    harness.restart().await;
    assert!(harness.status().await["store"]["mended"].is_null(), "it is whole and stays so");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_gone_costs_no_link() {
    survives(|sled| std::fs::remove_dir_all(sled).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_overwritten_costs_no_link() {
    survives(|sled| {
        let db = sled.join("db");
        let len = std::fs::metadata(&db).unwrap().len() as usize;
        std::fs::write(db, vec![0xA5; len]).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_cut_off_costs_no_link() {
    survives(|sled| std::fs::File::options().write(true).open(sled.join("db")).unwrap().set_len(4096).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_searched_for_secrets_like_everything_else() {
    let harness = Harness::plan().start().await;
    let user = harness.linked().await;
    let out = harness.run(&["export", "-"]).await;
    assert!(out.status.success());
    let links = String::from_utf8(out.stdout.clone()).unwrap().lines().filter(|l| l.contains("\"page_id\"")).count();
    assert_eq!(links, 6);
    // It comes back into a daemon that has lost them.
    let file = harness.scratch_dir().join("links.jsonl");
    std::fs::write(&file, &out.stdout).unwrap();
    for page in harness.pages() {
        assert!(harness.run(&["unlink", &page, "--keep-object"]).await.status.success());
    }
    assert_eq!(harness.status().await["links"], 0);
    assert!(harness.run(&["import", file.to_str().unwrap()]).await.status.success());
    until("all are linked again", async || harness.status().await["health"]["active"] == 6).await;
    let page = harness.nth(1);
    harness.world().edit_page(&page, "name", "Linked again".into()).unwrap();
    harness.until_true(user, &[page]).await;
    harness.finish().await;
}

/// Does a line carry a time that is off by this much, to ten minutes?
fn shows(log: &str, off: i64) -> bool {
    let span = Duration::from_secs(off.unsigned_abs());
    let wanted = if off < 0 { SystemTime::now() - span } else { SystemTime::now() + span };
    let moment = humantime::format_rfc3339_seconds(wanted).to_string();
    let tens = "2026-11-22T10:0".len();
    log.lines().any(|line| line.starts_with(&moment[..tens]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_or_ahead_delays_nothing() {
    let clock = match Clock::find() {
        Ok(clock) => clock,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let plan = clock.env().into_iter().fold(Harness::plan(), |plan, (name, value)| plan.env(&name, &value));
    let harness = plan.daemon(|setup| setup.log_level = "debug".into()).start().await;
    let user = harness.linked().await;
    let page = harness.nth(0);
    // Spaces takes signatures that are up to fifteen minutes off.
    for off in [-600, 0, 600, -300] {
        // Something waits across the step, for a time by the clock as it was.
        harness.world().set_fault(Fault::GraphReset, true);
        harness.world().edit_page(&page, "name", format!("By a clock {off} s off").into()).unwrap();
        until("a read failed and waits", async || harness.page(&page).await.unwrap()["reason"].is_string()).await;
        clock.set(off);
        let log = harness.log().len();
        harness.world().set_fault(Fault::GraphReset, false);
        harness.until_true(user, std::slice::from_ref(&page)).await;
        harness.sync(&page).await;
        until("the daemon logs by the clock as it is set", async || shows(&harness.log()[log..], off)).await;
    }
    harness.complete().await;
    harness.finish().await;
}
