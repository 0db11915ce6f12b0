//! The work of links by one, two and four daemons on one machine.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use pagesyncd::sandbox::postgres::Options;

use crate::daemons::{Cluster, Plan};
use crate::figures::{median, table};
use crate::outside::Done;
use crate::process::cpu_time;
use crate::subject::Lines;
use crate::{Choices, Fallible};

const LINKS: usize = 2_000;
/// Sweeps of all links.
const ROUNDS: usize = 3;
const TAKES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(30));
/// Far above what the processors do.
const IN_FLIGHT: (usize, usize) = (512, 128);
const HEADS: [&str; 7] = [
    "daemons",
    "links/s",
    "by that of one",
    "daemons, CPU ms a link",
    "PostgreSQL, CPU ms a link",
    "outside, CPU ms a link",
    "cores used: daemons + PostgreSQL + outside",
];

/// One sweep.
#[derive(Debug, Clone, Copy)]
struct Sweep {
    per_second: f64,
    /// Of the daemons, the database and the outside, in milliseconds for each link.
    cpu: [f64; 3],
    /// Cores that they used.
    cores: [f64; 3],
}

/// Delivers a change of every link, an equal part to each daemon, and waits until all are written.
async fn sweep(cluster: &Cluster, links: usize) -> Fallible<Sweep> {
    let taken =
        || -> Fallible<[Duration; 3]> { Ok([cluster.cpu()?, cluster.database_cpu()?, cpu_time(std::process::id())?]) };
    let (before, began) = (taken()?, Instant::now());
    let pages = &cluster.daemons[0].pages;
    let parts = pages.chunks(links.div_ceil(cluster.daemons.len()));
    try_join_all(cluster.daemons.iter().zip(parts).map(|(daemon, part)| daemon.deliver(part))).await?;
    cluster.until("each link is written", || cluster.outside.counts().1 >= links).await?;
    let (after, elapsed) = (taken()?, began.elapsed());
    let Done { reads, writes } = cluster.outside.take();
    let first = reads.iter().map(|(_, at)| *at).min().ok_or("nothing was read")?;
    let last = writes.iter().map(|(_, at)| *at).max().ok_or("nothing was written")?;
    let used = [0, 1, 2].map(|which| after[which].saturating_sub(before[which]).as_secs_f64());
    Ok(Sweep {
        // The last write takes its time, however many go on at once.
        per_second: links as f64 / ((last - first).saturating_sub(TAKES.1)).as_secs_f64(),
        cpu: used.map(|used| used * 1e3 / links as f64),
        cores: used.map(|used| used / elapsed.as_secs_f64()),
    })
}

/// Sweeps with so many daemons, and the bytes of the table's living rows for each link.
async fn with(choices: &Choices, daemons: usize, links: usize) -> Fallible<(Vec<Sweep>, f64)> {
    let lines = Lines {
        facebook: format!("max_in_flight = {}", IN_FLIGHT.0),
        spaces: format!("max_in_flight = {}", IN_FLIGHT.1),
        ..Lines::default()
    };
    let plan = Plan { daemons, links, takes: TAKES, lines, postgres: Options::default() };
    let mut cluster = Cluster::new(choices, plan).await?;
    cluster.make_links("100ms").await?;
    let mut sweeps = Vec::new();
    for number in 0..choices.rounds(ROUNDS) {
        let one = sweep(&cluster, links).await?;
        eprintln!("work: {daemons} daemons, sweep {}: {one:?}", number + 1);
        sweeps.push(one);
        cluster.until_idle().await?;
    }
    let bytes = cluster.session().await?.living_bytes_of("records").await?;
    Ok((sweeps, bytes as f64 / links as f64))
}

/// Runs the case and prints its table.
pub async fn run(choices: &Choices) -> Fallible<()> {
    let links = choices.links(LINKS);
    let (mut rows, mut of_one, mut size) = (Vec::new(), 0.0, 0.0);
    for daemons in [1, 2, 4] {
        let (sweeps, bytes) = with(choices, daemons, links).await?;
        let middle = |of: fn(&Sweep) -> f64| median(&sweeps.iter().map(of).collect::<Vec<_>>());
        let per_second = middle(|sweep| sweep.per_second);
        if daemons == 1 {
            (of_one, size) = (per_second, bytes);
        }
        let cores: [fn(&Sweep) -> f64; 3] = [|sweep| sweep.cores[0], |sweep| sweep.cores[1], |sweep| sweep.cores[2]];
        rows.push(vec![
            daemons.to_string(),
            format!("{per_second:.0}"),
            format!("{:.2}", per_second / of_one),
            format!("{:.2}", middle(|sweep| sweep.cpu[0])),
            format!("{:.2}", middle(|sweep| sweep.cpu[1])),
            format!("{:.2}", middle(|sweep| sweep.cpu[2])),
            cores.map(|of| format!("{:.2}", middle(of))).join(" + "),
        ]);
    }
    let cores = std::thread::available_parallelism()?;
    let limit = (IN_FLIGHT.0 as f64 / TAKES.0.as_secs_f64()).min(IN_FLIGHT.1 as f64 / TAKES.1.as_secs_f64());
    println!("\nwork: {links} links, {cores} cores; the limits on calls allow {limit:.0} links/s\n");
    println!("{}", table(&HEADS, &rows));
    println!("the living rows of the table records have {size:.0} B for each link that was read and written");
    Ok(())
}
