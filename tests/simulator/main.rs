//! The daemon's decisions under a simulated world: no disk, no network, no clock, one seed.
//!
//! The pure rooms (ledger, page machine, upload queue, restart policy, schedule, backoff, digests) are the daemon's
//! own; what joins them in the daemon (store, page actor, uploader, supervisor) is mirrored in small. Around them:
//! pages that change, a Graph and a Spaces that fail in every way known, a disk that forgets what was not flushed,
//! people who link and unlink, and crashes. The oracle checks after every step, at rest, and once every page was
//! polled.
//!
//! A seed is a run. `PAGESYNCD_SIM_SEED=7` replays one; `PAGESYNCD_SIM_STEPS` or `PAGESYNCD_SIM_SECONDS` make it long:
//!
//! ```text
//! PAGESYNCD_SIM_SECONDS=3600 cargo test --release --test simulator -- --nocapture
//! ```

mod chance;
mod oracle;
mod outside;
mod page;
mod store;
mod supervisor;
mod uploader;
mod world;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use chance::Chance;
use world::{Figures, Plan, World};

/// Within this much virtual time after the last fault nothing is owed any more.
const QUIET_WITHIN: Duration = Duration::from_secs(3600);

fn plan(seed: u64) -> Plan {
    let mut chance = Chance::new(!seed);
    let short = chance.percent(25);
    Plan {
        users: chance.between(1, 3) as usize,
        pages: chance.between(1, 4) as usize,
        poll: if short { Duration::from_secs(chance.between(600, 3_600)) } else { Duration::from_secs(24 * 3600) },
        // Short runs show what a later event would heal; long ones what only adds up.
        faults: Duration::from_secs(if chance.percent(70) {
            chance.between(5, 90)
        } else {
            chance.between(300, 3_000)
        }),
        pause: if chance.percent(70) { chance.between(50, 1_000) } else { chance.between(1_000, 20_000) },
    }
}

/// Steps until nothing is owed.
fn come_to_rest(world: &mut World) -> bool {
    let limit = world.now.plus(QUIET_WITHIN);
    loop {
        let Some(why) = world.restless() else { return true };
        if world.next_at().is_none_or(|at| at > limit) {
            world.fail(format!("an hour after the last fault something is owed: {why}"));
        }
        if world.violation.is_some() || !world.step() {
            return false;
        }
    }
}

fn play(world: &mut World) {
    while world.now < world.faults_end {
        if !world.step() {
            return;
        }
    }
    while world.next_at().is_some_and(|at| at.0 < world.faults_end.0 + 60_000) {
        if !world.step() {
            return;
        }
    }
    let healed = world.now;
    if !come_to_rest(world) {
        return;
    }
    world.figures.quiet_ms = world.now.since(healed).as_millis() as u64;
    world.check_at_rest(false);
    let polled = world.now.plus(world.plan.poll * 2);
    while world.violation.is_none() && world.next_at().is_some_and(|at| at < polled) {
        world.step();
    }
    if world.violation.is_none() && come_to_rest(world) {
        world.check_at_rest(true);
    }
}

/// One run. `Err` says what broke.
fn run(seed: u64, trace: &mut Option<VecDeque<String>>) -> Result<Figures, (String, Figures)> {
    let mut world = World::new(plan(seed), seed);
    world.trace = trace.take();
    let start = world.now;
    let played = catch_unwind(AssertUnwindSafe(|| play(&mut world)));
    *trace = world.trace.take();
    world.figures.virtual_ms = world.now.since(start).as_millis() as u64;
    match (played, world.violation) {
        (Ok(()), None) => Ok(world.figures),
        (Ok(()), Some(what)) => Err((what, world.figures)),
        (Err(_), _) => Err(("it panicked".into(), world.figures)),
    }
}

fn report(seed: u64, what: &str, steps: u64) -> String {
    let mut trace = Some(VecDeque::new());
    let _ = run(seed, &mut trace);
    let last: Vec<String> = trace.into_iter().flatten().collect();
    format!(
        "seed {seed}, step {steps}: {what}\n{}\nreplay with PAGESYNCD_SIM_SEED={seed} cargo test --test simulator",
        last.join("\n")
    )
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn add(sum: &mut Figures, one: Figures) {
    sum.steps += one.steps;
    sum.crashes += one.crashes;
    sum.reopens += one.reopens;
    sum.panics += one.panics;
    sum.deliveries += one.deliveries;
    sum.reads += one.reads;
    sum.writes += one.writes;
    sum.late += one.late;
    sum.give_ups += one.give_ups;
    sum.virtual_ms += one.virtual_ms;
    sum.quiet_ms = sum.quiet_ms.max(one.quiet_ms);
}

#[test]
fn what_was_answered_is_in_the_bucket_whatever_dies() {
    let replay = number("PAGESYNCD_SIM_SEED");
    let seconds = number("PAGESYNCD_SIM_SECONDS");
    let steps = number("PAGESYNCD_SIM_STEPS").unwrap_or(if seconds.is_some() { u64::MAX } else { 150_000 });
    let (began, first) = (Instant::now(), replay.unwrap_or(1));
    let (mut sum, mut seeds) = (Figures::default(), 0);
    for seed in first.. {
        match run(seed, &mut None) {
            Ok(figures) => add(&mut sum, figures),
            Err((what, figures)) => {
                panic!("{} seeds, {} steps passed; {}", seeds, sum.steps, report(seed, &what, figures.steps))
            }
        }
        seeds += 1;
        let late = seconds.is_some_and(|s| began.elapsed() >= Duration::from_secs(s));
        if replay.is_some() || late || sum.steps >= steps {
            break;
        }
    }
    println!(
        "simulator: {seeds} seeds, {} steps, {} days of virtual time, {} crashes, {} reopened stores, {} panics, \
         {} processes given up, {} deliveries, {} reads, {} writes, {} late writes, quiet after at most {} s, {:?}",
        sum.steps,
        sum.virtual_ms / 86_400_000,
        sum.crashes,
        sum.reopens,
        sum.panics,
        sum.give_ups,
        sum.deliveries,
        sum.reads,
        sum.writes,
        sum.late,
        sum.quiet_ms / 1000,
        began.elapsed(),
    );
}
