//! Several daemons share a PostgreSQL: each answers everything, each link is read and written by one of them, and the
//! others take over from one that dies.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use pagesyncd::core::model::{ShopName, UserId};
use pagesyncd::sandbox::daemon::{Daemon, DaemonFiles};
use pagesyncd::sandbox::fault::{Call, Fault};
use pagesyncd::sandbox::forwarder::Forwarder;
use pagesyncd::sandbox::pooler::Pooler;
use pagesyncd::sandbox::postgres::Postgres;
use pagesyncd::sandbox::shopify::{HeldUp, Shopify};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use signal_hook::consts::signal::{SIGCONT, SIGSTOP};

use crate::harness::{ADA, Answer, Browser, Harness, PROGRAM, delivery, free_port, until};
use crate::shops;

/// A daemon beside the one of the harness.
pub struct Other {
    pub daemon: Arc<Daemon>,
    base: String,
    pub config: PathBuf,
    log: PathBuf,
}

/// Daemons in one world, over one database.
pub struct Cluster {
    pub others: Vec<Other>,
    pub postgres: Postgres,
    /// The way of each daemon to the database, where each has its own.
    ways: Vec<Forwarder>,
    // Its folder goes last.
    pub harness: Harness,
}

impl Cluster {
    /// So many daemons; `None` without PostgreSQL.
    pub async fn start(daemons: usize, pages: usize) -> Option<Cluster> {
        let harness = Harness::plan().pages(pages).build().await;
        let folder = harness.scratch_dir().join("postgres");
        let made = tokio::task::spawn_blocking(move || Postgres::fast(&folder)).await.unwrap();
        let postgres = Postgres::for_test(made)?;
        Some(Cluster::over(harness, daemons, &postgres.url(), postgres).await)
    }

    /// The same, and each daemon has a way to the database of its own, which can be cut.
    async fn start_apart(daemons: usize, pages: usize) -> Option<Cluster> {
        let mut harness = Harness::plan().pages(pages).build().await;
        let folder = harness.scratch_dir().join("postgres");
        let made = tokio::task::spawn_blocking(move || Postgres::fast(&folder)).await.unwrap();
        let postgres = Postgres::for_test(made)?;
        let (mut ways, mut urls) = (Vec::new(), Vec::new());
        for _ in 0..daemons {
            let way = Forwarder::start(postgres.port()).await.unwrap();
            urls.push(postgres.url_at(way.port(), "pagesyncd"));
            ways.push(way);
        }
        harness.set("store.url", urls[0].as_str());
        harness.set("store.node", "first");
        harness.daemon.start().await.unwrap();
        let mut cluster = Cluster { harness, others: Vec::new(), postgres, ways };
        for (number, url) in urls.into_iter().enumerate().skip(1) {
            let other = cluster.other(number);
            cluster.others.push(other);
            cluster.set(number, "store.url", url.into());
            cluster.daemon(number).start().await.unwrap();
        }
        Some(cluster)
    }

    /// So many daemons that reach the database at this address.
    pub async fn over(mut harness: Harness, daemons: usize, url: &str, postgres: Postgres) -> Cluster {
        harness.set("store.url", url);
        harness.set("store.node", "first");
        harness.daemon.start().await.unwrap();
        let mut cluster = Cluster { harness, others: Vec::new(), postgres, ways: Vec::new() };
        for number in 1..daemons {
            let other = cluster.other(number);
            other.daemon.start().await.unwrap();
            cluster.others.push(other);
        }
        cluster
    }

    fn other(&self, number: usize) -> Other {
        self.with_name(number, &format!("number-{number}"))
    }

