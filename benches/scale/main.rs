//! Scale: what very many links cost the operator's calls, in time and in memory.
//!
//! `cargo bench --bench scale` measures 100,000 links and prints two tables; `PAGESYNCD_BENCH_LINKS` sets another
//! number. `benches/README.md` explains the rows. It is a report: no figure makes it fail.
//!
//! The daemon is measured from outside. No read begins meanwhile: the debounce is an hour.

#[allow(dead_code)]
#[path = "../webhooks/deliveries.rs"]
mod deliveries;
#[allow(dead_code)]
#[path = "../webhooks/load.rs"]
mod load;
mod memory;
#[allow(dead_code)]
#[path = "../webhooks/process.rs"]
mod process;
mod subject;

use std::fmt::Write as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use load::{Plan, Target};
use memory::{Memory, memory};
use process::{Pinning, cpu_time};
use subject::{Listed, Subject};

/// The result of a step of the bench. An error ends the bench.
pub type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const DELIVERIES_PER_SECOND: u32 = 200;
const DELIVERIES: usize = 2_000;
const CONNECTIONS: usize = 16;

/// Pages of the list of links, by what the status page asks for.
const PAGED: [(&str, &str); 4] = [
    ("50 links", ""),
    ("50 links by name", "&sort=name"),
    ("50 links, searched", "&search=nothing+like+it"),
    ("50 links by health, pending", "&pending=true&sort=health"),
];

/// A step: how long it took, the CPU time and the memory of the daemon, and what else is to be said.
struct Step {
    name: &'static str,
    took: Duration,
    cpu: Duration,
    before: Memory,
    after: Memory,
    note: String,
}

/// Measures a step of a daemon that runs.
fn step(name: &'static str, pid: u32, work: impl FnOnce() -> Fallible<String>) -> Fallible<Step> {
    eprintln!("{name}");
    memory::forget_peak(pid);
    let (before, cpu, began) = (memory(pid)?, cpu_time(pid)?, Instant::now());
    let note = work()?;
    let took = began.elapsed();
    Ok(Step { name, took, cpu: cpu_time(pid)? - cpu, before, after: memory(pid)?, note })
}

/// A start, with the process as it is when READY was reported.
fn start(name: &'static str, subject: &mut Subject) -> Fallible<Step> {
    eprintln!("{name}");
    let began = Instant::now();
    subject.start()?;
    let took = began.elapsed();
    let pid = subject.pid()?;
    Ok(Step {
        name,
        took,
        cpu: cpu_time(pid)?,
        before: Memory::default(),
        after: memory(pid)?,
        note: "to READY".to_owned(),
    })
}

fn steps(subject: &mut Subject, links: usize) -> Fallible<Vec<Step>> {
    let mut steps = vec![start("start, no link", subject)?];
    let users = subject.write_lines(links)?;
    steps.push(step("import", subject.pid()?, || subject.verb(&["import", "links"], users))?);
    let stored = subject.stored_bytes()?;
    steps.push(stop("stop", subject)?);
    let mut started = start("start", subject)?;
    write!(started.note, "; {} bytes a link on disk", stored / links as u64)?;
    steps.push(started);
    let pid = subject.pid()?;
    steps.push(step("pages stand", pid, || subject.until_idle().map(|()| "from READY on".to_owned()))?);
    let listed =
        |listed: Listed| format!("first byte after {:.1} ms, {:.1} MB", ms(listed.first), listed.bytes as f64 / 1e6);
    for name in ["GET /v1/pages", "GET /v1/pages again"] {
        steps.push(step(name, pid, || subject.get("/v1/pages").map(listed))?);
    }
    for (name, query) in PAGED {
        steps.push(step(name, pid, || subject.get(&format!("/v1/links?limit=50{query}")).map(listed))?);
    }
    steps.push(step("pages --json", pid, || subject.verb(&["pages", "--json"], String::new()))?);
    steps.push(step("pages", pid, || subject.verb(&["pages"], String::new()))?);
    steps.push(step("export", pid, || subject.verb(&["export", "exported"], String::new()))?);
    steps.push(step("status, 100 times", pid, || {
        let longest = (0..100).map(|_| subject.get("/v1/status").map(|listed| listed.whole));
        let longest = longest.collect::<Fallible<Vec<_>>>()?.into_iter().max().unwrap_or_default();
        Ok(format!("longest {:.1} ms", ms(longest)))
    })?);
    Ok(steps)
}

