//! Reads and writes of links against the limits on calls: how close the daemon comes to what `facebook.max_in_flight`
//! and `spaces.max_in_flight` allow when each answer takes a set time, and what a read and its write cost.
//!
//! `cargo bench --bench links` runs all cases and prints one table. `benches/README.md` explains the rows. It is a
//! report: no figure makes it fail.

#[path = "../webhooks/address.rs"]
mod address;
#[allow(dead_code, reason = "the bench of the cluster uses the rest")]
mod outside;
#[allow(dead_code, reason = "the bench of webhooks uses the rest")]
#[path = "../webhooks/process.rs"]
mod process;
#[allow(dead_code, reason = "the bench of the cluster uses the rest")]
mod subject;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use outside::Outside;
use process::Pinning;
use subject::Subject;

/// The result of a step of the bench. An error ends the bench.
pub type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const GRAPH: Duration = Duration::from_millis(100);
const SPACES: Duration = Duration::from_millis(30);
/// The defaults of `facebook.max_in_flight` and `spaces.max_in_flight`.
const IN_FLIGHT: (f64, f64) = (32.0, 8.0);
/// Nothing happens for this long: it has ended.
const STILL: Duration = Duration::from_secs(8);
const REST: Duration = Duration::from_secs(2 * 3600);

/// The yardstick: links a second that the limits allow.
fn limit() -> f64 {
    (IN_FLIGHT.0 / GRAPH.as_secs_f64()).min(IN_FLIGHT.1 / SPACES.as_secs_f64())
}

struct Bench {
    outside: Outside,
    subject: Subject,
    /// Resident memory of a daemon without a link, in bytes.
    empty: u64,
    rows: Vec<[String; 5]>,
}

impl Bench {
    fn row(&mut self, case: &str, figure: String, yardstick: String, ratio: String, target: &str) {
        eprintln!("{case}: {figure}, {yardstick}, {ratio}");
        self.rows.push([case.to_owned(), figure, yardstick, ratio, target.to_owned()]);
    }

    fn links(&self) -> usize {
        self.subject.pages.len()
    }

