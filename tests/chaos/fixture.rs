//! The fixture that a fire burns on: a world, the real daemon in it with its store on a disk of its own, and what can
//! be read off both.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::io::Seek as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use pagesyncd::admin_client;
use pagesyncd::core::model::{ShopName, UserId};
use pagesyncd::sandbox::daemon::{Daemon, DaemonFiles};
use pagesyncd::sandbox::fault::Fault;
use pagesyncd::sandbox::shopify::Shopify;
use pagesyncd::sandbox::shopify::state::ShopFault;
use pagesyncd::sandbox::{DaemonSetup, Options, World, WorldServer};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::catalogue;
use crate::disk::Disk;
use crate::things::{Sources, Thing};

/// Runs all pages.
const ADA: &str = "2210000000000101";
/// Runs the first pages, as many as are asked for.
const BRUNO: &str = "2210000000000102";
/// A life of an access token: each is exchanged before its use, and would do without.
pub const MINUTES_TO_LIVE: Duration = Duration::from_secs(600);
/// Shops of the world.
const SHOPS: usize = 5;
/// Products of a shop that stay and are edited.
const PRODUCTS: usize = 3;
/// How long a bulk operation takes: long enough for edits to fall into it.
const BULK_TIME: Duration = Duration::from_secs(1);

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_pagesyncd");
const GLANCE: Duration = Duration::from_millis(25);

/// Looks until the condition holds; how long that took, or `None` when `limit` passed first.
pub async fn within(limit: Duration, mut look: impl AsyncFnMut() -> bool) -> Option<Duration> {
    let started = Instant::now();
    while !look().await {
        if started.elapsed() > limit {
            return None;
        }
        tokio::time::sleep(GLANCE).await;
    }
    Some(started.elapsed())
}

