//! Webhooks against yardsticks: the speed of the daemon beside the speed that the machine allows.
//!
//! `cargo bench --bench webhooks` runs all cases and prints one table; `cargo bench --bench webhooks -- storm paced`
//! runs those whose names contain one of the words. `benches/README.md` explains the rows. It is a report: no figure
//! makes it fail.
//!
//! The daemon is measured from outside, over plain HTTP on loopback, with one core for the server and one for the load.
//! Its yardstick runs in the same way directly before it, with the same requests.

mod address;
mod deliveries;
mod load;
mod process;
mod report;
mod subject;
#[allow(dead_code, reason = "the bench of the cluster uses the rest")]
mod yardstick;

use std::path::PathBuf;
use std::time::Duration;

use load::{Plan, Target};
use process::{Pinning, cpu_time};
use report::{Latency, Measure, Row};
use subject::Subject;
use yardstick::{Kind, Yardstick};

/// The result of a step of the bench. An error ends the bench.
pub type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const STORM_LINKS: usize = 1_000;
/// Of closed loops.
const CONNECTIONS: usize = 32;
/// Of open loops: a stall must not run out of connections at once.
const OPEN_CONNECTIONS: usize = 64;
/// Links that are marked before a case of new marks begins, to warm up.
const WARM: usize = 500;
const OBJECTS: usize = 100;
const OBJECTS_PER_SECOND: u32 = 20;

/// A case that is compared with a yardstick.
struct Case {
    name: &'static str,
    kind: Kind,
    plan: Plan,
    connections: usize,
    expected: u16,
    target: &'static str,
}

/// What to run, and how.
struct Choices {
    names: Vec<String>,
    pinning: Pinning,
    time: Duration,
    new_marks: usize,
    dir: PathBuf,
}

impl Choices {
    fn read(arguments: Vec<String>, pinning: Pinning) -> Choices {
        let number =
            |name: &str, otherwise| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise);
        let dir = std::env::var_os("PAGESYNCD_BENCH_DIR").map_or(env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
        Choices {
            // Cargo adds `--bench`.
            names: arguments.into_iter().filter(|argument| !argument.starts_with("--")).collect(),
            pinning,
            time: Duration::from_secs(number("PAGESYNCD_BENCH_SECONDS", 5)),
            new_marks: number("PAGESYNCD_BENCH_LINKS", 10_000) as usize,
            dir,
        }
    }

    fn want(&self, case: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| case.contains(name.as_str()))
    }
}

/// Runs a load and takes the CPU times around it.
fn measure(pid: u32, target: Target, requests: &[Vec<u8>], plan: Plan) -> Fallible<Measure> {
    let own = std::process::id();
    let before = (cpu_time(pid)?, cpu_time(own)?);
    let outcome = load::run(target, requests, plan)?;
    Ok(Measure::of(&outcome, cpu_time(pid)? - before.0, cpu_time(own)? - before.1))
}

/// Measures the yardstick, then the daemon, with the same requests. Both get `warm` before.
fn compare(case: &Case, choices: &Choices, subject: &Subject, warm: &[Vec<u8>], requests: &[Vec<u8>]) -> Fallible<Row> {
    eprintln!("{}: {} requests", case.name, requests.len());
    let both = |pid, address| {
        let target = Target { address, connections: case.connections, expected: case.expected };
        load::run(target, warm, Plan::Each)?;
        measure(pid, target, requests, case.plan)
    };
    let yardstick =
        Yardstick::start(case.kind, &choices.pinning, subject.secret(), &subject.dir().join("yardstick.log"))?;
    let reference = both(yardstick.pid(), yardstick.address)?;
    drop(yardstick);
    let daemon = both(subject.pid()?, subject.address)?;
    Ok(Row::Compared { case: case.name, daemon, yardstick: (case.kind.name(), reference), target: case.target })
}

