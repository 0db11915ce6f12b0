//! Takeover: one of three daemons is killed, again and again; the others take its leases and read its links.

use std::time::{Duration, Instant};

use pagesyncd::core::lease::BUCKETS;
use pagesyncd::sandbox::postgres::Options;
use tokio::time::sleep;

use crate::daemons::{Cluster, Plan, node};
use crate::figures::{median_and_worst, table};
use crate::subject::Lines;
use crate::{Choices, Fallible};

const DAEMONS: usize = 3;
const LINKS: usize = 300;
const ROUNDS: usize = 50;
const DEBOUNCE: &str = "100ms";
const POLL: Duration = Duration::from_secs(24 * 3600);
const TAKES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(5));
const GLANCE: Duration = Duration::from_millis(10);
/// It should take a tenth of this.
const PATIENCE: Duration = Duration::from_secs(120);

/// Times from the death.
struct Takeover {
    /// Until the others hold all leases.
    held: Duration,
    /// Until the first link of the dead daemon with a new delivery has been read, and the last one.
    first: Duration,
    last: Duration,
}

/// The pages that the daemon with this number read last.
fn read_by(cluster: &Cluster, number: usize) -> Vec<String> {
    let daemon = &cluster.daemons[number];
    let is_its = |page: &&String| cluster.outside.reader(page) == Some(daemon.outside.graph);
    daemon.pages.iter().filter(is_its).cloned().collect()
}

/// Delivers a change of every page and waits for the reads, after which it is known which daemon reads which page.
async fn read_all(cluster: &Cluster) -> Fallible<()> {
    cluster.outside.take();
    cluster.daemons[0].deliver(&cluster.daemons[0].pages).await?;
    let links = cluster.daemons[0].pages.len();
    cluster.until("each link is read", || cluster.outside.counts().0 >= links).await?;
    cluster.until_idle().await
}

/// Kills a daemon, and waits until another one has seen all of its work go over.
async fn take_over(cluster: &mut Cluster, victim: usize) -> Fallible<Takeover> {
    let (pages, asked) = (read_by(cluster, victim), (victim + 1) % DAEMONS);
    if pages.is_empty() {
        return Err("a daemon read no page".into());
    }
    cluster.outside.take();
    cluster.daemons[victim].kill();
    let died = Instant::now();
    cluster.daemons[asked].deliver(&pages).await?;
    let (dead, mut held, mut read) = (node(victim), None, Vec::new());
    while died.elapsed() < PATIENCE && (held.is_none() || read.len() < pages.len()) {
        let leases = cluster.leases(asked);
        let living: u64 = leases.iter().filter(|(node, _)| *node != dead).map(|(_, held)| held).sum();
        if held.is_none() && living == u64::from(BUCKETS) {
            held = Some(died.elapsed());
        }
        read.extend(cluster.outside.take().reads.into_iter().filter(|(page, _)| pages.contains(page)));
        sleep(GLANCE).await;
    }
    let since = |at: Option<&Instant>| at.map(|at| at.saturating_duration_since(died)).ok_or("nothing was read");
    let times: Vec<Instant> = read.iter().map(|(_, at)| *at).collect();
    let (first, last) = (since(times.iter().min())?, since(times.iter().max())?);
    Ok(Takeover { held: held.ok_or("the leases were not taken")?, first, last })
}

/// Runs the case and prints its table.
pub async fn run(choices: &Choices) -> Fallible<()> {
    let (links, rounds) = (choices.links(LINKS), choices.rounds(ROUNDS));
    let plan = Plan { daemons: DAEMONS, links, takes: TAKES, lines: Lines::default(), postgres: Options::default() };
    let mut cluster = Cluster::new(choices, plan).await?;
    cluster.make_links(DEBOUNCE).await?;
    let mut takeovers = Vec::new();
    for round in 0..rounds {
        read_all(&cluster).await?;
        let Takeover { held, first, last } = take_over(&mut cluster, round % DAEMONS).await?;
        eprintln!("takeover {} of {rounds}: leases {held:.2?}, reads {first:.2?} to {last:.2?}", round + 1);
        takeovers.push(Takeover { held, first, last });
        cluster.start(DEBOUNCE, POLL).await?;
    }
    let row = |name: &str, of: fn(&Takeover) -> Duration, target: &str| {
        let (median, worst) = median_and_worst(&takeovers.iter().map(of).collect::<Vec<_>>());
        let seconds = |time: Duration| format!("{:.2}", time.as_secs_f64());
        vec![name.to_owned(), seconds(median), seconds(worst), target.to_owned()]
    };
    println!("\ntakeover: {rounds} times one of {DAEMONS} daemons is killed, {links} links\n");
    let rows = [
        row("the others hold all leases", |takeover| takeover.held, "≤ 15 s"),
        row("the first link with a delivery is read", |takeover| takeover.first, "≤ 15 s"),
        row("the last one is read", |takeover| takeover.last, "≤ 15 s"),
    ];
    println!("{}", table(&["from the death until", "median, s", "worst, s", "target"], &rows));
    Ok(())
}
