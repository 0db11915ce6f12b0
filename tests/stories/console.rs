//! The sandbox's console in a real browser: readable, within reach, steady across reloads, and with a cause for
//! everything that is pending.

use serde_json::{Value, json};

use super::browser::{Sandbox, appears, link_all, open_dialog, picture, rename, report_text, row, show};
use super::webdriver::{Browser, ENTER, SPACE};

/// Gives the texts that are hard to read.
const CONTRAST: &str = include_str!("contrast.js");
const ADA: &str = "2210000000000101";

/// The texts that are seen, counted, and those of them that are hard to read. A colour that fades in is not judged
/// half-way; while events come there is always one, so each is brought to its end first.
pub(super) async fn judged(browser: &Browser) -> Value {
    browser.run(&format!("document.getAnimations().forEach(one => one.finish());\n{CONTRAST}")).await
}

/// Every text that is seen has a contrast of 4.5 or more.
pub(super) async fn is_readable(browser: &Browser, scene: &str) {
    picture(browser, scene).await;
    let judged = judged(browser).await;
    assert!(judged["count"].as_u64().is_some_and(|count| count >= 5), "{scene}: {judged}");
    assert_eq!(judged["found"], json!([]), "{scene}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_text_is_readable_in_both_schemes() {
    let Some(browser) = Browser::start().await else { return };
    let sandbox = Sandbox::open(12).await;
    let world = &sandbox.world.world;
    browser.goto(&sandbox.console.url()).await;
    appears(&browser, "#live[data-state='running']").await;
    let console = browser.windows().await.remove(0);
    open_dialog(&browser).await;
    for dark in [false, true] {
        browser.look_as(1280, 900, dark).await;
        is_readable(&browser, &format!("dialog-{dark}")).await;
    }
    browser.click("#continue").await;
    report_text(&browser).await;
    browser.switch_to(&console).await;
    let pages: Vec<String> = world.look(|s| s.pages.keys().cloned().collect());
    appears(&browser, &row(&pages[11], "equal")).await;
    // Everything that can look otherwise: behind, altered, deleted, in need of a login, faults, failures.
    world.set_fault("spaces_refused".parse().expect("a fault"), true);
    world.set_fault("events_error".parse().expect("a fault"), true);
    world.edit_page(&pages[0], "name", "Edited".into()).expect("it can be edited");
    world.delete_page(&pages[1]).expect("it can be deleted");
    world.objects().expect("objects").alter(&world.objects().expect("objects").list()[2]);
    world.expire_token(ADA, None).expect("tokens expire");
    browser.wait_until("the cause", || async { browser.has("#feed li.failed[data-kind='daemon']").await }).await;
    for stopped in [false, true] {
        if stopped {
            sandbox.daemon.kill_now().await;
            appears(&browser, "#daemon-state[data-state='stopped']").await;
        }
        for (width, height) in [(1280, 900), (390, 844)] {
            for dark in [false, true] {
                browser.look_as(width, height, dark).await;
                for tab in ["pages", "feed", "faults", "persons", "events", "daemon"] {
                    let press = format!("document.querySelector(\"#tabs [data-tab='{tab}']\").click()");
                    browser.run(&press).await;
                    browser.run("document.querySelectorAll('details').forEach(group => group.open = true)").await;
                    is_readable(&browser, &format!("{width}-{dark}-{stopped}-{tab}")).await;
                }
            }
        }
    }
    world.clear_faults();
    sandbox.daemon.start().await.expect("it starts again");
    sandbox.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_and_people_are_at_hand_on_wide_and_narrow_windows() {
    let Some(browser) = Browser::start().await else { return };
    let sandbox = Sandbox::open(12).await;
    browser.goto(&sandbox.console.url()).await;
    link_all(&browser, 12).await;
    // Numbers beside the tabs take space.
    for fault in ["spaces_slow", "graph_slow", "events_error"] {
        sandbox.world.world.set_fault(fault.parse().expect("a fault"), true);
    }
    let page = sandbox.world.world.look(|s| s.pages.keys().next().cloned()).expect("a page");
    sandbox.world.world.edit_page(&page, "name", "Sent to nobody".into()).expect("it can be edited");
    appears(&browser, "#events-waiting:not(:empty)").await;
    for (width, height) in [(1280, 800), (390, 844)] {
        browser.look_as(width, height, false).await;
        // From wherever somebody is on the page.
        browser.run("scrollTo(0, document.documentElement.scrollHeight)").await;
        for (tab, control) in [
            ("faults", "#faults button[data-fault='spaces_refused']"),
            ("persons", "#person-acts button[data-action='change_password']"),
        ] {
            let in_view = |css: &str| {
                format!(
                    "const box = document.querySelector(\"{css}\").getBoundingClientRect(); \
                 return box.height > 0 && box.top >= 0 && box.bottom <= innerHeight && box.left >= 0 && box.right <= innerWidth"
                )
            };
            let tab = format!("#tabs [data-tab='{tab}']");
            assert_eq!(browser.run(&in_view(&tab)).await, true, "{width}: the tab is in view: {tab}");
            browser.run(&format!("document.querySelector(\"{tab}\").click()")).await;
            appears(&browser, control).await;
            // Reached by the press alone or by one screen of scrolling.
            let near =
                format!("return document.querySelector(\"{control}\").getBoundingClientRect().top < 2 * innerHeight");
            assert_eq!(browser.run(&near).await, true, "{width}: {control}");
        }
        for tab in ["pages", "feed", "faults", "persons", "events", "daemon"] {
            browser.run(&format!("document.querySelector(\"#tabs [data-tab='{tab}']\").click()")).await;
            let wide = "return document.documentElement.scrollWidth <= innerWidth";
            assert_eq!(browser.run(wide).await, true, "{width}: nothing lies beyond the edge of {tab}");
        }
        let differs = browser.text("#differs-short").await;
        for said in ["debounce 200ms (2s)", "burst 100 (3)", "refill 100ms (1m)", "poll_interval 1h (24h)"] {
            assert!(differs.contains(said), "{width}: {differs}");
        }
    }
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    sandbox.world.world.clear_faults();
    sandbox.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_nothing_that_was_seen() {
    let Some(browser) = Browser::start().await else { return };
    let sandbox = Sandbox::open(40).await;
    browser.goto(&sandbox.console.url()).await;
    link_all(&browser, 40).await;
    let page = sandbox.world.world.look(|s| s.pages.keys().nth(30).cloned()).expect("a page");
    browser.click("#page-linked").await;
    browser.click("#page-next:not(:disabled)").await;
    browser.click(&row(&page, "equal")).await;
    browser.wait_until("the page's card", || async { browser.text("#detail-id").await == page }).await;
    rename(&browser, "Seen before and after").await;
    browser
        .wait_until("the edit to arrive", || async { browser.text("#latency").await.starts_with("in Spaces") })
        .await;
    show(&browser, "faults").await;
    browser.click("#faults details[data-side='webhooks'] summary").await;
    browser.click("#faults button[data-fault='webhooks_sha1']").await;
    appears(&browser, "#faults button[data-fault='webhooks_sha1'][aria-checked='true']").await;
    browser.run("scrollTo(0, 240)").await;
    browser.wait_until("the position to be noted", || async { browser.url().await.contains("y=240") }).await;
    let seen = "return [...document.querySelectorAll('#page-range,#detail-id,#detail-name,#latency,#watch-text')] \
         .map(one => one.textContent).concat([...document.querySelectorAll('[aria-selected=true],[aria-pressed=true],\
         [aria-checked=true],details[open]')].map(one => one.id || one.dataset.key || one.dataset.tab || one.dataset.side)).join('|')";
    // The daemon goes on with its daily looks, so the feed grows. Names are those of the moment.
    let lines = "return [...document.querySelectorAll('#feed li')].map(line => { const bare = line.cloneNode(true); \
                 bare.querySelectorAll('button').forEach(name => name.remove()); return line.dataset.page + bare.textContent; })";
    let feed = async || serde_json::from_value::<Vec<String>>(browser.run(lines).await).expect("lines");
    let (before, feed_before) = (browser.run(seen).await, feed().await);
    let text = before.as_str().unwrap_or_default();
    assert!(text.contains("Seen before and after") && text.contains("webhooks_sha1"), "{text}");
    assert!(feed_before.len() > 20, "{feed_before:?}");
    browser.reload().await;
    browser.wait_until("the same to be seen", || async { browser.run(seen).await == before }).await;
    let kept = || async {
        let now = feed().await;
        feed_before[..20].iter().all(|line| now.contains(line))
    };
    browser.wait_until("the feed", kept).await;
    browser.wait_until("the same position", || async { browser.run("return scrollY").await == 240 }).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    sandbox.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn space_acts_like_enter_on_every_control() {
    let Some(browser) = Browser::start().await else { return };
    let sandbox = Sandbox::open(6).await;
    browser.goto(&sandbox.console.url()).await;
    link_all(&browser, 6).await;
    let pages: Vec<String> = sandbox.world.world.look(|s| s.pages.keys().cloned().collect());
    for (n, key) in [ENTER, SPACE, ENTER, SPACE].into_iter().enumerate() {
        let page = &pages[n];
        browser.press(&format!("{} button", row(page, "equal")), key).await;
        browser.wait_until("the page is chosen", || async { browser.text("#detail-id").await == *page }).await;
        let on = n % 2 == 0;
        let switched = |css: &str| format!("{css}[aria-checked='{on}']");
        browser.press("#tabs [data-tab='faults']", key).await;
        browser.press("#faults button[data-fault='graph_slow']", key).await;
        appears(&browser, &switched("#faults button[data-fault='graph_slow']")).await;
        // The switch that was pressed keeps the focus when it is drawn anew.
        assert_eq!(browser.run("return document.activeElement.dataset.fault").await, "graph_slow");
        browser.press("#tabs [data-tab='events']", key).await;
        browser.press("#events-hang", key).await;
        appears(&browser, &switched("#events-hang")).await;
        browser.press("#page-linked", key).await;
        appears(&browser, &format!("#page-linked[aria-pressed='{on}']")).await;
        browser.press("#tabs [data-tab='feed']", key).await;
        browser.press(&format!("#feed li[data-page='{}'] button", pages[5]), key).await;
        browser.wait_until("the feed leads to it", || async { browser.text("#detail-id").await == pages[5] }).await;
    }
    // Every control is an element that both keys activate in any browser.
    let strange = "return [...document.querySelectorAll('[onclick],[tabindex],a,input[type=checkbox],[role=button]')] \
         .filter(one => !['BUTTON', 'SELECT', 'TEXTAREA'].includes(one.tagName)).map(one => one.outerHTML.slice(0, 80))";
    assert_eq!(browser.run(strange).await, json!([]));
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    sandbox.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_deletes_are_shown_as_such_and_the_cause_is_in_the_feed() {
    let Some(browser) = Browser::start().await else { return };
    let sandbox = Sandbox::open(3).await;
    browser.goto(&sandbox.console.url()).await;
    link_all(&browser, 3).await;
    appears(&browser, "#page-rows tr[data-standing='equal']").await;
    show(&browser, "faults").await;
    browser.click("#faults button[data-fault='spaces_refused']").await;
    show(&browser, "persons").await;
    browser.click("#person-acts button[data-action='delete_data']").await;
    let leaving = "return document.querySelectorAll(\"#page-rows tr[data-standing='leaving']\").length";
    browser.wait_until("three deletes to be pending", || async { browser.run(leaving).await == 3 }).await;
    assert!(!browser.has("[data-standing='equal']").await, "nothing is in step while its delete is pending");
    assert_eq!(browser.text("#detail-standing").await, "delete pending");
    show(&browser, "feed").await;
    appears(&browser, "#feed li.failed[data-kind='daemon']").await;
    let cause = browser.text("#feed li.failed[data-kind='daemon']").await;
    assert!(cause.contains("Spaces fails") && cause.contains("refused") && cause.contains("Spaces is down"), "{cause}");
    assert_eq!(browser.text("#flow-daemon").await, "3 writes or deletes pending");
    picture(&browser, "9-deletes-pending").await;
    show(&browser, "faults").await;
    browser.click("#calm").await;
    let gone = "return document.querySelectorAll(\"#page-rows tr[data-standing='none']\").length";
    browser.wait_until("the objects to be gone", || async { browser.run(gone).await == 3 }).await;
    assert_eq!(sandbox.world.objects.list(), Vec::<String>::new());
    // Spaces that answers with a refusal is named by its fault too.
    sandbox.world.world.set_fault("spaces_quota".parse().expect("a fault"), true);
    link_all_slowly(&browser).await;
    let named = "return [...document.querySelectorAll(\"#feed li.failed[data-kind='spaces']\")].some(one => one.textContent.includes('Spaces is full'))";
    browser.wait_until("the fault by its name", || async { browser.run(named).await == true }).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    sandbox.world.world.clear_faults();
    sandbox.close().await;
}

/// Logs in while the objects cannot be written, and does not wait for them.
async fn link_all_slowly(browser: &Browser) {
    let console = browser.windows().await.remove(0);
    open_dialog(browser).await;
    browser.click("#continue").await;
    browser.switch_to(&console).await;
}
