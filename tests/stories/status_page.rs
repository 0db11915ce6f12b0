//! The status page in a real browser: live, searched, paged, walked by keys, and without barriers. The same in the
//! sandbox's console.

use std::time::Duration;

use http::Method;
use pagesyncd::core::model::UserId;
use serde_json::json;

use super::axe::has_no_barrier;
use super::browser::{Sandbox, appears, link_all, picture};
use super::console::is_readable;
use super::harness::{ADA, Harness, Plan, free_port};
use super::webdriver::{Browser, ENTER};

/// WebDriver's letters for keys.
const ESCAPE: &str = "\u{e00c}";
const DOWN: &str = "\u{e015}";
const UP: &str = "\u{e013}";

/// A daemon with an admin address, and the address of its page.
async fn daemon(plan: Plan) -> (Harness, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{address}/");
    (plan.daemon(|setup| setup.admin_listen = address).start().await, url)
}

async fn live(browser: &Browser) {
    appears(browser, "#live[data-state='running']").await;
    appears(browser, "#tiles button").await;
}

async fn shows(browser: &Browser, css: &str, text: &str) {
    browser.wait_until(&format!("{css} to be {text}"), || async { browser.text(css).await == text }).await;
}

/// The names in the list, as far as it is shown.
async fn names(browser: &Browser) -> Vec<String> {
    let names = "return [...document.querySelectorAll('#link-rows button')].map(one => one.textContent)";
    serde_json::from_value(browser.run(names).await).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn links_appear_change_and_wait_for_a_person_without_a_reload() {
    let Some(browser) = Browser::start().await else { return };
    let (harness, url) = daemon(Harness::plan().pages(4)).await;
    browser.goto(&url).await;
    live(&browser).await;
    browser.run("window.untouched = true").await;
    shows(&browser, "#link-range", "none").await;
    let user = harness.linked().await;
    shows(&browser, "#link-range", "1–4 of 4").await;
    appears(&browser, "#healths button[data-health='active']").await;
    // A name that changes at Facebook changes here.
    let page = harness.nth(1);
    harness.world().edit_page(&page, "name", "Fern & <b>Sons</b>".into()).unwrap();
    let renamed = || async { names(&browser).await.contains(&"Fern & <b>Sons</b>".to_owned()) };
    browser.wait_until("the name to follow", renamed).await;

    harness.world().expire_token(ADA, None).unwrap();
    harness.sync(&page).await;
    shows(&browser, "#waiting-count", "1").await;
    browser.click("#tab-waiting").await;
    appears(&browser, &format!("#waiting-rows [data-user='{user}'] li[data-id='{page}']")).await;
    let said = browser.text("#waiting-rows").await;
    for wanted in [
        &format!("{}/facebook/login", harness.base),
        &format!("pagesyncd session --user {user}"),
        "What to do: the person logs in again",
    ] {
        assert!(said.contains(wanted), "{wanted} is missing: {said}");
    }
    picture(&browser, "s-waiting").await;
    browser.click("#tab-recent").await;
    appears(&browser, "#recent li.failed[data-kind='health']").await;
    assert!(browser.text("#recent").await.contains("needs_relink: "));
    // Spaces away: the write waits, and the page says why.
    harness.world().set_fault("spaces_refused".parse().unwrap(), true);
    let other = harness.nth(2);
    harness.log_in(user, ADA, "all").await;
    harness.world().edit_page(&other, "name", "Not written yet".into()).unwrap();
    browser.click("#tab-pending").await;
    appears(&browser, &format!("#pending-rows tr[data-id='{other}']")).await;
    browser
        .wait_until("the cause", || async { browser.text("#pending-causes").await.contains("Spaces fails: ") })
        .await;
    appears(&browser, "#needs [data-need='spaces'][data-state='stopped']").await;
    picture(&browser, "s-pending").await;
    harness.world().clear_faults();
    shows(&browser, "#pending-none", "Nothing is pending for a link.").await;
    shows(&browser, "#waiting-count", "").await;
    assert_eq!(browser.run("return window.untouched").await, true, "the page was loaded once");
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_stands_at_the_top_with_the_way_out() {
    let Some(browser) = Browser::start().await else { return };
    let (harness, url) = daemon(Harness::plan().pages(1).drills()).await;
    browser.goto(&url).await;
    live(&browser).await;
    assert_eq!(browser.text("#problems").await, "");
    harness.drill("hang/dispatcher").await;
    appears(&browser, "#problems [data-problem='part_hangs'][data-severity='critical']").await;
    let said = browser.text("#problems").await;
    for wanted in ["the dispatcher has made no progress for ", "no read begins after a webhook", "restart it"] {
        assert!(said.contains(wanted), "{wanted} is missing: {said}");
    }
    has_no_barrier(&browser, "a problem").await;
    harness.crash().await;
    // The next run says how this one ended.
    appears(&browser, "#problems [data-problem='unclean_end']").await;
    harness.finish().await;
}

/// Imports so many links with names. No token works, and their reads are an hour away.
async fn import(harness: &Harness, count: usize) -> UserId {
    let user = UserId::random();
    let line = |n: usize| {
        json!({"user": user, "page_id": format!("9{n:09}"), "access_token": format!("token-of-nobody-{n}"),
               "name": format!("Shop Nr {n:05}")})
    };
    let lines: Vec<String> = (0..count).map(|n| line(n).to_string()).collect();
    let (status, reply) = harness.admin(Method::POST, "/v1/import", &lines.join("\n")).await;
    assert_eq!((status, &reply["imported"]), (200, &count.into()), "{reply}");
    user
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_links_are_paged_searched_filtered_and_ordered() {
    let Some(browser) = Browser::start().await else { return };
    let (harness, url) = daemon(Harness::plan().pages(2)).await;
    harness.world().set_fault("graph_hang".parse().unwrap(), true);
    import(&harness, 3000).await;
    browser.goto(&url).await;
    live(&browser).await;
    shows(&browser, "#link-range", "1–50 of 3,000").await;
    browser.click("#link-table .sort[data-sort='name']").await;
    browser
        .wait_until("the order", || async { names(&browser).await.first().is_some_and(|n| n == "Shop Nr 00000") })
        .await;
    browser.click("#link-next").await;
    shows(&browser, "#link-range", "51–100 of 3,000").await;
    // A second press before the answer turns no further page.
    browser.run("const next = document.getElementById('link-next'); next.click(); next.click(); return ''").await;
    shows(&browser, "#link-range", "101–150 of 3,000").await;
    assert_eq!(names(&browser).await[0], "Shop Nr 00100");
    // A reload shows the same page of the same list.
    browser.reload().await;
    shows(&browser, "#link-range", "101–150 of 3,000").await;
    browser
        .wait_until("the same names", || async { names(&browser).await.first().is_some_and(|n| n == "Shop Nr 00100") })
        .await;
    browser.click("#link-prev").await;
    shows(&browser, "#link-range", "51–100 of 3,000").await;
    browser.click("#link-table .sort[data-sort='name']").await;
    browser
        .wait_until("the reverse", || async { names(&browser).await.first().is_some_and(|n| n == "Shop Nr 02999") })
        .await;
    appears(&browser, "#link-table th[aria-sort='descending'] [data-sort='name']").await;
    browser.type_into("#link-search", "nr 0123").await;
    shows(&browser, "#link-range", "1–10 of 10").await;
    browser.type_into("#link-search", "no such link").await;
    shows(&browser, "#link-none", "No link fits.").await;
    browser.click("#link-clear").await;
    shows(&browser, "#link-range", "1–50 of 3,000").await;
    browser.click("#link-source option[value='shopify']").await;
    shows(&browser, "#link-range", "none").await;
    browser.click("#link-source option[value='facebook']").await;
    shows(&browser, "#link-range", "1–50 of 3,000").await;
    browser.click("#link-health option[value='uninstalled']").await;
    shows(&browser, "#link-range", "none").await;
    browser.reload().await;
    shows(&browser, "#link-range", "none").await;
    assert_eq!(browser.run("return document.getElementById('link-health').value").await, "uninstalled");
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    harness.world().clear_faults();
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_finds_walks_opens_and_closes() {
    let Some(browser) = Browser::start().await else { return };
    let (harness, url) = daemon(Harness::plan().pages(5)).await;
    harness.linked().await;
    browser.goto(&url).await;
    live(&browser).await;
    shows(&browser, "#link-range", "1–5 of 5").await;
    let rows = names(&browser).await;
    let focus = async || browser.run("return document.activeElement.id || document.activeElement.textContent").await;
    let press = async |key: &str| browser.type_key(key).await;
    press("j").await;
    assert_eq!(focus().await, rows[0].as_str());
    press("j").await;
    press(DOWN).await;
    assert_eq!(focus().await, rows[2].as_str());
    press("k").await;
    press(UP).await;
    assert_eq!(focus().await, rows[0].as_str());
    press(UP).await;
    assert_eq!(focus().await, "link-search");
    press(DOWN).await;
    press(ENTER).await;
    shows(&browser, "#link-name", &rows[0]).await;
    browser.wait_until("the focus in the detail", || async { focus().await == "link-close" }).await;
    appears(&browser, "#link-rows tr[aria-current='true']").await;
    assert!(browser.text("#link-facts").await.contains("pagesyncd sync "));
    press(ESCAPE).await;
    assert_eq!(focus().await, rows[0].as_str());
    assert!(!browser.has("#link-detail:not([hidden])").await);
    press("/").await;
    assert_eq!(focus().await, "link-search");
    let outline = "const seen = getComputedStyle(document.activeElement); return seen.outlineStyle !== 'none' && parseFloat(seen.outlineWidth) >= 2";
    assert_eq!(browser.run(outline).await, true, "the focus is seen");
    press("j").await;
    assert_eq!(
        browser.run("return document.getElementById('link-search').value").await,
        "j",
        "a key that is typed is typed"
    );
    press(ESCAPE).await;
    shows(&browser, "#link-range", "1–5 of 5").await;
    // The tabs go by arrows.
    browser.press("#tab-links", "\u{e014}").await;
    assert_eq!(focus().await, browser.run("return document.getElementById('tab-waiting').id").await);
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    harness.finish().await;
}

const VIEWS: [&str; 5] = ["links", "waiting", "pending", "recent", "daemons"];

/// Every view of the page in both schemes and on a telephone: no barrier, no text that is hard to read, nothing beyond
/// the edge.
async fn is_open_to_all(browser: &Browser, scene: &str) {
    for (width, height) in [(1280, 900), (360, 740)] {
        for dark in [false, true] {
            browser.look_as(width, height, dark).await;
            for view in VIEWS {
                browser.run(&format!("document.getElementById('tab-{view}').click()")).await;
                appears(browser, &format!("#view-{view}:not([hidden])")).await;
                browser.run("document.querySelectorAll('#status details').forEach(group => group.open = true)").await;
                let scene = format!("{scene}-{width}-{}-{view}", if dark { "dark" } else { "light" });
                is_readable(browser, &scene).await;
                has_no_barrier(browser, &scene).await;
                let fits = "return document.documentElement.scrollWidth <= innerWidth";
                assert_eq!(browser.run(fits).await, true, "{scene}: nothing lies beyond the edge");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_has_no_barriers_in_either_scheme_and_on_a_telephone() {
    let Some(browser) = Browser::start().await else { return };
    let (harness, url) = daemon(Harness::plan().pages(6)).await;
    harness.linked().await;
    browser.goto(&url).await;
    live(&browser).await;
    // A link that waits, one that is pending, a dependency that fails, and a link that is open.
    harness.world().expire_token(ADA, None).unwrap();
    harness.sync(&harness.nth(0)).await;
    shows(&browser, "#waiting-count", "1").await;
    harness.log_in(UserId::random(), ADA, "all").await;
    harness.complete().await;
    harness.world().set_fault("spaces_refused".parse().unwrap(), true);
    harness.world().edit_page(&harness.nth(2), "name", "Not written yet".into()).unwrap();
    appears(&browser, "#needs [data-state='stopped']").await;
    browser.run("document.querySelector('#link-rows button').click()").await;
    appears(&browser, "#link-detail:not([hidden])").await;
    is_open_to_all(&browser, "status").await;
    browser.run("document.getElementById('link-close').click()").await;
    browser.run("document.getElementById('tab-links').click()").await;
    has_no_barrier(&browser, "status-360-list").await;
    harness.world().clear_faults();
    // Without scripts it is a summary.
    browser.emulate("setScriptExecutionDisabled", json!({"value": true})).await;
    browser.goto(&url).await;
    let said = browser.text("main").await;
    assert!(said.contains("By health") && said.contains("active"), "{said}");
    browser.emulate("setScriptExecutionDisabled", json!({"value": false})).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_is_the_same_page_with_the_world_around_it() {
    let Some(browser) = Browser::start().await else { return };
    let sandbox = Sandbox::open_with(6, "", |setup| setup.poll_interval = Duration::from_secs(3600)).await;
    browser.goto(&sandbox.console.url()).await;
    appears(&browser, "#live[data-state='running']").await;
    link_all(&browser, 6).await;
    for (width, height) in [(1280, 900), (360, 740)] {
        for dark in [false, true] {
            browser.look_as(width, height, dark).await;
            for tab in ["pages", "feed", "faults", "persons", "shops", "events", "daemon"] {
                browser.run(&format!("document.querySelector(\"#tabs [data-tab='{tab}']\").click()")).await;
                has_no_barrier(&browser, &format!("console-{width}-{dark}-{tab}")).await;
            }
        }
    }
    browser.run("document.getElementById('tab-links').click()").await;
    shows(&browser, "#link-range", "1–6 of 6").await;
    is_open_to_all(&browser, "console").await;
    // The daemon goes and comes back, and the page follows.
    browser.look_as(1280, 900, false).await;
    browser.run("document.getElementById('tab-links').click()").await;
    sandbox.daemon.kill_now().await;
    sandbox.daemon.start().await.unwrap();
    let page = sandbox.world.world.look(|s| s.pages.keys().next().cloned()).unwrap();
    sandbox.world.world.edit_page(&page, "name", "Seen after the restart".into()).unwrap();
    let followed = || async { names(&browser).await.contains(&"Seen after the restart".to_owned()) };
    browser.wait_until("the name in the list", followed).await;
    browser.reload().await;
    appears(&browser, "#view-links:not([hidden]) #link-rows tr").await;
    browser.click("#tab-world").await;
    appears(&browser, "#world:not([hidden]) #page-rows tr").await;
    sandbox.close().await;
}
