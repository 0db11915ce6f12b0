//! One of three daemons dies, another one hangs, and the database fails over, all at the same moment and under load.
//! Deliveries go to the daemons in turn, whether they live or not, as a plain load balancer sends them.
//!
//! `PAGESYNCD_CLUSTER_PAGES`, `PAGESYNCD_CLUSTER_USERS`, each of whom links all of them, and `PAGESYNCD_CLUSTER_RATE`
//! (deliveries a second) make it larger than it is by default.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pagesyncd::core::model::UserId;
use pagesyncd::sandbox::World;
use signal_hook::consts::signal::{SIGCONT, SIGSTOP};
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::failover::Pair;
use crate::harness::{ADA, delivery};

/// For each of the conditions. They hold within a minute and a half on a machine with nothing else to do.
const LIMIT: Duration = Duration::from_secs(300);
const GLANCE: Duration = Duration::from_millis(100);
/// Meta sends a delivery again that nobody acknowledged.
const AGAIN: Duration = Duration::from_secs(1);
/// A daemon that hangs does not answer at all.
const PATIENCE: Duration = Duration::from_secs(5);

fn wish(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

async fn patiently(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < LIMIT, "this did not come to hold: {what}");
        tokio::time::sleep(GLANCE).await;
    }
    began.elapsed()
}

/// Waits until every page is in Spaces as it is, for each user.
async fn until_true(pair: &Pair, users: &[UserId]) -> Duration {
    let harness = &pair.cluster.harness;
    let all: BTreeSet<(UserId, String)> =
        users.iter().flat_map(|user| harness.pages().into_iter().map(|page| (*user, page))).collect();
    let mut left: Vec<&(UserId, String)> = all.iter().collect();
    // Each look ends at the first that is not true: looks at all of them would take the time that the daemons need.
    let took = patiently("every object is what its page is", async || {
        while left.pop_if(|(user, page)| harness.is_true(*user, page)).is_some() {}
        left.is_empty()
    })
    .await;
    assert!(all.iter().all(|(user, page)| harness.is_true(*user, page)));
    assert_eq!(harness.world().violations(), Vec::<String>::new());
    took
}

/// Deliveries at a steady rate.
struct Load {
    stop: CancellationToken,
    deliveries: TaskTracker,
    sent: Arc<AtomicU64>,
    acknowledged: Arc<AtomicUsize>,
}

/// What each delivery needs.
struct Sender {
    world: World,
    http: reqwest::Client,
    daemons: Vec<String>,
    pages: Vec<String>,
    /// The newest state of each page is announced by the delivery that made it.
    changing: Mutex<()>,
}

impl Load {
    fn on(pair: &Pair, rate: u64) -> Load {
        let harness = &pair.cluster.harness;
        let sender = Arc::new(Sender {
            world: harness.world().clone(),
            http: reqwest::Client::builder().timeout(PATIENCE).build().unwrap(),
            daemons: (0..3).map(|number| format!("{}/facebook/webhook", pair.cluster.base(number))).collect(),
            pages: harness.pages(),
            changing: Mutex::new(()),
        });
        let (stop, deliveries) = (CancellationToken::new(), TaskTracker::new());
        let (sent, acknowledged) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
        let (ended, tasks, number, count) = (stop.clone(), deliveries.clone(), sent.clone(), acknowledged.clone());
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate).unwrap());
            while !ended.is_cancelled() {
                ticks.tick().await;
                let (sender, count) = (sender.clone(), count.clone());
                let number = number.fetch_add(1, Ordering::Relaxed);
                tasks.spawn(async move {
                    sender.deliver(number).await;
                    count.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Load { stop, deliveries, sent, acknowledged }
    }

    /// Sends no further ones, and waits until each that was sent is acknowledged.
    async fn end(self) -> (u64, Duration) {
        self.stop.cancel();
        self.deliveries.close();
        let sent = || self.sent.load(Ordering::Relaxed);
        let took = patiently("every delivery is acknowledged", async || {
            self.deliveries.is_empty() && self.acknowledged.load(Ordering::Relaxed) as u64 == sent()
        });
        (sent(), took.await)
    }
}

impl Sender {
    async fn deliver(&self, number: u64) {
        let page = &self.pages[number as usize % self.pages.len()];
        {
            let _one = self.changing.lock().unwrap();
            let about = format!("change {number}");
            self.world.change(|s| s.pages.get_mut(page).unwrap().node.insert("about".into(), about.into()));
        }
        let body = delivery(&[page]);
        let signature = self.world.sign(body.as_bytes());
        for turn in (number as usize).. {
            let daemon = &self.daemons[turn % self.daemons.len()];
            let request = self.http.post(daemon).header("x-hub-signature-256", &signature).body(body.clone());
            if request.send().await.is_ok_and(|answer| answer.status() == 200) {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_dies_another_hangs_and_the_database_fails_over_and_nothing_is_lost_or_doubled() {
    let (pages, rate) = (wish("PAGESYNCD_CLUSTER_PAGES", 120), wish("PAGESYNCD_CLUSTER_RATE", 50));
    let Some(mut pair) = Pair::start(3, pages as usize).await else { return };
    block_in_place(|| pair.primary.wait_for_standby()).unwrap();
    let users: Vec<UserId> = (0..wish("PAGESYNCD_CLUSTER_USERS", 1)).map(|_| UserId::random()).collect();
    for user in &users {
        let answer = pair.cluster.harness.log_in(*user, ADA, "all").await;
        assert!(matches!(answer.status, 200 | 202), "{}", answer.text());
    }
    until_true(&pair, &users).await;
    let load = Load::on(&pair, rate);
    let count = load.acknowledged.clone();
    patiently("all pages were announced", async || count.load(Ordering::Relaxed) as u64 > pages + rate).await;

    pair.cluster.daemon(1).kill_now().await;
    pair.cluster.daemon(2).signal(SIGSTOP).unwrap();
    block_in_place(|| {
        pair.primary.stop();
        pair.cluster.postgres.promote().unwrap();
    });
    pair.address.lead_to(Some(pair.cluster.postgres.port()));
    let (struck, before) = (Instant::now(), count.load(Ordering::Relaxed));
    let again =
        patiently("deliveries are acknowledged again", async || count.load(Ordering::Relaxed) > before + rate as usize)
            .await;
    let (sent, waited) = load.end().await;
    let all_true = until_true(&pair, &users).await;
    eprintln!(
        "all at once: {pages} pages of {} users, {rate} deliveries a second, {sent} in all; acknowledged again after {again:?}, \
         the last one {waited:?} after it was sent, all true {all_true:?} after that and {:?} after the failures",
        users.len(),
        struck.elapsed()
    );

    pair.cluster.daemon(2).signal(SIGCONT).unwrap();
    pair.cluster.daemon(1).start().await.unwrap();
    let load = Load::on(&pair, rate);
    let count = load.acknowledged.clone();
    patiently("all pages were announced", async || count.load(Ordering::Relaxed) as u64 > pages).await;
    load.end().await;
    until_true(&pair, &users).await;
    pair.finish().await;
}
