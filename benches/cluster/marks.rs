//! New marks: deliveries that one daemon acknowledges over PostgreSQL, beside rows that PostgreSQL inserts and commits.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pagesyncd::sandbox::postgres::Options;
use tokio::task::block_in_place;

use crate::daemons::{Cluster, Plan};
use crate::figures::{median, table};
use crate::inserts::Sessions;
use crate::load::{self, Outcome, Target};
use crate::process::{Pinning, cpu_time};
use crate::report::Measure;
use crate::subject::{APP_SECRET, Lines, signature};
use crate::yardstick::{Kind, Yardstick};
use crate::{Choices, Fallible, deliveries, inserts};

/// Deliveries, and connections to the database, at a time.
pub const CONNECTIONS: usize = 32;
const LINKS: usize = 10_000;
const ROUNDS: usize = 3;
/// Links that are marked before a measurement, to warm up.
const WARM: usize = 500;
const HEADS: [&str; 9] = [
    "round",
    "server",
    "deliveries/s",
    "server, CPU µs",
    "PostgreSQL, CPU µs",
    "load, CPU µs",
    "p50 ms",
    "p99 ms",
    "max ms",
];

/// The figures of one server in one round.
struct Figures {
    measure: Measure,
    /// CPU time for each delivery, in microseconds.
    database: f64,
    load: f64,
}

/// Measures what `work` does, and the CPU time that the server, the database and this process use for it.
async fn measured<F>(cluster: &Cluster, server: Option<u32>, work: impl FnOnce() -> F) -> Fallible<Figures>
where
    F: Future<Output = Fallible<Outcome>>,
{
    let taken = || -> Fallible<[Duration; 3]> {
        let of_server = server.map(cpu_time).transpose()?.unwrap_or_default();
        Ok([of_server, cluster.database_cpu()?, cpu_time(std::process::id())?])
    };
    let before = taken()?;
    let outcome = work().await?;
    let after = taken()?;
    let [server, database, load] = [0, 1, 2].map(|which| after[which].saturating_sub(before[which]));
    let each = |time: Duration| time.as_secs_f64() * 1e6 / (outcome.answered + outcome.unexpected) as f64;
    if outcome.unexpected > 0 {
        eprintln!("{} answers are not the expected ones", outcome.unexpected);
    }
    Ok(Figures { measure: Measure::of(&outcome, server, load), database: each(database), load: each(load) })
}

/// The load of one round: the requests before it, and its own.
struct Load<'a> {
    warm: &'a [Vec<u8>],
    requests: &'a [Vec<u8>],
}

impl Load<'_> {
    async fn over_http(&self, cluster: &Cluster, pid: u32, address: std::net::SocketAddr) -> Fallible<Figures> {
        let target = Target { address, connections: CONNECTIONS, expected: 200 };
        block_in_place(|| load::run(target, self.warm, load::Plan::Each))?;
        let work = async || Ok(block_in_place(|| load::run(target, self.requests, load::Plan::Each))?);
        measured(cluster, Some(pid), work).await
    }

    async fn alone(&self, cluster: &Cluster) -> Fallible<Figures> {
        let sessions = Arc::new(Sessions::open(&cluster.postgres.url(), CONNECTIONS).await?);
        inserts::alone(sessions.clone(), Arc::new(self.warm.to_vec())).await?;
        let requests = Arc::new(self.requests.to_vec());
        // Its connections outlive the measurement: what a process has used that is just ending is hard to count.
        let kept = sessions.clone();
        let figures = measured(cluster, None, || inserts::alone(sessions, requests)).await;
        drop(kept);
        figures
    }
}

/// One round: the database alone, the yardstick behind HTTP, and the daemon.
async fn round(cluster: &Cluster, load: &Load<'_>) -> Fallible<[(&'static str, Figures); 3]> {
    let alone = load.alone(cluster).await?;
    let (pinning, url) = (Pinning::Unpinned(String::new()), cluster.postgres.url());
    let yardstick = Yardstick::start(Kind::Insert, &pinning, APP_SECRET, Path::new(&url))?;
    let insert = load.over_http(cluster, yardstick.pid(), yardstick.address).await?;
    drop(yardstick);
    let daemon = &cluster.daemons[0];
    let daemon = load.over_http(cluster, daemon.pid()?, daemon.address).await?;
    Ok([("insert, no HTTP", alone), ("insert", insert), ("pagesyncd", daemon)])
}

fn row(round: usize, (server, figures): &(&str, Figures)) -> Vec<String> {
    let Figures { measure, database, load } = figures;
    let latency = &measure.latency;
    vec![
        round.to_string(),
        (*server).to_owned(),
        format!("{:.0}", measure.per_second),
        format!("{:.0}", measure.cpu),
        format!("{database:.0}"),
        format!("{load:.0}"),
        format!("{:.2}", latency.p50),
        format!("{:.2}", latency.p99),
        format!("{:.2}", latency.max),
    ]
}

/// Runs the case and prints its tables.
pub async fn run(choices: &Choices) -> Fallible<()> {
    let (links, rounds) = (choices.links(LINKS), choices.rounds(ROUNDS));
    let lines = Lines {
        facebook: "max_in_flight = 256".to_owned(),
        spaces: "max_in_flight = 64".to_owned(),
        ..Lines::default()
    };
    let takes = (Duration::from_millis(5), Duration::from_millis(5));
    let (all, postgres) = (rounds * (links + WARM), Options::default());
    let mut cluster = Cluster::new(choices, Plan { daemons: 1, links: all, takes, lines, postgres }).await?;
    cluster.make_links("1h").await?;
    cluster.session().await?.execute(inserts::TABLE).await?;
    let daemon = &cluster.daemons[0];
    let requests = deliveries::signed(signature, daemon.address, &daemon.pages);
    let (mut rows, mut ratios) = (Vec::new(), [const { Vec::new() }; 4]);
    for (number, requests) in requests.chunks(links + WARM).enumerate() {
        eprintln!("marks: round {} of {rounds}", number + 1);
        let (warm, requests) = requests.split_at(WARM);
        let figures = round(&cluster, &Load { warm, requests }).await?;
        rows.extend(figures.iter().map(|figures| row(number + 1, figures)));
        let [alone, insert, daemon] = figures.map(|(_, figures)| figures.measure);
        let of = |yardstick: &Measure| {
            (daemon.per_second / yardstick.per_second, daemon.latency.p99 / yardstick.latency.p99)
        };
        let found = [of(&alone).0, of(&alone).1, of(&insert).0, of(&insert).1];
        ratios.iter_mut().zip(found).for_each(|(ratios, found)| ratios.push(found));
    }
    println!("\nmarks: {links} new marks a round, {CONNECTIONS} connections, one daemon\n");
    println!("{}", table(&HEADS, &rows));
    let [rate, p99, http_rate, http_p99] = ratios.map(|ratios| format!("{:.2}", median(&ratios)));
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let rows: Vec<Vec<String>> = vec![
        words(&["insert, no HTTP", &rate, &p99, "rate ≥ 0.60, p99 ≤ 2.00"]),
        words(&["insert", &http_rate, &http_p99, "none"]),
    ];
    println!("{}", table(&["pagesyncd by (median of the rounds)", "rate", "p99", "target"], &rows));
    Ok(())
}
