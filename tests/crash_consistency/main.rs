//! The power goes: what was acknowledged must be on the disk, not in the page cache.
//!
//! A writer in a process of its own works on a file system of its own. It is stopped, most often by itself right
//! after an acknowledgement; what its disk holds at that moment is copied, mounted and opened, and has to show
//! everything that was acknowledged, nothing half done and nothing that needed mending. Then it goes on, or it is
//! killed and a successor starts on the disk that was found sound.
//!
//! Needs root and loop devices, and is skipped with a word where it cannot be done:
//!
//! * `PAGESYNCD_CRASH_TESTS=require` fails instead;
//! * `PAGESYNCD_CRASH_ROUNDS` cuts the power more often than usual;
//! * `PAGESYNCD_CRASH_SEED` repeats the choices of a run, though not the machine's timing;
//! * `PAGESYNCD_CRASH_LOSSES` lets the controls go on until so many rounds are lost.

// All of this is a test, its helpers too.
#![allow(clippy::unwrap_used)]

mod controls;
mod disk;
mod log;
mod mixture;
mod writer;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use controls::Way;
use disk::{Mounted, Workshop};
use log::{Expected, Journalist, Words};
use writer::{Job, Writer};

const ROUNDS: u64 = 50;
/// A store that acknowledges nothing for so long hangs. Generous, since other programs may take the machine's time.
const SILENCE: Duration = Duration::from_secs(180);
/// The same for a control, which is expected to hang.
const SILENCE_OF_A_CONTROL: Duration = Duration::from_secs(10);

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Subject {
    /// The daemon's store.
    Store,
    /// sled alone.
    Sled(Way),
}

impl Subject {
    fn silence(self) -> Duration {
        match self {
            Subject::Store => SILENCE,
            Subject::Sled(_) => SILENCE_OF_A_CONTROL,
        }
    }

    fn write(self, job: &Job, journalist: &'static Journalist) {
        match self {
            Subject::Store => mixture::write(job, journalist),
            Subject::Sled(way) => controls::write(way, job, journalist),
        }
    }

    /// What the database in this folder says.
    fn look(self, dir: &Path, expected: &Expected) -> Result<Words, String> {
        match self {
            Subject::Store => {
                mixture::without_database(dir, &expected.settled())?;
                mixture::look(dir, &expected.names())
            }
            Subject::Sled(way) => controls::look(way, dir, &expected.names()),
        }
    }

    /// The words of a disk after a look at it that showed these.
    fn after_looking(self, words: Words) -> Words {
        match self {
            Subject::Store => mixture::after_looking(words),
            Subject::Sled(_) => words,
        }
    }
}

/// What came of many power cuts.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Power cuts.
    pub rounds: u64,
    /// Operations that were acknowledged before them.
    pub acknowledged: u64,
    /// Names whose words were compared.
    pub compared: u64,
    /// The rounds that were not survived, in words.
    pub lost: Vec<String>,
}

/// Cuts the power of one subject again and again.
pub struct Trial<'a> {
    /// Where.
    pub workshop: &'a Workshop,
    /// Whose.
    pub subject: Subject,
    /// The test that is asked to be the writer.
    pub test: &'a str,
    /// What the choices follow from.
    pub seed: u64,
    /// May a cut come while the writer opens the database, and at moments that no acknowledgement gives?
    pub any_moment: bool,
}

