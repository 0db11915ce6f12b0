//! The shops in the sandbox's console, in a real browser: the app is installed there, products change, and everything is
//! readable and within reach.

use pagesyncd::core::model::ShopName;
use pagesyncd::sandbox::shopify::ShopFault;
use serde_json::json;

use super::browser::{Sandbox, appears, open_dialog, open_tab, picture, report_text, show};
use super::console::judged;
use super::webdriver::{Browser, ENTER, SPACE};

/// The shop that the console shows first.
pub(super) const SHOP: &str = "sandbox-1.myshopify.com";

/// Presses the console's button that leads to `/shopify/install`, agrees on the shop's page, and stays in the tab with
/// what the daemon answers.
pub(super) async fn install_app(browser: &Browser) {
    open_tab(browser, "#shop-install").await;
    appears(browser, "#install").await;
    browser.click("#install").await;
    browser.wait_until("the daemon's page", || async { browser.text("h1").await == "Your shop is linked" }).await;
}

/// The app is on the shop, and its link is active.
async fn install(browser: &Browser) {
    let console = browser.windows().await.remove(0);
    // The session comes from a login with Facebook.
    open_dialog(browser).await;
    browser.click("#continue").await;
    report_text(browser).await;
    browser.switch_to(&console).await;
    show(browser, "shops").await;
    appears(browser, "#product-rows tr").await;
    install_app(browser).await;
    browser.switch_to(&console).await;
    appears(browser, &format!("#shops button[data-shop='{SHOP}'] .badge[data-standing='equal']")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_is_installed_edited_and_uninstalled_with_the_console() {
    let Some(browser) = Browser::start().await else { return };
    let sandbox = Sandbox::open(3).await;
    let (shopify, shop): (_, ShopName) = (&sandbox.world.shopify, SHOP.parse().expect("a shop"));
    browser.goto(&sandbox.console.url()).await;
    install(&browser).await;
    let id = shopify.products(&shop)[1];
    let row = |title: &str| {
        format!(
            "return [...document.querySelectorAll('#product-rows tr')].some(row => row.textContent.includes('{title}'))"
        )
    };
    for (key, title) in [(ENTER, "By Enter"), (SPACE, "By Space")] {
        browser.press(&format!("#product-rows tr[data-product='{id}'] button"), key).await;
        appears(&browser, "#product:not([hidden])").await;
        browser.type_into("#product-title", title).await;
        browser.press("#product-save", key).await;
        browser.wait_until("the new title", || async { browser.run(&row(title)).await == true }).await;
        assert_eq!(shopify.product(&shop, id).expect("a product").title, title);
    }
    let stock = || shopify.product(&shop, id).expect("a product").variants[0].stock;
    let before = stock();
    browser.click("#product-sell").await;
    browser.wait_until("one to be sold", || async { stock() == before - 1 }).await;
    browser.click("#product-new").await;
    browser.wait_until("a new product", || async { shopify.products(&shop).len() == 9 }).await;
    browser.wait_until("the form to have it", || async { browser.run(&row("New product 9")).await == true }).await;
    let created = "return document.querySelector('#product-title').value === 'New product 9'";
    browser.wait_until("the form to have it", || async { browser.run(created).await == true }).await;
    browser.click("#product-delete").await;
    browser.wait_until("it to be gone", || async { shopify.products(&shop).len() == 8 }).await;
    // A fault of one shop is not one of the other.
    browser.run("document.querySelector('#shop-faults-group').open = true").await;
    let switch = "#shop-faults button[data-fault='shopify_throttled']";
    browser.press(switch, SPACE).await;
    appears(&browser, &format!("{switch}[aria-checked='true']")).await;
    let strikes =
        |name: &str| shopify.look(|state| state.strikes(&name.parse().expect("a shop"), ShopFault::Throttled));
    assert!(strikes(SHOP) && !strikes("sandbox-2.myshopify.com"));
    browser.wait_until("the fault to be counted", || async { browser.text("#fault-count").await == "1" }).await;
    picture(&browser, "shop").await;
    browser.press(switch, ENTER).await;
    appears(&browser, &format!("{switch}[aria-checked='false']")).await;
    browser.click("#shop-uninstall").await;
    appears(&browser, &format!("#shops button[data-shop='{SHOP}'] .badge[data-health='uninstalled']")).await;
    assert_eq!(browser.text("#shops-ailing").await, "1");
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    sandbox.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shops_are_readable_and_within_the_window() {
    let Some(browser) = Browser::start().await else { return };
    let sandbox = Sandbox::open(3).await;
    let shop: ShopName = SHOP.parse().expect("a shop");
    browser.goto(&sandbox.console.url()).await;
    appears(&browser, "#live[data-state='running']").await;
    sandbox.world.shopify.set_catalogue(&shop, 40, 3);
    sandbox.world.shopify.set_shop_fault(&shop, ShopFault::BulkFailed, true);
    show(&browser, "shops").await;
    browser.click("#product-next:not(:disabled)").await;
    browser.click("#product-rows tr:nth-child(2) button").await;
    appears(&browser, "#product:not([hidden])").await;
    browser.run("document.querySelectorAll('details').forEach(group => group.open = true)").await;
    for (width, height) in [(1280, 900), (390, 844)] {
        for dark in [false, true] {
            browser.look_as(width, height, dark).await;
            picture(&browser, &format!("shops-{width}-{dark}")).await;
            let judged = judged(&browser).await;
            assert_eq!(judged["found"], json!([]), "{width} {dark}");
            let wide = "return document.documentElement.scrollWidth <= innerWidth";
            assert_eq!(browser.run(wide).await, true, "{width}: nothing lies beyond the edge");
        }
    }
    // The address keeps what was seen.
    let seen =
        "return document.querySelector('#product-range').textContent + document.querySelector('#product-title').value";
    let before = browser.run(seen).await;
    browser.reload().await;
    browser.wait_until("the same to be seen", || async { browser.run(seen).await == before }).await;
    let strange = "return [...document.querySelectorAll('[onclick],[tabindex],a,input[type=checkbox],[role=button]')] \
         .filter(one => !['BUTTON', 'SELECT', 'TEXTAREA'].includes(one.tagName)).map(one => one.outerHTML.slice(0, 80))";
    assert_eq!(browser.run(strange).await, json!([]));
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    sandbox.close().await;
}
