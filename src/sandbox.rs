//! A local Facebook, a local S3 and a receiver of events, for the `sandbox` verb and the tests.
//!
//! They fail in the ways of the real services: tokens expire and are revoked, listings are cut short, webhooks come
//! twice or in the wrong order, connections break, and stored objects change without the daemon. A [`World`] holds the
//! state; [`WorldServer`] serves it on loopback addresses and sends its webhooks. Nothing here calls the real Facebook
//! or the real Spaces.

pub mod activity;
pub mod console;
pub mod daemon;
pub mod fault;
pub mod fleet;
pub mod folder;
pub mod forwarder;
pub mod front;
pub mod graph;
pub mod limits;
pub mod pooler;
pub mod postgres;
pub mod receiver;
mod setup;
pub mod shopify;
mod sign;
mod spaces;
pub mod webhook;
mod wire;
pub mod world;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::graph::Graph;
pub use self::setup::DaemonSetup;
use self::shopify::Shopify;
pub use self::spaces::Objects;
use self::wire::Face;
pub use self::world::{World, WorldOptions};

/// The one bucket.
pub const BUCKET: &str = "pagesyncd-sandbox";
/// Its region.
pub const REGION: &str = "nyc3";
/// The access key that is right at first.
pub const ACCESS_KEY: &str = "SANDBOXACCESSKEY";
/// The secret key that is right at first.
pub const SECRET_KEY: &str = "sandbox-secret-key-of-this-machine";

/// Where a world lives and listens.
#[derive(Debug, Clone)]
pub struct Options {
    /// Holds `spaces/`, and `world.json` and `shopify.json` when the world is kept.
    pub dir: PathBuf,
    /// Facebook's address.
    pub graph_listen: SocketAddr,
    /// Spaces' address.
    pub spaces_listen: SocketAddr,
    /// Shopify's address.
    pub shopify_listen: SocketAddr,
    /// What a new world looks like; a kept one stays as it is.
    pub world: WorldOptions,
}

impl Options {
    /// A small world in `dir`, on free loopback ports.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Options {
            dir: dir.into(),
            graph_listen: free,
            spaces_listen: free,
            shopify_listen: free,
            world: WorldOptions::default(),
        }
    }

    /// The same with so many pages.
    pub fn pages(mut self, pages: usize) -> Self {
        self.world.pages = pages;
        self
    }
}

/// A world that listens.
pub struct WorldServer {
    /// The state, and all that can be done to it.
    pub world: World,
    /// The local Shopify.
    pub shopify: Shopify,
    /// `facebook.graph_url`.
    pub graph_url: String,
    /// `facebook.dialog_url`: the same address.
    pub dialog_url: String,
    /// `spaces.endpoint`.
    pub spaces_endpoint: String,
    /// `spaces.bucket`.
    pub bucket: String,
    /// `spaces.region`.
    pub region: String,
    /// `spaces.access_key`.
    pub access_key: String,
    /// `spaces.secret_key`.
    pub secret_key: String,
    /// `facebook.app_id`.
    pub app_id: String,
    /// `facebook.app_secret`.
    pub app_secret: String,
    /// The stored objects, without a request.
    pub objects: Objects,
    /// `notify.url`.
    pub notify_url: String,
    /// `notify.secret`.
    pub notify_secret: String,
    graph: Face,
    spaces: Face,
    shops: [Face; 2],
    receiver: Face,
    stop: CancellationToken,
    sender: Mutex<Option<tokio::task::JoinHandle<()>>>,
    kept: PathBuf,
    kept_shops: PathBuf,
}