/// The cases with a thousand links.
fn standing(choices: &Choices, rows: &mut Vec<Row>) -> Fallible<()> {
    let plan = Plan::For(choices.time);
    let case =
        |name, expected, target| Case { name, kind: Kind::Bare, plan, connections: CONNECTIONS, expected, target };
    let storm = case("storm", 200, "rate ≥ 0.70, CPU ≤ 1.40");
    let forged = case("forged", 401, "rate ≥ 0.95");
    let (object, mut objects) = ("webhook to object", Vec::new());
    if ![storm.name, forged.name, object].iter().any(|name| choices.want(name)) {
        return Ok(());
    }
    let mut subject = Subject::start(STORM_LINKS, &choices.pinning, &choices.dir)?;
    let signed = deliveries::signed(|body| subject.world().sign(body), subject.address, &subject.pages);
    if choices.want(object) {
        eprintln!("{object}: {OBJECTS} deliveries");
        let latencies = subject.objects(OBJECTS, OBJECTS_PER_SECOND, &signed)?;
        objects.push(Row::Absolute { case: object, latency: Latency::of(&latencies) });
    }
    if choices.want(storm.name) || choices.want(forged.name) {
        subject.restart(subject::LONG_DEBOUNCE)?;
    }
    if choices.want(storm.name) {
        // The warm-up marks all links, and the marks stand from then on.
        rows.push(compare(&storm, choices, &subject, &signed, &signed)?);
    }
    if choices.want(forged.name) {
        let requests = deliveries::forged(subject.address, &subject.pages);
        rows.push(compare(&forged, choices, &subject, &signed, &requests)?);
    }
    rows.append(&mut objects);
    Ok(())
}

/// The cases in which every delivery is a new mark, each with links of its own.
fn marking(choices: &Choices, rows: &mut Vec<Row>) -> Fallible<()> {
    let open = |name, pace| Case {
        name,
        kind: Kind::Durable,
        plan: Plan::Paced(pace),
        connections: OPEN_CONNECTIONS,
        expected: 200,
        target: "p99 ≤ 2.00",
    };
    let target = "rate ≥ 0.60, CPU ≤ 2.00";
    let closed = Case { connections: CONNECTIONS, plan: Plan::Each, target, ..open("new marks", 0) };
    let count = |pace: u32| pace as usize * choices.time.as_secs() as usize;
    let all = [
        (open("paced 200/s", 200), count(200)),
        (open("paced 2000/s", 2000), count(2000)),
        (closed, choices.new_marks),
    ];
    let cases: Vec<_> = all.into_iter().filter(|(case, _)| choices.want(case.name)).collect();
    if cases.is_empty() {
        return Ok(());
    }
    let links = cases.iter().map(|(_, count)| count + WARM).sum();
    let mut subject = Subject::start(links, &choices.pinning, &choices.dir)?;
    subject.restart(subject::LONG_DEBOUNCE)?;
    let signed = deliveries::signed(|body| subject.world().sign(body), subject.address, &subject.pages);
    let mut rest = &signed[..];
    for (case, count) in cases {
        let (warm, others) = rest.split_at(WARM);
        let (requests, others) = others.split_at(count);
        rows.push(compare(&case, choices, &subject, warm, requests)?);
        rest = others;
    }
    Ok(())
}

fn main() -> Fallible<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == yardstick::ARGUMENT) {
        return Ok(yardstick::serve(&arguments.split_off(1))?);
    }
    let choices = Choices::read(arguments, Pinning::of_load());
    let mut rows = Vec::new();
    standing(&choices, &mut rows)?;
    marking(&choices, &mut rows)?;
    println!("{}", machine());
    match &choices.pinning {
        Pinning::Pinned => println!("server and load are pinned to a core each"),
        Pinning::Unpinned(reason) => println!("server and load are not pinned and share all cores: {reason}"),
    }
    println!("\n{}", report::table(&rows));
    Ok(())
}

/// The processor, and how busy the machine is beside the bench.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    format!("processor: {}; load average: {}", model.unwrap_or("unknown"), read("/proc/loadavg").trim())
}
