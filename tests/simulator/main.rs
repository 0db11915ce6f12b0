//! The daemon's decisions under a simulated world: no disk, no network, no clock, one seed.
//!
//! The decisions are the daemon's own code: the link's machine, the store with its ledger, grants and feed, the upload
//! queue, the queue of cleanups, the restart policy, schedule, backoff, digests and the verdict on a token. What
//! performs them in the daemon (page, uploader, cleanups, dispatcher, supervisor) is done here without a runtime.
//! Around them: pages that change, a Graph and a Spaces that fail in every way known, a disk that forgets what was not
//! flushed, persons who link and unlink, and crashes. The oracle checks after every step, at rest, and once every page
//! was polled.
//!
//! The catalogues and the tokens of shops have a world of their own, in [`shops`]; so have several daemons over one
//! database, in [`cluster`].
//!
//! A seed is a run. `PAGESYNCD_SIM_SEED=7` replays one; `PAGESYNCD_SIM_STEPS` or `PAGESYNCD_SIM_SECONDS` make it long:
//!
//! ```text
//! PAGESYNCD_SIM_SECONDS=3600 cargo test --release --test simulator -- --nocapture
//! ```

mod chance;
mod chaos;
mod cleanups;
mod cluster;
mod dispatcher;
mod logins;
mod oracle;
mod outside;
mod page;
mod shops;
mod store;
mod supervisor;
mod uploader;
mod world;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use chance::Chance;
use chaos::Flavour;
use pagesyncd::core::model::WallTime;
use pagesyncd::store::stepped::shown;
use world::{Event, Figures, Plan, World};

/// Within this much virtual time after the last fault nothing is owed any more.
const QUIET_WITHIN: Duration = Duration::from_secs(3600);

/// Links that an outage meets.
const LINKS: usize = 200;