/// A port below those that the system gives to outgoing connections, so that it is still free after a restart.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 9000) as u16;
    loop {
        let port = 10_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 9_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Where an answer leads.
fn to(answer: &reqwest::Response) -> String {
    answer.headers()["location"].to_str().unwrap().to_owned()
}

/// What a user has linked. A shop is one link, however many of its things there are.
#[derive(Debug, Clone)]
pub struct Link {
    pub user: UserId,
    pub thing: Thing,
}

impl Link {
    pub fn object_key(&self) -> String {
        self.thing.object_key(self.user)
    }
}

/// What the log held since the last look.
#[derive(Debug, Default)]
pub struct Heard {
    pub lines: usize,
    /// Panics that no drill asked for, with the lines that follow each.
    pub panics: Vec<String>,
    pub errors: Vec<String>,
}

pub struct Fixture {
    pub server: WorldServer,
    pub daemon: Arc<Daemon>,
    pub base: String,
    pub links: Vec<Link>,
    pub pages: Vec<String>,
    pub shops: Vec<ShopName>,
    /// Why the store has no disk of its own, or the disk.
    pub disk: Result<Disk, String>,
    store: PathBuf,
    config: PathBuf,
    log: PathBuf,
    table: toml::Table,
    read_to: u64,
    _dir: TempDir,
}

impl Fixture {
    /// A world of `pages` pages, all linked by one user and the first `shared` by another one, and the daemon running,
    /// with `env` in its environment.
    pub async fn lay(pages: usize, shared: usize, seed: u64, mut env: Vec<(String, String)>) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("disk/store");
        let disk = Disk::mount(&dir.path().join("disk.img"), &dir.path().join("disk"));
        let mut options = Options::new(dir.path().join("world")).pages(pages);
        options.world.seed = seed;
        options.world.listing_size = 100;
        options.world.shops = SHOPS;
        let server = WorldServer::start(options).await.unwrap();
        let mut setup = DaemonSetup::new(format!("127.0.0.1:{}", free_port()), dir.path());
        setup.store_path = store.clone();
        setup.burst = 1000;
        setup.refill = Duration::from_millis(10);
        let (config, log) = (dir.path().join("config.toml"), dir.path().join("daemon.log"));
        env.push(("PAGESYNCD_DRILLS".into(), "1".into()));
        let daemon = Daemon::new(DaemonFiles {
            program: PROGRAM.into(),
            config: config.clone(),
            socket: setup.admin_socket.clone(),
            log: Some(log.clone()),
            env,
        });
        let table = server.config_toml(&setup).parse().unwrap();
        let base = setup.public_url.clone();
        let mut fixture = Fixture {
            server,
            daemon,
            base,
            links: Vec::new(),
            pages: Vec::new(),
            shops: Vec::new(),
            disk,
            store,
            config,
            log,
            table,
            read_to: 0,
            _dir: dir,
        };
        fixture.pages = fixture.world().look(|s| s.pages.keys().cloned().collect());
        // What hangs is to be given up within the patience of a test.
        fixture.set("facebook.request_timeout", "2s");
        fixture.set("spaces.request_timeout", "2s");
        fixture.set("shopify.request_timeout", "2s");
        fixture.daemon.start().await.unwrap();
        fixture.persons(shared).await;
        fixture
    }

    /// Links the pages, and takes the telling of changes into the test's own hands.
    async fn persons(&mut self, shared: usize) {
        let both: Vec<String> = self.pages[..shared].to_vec();
        self.world().change(|s| {
            for page in &both {
                let page = s.pages.get_mut(page).unwrap();
                let roles = page.roles[ADA].clone();
                page.roles.insert(BRUNO.into(), roles);
            }
        });
        let all = self.pages.clone();
        for (person, pages) in [(ADA, all), (BRUNO, both)] {
            if !pages.is_empty() {
                let user = UserId::random();
                self.log_in(user, person, &pages).await;
                self.links.extend(pages.into_iter().map(|page| Link { user, thing: Thing::Page(page) }));
            }
        }
        self.world().set_fault(Fault::WebhooksLost, true);
        let linked = within(Duration::from_secs(120), async || self.untrue().is_empty() && self.at_rest().await).await;
        assert!(linked.is_some(), "the pages were not linked: {}", self.account().await);
    }

    async fn log_in(&self, user: UserId, person: &str, pages: &[String]) {
        let (http, cookie) = self.browser(user).await;
        let login = http.get(format!("{}/facebook/login", self.base)).header("cookie", &cookie).send().await.unwrap();
        let form = [("person", person), ("pages", &pages.join(",")), ("decision", "continue")];
        let decided = http.post(to(&login)).form(&form).send().await.unwrap();
        let back = to(&decided).trim_end_matches("#_=_").to_owned();
        let answer = http.get(back).header("cookie", &cookie).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    /// Installs the app on every shop, for one user on all of them and for another one on the first `shared`, and takes the
    /// telling of changes into the test's own hands.
    pub async fn open_shops(&mut self, shared: usize) {
        self.shops = self.shopify().look(|state| state.shops.keys().cloned().collect());
        self.shopify().change(|state| {
            state.token_life = MINUTES_TO_LIVE;
            state.bulk_time = BULK_TIME;
        });
        let both = self.shops[..shared].to_vec();
        for shops in [self.shops.clone(), both] {
            let user = UserId::random();
            for shop in shops {
                self.install(user, &shop).await;
                self.links.push(Link { user, thing: Thing::Shop(shop.clone()) });
                self.links.extend(self.products_of(&shop).into_iter().map(|thing| Link { user, thing }));
            }
        }
        self.shopify().set_fault(ShopFault::WebhooksLost, true);
        let linked = within(Duration::from_secs(120), async || self.untrue().is_empty() && self.at_rest().await).await;
        assert!(linked.is_some(), "the shops were not linked: {}", self.account().await);
    }

    /// The first products of a shop.
    fn products_of(&self, shop: &ShopName) -> Vec<Thing> {
        let ids = self.shopify().products(shop).into_iter().take(PRODUCTS);
        ids.map(|id| Thing::Product(shop.clone(), id)).collect()
    }

    /// Who has linked this shop.
    pub fn users_of(&self, shop: &ShopName) -> Vec<UserId> {
        let whole = Thing::Shop(shop.clone());
        self.links.iter().filter(|link| link.thing == whole).map(|link| link.user).collect()
    }

    async fn install(&self, user: UserId, shop: &ShopName) {
        let (http, cookie) = self.browser(user).await;
        let install = format!("{}/shopify/install?shop={shop}", self.base);
        let page = http.get(install).header("cookie", &cookie).send().await.unwrap();
        let decided = http.post(to(&page)).form(&[("decision", "install")]).send().await.unwrap();
        let answer = http.get(to(&decided)).header("cookie", &cookie).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    /// A client that follows no redirects, and the cookie of a session of this user.
    async fn browser(&self, user: UserId) -> (reqwest::Client, String) {
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let (_, minted) = self.admin(Method::POST, "/v1/sessions", &json!({"user": user}).to_string()).await.unwrap();
        (http, format!("session_id={}", minted["session_id"].as_str().unwrap()))
    }

    pub fn world(&self) -> &World {
        &self.server.world
    }

    pub fn shopify(&self) -> &Shopify {
        &self.server.shopify
    }

    pub fn sources(&self) -> Sources {
        Sources { world: self.world().clone(), shopify: self.shopify().clone() }
    }

    /// All things that have objects.
    pub fn things(&self) -> Vec<Thing> {
        let pages = self.pages.iter().cloned().map(Thing::Page);
        let products = self.shops.iter().flat_map(|shop| self.products_of(shop));
        pages.chain(self.shops.iter().cloned().map(Thing::Shop)).chain(products).collect()
    }

    // The configuration.

    /// Gives a key and writes the file.
    pub fn set(&mut self, key: &str, value: impl Into<toml::Value>) {
        let (section, leaf) = key.split_once('.').unwrap();
        let section = self.table.entry(section).or_insert_with(|| toml::Table::new().into());
        section.as_table_mut().unwrap().insert(leaf.to_owned(), value.into());
        self.write_config("");
    }

    /// Where the file is.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Writes the file, with something after it.
    pub fn write_config(&self, more: &str) {
        // Whole or not at all: the daemon may be starting.
        let draft = self.config.with_extension("draft");
        std::fs::write(&draft, format!("{}\n{more}", self.table)).unwrap();
        std::fs::rename(draft, &self.config).unwrap();
    }

    // What the daemon says and is.

    pub async fn admin(&self, method: Method, path: &str, body: &str) -> Option<(u16, Value)> {
        let asked = admin_client::exchange(self.daemon.socket(), method, path, body.to_owned());
        let (status, value) = tokio::time::timeout(Duration::from_secs(30), asked).await.ok()?.ok()?;
        Some((status.as_u16(), value))
    }

    pub async fn status(&self) -> Option<Value> {
        self.admin(Method::GET, "/v1/status", "").await.map(|(_, value)| value)
    }

    /// Is nothing owed and every link well?
    pub async fn at_rest(&self) -> bool {
        let Some(status) = self.status().await else { return false };
        let links = self.links.iter().filter(|link| link.thing.is_link()).count();
        status["due"] == 0 && status["outbox"] == 0 && status["links"] == links && self.shops_are_well().await
    }

    /// Is every shop's link active? One whose tokens are lost is not.
    async fn shops_are_well(&self) -> bool {
        if self.shops.is_empty() {
            return true;
        }
        let Some((_, shops)) = self.admin(Method::GET, "/v1/links?source=shopify", "").await else { return false };
        shops["links"].as_array().is_some_and(|links| links.iter().all(|link| link["health"] == "active"))
    }

    /// A token of the link's page for the person who linked it.
    pub fn token(&self, link: &Link) -> String {
        let Thing::Page(page) = &link.thing else { panic!("{link:?} is no page") };
        let person = if self.links.iter().position(|l| l.user == link.user) == Some(0) { ADA } else { BRUNO };
        self.world().look(|s| {
            let fits = |t: &pagesyncd::sandbox::world::state::Token| {
                t.person == person && t.page.as_ref() == Some(page) && t.refused.is_none()
            };
            s.tokens.iter().find(|(_, token)| fits(token)).map(|(text, _)| text.clone()).unwrap()
        })
    }

    /// How often the tokens of each shop were exchanged.
    pub fn refreshes(&self) -> BTreeMap<ShopName, u64> {
        self.shopify().look(|state| state.shops.iter().map(|(name, shop)| (name.clone(), shop.app.refreshes)).collect())
    }

    /// Resident memory of the daemon, in bytes.
    pub fn resident(&self) -> u64 {
        let Some(pid) = self.daemon.pid() else { return 0 };
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kilobytes.unwrap_or_default() * 1024
    }

    /// Bytes of the store's files on disk.
    pub fn store_bytes(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        fn size(path: &Path) -> u64 {
            let inside = |entry: std::io::Result<std::fs::DirEntry>| entry.map_or(0, |entry| size(&entry.path()));
            match std::fs::read_dir(path) {
                Ok(entries) => entries.map(inside).sum(),
                Err(_) => path.metadata().map_or(0, |meta| meta.blocks() * 512),
            }
        }
        size(&self.store)
    }

    /// The store's folder.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// The names of what lies in the store's folder.
    pub fn store_files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.store).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// The whole log.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Reads what was logged since the last time.
    pub fn listen(&mut self) -> Heard {
        let Ok(mut file) = std::fs::File::open(&self.log) else { return Heard::default() };
        let mut bytes = Vec::new();
        file.seek(std::io::SeekFrom::Start(self.read_to)).unwrap();
        self.read_to += file.read_to_end(&mut bytes).unwrap() as u64;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let mut heard = Heard { lines: lines.len(), ..Heard::default() };
        for (at, line) in lines.iter().enumerate() {
            let next = &lines[at..lines.len().min(at + 4)];
            if line.contains("panicked at") && !next.iter().any(|line| line.contains("drill: ")) {
                heard.panics.push(next.join("\n"));
            }
            if line.contains(" ERROR ") {
                heard.errors.push((*line).to_owned());
            }
        }
        heard
    }

    /// The end of the log, and what the daemon says of itself: for a failure.
    pub async fn account(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(300)..].join("\n");
        let links = self.admin(Method::GET, "/v1/links", "").await.map(|(_, links)| links).unwrap_or_default();
        let troubled = |link: &&Value| link["owed"] == true || link["health"] != "active";
        let troubled: Vec<&Value> = links["links"].as_array().into_iter().flatten().filter(troubled).take(5).collect();
        let ended = self.daemon.how_it_ended();
        format!("{:?}\nlast end: {ended}\ntroubled: {troubled:#?}\n{last}", self.status().await)
    }

    // What is in the bucket.

    pub fn object(&self, link: &Link) -> Option<Value> {
        serde_json::from_slice(&self.server.objects.get(&link.object_key())?).ok()
    }

    /// The number of the edit that the object shows.
    pub fn shown(&self, link: &Link) -> Option<u64> {
        link.thing.shown(&self.object(link)?)
    }

    /// What the objects do not say as it is at this moment.
    pub fn untrue(&self) -> Vec<String> {
        let untrue = self.links.iter().filter(|link| !self.is_true(link)).map(|link| format!("{link:?}"));
        untrue.chain(self.links.iter().flat_map(|link| catalogue::wrongs(self, link))).collect()
    }

    fn is_true(&self, link: &Link) -> bool {
        self.object(link).is_some_and(|object| link.thing.is_true(&self.sources(), &object))
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Ok(disk) = &self.disk {
            disk.relieve();
        }
    }
}
