//! A shop with a large catalogue: its first load by bulk operation, a sweep that finds nothing new, one changed product, and
//! a day of orders that change nothing but stock. Beside the time of each step stands the memory of the daemon.
//!
//! `cargo bench --bench catalogue` loads 50,000 products with 200,000 variants; `PAGESYNCD_BENCH_PRODUCTS` sets another
//! number of products. `benches/README.md` explains the rows. It is a report: no figure makes it fail.
//!
//! Shopify and Spaces are the sandbox's and run in the process of the bench. The daemon is measured from outside.

#[allow(dead_code, reason = "other benches use the rest")]
#[path = "../scale/memory.rs"]
mod memory;
#[allow(dead_code, reason = "other benches use the rest")]
#[path = "../webhooks/process.rs"]
mod process;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use memory::{Memory, forget_peak, memory};
use pagesyncd::core::model::{ShopName, UserId};
use pagesyncd::sandbox::daemon::{Daemon, DaemonFiles};
use pagesyncd::sandbox::{DaemonSetup, Options, WorldServer};
use process::cpu_time;
use serde_json::Value;
use tempfile::TempDir;

/// The result of a step of the bench. An error ends the bench.
type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pagesyncd");
const SHOP: &str = "sandbox-1.myshopify.com";
/// Variants of each product.
const VARIANTS: u64 = 4;
/// Orders of the last step.
const ORDERS: u64 = 10_000;
/// Products that the orders are for.
const SOLD: usize = 500;
const PATIENCE: Duration = Duration::from_secs(3600);

struct Bench {
    server: WorldServer,
    daemon: Arc<Daemon>,
    base: String,
    shop: ShopName,
    products: u64,
    rows: Vec<String>,
    _dir: TempDir,
}

impl Bench {
    async fn new(products: u64, dir: PathBuf) -> Fallible<Bench> {
        let dir = TempDir::new_in(dir)?;
        let server = WorldServer::start(Options::new(dir.path().join("world")).pages(1)).await?;
        let listen = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut setup = DaemonSetup::new(listen.to_string(), dir.path());
        setup.allow_new = true;
        setup.log_level = "warn".into();
        let config = dir.path().join("config.toml");
        std::fs::write(&config, server.config_toml(&setup))?;
        let daemon = Daemon::new(DaemonFiles {
            program: PROGRAM.into(),
            config,
            socket: setup.admin_socket.clone(),
            log: Some(dir.path().join("daemon.log")),
            env: Vec::new(),
        });
        daemon.start().await?;
        let shop: ShopName = SHOP.parse()?;
        server.shopify.set_catalogue(&shop, products, VARIANTS);
        Ok(Bench { server, daemon, base: setup.public_url, shop, products, rows: Vec::new(), _dir: dir })
    }

    fn pid(&self) -> Fallible<u32> {
        self.daemon.pid().ok_or_else(|| "no daemon runs".into())
    }

    /// Installs the app on the shop, as a browser does.
    async fn install(&self) -> Fallible<UserId> {
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
        let header = |answer: &reqwest::Response, name: &str| -> Fallible<String> {
            Ok(answer.headers().get(name).ok_or(format!("no {name}"))?.to_str()?.to_owned())
        };
        let begun = http.get(format!("{}/shopify/install?shop={}", self.base, self.shop)).send().await?;
        let cookie = header(&begun, "set-cookie")?.split(';').next().unwrap_or_default().to_owned();
        let decided = http.post(header(&begun, "location")?).form(&[("decision", "install")]).send().await?;
        let back = header(&decided, "location")?;
        let ended = http.get(back).header("cookie", cookie).header("accept", "application/json").send().await?;
        let body = ended.text().await?;
        let reply: Value = serde_json::from_str(&body).map_err(|_| format!("the installation failed: {body}"))?;
        Ok(reply["user_uuid"].as_str().ok_or(format!("the installation failed: {body}"))?.parse()?)
    }

    /// Measures a step.
    async fn step(&mut self, name: &str, work: impl AsyncFnOnce(&Bench) -> Fallible<String>) -> Fallible<()> {
        eprintln!("{name}");
        let pid = self.pid()?;
        forget_peak(pid);
        let (before, cpu, began) = (memory(pid)?, cpu_time(pid)?, Instant::now());
        let note = work(self).await?;
        let (took, cpu, after) = (began.elapsed(), cpu_time(pid)? - cpu, memory(pid)?);
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let Memory { resident, peak } = after;
        let (took, cpu) = (took.as_secs_f64(), cpu.as_secs_f64());
        let memory = format!("{:.0} | {:.0} | {:.0}", mb(before.resident), mb(resident), mb(peak));
        self.rows.push(format!("| {name} | {took:.1} | {cpu:.1} | {memory} | {note} |"));
        Ok(())
    }

