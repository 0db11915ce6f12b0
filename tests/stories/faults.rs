//! Each fault shows as something that a person understands, and in every view as the same: the status text of systemd,
//! `status` for a person and as JSON, metrics, the alerts over them, and readiness.

use std::io::Write;

use pagesyncd::sandbox::fault::Fault;
use serde_json::Value;
use signal_hook::consts::signal::{SIGCONT, SIGSTOP};

use crate::alerts::fires;
use crate::harness::systemd::Manager;
use crate::harness::{Harness, Plan, delivery, eventually, until};
use crate::webhooks::SmallDisk;

/// A daemon under a service manager whose watchdog bites after thirty seconds, as in the unit.
async fn managed(plan: impl FnOnce(Plan) -> Plan) -> (Harness, Manager) {
    let harness = plan(Harness::plan().pages(3)).build().await;
    let manager = Manager::listen(&harness.scratch_dir());
    harness.daemon.set_env("NOTIFY_SOCKET", manager.address());
    harness.daemon.set_env("WATCHDOG_USEC", "30000000");
    (harness, manager)
}

/// The problem of this code in `/v1/status`.
async fn problem(harness: &Harness, code: &str) -> Option<Value> {
    let status = harness.status().await;
    status["problems"].as_array().unwrap().iter().find(|problem| problem["code"] == code).cloned()
}

async fn awaited(harness: &Harness, code: &str) -> Value {
    eventually(&format!("there is a problem {code}"), async || problem(harness, code).await).await
}