fn plan(seed: u64) -> Plan {
    let mut chance = Chance::new(!seed);
    let flavour = match chance.below(12) {
        0..=4 => Flavour::All,
        5 | 6 => Flavour::Racing,
        7 | 8 => Flavour::Dying,
        9 | 10 => Flavour::Leaving,
        _ => Flavour::Relinking,
    };
    let short = flavour == Flavour::All && chance.percent(25);
    Plan {
        users: chance.between(1, 3) as usize,
        pages: chance.between(1, 4) as usize,
        poll: if short { Duration::from_secs(chance.between(600, 3_600)) } else { Duration::from_secs(24 * 3600) },
        // Short runs show what a later event would heal; long ones what only adds up.
        faults: Duration::from_secs(match flavour {
            Flavour::All if chance.percent(30) => chance.between(300, 3_000),
            Flavour::All => chance.between(5, 90),
            Flavour::Leaving => chance.between(60, 2_000),
            _ => chance.between(2, 15),
        }),
        // A phase ends at rest, where what a fault left behind shows before the next one heals it.
        phases: match flavour {
            Flavour::All => 1,
            Flavour::Leaving => 4,
            _ => 25,
        },
        pause: match flavour {
            Flavour::All if chance.percent(30) => chance.between(1_000, 20_000),
            Flavour::Leaving => chance.between(300, 10_000),
            _ => chance.between(50, 1_000),
        },
        flavour,
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

/// Faults, and then rest.
fn phase(world: &mut World) -> bool {
    while world.now < world.faults_end {
        if !world.step() {
            return false;
        }
    }
    while world.next_at().is_some_and(|at| at.0 < world.faults_end.0 + 60_000) {
        if !world.step() {
            return false;
        }
    }
    let healed = world.now;
    if !come_to_rest(world) {
        return false;
    }
    let quiet = world.now.since(healed).as_millis() as u64;
    world.figures.quiet_ms = world.figures.quiet_ms.max(quiet);
    world.check_at_rest(false);
    world.violation.is_none()
}

fn play(world: &mut World) {
    for number in 0..world.plan.phases {
        if number > 0 {
            world.begin_phase();
        }
        if !phase(world) {
            return;
        }
    }
    let polled = world.now.plus(world.plan.poll * 2);
    while world.violation.is_none() && world.next_at().is_some_and(|at| at < polled) {
        world.step();
    }
    if world.violation.is_none() && come_to_rest(world) {
        world.check_at_rest(true);
    }
}

/// One run. `Err` says what broke.
fn run(seed: u64, trace: &mut Option<VecDeque<String>>) -> Result<Figures, Box<(String, Figures)>> {
    let mut world = World::new(plan(seed), seed);
    world.trace = trace.take();
    let start = world.now;
    let played = catch_unwind(AssertUnwindSafe(|| play(&mut world)));
    *trace = world.trace.take();
    world.figures.virtual_ms = world.now.since(start).as_millis() as u64;
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
    sum.logins += one.logins;
    sum.left += one.left;
    sum.reads += one.reads;
    sum.writes += one.writes;
    sum.late += one.late;
    sum.tampered += one.tampered;
    sum.give_ups += one.give_ups;
    sum.checks += one.checks;
    sum.hints += one.hints;
    sum.drops += one.drops;
    sum.cleanups += one.cleanups;
    sum.repairs += one.repairs;
    sum.virtual_ms += one.virtual_ms;
    sum.quiet_ms = sum.quiet_ms.max(one.quiet_ms);
}

#[test]
fn what_was_answered_is_in_the_bucket_whatever_dies() {
    let replay = number("PAGESYNCD_SIM_SEED");
    let seconds = number("PAGESYNCD_SIM_SECONDS");
    let steps = number("PAGESYNCD_SIM_STEPS").unwrap_or(if seconds.is_some() { u64::MAX } else { 400_000 });
    let (began, first) = (Instant::now(), replay.unwrap_or(1));
    let (mut sum, mut seeds) = (Figures::default(), 0);
    for seed in first.. {
        match run(seed, &mut None) {
            Ok(figures) => add(&mut sum, figures),
            Err(broken) => {
                let (what, figures) = *broken;
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
         {} processes given up, {} deliveries, {} logins, {} persons left, {} reads, {} writes, {} late writes, \
         {} objects altered by others, {} hints, {} checks, {} dropped subscriptions, {} repairs, {} cleanups, quiet after at most {} s, {:?}",
        sum.steps,
        sum.virtual_ms / 86_400_000,
        sum.crashes,
        sum.reopens,
        sum.panics,
        sum.give_ups,
        sum.deliveries,
        sum.logins,
        sum.left,
        sum.reads,
        sum.writes,
        sum.late,
        sum.tampered,
        sum.hints,
        sum.checks,
        sum.drops,
        sum.repairs,
        sum.cleanups,
        sum.quiet_ms / 1000,
        began.elapsed(),
    );
}

/// The most reads and writes that began within one second since the last look.
fn busiest(world: &mut World) -> (usize, usize) {
    (std::mem::take(&mut world.oracle.herd), std::mem::take(&mut world.oracle.herd_of_writes))
}

/// What begins now and lasts until then.
type Outage = fn(&mut World, WallTime);

/// What an outage of ten minutes led to. Reads and writes in the busiest second; tries in vain.
#[derive(Debug)]
struct Return {
    meanwhile: (usize, usize),
    afterwards: (usize, usize),
    vain: (u64, u64),
    caught_up: Duration,
}

/// Two hundred links, each owing something when the `outage` ends; or the process is killed in that moment.
fn after(outage: Outage, killed: bool) -> Return {
    let plan = Plan {
        users: 1,
        pages: LINKS,
        poll: Duration::from_secs(24 * 3600),
        faults: Duration::from_secs(900),
        pause: 600_000,
        phases: 1,
        flavour: Flavour::Calm,
    };
    let mut world = World::new(plan, 3);
    while shown(world.store.links()).is_empty() {
        assert!(world.step());
    }
    assert!(come_to_rest(&mut world), "{:?}", world.violation);
    busiest(&mut world);
    let before = (world.figures.reads, world.figures.writes);
    let until = world.now.plus(Duration::from_secs(600));
    outage(&mut world, until);
    for page in 0..LINKS {
        let wait = world.chance.below(60_000);
        world.at(world.now.plus(Duration::from_millis(wait)), Event::Change(page));
    }
    while world.now < until {
        assert!(world.step(), "{:?}", world.violation);
    }
    let vain = (world.figures.reads - before.0, world.figures.writes - before.1);
    let meanwhile = busiest(&mut world);
    if killed {
        world.crash();
    }
    assert!(come_to_rest(&mut world), "{:?}", world.violation);
    world.check_at_rest(false);
    assert_eq!(world.violation, None);
    Return { meanwhile, afterwards: busiest(&mut world), vain, caught_up: world.now.since(until) }
}

#[test]
fn hundreds_of_links_come_back_from_an_outage_without_a_herd() {
    let outages: [(&str, Outage); 4] = [
        ("graph is down", |world, until| world.graph.down_until = until),
        ("graph throttles", |world, until| world.graph.throttled_until = until),
        ("spaces is down", |world, until| world.spaces.down_until = until),
        ("spaces refuses", |world, until| world.spaces.misconfigured_until = until),
    ];
    for (name, outage) in outages {
        for killed in [false, true] {
            let back = after(outage, killed);
            println!("{name}, killed {killed}: {back:?}");
            let links = LINKS as u64;
            // A start makes the reads that were asked for as fast as the limit on calls allows: thirty-two at a time,
            // of a third of a second each. Else each page comes by its own wait.
            let afterwards = if killed { 160 } else { 40 };
            assert!(back.meanwhile.0 <= 60 && back.afterwards.0 <= afterwards, "{name}: {back:?}");
            // One after the other, five thousandths of a second apart; at a start eight at a time.
            assert!(back.meanwhile.1 <= 8 && back.afterwards.1 <= 200, "{name}: {back:?}");
            assert!(back.vain.0 <= 12 * links && back.vain.1 <= 40, "{name}: {back:?}");
            assert!(back.caught_up <= Duration::from_secs(10 * 60), "{name}: {back:?}");
        }
    }
}