impl WorldServer {
    /// Starts the world of `options.dir`, the one kept there if there is one.
    ///
    /// # Errors
    /// A folder that cannot be written, an address that is taken, or a kept world that cannot be read.
    pub async fn start(options: Options) -> io::Result<WorldServer> {
        std::fs::create_dir_all(&options.dir)?;
        let kept = options.dir.join("world.json");
        let (file, wanted) = (kept.clone(), options.world.clone());
        // A large world takes a while, and signals are to be heard meanwhile.
        let built = tokio::task::spawn_blocking(move || match file.exists() {
            true => World::load(&file),
            false => Ok(World::new(&wanted)),
        });
        let world = built.await.map_err(io::Error::other)??;
        world.set_spaces_keys([(ACCESS_KEY.to_owned(), SECRET_KEY.to_owned())]);
        let always: wire::Gate = Arc::new(|| true);
        let handler = Graph { world: world.clone() }.handler();
        let graph = Face::start(options.graph_listen, handler, always, world.watch_faults()).await?;
        let (handler, objects) = spaces::open(world.clone(), &options.dir.join("spaces"), BUCKET)?;
        world.set_objects(objects.clone());
        let watched = world.clone();
        let gate: wire::Gate = Arc::new(move || !watched.is_fault_on(fault::Fault::SpacesRefused));
        let spaces = Face::start(options.spaces_listen, handler, gate, world.watch_faults()).await?;
        let watched = world.clone();
        let gate: wire::Gate = Arc::new(move || !watched.is_fault_on(fault::Fault::EventsRefused));
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let receiver = Face::start(free, receiver::handler(world.clone()), gate, world.watch_faults()).await?;
        let kept_shops = options.dir.join("shopify.json");
        let shopify = match kept_shops.exists() {
            true => Shopify::load(&kept_shops)?,
            false => Shopify::new(options.world.seed, options.world.shops),
        };
        world.set_shopify(shopify.clone());
        let shops = shopify.listen(options.shopify_listen).await?;
        let stop = CancellationToken::new();
        let sender = tokio::spawn(webhook::run(world.clone(), stop.clone()));
        let (app_id, app_secret) = world.look(|s| (s.app.id.clone(), s.app.secret.clone()));
        let notify_secret = format!("whsec_{}", seeded("notify secret", app_secret.as_bytes()));
        world.set_notify_secrets([notify_secret.clone()]);
        Ok(WorldServer {
            notify_url: format!("http://{}{}", receiver.addr, receiver::PATH),
            notify_secret,
            graph_url: format!("http://{}", graph.addr),
            dialog_url: format!("http://{}", graph.addr),
            spaces_endpoint: format!("http://{}", spaces.addr),
            bucket: BUCKET.into(),
            region: REGION.into(),
            access_key: ACCESS_KEY.into(),
            secret_key: SECRET_KEY.into(),
            app_id,
            app_secret,
            objects,
            world,
            shopify,
            graph,
            spaces,
            shops,
            receiver,
            stop,
            sender: Mutex::new(Some(sender)),
            kept,
            kept_shops,
        })
    }

    /// Sets the addresses of the app: the redirect address and the two callbacks that an operator enters in the
    /// App Dashboard. [`WorldServer::config_toml`] does it too.
    pub fn register(&self, public_url: &str) {
        self.world.change(|s| {
            s.app.redirect_uris.insert(format!("{public_url}/facebook/callback"));
            s.app.deauthorize_url = Some(format!("{public_url}/facebook/deauthorize"));
            s.app.data_deletion_url = Some(format!("{public_url}/facebook/data-deletion"));
        });
        self.shopify.change(|state| {
            state.redirect_uris.insert(format!("{public_url}/shopify/callback"));
            state.webhook_url = Some(format!("{public_url}/shopify/webhook"));
        });
    }

