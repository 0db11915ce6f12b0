//! A newcomer at the sandbox's console, in a real browser: links pages, edits one, takes Spaces away, kills the daemon,
//! and sees everything come back.
//!
//! `PAGESYNCD_SCREENSHOTS=DIR` leaves a picture of each scene in that folder, for work on the pages.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use pagesyncd::admin_client;
use pagesyncd::core::model::UserId;
use pagesyncd::sandbox::console::{self, DaemonControl, Running};
use pagesyncd::sandbox::daemon::{Daemon, DaemonFiles};
use pagesyncd::sandbox::fault::{Call, Fault, Scope};
use pagesyncd::sandbox::{DaemonSetup, Options, WorldServer};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::console::is_readable;
use super::webdriver::Browser;

/// The world, the daemon in it, and the console of both.
pub(super) struct Sandbox {
    pub(super) world: WorldServer,
    pub(super) daemon: Arc<Daemon>,
    pub(super) console: Running,
    socket: PathBuf,
    base: String,
    _folder: TempDir,
}

impl Sandbox {
    pub(super) async fn open(pages: usize) -> Sandbox {
        Sandbox::open_with(pages, "", |_| ()).await
    }

    /// With more keys in the section `[http]` of the daemon's configuration, and a change to its setup.
    pub(super) async fn open_with(pages: usize, http: &str, change: impl FnOnce(&mut DaemonSetup)) -> Sandbox {
        let folder = TempDir::new().expect("a folder");
        let world = WorldServer::start(Options::new(folder.path()).pages(pages)).await.expect("a world");
        // Let go of again: the daemon binds it a moment later.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
        let mut setup = DaemonSetup::new(free.to_string(), folder.path());
        setup.poll_interval = Duration::from_secs(3600);
        change(&mut setup);
        let config = folder.path().join("config.toml");
        let text = world.config_toml(&setup).replacen("[http]\n", &format!("[http]\n{http}\n"), 1);
        std::fs::write(&config, text).expect("the configuration is written");
        let (socket, base) = (setup.admin_socket.clone(), setup.public_url.clone());
        let daemon = Daemon::new(DaemonFiles {
            program: PathBuf::from(env!("CARGO_BIN_EXE_pagesyncd")),
            config,
            socket: setup.admin_socket,
            log: Some(folder.path().join("daemon.log")),
            env: Vec::new(),
        });
        daemon.start().await.expect("the daemon starts");
        let control: Arc<dyn DaemonControl> = daemon.clone();
        let anywhere = "127.0.0.1:0".parse().expect("an address");
        let console = console::serve(anywhere, world.world.clone(), control).await.expect("a console");
        Sandbox { world, daemon, console, socket, base, _folder: folder }
    }

    /// The name of this page in its one object.
    fn name_in_spaces(&self, page: &str) -> Option<String> {
        let part = format!("/facebook/{page}/");
        let key = self.world.objects.list().into_iter().find(|key| key.contains(&part))?;
        self.object(&key)?["data"][0]["name"].as_str().map(str::to_owned)
    }

    /// The daemon's links, of all sources.
    pub(super) async fn links(&self) -> Vec<Value> {
        let asked = admin_client::fetch(&self.socket, Method::GET, "/v1/links", "").await.expect("the daemon answers");
        let listed: Value = serde_json::from_slice(&asked.1).expect("JSON");
        listed["links"].as_array().expect("a list").clone()
    }

    /// An object, where there is one.
    pub(super) fn object(&self, key: &str) -> Option<Value> {
        Some(serde_json::from_slice(&self.world.objects.get(key)?).expect("an object is JSON"))
    }

    /// A one-time login URL for a user with this label.
    async fn login_url(&self, user: UserId, label: &str) -> String {
        let wish = json!({"user": user, "label": label}).to_string();
        let minted =
            admin_client::fetch(&self.socket, Method::POST, "/v1/sessions", wish).await.expect("the daemon answers");
        let minted: Value = serde_json::from_slice(&minted.1).expect("JSON");
        minted["login_url"].as_str().expect("an address").to_owned()
    }

    pub(super) async fn close(self) {
        self.console.stop().await;
        assert_eq!(self.daemon.stop().await, Some(0), "the daemon ends well");
        assert_eq!(self.world.world.violations(), Vec::<String>::new(), "what Facebook or Spaces would have minded");
        self.world.shutdown().await;
    }
}

pub(super) async fn picture(browser: &Browser, scene: &str) {
    if let Some(folder) = std::env::var_os("PAGESYNCD_SCREENSHOTS") {
        browser.screenshot(&PathBuf::from(folder).join(format!("{scene}.png"))).await;
    }
}

pub(super) async fn appears(browser: &Browser, css: &str) {
    browser.wait_until(css, || browser.has(css)).await;
}

