//! The health of links: what a page says when its token, its permission or its budget is gone, what it stops doing
//! then, and how it is well again.

use std::collections::{BTreeMap, BTreeSet};

use pagesyncd::core::model::UserId;
use pagesyncd::sandbox::fault::{Call, ERROR_ROWS, Fault, Scope};
use serde_json::{Value, json};

use crate::harness::{ADA, BRUNO, CHIDI, Harness, delivery, eventually, until};

fn code(code: u32, subcode: u32) -> Fault {
    Fault::Code { code, subcode }
}

/// What was asked of Graph about this page.
fn calls_about(harness: &Harness, page: &str) -> usize {
    let head = format!("/{page}");
    let about = |path: &str| path == head || path.starts_with(&format!("{head}/"));
    harness.world().requests().iter().filter(|request| !request.call.is_spaces() && about(&request.path)).count()
}

/// Error, health, a part of the reason, a part of the remedy.
type Row = ((u32, u32), &'static str, &'static str, &'static str);

/// Every error after which a person must act.
const PARKS: &[Row] = &[
    ((1, 2_853_006), "revoked", "permission", "rerequest"),
    ((3, 0), "revoked", "permission", "dashboard"),
    ((10, 0), "revoked", "permission", "rerequest"),
    ((200, 0), "revoked", "permission", "rerequest"),
    ((299, 0), "revoked", "permission", "rerequest"),
    ((100, 33), "page_gone", "does not exist", "unlink"),
    ((102, 0), "needs_relink", "does not accept the token", "logs in again"),
    ((190, 0), "needs_relink", "not ticked", "ticks this page"),
    ((190, 458), "app_removed", "removed the app", "unlink"),
    ((190, 459), "needs_relink", "confirm something", "follows the instructions"),
    ((190, 460), "needs_relink", "password", "logs in again"),
    ((190, 463), "needs_relink", "expired", "logs in again"),
    ((190, 464), "needs_relink", "not confirmed", "confirms the account"),
    ((190, 467), "needs_relink", "does not accept the token", "logs in again"),
    ((190, 492), "lost_role", "no role", "somebody with a role"),
    ((190, 2_069_032), "needs_relink", "a person's", "import it"),
    ((368, 0), "blocked", "policy", "alerts"),
];

/// Every error that is no reason to bother a person.
const PASSES: &[(u32, u32)] = &[
    (1, 0),
    (1, 99),
    (2, 0),
    (12, 0),
    (31, 0),
    (33, 0),
    (100, 0),
    (101, 0),
    (104, 0),
    (200, 2_069_030),
    (200, 2_069_031),
    (200, 2_069_033),
    (341, 0),
    (506, 0),
    (987, 654),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_error_that_ends_a_link_is_told_with_its_remedy_and_a_new_login_heals_it() {
    let harness = Harness::plan().pages(PARKS.len() + 1).start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    for (page, ((number, subcode), ..)) in pages.iter().zip(PARKS) {
        harness
            .world()
            .set_fault_for(code(*number, *subcode), Scope { call: Some(Call::ReadPage), ..Scope::page(page) });
        harness.sync(page).await;
    }
    let mut asked = BTreeMap::new();
    for (page, (error, health, reason, remedy)) in pages.iter().zip(PARKS) {
        until(&format!("{error:?} makes the page {health}"), async || harness.health(page).await == *health).await;
        let reply = harness.page(page).await.unwrap();
        assert!(reply["reason"].as_str().unwrap().contains(reason), "{error:?}: {reply}");
        assert!(reply["remedy"].as_str().unwrap().contains(remedy), "{error:?}: {reply}");
        assert_eq!(reply["since"].as_str().unwrap().len(), 20, "{error:?}: {reply}");
        asked.insert(page, calls_about(&harness, page));
    }
    // Nothing that comes makes it call again: no webhook, no wish, no restart.
    harness.restart().await;
    assert_eq!(harness.deliver(delivery(&pages)).await.status, 200);
    for page in &pages {
        harness.sync(page).await;
    }
    let other = pages.last().unwrap();
    harness.world().edit_page(other, "name", "The one that is well".into()).unwrap();
    harness.sync(other).await;
    harness.until_true(user, std::slice::from_ref(other)).await;
    for (page, calls) in &asked {
        assert_eq!(calls_about(&harness, page), *calls, "a parked page was called");
    }
    // Lists, metrics and counts say the same.
    let mut words: BTreeMap<String, u64> = BTreeMap::new();
    for (_, health, ..) in PARKS {
        *words.entry((*health).to_owned()).or_default() += 1;
    }
    words.insert("active".into(), 1);
    assert_eq!(harness.status().await["health"], json!(words));
    for (health, count) in &words {
        assert_eq!(harness.metric(&format!("pagesyncd_links{{health=\"{health}\"}}")).await, *count as f64);
    }
    let list = String::from_utf8(harness.run(&["pages"]).await.stdout).unwrap();
    assert_eq!(list.lines().count(), pages.len() + 1);
    assert!(list.contains("lost_role") && list.contains("somebody with a role on the page links it"), "{list}");
    // Out of it again.
    harness.world().clear_faults();
    assert_eq!(harness.log_in(user, ADA, "all").await.status, 200);
    harness.until_true(user, &pages).await;
    for page in &pages {
        assert_eq!(harness.health(page).await, "active");
        assert!(harness.page(page).await.unwrap()["remedy"].is_null());
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_that_pass_leave_a_link_active() {
    let harness = Harness::plan().pages(PASSES.len()).start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    for (page, (number, subcode)) in pages.iter().zip(PASSES) {
        let scope = Scope { call: Some(Call::ReadPage), ..Scope::page(page) };
        harness.world().set_fault_for(code(*number, *subcode), scope.times(1));
        let before = harness.world().graph_reads(page);
        harness.world().edit_page(page, "about", "Open on Sundays.".into()).unwrap();
        harness.sync(page).await;
        until("the page was asked", async || harness.world().graph_reads(page) > before).await;
        assert_eq!(harness.health(page).await, "active", "{number}/{subcode}");
    }
    for page in &pages {
        until("the page is read all the same", async || harness.is_true(user, page)).await;
        assert_eq!(harness.health(page).await, "active");
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_do_on_facebook_shows_as_what_it_is() {
    let harness = Harness::plan().pages(6).start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    harness.world().lose_role(ADA, &pages[0]).unwrap();
    harness.world().delete_page(&pages[1]).unwrap();
    harness.world().untick(&pages[2]).unwrap();
    harness.world().expire_token(ADA, Some(&pages[3])).unwrap();
    for (page, health) in pages.iter().zip(["lost_role", "page_gone", "needs_relink", "needs_relink"]) {
        harness.sync(page).await;
        until(&format!("the page is {health}"), async || harness.health(page).await == health).await;
    }
    assert_eq!(harness.page(&pages[2]).await.unwrap()["reason"], "the page was not ticked in a later login");
    harness.world().checkpoint(ADA).unwrap();
    harness.sync(&pages[4]).await;
    until("a checkpoint", async || harness.health(&pages[4]).await == "needs_relink").await;
    assert!(harness.page(&pages[4]).await.unwrap()["remedy"].as_str().unwrap().contains("facebook.com"));
    // The page is back and the role too; one login heals all.
    harness.world().restore_page(&pages[1]).unwrap();
    harness.world().change(|s| {
        let roles = s.pages[&pages[1]].roles[ADA].clone();
        s.pages.get_mut(&pages[0]).unwrap().roles.insert(ADA.into(), roles);
    });
    let reply = harness.log_in(user, ADA, "all").await.json();
    assert_eq!(reply["changes"]["lost"], json!([]), "{reply}");
    harness.until_true(user, &pages).await;
    for page in &pages {
        until("the page is well", async || harness.health(page).await == "active").await;
    }
    // Facebook's own word goes before what a call found out.
    harness.world().change_password(ADA).unwrap();
    harness.sync(&pages[5]).await;
    until("the password was changed", async || harness.health(&pages[5]).await == "needs_relink").await;
    harness.world().remove_app(ADA).unwrap();
    harness.world().send_deauthorize(ADA).await.unwrap();
    for page in &pages {
        until("the app is removed", async || harness.health(page).await == "app_removed").await;
    }
    assert_eq!(harness.log_in(user, ADA, "all").await.status, 200);
    harness.until_true(user, &pages).await;
    for page in &pages {
        assert_eq!(harness.health(page).await, "active");
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_person_heals_a_page_whose_first_person_lost_the_role() {
    let harness = Harness::plan().start().await;
    let user = harness.linked().await;
    let page = harness.nth(0);
    harness.world().lose_role(ADA, &page).unwrap();
    harness.sync(&page).await;
    until("the role is lost", async || harness.health(&page).await == "lost_role").await;
    let reply = harness.log_in(user, BRUNO, "all").await.json();
    assert_eq!(reply["changes"]["lost"], json!([]), "what Ada linked is not Bruno's to lose: {reply}");
    until("the page is well", async || harness.health(&page).await == "active").await;
    harness.world().edit_page(&page, "name", "Bruno's now".into()).unwrap();
    harness.until_true(user, &[page]).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_checked_before_its_use_fails() {
    let harness = Harness::plan().start().await;
    harness.linked().await;
    let pages = harness.pages();
    let day = 24 * 60 * 60;
    let ends = |page: &str, days: u64| {
        harness.world().change(|s| {
            let now = pagesyncd::core::model::WallTime::now().0 / 1000;
            let mine = s.tokens.values_mut().filter(|t| t.page.as_deref() == Some(page));
            mine.for_each(|token| token.expires_at = now + days * day);
        });
    };
    ends(&pages[0], 13);
    ends(&pages[1], 40);
    // The page is not among those granted, and its token is refused when it is used.
    harness.world().change(|s| s.persons.get_mut(ADA).unwrap().ticked.remove(&pages[2]));
    for page in &pages[..2] {
        harness.sync(page).await;
    }
    let reply = eventually("the first page's end is near", async || {
        harness.page(&pages[0]).await.filter(|page| page["health"] == "expiring")
    })
    .await;
    assert_eq!(reply["until"], reply["token_expires_at"]);
    assert!(reply["remedy"].as_str().unwrap().contains("logs in again"), "{reply}");
    assert_eq!(harness.metric("pagesyncd_links{health=\"expiring\"}").await, 1.0);
    until("the second page's end is known", async || {
        harness.page(&pages[1]).await.is_some_and(|page| page["token_expires_at"].is_string())
    })
    .await;
    assert_eq!(harness.health(&pages[1]).await, "active");
    let warnings = || harness.log().matches("the token ends at ").count();
    assert_eq!(warnings(), 1);
    // Said once, also after a restart; and once more when it is urgent.
    harness.restart().await;
    let looks = || harness.world().calls(Call::ReadSubscribed);
    let before = looks();
    harness.sync(&pages[0]).await;
    // The subscription is compared after what the check learned is noted.
    until("the page is checked again", async || looks() > before).await;
    assert_eq!(warnings(), 1);
    ends(&pages[0], 2);
    harness.sync(&pages[0]).await;
    until("it is urgent", async || warnings() == 2).await;
    // Trouble with the check changes nothing.
    harness.world().set_fault_for(Fault::GraphUnavailable, Scope::call(Call::DebugToken));
    let before = harness.world().calls(Call::DebugToken);
    harness.sync(&pages[3]).await;
    until("the check was tried", async || harness.world().calls(Call::DebugToken) > before).await;
    harness.world().clear_faults();
    assert_eq!(harness.health(&pages[3]).await, "active");
    // A dead token is found without any use of it.
    let reads = harness.world().graph_reads(&pages[4]);
    harness.world().set_fault_for(Fault::GraphUnavailable, Scope::call(Call::ReadPage));
    harness.world().change_password(ADA).unwrap();
    harness.sync(&pages[4]).await;
    until("the check finds it", async || harness.health(&pages[4]).await == "needs_relink").await;
    assert!(harness.world().graph_reads(&pages[4]) <= reads + 2);
    assert!(harness.page(&pages[4]).await.unwrap()["reason"].as_str().unwrap().contains("password"));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_missing_among_the_granted_ones_is_believed_lost_only_when_it_cannot_be_read() {
    let harness = Harness::plan().start().await;
    harness.linked().await;
    let (works, fails) = (harness.nth(0), harness.nth(1));
    harness.world().change(|s| {
        let ticked = &mut s.persons.get_mut(ADA).unwrap().ticked;
        ticked.remove(&works);
        ticked.remove(&fails);
    });
    harness.sync(&works).await;
    until("the page that works is checked", async || {
        harness.page(&works).await.is_some_and(|page| page["checked_at"].is_string())
    })
    .await;
    assert_eq!(harness.health(&works).await, "active");
    // The read of the sync passes; the one that confirms the suspicion does not.
    let reads = harness.world().graph_reads(&fails);
    harness.world().set_fault_for(Fault::GraphSlow, Scope::call(Call::DebugToken));
    harness.sync(&fails).await;
    until("it was read", async || harness.world().graph_reads(&fails) > reads).await;
    harness.world().set_fault_for(code(190, 0), Scope { call: Some(Call::ReadPage), ..Scope::page(&fails) });
    until("the page is lost", async || harness.health(&fails).await == "needs_relink").await;
    assert!(harness.page(&fails).await.unwrap()["reason"].as_str().unwrap().contains("not ticked"));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_with_other_pages_ticked_says_what_it_took_away() {
    let harness = Harness::plan().start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    let reply = harness.log_in(user, ADA, &pages[..4].join(",")).await.json();
    let changes = &reply["changes"];
    let kept: Vec<&str> = changes["kept"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(kept, pages[..4].iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(changes["added"], json!([]));
    let lost = changes["lost"].as_array().unwrap();
    assert_eq!(lost.len(), 2, "{reply}");
    for (lost, page) in lost.iter().zip(&pages[4..]) {
        assert_eq!(lost["page_id"], page.as_str());
        assert_eq!(lost["name"], harness.world().look(|s| s.pages[page].name().to_owned()));
        assert_eq!(lost["reason"], "the page was not ticked in a later login");
    }
    for page in &pages[4..] {
        until("the lost page waits for a person", async || harness.health(page).await == "needs_relink").await;
    }
    let asked = calls_about(&harness, &pages[5]);
    harness.sync(&pages[5]).await;
    // A page for persons says it too, and a list that is short takes nothing away that works.
    harness.world().set_fault_for(Fault::AccountsEmpty, Scope::default());
    harness.world().set_fault_for(code(2, 0), Scope::call(Call::DebugToken));
    harness.world().set_fault_for(code(2, 0), Scope::call(Call::Businesses));
    let mut browser = harness.browser(user).await;
    let dialog = harness.to_dialog(&mut browser).await;
    let back = harness.decide(&dialog, ADA, &pages[..4].join(","), "continue").await;
    let answer = harness.browse(&mut browser, &back, "text/html").await;
    assert!(answer.text().contains("2 of your Pages have stopped"), "{}", answer.text());
    assert_eq!(calls_about(&harness, &pages[5]), asked, "a parked page was called");
    harness.world().clear_faults();
    for page in &pages[..4] {
        assert_eq!(harness.health(page).await, "active");
    }
    // Ticked again, they are back.
    let reply = harness.log_in(user, ADA, "all").await.json();
    assert_eq!(reply["changes"]["lost"], json!([]));
    assert_eq!(reply["changes"]["kept"].as_array().unwrap().len(), pages.len());
    harness.until_true(user, &pages).await;
    // For another user of the platform they are new.
    let reply = harness.log_in(UserId::random(), BRUNO, "all").await.json();
    assert_eq!((reply["changes"]["added"].as_array().unwrap().len(), &reply["changes"]["kept"]), (3, &json!([])));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ticks_taken_for_one_user_are_noticed_by_the_links_of_another() {
    let harness = Harness::plan().start().await;
    harness.linked().await;
    let pages = harness.pages();
    let reply = harness.log_in(UserId::random(), ADA, &pages[0]).await.json();
    assert_eq!(reply["changes"], json!({"kept": [], "added": [pages[0]], "lost": []}));
    for page in &pages[1..] {
        until("the other user's page is parked", async || harness.health(page).await == "needs_relink").await;
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn portfolio_pages_are_linked_and_what_cannot_be_is_named_with_its_reason() {
    let harness = Harness::plan().pages(11).start().await;
    let portfolio: Vec<String> =
        harness.world().look(|s| s.pages.iter().filter(|(_, p)| p.portfolio).map(|(id, _)| id.clone()).collect());
    assert_eq!(portfolio.len(), 2);
    // The list is empty as it is for many; the portfolios and the granted ids have everything.
    harness.world().set_fault(Fault::AccountsEmpty, true);
    let refused = harness.nth(1);
    harness.world().change(|s| {
        let weak = ["ANALYZE".to_owned()].into();
        s.pages.get_mut(&refused).unwrap().roles.insert(ADA.into(), weak);
    });
    let user = UserId::random();
    let reply = harness.log_in(user, ADA, "all").await.json();
    let listed = reply["pages"]["data"].as_array().unwrap();
    assert_eq!(listed.len(), 11, "{reply}");
    let of = |id: &str| listed.iter().find(|page| page["id"] == id).unwrap();
    assert!(portfolio.iter().all(|page| of(page)["linked"] == true));
    let page = of(&refused);
    assert_eq!((&page["linked"], page["name"].is_string()), (&false.into(), true));
    assert!(page["reason"].as_str().unwrap().contains("full control"), "{page}");
    // Without the permission for portfolios, what is missing is said.
    harness.world().set_fault(Fault::AccountsEmpty, false);
    harness.world().change(|s| {
        let chidi = s.persons.get_mut(CHIDI).unwrap();
        chidi.declines.insert("business_management".into());
    });
    let reply = harness.log_in(UserId::random(), CHIDI, "all").await.json();
    assert_eq!(reply["missing_permissions"], json!(["business_management"]));
    assert!(reply["incomplete"][0].as_str().unwrap().contains("portfolios were not listed"), "{reply}");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_that_meta_drops_come_back() {
    let harness = Harness::plan().set("sync.poll_interval", "3s").start().await;
    let user = harness.linked().await;
    let page = harness.nth(0);
    let healed = async || harness.metric("pagesyncd_subscriptions_healed_total").await;
    let before = healed().await;
    harness.world().drop_subscription(&page).unwrap();
    until("the page is subscribed again", async || harness.world().look(|s| s.pages[&page].subscribed.is_some())).await;
    until("it was counted", async || healed().await == before + 1.0).await;
    harness.world().drop_app_subscription();
    until("the app is subscribed again", async || harness.world().look(|s| s.app.subscription.is_some())).await;
    until("it was counted", async || healed().await == before + 2.0).await;
    // Changes are announced again.
    harness.world().edit_page(&page, "name", "Edited again".into()).unwrap();
    harness.until_true(user, &[page]).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_that_were_dropped_while_the_daemon_was_away_come_back() {
    let mut harness = Harness::plan().start().await;
    harness.linked().await;
    let page = harness.nth(0);
    // A field that neither the app nor the page may have costs the others nothing, and is asked for once.
    let fields = ["name", "hours", "messages", "moon"].map(toml::Value::from).to_vec();
    harness.set("facebook.webhook_fields", fields);
    harness.reload("applied").await;
    let refused = json!(["messages", "moon"]);
    for page in harness.pages() {
        until("the refused fields are remembered", async || {
            harness.page(&page).await.unwrap()["refused_webhook_fields"] == refused
        })
        .await;
    }
    harness.daemon.stop().await;
    harness.world().drop_subscription(&page).unwrap();
    harness.world().drop_app_subscription();
    let posts = harness.world().calls(Call::Subscribe);
    harness.daemon.start().await.unwrap();
    until("the app is subscribed again", async || harness.world().look(|s| s.app.subscription.is_some())).await;
    until("it was counted", async || harness.metric("pagesyncd_subscriptions_healed_total").await == 1.0).await;
    // The page believes what was confirmed until it is checked; a sync checks it.
    harness.sync(&page).await;
    until("the page is subscribed again", async || harness.world().look(|s| s.pages[&page].subscribed.is_some())).await;
    until("it was counted", async || harness.metric("pagesyncd_subscriptions_healed_total").await == 2.0).await;
    assert_eq!(harness.world().calls(Call::Subscribe), posts + 1);
    harness.finish().await;
}

/// The signs of a throttle, which budget is spent, and whether other pages and other persons go on.
const THROTTLES: &[(Fault, &str, bool, bool)] = &[
    (Fault::ThrottleApp, "app", false, false),
    (Fault::ThrottleUser, "person", false, true),
    (Fault::ThrottlePage, "page", true, true),
    (Fault::ThrottleCustom, "page", true, true),
    (Fault::ThrottleBusiness, "page", true, true),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_stops_whom_it_concerns_and_nobody_else() {
    for (fault, budget, same_person, others) in THROTTLES {
        let harness = Harness::plan().start().await;
        let ada = harness.linked().await;
        let bruno = UserId::random();
        harness.log_in(bruno, BRUNO, &harness.nth(2)).await;
        harness.until_true(bruno, &[harness.nth(2)]).await;
        harness.complete().await;
        let (page, other, shared) = (harness.nth(0), harness.nth(1), harness.nth(2));
        harness.world().set_fault_for(*fault, Scope { call: Some(Call::ReadPage), ..Scope::page(&page) }.times(1));
        harness.sync(&page).await;
        let reply = eventually("the page is throttled", async || {
            harness.page(&page).await.filter(|reply| reply["health"] == "throttled")
        })
        .await;
        assert!(
            reply["until"].is_string() && reply["remedy"].as_str().unwrap().contains("by itself"),
            "{fault}: {reply}"
        );
        let gate = harness.status().await["graph"]["gate"].clone();
        let blocked = (gate["app_blocked_until"].is_string(), &gate["people_blocked"], &gate["pages_blocked"]);
        let wanted = match *budget {
            "app" => (true, 0, 0),
            "person" => (false, 1, 0),
            _ => (false, 0, 1),
        };
        assert_eq!(blocked, (wanted.0, &json!(wanted.1), &json!(wanted.2)), "{fault}");
        let text = String::from_utf8(harness.run(&["status"]).await.stdout).unwrap();
        assert!(text.contains("may not call for") || text.contains("held back by limits"), "{text}");
        // Nothing is called while it is blocked, though the fault is gone.
        let calls = calls_about(&harness, &page);
        harness.world().edit_page(&page, "name", "Throttled".into()).unwrap();
        harness.sync(&page).await;
        for (page, user, name, goes_on) in
            [(&other, ada, "Same person", *same_person), (&shared, bruno, "Other person", *others)]
        {
            let reads = harness.world().graph_reads(page);
            harness.world().edit_page(page, "about", name.into()).unwrap();
            assert_eq!(
                harness.admin(http::Method::POST, &format!("/v1/pages/{page}/sync?user={user}"), "").await.0,
                202
            );
            if goes_on {
                harness.until_true(user, std::slice::from_ref(page)).await;
            } else {
                until("it is throttled too", async || {
                    let (_, reply) = harness.admin(http::Method::GET, "/v1/pages", "").await;
                    let own = |reply: &&Value| reply["page_id"] == page.as_str() && reply["user"] == user.to_string();
                    reply["pages"].as_array().unwrap().iter().find(own).unwrap()["health"] == "throttled"
                })
                .await;
                assert_eq!(harness.world().graph_reads(page), reads, "{fault}: {page} was called");
            }
        }
        assert_eq!(calls_about(&harness, &page), calls, "{fault}: the page was called while it was blocked");
        assert!(harness.metric("pagesyncd_links{health=\"throttled\"}").await >= 1.0);
        // What is owed stays owed, and a daemon that is new to the limit tries again.
        assert!(harness.status().await["due"].as_u64().unwrap() >= 1);
        harness.restart().await;
        harness.until_true(ada, &[page.clone(), other]).await;
        until("it is well again", async || harness.health(&page).await == "active").await;
        harness.finish().await;
    }
}

/// Limits of one page, by each code that tells of one.
const PAGE_LIMITS: &[(u32, u32)] = &[(32, 0), (613, 0), (613, 1996), (80001, 0), (80002, 0), (80005, 0), (80006, 0)];

#[tokio::test(flavor = "multi_thread")]
async fn every_code_for_a_limit_of_one_page_holds_that_page_back_and_no_other() {
    let harness = Harness::plan().pages(PAGE_LIMITS.len() + 1).start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    for (page, (number, subcode)) in pages.iter().zip(PAGE_LIMITS) {
        let scope = Scope { call: Some(Call::ReadPage), ..Scope::page(page) };
        harness.world().set_fault_for(code(*number, *subcode), scope.times(1));
        harness.sync(page).await;
    }
    for (page, error) in pages.iter().zip(PAGE_LIMITS) {
        until(&format!("{error:?} throttles the page"), async || harness.health(page).await == "throttled").await;
    }
    assert_eq!(harness.status().await["graph"]["gate"]["pages_blocked"], PAGE_LIMITS.len());
    let free = pages.last().unwrap();
    harness.world().edit_page(free, "name", "Not held back".into()).unwrap();
    harness.until_true(user, std::slice::from_ref(free)).await;
    // What is owed stays owed, and a daemon that is new to the limits reads it.
    harness.restart().await;
    harness.until_true(user, &pages).await;
    for page in &pages {
        until("the page is well", async || harness.health(page).await == "active").await;
    }
    harness.finish().await;
}

/// Whatever error the console can make, a story drives the daemon into it and out of it again.
#[test]
fn every_error_of_the_console_has_its_story() {
    let limits = THROTTLES.iter().map(|(fault, ..)| match fault {
        Fault::ThrottleApp => (4, 0),
        Fault::ThrottleUser => (17, 0),
        Fault::ThrottlePage => (32, 0),
        Fault::ThrottleCustom => (613, 0),
        Fault::ThrottleBusiness => (80001, 0),
        other => panic!("{other} is no limit"),
    });
    let parks = PARKS.iter().map(|(error, ..)| *error);
    let reply: BTreeSet<(u32, u32)> =
        parks.chain(PASSES.iter().copied()).chain(PAGE_LIMITS.iter().copied()).chain(limits).collect();
    for row in ERROR_ROWS {
        assert!(reply.contains(&(row.code, row.subcode)), "no story drives a daemon into {}/{}", row.code, row.subcode);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_usage_header_stops_the_page_before_meta_does() {
    let harness = Harness::plan().start().await;
    harness.linked().await;
    let page = harness.nth(0);
    harness
        .world()
        .set_fault_for(Fault::UsageHigh, Scope { call: Some(Call::ReadPage), ..Scope::page(&page) }.times(1));
    harness.sync(&page).await;
    until("the app stops", async || harness.status().await["graph"]["gate"]["app_blocked_secs"].is_number()).await;
    assert_eq!(harness.status().await["graph"]["gate"]["app_usage_percent"], 95);
    let calls = calls_about(&harness, &page);
    harness.sync(&page).await;
    until("the page waits", async || harness.health(&page).await == "throttled").await;
    assert_eq!(calls_about(&harness, &page), calls);
    harness.finish().await;
}
