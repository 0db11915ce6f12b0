//! The kept configuration: a crash while the file on disk is broken does not end the service, and an orderly restart
//! shows the mistake.

use serde_json::{Value, json};

use crate::town::{Town, delivery, until};

const REFUSED: &str = "pagesyncd_config_refused";

async fn config(town: &Town) -> Value {
    town.status().await["config"].clone()
}

/// The daemon works: a webhook ends in an object that is true.
async fn works(town: &Town, user: pagesyncd::model::UserId, name: &str) {
    let page = town.nth(0);
    town.world().edit_page(&page, "name", name.into()).unwrap();
    assert_eq!(town.deliver(delivery(&[&page])).await.status, 200);
    town.until_true(user, &[page]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_a_refused_reload_brings_back_the_settings_in_force_until_the_file_is_mended() {
    let mut town = Town::plan().start().await;
    town.expect_errors(" ERROR config");
    let user = town.linked().await;
    town.set("http.max_body_bytes", 4096);
    town.reload("applied").await;
    let before = config(&town).await;
    assert_eq!((&before["source"], town.metric(REFUSED).await), (&json!("file"), 0.0));
    let good = std::fs::read_to_string(&town.config).unwrap();
    std::fs::write(&town.config, good.replace("debounce = ", "debounse = ")).unwrap();
    town.reload("refused").await;
    assert_eq!(town.metric(REFUSED).await, 1.0);
    // Each crash, and not the first alone.
    for round in 0..2 {
        town.crash().await;
        let now = config(&town).await;
        assert_eq!((&now["source"], &now["loaded_at"]), (&json!("kept"), &before["loaded_at"]), "{now}");
        assert!(now["last_error"].as_str().unwrap().contains("sync.debounse"), "{now}");
        assert_eq!(town.metric(REFUSED).await, 1.0);
        let text = String::from_utf8(town.run_in_place(&["status"]).await.stdout).unwrap();
        assert!(text.contains("kept from before a crash") && text.contains("sync.debounse"), "{text}");
        assert_eq!(town.deliver(format!("{{\"x\":\"{}\"}}", "x".repeat(5000))).await.status, 413, "the limit in force");
        works(&town, user, &format!("After crash {round}")).await;
    }
    assert!(town.log().contains("is refused, starting with the configuration in force since"));
    // A reload of the mended file ends it.
    town.set("http.max_body_bytes", 8192);
    town.reload("applied").await;
    let now = config(&town).await;
    assert_eq!(
        (&now["source"], now.get("last_error"), town.metric(REFUSED).await),
        (&json!("file"), None, 0.0),
        "{now}"
    );
    assert_eq!(town.deliver(format!("{{\"x\":\"{}\"}}", "x".repeat(5000))).await.status, 200);
    town.crash().await;
    assert_eq!(config(&town).await["source"], "file");
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_order_shows_the_mistake_of_the_file() {
    let mut town = Town::plan().pages(2).start().await;
    town.expect_errors(" ERROR config");
    let user = town.linked().await;
    let good = std::fs::read_to_string(&town.config).unwrap();
    std::fs::write(&town.config, good.replace("debounce = ", "debounse = ")).unwrap();
    for kept in [false, true] {
        if kept {
            // Also when the kept configuration is in force, which took no reload: the file broke before the crash.
            town.write_config();
            town.daemon.start().await.unwrap();
            std::fs::write(&town.config, good.replace("debounce = ", "debounse = ")).unwrap();
            town.crash().await;
            assert_eq!(config(&town).await["source"], "kept");
        }
        assert_eq!(town.daemon.stop().await, Some(0));
        let said = town.daemon.start().await.unwrap_err();
        assert!(said.contains("78"), "{said}");
        assert!(town.log().contains("sync.debounse"));
    }
    town.write_config();
    town.daemon.start().await.unwrap();
    assert_eq!(config(&town).await["source"], "file");
    works(&town, user, "Mended").await;
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_does_not_put_in_force_what_the_daemon_refused() {
    let mut town = Town::plan().pages(2).start().await;
    town.expect_errors(" ERROR config");
    let user = town.linked().await;
    // Good as such, and refused: the store cannot move in a running process.
    let old = town.setting("store.path");
    let elsewhere = town.desk().join("elsewhere");
    town.set("store.path", elsewhere.display().to_string());
    town.reload("refused").await;
    until("the refusal is noted", async || town.log().contains("the reload is refused")).await;
    // The crash is no restart that somebody asked for. The state directory leads to the kept configuration.
    let old_folder = old.as_str().unwrap().to_owned();
    town.daemon.kill_now().await;
    town.daemon.set_env("STATE_DIRECTORY", &old_folder);
    town.daemon.start().await.unwrap();
    let status = town.status().await;
    assert_eq!((&status["config"]["source"], &status["links"]), (&json!("kept"), &json!(2)), "{status}");
    assert!(status["config"]["last_error"].as_str().unwrap().contains("store.path"), "{status}");
    works(&town, user, "Over the crash").await;
    // The restart is, and the store is another one.
    town.restart().await;
    let status = town.status().await;
    assert_eq!((&status["config"]["source"], &status["links"]), (&json!("file"), &json!(0)), "{status}");
    town.set("store.path", old);
    town.restart().await;
    until("the links are back", async || town.status().await["links"] == 2).await;
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_store_key_a_crash_with_a_broken_file_says_both() {
    let mut town = Town::plan().pages(2).start().await;
    town.expect_errors(" ERROR config");
    town.linked().await;
    // The key stands in the file, and the file is gone.
    let good = std::fs::read_to_string(&town.config).unwrap();
    let head = good.lines().filter(|line| !line.starts_with("key = ")).collect::<Vec<_>>().join("\n");
    std::fs::write(&town.config, head).unwrap();
    town.daemon.kill_now().await;
    let said = town.daemon.start().await.unwrap_err();
    assert!(said.contains("78"), "{said}");
    let log = town.log();
    assert!(log.contains("store.key: is missing") && log.contains("the store key cannot be read"), "{log}");
    // With its source elsewhere the key is there, whatever becomes of the file.
    let key = town.desk().join("store-key");
    std::fs::write(&key, town.setting("store.key").as_str().unwrap()).unwrap();
    let source: toml::Value = toml::Table::from_iter([("file".to_owned(), key.display().to_string().into())]).into();
    town.set("store.key", source);
    town.daemon.start().await.unwrap();
    let folder = town.setting("store.path").as_str().unwrap().to_owned();
    town.daemon.set_env("STATE_DIRECTORY", &folder);
    std::fs::write(&town.config, "").unwrap();
    town.crash().await;
    assert_eq!(config(&town).await["source"], "kept");
    town.write_config();
    town.reload("applied").await;
    town.finish().await;
}
