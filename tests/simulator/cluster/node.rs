//! A machine on which a daemon runs: its two clocks, which are wrong each in its own way, the way to the database, and the
//! pauses in which nothing goes on here.

use std::collections::VecDeque;

use pagesyncd::core::model::{MonoTime, WallTime};
use pagesyncd::store::shared::stepped::Way;

use super::process::Process;
use super::world::Inside;
use crate::chance::Chance;

/// The true time at which a world begins.
pub const BEGIN: u64 = 1_700_000_000_000;
const HOUR: u64 = 3_600_000;
/// A committer waits so long for a database that says nothing.
const HANGS: u64 = 8_000;
/// A monotonic clock is wrong by so many millionths at most.
const DRIFT: u64 = 5_000;

/// The clocks of a machine.
#[derive(Debug)]
pub struct Clocks {
    /// What the wall clock shows at the beginning.
    wall: u64,
    /// How fast both clocks run, in millionths.
    pace: u64,
    /// How long the monotonic clock has stood still.
    slept: u64,
    asleep_since: Option<u64>,
    set_at: Option<u64>,
}

impl Clocks {
    pub fn new(chance: &mut Chance) -> Clocks {
        Clocks {
            wall: BEGIN - 6 * HOUR + chance.below(12 * HOUR),
            pace: 1_000_000 - DRIFT + chance.below(2 * DRIFT),
            slept: 0,
            asleep_since: None,
            set_at: None,
        }
    }

    fn paced(&self, ms: u64) -> u64 {
        ms * self.pace / 1_000_000
    }

    /// What they show when so much true time has passed.
    pub fn at(&self, now: u64) -> (WallTime, MonoTime) {
        let awake = self.asleep_since.unwrap_or(now) - self.slept;
        (WallTime(self.wall + self.paced(now)), MonoTime(HOUR + self.paced(awake)))
    }

    /// The true time that passes while the clocks count so many milliseconds.
    pub fn lasts(&self, ms: u64) -> u64 {
        (ms * 1_000_000).div_ceil(self.pace)
    }

    /// Somebody sets the wall clock.
    pub fn set_wall(&mut self, now: u64, chance: &mut Chance) {
        self.set_at = Some(now);
        self.wall = BEGIN - 6 * HOUR + chance.below(12 * HOUR);
    }

    /// The machine sleeps, and its monotonic clock with it. A wall clock that was set a moment ago would not show how long,
    /// so this machine stays awake for as long as a write may last.
    pub fn sleep(&mut self, now: u64) {
        if self.set_at.is_none_or(|set_at| now - set_at > 60_000) {
            self.asleep_since = Some(now);
        }
    }

    pub fn wake(&mut self, now: u64) {
        self.slept += self.asleep_since.take().map_or(0, |since| now - since);
    }
}

/// A machine.
pub struct Node {
    pub name: String,
    pub clocks: Clocks,
    /// To the database. It outlives the processes.
    pub way: Way,
    pub process: Option<Process>,
    /// The process does not go on before.
    pub paused_until: Option<u64>,
    /// What waits for it meanwhile.
    pub held_up: VecDeque<(u64, Inside)>,
    /// The way to the database is cut without a word: who asks waits until then.
    pub waits_until: Option<u64>,
    pub is_cut_silently: bool,
    /// It is paused when the next beat of it has reached the database.
    pub pauses_in_beat: bool,
    /// Spaces cannot be reached before.
    pub spaces_cut_until: u64,
    /// Steps that are going to happen.
    pub poll_at: Option<u64>,
    pub turn_is_due: bool,
    /// Another daemon had the turn when this one asked for it.
    pub lock_is_taken: bool,
    pub retry_is_due: bool,
}

impl Node {
    pub fn new(number: usize, chance: &mut Chance) -> Node {
        Node {
            name: format!("node-{number}"),
            clocks: Clocks::new(chance),
            way: Way::default(),
            process: None,
            paused_until: None,
            held_up: VecDeque::new(),
            waits_until: None,
            is_cut_silently: false,
            pauses_in_beat: false,
            spaces_cut_until: 0,
            poll_at: None,
            turn_is_due: false,
            lock_is_taken: false,
            retry_is_due: false,
        }
    }

    /// The database is asked at this moment. Returns how long nothing comes back, where nobody says that it is cut off.
    pub fn is_kept_waiting(&mut self, now: u64) -> Option<u64> {
        if !self.is_cut_silently || !self.way.is_cut() {
            self.waits_until = None;
            return None;
        }
        let until = *self.waits_until.get_or_insert(now + HANGS);
        until.checked_sub(now).filter(|left| *left > 0)
    }

    /// A process ends, and what was going to happen in it.
    pub fn take_process(&mut self) -> Option<Process> {
        self.held_up.clear();
        (self.poll_at, self.turn_is_due, self.retry_is_due) = (None, false, false);
        self.lock_is_taken = false;
        self.process.take()
    }
}
