//! At rest: what very many links cost the database while nothing happens.

use std::time::{Duration, Instant};

use pagesyncd::sandbox::postgres::Options;
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::daemons::{Cluster, Plan};
use crate::figures::{statements_of, table};
use crate::subject::Lines;
use crate::{Choices, Fallible};

const LINKS: usize = 100_000;
const SECONDS: usize = 60;
const DEBOUNCE: &str = "1h";
const POLL: Duration = Duration::from_secs(7 * 24 * 3600);
const TAKES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(5));
const DAY: f64 = 24.0 * 3600.0;
/// Sessions of daemons have a name that begins with it.
const SESSIONS: &str = "pagesyncd ";
const HEADS: [&str; 6] = [
    "daemons",
    "statements a daemon and second",
    "transactions a daemon and second",
    "statements a link and day",
    "daemons, CPU ms/s",
    "PostgreSQL, CPU ms/s",
];

/// A server that writes each statement to its log, without values.
fn logging() -> Options {
    let settings = [("log_statement", "all"), ("log_parameter_max_length", "0"), ("log_line_prefix", "%a|")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Options { settings, ..Options::default() }
}

/// Counts while nothing happens.
async fn rest(cluster: &Cluster, links: usize, time: Duration) -> Fallible<Vec<String>> {
    cluster.until_idle().await?;
    let log = cluster.database_folder().join("log");
    let session = cluster.session().await?;
    let statements = || -> Fallible<usize> { Ok(statements_of(&std::fs::read_to_string(&log)?, SESSIONS)) };
    let taken = || -> Fallible<[Duration; 2]> { Ok([cluster.cpu()?, cluster.database_cpu()?]) };
    let (counted, ended, cpu, began) = (statements()?, session.transactions().await?, taken()?, Instant::now());
    sleep(time).await;
    let (after, seconds) = (taken()?, began.elapsed().as_secs_f64());
    let counted = (statements()? - counted) as f64;
    // The first of the two questions is among them.
    let ended = (session.transactions().await? - ended - 1) as f64;
    let running = cluster.daemons.iter().filter(|daemon| daemon.is_running()).count() as f64;
    let [daemons, database] = [0, 1].map(|which| after[which].saturating_sub(cpu[which]).as_secs_f64() * 1e3 / seconds);
    Ok(vec![
        format!("{running:.0}"),
        format!("{:.2}", counted / seconds / running),
        format!("{:.2}", ended / seconds / running),
        format!("{:.2}", counted / seconds * DAY / links as f64),
        format!("{daemons:.1}"),
        format!("{database:.1}"),
    ])
}

/// Runs the case and prints its tables.
pub async fn run(choices: &Choices) -> Fallible<()> {
    let (links, time) = (choices.links(LINKS), Duration::from_secs(choices.seconds(SECONDS) as u64));
    let plan = Plan { daemons: 3, links, takes: TAKES, lines: Lines::default(), postgres: logging() };
    let mut cluster = Cluster::new(choices, plan).await?;
    // The others come later.
    let others = cluster.daemons.split_off(1);
    cluster.start(DEBOUNCE, POLL).await?;
    let session = cluster.session().await?;
    let empty = session.bytes().await?;
    let began = Instant::now();
    block_in_place(|| cluster.daemons[0].import())?;
    eprintln!("rest: {links} links were imported in {:.0} s", began.elapsed().as_secs_f64());
    // Without a start, the first reads would be spread over half an hour.
    cluster.stop()?;
    cluster.start(DEBOUNCE, POLL).await?;
    cluster.until("each link is read and written", || cluster.is_settled()).await?;
    eprintln!("rest: they were read and written after {:.0} s", began.elapsed().as_secs_f64());
    let mut sizes = Vec::new();
    for (name, bytes) in [
        ("the database, less an empty one", session.bytes().await? - empty),
        ("the table records with its index", session.bytes_of("records").await?),
        ("living rows of records", session.living_bytes_of("records").await?),
        ("the table changes", session.bytes_of("changes").await?),
    ] {
        sizes.push(vec![name.to_owned(), format!("{:.0}", bytes as f64 / links as f64)]);
    }
    let mut rows = vec![rest(&cluster, links, time).await?];
    cluster.daemons.extend(others);
    cluster.start(DEBOUNCE, POLL).await?;
    rows.push(rest(&cluster, links, time).await?);
    println!("\nrest: {links} links that were read and written, {} s\n", time.as_secs());
    println!("{}", table(&["right after the last write", "B a link"], &sizes));
    println!("{}", table(&HEADS, &rows));
    Ok(())
}