pub(super) fn row(page: &str, standing: &str) -> String {
    format!("#page-rows tr[data-page='{page}'][data-standing='{standing}']")
}

/// Presses the login button of the console, and goes on in the tab that opens.
pub(super) async fn open_dialog(browser: &Browser) {
    appears(browser, "#login:not([disabled])").await;
    open_tab(browser, "#login").await;
}

/// Clicks what opens another tab, and goes on in that one.
pub(super) async fn open_tab(browser: &Browser, css: &str) {
    let before = browser.windows().await;
    browser.click(css).await;
    browser.wait_until("another tab", || async { browser.windows().await.len() > before.len() }).await;
    let opened = browser.windows().await.into_iter().find(|window| !before.contains(window)).expect("another tab");
    browser.switch_to(&opened).await;
}

/// Waits for what the daemon tells the person, and returns it.
pub(super) async fn report_text(browser: &Browser) -> String {
    browser.wait_until("the daemon's page", || async { browser.text("h1").await == "Your pages are linked" }).await;
    browser.wait_until("all objects", || async { !browser.has("main[data-refresh]").await }).await;
    browser.text("ul").await
}

/// Ticks three pages in the dialog, which is open, and goes on to what the daemon answers.
async fn tick_three(browser: &Browser) -> Vec<String> {
    browser.click("#none").await;
    let listed = browser.run("return [...document.querySelectorAll('.page:not([hidden])')].map(p => p.dataset.page)");
    let listed: Vec<String> = serde_json::from_value(listed.await).expect("ids");
    assert!(listed.len() > 3, "the person runs {listed:?}");
    let chosen = listed[..3].to_vec();
    for page in &chosen {
        browser.click(&format!(".page[data-page='{page}'] input")).await;
    }
    picture(browser, "2-dialog").await;
    browser.click("#continue").await;
    chosen
}

/// Opens a tab of the console.
pub(super) async fn show(browser: &Browser, tab: &str) {
    browser.click(&format!("#tabs [data-tab='{tab}']")).await;
    appears(browser, &format!("#panel-{tab}:not([hidden])")).await;
}

/// Logs in for the chosen user with all pages ticked, and comes back to the console.
pub(super) async fn link_all(browser: &Browser, pages: usize) {
    let console = browser.windows().await.remove(0);
    open_dialog(browser).await;
    browser.click("#continue").await;
    let linked = report_text(browser).await;
    assert_eq!(linked.matches("linked and stored").count(), pages, "{linked}");
    browser.switch_to(&console).await;
    let ready = format!("{pages} links, nothing pending");
    browser.wait_until("all to be linked", || async { browser.text("#flow-daemon").await == ready }).await;
}

