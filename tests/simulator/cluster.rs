//! Several daemons over one database under a simulated world: clocks that disagree, a network that is cut, processes that
//! stand still, and one seed.
//!
//! The decisions are the daemon's own: the store with its ledger and its feed, the committer of a shared store with its
//! fence, its following and its way back after a failure, the beats, the rebalancing of leases, and the rights to write with
//! their guards and deadlines. The database is simulated ([`stepped`](pagesyncd::store::shared::stepped)): one transaction
//! decides at a time, and a batch reaches the others in the bytes that PostgreSQL would keep. The tasks that read pages and
//! write objects stand here once more, because the actors need a runtime. Not driven are the SQL, the connections, and the
//! thread on which the committer waits; `tests/stories/cluster.rs` has those.
//!
//! | module | what it does |
//! |---|---|
//! | [`world`] | true time, what is going to happen, faults, and what must hold |
//! | [`node`] | a machine, its clocks and its pauses |
//! | [`process`] | one life of a daemon: dispatcher, reads, writes |
//! | [`outside`] | pages, Spaces, requests under way |
//!
//! What must hold:
//!
//! * At every request: no two daemons have a write of one object under way at once, and no object is replaced by older data
//!   of another daemon.
//! * At every commit: an incarnation that was declared dead decides nothing.
//! * Whenever a memory is as new as the database, it has what the database has.
//! * When nothing fails any more: leases are spread evenly 15 seconds after the last daemon came or went, and every object is
//!   what its page shows.

mod node;
mod outside;
mod process;
mod world;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use self::world::{Figures, Plan, World};
use crate::chance::Chance;
use crate::number;

/// So long after the last fault nothing is owed any more: a write that is not answered is cut off after 30 seconds, and its
/// object is left alone for 40 more; so is one of a daemon that died.
const QUIET_WITHIN: u64 = 150_000;

fn plan(seed: u64) -> Plan {
    let mut chance = Chance::new(!seed);
    let is_pausing = chance.percent(25);
    Plan {
        nodes: chance.between(if is_pausing { 3 } else { 2 }, 4) as usize,
        pages: chance.between(if is_pausing { 30 } else { 5 }, 60) as usize,
        faults: chance.between(60_000, 400_000),
        apart: if is_pausing { 90_000 } else { chance.between(2_000, 20_000) },
        changes: chance.between(100, if is_pausing { 500 } else { 2_000 }),
        slow: if is_pausing { 2 } else { chance.between(0, 25) },
        queued: if is_pausing { 90 } else { 25 },
        is_pausing,
    }
}

fn play(world: &mut World) {
    while world.now < world.plan.faults {
        if !world.step() {
            return;
        }
    }
    world.heal();
    let (mut is_spread, end) = (false, world.plan.faults + QUIET_WITHIN);
    while world.now < end {
        if !world.step() {
            return;
        }
        if !is_spread && world.is_spread_by_now() {
            is_spread = true;
            world.check_spread(world.plan.pages);
        }
    }
    if !is_spread {
        world.fail("the daemons do not all live again".into());
    }
    world.check_spread(0);
    world.check_at_rest();
}

/// One run. `Err` says what broke.
fn run(seed: u64, trace: &mut Option<VecDeque<String>>) -> Result<Figures, Box<(String, Figures)>> {
    let mut world = World::new(plan(seed), seed);
    world.trace = trace.take();
    let played = catch_unwind(AssertUnwindSafe(|| play(&mut world)));
    *trace = world.trace.take();
    world.figures.virtual_ms = world.now;
    match (played, world.violation) {
        (Ok(()), None) => Ok(world.figures),
        (Ok(()), Some(what)) => Err(Box::new((what, world.figures))),
        (Err(_), _) => Err(Box::new(("it panicked".into(), world.figures))),
    }
}

fn report(seed: u64, what: &str, steps: u64) -> String {
    let mut trace = Some(VecDeque::new());
    let _ = run(seed, &mut trace);
    let last: Vec<String> = trace.into_iter().flatten().collect();
    format!(
        "seed {seed}, step {steps}: {what}\n{:?}\n{}\nreplay with PAGESYNCD_SIM_SEED={seed} cargo test --test simulator cluster",
        plan(seed),
        last.join("\n")
    )
}

fn add(sum: &mut Figures, one: Figures) {
    sum.steps += one.steps;
    sum.virtual_ms += one.virtual_ms;
    sum.deliveries += one.deliveries;
    sum.reads += one.reads;
    sum.writes += one.writes;
    sum.unanswered += one.unanswered;
    sum.commits += one.commits;
    sum.kills += one.kills;
    sum.stops += one.stops;
    sum.pauses += one.pauses;
    sum.cuts += one.cuts;
    sum.lost_answers += one.lost_answers;
    sum.deaths += one.deaths;
    sum.comparisons += one.comparisons;
}

#[test]
fn no_two_daemons_write_one_object_and_nothing_is_lost_whatever_dies() {
    // Timers are made on it and never fire: the clocks of the daemons say when a right to write ends.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = runtime.enter();
    let replay = number("PAGESYNCD_SIM_SEED");
    let seconds = number("PAGESYNCD_SIM_SECONDS");
    let steps = number("PAGESYNCD_SIM_STEPS").unwrap_or(if seconds.is_some() { u64::MAX } else { 50_000 });
    // Worlds in which daemons are paused for minutes take longer, and are left to longer runs.
    let is_short = replay.is_none() && steps <= 50_000;
    let (began, first) = (Instant::now(), replay.unwrap_or(1));
    let (mut sum, mut seeds) = (Figures::default(), 0);
    for seed in (first..).filter(|seed| !(is_short && plan(*seed).is_pausing)) {
        match run(seed, &mut None) {
            Ok(figures) => add(&mut sum, figures),
            Err(broken) => {
                let (what, figures) = *broken;
                panic!("{seeds} seeds, {} steps passed; {}", sum.steps, report(seed, &what, figures.steps))
            }
        }
        seeds += 1;
        let late = seconds.is_some_and(|s| began.elapsed() >= Duration::from_secs(s));
        if replay.is_some() || late || sum.steps >= steps {
            break;
        }
    }
    println!("simulator of several daemons: {seeds} seeds in {:?}, {sum:?}", began.elapsed());
}