impl Trial<'_> {
    /// At least so many rounds, fewer when `enough` of them were not survived.
    pub fn run(&self, rounds: u64, enough: usize) -> Outcome {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut outcome = Outcome::default();
        let mut standing = None;
        while outcome.rounds < rounds && outcome.lost.len() < enough {
            // A sound disk is inherited more often than not.
            let inherited = standing.take().filter(|_| rng.random_bool(0.7));
            standing = self.one_writer(&mut rng, inherited, &mut outcome);
        }
        outcome
    }

    fn path(&self, name: &str) -> PathBuf {
        self.workshop.dir.join(name)
    }

    /// One writer and several power cuts; what the last disk held, if all were survived.
    fn one_writer(&self, rng: &mut StdRng, inherited: Option<Words>, outcome: &mut Outcome) -> Option<Words> {
        let (image, copy) = (self.path("disk"), self.path("cut"));
        match inherited {
            Some(_) => fs::rename(&copy, &image).unwrap(),
            None => disk::make_image(&image).unwrap(),
        }
        let mut expected = Expected::new(&self.path("log"), inherited.unwrap_or_default());
        let mounted = Mounted::new(&image, &self.path("live")).unwrap();
        let tasks = [1, 1, 2, 4, 8][rng.random_range(0..5)];
        let job = Job {
            subject: self.subject,
            dir: mounted.at.join("store"),
            log: self.path("log"),
            seed: rng.random(),
            tasks,
        };
        let mut writer = Writer::start(&job, self.test);
        let mut seen = None;
        for cut in 0..rng.random_range(4..12) {
            outcome.rounds += 1;
            let moment = self.choose(rng, cut == 0);
            let round = self.one_cut(&mut writer, &moment, cut > 0, &mounted, &mut expected);
            match round {
                Ok(words) => {
                    outcome.compared += words.len() as u64;
                    seen = Some(words);
                }
                Err(lost) => {
                    outcome.lost.push(format!("round {}, {tasks} tasks, {moment:?}: {lost}", outcome.rounds));
                    seen = None;
                    break;
                }
            }
        }
        outcome.acknowledged += expected.acknowledged;
        drop(writer);
        drop(mounted);
        seen.map(|words| self.subject.after_looking(words))
    }

    fn choose(&self, rng: &mut StdRng, first: bool) -> Moment {
        let any = self.any_moment && rng.random_bool(if first { 0.4 } else { 0.2 });
        match (any, first) {
            (true, true) => Moment::Time(Duration::from_millis(rng.random_range(5..250))),
            (true, false) => Moment::Time(Duration::from_millis(rng.random_range(0..40))),
            // Now and then the very first ones, mostly some hundred.
            (false, _) => Moment::Acknowledgement(1u64 << rng.random_range(0..9)),
        }
    }

    fn one_cut(
        &self,
        writer: &mut Writer,
        moment: &Moment,
        stopped: bool,
        mounted: &Mounted,
        expected: &mut Expected,
    ) -> Result<Words, String> {
        if let Moment::Acknowledgement(count) = moment {
            writer.stop_after(*count);
        }
        if stopped {
            writer.go_on();
        }
        if let Moment::Time(after) = moment {
            std::thread::sleep(*after);
            writer.stop();
        }
        writer.wait_for_standstill(self.subject.silence())?;
        let copy = self.path("cut");
        mounted.cut(&copy);
        expected.catch_up();
        let cut = Mounted::new(&copy, &self.path("after"))?;
        let seen = self.subject.look(&cut.at.join("store"), expected)?;
        expected.compare(&seen)?;
        Ok(seen)
    }
}

/// When the power goes.
#[derive(Debug)]
enum Moment {
    /// Right after so many more acknowledgements.
    Acknowledgement(u64),
    /// After so long, wherever the writer is.
    Time(Duration),
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

fn seed() -> u64 {
    let seed = number("PAGESYNCD_CRASH_SEED").unwrap_or_else(rand::random);
    println!("PAGESYNCD_CRASH_SEED={seed}");
    seed
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    writer::write_if_told();
    let Some(workshop) = Workshop::open() else { return };
    let began = Instant::now();
    let test = "a_power_cut_loses_nothing_that_was_acknowledged";
    let trial = Trial { workshop: &workshop, subject: Subject::Store, test, seed: seed(), any_moment: true };
    let outcome = trial.run(number("PAGESYNCD_CRASH_ROUNDS").unwrap_or(ROUNDS), usize::MAX);
    println!(
        "{} power cuts, {} of them in a renewal, {} operations acknowledged, {} states compared, {} not survived, {:?}",
        outcome.rounds,
        mixture::IN_RENEWALS.load(std::sync::atomic::Ordering::Relaxed),
        outcome.acknowledged,
        outcome.compared,
        outcome.lost.len(),
        began.elapsed()
    );
    assert!(outcome.lost.is_empty(), "{:#?}", outcome.lost);
    assert!(outcome.acknowledged > outcome.rounds, "the writers hardly wrote");
}
