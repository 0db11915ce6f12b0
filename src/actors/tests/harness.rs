//! One daemon after another on one folder, and the world around it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use ractor::{Actor, ActorRef};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::clock::{self, Stopped, moment, until, until_passing};
use super::script::{Events, Graph};
use crate::actors::supervisor::{
    Sockets, Supervisor, SupervisorArgs, SupervisorMsg, bind_admin, bind_tcp, keyring, stop,
};
use crate::admin_client;
use crate::config::{Changes, Config};
use crate::context::{Context, Setup};
use crate::control::{Command, Drill, Target};
use crate::core::grant::Ticket;
use crate::core::model::{Cause, LinkKey, PageId, Secret, UserId};
use crate::metrics::Metrics;
use crate::sources::facebook::graph::Gate;
use crate::sources::facebook::graph::fake::{APP_ID, APP_SECRET};
use crate::sources::shopify::ShopifyClient;
use crate::spaces::memory::MemoryStore;
use crate::store::Store;
use crate::store::persons::NewLink;
use crate::store::stepped::shown;
use crate::store::unlink::Unlinking;

/// A stop has this long, on the clock of the machine, before the timers' clock moves on.
const UNHURRIED: Duration = Duration::from_secs(3);
/// That of the usual configuration.
pub(super) const DEBOUNCE: Duration = Duration::from_secs(2);

/// A daemon, and what is around it.
pub(super) struct Harness {
    folder: TempDir,
    pub(super) graph: Graph,
    pub(super) events: Events,
    pub(super) spaces: MemoryStore,
    pub(super) user: UserId,
    /// For the daemons that start from now on.
    pub(super) shopify: Option<ShopifyClient>,
    daemon: Option<Daemon>,
    _clock: Stopped,
}

/// A running daemon.
pub(super) struct Daemon {
    pub(super) context: Arc<Context>,
    supervisor: ActorRef<SupervisorMsg>,
    given_up: watch::Receiver<Option<String>>,
    public: SocketAddr,
}

/// The id of a page.
pub(super) fn page(n: u64) -> String {
    (1000 + n).to_string()
}

pub(super) fn page_id(n: u64) -> PageId {
    page(n).parse().unwrap()
}

/// Opens the store of a folder, with the keys of this configuration.
pub(super) fn open_store(folder: &Path, config: &Config) -> Store {
    Store::open(folder, keyring(config).unwrap()).unwrap()
}

/// The configuration of a daemon with a store in this folder and an admin socket of this path, with these lines in
/// `[sync]`.
pub(super) fn config_of((graph, events): (&Graph, &Events), store: &Path, socket: &Path, sync: &str) -> Config {
    let text = format!(
        "[http]\npublic_url = \"http://localhost:5000\"\n\
         [facebook]\napp_id = \"{APP_ID}\"\napp_secret = \"{APP_SECRET}\"\nverify_token = \"sixteen-and-more-verify\"\n\
         graph_url = \"{graph}\"\nwebhook_fields = [\"name\", \"description\"]\npage_fields = [\"id\", \"name\"]\n\
         [sync]\n{sync}\n\
         [spaces]\nregion = \"nyc3\"\nbucket = \"pages\"\nendpoint = \"http://127.0.0.1:9\"\naccess_key = \"DO00ACCESS\"\n\
         secret_key = \"sixteen-and-more-spaces\"\n\
         [store]\npath = \"{store}\"\nkey = \"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"\n\
         [session]\nstate_secret = \"thirty-two-characters-and-more-of-state\"\n\
         [notify]\nurl = \"{events}\"\nsecret = \"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"\n\
         [admin]\nsocket = \"{socket}\"\n",
        graph = graph.url(),
        events = events.url(),
        store = store.display(),
        socket = socket.display(),
    );
    Config::load_text(Path::new("test.toml"), &text, &|_| None).unwrap().config
}

