//! The database fails over to its standby, as a managed one does: the primary dies, the standby is promoted, and the
//! address leads to it from then on.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::Method;
use pagesyncd::core::model::UserId;
use pagesyncd::sandbox::fault::Fault;
use pagesyncd::sandbox::forwarder::Forwarder;
use pagesyncd::sandbox::postgres::Postgres;
use serde_json::Value;
use tokio::task::block_in_place;

use crate::cluster::Cluster;
use crate::harness::{Harness, until};

/// Daemons over a primary with a standby, which the cluster has as its server.
pub struct Pair {
    pub cluster: Cluster,
    pub primary: Postgres,
    pub address: Forwarder,
}

impl Pair {
    /// `None` without PostgreSQL.
    pub async fn start(daemons: usize, pages: usize) -> Option<Pair> {
        let mut harness = Harness::plan().pages(pages).build().await;
        harness.expect_errors("store: cannot commit to the database");
        let folder = harness.scratch_dir();
        let primary = Postgres::for_test(block_in_place(|| Postgres::fast(&folder.join("primary"))))?;
        let standby = block_in_place(|| primary.standby(&folder.join("standby"))).unwrap();
        let address = Forwarder::start(primary.port()).await.unwrap();
        let url = primary.url_at(address.port(), "pagesyncd");
        let cluster = Cluster::over(harness, daemons, &url, standby).await;
        Some(Pair { cluster, primary, address })
    }

    /// What each daemon shows of a change of the database, once it shows one.
    async fn until_all_say_that_it_changed(&self) {
        for number in 0..=self.cluster.others.len() {
            let changed = async || {
                let status = self.cluster.daemon(number).ask(Method::GET, "/v1/status", "").await;
                status.map(|status| status["cluster"]["database_changed"].clone()).unwrap_or_default()
            };
            until("the daemon shows that the database changed", async || changed().await.is_object()).await;
            let Value::Object(change) = changed().await else { unreachable!("it is shown for days") };
            let reason = change["reason"].as_str().unwrap();
            assert!(reason.contains("timeline 00000001") && reason.contains("timeline 00000002"), "{reason}");
            assert!(change["at"].as_str().unwrap().ends_with('Z'), "{change:?}");
            until("the daemon is ready", async || self.cluster.is_ready(number).await).await;
        }
    }

    /// Changes a page, announces it to a daemon, and waits until the delivery is acknowledged.
    async fn change(&self, daemon: usize, page: &str, about: &str) {
        self.say(page, about);
        self.cluster.deliver(daemon, &[page.to_owned()]).await;
    }

    /// Changes a page, and nobody hears of it.
    fn say(&self, page: &str, about: &str) {
        let world = self.cluster.harness.world();
        world.change(|s| s.pages.get_mut(page).unwrap().node.insert("about".into(), about.into()));
    }

    /// Removes a link, and waits until its object is gone.
    async fn unlink(&self, user: UserId, page: &str) {
        let harness = &self.cluster.harness;
        let output = harness.run(&["unlink", page]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        until("the object is gone", async || harness.object(user, page).is_none()).await;
    }

    pub async fn finish(self) {
        let log = self.cluster.harness.log();
        assert!(log.contains("the database has become another one"), "{log}");
        self.cluster.finish().await;
        drop(self.primary);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_to_a_synchronous_standby_loses_nothing_that_was_acknowledged() {
    let Some(mut pair) = Pair::start(3, 9).await else { return };
    block_in_place(|| pair.primary.wait_for_standby()).unwrap();
    let user = pair.cluster.harness.linked().await;
    pair.cluster.until_true(user).await;
    let mut pages = pair.cluster.harness.pages();
    let gone = pages.remove(8);
    pair.unlink(user, &gone).await;
    let (is_over, acknowledged) = (AtomicBool::new(false), AtomicUsize::new(0));
    let Pair { cluster, primary, address } = &mut pair;
    let work = async {
        let mut number = 0;
        // Once more when it is over.
        while !is_over.load(Ordering::Relaxed) || number % pages.len() != 0 {
            let page = &pages[number % pages.len()];
            let about = format!("change {number}");
            cluster
                .harness
                .world()
                .change(|s| s.pages.get_mut(page).unwrap().node.insert("about".into(), about.into()));
            cluster.deliver(number % 3, std::slice::from_ref(page)).await;
            acknowledged.fetch_add(1, Ordering::Relaxed);
            number += 1;
        }
    };
    let failover = async {
        until("daemons are at work", async || acknowledged.load(Ordering::Relaxed) > 20).await;
        block_in_place(|| {
            primary.stop();
            cluster.postgres.promote().unwrap();
        });
        address.lead_to(Some(cluster.postgres.port()));
        let before = acknowledged.load(Ordering::Relaxed);
        until("daemons are at work again", async || acknowledged.load(Ordering::Relaxed) > before + 3).await;
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(work, failover);
    pair.until_all_say_that_it_changed().await;
    pair.cluster.harness.until_true(user, &pages).await;
    assert_eq!(pair.cluster.harness.world().violations(), Vec::<String>::new());
    assert_eq!(pair.cluster.harness.object(user, &gone), None);
    assert!(!pair.cluster.harness.pages_linked().await.contains(&gone));
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_that_lost_commits_every_object_becomes_true() {
    let Some(mut pair) = Pair::start(2, 6).await else { return };
    let user = pair.cluster.harness.linked().await;
    pair.cluster.until_true(user).await;
    let pages = pair.cluster.harness.pages();
    pair.change(0, &pages[1], "as the standby knows it").await;
    pair.cluster.until_true(user).await;
    block_in_place(|| pair.primary.until_followed()).unwrap();
    pair.cluster.postgres.stop();

    // All of this is lost. The first is done with.
    pair.change(0, &pages[0], "written, and noted in what is lost").await;
    // The second is again what the standby takes for written, and Spaces has something else.
    pair.change(1, &pages[1], "written, and taken back").await;
    pair.cluster.until_true(user).await;
    pair.say(&pages[1], "as the standby knows it");
    // The third is not linked any more.
    pair.unlink(user, &pages[2]).await;
    // The reads of the others are still to come.
    pair.cluster.harness.world().set_fault(Fault::GraphHeld, true);
    pair.change(0, &pages[3], "acknowledged alone").await;
    pair.change(1, &pages[4], "acknowledged alone").await;

    block_in_place(|| {
        pair.primary.stop();
        pair.cluster.postgres.start_again().unwrap();
        pair.cluster.postgres.promote().unwrap();
    });
    pair.address.lead_to(Some(pair.cluster.postgres.port()));
    pair.until_all_say_that_it_changed().await;
    pair.cluster.harness.world().set_fault(Fault::GraphHeld, false);
    // The link of the third is back: that it was removed is known nowhere.
    pair.cluster.until_true(user).await;
    pair.cluster.change_all("after the failover", &[0, 1]).await;
    pair.cluster.until_true(user).await;
    pair.finish().await;
}
