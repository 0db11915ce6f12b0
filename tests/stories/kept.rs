//! The kept configuration: a crash while the file on disk is broken does not end the service, and an orderly restart
//! shows the mistake.

use serde_json::{Value, json};

use crate::harness::{Harness, delivery, until};

const REFUSED: &str = "pagesyncd_config_refused";

async fn config(harness: &Harness) -> Value {
    harness.status().await["config"].clone()
}

/// The daemon works: a webhook ends in an object that is true.
async fn works(harness: &Harness, user: pagesyncd::core::model::UserId, name: &str) {
    let page = harness.nth(0);
    harness.world().edit_page(&page, "name", name.into()).unwrap();
    assert_eq!(harness.deliver(delivery(&[&page])).await.status, 200);
    harness.until_true(user, &[page]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_a_refused_reload_brings_back_the_settings_in_force_until_the_file_is_mended() {
    let mut harness = Harness::plan().start().await;
    harness.expect_errors(" ERROR config");
    let user = harness.linked().await;
    harness.set("http.max_body_bytes", 4096);
    harness.reload("applied").await;
    let before = config(&harness).await;
    assert_eq!((&before["source"], harness.metric(REFUSED).await), (&json!("file"), 0.0));
    let good = std::fs::read_to_string(&harness.config).unwrap();
    std::fs::write(&harness.config, good.replace("debounce = ", "debounse = ")).unwrap();
    harness.reload("refused").await;
    assert_eq!(harness.metric(REFUSED).await, 1.0);
    // Each crash, and not the first alone.
    for round in 0..2 {
        harness.crash().await;
        let now = config(&harness).await;
        assert_eq!((&now["source"], &now["loaded_at"]), (&json!("kept"), &before["loaded_at"]), "{now}");
        assert!(now["last_error"].as_str().unwrap().contains("sync.debounse"), "{now}");
        assert_eq!(harness.metric(REFUSED).await, 1.0);
        let text = String::from_utf8(harness.run_in_place(&["status"]).await.stdout).unwrap();
        assert!(text.contains("kept from before a crash") && text.contains("sync.debounse"), "{text}");
        assert_eq!(
            harness.deliver(format!("{{\"x\":\"{}\"}}", "x".repeat(5000))).await.status,
            413,
            "the limit in force"
        );
        works(&harness, user, &format!("After crash {round}")).await;
    }
    assert!(harness.log().contains("is refused, starting with the configuration in force since"));
    // A reload of the mended file ends it.
    harness.set("http.max_body_bytes", 8192);
    harness.reload("applied").await;
    let now = config(&harness).await;
    assert_eq!(
        (&now["source"], now.get("last_error"), harness.metric(REFUSED).await),
        (&json!("file"), None, 0.0),
        "{now}"
    );
    assert_eq!(harness.deliver(format!("{{\"x\":\"{}\"}}", "x".repeat(5000))).await.status, 200);
    harness.crash().await;
    assert_eq!(config(&harness).await["source"], "file");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_order_shows_the_mistake_of_the_file() {
    let mut harness = Harness::plan().pages(2).start().await;
    harness.expect_errors(" ERROR config");
    let user = harness.linked().await;
    let good = std::fs::read_to_string(&harness.config).unwrap();
    std::fs::write(&harness.config, good.replace("debounce = ", "debounse = ")).unwrap();
    for kept in [false, true] {
        if kept {
            // Also when the kept configuration is in force, which took no reload: the file broke before the crash.
            harness.write_config();
            harness.daemon.start().await.unwrap();
            std::fs::write(&harness.config, good.replace("debounce = ", "debounse = ")).unwrap();
            harness.crash().await;
            assert_eq!(config(&harness).await["source"], "kept");
        }
        assert_eq!(harness.daemon.stop().await, Some(0));
        let said = harness.daemon.start().await.unwrap_err();
        assert!(said.contains("78"), "{said}");
        assert!(harness.log().contains("sync.debounse"));
    }
    harness.write_config();
    harness.daemon.start().await.unwrap();
    assert_eq!(config(&harness).await["source"], "file");
    works(&harness, user, "Mended").await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_does_not_put_in_force_what_the_daemon_refused() {
    let mut harness = Harness::plan().pages(2).start().await;
    harness.expect_errors(" ERROR config");
    let user = harness.linked().await;
    // Good as such, and refused: the store cannot move in a running process.
    let old = harness.setting("store.path");
    let elsewhere = harness.scratch_dir().join("elsewhere");
    harness.set("store.path", elsewhere.display().to_string());
    harness.reload("refused").await;
    until("the refusal is noted", async || harness.log().contains("the reload is refused")).await;
    // The crash is no restart that somebody asked for. The state directory leads to the kept configuration.
    let old_folder = old.as_str().unwrap().to_owned();
    harness.daemon.kill_now().await;
    harness.daemon.set_env("STATE_DIRECTORY", &old_folder);
    harness.daemon.start().await.unwrap();
    let status = harness.status().await;
    assert_eq!((&status["config"]["source"], &status["links"]), (&json!("kept"), &json!(2)), "{status}");
    assert!(status["config"]["last_error"].as_str().unwrap().contains("store.path"), "{status}");
    works(&harness, user, "Over the crash").await;
    // The restart is, and the store is another one.
    harness.restart().await;
    let status = harness.status().await;
    assert_eq!((&status["config"]["source"], &status["links"]), (&json!("file"), &json!(0)), "{status}");
    harness.set("store.path", old);
    harness.restart().await;
    until("the links are back", async || harness.status().await["links"] == 2).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_store_key_a_crash_with_a_broken_file_says_both() {
    let mut harness = Harness::plan().pages(2).start().await;
    harness.expect_errors(" ERROR config");
    harness.linked().await;
    // The key stands in the file, and the file is gone.
    let good = std::fs::read_to_string(&harness.config).unwrap();
    let head = good.lines().filter(|line| !line.starts_with("key = ")).collect::<Vec<_>>().join("\n");
    std::fs::write(&harness.config, head).unwrap();
    harness.daemon.kill_now().await;
    let said = harness.daemon.start().await.unwrap_err();
    assert!(said.contains("78"), "{said}");
    let log = harness.log();
    assert!(log.contains("store.key: is missing") && log.contains("the store key cannot be read"), "{log}");
    // With its source elsewhere the key is there, whatever becomes of the file.
    let key = harness.scratch_dir().join("store-key");
    std::fs::write(&key, harness.setting("store.key").as_str().unwrap()).unwrap();
    let source: toml::Value = toml::Table::from_iter([("file".to_owned(), key.display().to_string().into())]).into();
    harness.set("store.key", source);
    harness.daemon.start().await.unwrap();
    let folder = harness.setting("store.path").as_str().unwrap().to_owned();
    harness.daemon.set_env("STATE_DIRECTORY", &folder);
    std::fs::write(&harness.config, "").unwrap();
    harness.crash().await;
    assert_eq!(config(&harness).await["source"], "kept");
    harness.write_config();
    harness.reload("applied").await;
    harness.finish().await;
}