impl Daemon {
    /// Starts the actors, with an admin socket of this path.
    pub(super) async fn start(context: Arc<Context>, socket: PathBuf) -> Daemon {
        let public = bind_tcp(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = public.local_addr().unwrap();
        let admin_tcp = bind_tcp(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let sockets = Sockets {
            public: Some(public),
            from_systemd: false,
            admin: (bind_admin(&socket).unwrap(), socket),
            admin_tcp: Some(admin_tcp),
        };
        let (sender, given_up) = watch::channel(None);
        let args = SupervisorArgs { context: context.clone(), sockets, given_up: sender };
        let (supervisor, _) = Actor::spawn(None, Supervisor, args).await.unwrap();
        supervisor.call(SupervisorMsg::Ping, None).await.unwrap();
        Daemon { context, supervisor, given_up, public: address }
    }
}

/// Links these pages to the user, as a login does.
pub(super) async fn put_links(store: &Store, user: UserId, numbers: &[u64]) {
    let ticket = store.ticket().await.unwrap();
    put_links_of(store, ticket, user, numbers).await;
}

async fn put_links_of(store: &Store, ticket: Ticket, user: UserId, numbers: &[u64]) {
    let new = |n: &u64| NewLink { page: page_id(*n), token: Secret::new("EAAtoken"), name: None, facebook_user: None };
    let links = numbers.iter().map(new).collect();
    let stored = store.put_links(ticket, user, None, links, Cause::Link).await.unwrap();
    assert_eq!(stored.links.len(), numbers.len());
}

impl Harness {
    /// A daemon without a link.
    pub(super) async fn start() -> Harness {
        let (graph, events) = (Graph::start().await, Events::start().await);
        let mut harness = Harness {
            folder: tempfile::tempdir().unwrap(),
            graph,
            events,
            spaces: MemoryStore::new(),
            user: UserId::random(),
            shopify: None,
            daemon: None,
            _clock: clock::stop(),
        };
        harness.boot().await;
        harness
    }

    /// A daemon with so many links, and nothing owed.
    pub(super) async fn with_links(count: u64) -> Harness {
        let harness = Harness::start().await;
        let numbers: Vec<u64> = (0..count).collect();
        harness.link(&numbers).await;
        harness.until_complete().await;
        harness
    }

    pub(super) fn store_folder(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub(super) fn admin_socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    /// The configuration, with other lines in `[sync]`.
    pub(super) fn config(&self, sync: &str) -> Config {
        config_of((&self.graph, &self.events), &self.store_folder(), &self.admin_socket(), sync)
    }

    /// The configuration of a start.
    pub(super) fn usual_config(&self) -> Config {
        self.config(&format!("poll_interval = \"24h\"\ndebounce = \"{}s\"", DEBOUNCE.as_secs()))
    }

    /// Starts a daemon on what the one before left.
    pub(super) async fn boot(&mut self) {
        self.boot_with(|_| {}).await;
    }

    /// The same, and before anything looks into the store this is done to it.
    pub(super) async fn boot_with(&mut self, prepare: impl FnOnce(&Store)) {
        let config = self.usual_config();
        let store = open_store(&self.store_folder(), &config);
        prepare(&store);
        let (metrics, gate) = (Arc::new(Metrics::new()), Gate::new(config.facebook.max_in_flight));
        let mut setup = Setup::build(config, &gate, &metrics).unwrap();
        setup.spaces = Arc::new(self.spaces.clone());
        setup.shopify = self.shopify.clone();
        let context = Context::new(store, setup, gate, metrics, None);
        self.daemon = Some(Daemon::start(context, self.admin_socket()).await);
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("a daemon runs")
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.daemon().context
    }

    pub(super) fn store(&self) -> &Store {
        &self.daemon().context.store
    }

    pub(super) fn given_up(&self) -> Option<String> {
        self.daemon().given_up.borrow().clone()
    }

    /// Stops the daemon as a signal does, and returns how long that took on the clock of the timers.
    pub(super) async fn stop(&mut self) -> Duration {
        let (reply, ended) = oneshot::channel();
        self.context().command(Command::Stop(reply)).await.unwrap();
        self.stopped(ended).await
    }

    /// Waits for a stop that was commanded.
    pub(super) async fn stopped(&mut self, mut ended: oneshot::Receiver<()>) -> Duration {
        let Daemon { context, supervisor, .. } = self.daemon.take().expect("a daemon runs");
        let began = Instant::now();
        let patient = std::time::Instant::now();
        while ended.try_recv().is_err() {
            moment().await;
            // First comes what needs no time of the timers, even if the disk is slow.
            if patient.elapsed() > UNHURRIED {
                tokio::time::advance(Duration::from_millis(10)).await;
            }
            assert!(began.elapsed() <= stop::DRAIN, "the stop has no end");
        }
        let took = began.elapsed();
        supervisor.stop_and_wait(None, None).await.unwrap();
        context.store.close().await;
        took
    }

    /// Lets this part panic, and waits until it has. Its successor begins when time passes.
    pub(super) async fn drill(&self, target: Target, word: &str) {
        let before = self.restarts(word);
        self.context().command(Command::Drill(target, Drill::Panic)).await.unwrap();
        until("the actor is dead", || self.restarts(word) > before).await;
    }

    /// Asks the supervisor for a sign of life, as the watchdog does, and waits for it.
    pub(super) async fn ping(&self) {
        let supervisor = &self.daemon.as_ref().expect("a daemon").supervisor;
        let answer = supervisor.call(SupervisorMsg::Ping, None).await.unwrap();
        assert!(matches!(answer, ractor::rpc::CallResult::Success(())));
    }

    /// For how many seconds this part has been silent.
    pub(super) fn silence(&self, part: &str) -> f64 {
        let start = format!("pagesyncd_part_silent_seconds{{part=\"{part}\"}} ");
        let text = self.context().metrics.encode();
        text.lines().find_map(|line| line.strip_prefix(&start)).expect("a known part").parse().unwrap()
    }

    /// How many actors of this kind died.
    pub(super) fn restarts(&self, word: &str) -> usize {
        let start = format!("pagesyncd_actor_restarts_total{{actor=\"{word}\"}} ");
        let text = self.context().metrics.encode();
        text.lines().find_map(|line| line.strip_prefix(&start)).map_or(0, |count| count.parse().unwrap())
    }

    /// Puts another configuration in force, with the same bucket.
    pub(super) async fn reload(&self, config: Config) -> Result<Changes, String> {
        let (reply, outcome) = oneshot::channel();
        self.context().command(Command::Reload(Box::new(config.clone()), reply)).await.unwrap();
        let outcome = outcome.await.unwrap();
        if outcome.is_ok() {
            let context = self.context();
            let mut setup = Setup::build(config, &context.gate, &context.metrics).unwrap();
            setup.spaces = Arc::new(self.spaces.clone());
            context.set_setup(setup);
        }
        outcome
    }

    pub(super) fn key(&self, n: u64) -> LinkKey {
        LinkKey::new(self.user, page_id(n))
    }

    /// Links pages, as a login does.
    pub(super) async fn link(&self, numbers: &[u64]) {
        numbers.iter().for_each(|n| self.graph.rename(&page(*n), &format!("Page {n}")));
        put_links(self.store(), self.user, numbers).await;
    }

    /// A login that took its ticket earlier links a page again.
    pub(super) async fn relink(&self, ticket: Ticket, n: u64) {
        put_links_of(self.store(), ticket, self.user, &[n]).await;
    }

    pub(super) async fn unlink(&self, n: u64) {
        let links = [self.key(n)];
        assert_eq!(self.store().unlink(&links, Unlinking::default()).await.unwrap().links, links);
    }

    /// A page changes, and Meta delivers that.
    pub(super) async fn change(&self, n: u64, name: &str) {
        self.graph.rename(&page(n), name);
        assert_eq!(self.store().mark_pages(&[page_id(n)], Cause::Webhook).await.unwrap().len(), 1);
    }

    /// The name in the page's object.
    pub(super) fn written(&self, n: u64) -> Option<String> {
        let object: Value = serde_json::from_slice(&self.spaces.object(&self.key(n).object_key())?).unwrap();
        object["data"][0]["name"].as_str().map(str::to_owned)
    }

    /// How many requests of this kind Spaces has got.
    pub(super) fn requests(&self, kind: &str) -> usize {
        self.spaces.calls().iter().filter(|(op, _)| *op == kind).count()
    }

    pub(super) fn puts(&self) -> usize {
        self.requests("put")
    }

    /// The kinds of the events about a page since its first object was written.
    pub(super) fn later_events(&self, n: u64) -> Vec<String> {
        let mut all = self.events.of(&page(n));
        assert_eq!(all.drain(..2).collect::<Vec<_>>(), ["page.linked", "page.updated"]);
        all
    }

    /// Nothing is owed: no read, no write, no cleanup, no event; and each object equals its page.
    pub(super) fn is_complete(&self) -> bool {
        let (store, counts) = (self.store(), shown(self.store().counts()));
        let links = shown(store.links());
        let owed = counts.due + counts.due_parked + counts.outbox + counts.cleanups.values().sum::<u64>();
        let is_true = |link: &LinkKey| {
            let n = link.id.as_str().parse::<u64>().unwrap() - 1000;
            self.written(n).is_some() && self.written(n) == self.graph.name(&page(n))
        };
        let objects = self.spaces.objects().len();
        owed + shown(store.event_counts()).waiting == 0 && objects == links.len() && links.iter().all(is_true)
    }

    /// Lets time pass until nothing is owed.
    pub(super) async fn until_complete(&self) {
        until_passing("nothing is owed", || self.is_complete()).await;
    }

    /// Asks the public listener whether it serves.
    pub(super) async fn is_healthy(&self) -> bool {
        let url = format!("http://{}/healthz", self.daemon().public);
        reqwest::get(url).await.is_ok_and(|answer| answer.status() == 200)
    }

    /// Asks the admin socket for the daemon's status.
    pub(super) async fn answers_operators(&self) -> bool {
        let answer = admin_client::fetch(&self.admin_socket(), Method::GET, "/v1/status", "").await;
        answer.is_ok_and(|(status, _)| status == StatusCode::OK)
    }
}