/// The text of `status` for a person.
async fn told(harness: &Harness) -> String {
    let output = harness.run(&["status"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A problem has all that the page and programs need, and a person is told the same.
async fn is_told(harness: &Harness, manager: &Manager, problem: &Value) {
    let text = |key: &str| problem[key].as_str().unwrap_or_else(|| panic!("{key} of {problem}")).to_owned();
    let (code, since) = (text("code"), text("since"));
    assert!(["critical", "warning", "info"].contains(&text("severity").as_str()), "{problem}");
    assert!(since.len() == 20 && text("message").len() > 10 && text("remedy").len() > 10, "{problem}");
    // The seconds of one that hangs count on.
    let start = text("message").split(|c: char| c.is_ascii_digit()).next().unwrap().to_owned();
    let said = told(harness).await;
    assert!(said.contains(&start) && said.contains(&format!("[{code}, since ")), "{problem}: {said}");
    assert!(said.contains(&text("remedy")), "{problem}: {said}");
    let at = |part: &str| said.find(part).unwrap_or_else(|| panic!("no {part} in {said}"));
    assert!(at(&start) < at("links    "), "a problem comes before the counts: {said}");
    until("systemd is told as well", async || manager.status().contains(&start)).await;
    let explained = harness.run(&["explain", &code]).await;
    assert!(explained.status.success(), "no explanation of {code}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_that_hangs_is_named_everywhere_and_starves_the_watchdog() {
    let (mut harness, manager) = managed(Plan::drills).await;
    harness.expect_errors(" ERROR watchdog");
    harness.daemon.start().await.unwrap();
    harness.linked().await;
    assert!(manager.heard()[0].starts_with("EXTEND_TIMEOUT_USEC="));
    until("the counts are told", async || manager.status() == "3 links, 0 reads and 0 writes owed").await;
    assert_eq!(harness.status().await["problems"], serde_json::json!([]));
    harness.drill("hang/dispatcher").await;
    let hangs = awaited(&harness, "part_hangs").await;
    assert_eq!((&hangs["subject"], &hangs["severity"]), (&"dispatcher".into(), &"critical".into()));
    is_told(&harness, &manager, &hangs).await;
    let ready = harness.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["parts"]["dispatcher"]["ok"]), (503, &false.into()), "{}", ready.text());
    assert!(ready.text().contains("the dispatcher has made no progress for "), "{}", ready.text());
    assert_eq!(ready.json()["parts"]["uploader"]["ok"], true);
    assert_eq!(harness.get("/healthz").await.status, 200);
    let silent = "pagesyncd_part_silent_seconds{part=\"dispatcher\"}";
    until("its silence is long", async || harness.metric(silent).await > 46.0).await;
    assert!(harness.metric("pagesyncd_part_silent_seconds{part=\"uploader\"}").await < 30.0);
    fires(&harness, &harness.metrics().await, &["PagesyncdPartHangs critical"]).await;
    until("the watchdog is not fed any more", async || harness.log().contains("the watchdog is not fed any more"))
        .await;
    let (fed, rounds) = (manager.feedings(), manager.heard().len());
    assert!(fed >= 5, "{fed}");
    until("systemd hears how it is", async || manager.heard().len() >= rounds + 2).await;
    assert_eq!(manager.feedings(), fed);
    // systemd would end it now; the next start says why.
    harness.crash().await;
    let ended = awaited(&harness, "unclean_end").await;
    assert!(ended["message"].as_str().unwrap().contains("the dispatcher has made no progress for 6"), "{ended}");
    assert_eq!(harness.get("/readyz").await.status, 200);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_is_named_and_not_the_parts_that_wait_for_it() {
    let (mut harness, manager) = managed(Plan::drills).await;
    harness.expect_errors(" ERROR watchdog");
    harness.daemon.start().await.unwrap();
    harness.linked().await;
    harness.drill("hang/store").await;
    let hangs = awaited(&harness, "part_hangs").await;
    assert_eq!(hangs["subject"], "store");
    is_told(&harness, &manager, &hangs).await;
    let ready = harness.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["parts"]["store"]["ok"]), (503, &false.into()));
    let waits: Vec<Value> = harness.status().await["problems"].as_array().unwrap().clone();
    assert!(waits.iter().all(|problem| problem["subject"] == "store"), "{waits:?}");
    let silent = "pagesyncd_part_silent_seconds{part=\"store\"}";
    assert!(harness.metric(silent).await >= 20.0);
    // A verb that waits for the store says so, and not for ever.
    let output = harness.run(&["sync", &harness.nth(0)]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(69), "{said}");
    let waits = "still waiting for the daemon: the store has made no progress for ";
    assert_eq!(said.matches(waits).count(), 1, "{said}");
    assert!(said.contains("systemd restarts the daemon") && said.contains("may have been done"), "{said}");
    harness.crash().await;
    assert_eq!(harness.get("/readyz").await.status, 200);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_or_an_uploader_that_hangs_is_named_and_an_orderly_stop_still_ends_it() {
    for part in ["supervisor", "uploader"] {
        let (harness, manager) = managed(Plan::drills).await;
        harness.daemon.start().await.unwrap();
        harness.linked().await;
        harness.drill(&format!("hang/{part}")).await;
        let hangs = awaited(&harness, "part_hangs").await;
        assert_eq!(hangs["subject"], part);
        is_told(&harness, &manager, &hangs).await;
        assert_eq!(harness.get("/readyz").await.status, 503);
        harness.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_answers_nothing_ends_status_with_its_process_and_the_way_out() {
    let harness = Harness::plan().pages(1).start().await;
    let pid = harness.daemon.pid().unwrap();
    harness.daemon.signal(SIGSTOP).unwrap();
    let page = harness.nth(0);
    for arguments in [&["status"][..], &["status", "--watch=1"], &["links"], &["sync", &page]] {
        let output = harness.run(arguments).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(69), "{arguments:?}: {said}");
        assert!(said.contains(&format!("process {pid}")) && said.contains("it hangs"), "{arguments:?}: {said}");
        assert!(said.contains("systemctl restart pagesyncd"), "{said}");
    }
    harness.daemon.signal(SIGCONT).unwrap();
    assert!(told(&harness).await.starts_with("pagesyncd "));
    let problems = harness.status().await["problems"].as_array().unwrap().clone();
    // A call that was under way has really timed out.
    assert!(
        problems.iter().all(|problem| problem["code"] != "part_hangs"),
        "a pause is no fault of a part: {problems:?}"
    );
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_killed_again_and_again_says_so_until_it_stops_in_order() {
    let (harness, manager) = managed(|plan| plan).await;
    harness.daemon.start().await.unwrap();
    harness.linked().await;
    assert!(harness.status().await["last_run"].is_null());
    harness.crash().await;
    let once = awaited(&harness, "unclean_end").await;
    assert_eq!(once["severity"], "info");
    assert!(problem(&harness, "crash_loop").await.is_none());
    harness.crash().await;
    harness.crash().await;
    let again = awaited(&harness, "crash_loop").await;
    assert!(again["message"].as_str().unwrap().starts_with("started 3 times in 30 minutes"), "{again}");
    assert!(again["message"].as_str().unwrap().contains("killed without a word"), "{again}");
    assert!(problem(&harness, "unclean_end").await.is_none(), "said once");
    is_told(&harness, &manager, &again).await;
    assert_eq!(harness.metric("pagesyncd_unclean_ends").await, 3.0);
    assert_eq!(harness.get("/readyz").await.status, 200, "it serves");
    fires(&harness, &harness.metrics().await, &["PagesyncdCrashLoop critical"]).await;
    harness.restart().await;
    assert_eq!(harness.status().await["problems"], serde_json::json!([]));
    assert_eq!(harness.status().await["last_run"]["end"], "an orderly stop");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_fails_again_and_again_is_named_with_its_error() {
    let (mut harness, manager) = managed(Plan::drills).await;
    harness.expect_panics("drill:");
    harness.daemon.start().await.unwrap();
    harness.linked().await;
    let page = harness.nth(0);
    let restarts = "pagesyncd_actor_restarts_total{actor=\"page\"}";
    for round in 1..=3 {
        // One that waits for its restart takes no drill.
        until("the page died", async || {
            harness.drill(&format!("page/{page}")).await;
            harness.metric(restarts).await >= f64::from(round)
        })
        .await;
    }
    let fails = awaited(&harness, "actor_fails").await;
    assert!(fails["subject"].as_str().unwrap().ends_with(&page), "{fails}");
    assert!(fails["message"].as_str().unwrap().contains("asked to panic"), "{fails}");
    is_told(&harness, &manager, &fails).await;
    assert_eq!(harness.get("/readyz").await.status, 200);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_refused_shows_until_it_is_mended() {
    let (mut harness, manager) = managed(|plan| plan).await;
    harness.expect_errors(" ERROR config");
    harness.daemon.start().await.unwrap();
    let good = std::fs::read_to_string(&harness.config).unwrap();
    std::fs::write(&harness.config, good.replace("debounce = ", "debounse = ")).unwrap();
    let is_ready = |message: &String| message.starts_with("READY=1");
    until("the start was told", async || manager.heard().iter().any(is_ready)).await;
    let before = manager.heard().len();
    harness.reload("refused").await;
    let refused = awaited(&harness, "config_refused").await;
    assert!(refused["message"].as_str().unwrap().starts_with("reload refused: sync.debounse"), "{refused}");
    is_told(&harness, &manager, &refused).await;
    let order: Vec<String> = manager.heard()[before..]
        .iter()
        .filter_map(|message| message.lines().next().map(str::to_owned))
        .filter(|line| line.starts_with("RE"))
        .collect();
    assert_eq!(order, ["RELOADING=1", "READY=1"]);
    assert_eq!(harness.get("/readyz").await.status, 200, "it serves with the configuration in force");
    assert_eq!(harness.metric("pagesyncd_config_refused").await, 1.0);
    fires(&harness, &harness.metrics().await, &["PagesyncdConfigRefused warning"]).await;
    // A start after an orderly stop ends, and its last words name the key.
    assert_eq!(harness.daemon.stop().await, Some(0));
    assert!(harness.daemon.start().await.unwrap_err().contains("exit code 78"));
    let last = harness.daemon.last_words(3).join("\n");
    assert!(last.contains("sync.debounse"), "{last}");
    std::fs::write(&harness.config, good).unwrap();
    harness.daemon.start().await.unwrap();
    assert_eq!(harness.status().await["problems"], serde_json::json!([]));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_as_that_and_is_over_by_itself() {
    let (mut harness, manager) = managed(|plan| plan).await;
    let folder = harness.scratch_dir().join("disk");
    let Some(_disk) = SmallDisk::mount(folder.clone(), "24m") else {
        return harness.finish().await;
    };
    harness.set("store.path", folder.join("store").to_string_lossy().into_owned());
    for part in ["sled::", " ERROR store"] {
        harness.expect_errors(part);
    }
    harness.daemon.start().await.unwrap();
    harness.linked().await;
    // A disk of this size is about to be full from the beginning.
    is_told(&harness, &manager, &awaited(&harness, "disk_low").await).await;
    let filler = folder.join("filler");
    let fill = || {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&filler).unwrap();
        while file.write_all(&[7; 65536]).is_ok() {}
        while file.write_all(&[7; 512]).is_ok() {}
    };
    let answer = eventually("a delivery is put off", async || {
        fill();
        let answer = harness.deliver(delivery(&harness.pages())).await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert!(!answer.header("retry-after").is_empty());
    let full = eventually("the disk is full", async || {
        fill();
        problem(&harness, "disk_full").await
    })
    .await;
    assert_eq!(full["severity"], "critical");
    assert!(full["message"].as_str().unwrap().contains("No space left on device"), "{full}");
    assert!(full["remedy"].as_str().unwrap().contains(folder.to_str().unwrap()), "{full}");
    is_told(&harness, &manager, &full).await;
    let ready = harness.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["store"]["ok"]), (503, &false.into()));
    assert!(ready.text().contains("No space left on device"), "{}", ready.text());
    let metrics = harness.metrics().await;
    assert!(metrics.contains("pagesyncd_dependency_up{dependency=\"store\"} 0"), "{metrics}");
    assert!(harness.metric("pagesyncd_store_free_bytes").await < 65536.0);
    let alarms = ["PagesyncdDiskFull critical", "PagesyncdNotReady critical", "PagesyncdStoreDown critical"];
    fires(&harness, &metrics, &alarms).await;
    let fed = manager.feedings();
    until("the watchdog is fed all the same", async || manager.feedings() > fed + 1).await;
    std::fs::remove_file(&filler).unwrap();
    until("deliveries are taken again", async || harness.deliver(delivery(&harness.pages())).await.status == 200).await;
    until("it is ready", async || harness.get("/readyz").await.status == 200).await;
    until("systemd is told", async || !manager.status().contains("No space left")).await;
    assert!(problem(&harness, "disk_full").await.is_none() && problem(&harness, "store_down").await.is_none());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_refuses_writes_is_a_problem_with_its_cause() {
    let (harness, manager) = managed(|plan| plan).await;
    harness.daemon.start().await.unwrap();
    harness.linked().await;
    harness.world().set_fault(Fault::SpacesRefused, true);
    harness.world().edit_page(&harness.nth(0), "name", "Not written yet".into()).unwrap();
    harness.sync(&harness.nth(0)).await;
    let failing = awaited(&harness, "spaces_failing").await;
    assert_eq!((&failing["subject"], &failing["severity"]), (&"spaces".into(), &"critical".into()));
    is_told(&harness, &manager, &failing).await;
    assert_eq!(harness.get("/readyz").await.status, 503);
    harness.world().clear_faults();
    until("it is over", async || harness.status().await["problems"] == serde_json::json!([])).await;
    harness.finish().await;
}