    /// Waits until so many objects are written, and hardly anything has happened for a while: of very many links some are
    /// polled at any time.
    async fn until_written(&self, count: usize, still: Duration) -> Fallible<()> {
        let (began, mut counts, mut since) = (Instant::now(), (0, 0), Instant::now());
        let few = self.links() / 1_000;
        while began.elapsed() < REST {
            let now = self.outside.counts();
            if now.0 + now.1 > counts.0 + counts.1 + few {
                (counts, since) = (now, Instant::now());
            }
            if now.1 >= count && since.elapsed() >= still {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(format!("of {count} objects {} were written", self.outside.counts().1).into())
    }

    /// One read and one write each, also while the first polls and the checks of tokens come.
    async fn first_reads(&mut self) -> Fallible<()> {
        let links = self.links();
        self.subject.start("2s").await?;
        self.empty = self.subject.memory()?;
        self.subject.import()?;
        self.until_written(links, STILL).await?;
        let done = self.outside.take();
        let figure = format!("{} reads, {} writes", done.reads.len(), done.writes.len());
        let ratio = format!("{:.3}", done.writes.len() as f64 / links as f64);
        self.row("first reads", figure, format!("{links} links"), ratio, "1.000");
        self.resident("first reads")
    }

    /// The memory of a link that has worked. It contains what the allocator has not given back.
    fn resident(&mut self, case: &str) -> Fallible<()> {
        let resident = self.subject.memory()?;
        let each = resident.saturating_sub(self.empty) as f64 / self.links() as f64;
        let (figure, whole) = (format!("{each:.0} B a link"), format!("{:.0} MB in all", resident as f64 / 1e6));
        self.row(&format!("{case}: memory"), figure, whole, String::new(), "≤ 8,000 B");
        Ok(())
    }

    /// The rate from the first read's begin to the last write, and what it cost, each link once.
    async fn rate(&mut self, case: &str, before: Duration) -> Fallible<()> {
        let links = self.links();
        self.until_written(links, Duration::from_millis(500)).await?;
        let cpu = self.subject.cpu()? - before;
        let done = self.outside.take();
        let first = done.reads.iter().map(|(_, at)| *at).min().ok_or("nothing was read")?;
        let last = done.writes.iter().map(|(_, at)| *at).max().ok_or("nothing was written")?;
        // The first read takes its time, and so does the last write, however many go on at once.
        let took = (last - first).as_secs_f64() - SPACES.as_secs_f64();
        let per_second = links as f64 / took;
        let (figure, ratio) = (format!("{per_second:.0}/s"), format!("{:.3}", per_second / limit()));
        self.row(case, figure, format!("{:.0}/s", limit()), ratio, if case == "due" { "≥ 0.95" } else { "≥ 0.90" });
        let counted = format!("{} reads, {} writes", done.reads.len(), done.writes.len());
        let each = cpu.as_secs_f64() * 1e3 / links as f64;
        self.row(&format!("{case}: CPU"), format!("{each:.2} ms a link"), counted, String::new(), "≤ 0.60 ms");
        Ok(())
    }

    /// All links are due at once.
    async fn due(&mut self) -> Fallible<()> {
        let before = self.subject.cpu()?;
        self.subject.deliver(&self.subject.pages).await?;
        self.rate("due", before).await?;
        self.resident("due")
    }

    /// All links have a mark when the daemon is killed.
    async fn restart(&mut self) -> Fallible<()> {
        self.subject.kill();
        self.subject.start("1h").await?;
        self.subject.deliver(&self.subject.pages).await?;
        self.subject.kill();
        self.outside.take();
        self.subject.start("2s").await?;
        self.rate("after a start", Duration::ZERO).await
    }

    /// Reads wait for a Graph that takes its time.
    async fn waiting(&mut self) -> Fallible<()> {
        // Once with little waiting, so that only the waiting differs.
        self.due_quietly(GRAPH).await?;
        let before = self.subject.memory()?;
        self.outside.takes(Duration::from_secs(10), SPACES);
        self.subject.deliver(&self.subject.pages).await?;
        tokio::time::sleep(Duration::from_secs(8)).await;
        let grown = self.subject.memory()?.saturating_sub(before);
        self.outside.takes(GRAPH, SPACES);
        self.until_written(self.links(), Duration::from_secs(1)).await?;
        let each = grown as f64 / self.links() as f64;
        self.row("a waiting read", format!("{each:.0} B"), String::new(), String::new(), "≤ 200 B, its mark included");
        Ok(())
    }

    async fn due_quietly(&mut self, graph: Duration) -> Fallible<()> {
        self.outside.takes(graph, SPACES);
        self.outside.take();
        self.subject.deliver(&self.subject.pages).await?;
        self.until_written(self.links(), Duration::from_secs(1)).await?;
        self.outside.take();
        Ok(())
    }

    /// Ten deliveries a second for one page, over ten seconds, with the usual bucket.
    async fn burst(&mut self) -> Fallible<()> {
        self.subject.kill();
        self.subject.start("2s").await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.outside.take();
        let page = self.subject.pages[0].clone();
        for _ in 0..100 {
            self.subject.deliver(std::slice::from_ref(&page)).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let last = Instant::now();
        tokio::time::sleep(Duration::from_secs(80)).await;
        let done = self.outside.take();
        let reads = done.reads.iter().filter(|(read, _)| *read == page).count();
        let written =
            done.writes.iter().filter(|(written, at)| *written == page && *at > last).map(|(_, at)| *at).min();
        let after =
            written.map_or("never".to_owned(), |at| format!("{:.1} s after the last", (at - last).as_secs_f64()));
        self.row("burst", after, format!("{reads} reads"), String::new(), "≤ 10 s, 3 reads");
        Ok(())
    }
}

async fn run(pinning: Pinning) -> Fallible<()> {
    let links = std::env::var("PAGESYNCD_BENCH_LINKS").ok().and_then(|text| text.parse().ok()).unwrap_or(2000);
    let dir = std::env::var_os("PAGESYNCD_BENCH_DIR").map_or(env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    let names: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with("--")).collect();
    let want = |case: &str| names.is_empty() || names.iter().any(|name| case.contains(name.as_str()));
    let outside = Outside::start().await?;
    outside.takes(GRAPH, SPACES);
    let subject = Subject::new(links, outside.clone(), &pinning, &dir)?;
    let mut bench = Bench { outside, subject, empty: 0, rows: Vec::new() };
    bench.first_reads().await?;
    if want("due") {
        bench.due().await?;
    }
    if want("restart") {
        bench.restart().await?;
    }
    if want("waiting") {
        bench.waiting().await?;
    }
    if want("burst") {
        bench.burst().await?;
    }
    println!("{links} links; Graph takes {GRAPH:?}, Spaces {SPACES:?}; {pinning:?}\n");
    println!("| case | daemon | yardstick | ratio | target |\n|---|---|---|---|---|");
    bench.rows.iter().for_each(|row| println!("| {} |", row.join(" | ")));
    Ok(())
}

fn main() -> Fallible<()> {
    let pinning = Pinning::of_load();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run(pinning))
}