/// Changes the selected page's name through the form.
pub(super) async fn rename(browser: &Browser, name: &str) {
    browser.click("#edit-field option[value='name']").await;
    browser.type_into("#edit-value", name).await;
    browser.click("#edit-save").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_links_edits_breaks_and_sees_it_heal() {
    let Some(browser) = Browser::start().await else { return };
    let sandbox = Sandbox::open(12).await;
    browser.goto(&sandbox.console.url()).await;
    appears(&browser, "#live[data-state='running']").await;
    appears(&browser, "#daemon-state[data-state='running']").await;
    picture(&browser, "1-console").await;

    let console = browser.windows().await.remove(0);
    open_dialog(&browser).await;
    let pages = tick_three(&browser).await;
    let reply = report_text(&browser).await;
    assert_eq!(reply.matches("linked and stored").count(), 3, "{reply}");
    let session = browser.cookies().await.into_iter().find(|cookie| cookie.name == "session_id").expect("a session");
    assert!(session.http_only && session.same_site.as_deref() == Some("Lax"), "{session:?}");
    picture(&browser, "3-linked").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    browser.switch_to(&console).await;
    for page in &pages {
        appears(&browser, &row(page, "equal")).await;
    }
    let page = pages[1].as_str();
    browser.click(&row(page, "equal")).await;
    browser.wait_until("the page's card", || async { browser.text("#detail-id").await == page }).await;
    let strange = "Fern & Sons <b>“Bakery”</b>";
    rename(&browser, strange).await;
    let followed = || async { sandbox.name_in_spaces(page).as_deref() == Some(strange) };
    browser.wait_until("the object to follow", followed).await;
    appears(&browser, &row(page, "equal")).await;
    let shown = || async {
        let text = browser.run("return document.getElementById('object-json').textContent").await;
        text.as_str().is_some_and(|text| text.contains("“Bakery”"))
    };
    browser.wait_until("the object to be shown", shown).await;
    appears(&browser, "#latency:not(.waiting):not(:empty)").await;
    appears(&browser, &format!("#events li[data-type='page.updated'][data-page='{page}']:not(.failed)")).await;
    picture(&browser, "4-followed").await;

    show(&browser, "events").await;
    browser.click("#events-down").await;
    rename(&browser, "Read by nobody").await;
    appears(&browser, &format!("#events li.failed[data-page='{page}']")).await;
    appears(&browser, &row(page, "equal")).await;
    browser.click("#events-down").await;
    browser.wait_until("the event to be taken", || async { browser.text("#events-waiting").await.is_empty() }).await;

    show(&browser, "faults").await;
    browser.click("#faults button[data-fault='spaces_refused']").await;
    appears(&browser, "#node-spaces.faulty").await;
    rename(&browser, "Changed while Spaces is away").await;
    appears(&browser, &row(page, "behind")).await;
    let owes = || async { browser.text("#flow-daemon").await == "1 write or delete pending" };
    browser.wait_until("the daemon to owe a write", owes).await;
    picture(&browser, "5-behind").await;

    browser.click("#daemon-kill").await;
    appears(&browser, "#daemon-state[data-state='stopped']").await;
    picture(&browser, "6-killed").await;
    browser.click("#daemon-start").await;
    appears(&browser, "#daemon-state[data-state='running']").await;
    browser.wait_until("the daemon to owe it still", owes).await;
    assert!(browser.has(&row(page, "behind")).await);

    show(&browser, "faults").await;
    browser.click("#calm").await;
    appears(&browser, &row(page, "equal")).await;
    assert_eq!(sandbox.name_in_spaces(page).as_deref(), Some("Changed while Spaces is away"));
    browser
        .wait_until("nothing to be owed", || async { browser.text("#flow-daemon").await == "3 links, nothing pending" })
        .await;
    picture(&browser, "7-caught-up").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    sandbox.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_changes_the_password_and_logs_in_again() {
    let Some(browser) = Browser::start().await else { return };
    let sandbox = Sandbox::open(4).await;
    browser.goto(&sandbox.console.url()).await;
    let console = browser.windows().await.remove(0);
    open_dialog(&browser).await;
    browser.click("#continue").await;
    let first = report_text(&browser).await;
    assert_eq!(first.matches("linked and stored").count(), 4, "{first}");

    browser.switch_to(&console).await;
    let page = browser.text("#page-rows tr:first-child code").await;
    appears(&browser, &row(&page, "equal")).await;
    show(&browser, "persons").await;
    // The act is described before it is done.
    let said = browser.text("#person-acts li:first-child p").await;
    assert!(said.contains("All tokens") && said.contains("next reads a page") && said.contains("every 1h"), "{said}");
    browser.click("#person-acts button[data-action='change_password']").await;
    // Afterwards the console shows the effect, and that pagesyncd has not found out yet.
    browser.wait_until("what it did", || async { browser.text("#toast").await.contains("tokens ended") }).await;
    let unnoticed = || async { browser.text("#person-unnoticed").await.contains("not found out yet for 4 links") };
    browser.wait_until("what pagesyncd does not know", unnoticed).await;
    show(&browser, "feed").await;
    appears(&browser, "#feed li[data-kind='edit']").await;
    assert!(browser.text("#feed").await.contains("changed the password: "), "the feed says how many tokens ended");
    browser.click(&row(&page, "equal")).await;
    rename(&browser, "Nobody may read this").await;
    let ailing = format!("{} .badge[data-health='needs_relink']", row(&page, "behind"));
    appears(&browser, &ailing).await;
    picture(&browser, "8-needs-relink").await;

    open_dialog(&browser).await;
    browser.click("#continue").await;
    let again = report_text(&browser).await;
    assert_eq!(again.matches("linked and stored").count(), 4, "{again}");
    browser.switch_to(&console).await;
    appears(&browser, &row(&page, "equal")).await;
    browser.wait_until("no badge", || async { !browser.has("#page-rows [data-health]").await }).await;
    assert_eq!(sandbox.name_in_spaces(&page).as_deref(), Some("Nobody may read this"));
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    sandbox.close().await;
}

/// Two pictures of a scene, of a wide window and of a narrow one in the dark; the narrow one needs no scrolling aside.
/// Every text is readable in both.
async fn pictures(browser: &Browser, scene: &str) {
    is_readable(browser, scene).await;
    let dark = |value: &str| json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
    browser.narrow_to(390).await;
    browser.emulate("setEmulatedMedia", dark("dark")).await;
    let fits = browser.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth").await;
    assert_eq!(fits, true, "{scene} is wider than a telephone");
    is_readable(browser, &format!("{scene}-390")).await;
    browser.emulate("setEmulatedMedia", dark("light")).await;
    browser.emulate("clearDeviceMetricsOverride", json!({})).await;
}

/// Goes through the dialog with these pages left unticked.
async fn leave_out(browser: &Browser, pages: &[String]) {
    appears(browser, "#continue").await;
    for page in pages {
        browser.click(&format!(".page[data-page='{page}'] input")).await;
    }
    browser.click("#continue").await;
}

async fn heading(browser: &Browser, text: &str) {
    browser.wait_until(text, || async { browser.has("main").await && browser.text("h1").await == text }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sees_whom_the_pages_are_for_what_stopped_and_the_way_back() {
    let Some(browser) = Browser::start().await else { return };
    // Of all greys this one leaves the least contrast to a text on it.
    let keys = "platform_name = \"Fern\"\nreturn_url = \"https://fern.example/settings\"\naccent_color = \"#757575\"";
    let sandbox = Sandbox::open_with(12, keys, |_| ()).await;
    let (bakery, rival) = (UserId::random(), UserId::random());
    let pages: Vec<String> = sandbox.world.world.look(|s| s.pages.keys().cloned().collect());
    let link = sandbox.login_url(bakery, "Ada\u{2019}s Bakery & Café").await;

    // The page stands at once, and fills in by itself.
    sandbox.world.world.set_latency(Duration::from_secs(8));
    sandbox.world.world.set_fault_for(Fault::GraphSlow, Scope::call(Call::Accounts));
    browser.goto(&link).await;
    leave_out(&browser, &[]).await;
    heading(&browser, "Linking your Pages").await;
    browser.wait_until("the address of the result", || async { browser.url().await.contains("/login/result/") }).await;
    pictures(&browser, "p1-working").await;
    sandbox.world.world.clear_faults();
    let linked = report_text(&browser).await;
    assert_eq!(linked.matches("linked and stored").count(), 12, "{linked}");
    assert!(browser.text("main").await.contains("Ada\u{2019}s Bakery & Café at Fern"));
    assert!(browser.url().await.contains("/facebook/login/result/"), "a reload shows the result");
    pictures(&browser, "p2-linked").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    // Two are left out: they stopped, and one button brings them back.
    browser.goto(&sandbox.login_url(bakery, "Ada\u{2019}s Bakery & Café").await).await;
    leave_out(&browser, &pages[..2]).await;
    heading(&browser, "2 of your Pages have stopped").await;
    assert_eq!(browser.text("section.stopped").await.matches("you did not choose it this time").count(), 2);
    pictures(&browser, "p3-stopped").await;
    browser.click("a.button").await;
    leave_out(&browser, &[]).await;
    heading(&browser, "Your pages are linked").await;
    let at = browser.url().await;
    assert!(at.contains("/facebook/login/result/"), "a spent code stays in the address: {at}");
    browser.goto(&at).await;
    heading(&browser, "Your pages are linked").await;

    // A link for somebody else asks first.
    let other = sandbox.login_url(rival, "Rival Cakes Ltd").await;
    browser.goto(&other).await;
    heading(&browser, "Link Pages for another user?").await;
    let asked = browser.text("main").await;
    assert!(asked.contains("Rival Cakes Ltd") && asked.contains("Ada\u{2019}s Bakery & Café"), "{asked}");
    pictures(&browser, "p4-another-user").await;
    browser.click("button.button").await;
    leave_out(&browser, &[]).await;
    heading(&browser, "Your pages are linked").await;
    assert!(browser.text("main").await.contains("Rival Cakes Ltd"));

    // Without scripts the page fetches itself.
    sandbox.world.world.set_latency(Duration::from_secs(8));
    sandbox.world.world.set_fault_for(Fault::GraphSlow, Scope::call(Call::Accounts));
    browser.goto(&format!("{}/facebook/login", sandbox.base)).await;
    appears(&browser, "#continue").await;
    browser.emulate("setScriptExecutionDisabled", json!({"value": true})).await;
    browser.click("#continue").await;
    heading(&browser, "Linking your Pages").await;
    sandbox.world.world.clear_faults();
    heading(&browser, "Your pages are linked").await;
    browser.emulate("setScriptExecutionDisabled", json!({"value": false})).await;

    // Dead ends.
    browser.goto(&other).await;
    heading(&browser, "This login link does not work any more").await;
    pictures(&browser, "p5-dead-link").await;
    browser.goto(&format!("{}/facebook/login/result/none", sandbox.base)).await;
    assert!(browser.has("a.button[href='https://fern.example/settings']").await);
    browser.goto(&format!("{}/facebook/login", sandbox.base)).await;
    appears(&browser, "#cancel").await;
    browser.click("#cancel").await;
    heading(&browser, "Nothing was linked").await;
    pictures(&browser, "p6-cancelled").await;
    sandbox.close().await;
}