    /// A further daemon of this name, which is not started.
    pub fn with_name(&self, number: usize, node: &str) -> Other {
        let folder = self.harness.scratch_dir().join(format!("daemon{number}"));
        std::fs::create_dir_all(&folder).unwrap();
        let mut table: toml::Table = std::fs::read_to_string(&self.harness.config).unwrap().parse().unwrap();
        let listen = format!("127.0.0.1:{}", free_port());
        let socket = folder.join("admin.sock");
        let mut set = |section: &str, key: &str, value: String| {
            table[section].as_table_mut().unwrap().insert(key.into(), value.into());
        };
        set("http", "listen", listen.clone());
        set("admin", "socket", socket.to_string_lossy().into_owned());
        set("admin", "listen", format!("127.0.0.1:{}", free_port()));
        set("store", "path", folder.join("store").to_string_lossy().into_owned());
        set("store", "node", node.to_owned());
        let config = folder.join("config.toml");
        std::fs::write(&config, table.to_string()).unwrap();
        let log = folder.join("daemon.log");
        let files = DaemonFiles {
            program: PROGRAM.into(),
            config: config.clone(),
            socket,
            log: Some(log.clone()),
            env: Vec::new(),
        };
        Other { daemon: Daemon::new(files), base: format!("http://{listen}"), config, log }
    }

    /// Changes a key in the configuration of the daemon with this number.
    pub fn set(&mut self, number: usize, key: &str, value: toml::Value) {
        let Some(other) = number.checked_sub(1).map(|other| &self.others[other]) else {
            return self.harness.set(key, value);
        };
        let mut table: toml::Table = std::fs::read_to_string(&other.config).unwrap().parse().unwrap();
        let (section, leaf) = key.split_once('.').unwrap();
        table[section].as_table_mut().unwrap().insert(leaf.to_owned(), value);
        std::fs::write(&other.config, table.to_string()).unwrap();
    }

    /// Is everything sealed with the key in force, as the daemon with this number sees it?
    pub async fn is_sealed(&self, number: usize) -> bool {
        let status = self.daemon(number).ask(Method::GET, "/v1/status", "").await;
        status.is_some_and(|status| status["store"]["sealing"]["done"] == true)
    }

    /// The address of the daemon with this number.
    pub fn base(&self, number: usize) -> &str {
        number.checked_sub(1).map_or(&self.harness.base, |other| &self.others[other].base)
    }

    /// Is the daemon with this number ready?
    pub async fn is_ready(&self, number: usize) -> bool {
        let request = self.harness.http.get(format!("{}/readyz", self.base(number)));
        self.harness.send(request).await.status == 200
    }

    /// Delivers a webhook to the daemon with this number.
    async fn try_deliver(&self, number: usize, pages: &[String]) -> Option<Answer> {
        let base = self.base(number);
        let body = delivery(pages);
        let signature = self.harness.world().sign(body.as_bytes());
        let request = self.harness.http.post(format!("{base}/facebook/webhook"));
        let request = request.header("x-hub-signature-256", &signature).body(body);
        self.harness.try_send(request).await.ok()
    }

    /// Is a delivery refused in the way after which it is sent again?
    pub async fn refuses(&self, number: usize, pages: &[String]) -> bool {
        let answer = self.try_deliver(number, pages).await;
        answer.is_some_and(|answer| answer.status == 503 && !answer.header("retry-after").is_empty())
    }

    /// The same until it is acknowledged, as Meta does.
    pub async fn deliver(&self, number: usize, pages: &[String]) {
        let is_taken = |answer: Answer| answer.status == 200;
        until("the delivery is acknowledged", async || self.try_deliver(number, pages).await.is_some_and(is_taken))
            .await;
    }

    /// Changes every page, and announces each change to one of these daemons in turn.
    pub async fn change_all(&self, about: &str, daemons: &[usize]) {
        for (number, page) in self.harness.pages().into_iter().enumerate() {
            self.harness.world().change(|s| s.pages.get_mut(&page).unwrap().node.insert("about".into(), about.into()));
            self.deliver(daemons[number % daemons.len()], &[page]).await;
        }
    }

    /// Waits until every object is what its page is. The world saw no two writes of one object at a time, and no older state
    /// over a newer one.
    pub async fn until_true(&self, user: UserId) {
        self.harness.until_true(user, &self.harness.pages()).await;
        assert_eq!(self.harness.world().violations(), Vec::<String>::new());
    }

    /// What the daemon of the harness says of all.
    async fn view(&self) -> serde_json::Value {
        self.harness.status().await["cluster"].clone()
    }

