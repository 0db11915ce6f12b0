//! The whole way of a merchant in a real browser, by clicks: the app is installed, Facebook is logged in to, a product
//! changes, the app is uninstalled and installed again.

use std::time::Instant;

use pagesyncd::core::health::ParkReason;
use pagesyncd::core::model::ShopName;
use serde_json::Value;

use super::browser::{Sandbox, appears, picture, report_text, show};
use super::console_shops::{SHOP, install_app};
use super::harness::{eventually, object_key, until};
use super::webdriver::Browser;

/// Pages that the person runs.
const PAGES: usize = 3;

/// The badge of the shop in the console says this.
async fn is_marked(browser: &Browser, attribute: &str) {
    appears(browser, &format!("#shops button[data-shop='{SHOP}'] .badge[{attribute}]")).await;
}

fn product_row(product: u64, attribute: &str) -> String {
    format!("#product-rows tr[data-product='{product}'][{attribute}]")
}

/// Chooses a product in the console, and waits for its form.
async fn choose(browser: &Browser, product: u64, title: &str) {
    browser.click(&format!("#product-rows tr[data-product='{product}'] button")).await;
    appears(browser, &product_row(product, "data-selected='true'")).await;
    let shown = format!("return document.querySelector('#product-title').value === {}", Value::from(title));
    browser.wait_until("the product's form", || async { browser.run(&shown).await == true }).await;
}

/// Gives the chosen product another title. Returns the moment before it was saved.
async fn retitle(browser: &Browser, title: &str) -> Instant {
    browser.type_into("#product-title", title).await;
    let began = Instant::now();
    browser.click("#product-save").await;
    began
}

/// What lies in Spaces of the one user of this sandbox.
struct Kept<'a> {
    sandbox: &'a Sandbox,
    user: String,
}

impl Kept<'_> {
    /// Where an object of the shop lies.
    fn key(&self, of_shop: &str) -> String {
        format!("users/{}/shopify/{SHOP}/{of_shop}", self.user)
    }

    fn product(&self, product: u64) -> Option<Value> {
        Some(self.sandbox.object(&self.key(&format!("products/{product}.json")))?["data"].take())
    }

    /// The product as the index names it.
    fn indexed(&self, product: u64) -> Option<Value> {
        let index = self.sandbox.object(&self.key("products/index.json"))?;
        index["data"].as_array()?.iter().find(|one| one["id"] == product).cloned()
    }

    /// Every object of these, and nothing else, is there.
    async fn is_whole(&self, products: &[u64]) {
        let page = |page: &String| object_key(self.user.parse().unwrap(), page);
        let mut wanted: Vec<String> = self.sandbox.world.world.look(|s| s.pages.keys().map(page).collect());
        assert_eq!(wanted.len(), PAGES);
        wanted.extend(["shop_data.json", "collections.json", "products/index.json"].map(|name| self.key(name)));
        wanted.extend(products.iter().map(|id| self.key(&format!("products/{id}.json"))));
        wanted.sort_unstable();
        until("the objects of both sources, and no others", async || {
            let mut held = self.sandbox.world.objects.list();
            held.sort_unstable();
            held == wanted
        })
        .await;
    }

    /// Both objects that name the product have this title. Returns the seconds that the first and the second took.
    async fn follow(&self, product: u64, title: &str, began: Instant) -> (f64, f64) {
        let says = |one: Option<Value>| one.filter(|one| one["title"] == title);
        let object = eventually("the product's object follows", async || says(self.product(product))).await;
        let first = began.elapsed().as_secs_f64();
        let indexed = eventually("the index follows", async || says(self.indexed(product))).await;
        assert_eq!(indexed["updatedAt"], object["updatedAt"], "the index names the state of the object");
        (first, began.elapsed().as_secs_f64())
    }
}

