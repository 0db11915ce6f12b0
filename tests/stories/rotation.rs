//! Every key and secret is rotated while webhooks pour in: no delivery is refused, a login that is under way is
//! finished, no link is parked, and when all is done nothing needs the earlier secrets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pagesyncd::core::model::UserId;
use pagesyncd::sandbox::World;
use tokio::task::JoinHandle;

use crate::cluster::Cluster;
use crate::harness::{ADA, Harness, delivery, until};

/// Deliveries without a pause, signed as Facebook signs at that moment, about pages that are edited all the while. A
/// delivery that finds no daemon is sent again, as Meta does; one that is answered must be answered well.
struct Load {
    go: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Load {
    fn on(harness: &Harness) -> Load {
        let (go, answered) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (going, counted) = (go.clone(), answered.clone());
        let (world, http, pages) = (harness.world().clone(), harness.http.clone(), harness.pages());
        let address = format!("{}/facebook/webhook", harness.base);
        let task = tokio::spawn(async move {
            for page in (0usize..).map(|turn| &pages[turn % pages.len()]) {
                let turn = counted.load(Ordering::SeqCst);
                if turn.is_multiple_of(10) {
                    world.edit_page(page, "name", format!("{page} after {turn} deliveries").into()).unwrap();
                }
                if let Some(status) = send(&world, &http, &address, page).await {
                    assert_eq!(status, 200, "delivery {turn}");
                    counted.fetch_add(1, Ordering::SeqCst);
                }
                if !going.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
        Load { go, answered, task }
    }

    /// Lets some more deliveries pass under what holds now.
    async fn flows(&self) {
        let before = self.answered.load(Ordering::SeqCst);
        until("deliveries are taken", async || {
            assert!(!self.task.is_finished(), "a delivery was refused");
            self.answered.load(Ordering::SeqCst) >= before + 20
        })
        .await;
    }

    async fn end(self) {
        self.go.store(false, Ordering::SeqCst);
        self.task.await.unwrap();
    }
}

/// `None` when there was no daemon to answer.
async fn send(world: &World, http: &reqwest::Client, address: &str, page: &str) -> Option<u16> {
    let body = delivery(&[page]);
    let signature = world.sign(body.as_bytes());
    let request = http.post(address).header("x-hub-signature-256", signature).body(body);
    request.send().await.ok().map(|answer| answer.status().as_u16())
}

async fn fresh_key(harness: &Harness) -> String {
    let made = harness.run(&["keygen"]).await;
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

async fn is_sealed(harness: &Harness) -> bool {
    harness.status().await["store"]["sealing"]["done"] == true
}

/// The next key, with the one before beside it.
async fn next_key(harness: &mut Harness) -> toml::Value {
    let old = harness.setting("store.key");
    let new = fresh_key(harness).await;
    harness.set("store.previous_keys", vec![old.clone()]);
    harness.set("store.key", new);
    old
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_key_is_rotated_by_reload_and_by_restart() {
    let mut harness = Harness::plan().trace().start().await;
    harness.expect_errors("store.previous_keys");
    let user = harness.linked().await;
    let (_, login) = harness.session(user).await;
    let sealing = harness.status().await["store"]["sealing"].clone();
    assert_eq!((&sealing["earlier"], &sealing["done"]), (&0.into(), &true.into()), "{sealing}");
    let load = Load::on(&harness);
    for by_restart in [false, true] {
        let old = next_key(&mut harness).await;
        if by_restart {
            harness.restart().await
        } else {
            harness.reload("applied").await
        }
        until("everything is sealed anew", async || is_sealed(&harness).await).await;
        load.flows().await;
        harness.set("store.previous_keys", Vec::<toml::Value>::new());
        if by_restart {
            harness.restart().await
        } else {
            harness.reload("applied").await
        }
        load.flows().await;
        // The old one alone is refused by name, and changes nothing.
        let new = harness.setting("store.key");
        harness.set("store.key", old);
        harness.reload("refused").await;
        let error = harness.status().await["config"]["last_error"].as_str().unwrap_or_default().to_owned();
        assert!(error.contains("store.previous_keys"), "{error}");
        harness.set("store.key", new);
        harness.reload("applied").await;
    }
    load.end().await;
    harness.until_true(user, &harness.pages()).await;
    // A login link from before both rotations opens its session.
    let answer = harness.get(&login).await;
    assert_eq!(answer.status, 302, "{}", answer.text());
    // With the database gone, the second copy is read with the new key alone.
    harness.expect_errors("]: is restored from the backup log");
    assert_eq!(harness.daemon.stop().await, Some(0));
    std::fs::remove_dir_all(harness.setup.store_path.join("sled")).unwrap();
    harness.daemon.start().await.unwrap();
    assert_eq!(harness.status().await["links"], 6);
    harness.world().edit_page(&harness.nth(0), "name", "Under the last key".into()).unwrap();
    harness.until_true(user, &harness.pages()).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secrets_of_the_app_of_spaces_and_of_the_door_are_rotated_under_load() {
    let mut harness = Harness::plan().trace().start().await;
    let user = harness.linked().await;
    harness.world().change(|s| s.app.require_proof = true);
    let load = Load::on(&harness);
    for round in ["first", "second"] {
        app_secret(&mut harness, &load, round).await;
        spaces_keys(&mut harness, round).await;
        load.flows().await;
        http_secrets(&mut harness, user, round).await;
        load.flows().await;
    }
    load.end().await;
    let pages = harness.pages();
    harness.until_true(user, &pages).await;
    for page in &pages {
        assert_eq!(harness.health(page).await, "active");
    }
    harness.finish().await;
}

async fn app_secret(harness: &mut Harness, load: &Load, round: &str) {
    let (old, new) = (harness.setting("facebook.app_secret"), format!("0011223344556677{round:->16}"));
    harness.set("facebook.previous_app_secret", old);
    harness.set("facebook.app_secret", new.as_str());
    harness.reload("applied").await;
    load.flows().await;
    harness.world().change(|s| s.app.secret = new);
    load.flows().await;
    // What was signed before is on its way no more.
    harness.set("facebook.previous_app_secret", "");
    harness.reload("applied").await;
    load.flows().await;
}

async fn spaces_keys(harness: &mut Harness, round: &str) {
    let text = |key: &str| harness.setting(key).as_str().unwrap().to_owned();
    let old = (text("spaces.access_key"), text("spaces.secret_key"));
    let new = (format!("SANDBOXKEY{round}"), format!("the-{round}-secret-key-of-this-bucket"));
    harness.world().set_spaces_keys([old, new.clone()]);
    harness.set("spaces.access_key", new.0.as_str());
    harness.set("spaces.secret_key", new.1.as_str());
    harness.reload("applied").await;
    harness.world().set_spaces_keys([new]);
}

async fn http_secrets(harness: &mut Harness, user: UserId, round: &str) {
    let mut browser = harness.browser(user).await;
    let (under_way, late) = (harness.to_dialog(&mut browser).await, harness.to_dialog(&mut browser).await);
    harness.set("session.previous_state_secret", harness.setting("session.state_secret"));
    harness.set("session.state_secret", format!("a state secret for the {round} round"));
    harness.set("facebook.verify_token", format!("a-verify-token-for-the-{round}-round"));
    harness.reload("applied").await;
    let back = harness.decide(&under_way, ADA, "all", "continue").await;
    assert_eq!(harness.browse(&mut browser, &back, "*/*").await.status, 200);
    // The predecessor is let go, and a login from its time begins again.
    harness.set("session.previous_state_secret", "");
    harness.reload("applied").await;
    let back = harness.decide(&late, ADA, "all", "continue").await;
    let answer = harness.browse(&mut browser, &back, "*/*").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "bad_state"));
    // Facebook asks for the new token when the app is subscribed anew.
    harness.world().drop_app_subscription();
    harness.restart().await;
    until("the app is subscribed again", async || harness.world().look(|s| s.app.subscription.is_some())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_that_share_a_store_change_its_key_one_after_the_other() {
    let Some(mut cluster) = Cluster::start(2, 3).await else { return };
    let user = cluster.harness.linked().await;
    cluster.until_true(user).await;
    let old = cluster.harness.setting("store.key").as_str().unwrap().to_owned();
    let new = fresh_key(&cluster.harness).await;
    cluster.harness.keep_secret(&new);
    // Each knows the new key before one of them seals with it.
    for (step, (key, previous)) in [(&old, vec![&new]), (&new, vec![&old]), (&new, vec![])].into_iter().enumerate() {
        for number in [0, 1] {
            assert_eq!(cluster.daemon(number).stop().await, Some(0));
            let previous: Vec<toml::Value> = previous.iter().map(|key| key.as_str().into()).collect();
            cluster.set(number, "store.key", key.as_str().into());
            cluster.set(number, "store.previous_keys", previous.into());
            cluster.daemon(number).start().await.unwrap();
            cluster.change_all(&format!("step {step}, daemon {number}"), &[0, 1]).await;
            cluster.until_true(user).await;
        }
        for number in [0, 1] {
            until("all is sealed with the key in force", async || cluster.is_sealed(number).await).await;
        }
    }
    cluster.finish().await;
}
