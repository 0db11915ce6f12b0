//! Several daemons on one PostgreSQL: deliveries against the database's own rate, the work of links by one, two and four
//! daemons, the time until the others have taken over, and what a cluster at rest asks of the database.
//!
//! `cargo bench --bench cluster` runs all cases; `cargo bench --bench cluster -- marks takeover` runs those whose names
//! contain one of the words. `benches/README.md` explains the rows. It is a report: no figure makes it fail.
//!
//! Daemons, database, load and yardsticks share all cores: with a core for each of them, their number would decide.

#[path = "../webhooks/address.rs"]
mod address;
mod daemons;
#[allow(dead_code, reason = "the bench of webhooks uses the rest")]
#[path = "../webhooks/deliveries.rs"]
mod deliveries;
mod figures;
mod inserts;
#[allow(dead_code, reason = "the bench of webhooks uses the rest")]
#[path = "../webhooks/load.rs"]
mod load;
mod marks;
#[path = "../links/outside.rs"]
mod outside;
#[allow(dead_code, reason = "the bench of webhooks uses the rest")]
#[path = "../webhooks/process.rs"]
mod process;
#[allow(dead_code, reason = "the bench of webhooks uses the rest")]
#[path = "../webhooks/report.rs"]
mod report;
mod rest;
#[allow(dead_code, reason = "the bench of links uses the rest")]
#[path = "../links/subject.rs"]
mod subject;
mod takeover;
mod usage;
mod work;
#[allow(dead_code, reason = "the bench of webhooks uses the rest")]
#[path = "../webhooks/yardstick.rs"]
mod yardstick;

use std::path::PathBuf;

/// The result of a step of the bench. An error ends the bench.
pub type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// What to run, and how.
pub struct Choices {
    names: Vec<String>,
    /// For files, on the disk to measure.
    pub dir: PathBuf,
    links: Option<usize>,
    rounds: Option<usize>,
    seconds: Option<usize>,
}

impl Choices {
    fn read(arguments: Vec<String>) -> Choices {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        Choices {
            // Cargo adds `--bench`.
            names: arguments.into_iter().filter(|argument| !argument.starts_with("--")).collect(),
            dir: std::env::var_os("PAGESYNCD_BENCH_DIR").map_or(env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from),
            links: number("PAGESYNCD_BENCH_LINKS"),
            rounds: number("PAGESYNCD_BENCH_ROUNDS"),
            seconds: number("PAGESYNCD_BENCH_SECONDS"),
        }
    }

    fn want(&self, case: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| case.contains(name.as_str()))
    }

    /// Links of a case with so many by default.
    pub fn links(&self, otherwise: usize) -> usize {
        self.links.unwrap_or(otherwise)
    }

    /// Rounds of a case with so many by default.
    pub fn rounds(&self, otherwise: usize) -> usize {
        self.rounds.unwrap_or(otherwise)
    }

    /// Seconds of a case with so many by default.
    pub fn seconds(&self, otherwise: usize) -> usize {
        self.seconds.unwrap_or(otherwise)
    }
}

async fn run(choices: &Choices) -> Fallible<()> {
    if choices.want("marks") {
        marks::run(choices).await?;
    }
    if choices.want("work") {
        work::run(choices).await?;
    }
    if choices.want("takeover") {
        takeover::run(choices).await?;
    }
    if choices.want("rest") {
        rest::run(choices).await?;
    }
    println!("\nload average at the end: {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    Ok(())
}

fn main() -> Fallible<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == yardstick::ARGUMENT) {
        return Ok(inserts::serve(&arguments.split_off(1))?);
    }
    let choices = Choices::read(arguments);
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run(&choices))
}