fn stop(name: &'static str, subject: &mut Subject) -> Fallible<Step> {
    eprintln!("{name}");
    let pid = subject.pid()?;
    let (before, began) = (memory(pid)?, Instant::now());
    subject.stop()?;
    let (took, after) = (began.elapsed(), Memory::default());
    Ok(Step { name, took, cpu: Duration::ZERO, before, after, note: String::new() })
}

/// Deliveries while this is asked once a second.
fn beside(subject: &Subject, asked: Option<&str>) -> Fallible<String> {
    let name = asked.unwrap_or("nothing");
    eprintln!("deliveries beside {name}");
    let requests = subject.deliveries(DELIVERIES);
    let target = Target { address: subject.address, connections: CONNECTIONS, expected: 200 };
    let over = AtomicBool::new(false);
    let (outcome, answers) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut answers = 0;
            while let Some(path) = asked.filter(|_| !over.load(Ordering::Relaxed)) {
                let began = Instant::now();
                answers += usize::from(subject.get(path).is_ok());
                std::thread::sleep(Duration::from_secs(1).saturating_sub(began.elapsed()));
            }
            answers
        });
        let outcome = load::run(target, &requests, Plan::Paced(DELIVERIES_PER_SECOND));
        over.store(true, Ordering::Relaxed);
        (outcome, asking.join().unwrap_or_default())
    });
    let outcome = outcome?;
    let at = |quantile| outcome.latencies.value_at_quantile(quantile) as f64 / 1000.0;
    let (max, unexpected) = (outcome.latencies.max() as f64 / 1000.0, outcome.unexpected);
    Ok(format!("| {name} | {answers} | {:.2} | {:.2} | {max:.2} | {unexpected} |", at(0.5), at(0.99)))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn table(steps: &[Step]) -> String {
    let mut text =
        "| step | s | CPU s | RSS before, MB | RSS after | peak | |\n|---|---|---|---|---|---|---|\n".to_owned();
    for Step { name, took, cpu, before, after, note } in steps {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        text.push_str(&format!(
            "| {name} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} | {note} |\n",
            took.as_secs_f64(),
            cpu.as_secs_f64(),
            mb(before.resident),
            mb(after.resident),
            mb(after.peak)
        ));
    }
    text
}

fn main() -> Fallible<()> {
    let links = std::env::var("PAGESYNCD_BENCH_LINKS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let dir = std::env::var_os("PAGESYNCD_BENCH_DIR").unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
    let mut subject = Subject::new(Pinning::of_load(), dir.as_ref())?;
    let mut steps = steps(&mut subject, links)?;
    let search = "/v1/links?limit=50&sort=name&search=nothing+like+it";
    let asked = [None, Some("/v1/status"), Some("/v1/pages"), Some(search)];
    let rows = asked.map(|asked| beside(&subject, asked)).into_iter().collect::<Fallible<Vec<_>>>()?;
    steps.push(stop("stop", &mut subject)?);
    let kernel = Command::new("uname").arg("-r").output()?.stdout;
    println!("{links} links, each of another user; {}", String::from_utf8_lossy(&kernel).trim());
    println!("\n{}", table(&steps));
    println!(
        "| {DELIVERIES_PER_SECOND} deliveries/s while this is asked once a second | answers | p50 ms | p99 ms | max ms | unexpected |"
    );
    println!("|---|---|---|---|---|---|\n{}", rows.join("\n"));
    Ok(())
}