    /// A whole configuration for a daemon in this world, and registers the daemon's addresses with it.
    /// The same world writes the same secrets.
    pub fn config_toml(&self, daemon: &DaemonSetup) -> String {
        self.register(&daemon.public_url);
        self.world.set_daemon_setup(daemon.clone());
        let seed = self.app_secret.as_bytes();
        let store_key = seeded("store key", seed);
        let text = |value: &str| toml::Value::String(value.to_owned()).to_string();
        let time = |value: Duration| text(&humantime::format_duration(value).to_string().replace(' ', ""));
        let shared = daemon.shared_store.as_ref();
        let shared = shared.map(|(url, node)| format!("url = {}\nnode = {}\n", text(url), text(node)));
        let shared = shared.unwrap_or_default();
        format!(
            "[http]\nlisten = {listen}\npublic_url = {public}\n\n\
             [facebook]\napp_id = {app_id}\napp_secret = {app_secret}\nverify_token = {verify}\n\
             graph_url = {graph}\ndialog_url = {dialog}\n\n\
             [shopify]\nclient_id = {client_id}\nclient_secret = {client_secret}\napi_url = {api_url}\n\
             poll_interval = {shop_poll}\nsweep_interval = {shop_sweep}\n\n\
             [sync]\npoll_interval = {poll}\ndebounce = {debounce}\nburst = {burst}\nrefill = {refill}\n\n\
             [spaces]\nregion = {region}\nbucket = {bucket}\nendpoint = {endpoint}\naccess_key = {access}\n\
             secret_key = {secret}\npath_style = true\n\n\
             [store]\npath = {store}\nkey = {store_key}\n{shared}\n\
             [session]\nstate_secret = {state}\nallow_new = {allow_new}\n\n\
             [notify]\nurl = {notify}\nsecret = {notify_secret}\n\n\
             [admin]\nsocket = {socket}\nlisten = {admin}\n\n\
             [log]\nlevel = {level}\nformat = \"text\"\n",
            listen = text(&daemon.http_listen),
            public = text(&daemon.public_url),
            app_id = text(&self.app_id),
            app_secret = text(&self.app_secret),
            client_id = text(&self.shopify.look(|state| state.client_id.clone())),
            client_secret = text(&self.shopify.look(|state| state.client_secret.clone())),
            api_url = text(&self.shopify.url()),
            verify = text(&sign::hmac_sha256_hex("verify token", seed)),
            graph = text(&self.graph_url),
            dialog = text(&self.dialog_url),
            shop_poll = time(daemon.shop_poll_interval),
            shop_sweep = time(daemon.shop_sweep_interval),
            poll = time(daemon.poll_interval),
            debounce = time(daemon.debounce),
            burst = daemon.burst,
            refill = time(daemon.refill),
            region = text(&self.region),
            bucket = text(&self.bucket),
            endpoint = text(&self.spaces_endpoint),
            access = text(&self.access_key),
            secret = text(&self.secret_key),
            store = text(&daemon.store_path.to_string_lossy()),
            store_key = text(&store_key),
            shared = shared,
            state = text(&sign::hmac_sha256_hex("state secret", seed)),
            allow_new = daemon.allow_new,
            notify = text(&self.notify_url),
            notify_secret = text(&self.notify_secret),
            socket = text(&daemon.admin_socket.to_string_lossy()),
            admin = text(&daemon.admin_listen),
            level = text(&daemon.log_level),
        )
    }

    /// Keeps the world beside its objects, so that the next [`WorldServer::start`] in this folder goes on with it.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn keep(&self) -> io::Result<()> {
        self.world.save(&self.kept)?;
        self.shopify.save(&self.kept_shops)
    }

    /// Ends all connections and the sender of webhooks.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.graph.stop().await;
        self.spaces.stop().await;
        for face in &self.shops {
            face.stop().await;
        }
        self.receiver.stop().await;
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // A sender that panicked is as gone as one that ended.
            let _ = sender.await;
        }
    }
}

/// 32 bytes in base64: the same for the same purpose and seed.
fn seeded(purpose: &str, seed: &[u8]) -> String {
    use base64::Engine;
    let bytes = sign::hmac_sha256_hex(purpose, seed);
    base64::engine::general_purpose::STANDARD.encode(&bytes.as_bytes()[..32])
}

impl Drop for WorldServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests;