    pub async fn finish(self) {
        for other in self.others.iter().filter(|other| other.daemon.pid().is_some()) {
            assert_eq!(other.daemon.stop().await, Some(0));
        }
        self.harness.finish().await;
        drop(self.postgres);
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(60)..].join("\n");
            eprintln!("the last words of the daemon at {}:\n{last}", self.base);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_daemon_takes_any_delivery_and_one_reads_each_link() {
    let Some(cluster) = Cluster::start(3, 12).await else { return };
    let user = cluster.harness.linked().await;
    cluster.until_true(user).await;
    cluster.change_all("after the first round", &[0, 1, 2]).await;
    cluster.until_true(user).await;
    cluster.change_all("after the second round", &[2, 0, 1]).await;
    cluster.until_true(user).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_take_over_from_a_daemon_that_is_killed() {
    let Some(cluster) = Cluster::start(3, 12).await else { return };
    let user = cluster.harness.linked().await;
    cluster.until_true(user).await;
    cluster.others[1].daemon.kill_now().await;
    cluster.change_all("while one is dead", &[0, 1]).await;
    cluster.until_true(user).await;
    cluster.others[1].daemon.start().await.unwrap();
    cluster.change_all("when it is back", &[0, 1, 2]).await;
    cluster.until_true(user).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_wakes_from_a_pause_undoes_nothing() {
    let Some(cluster) = Cluster::start(2, 8).await else { return };
    let user = cluster.harness.linked().await;
    cluster.until_true(user).await;
    cluster.change_all("before the pause", &[1]).await;
    cluster.others[0].daemon.signal(SIGSTOP).unwrap();
    cluster.change_all("during the pause", &[0]).await;
    cluster.until_true(user).await;
    cluster.others[0].daemon.signal(SIGCONT).unwrap();
    cluster.change_all("after the pause", &[1, 0]).await;
    cluster.until_true(user).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_is_said_and_all_comes_back_by_itself() {
    let Some(mut cluster) = Cluster::start(2, 4).await else { return };
    let user = cluster.harness.linked().await;
    cluster.until_true(user).await;
    cluster.harness.expect_errors("store: cannot commit to the database");
    cluster.postgres.stop();
    let pages = cluster.harness.pages();
    until("a delivery is refused", async || cluster.refuses(0, &pages).await).await;
    let ready = cluster.harness.get("/readyz").await;
    assert!(ready.status == 503 && ready.text().contains("store"), "{}", ready.text());
    assert_eq!(cluster.harness.get("/healthz").await.status, 200);
    cluster.postgres.start_again().unwrap();
    cluster.change_all("when the database is back", &[0, 1]).await;
    cluster.until_true(user).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_the_app_that_one_daemon_meets_stops_all() {
    let Some(cluster) = Cluster::start(2, 8).await else { return };
    let user = cluster.harness.linked().await;
    cluster.until_true(user).await;
    let gate = async |number: usize| {
        let status = cluster.daemon(number).ask(Method::GET, "/v1/status", "").await;
        status.map(|status| status["graph"]["gate"].clone()).unwrap_or_default()
    };
    let is_half = |gate: serde_json::Value| gate["max_in_flight"] == 16;
    until("each has half of the calls that all may have under way", async || {
        is_half(gate(0).await) && is_half(gate(1).await)
    })
    .await;
    cluster.harness.world().set_fault(Fault::ThrottleApp, true);
    // One page, which one daemon reads.
    cluster.deliver(0, &cluster.harness.pages()[..1]).await;
    until("both have stopped", async || {
        gate(0).await["app_blocked_secs"].is_number() && gate(1).await["app_blocked_secs"].is_number()
    })
    .await;
    cluster.harness.world().set_fault(Fault::ThrottleApp, false);
    cluster.finish().await;
}

/// A user installs the app on a shop at the daemon with this number. The answer is that of the last step.
async fn install_at(cluster: &Cluster, number: usize, user: UserId, shop: &ShopName) -> Answer {
    let harness = &cluster.harness;
    let mut browser = harness.browser(user).await;
    let page = shops::to_shop(harness, &mut browser, shop).await;
    let back = shops::decide(harness, &page, "install").await;
    let back = back.replace(&harness.base, cluster.base(number));
    let answer = harness.browse(&mut browser, &back, "*/*").await;
    shops::keep_tokens(harness);
    answer
}

/// Two users install the app on one shop, each at a daemon of its own, and the exchange of the first one's code is held up:
/// the second installation is stored before the first one. The pair that Shopify gave out last is the one that is kept.
async fn two_install_at_the_same_time(held_up: HeldUp, number: usize) {
    let Some(cluster) = Cluster::start(2, 1).await else { return };
    let (shop, users) = (shops::shop(number), [UserId::random(), UserId::random()]);
    let shopify = shops::shopify(&cluster.harness).clone();
    let grants = |shopify: &Shopify| shopify.look(|state| state.shops[&shop].app.pair.clone().map(|pair| pair.access));
    let hold = shopify.hold_exchange(held_up);
    let second = async {
        if held_up == HeldUp::Behind {
            until("the first pair is given out", async || grants(&shopify).is_some()).await;
        } else {
            until("the first exchange is held up", async || shopify.exchanges_to_hold() == 0).await;
        }
        let answer = install_at(&cluster, 1, users[1], &shop).await;
        drop(hold);
        answer
    };
    let (first, second) = tokio::join!(install_at(&cluster, 0, users[0], &shop), second);
    assert_eq!((first.status, second.status), (200, 200), "{} {}", first.text(), second.text());
    // Each of the two reads with the pair that stands.
    shopify.edit_shop(&shop, "name", "Renamed");
    for user in users {
        let sync = format!("/v1/links/shopify/{shop}/sync?user={user}");
        until("the sync is taken", async || cluster.daemon(0).ask(Method::POST, &sync, "").await.is_some()).await;
        shops::until_named(&cluster.harness, user, &shop, "Renamed").await;
    }
    assert_eq!(shops::health(&cluster.harness, &shop).await, "active");
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_installations_at_a_time_the_pair_that_was_given_out_last_is_kept_when_it_is_stored_first() {
    two_install_at_the_same_time(HeldUp::Behind, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_installations_at_a_time_the_pair_that_was_given_out_last_is_kept_when_it_is_stored_last() {
    two_install_at_the_same_time(HeldUp::Before, 1).await;
}

/// What befalls the daemons in one round.
#[derive(Debug, Clone, Copy)]
enum Incident {
    Kill(usize),
    Pause(usize),
    Stop(usize),
    CutOff(usize),
    RestartDatabase,
    PauseDatabase,
}

impl Incident {
    fn any(dice: &mut StdRng) -> Incident {
        let daemon = dice.random_range(0..3);
        match dice.random_range(0..6) {
            0 => Incident::Kill(daemon),
            1 => Incident::Pause(daemon),
            2 => Incident::Stop(daemon),
            3 => Incident::CutOff(daemon),
            4 => Incident::RestartDatabase,
            _ => Incident::PauseDatabase,
        }
    }

    /// The daemons that it leaves alone.
    fn spared(self) -> Vec<usize> {
        match self {
            Incident::Kill(hit) | Incident::Pause(hit) | Incident::Stop(hit) | Incident::CutOff(hit) => {
                (0..3).filter(|daemon| *daemon != hit).collect()
            }
            Incident::RestartDatabase | Incident::PauseDatabase => vec![0, 1, 2],
        }
    }
}

impl Cluster {
    pub fn daemon(&self, number: usize) -> &Daemon {
        number.checked_sub(1).map_or(&self.harness.daemon, |other| &self.others[other].daemon)
    }

    async fn strike(&mut self, incident: Incident) {
        match incident {
            Incident::Kill(hit) => self.daemon(hit).kill_now().await,
            Incident::Pause(hit) => self.daemon(hit).signal(SIGSTOP).unwrap(),
            Incident::Stop(hit) => assert_eq!(self.daemon(hit).stop().await, Some(0)),
            Incident::CutOff(hit) => self.ways[hit].lead_to(None),
            Incident::RestartDatabase => self.postgres.stop(),
            Incident::PauseDatabase => self.postgres.pause(),
        }
    }

    async fn heal(&mut self, incident: Incident) {
        match incident {
            Incident::Kill(hit) | Incident::Stop(hit) => self.daemon(hit).start().await.unwrap(),
            Incident::Pause(hit) => self.daemon(hit).signal(SIGCONT).unwrap(),
            Incident::CutOff(hit) => self.ways[hit].lead_to(Some(self.postgres.port())),
            Incident::RestartDatabase => self.postgres.start_again().unwrap(),
            Incident::PauseDatabase => self.postgres.go_on(),
        }
    }
}

/// `PAGESYNCD_CLUSTER_ROUNDS` and `PAGESYNCD_CLUSTER_SEED` make it longer, and the same again.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_befalls_three_daemons_nothing_acknowledged_is_lost_and_each_object_has_one_writer() {
    let Some(mut cluster) = Cluster::start_apart(3, 9).await else { return };
    let wish = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let rounds = wish("PAGESYNCD_CLUSTER_ROUNDS").unwrap_or(3);
    let seed = wish("PAGESYNCD_CLUSTER_SEED").unwrap_or_else(|| rand::rng().random_range(0..1 << 32));
    let mut dice = StdRng::seed_from_u64(seed);
    cluster.harness.expect_errors("store: cannot commit to the database");
    let user = cluster.harness.linked().await;
    cluster.until_true(user).await;
    for round in 1..=rounds {
        let incident = Incident::any(&mut dice);
        eprintln!("cluster: seed {seed}, round {round} of {rounds}, {incident:?}");
        cluster.strike(incident).await;
        let is_of_database = matches!(incident, Incident::RestartDatabase | Incident::PauseDatabase);
        if is_of_database || dice.random_bool(0.5) {
            // The daemons meet it at work, and Meta repeats what is not acknowledged.
            let pages = cluster.harness.pages();
            let _ = cluster.try_deliver(incident.spared()[0], &pages).await;
            cluster.heal(incident).await;
            cluster.change_all(&format!("round {round}"), &incident.spared()).await;
        } else {
            cluster.change_all(&format!("round {round}"), &incident.spared()).await;
            cluster.heal(incident).await;
        }
        cluster.until_true(user).await;
    }
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_daemon_shows_all_of_them() {
    let Some(cluster) = Cluster::start(2, 1).await else { return };
    let leases = |daemon: &serde_json::Value| daemon["leases"].as_u64().unwrap();
    let is_even = async || {
        let view = cluster.view().await;
        let daemons = view["daemons"].as_array().unwrap();
        daemons.len() == 2 && daemons.iter().all(|daemon| leases(daemon) == 512)
    };
    until("each has half of the leases", is_even).await;
    let view = cluster.view().await;
    assert_eq!((&view["answers"], &view["leases"]), (&true.into(), &1024.into()), "{view}");
    assert!(view["database"].as_str().unwrap().ends_with(&format!(":{}/pagesyncd", cluster.postgres.port())), "{view}");
    for (daemon, node) in view["daemons"].as_array().unwrap().iter().zip(["first", "number-1"]) {
        assert_eq!((&daemon["node"], &daemon["this"]), (&node.into(), &(node == "first").into()), "{view}");
        assert_eq!((&daemon["version"], &daemon["overdue"]), (&env!("CARGO_PKG_VERSION").into(), &false.into()));
        assert!(daemon["last_seen_seconds"].as_u64().unwrap() < 5, "{view}");
    }
    let output = cluster.harness.run(&["status"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let is_said = |words: &str| text.lines().any(|line| line.contains(words));
    assert!(is_said("/pagesyncd, answers") && is_said("512 of 1024 leases") && is_said(", this one"), "{text}");
    let metrics = cluster.harness.metrics().await;
    for line in ["pagesyncd_leases 512", "pagesyncd_daemons 2"] {
        assert!(metrics.lines().any(|l| l == line), "{line} is missing in:\n{metrics}");
    }
    cluster.others[0].daemon.kill_now().await;
    until("it is dead", async || {
        let view = cluster.view().await;
        let daemons = view["daemons"].as_array().unwrap();
        daemons.len() == 1 && leases(&daemons[0]) == 1024
    })
    .await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_hangs_counts_as_away() {
    let Some(mut cluster) = Cluster::start(2, 4).await else { return };
    let user = cluster.harness.linked().await;
    cluster.until_true(user).await;
    cluster.harness.expect_errors("store: cannot commit to the database");
    cluster.postgres.pause();
    let (paused, pages) = (Instant::now(), cluster.harness.pages());
    for page in &pages {
        cluster.harness.world().change(|s| s.pages.get_mut(page).unwrap().node.insert("about".into(), "unseen".into()));
    }
    // No connection breaks; each daemon finds out by itself.
    for number in [0, 1] {
        until("a delivery is refused", async || cluster.refuses(number, &pages).await).await;
    }
    until("neither is ready", async || !cluster.is_ready(0).await && !cluster.is_ready(1).await).await;
    let ready = cluster.harness.get("/readyz").await;
    let ready: serde_json::Value = serde_json::from_slice(&ready.body).unwrap();
    assert!(ready["ready"] == false && ready["store"]["ok"] == false, "{ready}");
    assert!(paused.elapsed() < Duration::from_secs(20), "{:?}", paused.elapsed());
    assert_eq!(cluster.harness.get("/healthz").await.status, 200);
    assert_eq!(cluster.view().await["answers"], false);
    // A write that was begun before has ended by now; none begins.
    let before = cluster.harness.world().calls(Call::Put);
    assert!(cluster.refuses(0, &pages).await && cluster.refuses(1, &pages).await);
    assert_eq!(cluster.harness.world().calls(Call::Put), before);
    cluster.postgres.go_on();
    let back = Instant::now();
    until("both are ready", async || cluster.is_ready(0).await && cluster.is_ready(1).await).await;
    assert!(back.elapsed() < Duration::from_secs(30), "{:?}", back.elapsed());
    cluster.change_all("when the database answers", &[0, 1]).await;
    cluster.until_true(user).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_work_without_a_daemon_on_the_machine() {
    let Some(cluster) = Cluster::start(1, 2).await else { return };
    let user = cluster.harness.linked().await;
    cluster.until_true(user).await;
    // Another machine, on which no daemon runs.
    let visitor = cluster.other(1);
    let file = cluster.harness.scratch_dir().join("links.jsonl");
    let file = file.to_str().unwrap();
    for verb in [["export", file], ["import", file]] {
        let output = cluster.harness.run_with(&verb, Some(&visitor.config)).await;
        assert!(output.status.success(), "{verb:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let exported = std::fs::read_to_string(file).unwrap();
    assert!(cluster.harness.pages().iter().all(|page| exported.contains(page)), "{exported}");
    // Without any daemon at all it works as well.
    assert_eq!(cluster.harness.daemon.stop().await, Some(0));
    let output = cluster.harness.run_with(&["import", file], Some(&visitor.config)).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    cluster.harness.daemon.start().await.unwrap();
    cluster.change_all("after the visits", &[0]).await;
    cluster.until_true(user).await;
    // A purge is carried out by the daemons.
    let list = cluster.harness.scratch_dir().join("persons.txt");
    std::fs::write(&list, ADA).unwrap();
    let output = cluster.harness.run_with(&["purge", list.to_str().unwrap()], Some(&visitor.config)).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    until("the objects are gone", async || cluster.harness.server.objects.list().is_empty()).await;
    until("so are the links", async || cluster.harness.pages_linked().await.is_empty()).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_behind_a_pooler_of_transactions_find_out_by_asking() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("postgres");
    let postgres = tokio::task::spawn_blocking(move || Postgres::fast(&folder)).await.unwrap();
    let Some(postgres) = Postgres::for_test(postgres) else { return };
    let Some(pooler) = Postgres::for_test(Pooler::start(&dir.path().join("pooler"), &postgres, 8)) else { return };
    let harness = Harness::plan().pages(4).build().await;
    let cluster = Cluster::over(harness, 2, pooler.url(), postgres).await;
    let user = cluster.harness.linked().await;
    cluster.until_true(user).await;
    cluster.change_all("through the pooler", &[0, 1]).await;
    cluster.until_true(user).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_after_a_login_is_shown_by_every_daemon() {
    let Some(cluster) = Cluster::start(2, 3).await else { return };
    let mut browser = cluster.harness.browser(UserId::random()).await;
    let dialog = cluster.harness.to_dialog(&mut browser).await;
    let back = cluster.harness.decide(&dialog, ADA, "all", "continue").await;
    let text = cluster.harness.browse(&mut browser, &back, "text/html").await.text();
    let (_, path) = text.split_once("/facebook/login/result/").unwrap();
    let id: String = path.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
    let elsewhere = format!("{}/facebook/login/result/{id}", cluster.base(1));
    until("the other daemon shows what is linked", async || {
        let answer = cluster.harness.browse(&mut browser.clone(), &elsewhere, "text/html").await;
        answer.status == 200 && answer.text().contains("3 Pages are linked") && !answer.text().contains("so far")
    })
    .await;
    let stranger = cluster.harness.browse(&mut Browser::default(), &elsewhere, "text/html").await;
    assert!(stranger.status == 404 && !stranger.text().contains("linked for"), "{}", stranger.text());
    let mut newcomer = cluster.harness.browser(UserId::random()).await;
    let empty = cluster.harness.browse(&mut newcomer, &elsewhere, "text/html").await;
    assert!(empty.status == 404 && empty.text().contains("No Page is linked yet"), "{}", empty.text());
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_cut_off_from_the_database_alone_begins_no_write_and_is_back_by_itself() {
    let Some(mut cluster) = Cluster::start_apart(2, 6).await else { return };
    let user = cluster.harness.linked().await;
    cluster.until_true(user).await;
    cluster.harness.expect_errors("store: cannot commit to the database");
    cluster.ways[0].lead_to(None);
    let pages = cluster.harness.pages();
    until("it refuses deliveries", async || cluster.refuses(0, &pages).await).await;
    until("it is not ready", async || !cluster.is_ready(0).await).await;
    assert_eq!(cluster.harness.get("/healthz").await.status, 200);
    // The other one has all of the links, and writes them. Spaces is within reach of both.
    cluster.change_all("while one is cut off", &[1]).await;
    cluster.until_true(user).await;
    cluster.ways[0].lead_to(Some(cluster.postgres.port()));
    until("it is ready", async || cluster.is_ready(0).await).await;
    cluster.change_all("when it is back", &[0, 1]).await;
    cluster.until_true(user).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_cut_off_from_spaces_alone_owes_its_writes_until_it_is_back() {
    let Some(mut cluster) = Cluster::start(2, 8).await else { return };
    let user = cluster.harness.linked().await;
    cluster.until_true(user).await;
    let endpoint = cluster.harness.setting("spaces.endpoint").as_str().unwrap().to_owned();
    let port: u16 = endpoint.rsplit_once(':').unwrap().1.parse().unwrap();
    let way = Forwarder::start(port).await.unwrap();
    assert_eq!(cluster.daemon(1).stop().await, Some(0));
    cluster.set(1, "spaces.endpoint", format!("http://127.0.0.1:{}", way.port()).into());
    cluster.daemon(1).start().await.unwrap();
    let leases = async || cluster.view().await["daemons"][1]["leases"].clone();
    until("it has its share", async || leases().await == 512).await;
    way.lead_to(None);
    cluster.change_all("while one cannot write", &[0, 1]).await;
    until("it is not ready", async || !cluster.is_ready(1).await).await;
    // The other one writes what it has, and the deliveries to either are acknowledged.
    let pages = cluster.harness.pages();
    let is_true = |page: &String| cluster.harness.is_true(user, page);
    until("some are true", async || pages.iter().any(is_true)).await;
    assert!(!pages.iter().all(is_true));
    way.lead_to(Some(port));
    cluster.until_true(user).await;
    until("it is ready", async || cluster.is_ready(1).await).await;
    cluster.finish().await;
}
