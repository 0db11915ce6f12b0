//! Every key and secret is rotated while webhooks pour in: no delivery is refused, a login that is under way is finished,
//! no link is parked, and when all is done nothing needs the earlier secrets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pagesyncd::model::UserId;
use pagesyncd::sandbox::World;
use tokio::task::JoinHandle;

use crate::town::{ADA, Town, delivery, until};

/// Deliveries without a pause, signed as Facebook signs at that moment, about pages that are edited all the while. A
/// delivery that finds no daemon is sent again, as Meta does; one that is answered must be answered well.
struct Load {
    go: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Load {
    fn on(town: &Town) -> Load {
        let (go, answered) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (going, counted) = (go.clone(), answered.clone());
        let (world, http, pages) = (town.world().clone(), town.http.clone(), town.pages());
        let address = format!("{}/facebook/webhook", town.base);
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

async fn fresh_key(town: &Town) -> String {
    let made = town.run(&["keygen"]).await;
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

async fn is_sealed(town: &Town) -> bool {
    town.status().await["store"]["sealing"]["done"] == true
}

/// The next key, with the one before beside it.
async fn next_key(town: &mut Town) -> toml::Value {
    let old = town.setting("store.key");
    let new = fresh_key(town).await;
    town.set("store.previous_keys", vec![old.clone()]);
    town.set("store.key", new);
    old
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_key_is_rotated_by_reload_and_by_restart() {
    let mut town = Town::plan().trace().start().await;
    town.expect_errors("store.previous_keys");
    let user = town.linked().await;
    let (_, login) = town.session(user).await;
    let sealing = town.status().await["store"]["sealing"].clone();
    assert_eq!((&sealing["earlier"], &sealing["done"]), (&0.into(), &true.into()), "{sealing}");
    let load = Load::on(&town);
    for by_restart in [false, true] {
        let old = next_key(&mut town).await;
        if by_restart {
            town.restart().await
        } else {
            town.reload("applied").await
        }
        until("everything is sealed anew", async || is_sealed(&town).await).await;
        load.flows().await;
        town.set("store.previous_keys", Vec::<toml::Value>::new());
        if by_restart {
            town.restart().await
        } else {
            town.reload("applied").await
        }
        load.flows().await;
        // The old one alone is refused by name, and changes nothing.
        let new = town.setting("store.key");
        town.set("store.key", old);
        town.reload("refused").await;
        let error = town.status().await["config"]["last_error"].as_str().unwrap_or_default().to_owned();
        assert!(error.contains("store.previous_keys"), "{error}");
        town.set("store.key", new);
        town.reload("applied").await;
    }
    load.end().await;
    town.until_true(user, &town.pages()).await;
    // A login link from before both rotations opens its session.
    let answer = town.get(&login).await;
    assert_eq!(answer.status, 302, "{}", answer.text());
    // With the database gone, the second copy is read with the new key alone.
    town.expect_errors("]: is restored from the backup log");
    assert_eq!(town.daemon.stop().await, Some(0));
    std::fs::remove_dir_all(town.setup.store_path.join("sled")).unwrap();
    town.daemon.start().await.unwrap();
    assert_eq!(town.status().await["links"], 6);
    town.world().edit_page(&town.nth(0), "name", "Under the last key".into()).unwrap();
    town.until_true(user, &town.pages()).await;
    town.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secrets_of_the_app_of_spaces_and_of_the_door_are_rotated_under_load() {
    let mut town = Town::plan().trace().start().await;
    let user = town.linked().await;
    town.world().change(|s| s.app.require_proof = true);
    let load = Load::on(&town);
    for round in ["first", "second"] {
        app_secret(&mut town, &load, round).await;
        spaces_keys(&mut town, round).await;
        load.flows().await;
        door(&mut town, user, round).await;
        load.flows().await;
    }
    load.end().await;
    let pages = town.pages();
    town.until_true(user, &pages).await;
    for page in &pages {
        assert_eq!(town.health(page).await, "active");
    }
    town.finish().await;
}

async fn app_secret(town: &mut Town, load: &Load, round: &str) {
    let (old, new) = (town.setting("facebook.app_secret"), format!("0011223344556677{round:->16}"));
    town.set("facebook.previous_app_secret", old);
    town.set("facebook.app_secret", new.as_str());
    town.reload("applied").await;
    load.flows().await;
    town.world().change(|s| s.app.secret = new);
    load.flows().await;
    // What was signed before is on its way no more.
    town.set("facebook.previous_app_secret", "");
    town.reload("applied").await;
    load.flows().await;
}

async fn spaces_keys(town: &mut Town, round: &str) {
    let text = |key: &str| town.setting(key).as_str().unwrap().to_owned();
    let old = (text("spaces.access_key"), text("spaces.secret_key"));
    let new = (format!("SANDBOXKEY{round}"), format!("the-{round}-secret-key-of-this-bucket"));
    town.world().set_spaces_keys([old, new.clone()]);
    town.set("spaces.access_key", new.0.as_str());
    town.set("spaces.secret_key", new.1.as_str());
    town.reload("applied").await;
    town.world().set_spaces_keys([new]);
}

async fn door(town: &mut Town, user: UserId, round: &str) {
    let mut browser = town.browser(user).await;
    let (under_way, late) = (town.to_dialog(&mut browser).await, town.to_dialog(&mut browser).await);
    town.set("session.previous_state_secret", town.setting("session.state_secret"));
    town.set("session.state_secret", format!("a state secret for the {round} round"));
    town.set("facebook.verify_token", format!("a-verify-token-for-the-{round}-round"));
    town.reload("applied").await;
    let back = town.decide(&under_way, ADA, "all", "continue").await;
    assert_eq!(town.browse(&mut browser, &back, "*/*").await.status, 200);
    // The predecessor is let go, and a login from its time begins again.
    town.set("session.previous_state_secret", "");
    town.reload("applied").await;
    let back = town.decide(&late, ADA, "all", "continue").await;
    let answer = town.browse(&mut browser, &back, "*/*").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "bad_state"));
    // Facebook asks for the new token when the app is subscribed anew.
    town.world().drop_app_subscription();
    town.restart().await;
    until("the app is subscribed again", async || town.world().look(|s| s.app.subscription.is_some())).await;
}