    fn object(&self, user: UserId, name: &str) -> Option<Value> {
        let key = format!("users/{user}/shopify/{}/{name}.json", self.shop);
        serde_json::from_slice(&self.server.objects.get(&key)?).ok()
    }

    /// Waits until the daemon owes nothing.
    async fn rests(&self) -> Fallible<bool> {
        let answer =
            pagesyncd::admin_client::exchange(self.daemon.socket(), http::Method::GET, "/v1/status", String::new());
        let (_, status) = answer.await?;
        Ok(status["due"] == 0 && status["outbox"] == 0)
    }

    async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> Fallible<bool>) -> Fallible<()> {
        let began = Instant::now();
        while !holds().await? {
            if began.elapsed() > PATIENCE {
                return Err(format!("this did not come to hold: {what}").into());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// The index names every product, and nothing is owed.
    async fn until_loaded(&self, user: UserId) -> Fallible<()> {
        let listed = async || {
            let all = self.rests().await?
                && self
                    .object(user, "products/index")
                    .is_some_and(|index| index["data"].as_array().map(Vec::len) == usize::try_from(self.products).ok());
            Ok(all)
        };
        self.until("the index names every product", listed).await
    }
}

async fn run() -> Fallible<()> {
    let products = std::env::var("PAGESYNCD_BENCH_PRODUCTS").ok().and_then(|text| text.parse().ok()).unwrap_or(50_000);
    let dir = std::env::var_os("PAGESYNCD_BENCH_DIR").map_or(env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    let mut bench = Bench::new(products, dir).await?;
    let mut user = None;
    bench
        .step("first load", async |bench| {
            let installed = bench.install().await?;
            user = Some(installed);
            bench.until_loaded(installed).await?;
            Ok(format!("{} bulk operations", bench.server.shopify.calls(&bench.shop, "BulkStart")))
        })
        .await?;
    let user = user.ok_or("nobody")?;
    bench
        .step("one changed product", async |bench| {
            let id = bench.server.shopify.products(&bench.shop)[0];
            let reads = bench.server.shopify.calls(&bench.shop, "ProductRead");
            bench.server.shopify.edit_product(&bench.shop, id, |product| product.title = "Changed".into());
            let is_shown = async || {
                let index = bench.object(user, "products/index").unwrap_or_default();
                Ok(index["data"][0]["title"] == "Changed")
            };
            bench.until("the index shows the change", is_shown).await?;
            Ok(format!("{} reads", bench.server.shopify.calls(&bench.shop, "ProductRead") - reads))
        })
        .await?;
    bench
        .step("orders", async |bench| {
            let sold: Vec<u64> = bench.server.shopify.products(&bench.shop).into_iter().take(SOLD).collect();
            let key = |id: u64| format!("users/{user}/shopify/{SHOP}/products/{id}.json");
            for id in &sold {
                bench.server.shopify.set_stock(&bench.shop, *id, 1_000_000);
            }
            bench.until("nothing is owed", async || bench.rests().await).await?;
            let puts = |bench: &Bench| sold.iter().map(|id| bench.server.world.puts(&key(*id))).sum::<u64>();
            let (before, reads) = (puts(bench), bench.server.shopify.calls(&bench.shop, "ProductRead"));
            for order in 0..ORDERS {
                bench.server.shopify.sell(&bench.shop, sold[order as usize % sold.len()], 1);
            }
            bench.until("nothing is owed", async || bench.rests().await).await?;
            let reads = bench.server.shopify.calls(&bench.shop, "ProductRead") - reads;
            Ok(format!("{ORDERS} deliveries for {SOLD} products, {reads} reads, {} writes", puts(bench) - before))
        })
        .await?;
    println!("{products} products with {VARIANTS} variants each\n");
    println!("| step | s | CPU s | RSS before, MB | RSS after | peak | |\n|---|---|---|---|---|---|---|");
    bench.rows.iter().for_each(|row| println!("{row}"));
    Ok(())
}

fn main() -> Fallible<()> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run())
}