/// From the console, where nobody is logged in, to links of both sources. Returns the user.
async fn join_the_platform(browser: &Browser, sandbox: &Sandbox) -> String {
    show(browser, "shops").await;
    appears(browser, "#product-rows tr").await;
    let is_known = async || browser.cookies().await.into_iter().find(|cookie| cookie.name == "session_id");
    assert_eq!(is_known().await, None);
    install_app(browser).await;
    let session = is_known().await.expect("a session");
    assert!(session.http_only && session.same_site.as_deref() == Some("Lax"), "{session:?}");
    picture(browser, "platform-1-installed").await;

    // The page shows the way on.
    assert_eq!(browser.text("a.button").await, "Go on to Facebook");
    browser.click("a.button").await;
    browser.click("#continue").await;
    let report = report_text(browser).await;
    assert_eq!(report.matches("linked and stored").count(), PAGES, "{report}");
    let links = sandbox.links().await;
    assert_eq!(links.len(), PAGES + 1, "{links:?}");
    let user = links[0]["user"].as_str().expect("a user").to_owned();
    assert!(links.iter().all(|link| link["user"] == user && link["health"] == "active"), "{links:?}");
    user
}

/// The link of the shop, as `links` lists it.
async fn shop_link(sandbox: &Sandbox) -> Value {
    sandbox.links().await.into_iter().find(|link| link["id"] == SHOP).expect("the shop is linked")
}

/// Uninstalls the app, and wants the word, the reason and the remedy, in the list and in the console.
async fn uninstall(browser: &Browser, sandbox: &Sandbox) {
    browser.click("#shop-uninstall").await;
    is_marked(browser, "data-health='uninstalled'").await;
    let (link, why) = (shop_link(sandbox).await, ParkReason::Uninstalled);
    let said = [&link["health"], &link["reason"], &link["remedy"]];
    assert_eq!(said, [why.word(), why.reason(), why.remedy()]);
    let facts = browser.text("#shop-facts").await;
    assert!(facts.contains(why.reason()) && facts.contains(why.remedy()), "{facts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_joins_with_shop_and_pages_edits_leaves_and_comes_back() {
    let Some(browser) = Browser::start().await else { return };
    let sandbox = Sandbox::open_with(PAGES, "", |setup| setup.allow_new = true).await;
    let (shopify, shop): (_, ShopName) = (&sandbox.world.shopify, SHOP.parse().expect("a shop"));
    browser.goto(&sandbox.console.url()).await;
    appears(&browser, "#live[data-state='running']").await;
    let console = browser.windows().await.remove(0);
    let user = join_the_platform(&browser, &sandbox).await;
    let (kept, mut products) = (Kept { sandbox: &sandbox, user }, shopify.products(&shop));
    kept.is_whole(&products).await;

    browser.switch_to(&console).await;
    is_marked(&browser, "data-standing='equal'").await;
    let titles = |id: u64| shopify.product(&shop, id).expect("a product").title;
    let product = products[2];
    choose(&browser, product, &titles(product)).await;
    let began = retitle(&browser, "Edited in the shop").await;
    let (object, index) = kept.follow(product, "Edited in the shop", began).await;
    eprintln!("an edit was in the product's object after {object:.2} s, and in the index after {index:.2} s");

    uninstall(&browser, &sandbox).await;
    picture(&browser, "platform-2-uninstalled").await;
    // The merchant goes on without the app: one product changes, and another one goes.
    choose(&browser, product, "Edited in the shop").await;
    retitle(&browser, "Edited without the app").await;
    appears(&browser, &product_row(product, "data-standing='behind'")).await;
    let deleted = products.remove(4);
    choose(&browser, deleted, &titles(deleted)).await;
    browser.click("#product-delete").await;
    browser.wait_until("it to be gone", || async { shopify.products(&shop) == products }).await;
    assert_eq!(kept.product(product).expect("its object stays")["title"], "Edited in the shop");
    assert!(kept.product(deleted).is_some() && kept.indexed(deleted).is_some(), "what was kept stays");

    let began = Instant::now();
    install_app(&browser).await;
    let (object, index) = kept.follow(product, "Edited without the app", began).await;
    eprintln!("after the app came back: the product's object after {object:.2} s, the index after {index:.2} s");
    kept.is_whole(&products).await;
    assert_eq!(kept.indexed(deleted), None);
    browser.switch_to(&console).await;
    is_marked(&browser, "data-standing='equal'").await;
    appears(&browser, &product_row(product, "data-standing='equal'")).await;
    // The same user has the same links, all of them active.
    let links = sandbox.links().await;
    assert_eq!(links.len(), PAGES + 1, "{links:?}");
    assert!(links.iter().all(|link| link["user"] == kept.user && link["health"] == "active"), "{links:?}");
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    sandbox.close().await;
}
